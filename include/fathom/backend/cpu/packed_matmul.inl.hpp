// Matrix products with packed weights: definitions for packed_matmul.hpp.
//
// The kernels do not depend on sizes or epilogues: there is one of each per type of weights. They leave their sums in a
// small buffer, and the epilogue is applied as they are stored to the result. A few rows, and rounded rows, have
// kernels of their own; other products unpack the weights panel by panel for the kernel of matmul.inl.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fathom/backend/cpu/matmul.inl.hpp"
#include "fathom/backend/cpu/packed.inl.hpp"
#include "fathom/backend/cpu/packed_matmul.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

inline constexpr index prefetch_bytes = 2048;  // prefetch distance for one row
inline constexpr index strips_at_once = 8;     // that one row is multiplied with before the epilogue
inline constexpr index few_rows = vector_registers == 32 ? 8 : 4;  // rows that share each load of a panel

/// Kernels take two vectors of columns at a time, a strip: two panels (AVX-512), one (AVX2), or a half of one (SSE, NEON). The two
/// panels are neighbours for several rows of x. For one row, which reads its weights from memory, they are as far apart as half
/// of a rank's share (each_strip_of_row), so that each is part of a long stream. Where the number of panels is odd, the second
/// vector of the last strip is the first one again, and what is computed for it is not used.
template <class P>
struct strip {
  using view = packed_view<P>;
  using word = const typename packing<P>::word;
  static constexpr index W = lanes<typename packing<P>::scalar>, N = view::N;
  static constexpr index columns = 2 * W;
  static constexpr bool is_two_panels = W == N;
  static_assert(is_two_panels || N % columns == 0);

  word* at;            // the first vector of word 0; that of word d is d * N further on
  index other;         // words from the first vector to the second
  index column;        // the first column
  index other_column;  // of the second vector

  /// For several rows: strip s.
  strip(const view& w, index s) : at(w.panel(s * columns / N) + s * columns % N), other(W), column(s * columns) {
    if constexpr (is_two_panels) other = 2 * s + 1 < w.panels ? w.depth * N : 0;
    other_column = column + (other > 0 ? W : 0);
  }
  /// For one row: if strips are two panels, s and s + apart, else strip s.
  strip(const view& w, index s, index apart) : at(w.panel(s * row_step / N) + s * row_step % N), other(W), column(s * row_step), other_column(column + W) {
    if constexpr (is_two_panels) other = apart * w.depth * N, other_column = column + apart * N;
  }
  // Columns from a strip of one row to the next, and where the sums of a vector lie: [strips][2 W], or [2][strips][W].
  static constexpr index row_step = is_two_panels ? W : columns;
  static constexpr index other_sums = is_two_panels ? strips_at_once * W : W;
  [[nodiscard]] static index count(const view& w) { return (w.panels * N + columns - 1) / columns; }

  /// Prefetches what follows word d, and may lie in the next panel.
  [[gnu::always_inline]] void prefetch(index d) const {
    const word* const next = at + d * N + prefetch_bytes / static_cast<index>(sizeof(word));
    __builtin_prefetch(next);
    if constexpr (is_two_panels) __builtin_prefetch(next + other);
  }
};

/// One row times a rank's share [first, last) of strips: kernel(s, count, apart, sums) leaves the sums of `count` strips from s
/// on, and finish(sums, column, columns) applies the epilogue to those of neighbouring columns.
template <class Strip, class View, class Kernel, class Finish>
void each_strip_of_row(const View& w, index first, index last, const Kernel& kernel, const Finish& finish) {
  using T = typename View::T;
  constexpr index step = Strip::row_step;
  alignas(alignment) T sums[strips_at_once * Strip::columns];
  const auto some = [&](index from, index to, index apart) {
    for (index s = from; s < to; s += strips_at_once) {
      const index count = std::min(strips_at_once, to - s);
      kernel(s, count, apart, sums);
      finish(sums, s * step, count * step);
      if (apart > 0) finish(sums + Strip::other_sums, (s + apart) * step, count * step);
    }
  };
  if constexpr (Strip::is_two_panels) {
    const index begin = 2 * first, end = std::min(2 * last, w.panels), apart = (end - begin) / 2;
    if (apart > 0) some(begin, begin + apart, apart);
    some(begin + 2 * apart, end, 0);  // the one that is left
  } else {
    some(first, last, 0);
  }
}

