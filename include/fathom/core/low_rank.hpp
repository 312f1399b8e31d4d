// Sums of a matrix and products of low rank.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// w += scale (a b - a_before b_before), row by row, in w's type.   w [In, Out], a [In, r], b [r, Out]
template <class T>
void add_low_rank(matrix<T> w, double scale, matrix<const T> a, matrix<const T> b, matrix<const T> a_before = {},
                  matrix<const T> b_before = {}) {
  std::vector<T> sum(static_cast<std::size_t>(w.columns));
  const auto add_row = [&](index i, const matrix<const T>& left, const matrix<const T>& right, double factor) {
    for (index k = 0; k < left.columns; ++k) {
      const T x = static_cast<T>(factor) * left(i, k);
      const T* const y = right.row(k);
      for (index j = 0; j < w.columns; ++j) sum[static_cast<std::size_t>(j)] += x * y[j];
    }
  };
  for (index i = 0; i < w.rows; ++i) {
    std::fill(sum.begin(), sum.end(), T(0));
    add_row(i, a, b, scale);
    if (a_before.data) add_row(i, a_before, b_before, -scale);
    for (index j = 0; j < w.columns; ++j) w(i, j) += sum[static_cast<std::size_t>(j)];
  }
}

}  // namespace fathom
