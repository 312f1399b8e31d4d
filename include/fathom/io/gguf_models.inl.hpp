// Implementation of gguf_models.hpp.
#pragma once

#include <algorithm>
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
#include "fathom/io/gguf.inl.hpp"
#include "fathom/io/gguf_models.hpp"
#include "fathom/io/transformers.hpp"

namespace fathom::io {

namespace detail {

/// A tensor of a GGUF file in F32. Rows of queries and keys are permuted in files of architecture llama, whose rotary
/// positions turn adjacent numbers: row (head, pair, half) there is row (head, half, pair) of `transformers`.
class gguf_source : public tensor_source {
 public:
  /// rotated_heads: how many heads the rows are, if they are permuted; otherwise 0.
  gguf_source(const gguf_tensor& from, const std::string& path, index rotated_heads) : from_(&from), path_(path), heads_(rotated_heads) {}

  void read(std::span<std::byte> to, std::uint64_t at) const override {
    const auto row_bytes = static_cast<std::uint64_t>(from_->row_size()) * sizeof(float);
    std::vector<float> row(static_cast<std::size_t>(from_->row_size()));
    while (!to.empty()) {
      const auto number = static_cast<index>(at / row_bytes);
      const auto within = static_cast<std::size_t>(at % row_bytes);
      const std::size_t count = std::min(to.size(), static_cast<std::size_t>(row_bytes) - within);
      copy_rows(*from_, stored_row(number), 1, row.data());
      std::memcpy(to.data(), reinterpret_cast<const std::byte*>(row.data()) + within, count);
      to = to.subspan(count);
      at += count;
    }
  }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] stored_blocks blocks(std::size_t dimension, index i) const override {
    if (dimension != 0 || from_->rank != 2 || !ggml::find_type(from_->type)->is_readable) return {};
    return {from_->type, from_->bytes.data() + stored_row(i) * from_->row_bytes()};
  }

 private:
  [[nodiscard]] index stored_row(index row) const {
    if (heads_ == 0) return row;
    const index width = from_->rows() / heads_, pairs = width / 2, head = row / width, half = row % width / pairs, pair = row % pairs;
    return head * width + 2 * pair + half;
  }

  const gguf_tensor* from_;
  const std::string& path_;
  index heads_;
};

/// The name in `transformers` of a tensor of a GGUF file; empty if there is none.
[[nodiscard, gnu::cold]] inline std::string name_in_transformers(std::string_view name, bool norms_follow) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  if (!name.starts_with("blk.")) return {};
  const std::size_t end = name.find('.', 4), dot = name.rfind('.');
  if (end == std::string_view::npos || dot <= end) return {};
  const std::string_view part = name.substr(end + 1, dot - end - 1);
  const std::pair<std::string_view, std::string_view> names[] = {
      {"attn_norm", "input_layernorm"},      {"ffn_norm", "post_attention_layernorm"},
      {"attn_q", "self_attn.q_proj"},        {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},        {"attn_output", "self_attn.o_proj"},
      {"attn_q_norm", "self_attn.q_norm"},   {"attn_k_norm", "self_attn.k_norm"},
      {"ffn_gate", "mlp.gate_proj"},         {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"},         {"post_attention_norm", norms_follow ? "post_attention_layernorm" : ""},
      {"post_ffw_norm", norms_follow ? "post_feedforward_layernorm" : ""}};
  for (const auto& [ours, theirs] : names)
    if (part == ours && !theirs.empty()) return join("model.layers.", name.substr(4, end - 4), ".", theirs, name.substr(dot));
  return {};
}

}  // namespace detail

