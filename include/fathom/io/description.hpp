// What a model is, in its files: a text of JSON, from which a program sees whether a file is of its model.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/io/config.hpp"

namespace fathom::io {

/// The entry of the metadata that holds it.
inline constexpr const char* config_entry = "fathom.config";

/// Whether a model's architecture says what it is: by a static function description(), an object of JSON as text, or by the config
/// that it was made from.
template <class Model>
inline constexpr bool has_description =
    requires { std::string(Model::architecture::description()); } || requires { Model::architecture::configuration; };

/// A description. Fails on one that is not an object of JSON.
[[nodiscard]] std::string checked_description(std::string text);

/// What a model is; empty when its architecture does not say it.
template <class Model>
[[nodiscard]] std::string description_of() {
  if constexpr (requires { std::string(Model::architecture::description()); })
    return checked_description(std::string(Model::architecture::description()));
  else if constexpr (requires { Model::architecture::configuration; })
    return to_json(Model::architecture::configuration);
  else
    return {};
}

/// What a file's description says otherwise than a model's, a line for every key: "\n  config key: expected X, found Y"; empty
/// when they agree. Keys that only the file's has are differences, too, unless one of the two is that of a config (to_json):
/// beside those, files may say more.
[[nodiscard]] std::string description_differences(std::string_view expected, std::string_view found);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/description.inl.hpp"
#endif
