// Implementation of families.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/conversion.inl.hpp"
#include "fathom/io/families.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/transformers.hpp"

namespace fathom::io {

// ---- Tensors ---------------------------------------------------------------------------------------------------------

namespace detail {

/// Splits "h.3.attn.c_attn.weight" into block and rest; the block is -1 for tensors outside of blocks.
struct block_name {
  int block = -1;
  std::string_view rest;
  [[gnu::cold]] explicit block_name(std::string_view name) : rest(name) {
    if (!name.starts_with("h.")) return;
    const std::size_t end = name.find('.', 2);
    if (end == std::string_view::npos) return;
    int number = 0;
    for (const char digit : name.substr(2, end - 2)) number = 10 * number + (digit - '0');
    block = number;
    rest = name.substr(end + 1);
  }
};

/// The rows of GPT-NeoX's query_key_value that are our columns: there, each head has its query, key and value side by
/// side; we have all queries, then all keys, then all values.
[[nodiscard, gnu::cold]] inline std::vector<index> rows_by_head(index heads, index width) {
  std::vector<index> rows;
  for (index part = 0; part < 3; ++part)
    for (index head = 0; head < heads; ++head)
      for (index i = 0; i < width; ++i) rows.push_back((head * 3 + part) * width + i);
  return rows;
}

[[nodiscard, gnu::cold]] inline std::vector<tensor_piece> pieces_of_gpt_neox(const config& of, const block_name& name) {
  const index E = of.width;
  const auto plain = [&](const std::string& theirs, index columns, bool is_transposed) -> std::vector<tensor_piece> {
    return {{theirs, columns, is_transposed}};
  };
  if (name.block < 0) {
    if (name.rest == "wte.weight") return plain("gpt_neox.embed_in.weight", E, false);
    if (name.rest == "ln_f.weight" || name.rest == "ln_f.bias") return plain("gpt_neox.final_layer_norm" + std::string(name.rest.substr(4)), E, false);
    if (name.rest == "lm_head.weight") return plain("embed_out.weight", E, false);
    return {};
  }
  const std::string layer = join("gpt_neox.layers.", name.block, ".");
  const bool is_weight = name.rest.ends_with(".weight");
  const std::string kind = is_weight ? ".weight" : ".bias";
  const std::string_view part = name.rest.substr(0, name.rest.rfind('.'));
  if (part == "ln_1") return plain(layer + "input_layernorm" + kind, E, false);
  if (part == "ln_2") return plain(layer + "post_attention_layernorm" + kind, E, false);
  if (part == "attn.c_attn") return {{layer + "attention.query_key_value" + kind, 3 * E, is_weight, rows_by_head(of.heads, of.head_width)}};
  if (part == "attn.c_proj") return plain(layer + "attention.dense" + kind, E, is_weight);
  if (part == "mlp.c_fc") return plain(layer + "mlp.dense_h_to_4h" + kind, of.hidden, is_weight);
  if (part == "mlp.c_proj") return plain(layer + "mlp.dense_4h_to_h" + kind, E, is_weight);
  return {};
}

/// Llama's names, which most families share.
[[nodiscard, gnu::cold]] inline std::vector<tensor_piece> pieces_of_llama(const config& of, const block_name& name) {
  const index E = of.width, Q = index{of.heads} * of.head_width, K = index{of.kv_heads} * of.head_width;
  const auto plain = [&](const std::string& theirs, index columns, bool is_transposed = false) -> std::vector<tensor_piece> {
    return {{theirs, columns, is_transposed}};
  };
  if (name.block < 0) {
    if (name.rest == "wte.weight") return plain("model.embed_tokens.weight", E);
    if (name.rest == "ln_f.weight") return plain("model.norm.weight", E);
    if (name.rest == "lm_head.weight") return plain("lm_head.weight", E);
    return {};
  }
  const std::string layer = join("model.layers.", name.block, ".");
  const bool is_weight = name.rest.ends_with(".weight");
  const std::string kind = is_weight ? ".weight" : ".bias";
  const std::string_view part = name.rest.substr(0, name.rest.rfind('.'));
  if (part == "ln_1") return plain(layer + "input_layernorm" + kind, E);
  if (part == "ln_2") return plain(layer + (of.family == family::gemma3 ? "pre_feedforward_layernorm" : "post_attention_layernorm") + kind, E);
  if (part == "ln_1_post") return plain(layer + "post_attention_layernorm" + kind, E);
  if (part == "ln_2_post") return plain(layer + "post_feedforward_layernorm" + kind, E);
  if (part == "attn.c_attn")
    return {{layer + "self_attn.q_proj" + kind, Q, is_weight}, {layer + "self_attn.k_proj" + kind, K, is_weight},
            {layer + "self_attn.v_proj" + kind, K, is_weight}};
  if (part == "attn.c_proj") return plain(layer + "self_attn.o_proj" + kind, E, is_weight);
  const bool per_head = of.family == family::qwen3 || of.family == family::gemma3;
  if (part == "attn.q_norm") return plain(layer + "self_attn.q_norm" + kind, per_head ? of.head_width : Q);
  if (part == "attn.k_norm") return plain(layer + "self_attn.k_norm" + kind, per_head ? of.head_width : K);
  for (const char* projection : {"gate_proj", "up_proj"})
    if (part == join("mlp.", projection)) return plain(join(layer, "mlp.", projection, kind), of.hidden, is_weight);
  if (part == "mlp.down_proj") return plain(layer + "mlp.down_proj" + kind, E, is_weight);
  return {};
}

/// One of our tensors, F32, made of pieces. Makes all of it at the first read, and forgets it after the last.
class joined_tensor : public tensor_source {
 public:
  struct piece {
    const stored_tensor* from;
    tensor_piece how;
  };
  joined_tensor(std::vector<piece> pieces, index rows, index columns) : pieces_(std::move(pieces)), rows_(rows), columns_(columns) {}

