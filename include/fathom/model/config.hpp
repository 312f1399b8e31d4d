// What a user writes down to own a model: a constexpr value.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <bit>
#include <concepts>
#include <cstdint>

namespace fathom {

/// A set of depths. Depth 0 is the embedding, depth s >= 1 the output of block s. Order does not matter: {3, 1} and
/// {1, 3} are the same value, and so make the same model type. Depths above 63 cannot be selected.
struct depth_set {
  std::uint64_t bits = 0;       // bit s: depth s is selected
  std::int64_t impossible = 0;  // the last depth given that lies outside of 0..63; 0 when there is none
  std::int64_t repeated = -1;   // the last depth given twice; -1 when there is none
  bool every = false;           // all_depths: resolved when the number of blocks is known

  constexpr depth_set() = default;
  template <std::integral... Depths>
  consteval depth_set(Depths... depths) {  // NOLINT: {2, 4} is how a set is written
    (add(static_cast<std::int64_t>(depths)), ...);
  }
  [[nodiscard]] static constexpr depth_set from_bits(std::uint64_t bits) {
    depth_set set;
    set.bits = bits;
    return set;
  }

  [[nodiscard]] constexpr int count() const { return std::popcount(bits); }
  [[nodiscard]] constexpr bool empty() const { return bits == 0 && !every && impossible == 0; }
  [[nodiscard]] constexpr bool contains(int depth) const { return depth >= 0 && depth < 64 && (bits >> depth & 1u); }
  [[nodiscard]] constexpr int largest() const { return static_cast<int>(std::bit_width(bits)) - 1; }
  /// The n-th smallest selected depth, n from 0.
  [[nodiscard]] constexpr int operator[](int n) const {
    std::uint64_t rest = bits;
    for (; n > 0; --n) rest &= rest - 1;
    return std::countr_zero(rest);
  }
  friend constexpr bool operator==(const depth_set&, const depth_set&) = default;

 private:
  consteval void add(std::int64_t depth) {
    if (depth < 0 || depth > 63)
      impossible = depth;
    else if (bits >> depth & 1u)
      repeated = depth;
    else
      bits |= std::uint64_t{1} << depth;
  }
};

/// Every block's output but the last's: depths 1, ..., L-1.
inline constexpr depth_set all_depths = [] {
  depth_set set;
  set.every = true;
  return set;
}();

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
  int hidden = 0;  // hidden width of an mlp feature map; 0 means width. Without meaning for the other two
  fathom::placement placement = fathom::placement::after_self_attention;
  bool zero_init = false;  // start with shortcut.attn.c_proj = 0; after_self_attention is then exactly the plain GPT

  friend constexpr bool operator==(const shortcut&, const shortcut&) = default;
};

/// The architecture of a model.
struct config {
  int vocab = 0;    // V, number of different tokens
  int context = 0;  // T, most tokens that a sequence can have
  int width = 0;    // E, numbers per token between the blocks
  int depth = 0;    // L, number of blocks
  int heads = 0;    // H, attention heads; each is E/H wide
  int hidden = 0;   // hidden width of the MLPs; 0 means 4 * width
  bool tied = true;  // the output projection is the transposed token embedding
  fathom::shortcut shortcut{};

  friend constexpr bool operator==(const config&, const config&) = default;
};

/// The same architecture, written out: defaults replaced by what they stand for and settings without meaning reset, so
/// that equal architectures are equal values. Leaves invalid values as they are.
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
