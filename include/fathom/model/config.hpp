// The config of a model: a constexpr value that a user writes.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstdint>

#include "fathom/core/depth_set.hpp"

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
  joint                    // one softmax over the block's own context and the features
};

/// Layerwise attention shortcuts (Verma and Pilanci, arXiv 2409.10870). Without depths there is no shortcut: GPT-2.
struct shortcut {
  depth_set depths{};
  feature_map features = feature_map::mlp;
  int hidden = 0;  // hidden width of an mlp feature map; 0 means width. Ignored by the other two
  fathom::placement placement = fathom::placement::after_self_attention;
  bool zero_init = false;  // start with shortcut.attn.c_proj = 0; after_self_attention is then exactly the plain GPT

  friend constexpr bool operator==(const shortcut&, const shortcut&) = default;
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

  friend constexpr bool operator==(const config&, const config&) = default;
};

/// Writes a config out: replaces defaults by what they stand for, and resets settings without meaning, so that equal
/// architectures are equal values. Leaves invalid values as they are.
[[nodiscard]] constexpr config normalized(config c) {
  if (c.hidden == 0) c.hidden = 4 * c.width;
  shortcut& s = c.shortcut;
  if (s.depths.every && c.depth >= 2 && c.depth <= 64)
    s.depths = depth_set::from_bits((c.depth == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << c.depth) - 1) & ~std::uint64_t{1});
  if (s.depths.empty()) s = {};
  if (s.features != feature_map::mlp && s.hidden >= 0) s.hidden = 0;
  if (s.features == feature_map::mlp && s.hidden == 0 && !s.depths.empty()) s.hidden = c.width;
  return c;
}

}  // namespace fathom
