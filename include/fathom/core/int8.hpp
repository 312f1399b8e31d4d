// Stores the numbers of a column as int8 with one scale: number = scale * int8. Weights packed in memory
// (backend/cpu/packed.hpp) and weights in files (io/conversion.hpp) share this rule of rounding.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <algorithm>
#include <cstdint>
#include <limits>

namespace fathom {

/// The scale of a column maps its largest magnitude to 127. Where the scale would be subnormal, the whole column is 0;
/// so rounding twice gives the same scale and the same bytes as rounding once.
[[nodiscard]] inline float int8_scale(float largest) {
  const float scale = largest / 127;
  return scale < std::numeric_limits<float>::min() ? 0 : scale;
}

/// Rounds to the nearest, halves away from 0, within [-127, 127].
[[nodiscard]] inline std::int8_t to_int8(float value, float scale) {
  const float ratio = scale > 0 ? std::max(-127.f, std::min(value / scale, 127.f)) : 0;  // not NaN even if the value is
  const int whole = static_cast<int>(ratio);  // towards 0, remainder exact; std::lround is several times as slow
  const float left = ratio - static_cast<float>(whole);
  return static_cast<std::int8_t>(whole + (left >= 0.5f) - (left <= -0.5f));
}

}  // namespace fathom