/// Row R of the words of W columns, W = lanes of the scalar, not scaled.
template <class P, index R>
[[gnu::always_inline]] inline vec<typename packing<P>::scalar> row_of(const typename packing<P>::word* words) {
  using T = typename packing<P>::scalar;
  using word = typename packing<P>::word;
  constexpr index W = lanes<T>;
  if constexpr (std::is_same_v<P, bf16>) {
    const auto w = load_native<word, W>(words);
    return as_vec<T>(R == 0 ? w << 16 : w & 0xffff0000u);
  } else if constexpr (std::is_same_v<P, std::int8_t>) {
    const auto w = load_native<word, W>(words);
    return as_vec<T>(__builtin_convertvector((w << (24 - 8 * R)) >> 24, native<float, W>));
  } else {
    return vec<T>::load_aligned(words);
  }
}

// ---- Unrounded rows -------------------------------------------------------------------------------------------------

/// The sums of x [in] times `count` strips of one row from `first` on. Four partial sums per column, to hide latency.
template <class P>
[[gnu::noinline]] void row_times_strips(const typename packing<P>::scalar* x, const packed_view<P>& w, index first, index count,
                                        index apart, typename packing<P>::scalar* sums) {
  using T = typename packing<P>::scalar;
  constexpr index N = packed_view<P>::N, R = packing<P>::rows;
  constexpr index words_at_once = std::max<index>(1, 4 / R);
  const index whole = w.in / R;
  for (index s = first; s < first + count; ++s, sums += strip<P>::row_step) {
    const strip<P> of(w, s, apart);
    tile<T, 4> part;
    part.clear();
    const auto step = [&](index d, auto u, auto rows) __attribute__((always_inline)) {
      of.prefetch(d);
      unroll<static_cast<std::size_t>(rows())>([&](auto r) __attribute__((always_inline)) {
        constexpr index n = (u() * R + static_cast<index>(r())) % 4;
        const vec<T> left(x[d * R + static_cast<index>(r())]);
        part.at[n][0] = xsimd::fma(left, row_of<P, static_cast<index>(r())>(of.at + d * N), part.at[n][0]);
        part.at[n][1] = xsimd::fma(left, row_of<P, static_cast<index>(r())>(of.at + d * N + of.other), part.at[n][1]);
      });
    };
    using all = std::integral_constant<index, R>;
    index d = 0;
    for (; d + words_at_once <= whole; d += words_at_once)
      unroll<static_cast<std::size_t>(words_at_once)>([&](auto u) __attribute__((always_inline)) {
        step(d + static_cast<index>(u()), std::integral_constant<index, static_cast<index>(u())>(), all());
      });
    for (; d < whole; ++d) step(d, std::integral_constant<index, 0>(), all());
    unroll<static_cast<std::size_t>(R - 1)>([&](auto r) __attribute__((always_inline)) {  // the last, partial word
      constexpr index rows = static_cast<index>(r()) + 1;
      if (w.in - whole * R == rows) step(whole, std::integral_constant<index, 0>(), std::integral_constant<index, rows>());
    });
    unroll<2>([&](auto j) __attribute__((always_inline)) {
      vec<T> sum = (part.at[0][j] + part.at[1][j]) + (part.at[2][j] + part.at[3][j]);
      if constexpr (std::is_same_v<P, std::int8_t>) sum *= vec<T>::load_aligned(w.scales + (j() == 0 ? of.column : of.other_column));
      sum.store_aligned(sums + static_cast<index>(j()) * strip<P>::other_sums);
    });
  }
}

/// sums [Rows, tile_columns] = rows [i, i + Rows) of x [rows, in] times a strip. Rows beyond the end of x repeat its last one.
template <class P, index Rows>
[[gnu::noinline]] void rows_times_strip(const matrix<const typename packing<P>::scalar>& x, index i, const packed_view<P>& w,
                                        index s, typename packing<P>::scalar* sums) {
  using T = typename packing<P>::scalar;
  constexpr index N = packed_view<P>::N, R = packing<P>::rows;
  constexpr auto rows = static_cast<std::size_t>(Rows);
  const T* row[rows];
  unroll<rows>([&](auto r) __attribute__((always_inline)) { row[r] = x.row(std::min(i + static_cast<index>(r()), x.rows - 1)); });
  const strip<P> of(w, s);
  tile<T, Rows> acc;
  acc.clear();
  const auto step = [&](index d, auto count) __attribute__((always_inline)) {
    unroll<static_cast<std::size_t>(count())>([&](auto n) __attribute__((always_inline)) {
      constexpr index r = static_cast<index>(n());
      const vec<T> v0 = row_of<P, r>(of.at + d * N), v1 = row_of<P, r>(of.at + d * N + of.other);
      unroll<rows>([&](auto m) __attribute__((always_inline)) {
        const vec<T> left(row[m][d * R + r]);
        acc.at[m][0] = xsimd::fma(left, v0, acc.at[m][0]);
        acc.at[m][1] = xsimd::fma(left, v1, acc.at[m][1]);
      });
    });
  };
  const index whole = w.in / R;
  for (index d = 0; d < whole; ++d) step(d, std::integral_constant<index, R>());
  unroll<static_cast<std::size_t>(R - 1)>([&](auto r) __attribute__((always_inline)) {
    constexpr index count = static_cast<index>(r()) + 1;
    if (w.in - whole * R == count) step(whole, std::integral_constant<index, count>());
  });
  if constexpr (std::is_same_v<P, std::int8_t>)
    unroll<rows>([&](auto m) __attribute__((always_inline)) {
      acc.at[m][0] *= vec<T>::load_aligned(w.scales + of.column);
      acc.at[m][1] *= vec<T>::load_aligned(w.scales + of.other_column);
    });
  acc.store(sums, tile_columns<T>);
}

