// A config as JSON: the keys of a model's config.json and of the metadata entry `fathom.config` in saved weights.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/io/read_config.hpp"
#include "fathom/model/config.hpp"

namespace fathom {

namespace io {

/// The architecture that a config describes, as JSON text. zero_init is left out: it only affects initialization.
[[nodiscard]] std::string to_json(const config& given);

/// The differences between a config and JSON text: "\n  config key: expected X, found Y" for each key of the config;
/// empty when they agree. Ignores other keys, and `hidden` in a shortcut without a feature MLP.
[[nodiscard]] std::string differences(const config& expected, std::string_view found);

/// A config as C++, normalized: "fathom::config{.vocab = 256, ...}", one initializer for each member.
[[nodiscard]] std::string to_cpp(const config& given);

/// Why no model of a config compiles, "\n  member: expected X, found Y" for each reason; empty if there is none. The
/// compiler says the same (checked in model/gpt.hpp, and the assertions of layers), but only when it has been started.
[[nodiscard]] std::string problems_of(const config& given);

}  // namespace io

/// Reads a config.json at run time (see io::read_config). Fails, naming the file and the key, when the file cannot be
/// read or does not describe a valid model.
[[nodiscard]] config load_config(const std::filesystem::path& path);

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/config.inl.hpp"
#endif
