// The basic types of the whole library.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <cstdint>

#include "fathom/core/anywhere.hpp"

namespace fathom {

/// One symbol of a sequence: a number in [0, vocab). As a target, -1 means "not counted".
using token = std::int32_t;

/// Sizes, offsets and strides: 64 bits and signed, so that differences are safe.
using index = std::ptrdiff_t;

/// Every tensor begins at a multiple of this many bytes: a cache line, and the widest vector register.
inline constexpr std::size_t alignment = 64;

/// The most tokens of a sequence that decoding reads at a time.
inline constexpr index most_tokens_at_once = 256;

/// Which positions of its sequences a cache holds: all of them, or, for a layer with a window, the last ones. Of `length`
/// tokens these are [first(sequence, length), length), in order: position p is at place p - first(sequence, length).
/// Places depend on nothing but lengths, so that work recorded for one token can be replayed for the next.
struct held_positions {
  index at_least = 0;              // how many of the last positions are held, at least; 0: all positions are
  const index* reached = nullptr;  // [sequences], the lengths before they were truncated; null: none was

  static constexpr index step = 64;  // first() is a multiple; whenever it grows, all positions move (attention_slide)
  [[nodiscard]] FATHOM_ANYWHERE constexpr index first(index sequence, index length) const {
    if (at_least == 0) return 0;
    if (reached && reached[sequence] > length) length = reached[sequence];
    return length <= at_least ? 0 : (length - at_least) / step * step;
  }
};

/// What one pass runs over: `sequences` sequences of `tokens` consecutive tokens each.
/// All activations of the pass are matrices of rows() = sequences * tokens rows, row s * tokens + t.
struct extent {
  index sequences = 0;
  index tokens = 0;
  const index* starts = nullptr;  // decoding: the position of each sequence's first token here; null: all begin at 0
  index capacity = 0;             // decoding: positions that the caches have places for, for each sequence
  index first = 0;                // decoding: index in the caches of the first sequence here
  held_positions held{};          // decoding: the positions that the cache of a layer holds

  [[nodiscard]] constexpr index rows() const { return sequences * tokens; }
  [[nodiscard]] constexpr index start(index sequence) const { return starts ? starts[sequence] : 0; }
  /// The place of each sequence's first token here in a layer's cache.
  [[nodiscard]] constexpr index place(index sequence) const { return start(sequence) - held.first(sequence, start(sequence)); }
  /// How far the positions of a sequence move at the end of the pass.
  [[nodiscard]] constexpr index slides(index sequence) const {
    return held.first(sequence, start(sequence) + tokens) - held.first(sequence, start(sequence));
  }
};

}  // namespace fathom
