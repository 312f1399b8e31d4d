// The description of a model in its files: JSON text that lets a program check whether a file belongs to its model.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/io/config.hpp"

namespace fathom::io {

/// The metadata entry that holds the description.
inline constexpr const char* config_entry = "fathom.config";
/// The metadata entry of files of packed weights: the version of their format (packed_file.hpp).
inline constexpr const char* packed_entry = "fathom.packed";

/// Whether a model's architecture has a description: from a static function description() that returns a JSON object as
/// text, or from the config that it was made from.
template <class Model>
inline constexpr bool has_description =
    requires { std::string(Model::architecture::description()); } || requires { Model::architecture::configuration; };

/// Returns the text. Fails if it is not a JSON object.
[[nodiscard]] std::string checked_description(std::string text);

/// The description of a model; empty when its architecture has none.
template <class Model>
[[nodiscard]] std::string description_of() {
  if constexpr (requires { std::string(Model::architecture::description()); })
    return checked_description(std::string(Model::architecture::description()));
  else if constexpr (requires { Model::architecture::configuration; })
    return to_json(Model::architecture::configuration);
  else
    return {};
}

/// The differences between a model's description and a file's, a line for each key: "\n  config key: expected X, found
/// Y"; empty when they agree. A key that only the file has is a difference, too, unless one of the two descriptions
/// comes from a config (to_json): files may add keys to those.
[[nodiscard]] std::string description_differences(std::string_view expected, std::string_view found);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/description.inl.hpp"
#endif
