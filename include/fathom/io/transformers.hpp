// Checkpoints in the layout of `transformers`: a folder with config.json, and model.safetensors or shards of it
// (huggingface.co/docs/transformers, GPT2Config and "Sharded checkpoints"); and how GPT-2's files of weights differ from ours.
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
#include "fathom/io/safetensors.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

namespace io {

/// What may come before the names of GPT-2's tensors: whether it does depends on which of its classes was saved.
inline constexpr const char* transformers_prefix = "transformer.";
/// The token embedding, and the output projection, which a tied checkpoint may hold a second time.
inline constexpr const char* transformers_table = "wte.weight";
inline constexpr const char* transformers_head = "lm_head.weight";
/// Whether a tensor of a GPT-2 checkpoint is no weight: old ones hold the causal mask.
[[nodiscard]] bool is_transformers_buffer(std::string_view name);
/// What is wrong with the head of a tied checkpoint that holds it a second time, as a line of an error: it must be the same
/// as the table, byte for byte. Empty if nothing is.
[[nodiscard]] std::string tied_head_problem(std::string_view prefix, const stored_tensor& table, const stored_tensor& head);

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

/// Writes config.json and model.safetensors into a folder.
void write_transformers(const std::filesystem::path& folder, const model_numbers& weights, const config& of);

}  // namespace io

/// Writes weights as a GPT-2 checkpoint of `transformers`: config.json and model.safetensors in a folder, which is made if
/// it is not there; GPT2LMHeadModel.from_pretrained reads it. For models without a shortcut. Fails when it cannot be written.
template <class Weights>
void save_transformers(const std::filesystem::path& folder, const Weights& weights) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::save_transformers: expected a folder and weights: *weights, weights or trainer.weights()");
  } else {
    const auto& parameters = detail::weights_in(weights, "save_transformers");
    using model = typename detail::weights_of<const Weights>::model;
    using architecture = typename model::architecture;
    static_assert(requires { architecture::configuration; }, "fathom::save_transformers: the model was not made from a config");
    static_assert(!architecture::has_shortcut, "fathom::save_transformers: transformers has no GPT-2 with shortcuts");
    const auto here = on_host(parameters);
    const tensor_table table = table_of<model>(*here);
    io::write_transformers(folder, io::numbers_of<model>(table, *here), architecture::configuration);
  }
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/transformers.inl.hpp"
#endif
