// Checkpoints in the layout of `transformers`: a folder with config.json, and model.safetensors or shards of it
// (huggingface.co/docs/transformers, GPT2Config and "Sharded checkpoints").
#pragma once

#include <filesystem>
#include <list>
#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/config.hpp"

namespace fathom::io {

/// What a config.json of `transformers` (its text) says otherwise than a config, one line for every key, empty when they
/// agree; and after these the config that it stands for, when there is one.
[[nodiscard]] std::string transformers_differences(const config& given, std::string_view found);

/// Fails unless the config.json of a folder says what a config does.
void check_transformers_config(const config& given, const std::filesystem::path& folder);

/// The config.json that `transformers` makes a GPT2LMHeadModel of, as text. type is that of the weights, "float32".
[[nodiscard]] std::string to_transformers_json(const config& given, std::string_view type);

/// The tensors of a folder, as those of one file: of its model.safetensors, or of the shards that
/// model.safetensors.index.json lists. `transformers` too looks for them in this order.
class safetensors_folder : public stored_tensors {
 public:
  /// Fails when there is neither, a file is not valid, a shard lacks what the index says is in it, or two shards have a tensor
  /// of one name. Tensors that the index does not list are there as those that it does.
  explicit safetensors_folder(const std::filesystem::path& folder);

 private:
  void add(const std::filesystem::path& file);

  std::list<safetensors_file> files_;
};

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/transformers.inl.hpp"
#endif