  void read(std::span<std::byte> to, std::uint64_t at) const override {
    const std::lock_guard lock(mutex_);
    if (all_.empty()) make();
    std::memcpy(to.data(), reinterpret_cast<const std::byte*>(all_.data()) + at, to.size());
    if (at + to.size() == all_.size() * sizeof(float)) std::vector<float>().swap(all_);
  }
  [[nodiscard]] const std::string& path() const override { return pieces_.front().from->path(); }
  /// A column of ours is a row of a transposed piece.
  [[nodiscard]] stored_blocks blocks(std::size_t dimension, index i) const override {
    if (dimension != 1) return {};
    for (const piece& p : pieces_) {
      if (i >= p.how.columns) {
        i -= p.how.columns;
        continue;
      }
      if (!p.how.is_transposed || !p.from->source) return {};
      return p.from->source->blocks(0, p.how.rows.empty() ? i : p.how.rows[static_cast<std::size_t>(i)]);
    }
    return {};
  }

 private:
  [[gnu::cold]] void make() const {
    all_.resize(static_cast<std::size_t>(rows_ * columns_));
    index first = 0;
    for (const piece& p : pieces_) {
      std::vector<float> theirs(static_cast<std::size_t>(p.from->size()));
      copy_numbers(*p.from, theirs.data());
      const index width = p.how.columns;
      const auto row_of = [&](index column) { return p.how.rows.empty() ? column : p.how.rows[static_cast<std::size_t>(column)]; };
      constexpr index tile = 32;  // rows at a time, so that what is read stays in the cache
      if (p.how.is_transposed) {
        for (index begin = 0; begin < rows_; begin += tile)
          for (index j = 0; j < width; ++j) {
            const float* const from = theirs.data() + row_of(j) * rows_;
            for (index i = begin; i < std::min(begin + tile, rows_); ++i) at(i, first + j) = from[i];
          }
      } else {
        for (index i = 0; i < rows_; ++i)
          for (index j = 0; j < width; ++j) at(i, first + j) = theirs[static_cast<std::size_t>(i * width + row_of(j))];
      }
      if (p.how.offset != 0)
        for (index i = 0; i < rows_; ++i)
          for (index j = 0; j < width; ++j) at(i, first + j) -= p.how.offset;
      first += width;
    }
  }
  [[nodiscard]] float& at(index row, index column) const { return all_[static_cast<std::size_t>(row * columns_ + column)]; }

