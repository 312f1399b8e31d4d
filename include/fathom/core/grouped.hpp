// Numbers in groups of 32 that share a scale: four or eight bits each. A group is 32 consecutive rows of one column of a
// matrix [in, out], so that a sum of products over a group is a sum of integers, times the scale.
//
//   int4            q * scale + offset    q in [0, 15]       5 bits a number; the numbers of a Q4_1 block, or Q4_0
//   symmetric_int4  (q - 8) * scale       q in [0, 15]       4.5 bits; the numbers of a Q4_0 block
//   grouped_int8    (q - 128) * scale     q in [0, 255]      8.5 bits; the numbers of a Q8_0 block, or Q5_0, Q4_0
//
// Scales and offsets are f16, as in those blocks (ggml_blocks.hpp), so blocks of a file are taken over exactly. Numbers far
// beyond f16, such as 1e6, are clipped; a group with a number that is not finite has the scale NaN.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include "fathom/core/bf16.hpp"
#include "fathom/core/ggml_blocks.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Numbers of a group.
inline constexpr index group_size = 32;

// Types of packed weights: fathom::pack<fathom::int4>(weights).

/// Four bits, a scale and an offset for each group.
struct int4 {
  static constexpr int bits = 4, zero = 0;  // `zero` is subtracted from stored integers
  static constexpr bool has_offset = true;
};
/// Four bits and a scale for each group.
struct symmetric_int4 {
  static constexpr int bits = 4, zero = 8;
  static constexpr bool has_offset = false;
};
/// Eight bits and a scale for each group.
struct grouped_int8 {
  static constexpr int bits = 8, zero = 128;
  static constexpr bool has_offset = false;
};
template <class P>
concept grouped_type = std::is_same_v<P, int4> || std::is_same_v<P, symmetric_int4> || std::is_same_v<P, grouped_int8>;

/// The type of the head, the tied one too, where matrices are P: eight bits where they have four, as llama.cpp's files
/// have it, so that these are taken over exactly.
template <class P>
using head_type = std::conditional_t<std::is_same_v<P, int4> || std::is_same_v<P, symmetric_int4>, grouped_int8, P>;

/// The number that an integer stands for. The product is exact in float.
template <grouped_type P>
[[nodiscard]] constexpr float grouped_number(int q, float scale, [[maybe_unused]] float offset) {
  const float product = static_cast<float>(q - P::zero) * scale;
  if constexpr (P::has_offset) return product + offset;
  return product;
}

/// A group: 32 integers q with their scale and, if P has them, offset.
template <grouped_type P>
struct group {
  f16 scale{0}, offset{0};
  std::uint8_t q[group_size] = {};

  [[nodiscard]] float at(index i) const { return grouped_number<P>(q[i], static_cast<float>(scale), static_cast<float>(offset)); }
};

// ---- Rounding -------------------------------------------------------------------------------------------------------

namespace detail {
/// The nearest f16 that is finite; NaN for NaN.
[[nodiscard]] inline f16 finite_f16(float value) {
  return to_f16(value != value ? value : std::max(-65504.f, std::min(value, 65504.f)));
}

/// A way to round a group, and its squared error.
template <class P>
struct rounding {
  static constexpr float lowest = P::bits == 4 ? 0.f : 1.f, highest = P::bits == 4 ? 15.f : 255.f;
  static constexpr float zero = P::zero;
  f16 scale{0}, offset{0};
  float error = 0;
  float q[group_size];

  /// q of the numbers x for any scale and offset; NaN becomes the lowest.
  void round(const float* x, float step, float start) {
    const float inverse = std::abs(step) > 1e-38f ? 1 / step : 0;
    for (index i = 0; i < group_size; ++i) {
      const float steps = (x[i] - start) * inverse + (zero + 0.5f);
      q[i] = static_cast<float>(static_cast<int>(std::min(highest, std::max(lowest, steps))));
    }
  }
  /// With scale and offset rounded to f16, which is what is stored.
  rounding(const float* x, float step, float start) : scale(finite_f16(step)), offset(finite_f16(P::has_offset ? start : 0)) {
    const float s = static_cast<float>(scale), o = static_cast<float>(offset);
    round(x, s, o);
    for (index i = 0; i < group_size; ++i) {
      const float off = x[i] - ((q[i] - zero) * s + o);
      error += off * off;
    }
  }
  /// The scale and the offset with the least squared error for the q that these ones give.
  static rounding fitted(const float* x, float step, float start) {
    rounding guess(step, start);
    guess.round(x, step, start);
    float n = group_size, sum_q = 0, sum_qq = 0, sum_x = 0, sum_qx = 0;
    for (index i = 0; i < group_size; ++i) {
      const float k = guess.q[i] - zero, y = x[i] - start;
      sum_q += k;
      sum_qq += k * k;
      sum_x += y;
      sum_qx += k * y;
    }
    if constexpr (P::has_offset) {
      const float determinant = n * sum_qq - sum_q * sum_q;
      if (!(determinant > 0)) return {x, step, start};
      step = (n * sum_qx - sum_q * sum_x) / determinant;
      return {x, step, start + (sum_x - step * sum_q) / n};
    } else {
      if (sum_qq > 0) step = sum_qx / sum_qq;
      return {x, step, 0};
    }
  }

 private:
  rounding(float, float) {}
};
}  // namespace detail

