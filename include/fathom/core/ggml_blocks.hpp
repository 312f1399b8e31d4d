// The types of tensors in GGUF files, and blocks of quantised numbers as these files hold them.
//
// A tensor is rows of blocks, without gaps. A block has 32 or 256 numbers of a few bits each, which share a scale or
// some scales; a block of 256 is cut into sub-blocks with small scales of their own. The layouts are those of
// ggml-common.h and the order of numbers is that of the dequantize_row functions of ggml-quants.c
// (github.com/ggml-org/ggml, src/); gguf.quants of the Python package gguf says the same.
//
// Multi-byte numbers are little-endian. All blocks are made of single bytes: they may lie at any address, and a span
// of blocks over a mapped file copies nothing.
//
// Dequantised numbers do not depend on the order of operations or on fused instructions: a product of a scale (11
// significant bits), a scale of a sub-block and a number has at most 23 bits, so it is exact in float, and only the sum
// with a minimum is rounded.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::ggml {

// ---- Types ----------------------------------------------------------------------------------------------------------

/// The type of a tensor's numbers. The values are those in files.
enum class type : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  q8_k = 15,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
};

/// What a block of a type is. Numbers that are not quantised are blocks of one.
struct block_facts {
  ggml::type type;
  std::string_view name;  // "Q4_K", as the format's documents write it
  index numbers;          // in a block
  index bytes;            // of a block
  bool is_readable;       // whether dequantize knows it
};

/// All known types; those that were removed from the format are not among them.
inline constexpr block_facts known_types[] = {
    {type::f32, "F32", 1, 4, true},
    {type::f16, "F16", 1, 2, true},
    {type::q4_0, "Q4_0", 32, 18, true},
    {type::q4_1, "Q4_1", 32, 20, true},
    {type::q5_0, "Q5_0", 32, 22, true},
    {type::q5_1, "Q5_1", 32, 24, true},
    {type::q8_0, "Q8_0", 32, 34, true},
    {type::q8_1, "Q8_1", 32, 40, false},
    {type::q2_k, "Q2_K", 256, 84, true},
    {type::q3_k, "Q3_K", 256, 110, true},
    {type::q4_k, "Q4_K", 256, 144, true},
    {type::q5_k, "Q5_K", 256, 176, true},
    {type::q6_k, "Q6_K", 256, 210, true},
    {type::q8_k, "Q8_K", 256, 292, false},
    {type::iq2_xxs, "IQ2_XXS", 256, 66, false},
    {type::iq2_xs, "IQ2_XS", 256, 74, false},
    {type::iq3_xxs, "IQ3_XXS", 256, 98, false},
    {type::iq1_s, "IQ1_S", 256, 50, false},
    {type::iq4_nl, "IQ4_NL", 32, 18, false},
    {type::iq3_s, "IQ3_S", 256, 110, false},
    {type::iq2_s, "IQ2_S", 256, 82, false},
    {type::iq4_xs, "IQ4_XS", 256, 136, false},
    {type::i8, "I8", 1, 1, true},
    {type::i16, "I16", 1, 2, true},
    {type::i32, "I32", 1, 4, true},
    {type::i64, "I64", 1, 8, false},
    {type::f64, "F64", 1, 8, true},
    {type::iq1_m, "IQ1_M", 256, 56, false},
    {type::bf16, "BF16", 1, 2, true},
    {type::tq1_0, "TQ1_0", 256, 54, false},
    {type::tq2_0, "TQ2_0", 256, 66, false},
    {type::mxfp4, "MXFP4", 32, 17, false},
    {type::nvfp4, "NVFP4", 64, 36, false},
    {type::q1_0, "Q1_0", 128, 18, false},
};
/// The facts of a type; null when its value is unknown.
[[nodiscard]] constexpr const block_facts* find_type(type of) {
  for (const block_facts& facts : known_types)
    if (facts.type == of) return &facts;
  return nullptr;
}

