// The factor of a norm, from the mean square of a row.
#pragma once

#include <cmath>

#include "fathom/core/anywhere.hpp"

namespace fathom {

/// 1 / sqrt(mean_square + eps). NaN where the mean square is infinite, as numbers beyond 1e19 have no square in float: a factor
/// of 0 would make a row of zeros of them, which passes for a result.
template <class T>
[[nodiscard]] FATHOM_ANYWHERE inline T norm_scale(T mean_square, T eps) {
  using std::sqrt;
  return T(1) / sqrt(mean_square + eps) + (mean_square - mean_square);  // + 0, or + NaN
}

}  // namespace fathom