// ---- Rounded rows ---------------------------------------------------------------------------------------------------
//
// rounded<Compute, P> says whether and how rows of x are rounded for weights of type P, and what multiplies them:
//
//   static constexpr bool is_used;           whether they are
//   static constexpr bool is_for_many;       whether many rows are, too, or only a few
//   static constexpr index rows_together;    rows that are multiplied together
//   static constexpr index words_per_word;   words of a rounded row for each word of a column of the weights
//   static constexpr index row_padding;      words between rounded rows
//   scope                                    lives during products
//   round(x, in, rows, r)                    row r of `rows` = x [in], zero-padded; NaN if a number is not finite
//   row(rows, w, first, count, apart, sums)  the sums of row 0 times `count` strips from `first` on, as each_strip_of_row has them
//   rows(rows, i, w, s, sums)                sums [rows_together, tile_columns] = rows [i, i + rows_together) times a strip;
//                                            rows beyond the end repeat the last one

template <class Compute, class P>
struct rounded {
  static constexpr bool is_used = false, is_for_many = false;
};

/// 1.5 * 2^23: adding it rounds a number to an integer, which the lowest bits of the sum then hold.
inline constexpr float to_integer = 12582912.f;
/// For rounding x [in] to integers of magnitude up to 32767: sets `scale`, with x = scale * integer, and returns
/// 1 / scale, or 0 for tiny x. The scale is NaN if a number is not finite.
[[nodiscard]] inline float scale_row(const float* x, index in, float& scale) {
  constexpr index W = lanes<float>;
  vec<float> most(0.f), differences(0.f);  // x - x: 0, or NaN if x is not finite
  index k = 0;
  for (; k + W <= in; k += W) {
    const auto numbers = vec<float>::load_unaligned(x + k);
    most = xsimd::max(most, xsimd::abs(numbers));
    differences += numbers - numbers;
  }
  float largest = horizontal_max(most), difference = horizontal_sum(differences);
  for (; k < in; ++k) {
    largest = std::max(largest, std::abs(x[k]));
    difference += x[k] - x[k];
  }
  scale = largest / 32767 + difference;
  return difference == 0 && largest > 1e-30f ? 32767 / largest : 0;
}

/// Rounded rows, [count, words_per_row], and their scales
struct rounded_rows {
  std::uint32_t* words;
  float* scales;
  index words_per_row, count;
  [[nodiscard]] std::uint32_t* row(index r) const { return words + r * words_per_row; }
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
/// Pairs of bf16: a word of x for a word of the weights
template <>
struct rounded<bf16, bf16> {
  static constexpr bool is_used = true, is_for_many = true;
  using pairs = operand<bf16, float>;
  static constexpr index rows_together = pairs::rows_of_tile, words_per_word = 1, row_padding = pairs::row_padding;
  static constexpr index W = lanes<float>, N = packed_view<bf16>::N;
  using scope = pairs::scope;

