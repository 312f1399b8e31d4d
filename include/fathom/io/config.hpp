// A config as JSON: the keys of a model's config.json, and of the entry `fathom.config` that saved weights carry.
#pragma once

#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/model/config.hpp"

namespace fathom::io {

/// The architecture that a config stands for, as JSON text. zero_init is not part of it: it only says how training begins.
[[nodiscard]] std::string to_json(const config& given);

/// What a text of JSON says otherwise than a config, as "\n  config key: expected X, found Y" for every key that the config
/// has; empty when they agree. Further keys are not looked at, nor is `hidden` in a shortcut without feature MLP.
[[nodiscard]] std::string differences(const config& expected, std::string_view found);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/config.inl.hpp"
#endif