FATHOM_INLINE gguf_tensors::gguf_tensors(const gguf_file& file) : stored_tensors(file.path()) {
  const std::string_view architecture = file.text("general.architecture");
  const bool is_permuted = architecture == "llama", norms_follow = architecture == "olmo2";
  index heads = 0, kv_heads = 0;
  if (is_permuted) {
    heads = file.integer("llama.attention.head_count");
    kv_heads = file.integer("llama.attention.head_count_kv", heads);
  }
  for (const gguf_tensor& tensor : file.tensors()) {
    const std::string theirs = detail::name_in_transformers(tensor.name, norms_follow);
    // Frequencies of rotary positions follow from the config, which has been checked against them.
    if (tensor.name == "rope_freqs.weight") continue;
    const std::string name = theirs.empty() ? std::string(tensor.name) : theirs;
    const bool is_query = name.find("self_attn.q_proj") != std::string::npos, is_key = name.find("self_attn.k_proj") != std::string::npos;
    const index rotated = !is_permuted ? 0 : is_query ? heads : is_key ? kv_heads : 0;
    if (rotated < 0 || (rotated > 0 && tensor.rank == 2 && (rotated > tensor.rows() / 2 || tensor.rows() % (2 * rotated) != 0)))
      fail(path_, ": ", tensor.name, " is ", tensor.describe(), "; expected rows for ", rotated, " heads of an even width");
    stored_tensor stored{std::string(type_name<float>), {}, nullptr, 0, static_cast<std::uint64_t>(tensor.size()) * sizeof(float), std::string(tensor.name)};
    for (int d = std::max(tensor.rank, 1); d-- > 0;) stored.shape.push_back(tensor.dimensions[static_cast<std::size_t>(d)]);
    stored.source = std::make_shared<detail::gguf_source>(tensor, path_, tensor.rank == 2 ? rotated : 0);
    if (!tensors_.emplace(name, std::move(stored)).second) fail(path_, ": has two tensors that mean ", name);
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
  constexpr std::pair<std::string_view, family> known[] = {
      {"llama", family::llama}, {"qwen2", family::qwen2}, {"qwen3", family::qwen3}, {"olmo2", family::olmo2}};
  const auto* const found = std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return k.first == architecture; });
  if (found == std::end(known)) {
    problems += join("\n  general.architecture: expected llama, qwen2, qwen3 or olmo2; found ", architecture);
    return c;
  }
  c.family = found->second;
  const auto key = [&](const char* name) { return architecture + "." + name; };
  const auto size = [&](const char* name, std::optional<index> fallback = {}) -> int {
    const index number = file.integer(key(name), fallback);
    if (number >= 1 && number <= 2147483647) return static_cast<int>(number);
    problems += join("\n  ", key(name), ": expected a whole number, at least 1; found ", number);
    return 1;
  };
  const gguf_tensor& table = file.tensor("token_embd.weight");
  c.vocab = static_cast<int>(std::min<index>(table.rows(), 2147483647));
  c.context = size("context_length");
  c.width = size("embedding_length");
  c.depth = size("block_count");
  c.heads = size("attention.head_count");
  c.kv_heads = size("attention.head_count_kv", c.heads);
  c.hidden = size("feed_forward_length");
  c.head_width = size("attention.key_length", std::max(c.width / c.heads, 1));
  c.tied = !file.find_tensor("output.weight");
  const double inverse = 1 / static_cast<double>(file.real(key("attention.layer_norm_rms_epsilon")));
  c.inverse_epsilon = inverse >= 1 && inverse < 2e9 ? static_cast<int>(std::llround(inverse)) : 1;
  // Files hold it in float.
  if (!(std::abs(inverse - c.inverse_epsilon) <= 1e-6 * inverse)) problems += join("\n  ", key("attention.layer_norm_rms_epsilon"), ": expected 1 / a whole number; found ", 1 / inverse);
  const float base = file.real(key("rope.freq_base"), 10'000.0f);
  if (base >= 2 && base < 2e9f && base == std::floor(base))
    c.rotary.base = static_cast<int>(base);
  else
    problems += join("\n  ", key("rope.freq_base"), ": expected a whole number, at least 2; found ", base);
  c.rotary.width = size("rope.dimension_count", c.head_width);
  const std::string_view scaling = file.text(key("rope.scaling.type"), "none");
  if (scaling == "linear" || scaling == "yarn") {
    const float factor = file.real(key("rope.scaling.factor"), 1.0f);
    c.rotary.scaling = scaling == "linear" ? rotary_scaling::linear : rotary_scaling::yarn;
    if (factor >= 1 && factor < 1e6f && factor == std::floor(factor))
      c.rotary.factor = static_cast<int>(factor);
    else
      problems += join("\n  ", key("rope.scaling.factor"), ": expected a whole number, at least 1; found ", factor);
    if (scaling == "yarn") c.rotary.original = size("rope.scaling.original_context_length");
  } else if (scaling != "none") {
    problems += join("\n  ", key("rope.scaling.type"), ": expected none, linear or yarn; found ", scaling);
  }
  if (const index window = file.integer(key("attention.sliding_window"), 0); window > 0 && c.family == family::llama) {
    c.family = family::mistral;
    c.window = static_cast<int>(std::min<index>(window, 2147483647));
  }
  if (file.integer(key("expert_count"), 0) > 0) problems += join("\n  ", key("expert_count"), ": expected 0: no mixture of experts");
  return normalized(c);
}

FATHOM_INLINE void check_gguf_config(const config& given, const gguf_file& file) {
  std::string problems;
  config found = config_of_gguf(file, problems);
  const config expected = normalized(given);
  if (expected.rotary.scaling == rotary_scaling::llama3) found.rotary = expected.rotary;  // checked by its factors
  if (problems.empty()) problems += family_differences(expected, found);
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
  if (path.extension() != ".gguf") return tensors_of(std::make_shared<detail::opened_family<safetensors_file>>(path, of, wanted));
  gguf_file file(path);
  check_gguf_config(of, file);
  return tensors_of(std::make_shared<detail::opened_gguf>(std::move(file), of, wanted));
}

}  // namespace fathom::io
