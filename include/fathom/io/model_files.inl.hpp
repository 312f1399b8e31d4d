// Implementation of model_files.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/description.hpp"
#include "fathom/io/families.inl.hpp"
#include "fathom/io/gguf_models.inl.hpp"
#include "fathom/io/model_files.hpp"
#include "fathom/io/named_files.inl.hpp"
#include "fathom/io/transformers.inl.hpp"

namespace fathom::io {

FATHOM_INLINE model_files::model_files(const std::filesystem::path& path) : path_(path), files_(path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) fail(path.string(), ": there is no such file or folder");
  if (!std::filesystem::is_directory(path, error)) open(path.filename().string());
}

FATHOM_INLINE model_files::model_files(std::vector<file_in_memory> files, const std::string& name) : files_(files, name) {
  if (files.size() == 1 && files.front().name != "config.json") open(files.front().name);
}

FATHOM_INLINE void model_files::open(std::string_view single) {
  single_ = single;
  if (path_.empty() ? single.ends_with(".gguf") : is_gguf(path_)) {
    if (path_.empty())
      gguf_.emplace(files_.bytes(single), name());
    else
      gguf_.emplace(path_);
  } else if (!single.ends_with(".safetensors")) {
    fail(name(), ": is no model; expected a GGUF file, NAME.gguf, a folder of transformers, or NAME.safetensors");
  }
}

FATHOM_INLINE safetensors_file model_files::safetensors() const {
  return path_.empty() ? safetensors_file(files_.bytes(single_), name()) : safetensors_file(path_);
}

namespace detail {
/// A file of llama.cpp does not say that its positions are scaled as Llama 3's, but has their factors. All models of that
/// family share low_factor, high_factor and original; the largest factor is `factor`.
[[gnu::cold]] inline void find_llama3_scaling(const gguf_file& file, config& c) {
  const gguf_tensor* const stored = file.find_tensor("rope_freqs.weight");
  if (!stored || c.rotary.scaling != rotary_scaling::none || stored->size() < 1) return;
  std::vector<float> factors(static_cast<std::size_t>(stored->size()));
  copy_numbers(*stored, factors.data());
  const float largest = *std::max_element(factors.begin(), factors.end());
  if (!(largest >= 1 && largest < 1e6f)) return;
  c.rotary.scaling = rotary_scaling::llama3;
  c.rotary.factor = static_cast<int>(std::lround(largest));
  c.rotary.low_factor = 1;
  c.rotary.high_factor = 4;
  c.rotary.original = 8192;
}
}  // namespace detail

FATHOM_INLINE config config_of_json(std::string_view text, const std::string& name) {
  const std::optional<json> all = json::parse(text);
  const json* const type = all && all->is_object() ? all->find("model_type") : nullptr;
  if (type && type->is_string() && type->text() != "gpt2") {
    std::string problems;
    const config c = detail::config_of_transformers(*all, problems);
    if (!problems.empty()) fail(name, ": is the config of no model that can be built:", problems);
    return c;
  }
  const config_reading read = read_config(text);
  if (!read.problem.empty()) fail(name, ": ", read.problem.view(), all ? std::string() : detail::but_what(text));
  return normalized(read.value);
}

FATHOM_INLINE config config_of(const model_files& model) {
  if (const gguf_file* const file = model.gguf()) {
    std::string problems;
    config c = config_of_gguf(*file, problems);
    if (!problems.empty()) fail(model.name(), ": is no model that can be built:", problems);
    detail::find_llama3_scaling(*file, c);
    check_gguf_config(c, *file);
    return c;
  }
  if (const named_files* const files = model.folder()) {
    if (!files->has("config.json")) fail(model.name(), ": has no config.json");
    return config_of_json(files->text("config.json"), files->name_of("config.json"));
  }
  const safetensors_file file = model.safetensors();
  const auto entry = file.metadata().find(config_entry);
  if (entry == file.metadata().end()) fail(model.name(), ": has no metadata entry ", config_entry, ", which says what model it is of");
  return config_of_json(entry->second, join(model.name(), ": metadata ", config_entry));
}

namespace detail {
/// Tensors in our layout, and what they are translated from.
template <class File>
struct opened_in_memory {
  File file;
  family_tensors tensors;
  opened_in_memory(File from, const config& of, const tensor_table& wanted) : file(std::move(from)), tensors(file, of, wanted) {}
};
template <class File>
[[nodiscard]] std::shared_ptr<const stored_tensors> opened(File from, const config& of, const tensor_table& wanted) {
  const auto all = std::make_shared<opened_in_memory<File>>(std::move(from), of, wanted);
  return std::shared_ptr<const stored_tensors>(all, &all->tensors);
}
}  // namespace detail

FATHOM_INLINE std::shared_ptr<const stored_tensors> open_family(const model_files& from, const config& of, const tensor_table& wanted) {
  if (const gguf_file* const file = from.gguf()) {
    check_gguf_config(of, *file);
    return detail::opened(gguf_tensors(*file), of, wanted);
  }
  if (!from.folder()) return detail::opened(from.safetensors(), of, wanted);
  const std::string problems = family_differences(normalized(of), config_of(from));
  if (!problems.empty()) fail(from.name(), ": does not fit the model:", problems);
  return detail::opened(safetensors_folder(*from.folder()), of, wanted);
}

FATHOM_INLINE std::shared_ptr<const stored_tensors> open_gpt2(const model_files& from, const config* of, const tensor_table& wanted) {
  if (const gguf_file* const file = from.gguf()) {
    if (!of) fail(from.name(), ": is a GGUF file; expected a safetensors file, because the model was not made from a config");
    check_gguf_config(*of, *file);
    return detail::opened(gguf_tensors(*file), *of, wanted);
  }
  if (!from.folder()) return std::make_shared<safetensors_file>(from.safetensors());
  if (of) {
    const std::string problems = transformers_differences(*of, from.folder()->text("config.json"));
    if (!problems.empty()) fail(from.folder()->name_of("config.json"), ": does not fit the model:", problems);
  }
  return std::make_shared<safetensors_folder>(*from.folder());
}

}  // namespace fathom::io
