// The two 16-bit floating-point formats of weights, as storage: arithmetic happens in float.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <bit>
#include <cstdint>

namespace fathom {

/// bfloat16: the upper half of a float. Conversion from float rounds to nearest, ties to even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  constexpr explicit bf16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const bool nan = (word & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? (word >> 16) | 0x40u : (word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
  }
  constexpr explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE 754 binary16: some checkpoints store it, and so do groups of few bits their scales (grouped.hpp).
struct f16 {
  std::uint16_t bits;

  constexpr explicit operator float() const {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1fu;
    const std::uint32_t fraction = bits & 0x3ffu;
    if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));  // infinity, NaN
    if (exponent == 0) {                                                                          // zero, subnormal
      const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
  }
};
/// Rounds to the nearest, ties to even; beyond 65504 to infinity. NaN stays NaN.
[[nodiscard]] constexpr f16 to_f16(float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (word >> 16) & 0x8000u, magnitude = word & 0x7fffffffu;
  std::uint32_t bits = 0;
  if (magnitude > 0x7f800000u)
    bits = 0x7e00u;
  else if (magnitude >= 0x477ff000u)
    bits = 0x7c00u;
  else if (magnitude < 0x38800000u)  // subnormal: the sum with 0.5 is rounded to a multiple of 2^-24
    bits = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  else
    bits = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
  return {static_cast<std::uint16_t>(sign | bits)};
}

}  // namespace fathom
