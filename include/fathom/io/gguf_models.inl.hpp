// Implementation of gguf_models.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/io/families.inl.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/gguf.inl.hpp"
#include "fathom/io/gguf_models.hpp"
#include "fathom/io/transformers.hpp"

namespace fathom::io {

namespace detail {

/// A tensor of a GGUF file in F32.
class gguf_source : public tensor_source {
 public:
  gguf_source(const gguf_tensor& from, const std::string& path) : from_(&from), path_(path) {}

  void read(std::span<std::byte> to, std::uint64_t at) const override {
    const auto row_bytes = static_cast<std::uint64_t>(from_->row_size()) * sizeof(float);
    std::vector<float> row(static_cast<std::size_t>(from_->row_size()));
    while (!to.empty()) {
      const auto number = static_cast<index>(at / row_bytes);
      const auto within = static_cast<std::size_t>(at % row_bytes);
      const std::size_t count = std::min(to.size(), static_cast<std::size_t>(row_bytes) - within);
      copy_rows(*from_, number, 1, row.data());
      std::memcpy(to.data(), reinterpret_cast<const std::byte*>(row.data()) + within, count);
      to = to.subspan(count);
      at += count;
    }
  }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] stored_blocks blocks(std::size_t dimension, index i) const override {
    if (dimension != 0 || from_->rank != 2 || !ggml::find_type(from_->type)->is_readable) return {};
    return {from_->type, from_->bytes.data() + i * from_->row_bytes()};
  }

 private:
  const gguf_tensor* from_;
  const std::string& path_;
};

/// The rows of queries or keys in files of architecture llama, whose rotary positions turn adjacent numbers: row
/// (head, pair, half) there is our column (head, half, pair).
[[nodiscard, gnu::cold]] inline std::vector<index> rows_by_pair(index heads, index width) {
  std::vector<index> rows;
  for (index head = 0; head < heads; ++head)
    for (index half = 0; half < 2; ++half)
      for (index pair = 0; pair < width / 2; ++pair) rows.push_back(head * width + 2 * pair + half);
  return rows;
}

}  // namespace detail

FATHOM_INLINE std::string gguf_architecture(family of) {
  switch (of) {
    case family::llama:
    case family::mistral: return "llama";
    case family::qwen2: return "qwen2";
    case family::qwen3: return "qwen3";
    case family::olmo2: return "olmo2";
    case family::gemma3: return "gemma3";
    case family::gpt_neox: return "gptneox";
    case family::gpt2: return "gpt2";
  }
  fail("a family outside of its enumeration");
}

FATHOM_INLINE std::vector<tensor_piece> pieces_in_gguf(const config& given, std::string_view full_name) {
  const config of = normalized(given);
  const detail::block_name name(full_name);
  const bool is_gpt2 = of.family == family::gpt2;
  const index E = of.width, head = is_gpt2 ? E / of.heads : of.head_width;
  const index heads = of.heads, kv_heads = is_gpt2 ? heads : of.kv_heads, Q = heads * head, K = kv_heads * head;
  const auto plain = [](std::string theirs, index columns, bool is_transposed = false) -> std::vector<tensor_piece> {
    return {{std::move(theirs), columns, is_transposed}};
  };
  const auto norm = [&](std::string theirs, index columns) -> std::vector<tensor_piece> {
    const bool is_gain = theirs.ends_with(".weight");
    return {{std::move(theirs), columns, false, {}, is_gain && of.family == family::gemma3 ? 1.0f : 0.0f}};
  };
  const bool is_weight = name.rest.ends_with(".weight");
  const std::string kind = is_weight ? ".weight" : ".bias";
  const std::string_view part = name.rest.substr(0, name.rest.rfind('.'));
  if (name.block < 0) {
    if (name.rest == "wte.weight") return plain("token_embd.weight", E);
    if (name.rest == "wpe.weight") return plain("position_embd.weight", E);
    if (part == "ln_f") return norm("output_norm" + kind, E);
    if (name.rest == "lm_head.weight") return plain("output.weight", E);
    return {};
  }
  const std::string block = join("blk.", name.block, ".");
  constexpr std::pair<std::string_view, const char*> norms[] = {
      {"ln_1", "attn_norm"}, {"ln_2", "ffn_norm"}, {"ln_1_post", "post_attention_norm"}, {"ln_2_post", "post_ffw_norm"}};
  for (const auto& [ours, theirs] : norms)
    if (part == ours) return norm(block + theirs + kind, E);
  if (part == "attn.q_norm" || part == "attn.k_norm") {
    const bool is_query = part == "attn.q_norm";
    return norm(block + (is_query ? "attn_q_norm" : "attn_k_norm") + kind, of.family == family::olmo2 ? (is_query ? Q : K) : head);
  }
  if (part == "attn.c_attn") {
    if (is_gpt2 || of.family == family::gpt_neox) return plain(block + "attn_qkv" + kind, 3 * E, is_weight);
    const bool is_permuted = gguf_architecture(of.family) == "llama";
    const auto rows = [&](index count) { return is_permuted ? detail::rows_by_pair(count, head) : std::vector<index>{}; };
    return {{block + "attn_q" + kind, Q, is_weight, rows(heads)}, {block + "attn_k" + kind, K, is_weight, rows(kv_heads)},
            {block + "attn_v" + kind, K, is_weight}};
  }
  if (part == "attn.c_proj") return plain(block + "attn_output" + kind, E, is_weight);
  if (part == "mlp.c_fc" || part == "mlp.up_proj") return plain(block + "ffn_up" + kind, of.hidden, is_weight);
  if (part == "mlp.gate_proj") return plain(block + "ffn_gate" + kind, of.hidden, is_weight);
  if (part == "mlp.c_proj" || part == "mlp.down_proj") return plain(block + "ffn_down" + kind, E, is_weight);
  return {};
}