  static void round(const float* x, index in, const rounded_rows& to, index r) {
    pairs::pack_row(x, in, reinterpret_cast<float*>(to.row(r)));
  }
  [[gnu::noinline]] static void row(const rounded_rows& x, const packed_view<bf16>& w, index first, index count, index apart, float* sums) {
    const std::uint32_t* const left = x.row(0);
    const index words = pairs::words(w.in);
    for (index s = first; s < first + count; ++s, sums += strip<bf16>::row_step) {
      const strip<bf16> of(w, s, apart);
      tile<float, 4> part;
      part.clear();
      const auto step = [&](index d, auto n) __attribute__((always_inline)) {
        of.prefetch(d);
        multiply_add(left[d], of.at + d * N, of.other, part.at[n]);
      };
      index d = 0;
      for (; d + 4 <= words; d += 4)
        unroll<4>([&](auto u) __attribute__((always_inline)) { step(d + static_cast<index>(u()), u); });
      for (; d < words; ++d) step(d, std::integral_constant<std::size_t, 0>());
      unroll<2>([&](auto j) __attribute__((always_inline)) {
        ((part.at[0][j] + part.at[1][j]) + (part.at[2][j] + part.at[3][j])).store_aligned(sums + static_cast<index>(j()) * strip<bf16>::other_sums);
      });
    }
  }
  /// Rows beyond the end are undefined: buffers have room for whole AMX tiles.
  [[gnu::noinline]] static void rows(const rounded_rows& x, index i, const packed_view<bf16>& w, index s, float* sums) {
    const strip<bf16> of(w, s);
    if (has_amx && amx_is_allowed)
      amx_product(x.row(i), x.words_per_row, of.at, N, of.other, w.depth, false, sums, 2 * W);
    else
      for (index r = 0; r < rows_together && i + r < x.count; r += tile_rows)
        rows_by_vectors(x, i + r, pairs::words(w.in), of, sums + r * 2 * W);
  }

 private:
  static void rows_by_vectors(const rounded_rows& x, index i, index words, const strip<bf16>& of, float* sums) {
    const std::uint32_t* left[tile_rows];
    unroll<tile_rows>([&](auto r) __attribute__((always_inline)) {
      left[r] = x.row(std::min(i + static_cast<index>(r()), x.count - 1));
    });
    const std::uint32_t* at = of.at;
    tile<float> acc;
    acc.clear();
    for (index d = 0; d < words; ++d, at += N) {
      of.prefetch(d);  // two streams need it, for a few rows from memory
      unroll<tile_rows>([&](auto r) __attribute__((always_inline)) { multiply_add(left[r][d], at, of.other, acc.at[r]); });
    }
    acc.store(sums, 2 * W);
  }
  [[gnu::always_inline]] static void multiply_add(std::uint32_t left, const std::uint32_t* right, index other, vec<float>* sums) {
    const auto a = vec<float>(std::bit_cast<float>(left));
    unroll<2>([&](auto j) __attribute__((always_inline)) {
      const auto b = as_vec<float>(load_native<std::uint32_t, W>(right + (j() == 0 ? 0 : other)));
      sums[j] = pairs::multiply_add(a, b, sums[j]);
    });
  }
};
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
#define FATHOM_BYTE_PRODUCTS 1
using byte_sums = native<std::int32_t, lanes<float>>;  // this type, because g++ copies __m512i around
/// In each 32-bit lane: sums += the four products of unsigned bytes of a and signed bytes of b
[[gnu::always_inline]] inline byte_sums add_byte_products(byte_sums sums, std::uint32_t a, const std::int32_t* b) {
  return std::bit_cast<byte_sums>(_mm512_dpbusd_epi32(std::bit_cast<__m512i>(sums), _mm512_set1_epi32(static_cast<int>(a)),
                                                      _mm512_load_si512(b)));
}
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
#define FATHOM_BYTE_PRODUCTS 1
using byte_sums = native<std::int32_t, lanes<float>>;
[[gnu::always_inline]] inline byte_sums add_byte_products(byte_sums sums, std::uint32_t a, const std::int32_t* b) {
  return std::bit_cast<byte_sums>(
      _mm256_dpbusd_avx_epi32(std::bit_cast<__m256i>(sums), _mm256_set1_epi32(static_cast<int>(a)),
                              _mm256_load_si256(reinterpret_cast<const __m256i*>(b))));
}
#endif

#if !defined(FATHOM_BYTE_PRODUCTS) && (defined(__AVX512BW__) || defined(__AVX2__))
/// Pairs of 16-bit integers: x = scale * integer. Sums of `exact` pairs are exact, then accumulated in float. x is off
/// by at most 2^-16 of its largest magnitude, far less than the weights are.
///
/// Words are widened by halves of a vector: a vector of 16-bit integers then has both pairs of each of W / 2 columns side by
/// side, and is multiplied by four rows of x, repeated.
template <class Compute>
  requires(has_pair_products && !has_byte_products && !std::is_same_v<Compute, double>)
struct rounded<Compute, std::int8_t> {
  static constexpr bool is_used = true, is_for_many = false;
  static constexpr index rows_together = 4, words_per_word = 2, row_padding = 0;
  struct scope {};
  static constexpr index W = lanes<float>, N = packed_view<std::int8_t>::N;
  using weights = packed_view<std::int8_t>;