  std::vector<piece> pieces_;
  index rows_, columns_;
  mutable std::mutex mutex_;
  mutable std::vector<float> all_;
};

}  // namespace detail

FATHOM_INLINE std::vector<tensor_piece> pieces_in_transformers(const config& of, std::string_view name) {
  const detail::block_name split(name);
  return of.family == family::gpt_neox ? detail::pieces_of_gpt_neox(of, split) : detail::pieces_of_llama(of, split);
}

FATHOM_INLINE family_tensors::family_tensors(const stored_tensors& from, const config& of, const tensor_table& wanted) : stored_tensors(from.path()) {
  refuse_packed(from);
  metadata_ = from.metadata();
  tensors_ = from.tensors();
  const bool is_gguf = tensors_.contains("token_embd.weight");  // a name that only those have
  const auto pieces_of = [&](std::string_view name) { return is_gguf ? pieces_in_gguf(of, name) : pieces_in_transformers(of, name); };
  constexpr const char* heads[] = {"lm_head.weight", "embed_out.weight", "output.weight"};
  // Buffers, which hold no weights. A tied checkpoint may have the table a second time, as its head.
  std::erase_if(tensors_, [&](const auto& entry) {
    const std::string& name = entry.first;
    return name.ends_with("rotary_emb.inv_freq") || name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
           (of.tied && std::find(std::begin(heads), std::end(heads), name) != std::end(heads));
  });
  std::string problems;
  if (of.tied)
    for (const char* name : heads) {
      const auto head = from.tensors().find(name);
      const auto table = from.tensors().find(pieces_of(transformers_table).front().name);
      if (head != from.tensors().end() && table != from.tensors().end() && !tied_head_problem("", table->second, head->second).empty())
        problems += join("\n  ", name, ": differs from ", table->first, ", and the model's head is tied");
    }
  for (const tensor_row& row : wanted) {
    const std::vector<tensor_piece> pieces = pieces_of(row.name);
    if (pieces.empty()) continue;
    const index rows = row.shape.size() == 2 ? row.shape[0] : 1, columns = row.shape.back();
    std::vector<detail::joined_tensor::piece> found;
    for (const tensor_piece& piece : pieces) {
      const auto theirs = from.tensors().find(piece.name);
      if (theirs == from.tensors().end()) continue;
      stored_tensor expected{"F32, F64, BF16 or F16", {piece.columns}};
      if (row.shape.size() == 2)
        expected.shape = piece.is_transposed ? std::vector<index>{piece.columns, rows} : std::vector<index>{rows, piece.columns};
      if (theirs->second.shape != expected.shape || !is_floating_point(theirs->second.type))
        problems += join("\n  ", piece.name, ": expected ", expected.describe(), ", found ", theirs->second.describe());
      else
        found.push_back({&theirs->second, piece});
    }
    if (found.size() < pieces.size()) continue;  // load says what is missing, by our name
    for (const tensor_piece& piece : pieces) tensors_.erase(piece.name);
    const stored_tensor& first = *found.front().from;
    if (found.size() == 1 && !pieces.front().is_transposed && pieces.front().rows.empty() && pieces.front().offset == 0) {
      tensors_.insert_or_assign(row.name, first);
      continue;
    }
    stored_tensor joined{std::string(type_name<float>), row.shape, first.file, 0,
                         static_cast<std::uint64_t>(row.size) * sizeof(float), first.name};
    joined.source = std::make_shared<detail::joined_tensor>(std::move(found), rows, columns);
    tensors_.insert_or_assign(row.name, std::move(joined));
  }
  if (!problems.empty()) fail(path_, ": does not fit the model:", problems);
}

// ---- config.json -----------------------------------------------------------------------------------------------------

namespace detail {

/// Reads a config.json key by key; what cannot be expressed becomes a line of an error.
class family_reader {
 public:
  family_reader(const json& all, std::string& problems) : all_(all), problems_(problems) {}

