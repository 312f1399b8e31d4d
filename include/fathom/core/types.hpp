// The basic types of the whole library.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <cstdint>

namespace fathom {

/// One symbol of a sequence: a number in [0, vocab). As a target, -1 means "not counted".
using token = std::int32_t;

/// Sizes, offsets and strides: 64 bits and signed, so that differences are safe.
using index = std::ptrdiff_t;

/// Every tensor begins at a multiple of this many bytes: a cache line, and the widest vector register.
inline constexpr std::size_t alignment = 64;

/// What one pass runs over: `sequences` sequences of `tokens` consecutive tokens each.
/// All activations of the pass are matrices of rows() = sequences * tokens rows, row s * tokens + t.
struct extent {
  index sequences = 0;
  index tokens = 0;
  const index* starts = nullptr;  // decoding: the position of each sequence's first token here; null: all begin at 0
  index capacity = 0;             // decoding: positions that the caches hold for each sequence
  index first = 0;                // decoding: index in the caches of the first sequence here

  [[nodiscard]] constexpr index rows() const { return sequences * tokens; }
  [[nodiscard]] constexpr index start(index sequence) const { return starts ? starts[sequence] : 0; }
};

}  // namespace fathom
