// The files of a model as others distribute it, on disk or in memory: a GGUF file, a folder of `transformers`, or a
// safetensors file. A program that contains its model reads it from there (cmake/fathom-add-model.cmake).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/io/gguf.hpp"
#include "fathom/io/named_files.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

namespace io {

/// A model: one GGUF file, one safetensors file, or the files of a folder.
class model_files {
 public:
  /// A file is a GGUF file if it begins as one or ends in .gguf; a safetensors file must end in .safetensors. Fails when
  /// there is nothing at the path, or it is none of these, or a GGUF file is not valid.
  explicit model_files(const std::filesystem::path& path);
  /// The same in memory, which must outlive this: a single file whose name has such an ending, or the files of a
  /// folder. Errors call it `name`.
  model_files(std::vector<file_in_memory> files, const std::string& name);

  [[nodiscard]] const std::string& name() const { return files_.name(); }
  /// The path on disk; empty in memory.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// The GGUF file; null if it is none.
  [[nodiscard]] const gguf_file* gguf() const { return gguf_ ? &*gguf_ : nullptr; }
  /// The files of the folder; null if it is none.
  [[nodiscard]] const named_files* folder() const { return single_.empty() ? &files_ : nullptr; }
  /// The safetensors file; it is none of the other two.
  [[nodiscard]] safetensors_file safetensors() const;

 private:
  void open(std::string_view single);

  std::filesystem::path path_;
  named_files files_;
  std::string single_;  // the name of the only file; empty for a folder
  std::optional<gguf_file> gguf_;
};

/// The config of a model. Of a safetensors file, that in its metadata. Fails on a model that no config can express; the
/// error lists every key and value.
[[nodiscard]] config config_of(const model_files& model);
/// The same for the text of a config.json, with our keys or those of `transformers`. Errors call it `name`.
[[nodiscard]] config config_of_json(std::string_view text, const std::string& name);

/// Opens the weights of a model, as open_family(path, ...) does. Refers to `from`, which must outlive it.
[[nodiscard]] std::shared_ptr<const stored_tensors> open_family(const model_files& from, const config& of, const tensor_table& wanted);
/// The same for a model of the family gpt2, or, where `of` is null, for one that was not made from a config.
[[nodiscard]] std::shared_ptr<const stored_tensors> open_gpt2(const model_files& from, const config* of, const tensor_table& wanted);

}  // namespace io

/// Reads weights from a model's files, as load does from a path.
template <class Weights>
void load(const io::model_files& from, Weights&& weights, const load_options& options = {}) {
  if (!from.path().empty()) return load(from.path(), weights, options);
  auto& to = detail::weights_in(weights, "load");
  using model = typename detail::weights_of<std::remove_reference_t<Weights>>::model;
  if constexpr (requires { model::architecture::family_configuration; }) {
    io::read_weights(*io::open_family(from, model::architecture::family_configuration, table_of<model>()), to, options, !from.folder());
  } else {
    const config* of = nullptr;
    if constexpr (requires { model::architecture::configuration; }) of = &model::architecture::configuration;
    io::read_weights(*io::open_gpt2(from, of, table_of<model>()), to, options, !from.folder());
  }
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/model_files.inl.hpp"
#endif