FATHOM_INLINE gguf_tensors::gguf_tensors(const gguf_file& file) : stored_tensors(file.path()) {
  for (const gguf_tensor& tensor : file.tensors()) {
    // Frequencies of rotary positions follow from the config, which has been checked against them.
    if (tensor.name == "rope_freqs.weight") continue;
    stored_tensor stored{std::string(type_name<float>), {}, nullptr, 0, static_cast<std::uint64_t>(tensor.size()) * sizeof(float), std::string(tensor.name)};
    for (int d = std::max(tensor.rank, 1); d-- > 0;) stored.shape.push_back(tensor.dimensions[static_cast<std::size_t>(d)]);
    stored.source = std::make_shared<detail::gguf_source>(tensor, path_);
    tensors_.emplace(std::string(tensor.name), std::move(stored));
  }
}

namespace detail {
/// The frequencies of a config's rotary positions, as factors by which the plain ones are divided, must be those that the
/// file holds, which is how files say llama3 scaling.
[[gnu::cold]] inline void check_rope_factors(const gguf_file& file, const config& c, std::string& problems) {
  const gguf_tensor* const stored = file.find_tensor("rope_freqs.weight");
  const bool is_scaled = c.rotary.scaling == rotary_scaling::llama3;
  if (!stored && is_scaled) problems += "\n  rope_freqs.weight: missing; expected the factors of llama3 scaling";
  if (!stored) return;
  std::vector<float> factors(static_cast<std::size_t>(stored->size()));
  copy_numbers(*stored, factors.data());
  bool agree = std::cmp_equal(factors.size(), c.rotary.width / 2);
  for (std::size_t i = 0; agree && i < factors.size(); ++i) {
    const double plain = std::pow(static_cast<double>(c.rotary.base), -2.0 * static_cast<double>(i) / c.rotary.width);
    const double waves = c.rotary.original * plain / (2 * 3.14159265358979323846);
    const double kept = is_scaled ? std::clamp((waves - c.rotary.low_factor) / (c.rotary.high_factor - c.rotary.low_factor), 0.0, 1.0) : 1;
    agree = std::abs(factors[i] * (kept + (1 - kept) / c.rotary.factor) - 1) < 1e-3;
  }
  if (!agree) problems += "\n  rope_freqs.weight: holds other frequencies than the config's llama3 scaling gives";
}
}  // namespace detail

