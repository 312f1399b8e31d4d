// Several architectures in one program: weights of whichever of its models a file is of.
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

/// Weights of one of several models. std::visit([](const auto& weights) { ... }, any) has them as the one that they are of,
/// std::remove_cvref_t<decltype(*weights)>::model.
template <class... Models>
using any_weights = std::variant<owned<typename Models::parameters>...>;

namespace io {

/// Which of the descriptions a file is of, the first if several are: as its metadata says, or, if there is one, a config file.
/// Fails if none is, and says in what each of them differs.
[[nodiscard]] std::size_t which_description(const safetensors_file& file, const std::filesystem::path& config_file,
                                            std::span<const std::string> known);

}  // namespace io

/// Reads weights from a safetensors file as load does, into new weights of the one among the models whose description the file
/// carries, as those that fathom saved do. For other files, `config` is a JSON file with the keys of that entry
/// (io/config.hpp). Fails, with all models that it could have been, if it is none of them. Models must have a description
/// (io/description.hpp).
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
