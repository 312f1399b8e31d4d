// Rotary positions: the angles by which pairs of a head's numbers turn (Su et al., arXiv 2104.09864).
//
//   rotate(on, e, r, x, head_width, rows_per_position, sign)
//
// turns, in each head of x [e.rows() * rows_per_position, heads * head_width], pair i by the angle
// sign * position * r.frequencies[i], and multiplies it by r.scale. Rows r of x have the position of row
// r / rows_per_position of the pass. sign = -1 is the transposed map, which backward needs.
#pragma once

#include <cmath>

#include "fathom/core/anywhere.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// A value type, so that it can be an argument of a GPU kernel.
struct rotation {
  static constexpr index most_pairs = 128;
  index pairs = 0;            // that turn, from the first; the numbers after 2 * pairs stay as they are
  bool are_adjacent = false;  // pairs (2 i, 2 i + 1), as in GPT-J; otherwise (i, i + pairs), as in GPT-NeoX and Llama
  float scale = 1;            // of the pairs that turn (YaRN's attention factor)
  float frequencies[most_pairs]{};  // radians per position

  /// The angle of a pair, rounded to float as trained models round it: the product of a float position and frequency.
  [[nodiscard]] FATHOM_ANYWHERE float angle(index position, index pair) const {
    return static_cast<float>(position) * frequencies[pair];
  }
  /// Where the two numbers of a pair lie in a head.
  [[nodiscard]] FATHOM_ANYWHERE constexpr index first(index pair) const { return are_adjacent ? 2 * pair : pair; }
  [[nodiscard]] FATHOM_ANYWHERE constexpr index second(index pair) const { return are_adjacent ? 2 * pair + 1 : pair + pairs; }
};

}  // namespace fathom