FATHOM_INLINE config config_of_gguf(const gguf_file& file, std::string& problems) {
  const std::string architecture(file.text("general.architecture"));
  config c{};
  constexpr std::pair<std::string_view, family> known[] = {{"llama", family::llama},   {"qwen2", family::qwen2}, {"qwen3", family::qwen3},
                                                           {"gemma3", family::gemma3}, {"gpt2", family::gpt2},   {"gptneox", family::gpt_neox},
                                                           {"olmo2", family::olmo2}};
  const auto* const found = std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return k.first == architecture; });
  if (found == std::end(known)) {
    std::string names;
    for (const auto& [name, unused] : known) names += join(names.empty() ? "" : ", ", name);
    problems += join("\n  general.architecture: expected one of ", names, "; found ", architecture);
    return c;
  }
  c.family = found->second;
  const bool is_gpt2 = c.family == family::gpt2, is_neox = c.family == family::gpt_neox, is_gemma3 = c.family == family::gemma3;
  const auto key = [&](const char* name) { return architecture + "." + name; };
  const auto size = [&](const char* name, std::optional<index> fallback = {}) -> int {
    const index number = file.integer(key(name), fallback);
    if (number >= 1 && number <= 2147483647) return static_cast<int>(number);
    problems += join("\n  ", key(name), ": expected a whole number, at least 1; found ", number);
    return 1;
  };
  const auto whole = [&](const char* name, float fallback, int least) -> int {  // a FLOAT32
    const float number = file.real(key(name), fallback);
    if (number >= static_cast<float>(least) && number < 2e9f && number == std::floor(number)) return static_cast<int>(number);
    problems += join("\n  ", key(name), ": expected a whole number, at least ", least, "; found ", number);
    return least;
  };
  const gguf_tensor& table = file.tensor("token_embd.weight");
  c.vocab = static_cast<int>(std::min<index>(table.rows(), 2147483647));
  c.context = size("context_length");
  c.width = size("embedding_length");
  c.depth = size("block_count");
  c.heads = size("attention.head_count");
  c.hidden = size("feed_forward_length");
  // Some files of tied models hold the table a second time, as their head.
  const gguf_tensor* const head = file.find_tensor("output.weight");
  c.tied = !head || (head->type == table.type && std::ranges::equal(head->bytes, table.bytes));
  const char* const epsilon = is_gpt2 || is_neox ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
  const double inverse = 1 / static_cast<double>(file.real(key(epsilon)));
  c.inverse_epsilon = inverse >= 1 && inverse < 2e9 ? static_cast<int>(std::llround(inverse)) : 1;
  // Files hold it in float. From 2^24 on several whole numbers are the same float; the one with the most zeros at its end is meant.
  for (double zeros = 1e9; zeros > 1 && c.inverse_epsilon > 1; zeros /= 10)
    if (const double n = std::round(inverse / zeros) * zeros; n >= 1 && n < 2e9 && static_cast<float>(1 / n) == static_cast<float>(1 / inverse)) {
      c.inverse_epsilon = static_cast<int>(n);
      break;
    }
  if (!(inverse < 2e9 && std::abs(inverse - c.inverse_epsilon) <= 1e-6 * inverse)) problems += join("\n  ", key(epsilon), ": expected 1 / a whole number; found ", 1 / inverse);
  if (is_gpt2) {
    if (c.inverse_epsilon != 100'000) problems += join("\n  ", key(epsilon), ": expected 1e-05, the only one that there is; found ", 1 / inverse);
    return normalized(c);
  }
  c.kv_heads = is_neox ? c.heads : size("attention.head_count_kv", c.heads);
  c.head_width = size("attention.key_length", std::max(c.width / c.heads, 1));
  c.rotary.base = whole("rope.freq_base", is_gemma3 ? 1e6f : 1e4f, 2);
  c.rotary.width = size("rope.dimension_count", c.head_width);
  // Without a type, a factor is of linear scaling; older files call it scale_linear; 0 and 1 are none (llama.cpp,
  // src/llama-model.cpp, load_hparams).
  const char* const factor = file.find(key("rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear";
  const float scale = file.real(key(factor), 0.0f);
  const std::string_view scaling = file.text(key("rope.scaling.type"), scale == 0 || scale == 1 ? "none" : "linear");
  if (scaling == "linear" || scaling == "yarn") {
    c.rotary.scaling = scaling == "linear" ? rotary_scaling::linear : rotary_scaling::yarn;
    c.rotary.factor = whole(factor, 1, 1);
    if (scaling == "yarn") c.rotary.original = size("rope.scaling.original_context_length");
  } else if (scaling != "none") {
    problems += join("\n  ", key("rope.scaling.type"), ": expected none, linear or yarn; found ", scaling);
  }
  const auto only = [&](const char* name, float expected) {  // what a config cannot say otherwise
    if (const float number = file.real(key(name), expected); number != expected)
      problems += join("\n  ", key(name), ": expected ", expected, ", the only value that a fathom::config can express; found ", number);
  };
  only("rope.scaling.attn_factor", 1);
  only("rope.scaling.yarn_attn_factor", 1);
  only("rope.scaling.yarn_ext_factor", 1);
  only("rope.scaling.yarn_beta_fast", 32);
  only("rope.scaling.yarn_beta_slow", 1);
  only("rope.scaling.yarn_log_multiplier", 0);
  only("attention.clamp_kqv", 0);
  if (!file.boolean(key("attention.causal"), true)) problems += join("\n  ", key("attention.causal"), ": expected true; found false");
  if (const index values = file.integer(key("attention.value_length"), c.head_width); values != c.head_width)
    problems += join("\n  ", key("attention.value_length"), ": expected ", c.head_width, ", that of keys; found ", values);
  const index window = file.integer(key("attention.sliding_window"), 0);
  if (window < 0) problems += join("\n  ", key("attention.sliding_window"), ": expected a whole number, at least 0; found ", window);
  if (window > 0 && c.family == family::olmo2) problems += join("\n  ", key("attention.sliding_window"), ": expected 0; found ", window);
  if (window > 0 && c.family == family::llama) c.family = family::mistral;
  c.window = static_cast<int>(std::clamp<index>(window, 0, 2147483647));
  if (is_neox && !file.boolean(key("use_parallel_residual"), true)) problems += join("\n  ", key("use_parallel_residual"), ": expected true; found false");
  if (is_gemma3) {
    constexpr const char* pattern = "attention.sliding_window_pattern";
    const gguf_value* const stored = file.find(key(pattern));
    if (stored && stored->type == gguf_type::array) {  // whether each block has a window
      const std::vector<bool> windows = file.booleans(key(pattern));
      c.window_pattern = static_cast<int>(std::find(windows.begin(), windows.end(), false) - windows.begin()) + 1;
      bool fits = std::cmp_equal(windows.size(), c.depth);
      for (std::size_t i = 0; fits && i < windows.size(); ++i) fits = windows[i] == ((i + 1) % static_cast<std::size_t>(c.window_pattern) != 0);
      if (!fits) problems += join("\n  ", key(pattern), ": expected false for every n-th of ", c.depth, " blocks, for some n, true for all others");
    } else {
      c.window_pattern = size(pattern, 6);
    }
    if (window == 0) c.window_pattern = 1;  // llama.cpp has then no windows, and one base
    c.local_base = whole("rope.freq_base_swa", 1e4f, 2);
    // What llama.cpp computes with: src/models/gemma3.cpp. Files do not say.
    c.score_width = c.depth == 62 ? std::max(c.width / c.heads, 1) : c.head_width;
    if (const float cap = file.real(key("final_logit_softcapping"), 0.0f); cap != 0)
      problems += join("\n  ", key("final_logit_softcapping"), ": expected 0; found ", cap);
  }
  if (file.integer(key("expert_count"), 0) > 0) problems += join("\n  ", key("expert_count"), ": expected 0: no mixture of experts");
  return normalized(c);
}

FATHOM_INLINE void check_gguf_config(const config& given, const gguf_file& file) {
  std::string problems;
  config found = config_of_gguf(file, problems);
  const config expected = normalized(given);
  if (expected.rotary.scaling == rotary_scaling::llama3) found.rotary = expected.rotary;  // checked by its factors
  if (expected.family == family::mistral && found.family == family::llama) found.family = family::mistral;  // one architecture there; windows are compared
  if (problems.empty()) problems += family_differences(expected, found);
  if (problems.empty() && expected.family == family::gpt2 && expected.context < found.context)
    problems += join("\n  context: the model has ", expected.context, ", the file ", found.context, " learned positions");
  if (problems.empty()) detail::check_rope_factors(file, expected, problems);
  if (!problems.empty()) fail(file.path(), ": does not fit the model:", problems);
}

namespace detail {
/// A file, its tensors in the layout of `transformers`, if they need translation, and in ours.
template <class File>
struct opened_family {
  File file;
  family_tensors tensors;
  opened_family(const std::filesystem::path& path, const config& of, const tensor_table& wanted) : file(path), tensors(file, of, wanted) {}
};
struct opened_gguf {
  gguf_file file;
  gguf_tensors translated;
  family_tensors tensors;
  opened_gguf(gguf_file from, const config& of, const tensor_table& wanted)
      : file(std::move(from)), translated(file), tensors(translated, of, wanted) {}
};
}  // namespace detail

FATHOM_INLINE std::shared_ptr<const stored_tensors> open_family(const std::filesystem::path& path, const config& of, const tensor_table& wanted) {
  const auto tensors_of = [](auto opened) { return std::shared_ptr<const stored_tensors>(opened, &opened->tensors); };
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    check_family_config(of, path);
    return tensors_of(std::make_shared<detail::opened_family<safetensors_folder>>(path, of, wanted));
  }
  if (is_gguf(path)) return open_gguf(path, of, wanted);
  return tensors_of(std::make_shared<detail::opened_family<safetensors_file>>(path, of, wanted));
}

FATHOM_INLINE std::shared_ptr<const stored_tensors> open_gguf(const std::filesystem::path& path, const config& of, const tensor_table& wanted) {
  gguf_file file(path);
  check_gguf_config(of, file);
  const auto opened = std::make_shared<detail::opened_gguf>(std::move(file), of, wanted);
  return std::shared_ptr<const stored_tensors>(opened, &opened->tensors);
}

FATHOM_INLINE bool is_gguf(const std::filesystem::path& path) {
  std::error_code ignored;
  if (path.extension() == ".gguf") return true;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const input_file file(path);
  std::array<std::byte, 4> magic{};
  if (file.size() < magic.size()) return false;
  file.read(0, magic);
  return std::memcmp(magic.data(), "GGUF", magic.size()) == 0;
}

}  // namespace fathom::io
