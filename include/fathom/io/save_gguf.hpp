// Writes models as GGUF files for llama.cpp (gguf_models.hpp): load reads them again.
#pragma once

#include <filesystem>
#include <string>

#include "fathom/core/compiled.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/gguf.hpp"
#include "fathom/io/gguf_models.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

/// The type of the matrices in a GGUF file. Gains, biases and learned positions are F32 in all files; so are matrices for
/// Q8_0 whose rows are not whole blocks of 32.
enum class gguf_numbers {
  f32,
  bf16,
  q8_0  // rounded as ggml does: blocks of 32, scale = largest magnitude / 127 in F16, to the nearest, halves away from zero
};

/// What a GGUF file holds.
struct gguf_options {
  gguf_numbers type = gguf_numbers::f32;
  /// The keys "tokenizer...": of a bpe (data/gguf_bpe.hpp, gguf_metadata_of), or of another file (tokenizer_in). Without them the
  /// file has no vocabulary, and llama.cpp runs it on token ids only.
  io::gguf_metadata tokenizer{};
  std::string name = "fathom";  // general.name
};

namespace io {

/// The tokenizer of a GGUF file: all entries whose keys begin with "tokenizer.".
[[nodiscard]] gguf_metadata tokenizer_in(const gguf_file& file);

/// The metadata of a config, without a tokenizer. Fails when llama.cpp's architecture cannot express it; the error lists
/// the members.
[[nodiscard]] gguf_metadata metadata_of(const config& of, const gguf_options& options);

/// Writes a GGUF file atomically (io/file.hpp). Makes a copy of the weights.
void write_gguf_model(const std::filesystem::path& path, const model_numbers& weights, const config& of, const gguf_options& options);

}  // namespace io

/// Writes weights as a GGUF file that llama.cpp runs. For models made from a config without a shortcut. Fails when it
/// cannot write, when llama.cpp cannot express the config, and when the tokenizer has another number of tokens than the
/// model.
template <class Weights>
void save_gguf(const std::filesystem::path& path, const Weights& weights, const gguf_options& options = {}) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::save_gguf: expected a path and weights: *weights, weights or trainer.weights()");
  } else {
    const auto& parameters = detail::weights_in(weights, "save_gguf");
    using model = typename detail::weights_of<const Weights>::model;
    using architecture = typename model::architecture;
    constexpr bool is_family = requires { architecture::family_configuration; };
    static_assert(is_family || requires { architecture::configuration; }, "fathom::save_gguf: the model was not made from a config");
    const auto here = on_host(parameters);
    const tensor_table table = table_of<model>(*here);
    const io::model_numbers numbers = io::numbers_of<model>(table, *here);
    if constexpr (is_family) {
      static_assert(!requires { architecture::residual; }, "fathom::save_gguf: llama.cpp has no models with these residual connections");
      static_assert(!architecture::has_shortcut, "fathom::save_gguf: llama.cpp has no models with shortcuts");
      io::write_gguf_model(path, numbers, architecture::family_configuration, options);
    } else {
      static_assert(!requires { architecture::residual; }, "fathom::save_gguf: llama.cpp has no models with these residual connections");
      static_assert(!architecture::has_shortcut, "fathom::save_gguf: llama.cpp has no GPT-2 with shortcuts");
      io::write_gguf_model(path, numbers, architecture::configuration, options);
    }
  }
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/save_gguf.inl.hpp"
#endif
