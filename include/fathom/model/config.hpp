// The config of a model: a constexpr value that a user writes.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstdint>

#include "fathom/core/depth_set.hpp"
#include "fathom/model/residual.hpp"

namespace fathom {

/// How a selected depth becomes features (../README.md, "Shortcut"):
enum class feature_map {
  identity,  // LN(X)
  linear,    // LN(X) W + b
  mlp        // GELU(LN(X) W1 + b1) W2 + b2
};

/// Where the last block attends to the features:
enum class placement {
  after_self_attention,    // a sublayer of its own between self-attention and MLP
  replace_self_attention,  // instead of self-attention
  joint,                   // one softmax over the block's own context and the features
  before_self_attention,   // a sublayer of its own before self-attention; not the paper's
  own_values               // added to the values of the block's self-attention, at the same token; not the paper's
};

/// What features are made of:
enum class shortcut_source {
  outputs,      // the selected depths
  differences,  // each depth minus the selected depth before it
  own_input,    // a control: the input of the block that reads, in place of every depth, at the same cost
  values,       // of the self-attentions of the blocks whose outputs the depths are, as they are, with what these blocks added, for
                // placement::own_values: with depth 1, a value residual (arXiv 2410.17897)
  tokens        // a learned embedding of each token in place of depth 0, the only one then, for placement::own_values: value embeddings
                // (layer/token_values.hpp)
};
/// Learned factors of the features' values, from 0 (layer/attention.hpp):
enum class shortcut_gate { none, head, head_and_depth };
/// How scores fall with the distance between query and features (backend/distance_slopes.hpp):
enum class shortcut_slopes { none, alibi, learned };
/// How a head takes less than all of what it attends to (layer/attention.hpp):
enum class shortcut_exit { none, sink, sigmoid };

/// Every block looks back, as a value of shortcut::blocks.
inline constexpr int all_blocks = -1;

/// Layerwise attention shortcuts (Verma and Pilanci, arXiv 2409.10870). Without depths there is no shortcut: GPT-2. The members
/// from `blocks` on are not the paper's; their defaults are what it says. What goes together is in shortcut_rules.hpp.
struct shortcut {
  depth_set depths{};
  feature_map features = feature_map::mlp;
  int hidden = 0;  // hidden width of an mlp feature map; 0 means width. Ignored by the other two
  fathom::placement placement = fathom::placement::after_self_attention;
  bool zero_init = false;  // start with shortcut.attn.c_proj = 0; after_self_attention is then exactly the plain GPT
  int blocks = 1;          // the last blocks that look back, each with its own features, at those of the depths that are not above
                           // its input; or all_blocks
  shortcut_source source = shortcut_source::outputs;
  bool unit_features = false;  // features are RMS-normed, the last step of their map; W_kv starts so that keys and values are, too
  bool head_norms = false;     // RMS norms of each head's queries and keys, and a learned temperature for each head, from 1. With joint
                               // and own_values, of the block's self-attention; not in olmo2 then, which has other norms
  bool depth_bias = false;     // scores have a learned bias for each head and depth, from 0; not with own_values
  shortcut_gate gate = shortcut_gate::none;
  shortcut_slopes slopes = shortcut_slopes::none;
  int rotary = 0;  // gpt2 only: base of rotary positions of queries and keys; 0: none. Other families have their own
  shortcut_exit exit = shortcut_exit::none;

  friend constexpr bool operator==(const shortcut&, const shortcut&) = default;
};

/// The family of a body: which norms, attention, MLP and positions its blocks have (model/families.hpp).
enum class family {
  gpt2,      // the default, and the only one of this list with learned positions
  llama,     // Llama 2 and 3, TinyLlama, SmolLM2
  mistral,   // Llama's with a sliding window
  qwen2,     // Llama's with biases of queries, keys and values
  qwen3,     // Llama's with norms of queries and keys
  gpt_neox,  // Pythia: two sublayers side by side, of which attention turns a part of each head
  olmo2,     // norms after the sublayers, and of queries and keys
  gemma3     // norms before and after the sublayers; windows in most blocks
};

/// How rotary frequencies change for a longer context than in pretraining (layer/rotary.hpp).
enum class rotary_scaling { none, linear, llama3, yarn };

/// Rotary positions, for all families but gpt2.
struct rotary_positions {
  int base = 10'000;
  int width = 0;  // numbers of each head that turn; 0: all
  rotary_scaling scaling = rotary_scaling::none;
  int factor = 1;                  // of the context, with a scaling
  int low_factor = 1, high_factor = 4;  // llama3 only
  int original = 0;                // context of pretraining, for llama3 and yarn