  [[nodiscard]] const json* find(std::string_view key) const {
    const json* const value = all_.find(key);
    return value && value->is_null() ? nullptr : value;
  }
  /// A whole number from `least`; `standard` if the key is missing or null.
  [[nodiscard]] int count(std::string_view key, int standard, int least = 1) {
    const json* const value = find(key);
    if (!value) return standard;
    if (const double number = real_of(*value); number >= least && number <= 2147483647.0 && number == std::floor(number))
      return static_cast<int>(number);
    complain(key, join("a whole number, at least ", least));
    return standard;
  }
  [[nodiscard]] bool flag(std::string_view key, bool standard) {
    const json* const value = find(key);
    if (value && !value->is_boolean()) complain(key, "true or false");
    return value && value->is_boolean() ? value->as<bool>() : standard;
  }
  [[nodiscard]] double real(std::string_view key, double standard) {
    const json* const value = find(key);
    const double number = value ? real_of(*value) : standard;
    if (!std::isfinite(number)) complain(key, "a number");
    return std::isfinite(number) ? number : standard;
  }
  [[nodiscard]] std::string text(std::string_view key, std::string_view standard) const {
    const json* const value = find(key);
    return value && value->is_string() ? value->text() : std::string(standard);
  }
  /// A key with one value that can be expressed, which is also what a missing one means.
  void only(std::string_view key, const json& expected) {
    const json* const value = find(key);
    if (value && !(*value == expected)) complain(key, join(expected.dump(), ", the only value that a fathom::config can express"));
  }
  [[nodiscard]] bool has(std::string_view key) const { return all_.find(key) != nullptr; }  // null, too
  void complain(std::string_view key, std::string_view expected) {
    const json* const value = all_.find(key);
    problems_ += join("\n  ", key, ": expected ", expected, "; found ", value ? shown(*value) : "nothing");
  }
  static double real_of(const json& value) { return value.is_number() ? value.as<double>() : std::nan(""); }

