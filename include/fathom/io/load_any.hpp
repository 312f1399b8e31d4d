// Several architectures in one program: weights of whichever of its models a file is of.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
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

/// Which of the configs a file is of, the first if several are: as its metadata says, or, if there is one, a config file.
/// Fails if none is, and says in what each of them differs.
[[nodiscard]] std::size_t which_config(const safetensors_file& file, const std::filesystem::path& config_file,
                                       std::span<const config> known);

}  // namespace io

/// Reads weights from a safetensors file as load does, into new weights of the one among the models whose config the file
/// carries, as those that fathom saved do. For other files, `config` is a JSON file with the keys of that entry
/// (io/config.hpp). Fails, with all models that it could have been, if it is none of them.
template <class... Models>
[[nodiscard]] any_weights<Models...> load_any(const std::filesystem::path& path, const std::filesystem::path& config = {}) {
  const io::safetensors_file file(path);
  const fathom::config known[] = {Models::architecture::configuration...};
  const std::size_t which = io::which_config(file, config, known);
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