  friend constexpr bool operator==(const rotary_positions&, const rotary_positions&) = default;
};

/// The architecture of a model.
struct config {
  int vocab = 0;    // V, number of different tokens
  int context = 0;  // T, the most tokens of a sequence
  int width = 0;    // E, numbers per token between the blocks
  int depth = 0;    // L, number of blocks
  int heads = 0;    // H, attention heads; each is E/H wide
  int hidden = 0;   // hidden width of the MLPs; 0 means 4 * width
  bool tied = true;  // the output projection is the transposed token embedding
  fathom::shortcut shortcut{};
  fathom::family family = fathom::family::gpt2;
  // What follows has no meaning in the family gpt2.
  int kv_heads = 0;    // key-value heads, a divisor of heads; 0: as many as heads
  int head_width = 0;  // 0: width / heads
  int window = 0;      // mistral, and some blocks of gemma3: the positions that a query sees; 0: all
  rotary_positions rotary{};
  int inverse_epsilon = 100'000;  // 1 / epsilon of the norms
  // gemma3 only.
  int window_pattern = 0;  // n: every n-th block sees all positions, the others have the window; 0: 6
  int local_base = 0;      // rotary base of blocks with the window, which have no scaling; 0: 10,000
  int score_width = 0;     // scores are products over its square root (query_pre_attn_scalar); 0: head_width
  // Of all families.
  residual_connections residual{};  // how the depths below a block become its input

  friend constexpr bool operator==(const config&, const config&) = default;
};

/// The members of a shortcut from `blocks` on, as one number: a template argument that stays short in names of types.
[[nodiscard]] constexpr std::uint64_t options_in(const shortcut& s) {
  std::uint64_t bits = 0;
  int at = 0;
  const auto put = [&](auto value, int width) {
    bits |= (static_cast<std::uint64_t>(value) & ((std::uint64_t{1} << width) - 1)) << at;
    at += width;
  };
  put(s.blocks, 16), put(s.source, 3), put(s.unit_features, 1), put(s.head_norms, 1), put(s.depth_bias, 1), put(s.gate, 2);
  put(s.slopes, 2), put(s.exit, 2), put(s.rotary, 32);
  return bits;
}
/// A shortcut with the members that such a number holds.
[[nodiscard]] constexpr shortcut with_options(shortcut s, std::uint64_t bits) {
  const auto take = [&]<class T>(T& value, int width) {
    value = static_cast<T>(bits & ((std::uint64_t{1} << width) - 1));
    bits >>= width;
  };
  take(s.blocks, 16), take(s.source, 3), take(s.unit_features, 1), take(s.head_norms, 1), take(s.depth_bias, 1), take(s.gate, 2);
  take(s.slopes, 2), take(s.exit, 2), take(s.rotary, 32);
  return s;
}

/// Writes a config out: replaces defaults by what they stand for, and resets settings without meaning, so that equal
/// architectures are equal values. Leaves invalid values as they are.
[[nodiscard]] constexpr config normalized(config c) {
  if (c.hidden == 0) c.hidden = 4 * c.width;
  if (c.family == family::gpt2) {
    c.kv_heads = c.head_width = c.window = 0;
    c.rotary = {};
    c.inverse_epsilon = 100'000;
    c.window_pattern = c.local_base = c.score_width = 0;
  } else {
    if (c.kv_heads == 0) c.kv_heads = c.heads;
    if (c.head_width == 0 && c.heads > 0) c.head_width = c.width / c.heads;
    if (c.rotary.width == 0) c.rotary.width = c.head_width;
    if (c.rotary.scaling == rotary_scaling::none) c.rotary.factor = 1;
    if (c.rotary.scaling != rotary_scaling::llama3) c.rotary.low_factor = 1, c.rotary.high_factor = 4;
    if (c.rotary.scaling != rotary_scaling::llama3 && c.rotary.scaling != rotary_scaling::yarn) c.rotary.original = 0;
    if (c.family != family::mistral && c.family != family::gemma3) c.window = 0;
    if (c.family != family::gemma3) {
      c.window_pattern = c.local_base = c.score_width = 0;
    } else {
      if (c.window_pattern == 0) c.window_pattern = 6;
      if (c.window_pattern > c.depth && c.depth > 0) c.window_pattern = c.depth + 1;  // no block sees all
      if (c.local_base == 0) c.local_base = 10'000;
      if (c.score_width == 0) c.score_width = c.head_width;
    }
  }
  c.residual = normalized(c.residual, c.depth);
  shortcut& s = c.shortcut;
  if (s.depths.every && c.depth >= 2 && c.depth <= 64)
    s.depths = depth_set::from_bits((c.depth == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << c.depth) - 1) & ~std::uint64_t{1});
  if (s.depths.empty()) s = {};
  if (s.blocks == all_blocks) s.blocks = c.depth;
  if (s.source == shortcut_source::values || s.source == shortcut_source::tokens) {  // no features
    s.features = feature_map::identity;
    s.unit_features = false;
    s.hidden = s.hidden < 0 ? s.hidden : 0;
  }
  if (c.family != family::gpt2) s.rotary = 0;
  if (s.features != feature_map::mlp && s.hidden >= 0) s.hidden = 0;
  if (s.features == feature_map::mlp && s.hidden == 0 && !s.depths.empty()) s.hidden = c.width;
  return c;
}

}  // namespace fathom