  [[gnu::noinline]] static void round(const float* x, index in, const rounded_rows& to, index r) {
    const float inverse = scale_row(x, in, to.scales[r]);
    auto* const numbers = reinterpret_cast<std::int16_t*>(to.row(r));
    index k = 0;
    for (; k + W <= in; k += W) {
      const auto bits = std::bit_cast<native<std::uint32_t, W>>(load_native<float, W>(x + k) * inverse + to_integer);
      const auto rounded = __builtin_convertvector(bits, native<std::uint16_t, W>);
      std::memcpy(numbers + k, &rounded, sizeof rounded);
    }
    for (; k < (in + 3) / 4 * 4; ++k)
      numbers[k] = static_cast<std::int16_t>(std::bit_cast<std::uint32_t>(k < in ? x[k] * inverse + to_integer : to_integer));
  }
  [[gnu::noinline]] static void row(const rounded_rows& x, const weights& w, index first, index count, index apart, float* sums) {
    const std::uint32_t* const left = x.row(0);
    for (index s = first; s < first + count; ++s, sums += strip<std::int8_t>::row_step) {
      const strip<std::int8_t> of(w, s, apart);
      floats total[2] = {};
      for (index from = 0; from < w.depth; from += exact) {
        integers part[2][2] = {};  // of the halves of both vectors
        const index to = std::min(w.depth, from + exact);
        for (index d = from; d < to; ++d) {
          of.prefetch(d);
          const shorts four = four_rows(left, d);
          unroll<2>([&](auto j) __attribute__((always_inline)) {
            const std::int32_t* const words = of.at + d * N + (j() == 0 ? 0 : of.other);
            part[j][0] += products(four, widened(words));
            part[j][1] += products(four, widened(words + W / 2));
          });
        }
        unroll<2>([&](auto j) __attribute__((always_inline)) {
          total[j] += __builtin_convertvector(of_pair<0>(part[j]), floats) + __builtin_convertvector(of_pair<1>(part[j]), floats);
        });
      }
      store(total[0], w.scales + of.column, x.scales[0], sums);
      store(total[1], w.scales + of.other_column, x.scales[0], sums + of.other_sums);
    }
  }
  [[gnu::noinline]] static void rows(const rounded_rows& x, index i, const weights& w, index s, float* sums) {
    constexpr auto count = static_cast<std::size_t>(rows_together);
    const std::uint32_t* left[count];
    unroll<count>([&](auto r) __attribute__((always_inline)) {
      left[r] = x.row(std::min(i + static_cast<index>(r()), x.count - 1));
    });
    const strip<std::int8_t> of(w, s);
    for (index j = 0; j < 2; ++j) {  // registers hold the sums of one vector of columns
      const std::int32_t* const at = of.at + (j == 0 ? 0 : of.other);
      floats total[count] = {};
      for (index from = 0; from < w.depth; from += exact / 2) {
        integers part[count][2] = {};
        for (index d = from; d < std::min(w.depth, from + exact / 2); ++d) {
          __builtin_prefetch(at + (w.depth + d) * N);  // the next panel
          const shorts w0 = widened(at + d * N), w1 = widened(at + d * N + W / 2);
          unroll<count>([&](auto r) __attribute__((always_inline)) {
            const shorts four = four_rows(left[r], d);
            part[r][0] += products(four, w0);
            part[r][1] += products(four, w1);
          });
        }
        unroll<count>([&](auto r) __attribute__((always_inline)) {
          total[r] += __builtin_convertvector(of_pair<0>(part[r]) + of_pair<1>(part[r]), floats);
        });
      }
      unroll<count>([&](auto r) __attribute__((always_inline)) {
        store(total[r], w.scales + (j == 0 ? of.column : of.other_column),
              x.scales[std::min(i + static_cast<index>(r()), x.count - 1)], sums + static_cast<index>(r()) * 2 * W + j * W);
      });
    }
  }

 private:
  using floats = native<float, W>;
  using integers = native<std::int32_t, W>;
  using shorts = native<std::int16_t, 2 * W>;
  // Pairs whose products fit a sum of 32 bits: each adds at most 2 * 32767 * 127.
  static constexpr index exact = 256;

  [[gnu::always_inline]] static shorts widened(const std::int32_t* words) {  // g++ 12: a plain conversion is slower
#if defined(__AVX512BW__)
    return std::bit_cast<shorts>(_mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(words))));
#else
    return std::bit_cast<shorts>(_mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(words))));