/// Rounds `count` numbers, 1 to 32, to a group; q beyond them is 0. With four bits, tries some scales around the one that the largest numbers
/// suggest, fits scale and offset to the integers that each gives, and takes what has the least squared error, as
/// make_qkx2_quants and make_qx_quants of llama.cpp do (ggml/src/ggml-quants.c).
template <grouped_type P>
[[nodiscard, gnu::noinline]] group<P> round_group(const float* numbers, index count) {
  using rounding = detail::rounding<P>;
  float x[group_size];  // a short group repeats its numbers
  for (index i = 0; i < group_size; ++i) x[i] = numbers[i % count];
  float lowest = x[0], highest = x[0];
  bool is_finite = true;
  for (const float number : x) {
    lowest = std::min(lowest, number);
    highest = std::max(highest, number);
    is_finite &= std::abs(number) <= std::numeric_limits<float>::max();
  }
  group<P> result;
  if (!is_finite) {
    result.scale = to_f16(std::numeric_limits<float>::quiet_NaN());
    return result;
  }
  const float extreme = -lowest > highest ? lowest : highest;
  // The steps from one end to the other, or from 0 to the number of the largest magnitude.
  const float range = P::has_offset ? highest - lowest : P::bits == 4 ? -extreme : std::abs(extreme);
  const float steps = P::has_offset ? 15 : P::bits == 4 ? 8 : 127, start = P::has_offset ? lowest : 0;
  rounding best(x, range / steps, start);
  if constexpr (P::bits == 4)
    for (int i = -4; i <= 4; ++i)
      if (const auto other = rounding::fitted(x, range / (steps + 0.25f * static_cast<float>(i)), start); other.error < best.error)
        best = other;
  result.scale = best.scale;
  result.offset = best.offset;
  for (index i = 0; i < count; ++i) result.q[i] = static_cast<std::uint8_t>(best.q[i]);
  return result;
}

// ---- Blocks of files ------------------------------------------------------------------------------------------------

/// Whether blocks of a type are groups of P: the same numbers.
template <grouped_type P>
[[nodiscard]] constexpr bool takes_blocks_of(ggml::type type) {
  if constexpr (std::is_same_v<P, int4>) return type == ggml::type::q4_1 || type == ggml::type::q4_0;
  else if constexpr (std::is_same_v<P, symmetric_int4>) return type == ggml::type::q4_0;
  else return type == ggml::type::q8_0 || type == ggml::type::q5_0 || type == ggml::type::q4_0;
}

namespace detail {
[[nodiscard]] inline f16 f16_in(const std::uint8_t (&bytes)[2]) { return {static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8)}; }
template <class Block>
[[nodiscard]] Block block_at(const std::byte* from) {
  Block block;
  std::memcpy(&block, from, sizeof block);
  return block;
}
/// Number i of 32 in the halves of 16 bytes.
[[nodiscard]] inline int half_byte(const std::uint8_t (&quants)[16], index i) {
  return i < 16 ? quants[i] & 15 : quants[i - 16] >> 4;
}
}  // namespace detail

/// The group that has exactly the numbers of a block, of a type that P takes. An int4's offset for Q4_0 is -8 scales, which is
/// exact below 8188, the largest such scale in f16; beyond, and for scales that are not finite, the group's scale is NaN.
template <grouped_type P>
[[nodiscard]] group<P> group_of_block(ggml::type type, const std::byte* from) {
  group<P> to;
  if (type == ggml::type::q4_1) {
    const auto block = detail::block_at<ggml::block_q4_1>(from);
    to.scale = detail::f16_in(block.scale_bytes);
    to.offset = detail::f16_in(block.minimum_bytes);
    for (index i = 0; i < group_size; ++i) to.q[i] = static_cast<std::uint8_t>(detail::half_byte(block.quants, i));
  } else if (type == ggml::type::q4_0) {
    const auto block = detail::block_at<ggml::block_q4_0>(from);
    to.scale = detail::f16_in(block.scale_bytes);
    if constexpr (P::has_offset) to.offset = to_f16(-8 * block.scale());
    for (index i = 0; i < group_size; ++i)
      to.q[i] = static_cast<std::uint8_t>(detail::half_byte(block.quants, i) - 8 + (P::has_offset ? 8 : P::zero));
  } else if (type == ggml::type::q5_0) {
    const auto block = detail::block_at<ggml::block_q5_0>(from);
    to.scale = detail::f16_in(block.scale_bytes);
    const std::uint32_t high = ggml::detail::word(block.high_bits);
    for (index i = 0; i < group_size; ++i)
      to.q[i] = static_cast<std::uint8_t>(detail::half_byte(block.quants, i) + static_cast<int>(high >> i & 1u) * 16 - 16 + P::zero);
  } else {
    const auto block = detail::block_at<ggml::block_q8_0>(from);
    to.scale = detail::f16_in(block.scale_bytes);
    for (index i = 0; i < group_size; ++i) to.q[i] = static_cast<std::uint8_t>(block.quants[i] + P::zero);
  }
  const auto is_finite = [](f16 number) { return (number.bits & 0x7c00u) != 0x7c00u; };
  if (!is_finite(to.scale) || !is_finite(to.offset)) to.scale = to_f16(std::numeric_limits<float>::quiet_NaN());
  return to;
}

}  // namespace fathom
