// Several architectures in one program: loads a file into the model that it belongs to.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "fathom/core/compiled.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/weights.hpp"

namespace fathom {

/// Weights of one of several models. In std::visit([](const auto& weights) { ... }, any), the model is
/// std::remove_cvref_t<decltype(*weights)>::model.
template <class... Models>
using any_weights = std::variant<owned<typename Models::parameters>...>;

namespace io {

/// The index of the first description that matches the file's: that of the config file if a path is given, otherwise
/// that of the metadata. Fails if none matches, with the differences from each.
[[nodiscard]] std::size_t which_description(const safetensors_file& file, const std::filesystem::path& config_file,
                                            std::span<const std::string> known);

}  // namespace io

/// Reads a safetensors file, as load does, into new weights of the model that its description matches. Files that
/// fathom saved contain a description; for others, `config` is a JSON file with the same keys (io/config.hpp).
/// Fails if no model matches, with the differences from each. Models must have a description (io/description.hpp).
template <class... Models>
[[nodiscard]] any_weights<Models...> load_any(const std::filesystem::path& path, const std::filesystem::path& config = {}) {
  static_assert((io::has_description<Models> && ...),
                "fathom::load_any: a model's architecture has neither a config nor a function description() to tell its files by");
  const io::safetensors_file file(path);
  const std::string known[] = {io::description_of<Models>()...};
  const std::size_t which = io::which_description(file, config, known);
  any_weights<Models...> any;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((which == I ? load(file, *any.template emplace<I>(make<typename Models::parameters>())) : void()), ...);
  }(std::index_sequence_for<Models...>());
  return any;
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/load_any.inl.hpp"
#endif