namespace detail {
/// The half-precision number in two bytes.
[[nodiscard]] constexpr float half(const std::uint8_t (&bytes)[2]) {
  return static_cast<float>(fathom::f16{static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8)});
}
/// The 32 bits in four bytes.
[[nodiscard]] constexpr std::uint32_t word(const std::uint8_t (&bytes)[4]) {
  std::uint32_t all = 0;
  for (int i = 0; i < 4; ++i) all |= std::uint32_t{bytes[i]} << (8 * i);
  return all;
}
[[nodiscard]] constexpr float real(int number) { return static_cast<float>(number); }
}  // namespace detail

// ---- Blocks of 32 ---------------------------------------------------------------------------------------------------
// A byte of quants[16] has number j in its lower half and number j + 16 in its upper half.

/// (q - 8) * scale, q of 4 bits. 18 bytes.
struct block_q4_0 {
  static constexpr ggml::type type = ggml::type::q4_0;
  static constexpr index numbers = 32;

  std::uint8_t scale_bytes[2];  // f16
  std::uint8_t quants[16];

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
};

/// q * scale + minimum, q of 4 bits. 20 bytes.
struct block_q4_1 {
  static constexpr ggml::type type = ggml::type::q4_1;
  static constexpr index numbers = 32;

  std::uint8_t scale_bytes[2];    // f16
  std::uint8_t minimum_bytes[2];  // f16
  std::uint8_t quants[16];

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
  [[nodiscard]] constexpr float minimum() const { return detail::half(minimum_bytes); }
};

/// (q - 16) * scale, q of 5 bits. 22 bytes.
struct block_q5_0 {
  static constexpr ggml::type type = ggml::type::q5_0;
  static constexpr index numbers = 32;

  std::uint8_t scale_bytes[2];  // f16
  std::uint8_t high_bits[4];    // bit j of these 32 is bit 4 of number j
  std::uint8_t quants[16];      // bits 0 to 3

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
};

/// q * scale + minimum, q of 5 bits. 24 bytes.
struct block_q5_1 {
  static constexpr ggml::type type = ggml::type::q5_1;
  static constexpr index numbers = 32;

  std::uint8_t scale_bytes[2];    // f16
  std::uint8_t minimum_bytes[2];  // f16
  std::uint8_t high_bits[4];      // bit j of these 32 is bit 4 of number j
  std::uint8_t quants[16];        // bits 0 to 3

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
  [[nodiscard]] constexpr float minimum() const { return detail::half(minimum_bytes); }
};

/// q * scale, q of 8 bits with a sign. 34 bytes.
struct block_q8_0 {
  static constexpr ggml::type type = ggml::type::q8_0;
  static constexpr index numbers = 32;

  std::uint8_t scale_bytes[2];  // f16
  std::int8_t quants[32];       // in order

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
};

// ---- Blocks of 256 --------------------------------------------------------------------------------------------------
// Number i belongs to sub-block i / 16 or i / 32. Where a byte has 2 bits of four numbers, numbers i of each half
// (h = i / 128) lie in bytes h * 32 to h * 32 + 31: number h * 128 + s * 32 + l has bits 2 s and 2 s + 1 of byte
// h * 32 + l.

/// q * scale * (k & 15) - minimum * (k >> 4), with the byte k of the sub-block of 16, q of 2 bits. 84 bytes.
struct block_q2_k {
  static constexpr ggml::type type = ggml::type::q2_k;
  static constexpr index numbers = 256;

  std::uint8_t sub_scales[16];    // k
  std::uint8_t quants[64];        // 2 bits each, as above
  std::uint8_t scale_bytes[2];    // f16
  std::uint8_t minimum_bytes[2];  // f16

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
  [[nodiscard]] constexpr float minimum() const { return detail::half(minimum_bytes); }
};