 private:
  const json& all_;
  std::string& problems_;
};

inline constexpr std::pair<std::string_view, family> family_names[] = {
    {"llama", family::llama}, {"mistral", family::mistral}, {"qwen2", family::qwen2},
    {"qwen3", family::qwen3}, {"gpt_neox", family::gpt_neox}, {"olmo2", family::olmo2}, {"gemma3_text", family::gemma3}};

/// What a missing key means: the defaults of each family's configuration class in transformers 5.24.
struct family_defaults {
  family of;
  int vocab, context, width, depth, heads, kv_heads, head_width, hidden;  // kv_heads 0: heads; head_width 0: width / heads
  double epsilon = 1e-6;
};
inline constexpr family_defaults defaults_of_families[] = {
    {family::llama, 32000, 2048, 4096, 32, 32, 0, 0, 11008},          {family::mistral, 32000, 131072, 4096, 32, 32, 8, 0, 14336},
    {family::qwen2, 151936, 32768, 4096, 32, 32, 32, 0, 22016},       {family::qwen3, 151936, 32768, 4096, 32, 32, 32, 128, 22016},
    {family::gpt_neox, 50432, 2048, 6144, 44, 64, 0, 0, 24576, 1e-5}, {family::olmo2, 50304, 2048, 4096, 32, 32, 0, 0, 11008, 1e-5},
    {family::gemma3, 262208, 131072, 2304, 26, 8, 4, 256, 9216}};

/// An object rope_scaling of older files, or rope_parameters of newer ones; `key` is its name, for errors. The context of
/// the model `of` is that of pretraining where none is given.
[[gnu::cold]] inline void read_rotary(const json& scaling, const std::string& key, const config& of, rotary_positions& to, std::string& problems) {
  std::string inner;
  family_reader part(scaling, inner);
  const std::string type = part.text("rope_type", part.text("type", "default"));
  to.base = part.count("rope_theta", to.base, 2);
  if (of.family != family::gpt_neox) part.only("partial_rotary_factor", 1.0);
  if (type == "linear") {
    to.scaling = rotary_scaling::linear;
    to.factor = part.count("factor", 1);
  } else if (type == "llama3") {
    to.scaling = rotary_scaling::llama3;
    to.factor = part.count("factor", 8);
    to.low_factor = part.count("low_freq_factor", 1);
    to.high_factor = part.count("high_freq_factor", 4);
    to.original = part.count("original_max_position_embeddings", of.context);
  } else if (type == "yarn") {
    to.scaling = rotary_scaling::yarn;
    to.factor = part.count("factor", 1);
    to.original = part.count("original_max_position_embeddings", of.context);
    part.only("beta_fast", 32.0);
    part.only("beta_slow", 1.0);
    for (const char* other : {"attention_factor", "mscale", "mscale_all_dim", "truncate"})
      if (part.find(other)) part.complain(other, "nothing");
  } else if (type != "default") {
    part.complain(part.find("rope_type") ? "rope_type" : "type", "default, linear, llama3 or yarn");
  }
  for (std::size_t at = 0; (at = inner.find("\n  ", at)) != std::string::npos; at += 3) inner.insert(at + 3, key + ".");
  problems += inner;
}
/// The one that counts; where a file has both, transformers reads rope_scaling.
[[nodiscard, gnu::cold]] inline const char* rotary_key(const family_reader& reader) {
  const json* const older = reader.find("rope_scaling");
  return older && !(older->is_object() && older->members().empty()) ? "rope_scaling" : "rope_parameters";
}
[[gnu::cold]] inline void read_rotary(family_reader& reader, config& to, std::string& problems) {
  const char* const key = rotary_key(reader);
  const json* const scaling = reader.find(key);
  if (!scaling) return;
  if (!scaling->is_object()) return reader.complain(key, "an object");
  read_rotary(*scaling, key, to, to.rotary, problems);
}

/// Gemma 3's two kinds of blocks, "sliding_attention" and "full_attention": their pattern, and their rotary positions.
[[gnu::cold]] inline void read_gemma3(family_reader& reader, config& to, std::string& problems) {
  to.window = reader.count("sliding_window", reader.has("sliding_window") ? 0 : 4096);
  to.window_pattern = reader.count("sliding_window_pattern", 6);
  if (const json* const types = reader.find("layer_types")) {
    bool fits = types->is_array() && std::cmp_equal(types->elements().size(), to.depth);
    int first = to.depth;  // block that sees all
    if (fits)
      for (int i = to.depth; i-- > 0;)
        if (types->elements()[static_cast<std::size_t>(i)] == json("full_attention")) first = i;
    to.window_pattern = first + 1;
    for (int i = 0; fits && i < to.depth; ++i)
      fits = types->elements()[static_cast<std::size_t>(i)] == json((i + 1) % to.window_pattern == 0 ? "full_attention" : "sliding_attention");
    if (!fits)
      reader.complain("layer_types", join("sliding_attention and full_attention for ", to.depth, " blocks, full in every n-th for some n, sliding in all others"));
  }
  to.score_width = reader.count("query_pre_attn_scalar", 256);
  const json* const parameters = reader.find("rope_parameters");
  if (parameters && parameters->is_object() && (parameters->find("full_attention") || parameters->find("sliding_attention"))) {
    rotary_positions local{.base = 10'000};
    const auto read = [&](const char* kind, rotary_positions& of) {
      const json* const found = parameters->find(kind);
      const std::string key = join("rope_parameters.", kind);
      if (!found || found->is_null()) return;
      if (!found->is_object())
        problems += join("\n  ", key, ": expected an object; found ", shown(*found));
      else
        read_rotary(*found, key, to, of, problems);
    };
    read("full_attention", to.rotary);
    read("sliding_attention", local);
    to.local_base = local.base;
    if (local.scaling != rotary_scaling::none) problems += "\n  rope_parameters.sliding_attention.rope_type: expected default, the only one that a fathom::config can express";
  } else {
    to.local_base = reader.count("rope_local_base_freq", 10'000, 2);
    read_rotary(reader, to, problems);
  }
  for (const char* other : {"attn_logit_softcapping", "final_logit_softcapping"})
    if (reader.find(other)) reader.complain(other, "null");
  reader.only("use_bidirectional_attention", false);
}

[[nodiscard, gnu::cold]] inline config config_of_transformers(const json& all, std::string& problems) {
  family_reader reader(all, problems);
  config c{};
  const std::string type = reader.text("model_type", "");
  const auto* const known = std::find_if(std::begin(family_names), std::end(family_names), [&](const auto& f) { return f.first == type; });
  if (known == std::end(family_names)) {
    std::string names;
    for (const auto& [name, unused] : family_names) names += join(name, ", ");
    reader.complain("model_type", join("one of ", names, "gpt2"));
    return c;
  }
  c.family = known->second;
  const bool is_neox = c.family == family::gpt_neox, is_gemma3 = c.family == family::gemma3;
  const family_defaults& standard =
      *std::find_if(std::begin(defaults_of_families), std::end(defaults_of_families), [&](const family_defaults& d) { return d.of == c.family; });
  c.vocab = reader.count("vocab_size", standard.vocab);
  c.context = reader.count("max_position_embeddings", standard.context);
  c.width = reader.count("hidden_size", standard.width);
  c.depth = reader.count("num_hidden_layers", standard.depth);
  c.heads = reader.count("num_attention_heads", standard.heads);
  c.hidden = reader.count("intermediate_size", standard.hidden);
  const bool means_heads = standard.kv_heads == 0 || reader.has("num_key_value_heads");  // null does
  c.kv_heads = is_neox ? c.heads : reader.count("num_key_value_heads", means_heads ? c.heads : standard.kv_heads);
  c.head_width = reader.count("head_dim", standard.head_width);
  c.tied = reader.flag("tie_word_embeddings", is_gemma3);
  const char* const epsilon_key = is_neox ? "layer_norm_eps" : "rms_norm_eps";
  const double inverse = 1 / reader.real(epsilon_key, standard.epsilon);
  c.inverse_epsilon = inverse >= 1 && inverse < 2e9 ? static_cast<int>(std::llround(inverse)) : 1;
  if (!(inverse < 2e9 && std::abs(inverse - c.inverse_epsilon) <= 1e-6 * inverse)) reader.complain(epsilon_key, "1 / a whole number");
  if (is_gemma3)
    reader.only("hidden_activation", "gelu_pytorch_tanh");
  else
    reader.only("hidden_act", is_neox ? "gelu" : "silu");
  reader.only("attention_bias", is_neox || c.family == family::qwen2);
  reader.only("mlp_bias", false);
  reader.only("is_encoder_decoder", false);
  if (reader.find("quantization_config")) reader.complain("quantization_config", "null");
  c.rotary.base = reader.count(is_neox && (reader.find("rotary_emb_base") || !reader.find("rope_theta")) ? "rotary_emb_base" : "rope_theta", is_gemma3 ? 1'000'000 : 10'000, 2);
  if (is_gemma3)
    read_gemma3(reader, c, problems);
  else
    read_rotary(reader, c, problems);
  if (!is_neox) reader.only("partial_rotary_factor", 1.0);
  if (is_neox) {
    reader.only("use_parallel_residual", true);
    const json* const parameters = reader.find(rotary_key(reader));
    const json* const partial = parameters && parameters->is_object() ? parameters->find("partial_rotary_factor") : nullptr;
    const double part = partial ? family_reader::real_of(*partial) : reader.real("rotary_pct", reader.real("partial_rotary_factor", 0.25));
    if (part > 0 && part <= 1)
      c.rotary.width = static_cast<int>(part * (c.width / c.heads));
    else
      problems += join("\n  partial_rotary_factor: expected a number above 0, at most 1; found ", part);
  }
  if (c.family == family::mistral) c.window = reader.count("sliding_window", reader.has("sliding_window") ? 0 : 4096);
  if (c.family == family::qwen2 || c.family == family::qwen3) reader.only("use_sliding_window", false);
  return normalized(c);
}

}  // namespace detail

FATHOM_INLINE config config_of_transformers(std::string_view text, std::string& problems) {
  const std::optional<json> all = json::parse(text);
  if (all && all->is_object()) return detail::config_of_transformers(*all, problems);
  problems += "\n  is not a JSON object";
  return {};
}

FATHOM_INLINE std::string family_differences(const config& expected, const config& found) {
  std::string problems;
  const auto compare = [&](const char* member, const auto& mine, const auto& theirs) {
    if (mine != theirs) problems += join("\n  ", member, ": the model has ", mine, ", the file ", theirs);
  };
  const auto family_of = [&](const config& c) { return detail::name_of(c.family, detail::names_of_families); };
  const auto scaling_of = [&](const config& c) { return detail::name_of(c.rotary.scaling, detail::scaling_names); };
  compare("family", family_of(expected), family_of(found));
  compare("vocab", expected.vocab, found.vocab);
  if (expected.context > found.context) problems += join("\n  context: the model has ", expected.context, ", the file at most ", found.context);
  compare("width", expected.width, found.width);
  compare("depth", expected.depth, found.depth);
  compare("heads", expected.heads, found.heads);
  compare("kv_heads", expected.kv_heads, found.kv_heads);
  compare("head_width", expected.head_width, found.head_width);
  compare("hidden", expected.hidden, found.hidden);
  compare("tied", expected.tied, found.tied);
  compare("window", expected.window, found.window);
  compare("window_pattern", expected.window_pattern, found.window_pattern);
  compare("local_base", expected.local_base, found.local_base);
  compare("score_width", expected.score_width, found.score_width);
  compare("inverse_epsilon", expected.inverse_epsilon, found.inverse_epsilon);
  compare("rotary.base", expected.rotary.base, found.rotary.base);
  compare("rotary.width", expected.rotary.width, found.rotary.width);
  compare("rotary.scaling", scaling_of(expected), scaling_of(found));
  compare("rotary.factor", expected.rotary.factor, found.rotary.factor);
  compare("rotary.low_factor", expected.rotary.low_factor, found.rotary.low_factor);
  compare("rotary.high_factor", expected.rotary.high_factor, found.rotary.high_factor);
  compare("rotary.original", expected.rotary.original, found.rotary.original);
  return problems;
}

FATHOM_INLINE std::string to_family_json(const config& given, std::string_view type) {
  const config c = normalized(given);
  const bool is_neox = c.family == family::gpt_neox, is_gemma3 = c.family == family::gemma3;
  const auto* const name = std::find_if(std::begin(detail::family_names), std::end(detail::family_names), [&](const auto& f) { return f.second == c.family; });
  constexpr std::pair<family, const char*> classes[] = {
      {family::llama, "LlamaForCausalLM"}, {family::mistral, "MistralForCausalLM"}, {family::qwen2, "Qwen2ForCausalLM"},
      {family::qwen3, "Qwen3ForCausalLM"}, {family::gpt_neox, "GPTNeoXForCausalLM"}, {family::olmo2, "Olmo2ForCausalLM"},
      {family::gemma3, "Gemma3ForCausalLM"}};
  json all = json::object();
  for (const auto& [of, its] : classes)
    if (of == c.family) all["architectures"].push_back(its);
  all["model_type"] = std::string(name->first);
  all["vocab_size"] = c.vocab;
  all["max_position_embeddings"] = c.context;
  all["hidden_size"] = c.width;
  all["num_hidden_layers"] = c.depth;
  all["num_attention_heads"] = c.heads;
  all["intermediate_size"] = c.hidden;
  all["tie_word_embeddings"] = c.tied;
  if (is_gemma3)
    all["hidden_activation"] = "gelu_pytorch_tanh";
  else
    all["hidden_act"] = is_neox ? "gelu" : "silu";
  all[is_neox ? "layer_norm_eps" : "rms_norm_eps"] = 1.0 / c.inverse_epsilon;
  if (!is_neox) {
    all["num_key_value_heads"] = c.kv_heads;
    all["head_dim"] = c.head_width;
  }
  if (c.family == family::mistral || is_gemma3) all["sliding_window"] = c.window > 0 ? json(c.window) : json();
  if (c.family == family::llama || c.family == family::olmo2 || c.family == family::qwen3 || is_gemma3) all["attention_bias"] = false;
  if (is_neox) {
    all["attention_bias"] = true;
    all["use_parallel_residual"] = true;
    all["rotary_pct"] = static_cast<double>(c.rotary.width) / c.head_width;
    all["rotary_emb_base"] = c.rotary.base;
  }
  // Both as older and as newer versions of transformers read it.
  all["rope_theta"] = static_cast<double>(c.rotary.base);
  json scaling = json::object();
  constexpr const char* kinds[] = {"default", "linear", "llama3", "yarn"};
  scaling["rope_type"] = kinds[static_cast<std::size_t>(c.rotary.scaling)];
  if (c.rotary.scaling != rotary_scaling::none) scaling["factor"] = static_cast<double>(c.rotary.factor);
  if (c.rotary.scaling == rotary_scaling::llama3) {
    scaling["low_freq_factor"] = static_cast<double>(c.rotary.low_factor);
    scaling["high_freq_factor"] = static_cast<double>(c.rotary.high_factor);
  }
  if (c.rotary.original > 0) scaling["original_max_position_embeddings"] = c.rotary.original;
  all["rope_scaling"] = c.rotary.scaling == rotary_scaling::none ? json() : scaling;
  scaling["rope_theta"] = static_cast<double>(c.rotary.base);
  if (is_neox) scaling["partial_rotary_factor"] = static_cast<double>(c.rotary.width) / c.head_width;
  all["rope_parameters"] = scaling;
  if (is_gemma3) {
    all["query_pre_attn_scalar"] = c.score_width;
    all["sliding_window_pattern"] = c.window_pattern;
    all["layer_types"] = json::array();
    for (int i = 0; i < c.depth; ++i) all["layer_types"].push_back((i + 1) % c.window_pattern == 0 ? "full_attention" : "sliding_attention");
    all["rope_local_base_freq"] = static_cast<double>(c.local_base);
    json local = json::object(), both = json::object();
    local["rope_type"] = "default";
    local["rope_theta"] = static_cast<double>(c.local_base);
    both["full_attention"] = scaling;
    both["sliding_attention"] = local;
    all["rope_parameters"] = both;
    all["rope_scaling"] = c.rotary.scaling == rotary_scaling::none ? json() : scaling;
  }
  for (const char* special : {"bos_token_id", "eos_token_id", "pad_token_id"}) all[special] = json();
  all["dtype"] = type;
  return all.dump(2);
}

FATHOM_INLINE void write_family(const std::filesystem::path& folder, const model_numbers& weights, const config& of) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) fail(folder.string(), ": cannot be made: ", problem.message());
  const config c = normalized(of);
  const std::size_t bytes = bytes_of_type(weights.type);
  std::vector<tensor_to_write> tensors;
  std::list<std::vector<std::byte>> made;
  for (const tensor_row& row : weights.table) {
    const index rows = row.shape.size() == 2 ? row.shape[0] : 1, columns = row.shape.back();
    const std::byte* const from = weights.begin + row.offset;
    index first = 0;
    for (const tensor_piece& piece : pieces_in_transformers(c, row.name)) {
      std::vector<std::byte>& to = made.emplace_back(static_cast<std::size_t>(rows * piece.columns) * bytes);
      for (index j = 0; j < piece.columns; ++j) {
        const index theirs = piece.rows.empty() ? j : piece.rows[static_cast<std::size_t>(j)];
        for (index i = 0; i < rows; ++i)
          std::memcpy(to.data() + static_cast<std::size_t>(piece.is_transposed ? theirs * rows + i : i * piece.columns + theirs) * bytes,
                      from + static_cast<std::size_t>(i * columns + first + j) * bytes, bytes);
      }
      first += piece.columns;
      std::vector<index> shape = {piece.columns};
      if (row.shape.size() == 2) shape = piece.is_transposed ? std::vector<index>{piece.columns, rows} : std::vector<index>{rows, piece.columns};
      tensors.push_back({piece.name, std::string(weights.type), std::move(shape), to});
    }
  }
  // Both files are complete before either gets its name.
  atomic_file file(folder / "config.json");
  file.write(to_family_json(c, weights.type == "F64" ? "float64" : "float32") + "\n");
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  file.commit();
}

FATHOM_INLINE void check_family_config(const config& given, const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  std::string problems;
  const json all = detail::read_json(path);
  const config found = all.is_object() ? detail::config_of_transformers(all, problems) : config{};
  if (!all.is_object()) problems += "\n  is not a JSON object";
  if (problems.empty()) problems += family_differences(normalized(given), found);
  if (!problems.empty()) fail(path.string(), ": does not fit the model:", problems);
}

}  // namespace fathom::io
