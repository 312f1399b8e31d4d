// A config as JSON: the keys of a model's config.json, and of the entry `fathom.config` that saved weights carry.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/io/read_config.hpp"
#include "fathom/model/config.hpp"

namespace fathom {

namespace io {

/// The architecture that a config stands for, as JSON text. zero_init is not part of it: it only says how training begins.
[[nodiscard]] std::string to_json(const config& given);

/// What a text of JSON says otherwise than a config, as "\n  config key: expected X, found Y" for every key that the config
/// has; empty when they agree. Further keys are not looked at, nor is `hidden` in a shortcut without feature MLP.
[[nodiscard]] std::string differences(const config& expected, std::string_view found);

}  // namespace io

/// The config that a config.json stands for (io::read_config), for programs that look at one. Fails, naming the file and the
/// key, when it cannot be read, or is the config of no model.
[[nodiscard]] config load_config(const std::filesystem::path& path);

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/config.inl.hpp"
#endif
