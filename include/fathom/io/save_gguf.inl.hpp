// Implementation of save_gguf.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/ggml_blocks.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/io/gguf.inl.hpp"
#include "fathom/io/gguf_models.inl.hpp"
#include "fathom/io/save_gguf.hpp"

namespace fathom::io {

namespace detail {

/// Appends the bytes of a number or a block.
template <class T>
void append_bytes(std::vector<std::byte>& to, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

/// The largest magnitude that Q8_0 holds: its scales are F16.
inline constexpr float largest_in_q8_0 = 127 * 65504.0f;

/// A block of 32 numbers of at most that, as quantize_row_q8_0_ref of ggml rounds them (ggml/src/ggml-quants.c); but 0 where
/// the scale would be subnormal in float (int8_scale), and its inverse infinite.
[[nodiscard]] inline ggml::block_q8_0 block_of(const float* x) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = int8_scale(largest), inverse = scale > 0 ? 1 / scale : 0;
  const std::uint16_t bits = to_f16(scale).bits;
  ggml::block_q8_0 block{{static_cast<std::uint8_t>(bits & 0xff), static_cast<std::uint8_t>(bits >> 8)}, {}};
  for (int i = 0; i < 32; ++i) block.quants[i] = static_cast<std::int8_t>(std::clamp(std::round(x[i] * inverse), -127.0f, 127.0f));
  return block;
}

/// Rows of numbers in a type of blocks. Fails on numbers that Q8_0 does not hold, and that BF16 rounds to infinity.
[[nodiscard, gnu::cold]] inline std::vector<std::byte> in_blocks(ggml::type type, const std::vector<float>& numbers, const std::string& name) {
  std::vector<std::byte> bytes;
  bytes.reserve(numbers.size() * sizeof(float));
  if (type == ggml::type::f32) {
    const auto all = std::as_bytes(std::span(numbers));
    bytes.assign(all.begin(), all.end());
  } else if (type == ggml::type::bf16) {
    for (const float number : numbers) {
      const bf16 rounded(number);
      if (std::isinf(static_cast<float>(rounded)) && std::isfinite(number))
        fail("save_gguf: ", name, " has ", number, ", which is infinite as BF16");
      append_bytes(bytes, rounded);
    }
  } else {
    for (const float number : numbers)
      if (!(std::abs(number) <= largest_in_q8_0))
        fail("save_gguf: ", name, " has ", number, "; as Q8_0, all numbers must be finite, and at most ", largest_in_q8_0);
    for (std::size_t i = 0; i < numbers.size(); i += 32) append_bytes(bytes, block_of(numbers.data() + i));
  }
  return bytes;
}

/// The factors by which llama3 scaling divides frequencies: [width / 2] (conversion/llama.py, rope_freqs).
[[nodiscard, gnu::cold]] inline std::vector<float> rope_factors(const rotary_positions& r) {
  std::vector<float> factors;
  for (int i = 0; i < r.width / 2; ++i) {
    const double plain = std::pow(static_cast<double>(r.base), -2.0 * i / r.width);
    const double waves = r.original * plain / (2 * 3.14159265358979323846);
    const double kept = std::clamp((waves - r.low_factor) / (r.high_factor - r.low_factor), 0.0, 1.0);
    factors.push_back(static_cast<float>(1 / (kept + (1 - kept) / r.factor)));
  }
  return factors;
}

}  // namespace detail

FATHOM_INLINE gguf_metadata tokenizer_in(const gguf_file& file) {
  gguf_metadata found;
  for (const auto& [key, value] : file.metadata())
    if (key.starts_with("tokenizer.")) found.emplace_back(key, value);
  if (found.empty()) fail(file.path(), ": has no tokenizer");
  return found;
}

FATHOM_INLINE gguf_metadata metadata_of(const config& given, const gguf_options& options) {
  const config c = normalized(given);
  const bool is_gpt2 = c.family == family::gpt2, is_neox = c.family == family::gpt_neox, is_gemma3 = c.family == family::gemma3;
  const std::string architecture = gguf_architecture(c.family);
  constexpr std::uint32_t file_types[] = {0, 32, 7};  // enum llama_ftype of llama.h
  gguf_metadata all = {{"general.architecture", architecture},
                       {"general.type", "model"},
                       {"general.name", options.name},
                       {"general.file_type", file_types[static_cast<std::size_t>(options.type)]},
                       {"general.quantization_version", std::uint32_t{2}}};
  const auto add = [&](const char* key, gguf_value_to_write value) { all.emplace_back(architecture + "." + key, std::move(value)); };
  const auto count = [&](const char* key, int value) { add(key, static_cast<std::uint32_t>(value)); };
  count("vocab_size", c.vocab);
  count("context_length", c.context);
  count("embedding_length", c.width);
  count("block_count", c.depth);
  count("feed_forward_length", c.hidden);
  count("attention.head_count", c.heads);
  add(is_gpt2 || is_neox ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", static_cast<float>(1.0 / c.inverse_epsilon));
  if (is_gpt2) return all;
  std::string problems;
  if (is_neox) {
    if (c.head_width * c.heads != c.width) problems += join("\n  head_width: expected width / heads; found ", c.head_width);
    add("use_parallel_residual", true);
  } else {
    count("attention.head_count_kv", c.kv_heads);
    count("attention.key_length", c.head_width);
    count("attention.value_length", c.head_width);
  }
  count("rope.dimension_count", c.rotary.width);
  add("rope.freq_base", static_cast<float>(c.rotary.base));
  if (c.rotary.scaling == rotary_scaling::linear || c.rotary.scaling == rotary_scaling::yarn) {
    add("rope.scaling.type", c.rotary.scaling == rotary_scaling::linear ? "linear" : "yarn");
    add("rope.scaling.factor", static_cast<float>(c.rotary.factor));
    if (c.rotary.scaling == rotary_scaling::yarn) count("rope.scaling.original_context_length", c.rotary.original);
  } else if (c.rotary.scaling == rotary_scaling::llama3 && architecture != "llama") {
    problems += "\n  rotary.scaling: llama3 is known to its architecture llama only";
  }
  if (c.window > 0) count("attention.sliding_window", c.window);
  if (is_gemma3) {
    if (c.window > 0) {
      count("attention.sliding_window_pattern", c.window_pattern);
      add("rope.freq_base_swa", static_cast<float>(c.local_base));
    } else if (c.window_pattern != 1) {
      problems += "\n  window: expected one, or the window_pattern 1";
    }
    const int score_width = c.depth == 62 ? c.width / c.heads : c.head_width;  // src/models/gemma3.cpp
    if (c.score_width != score_width) problems += join("\n  score_width: expected ", score_width, "; found ", c.score_width);
  }
  if (!problems.empty()) fail("save_gguf: llama.cpp's ", architecture, " cannot express the model:", problems);
  return all;
}

FATHOM_INLINE void write_gguf_model(const std::filesystem::path& path, const model_numbers& weights, const config& of, const gguf_options& options) {
  const config c = normalized(of);
  gguf_metadata metadata = metadata_of(c, options);
  if (options.tokenizer.empty()) metadata.emplace_back("tokenizer.ggml.model", "none");
  for (const auto& [key, value] : options.tokenizer) {
    if (key == "tokenizer.ggml.tokens") {
      std::uint64_t count = 0;  // after the elements' type
      if (value.type() == gguf_type::array && value.bytes().size() >= 12) std::memcpy(&count, value.bytes().data() + 4, sizeof count);
      if (!std::cmp_equal(count, c.vocab)) fail("save_gguf: the tokenizer has ", count, " tokens; expected ", c.vocab, ", the model's vocab");
    }
    metadata.emplace_back(key, value);
  }
  std::vector<gguf_tensor_to_write> tensors;
  std::list<std::vector<std::byte>> made;
  const auto add = [&](const std::string& name, ggml::type type, std::vector<index> dimensions, const std::vector<float>& numbers) {
    if (type == ggml::type::q8_0 && dimensions.front() % 32 != 0) type = ggml::type::f32;
    const std::vector<std::byte>& bytes = made.emplace_back(detail::in_blocks(type, numbers, name));
    tensors.push_back({name, type, std::move(dimensions), bytes});
  };
  constexpr ggml::type types[] = {ggml::type::f32, ggml::type::bf16, ggml::type::q8_0};
  for (const tensor_row& row : weights.table) {
    const bool is_matrix = row.shape.size() == 2;
    const index rows = is_matrix ? row.shape[0] : 1, columns = row.shape.back();
    const std::byte* const from = weights.begin + row.offset;
    const auto number = [&](index i) {
      if (weights.type != "F64") return reinterpret_cast<const float*>(from)[i];
      return static_cast<float>(reinterpret_cast<const double*>(from)[i]);
    };
    index first = 0;
    for (const tensor_piece& piece : pieces_in_gguf(c, row.name)) {
      std::vector<float> theirs(static_cast<std::size_t>(rows * piece.columns));
      for (index j = 0; j < piece.columns; ++j) {
        const index to = piece.rows.empty() ? j : piece.rows[static_cast<std::size_t>(j)];
        for (index i = 0; i < rows; ++i)
          theirs[static_cast<std::size_t>(piece.is_transposed ? to * rows + i : i * piece.columns + to)] = number(i * columns + first + j) + piece.offset;
      }
      first += piece.columns;
      std::vector<index> dimensions = {piece.columns};
      if (is_matrix) dimensions = piece.is_transposed ? std::vector<index>{rows, piece.columns} : std::vector<index>{piece.columns, rows};
      const bool is_plain = !is_matrix || row.name == "wpe.weight";
      add(piece.name, is_plain ? ggml::type::f32 : types[static_cast<std::size_t>(options.type)], dimensions, theirs);
      // llama.cpp's gptneox has no tied heads.
      if (c.tied && c.family == family::gpt_neox && piece.name == "token_embd.weight")
        add("output.weight", types[static_cast<std::size_t>(options.type)], dimensions, theirs);
    }
  }
  if (c.family != family::gpt2 && c.rotary.scaling == rotary_scaling::llama3)
    add("rope_freqs.weight", ggml::type::f32, {c.rotary.width / 2}, detail::rope_factors(c.rotary));
  write_gguf(path, metadata, tensors);
}

}  // namespace fathom::io
