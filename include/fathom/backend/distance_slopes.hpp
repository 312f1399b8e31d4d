// Scores that fall with distance, instead of positions that are added to the embedding (ALiBi: Press, Smith and Lewis,
// arXiv 2108.12409, section 3): from the score of a query at position p and a key at position j, head h subtracts
// slope_h * (p - j).
//
// The attention operations take slopes as their last argument. Rows of memory that belong to one position are equally far.
//
// The same argument carries learned biases of scores, which may be there with slopes or without: one number for each head and
// each of the rows that a position owns. A head that attends to several depths thus prefers some, whatever the query.
#pragma once

#include <cmath>
#include <type_traits>

#include "fathom/core/anywhere.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// ALiBi's slope of a head: for n heads, a power of two, 2^(-8/n), 2^(-16/n), ..., 2^-8. For other numbers of heads, as
/// in the code of the paper (ofirpress/attention_with_linear_biases): first the slopes of the largest power of two n
/// below, then every other slope of 2 n heads, from the first. T is a floating-point type.
template <class T>
[[nodiscard]] FATHOM_ANYWHERE inline T alibi_slope(index head, index heads) {
  index n = 1;
  while (2 * n <= heads) n *= 2;
  const index nth = head < n ? 2 * (head + 1) : 2 * (head - n) + 1;  // of the slopes of 2 n heads, from 1
  return std::exp2(static_cast<T>(-4 * nth) / static_cast<T>(n));
}

/// The slopes of an attention: learned ones, or ALiBi's; and its biases. A value type, so that it can be an argument of a GPU
/// kernel.
template <class T>
struct distance_slopes {
  bool are_there = false;
  const T* learned = nullptr;  // [heads]; null: ALiBi's
  const T* biases = nullptr;   // [rows_per_position, heads], added to scores of the n-th rows of all positions; null: none

  [[nodiscard]] FATHOM_ANYWHERE inline T of(index head, index heads) const {
    if (learned) return learned[head];
    if constexpr (std::is_floating_point_v<T>)
      return alibi_slope<T>(head, heads);
    else
      return static_cast<T>(alibi_slope<double>(head, heads));
  }
  /// The bias of a row of memory; only if there are biases.
  [[nodiscard]] FATHOM_ANYWHERE inline T bias(index head, index heads, index row, index rows_per_position) const {
    return biases[row % rows_per_position * heads + head];
  }
};
/// Stands for slopes where there are none.
struct no_slopes {};

}  // namespace fathom