/// (q - 4) * scale * (k - 32), with the 6 bits k of the sub-block of 16, q of 3 bits. 110 bytes.
struct block_q3_k {
  static constexpr ggml::type type = ggml::type::q3_k;
  static constexpr index numbers = 256;

  std::uint8_t high_bits[32];   // bit h * 4 + s of byte l is bit 2 of number h * 128 + s * 32 + l
  std::uint8_t quants[64];      // bits 0 and 1, as above
  std::uint8_t sub_scales[12];  // k of sub-block j: 4 bits in byte j % 8, lower half first, and 2 in byte 8 + j % 4
  std::uint8_t scale_bytes[2];  // f16

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
  /// k - 32 of sub-block j.
  [[nodiscard]] constexpr int sub_scale(int j) const {
    return ((sub_scales[j % 8] >> (j / 8 * 4) & 15) | (sub_scales[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32;
  }
};

/// The scales and minima of the eight sub-blocks of 32 in Q4_K and Q5_K, of 6 bits each, in 12 bytes. Bytes 0 to 3:
/// scales 0 to 3; bytes 4 to 7: minima 0 to 3; bytes 8 to 11: the lower 4 bits of scales 4 to 7, and of minima 4 to 7
/// above them. The two upper bits of bytes 0 to 3 are those of scales 4 to 7, and of bytes 4 to 7 those of minima 4
/// to 7.
struct sub_scales_k {
  std::uint8_t bytes[12];

  [[nodiscard]] constexpr int scale(int j) const {
    return j < 4 ? bytes[j] & 63 : (bytes[j + 4] & 15) | bytes[j - 4] >> 6 << 4;
  }
  [[nodiscard]] constexpr int minimum(int j) const {
    return j < 4 ? bytes[j + 4] & 63 : bytes[j + 4] >> 4 | bytes[j] >> 6 << 4;
  }
};

/// q * scale * k - minimum * m, with the scale k and the minimum m of the sub-block of 32, q of 4 bits. 144 bytes.
struct block_q4_k {
  static constexpr ggml::type type = ggml::type::q4_k;
  static constexpr index numbers = 256;

  std::uint8_t scale_bytes[2];    // f16
  std::uint8_t minimum_bytes[2];  // f16
  sub_scales_k sub_scales;
  std::uint8_t quants[128];  // byte 32 p + l: number 64 p + l in the lower half, number 64 p + 32 + l in the upper one

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
  [[nodiscard]] constexpr float minimum() const { return detail::half(minimum_bytes); }
};

/// q * scale * k - minimum * m, with the scale k and the minimum m of the sub-block of 32, q of 5 bits. 176 bytes.
struct block_q5_k {
  static constexpr ggml::type type = ggml::type::q5_k;
  static constexpr index numbers = 256;

  std::uint8_t scale_bytes[2];    // f16
  std::uint8_t minimum_bytes[2];  // f16
  sub_scales_k sub_scales;
  std::uint8_t high_bits[32];  // bit j of byte l is bit 4 of number 32 j + l
  std::uint8_t quants[128];    // bits 0 to 3, as in Q4_K

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
  [[nodiscard]] constexpr float minimum() const { return detail::half(minimum_bytes); }
};

/// (q - 32) * scale * k, with the signed byte k of the sub-block of 16, q of 6 bits. 210 bytes.
struct block_q6_k {
  static constexpr ggml::type type = ggml::type::q6_k;
  static constexpr index numbers = 256;

  std::uint8_t quants[128];     // bits 0 to 3; byte h * 64 + l: number h * 128 + l in the lower half, and that + 64
  std::uint8_t high_bits[64];   // bits 4 and 5, as above
  std::int8_t sub_scales[16];   // k
  std::uint8_t scale_bytes[2];  // f16

  [[nodiscard]] constexpr float scale() const { return detail::half(scale_bytes); }
};

// ---- Dequantisation -------------------------------------------------------------------------------------------------

/// Writes the numbers of a block.
inline void dequantize(const block_q4_0& block, float* to) {
  const float scale = block.scale();
  for (int j = 0; j < 16; ++j) {
    to[j] = detail::real((block.quants[j] & 15) - 8) * scale;
    to[j + 16] = detail::real((block.quants[j] >> 4) - 8) * scale;
  }
}
inline void dequantize(const block_q4_1& block, float* to) {
  const float scale = block.scale(), minimum = block.minimum();
  for (int j = 0; j < 16; ++j) {
    to[j] = detail::real(block.quants[j] & 15) * scale + minimum;
    to[j + 16] = detail::real(block.quants[j] >> 4) * scale + minimum;
  }
}
inline void dequantize(const block_q5_0& block, float* to) {
  const float scale = block.scale();
  const std::uint32_t high = detail::word(block.high_bits);
  for (int j = 0; j < 16; ++j) {
    const int a = static_cast<int>(high >> j & 1u) << 4, b = static_cast<int>(high >> (j + 16) & 1u) << 4;
    to[j] = detail::real((block.quants[j] & 15) + a - 16) * scale;
    to[j + 16] = detail::real((block.quants[j] >> 4) + b - 16) * scale;
  }
}
inline void dequantize(const block_q5_1& block, float* to) {
  const float scale = block.scale(), minimum = block.minimum();
  const std::uint32_t high = detail::word(block.high_bits);
  for (int j = 0; j < 16; ++j) {
    const int a = static_cast<int>(high >> j & 1u) << 4, b = static_cast<int>(high >> (j + 16) & 1u) << 4;
    to[j] = detail::real((block.quants[j] & 15) + a) * scale + minimum;
    to[j + 16] = detail::real((block.quants[j] >> 4) + b) * scale + minimum;
  }
}
inline void dequantize(const block_q8_0& block, float* to) {
  const float scale = block.scale();
  for (int j = 0; j < 32; ++j) to[j] = detail::real(block.quants[j]) * scale;
}
inline void dequantize(const block_q2_k& block, float* to) {
  for (int j = 0; j < 16; ++j) {
    const float scale = block.scale() * detail::real(block.sub_scales[j] & 15);
    const float minimum = block.minimum() * detail::real(block.sub_scales[j] >> 4);
    const std::uint8_t* const quants = block.quants + j / 8 * 32 + j % 2 * 16;
    const int shift = j % 8 / 2 * 2;
    for (int l = 0; l < 16; ++l) to[16 * j + l] = scale * detail::real(quants[l] >> shift & 3) - minimum;
  }
}
inline void dequantize(const block_q3_k& block, float* to) {
  for (int j = 0; j < 16; ++j) {
    const float scale = block.scale() * detail::real(block.sub_scale(j));
    const std::uint8_t* const quants = block.quants + j / 8 * 32 + j % 2 * 16;
    const std::uint8_t* const high = block.high_bits + j % 2 * 16;
    const int shift = j % 8 / 2 * 2, bit = j / 2;
    for (int l = 0; l < 16; ++l)
      to[16 * j + l] = scale * detail::real((quants[l] >> shift & 3) + ((high[l] >> bit & 1) << 2) - 4);
  }
}
inline void dequantize(const block_q4_k& block, float* to) {
  for (int j = 0; j < 8; ++j) {
    const float scale = block.scale() * detail::real(block.sub_scales.scale(j));
    const float minimum = block.minimum() * detail::real(block.sub_scales.minimum(j));
    const std::uint8_t* const quants = block.quants + j / 2 * 32;
    const int shift = j % 2 * 4;
    for (int l = 0; l < 32; ++l) to[32 * j + l] = scale * detail::real(quants[l] >> shift & 15) - minimum;
  }
}
inline void dequantize(const block_q5_k& block, float* to) {
  for (int j = 0; j < 8; ++j) {
    const float scale = block.scale() * detail::real(block.sub_scales.scale(j));
    const float minimum = block.minimum() * detail::real(block.sub_scales.minimum(j));
    const std::uint8_t* const quants = block.quants + j / 2 * 32;
    const int shift = j % 2 * 4;
    for (int l = 0; l < 32; ++l)
      to[32 * j + l] = scale * detail::real((quants[l] >> shift & 15) + ((block.high_bits[l] >> j & 1) << 4)) - minimum;
  }
}
inline void dequantize(const block_q6_k& block, float* to) {
  for (int j = 0; j < 16; ++j) {
    const float scale = block.scale() * detail::real(block.sub_scales[j]);
    const int s = j % 8 / 2;  // which 32 of the half
    const std::uint8_t* const quants = block.quants + j / 8 * 64 + s % 2 * 32 + j % 2 * 16;
    const std::uint8_t* const high = block.high_bits + j / 8 * 32 + j % 2 * 16;
    for (int l = 0; l < 16; ++l)
      to[16 * j + l] = scale * detail::real((quants[l] >> (s / 2 * 4) & 15) + ((high[l] >> (2 * s) & 3) << 4) - 32);
  }
}

namespace detail {
template <class Block>
void dequantize_blocks(const std::byte* from, index numbers, float* to) {
  static_assert(alignof(Block) == 1 && sizeof(Block) == static_cast<std::size_t>(find_type(Block::type)->bytes) &&
                Block::numbers == find_type(Block::type)->numbers);
  for (index i = 0; i < numbers; i += Block::numbers, from += sizeof(Block)) {
    Block block;
    std::memcpy(&block, from, sizeof block);
    dequantize(block, to + i);
  }
}
template <class Number>
void convert_numbers(const std::byte* from, index numbers, float* to) {
  for (index i = 0; i < numbers; ++i) {
    Number number;
    std::memcpy(&number, from + i * static_cast<index>(sizeof number), sizeof number);
    to[i] = static_cast<float>(number);
  }
}
}  // namespace detail

/// Writes so many numbers, whole blocks of a type. The blocks may lie at any address. Returns false, and writes
/// nothing, when the type is not readable.
inline bool dequantize(type of, const std::byte* from, index numbers, float* to) {
  switch (of) {
    case type::f32: detail::convert_numbers<float>(from, numbers, to); return true;
    case type::f16: detail::convert_numbers<fathom::f16>(from, numbers, to); return true;
    case type::bf16: detail::convert_numbers<fathom::bf16>(from, numbers, to); return true;
    case type::f64: detail::convert_numbers<double>(from, numbers, to); return true;
    case type::i8: detail::convert_numbers<std::int8_t>(from, numbers, to); return true;
    case type::i16: detail::convert_numbers<std::int16_t>(from, numbers, to); return true;
    case type::i32: detail::convert_numbers<std::int32_t>(from, numbers, to); return true;
    case type::q4_0: detail::dequantize_blocks<block_q4_0>(from, numbers, to); return true;
    case type::q4_1: detail::dequantize_blocks<block_q4_1>(from, numbers, to); return true;
    case type::q5_0: detail::dequantize_blocks<block_q5_0>(from, numbers, to); return true;
    case type::q5_1: detail::dequantize_blocks<block_q5_1>(from, numbers, to); return true;
    case type::q8_0: detail::dequantize_blocks<block_q8_0>(from, numbers, to); return true;
    case type::q2_k: detail::dequantize_blocks<block_q2_k>(from, numbers, to); return true;
    case type::q3_k: detail::dequantize_blocks<block_q3_k>(from, numbers, to); return true;
    case type::q4_k: detail::dequantize_blocks<block_q4_k>(from, numbers, to); return true;
    case type::q5_k: detail::dequantize_blocks<block_q5_k>(from, numbers, to); return true;
    case type::q6_k: detail::dequantize_blocks<block_q6_k>(from, numbers, to); return true;
    default: return false;
  }
}

}  // namespace fathom::ggml