#endif
  }
  /// The four rows of word d of a rounded row, again and again.
  [[gnu::always_inline]] static shorts four_rows(const std::uint32_t* row, index d) {
    std::int64_t four;
    std::memcpy(&four, row + 2 * d, sizeof four);
    return std::bit_cast<shorts>(native<std::int64_t, W / 2>{} + four);
  }
  /// In each 32-bit lane, the sum of the products of a pair.
  [[gnu::always_inline]] static integers products(const shorts& a, const shorts& b) {
#if defined(__AVX512BW__)
    return std::bit_cast<integers>(_mm512_madd_epi16(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b)));
#else
    return std::bit_cast<integers>(_mm256_madd_epi16(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
#endif
  }
  /// The sums of one pair of each word, for the W columns of two halves.
  template <int Pair>
  [[gnu::always_inline]] static integers of_pair(const integers (&halves)[2]) {
    return [&]<std::size_t... L>(std::index_sequence<L...>) __attribute__((always_inline)) {
      return __builtin_shufflevector(halves[0], halves[1], static_cast<int>(2 * L + Pair)...);
    }(std::make_index_sequence<static_cast<std::size_t>(W)>());
  }
  /// to [W] = the results for W columns, of these scales
  [[gnu::always_inline]] static void store(const floats& sum, const float* scales, float scale, float* to) {
    const floats result = sum * (load_native<float, W>(scales) * scale);
    std::memcpy(to, &result, sizeof result);
  }
};
#endif

#if defined(FATHOM_BYTE_PRODUCTS)
#undef FATHOM_BYTE_PRODUCTS
/// High and low bytes: x = scale * (256 high + low - 2^15). Sums are exact, and x is off by at most 2^-16 of its
/// largest magnitude, far less than the weights are.
template <class Compute>
  requires(has_byte_products && !std::is_same_v<Compute, double>)
struct rounded<Compute, std::int8_t> {
  static constexpr bool is_used = true, is_for_many = true;
  static constexpr index rows_together = tile_rows / 2, words_per_word = 2, row_padding = 0;
  struct scope {};
  static constexpr index W = lanes<float>, N = packed_view<std::int8_t>::N;
  using weights = packed_view<std::int8_t>;

  [[gnu::noinline]] static void round(const float* x, index in, const rounded_rows& to, index r) {
    const float inverse = scale_row(x, in, to.scales[r]);
    auto* const high = reinterpret_cast<std::uint8_t*>(to.row(r));
    auto* const low = reinterpret_cast<std::uint8_t*>(to.row(r) + to.words_per_row / 2);
    index k = 0;
    for (; k + W <= in; k += W) {
      const auto sum = load_native<float, W>(x + k) * inverse + to_integer;
      const auto bits = std::bit_cast<native<std::uint32_t, W>>(sum);
      const auto h = __builtin_convertvector((bits >> 8) ^ 0x80u, native<std::uint8_t, W>);
      const auto l = __builtin_convertvector(bits & 0xffu, native<std::uint8_t, W>);
      std::memcpy(high + k, &h, sizeof h);
      std::memcpy(low + k, &l, sizeof l);
    }
    for (; k < (in + 3) / 4 * 4; ++k) {
      const auto bits = std::bit_cast<std::uint32_t>(k < in ? x[k] * inverse + to_integer : to_integer);
      high[k] = static_cast<std::uint8_t>((bits >> 8) ^ 0x80u);
      low[k] = static_cast<std::uint8_t>(bits);
    }
  }
  [[gnu::noinline]] static void row(const rounded_rows& x, const weights& w, index first, index count, index apart, float* sums) {
    const std::uint32_t *const high = x.row(0), *const low = high + w.depth;
    for (index s = first; s < first + count; ++s, sums += strip<std::int8_t>::row_step) {
      const strip<std::int8_t> of(w, s, apart);
      byte_sums h[2][2] = {}, l[2][2] = {};  // of even words, of odd ones
      const auto step = [&](index d, auto u) __attribute__((always_inline)) {
        of.prefetch(d);
        unroll<2>([&](auto j) __attribute__((always_inline)) {
          const std::int32_t* const words = of.at + d * N + (j() == 0 ? 0 : of.other);
          h[u][j] = add_byte_products(h[u][j], high[d], words);
          l[u][j] = add_byte_products(l[u][j], low[d], words);
        });
      };
      index d = 0;
      for (; d + 2 <= w.depth; d += 2) {
        step(d, std::integral_constant<std::size_t, 0>());
        step(d + 1, std::integral_constant<std::size_t, 1>());
      }
      if (d < w.depth) step(d, std::integral_constant<std::size_t, 0>());
      store(h[0][0] + h[1][0], l[0][0] + l[1][0], w, of.column, x.scales[0], sums);
      store(h[0][1] + h[1][1], l[0][1] + l[1][1], w, of.other_column, x.scales[0], sums + of.other_sums);
    }
  }
  [[gnu::noinline]] static void rows(const rounded_rows& x, index i, const weights& w, index s, float* sums) {
    constexpr auto count = static_cast<std::size_t>(rows_together);
    const std::uint32_t* left[count];
    unroll<count>([&](auto r) __attribute__((always_inline)) {
      left[r] = x.row(std::min(i + static_cast<index>(r()), x.count - 1));
    });
    byte_sums h[count][2] = {}, l[count][2] = {};
    const strip<std::int8_t> of(w, s);
    const std::int32_t* at = of.at;
    for (index d = 0; d < w.depth; ++d, at += N) {
      if constexpr (strip<std::int8_t>::is_two_panels) of.prefetch(d);  // two streams need it, for a few rows from memory
      unroll<count>([&](auto r) __attribute__((always_inline)) {
        const std::uint32_t high = left[r][d], low = left[r][w.depth + d];
        h[r][0] = add_byte_products(h[r][0], high, at);
        h[r][1] = add_byte_products(h[r][1], high, at + of.other);
        l[r][0] = add_byte_products(l[r][0], low, at);
        l[r][1] = add_byte_products(l[r][1], low, at + of.other);
      });
    }
    unroll<count>([&](auto r) __attribute__((always_inline)) {
      const float scale = x.scales[std::min(i + static_cast<index>(r()), x.count - 1)];
      float* const to = sums + static_cast<index>(r()) * 2 * W;
      store(h[r][0], l[r][0], w, of.column, scale, to);
      store(h[r][1], l[r][1], w, of.other_column, scale, to + W);
    });
  }

