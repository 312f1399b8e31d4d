// Checkpoints in the layout of `transformers`: a folder with config.json and with model.safetensors or its shards
// (huggingface.co/docs/transformers, GPT2Config and "Sharded checkpoints"). Also the differences between GPT-2's weight
// files and ours.
#pragma once

#include <filesystem>
#include <list>
#include <string>
#include <string_view>

#include "fathom/core/compiled.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/families.hpp"
#include "fathom/io/named_files.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

namespace io {

/// Optional prefix of GPT-2's tensor names; it depends on the class that was saved.
inline constexpr const char* transformers_prefix = "transformer.";
/// The token embedding and the output projection. A tied checkpoint may hold the table a second time as its head.
inline constexpr const char* transformers_table = "wte.weight";
inline constexpr const char* transformers_head = "lm_head.weight";
/// Whether a tensor of a GPT-2 checkpoint is a buffer, not a weight: old checkpoints hold the causal mask.
[[nodiscard]] bool is_transformers_buffer(std::string_view name);
/// Checks the separate head of a tied checkpoint, which must equal the table byte for byte. Returns a line for an error
/// message, or an empty string.
[[nodiscard]] std::string tied_head_problem(std::string_view prefix, const stored_tensor& table, const stored_tensor& head);

/// The differences between a config and the text of a config.json of `transformers`, one line for each key; empty when
/// they agree. The last line gives the config that would fit, if there is one.
[[nodiscard]] std::string transformers_differences(const config& given, std::string_view found);

/// Fails unless the config.json of a folder agrees with a config.
void check_transformers_config(const config& given, const std::filesystem::path& folder);

/// The text of a config.json from which `transformers` makes a GPT2LMHeadModel. `type` is the type of the weights:
/// "float32".
[[nodiscard]] std::string to_transformers_json(const config& given, std::string_view type);

/// The tensors of a folder as if they were in one file: those of model.safetensors, or else of the shards that
/// model.safetensors.index.json lists. `transformers` uses the same order.
class safetensors_folder : public stored_tensors {
 public:
  /// Fails when neither exists, a file is not valid, a shard lacks a tensor that the index lists, or two shards have
  /// tensors of the same name. Includes tensors that the index does not list.
  explicit safetensors_folder(const named_files& files);
  explicit safetensors_folder(const std::filesystem::path& path) : safetensors_folder(named_files(path)) {}

 private:
  void add(const named_files& files, std::string_view name);

  std::list<safetensors_file> files_;
};

/// Writes config.json and model.safetensors into a folder.
void write_transformers(const std::filesystem::path& folder, const model_numbers& weights, const config& of);

}  // namespace io

/// Writes weights as a checkpoint of `transformers`, for AutoModelForCausalLM.from_pretrained: config.json and
/// model.safetensors in a folder, which is created if needed. For models made from a config without a shortcut. Fails
/// when it cannot write.
template <class Weights>
void save_transformers(const std::filesystem::path& folder, const Weights& weights) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::save_transformers: expected a folder and weights: *weights, weights or trainer.weights()");
  } else {
    const auto& parameters = detail::weights_in(weights, "save_transformers");
    using model = typename detail::weights_of<const Weights>::model;
    using architecture = typename model::architecture;
    constexpr bool is_family = requires { architecture::family_configuration; };
    static_assert(is_family || requires { architecture::configuration; }, "fathom::save_transformers: the model was not made from a config");
    const auto here = on_host(parameters);
    const tensor_table table = table_of<model>(*here);
    if constexpr (is_family) {
      static_assert(!requires { architecture::residual; }, "fathom::save_transformers: transformers has no models with these residual connections");
      static_assert(!architecture::has_shortcut, "fathom::save_transformers: transformers has no models with shortcuts");
      io::write_family(folder, io::numbers_of<model>(table, *here), architecture::family_configuration);
    } else {
      static_assert(!requires { architecture::residual; }, "fathom::save_transformers: transformers has no models with these residual connections");
      static_assert(!architecture::has_shortcut, "fathom::save_transformers: transformers has no GPT-2 with shortcuts");
      io::write_transformers(folder, io::numbers_of<model>(table, *here), architecture::configuration);
    }
  }
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/transformers.inl.hpp"
#endif
