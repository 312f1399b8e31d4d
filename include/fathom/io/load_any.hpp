// Several architectures in one program: loads a file into the model that it belongs to.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "fathom/core/compiled.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/io/model_files.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/model/config.hpp"

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
/// The same for a folder of `transformers` or a GGUF file. `known` has no value for models that were not made from a
/// config. A model may have a shorter context than the files'.
[[nodiscard]] std::size_t which_config(const model_files& from, std::span<const std::optional<config>> known);
/// Whether a path is a folder or a GGUF file.
[[nodiscard]] bool is_distributed_model(const std::filesystem::path& path);

/// The config that a model was made from, normalized.
template <class Model>
[[nodiscard]] std::optional<config> config_of_model() {
  if constexpr (requires { Model::architecture::family_configuration; })
    return normalized(Model::architecture::family_configuration);
  else if constexpr (requires { Model::architecture::configuration; })
    return normalized(Model::architecture::configuration);
  else
    return std::nullopt;
}

}  // namespace io

/// Reads a file or a folder, as load does, into new weights of the model that it is of. Safetensors files that fathom
/// saved contain a description; for others, `config` is a JSON file with the same keys (io/config.hpp). Folders of
/// `transformers` and GGUF files have a config of their own, which must match the model's, for at least as long a
/// context. Fails if no model matches, with the differences from each; the first one is taken of several that do. Models
/// must have a description (io/description.hpp).
template <class... Models>
[[nodiscard]] any_weights<Models...> load_any(const std::filesystem::path& path, const std::filesystem::path& config = {}) {
  static_assert((io::has_description<Models> && ...),
                "fathom::load_any: a model's architecture has neither a config nor a function description() to tell its files by");
  any_weights<Models...> any;
  const auto load_into = [&]<std::size_t... I>(std::index_sequence<I...>, std::size_t which, const auto& from) {
    ((which == I ? load(from, *any.template emplace<I>(make<typename Models::parameters>())) : void()), ...);
  };
  if (config.empty() && io::is_distributed_model(path)) {
    const io::model_files files(path);
    const std::optional<fathom::config> known[] = {io::config_of_model<Models>()...};
    load_into(std::index_sequence_for<Models...>(), io::which_config(files, known), files);
    return any;
  }
  const io::safetensors_file file(path);
  const std::string known[] = {io::description_of<Models>()...};
  load_into(std::index_sequence_for<Models...>(), io::which_description(file, config, known), file);
  return any;
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/load_any.inl.hpp"
#endif