 private:
  /// to [W] = the results for the columns from `column` on, from their sums of high and low bytes
  [[gnu::always_inline]] static void store(byte_sums high, byte_sums low, const weights& w, index column, float scale, float* to) {
    using floats = native<float, W>;
    high -= 128 * load_native<std::int32_t, W>(w.totals + column);
    const floats sum = __builtin_convertvector(high, floats) * 256.f + __builtin_convertvector(low, floats);
    const floats result = sum * (load_native<float, W>(w.scales + column) * scale);
    std::memcpy(to, &result, sizeof result);
  }
};
#endif

// ---- Products -------------------------------------------------------------------------------------------------------

/// One unrounded row: each rank streams its share of the strips.
template <class On, class T, class P>
void packed_row_product(const On& on, const matrix<const T>& x, const packed_view<P>& w, const matrix<T>& y,
                        const any_epilogue<T>& epilogue) {
  on.share(strip<P>::count(w), [&](index first, index last) {
    each_strip_of_row<strip<P>>(
        w, first, last, [&](index s, index count, index apart, T* sums) { row_times_strips<P>(x.row(0), w, s, count, apart, sums); },
        [&](const T* sums, index column, index columns) { epilogue(sums, 0, y, 0, column, 1, columns); });
  });
}

/// A few unrounded rows: all of them use a strip, tile by tile, while the caches hold it; each tile prefetches a part
/// of the strip in the next panels.
template <class On, class T, class P>
void packed_rows_product(const On& on, const matrix<const T>& x, const packed_view<P>& w, const matrix<T>& y,
                         const any_epilogue<T>& epilogue) {
  constexpr index N = strip<P>::columns, next_panel = std::max<index>(1, packed_view<P>::N / N);  // in strips
  const index rows = x.rows <= few_rows / 2 ? few_rows / 2 : few_rows, tiles = (x.rows + rows - 1) / rows;
  const index strips = strip<P>::count(w), strip_bytes = w.depth * N * static_cast<index>(sizeof(*w.words));
  on.share(strips * tiles, [&](index first, index last) {
    alignas(alignment) T sums[few_rows * N];
    for (index task = first; task < last; ++task) {
      const index s = task / tiles, i = task % tiles * rows;
      if (s + next_panel < strips) {
        const char* const next = reinterpret_cast<const char*>(w.words) + (s + next_panel) * strip_bytes;
        for (index b = strip_bytes * (task % tiles) / tiles; b < strip_bytes * (task % tiles + 1) / tiles; b += alignment)
          __builtin_prefetch(next + b, 0, 2);
      }
      if (rows == few_rows)
        rows_times_strip<P, few_rows>(x, i, w, s, sums);
      else
        rows_times_strip<P, few_rows / 2>(x, i, w, s, sums);
      epilogue(sums, N, y, i, s * N, std::min(rows, x.rows - i), N);
    }
  });
}

/// The right operand of x w, w packed: its strips in place, or unpacked.
template <class P>
struct unpacked_panels final : panel_source<typename packing<P>::scalar> {
  using T = typename packing<P>::scalar;
  static constexpr index N = packed_view<P>::N, R = packing<P>::rows;
  static_assert(block_words % R == 0);
  packed_view<P> w;

  explicit unpacked_panels(const packed_view<P>& of) : w(of) {}
  /// Whether strips lie as the kernel of matmul.inl.hpp can read them.
  static constexpr bool is_in_place = std::is_same_v<P, T>;
  [[nodiscard]] right_panel<T> panel(index j, index, index k, index words, [[maybe_unused]] T* copy) const override {
    const strip<P> of(w, j / strip<P>::columns);
    const auto* from = of.at + k / R * N;
    if constexpr (is_in_place) {
      return {from, of.other};
    } else {
      T* to = copy;
      for (index d = 0; d < (words + R - 1) / R; ++d, from += N)
        unroll<static_cast<std::size_t>(R)>([&](auto r) __attribute__((always_inline)) {
          unroll<2>([&](auto v) __attribute__((always_inline)) {
            vec<T> numbers = row_of<P, static_cast<index>(r())>(from + (v() == 0 ? 0 : of.other));
            if constexpr (std::is_same_v<P, std::int8_t>)
              numbers *= vec<T>::load_aligned(w.scales + (v() == 0 ? of.column : of.other_column));
            numbers.store_aligned(to);
            to += lanes<T>;
          });
        });
      return {copy, lanes<T>};
    }
  }
};

/// Workspace for rounded rows.
struct rounded_scratch {
  static constexpr index most_rows = 4 * std::max<index>(tile_rows, amx_rows);
  alignas(alignment) std::uint32_t words[64 * 1024];
  float scales[most_rows];
};

static_assert(sizeof(rounded_scratch) <= decoding_workspace_bytes<float>);

/// One or more rounded rows. Each rank rounds as many rows as it has room for, and takes its share of the strips.
template <class Rounded, class On, class P>
void rounded_product(const On& on, const matrix<const float>& x, const packed_view<P>& w, const matrix<float>& y,
                     const any_epilogue<float>& epilogue) {
  constexpr index N = strip<P>::columns, together = Rounded::rows_together;
  const index row = Rounded::words_per_word * w.depth + Rounded::row_padding;
  on.share(strip<P>::count(w), [&](index first, index last) {
    on.template with_scratch<rounded_scratch>([&](rounded_scratch& own) {
      // A row of the largest depth that there is fits twice.
      const index room = std::min<index>(std::ssize(own.words) / row, 4 * std::max(tile_rows, together));
      const index most = room < together ? 1 : room / together * together;
      alignas(alignment) float sums[together * N];
      for (index i = 0; i < x.rows; i += most) {
        const rounded_rows rows{own.words, own.scales, row, std::min(most, x.rows - i)};
        for (index r = 0; r < rows.count; ++r) Rounded::round(x.row(i + r), w.in, rows, r);
        if (rows.count == 1) {
          each_strip_of_row<strip<P>>(
              w, first, last, [&](index s, index count, index apart, float* of) { Rounded::row(rows, w, s, count, apart, of); },
              [&](const float* of, index column, index columns) { epilogue(of, 0, y, i, column, 1, columns); });
        } else {
          [[maybe_unused]] const typename Rounded::scope scope{};
          for (index s = first; s < last; ++s)
            for (index r = 0; r < rows.count; r += together) {
              Rounded::rows(rows, r, w, s, sums);
              epilogue(sums, N, y, i + r, s * N, std::min(together, rows.count - r), N);
            }
        }
      }
    });
  });
}

template <class C, class T, class P>
void packed_product(const context<C, T>& on, const matrix<const T>& x, const packed_view<P>& w, const matrix<T>& y,
                    const any_epilogue<T>& epilogue) {
  using rounded = detail::rounded<C, P>;
  const bool are_few = x.rows <= 2 * few_rows;
  if constexpr (rounded::is_used) {
    if (are_few || rounded::is_for_many) return rounded_product<rounded>(on, x, w, y, epilogue);
  } else {
    if (x.rows == 1) return packed_row_product(on, x, w, y, epilogue);
    if (are_few) return packed_rows_product(on, x, w, y, epilogue);
  }
  if constexpr (!rounded::is_for_many) {
    using operand = detail::operand<T, T>;
    constexpr index stride = unpacked_panels<P>::is_in_place ? packed_view<P>::N : tile_columns<T>;
    const rows_of<operand, T> rows(x, &tile_product<operand, order::rows, T, stride>);
    product<operand, T>(on, w.in, y, rows, unpacked_panels<P>(w), epilogue);
  }
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
