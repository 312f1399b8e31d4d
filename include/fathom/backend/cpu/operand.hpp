// How the operands of matrix products are packed: as plain numbers, or, for the compute type bf16 on a processor with
// bf16 products (AVX512_BF16), as 32-bit words of two neighbours along the depth.
//
// A word holds `numbers_per_word` numbers along the depth k. Packing a tile or a panel rounds to the compute type and
// pads with zeros. If the processor has AMX, pairs are laid out for its tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "fathom/backend/cpu/amx.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {

/// A word is a number. Compute = bf16 rounds it to bf16; products and sums are float.
template <class Compute, class T>
struct operand {
  static constexpr index numbers_per_word = 1;
  static constexpr index rows_of_tile = tile_rows;
  static constexpr index row_padding = 0;                             // words between rows of a left operand
  static constexpr bool as_it_lies = !std::is_same_v<Compute, bf16>;  // rows in memory are rows of words
  static constexpr order columns_order = order::columns;              // of a left operand that is packed from columns
  struct scope {};                                                    // lives during products
  [[nodiscard]] static constexpr index words(index depth) { return depth; }

  [[gnu::always_inline]] static vec<T> multiply_add(const vec<T>& a, const vec<T>& b, const vec<T>& sum) {
    return xsimd::fma(a, b, sum);
  }
  /// to [rows in whole tiles, words] = from [rows, depth]
  static void pack_rows(const T* from, index stride, index rows, index depth, T* to, index words) {
    constexpr index ahead = 2;  // rows
    for (index i = 0; i < rows; ++i, from += stride, to += words) {
      if (i + ahead < rows)
        for (index k = 0; k < depth; k += alignment / sizeof(T)) __builtin_prefetch(from + ahead * stride + k);
      std::copy_n(from, depth, to);
      round_all(to, depth);
    }
    std::fill_n(to, (tile_rows - 1 - (rows - 1) % tile_rows) * words, T(0));
  }
  /// to [panels, depth, tile_columns] = from [depth, columns]
  static void pack_columns(const T* from, index stride, index depth, index columns, T* to) {
    constexpr index N = tile_columns<T>, W = lanes<T>, ahead = 16;  // rows
    for (index k = 0; k < depth; ++k, from += stride, to += N) {
      T* panel = to;
      index j = 0;
      if (k + ahead < depth) __builtin_prefetch(from + ahead * stride);
      for (; j + N <= columns; j += N, panel += depth * N) {  // as two vectors: g++ turns a loop into a call of memmove
        vec<T>::load_unaligned(from + j).store_aligned(panel);
        vec<T>::load_unaligned(from + j + W).store_aligned(panel + W);
        round_all(panel, N);
      }
      if (j < columns) {
        for (index c = 0; c < N; ++c) panel[c] = j + c < columns ? from[j + c] : T(0);
        round_all(panel, N);
      }
    }
  }
  /// to [tiles, depth, tile_rows] = from [depth, columns], tiles tile_stride apart, of which there is room for 2 numbers more
  static void pack_tiles(const T* from, index stride, index depth, index columns, T* to, index tile_stride) {
    constexpr index ahead = 8;   // rows
    constexpr index copied = 8;  // whole vectors, also where a tile has 6 rows: the next row of numbers overwrites the rest
    static_assert(tile_rows == 8 || tile_rows == 6);
    for (index k = 0; k < depth; ++k, from += stride, to += tile_rows) {
      T* tile = to;
      index j = 0;
      if (k + ahead < depth)
        for (index c = 0; c < columns; c += alignment / sizeof(T)) __builtin_prefetch(from + ahead * stride + c);
      for (; j + copied <= columns; j += tile_rows, tile += tile_stride) std::memcpy(tile, from + j, copied * sizeof(T));
      for (; j + tile_rows <= columns; j += tile_rows, tile += tile_stride) std::memcpy(tile, from + j, tile_rows * sizeof(T));
      if (j < columns) {
        std::fill_n(tile, tile_rows, T(0));
        std::copy(from + j, from + columns, tile);
      }
      if constexpr (!as_it_lies)
        for (tile = to, j = 0; j < columns; j += tile_rows, tile += tile_stride) round_all(tile, tile_rows);
    }
  }
  /// to [panels, depth, tile_columns] = from [columns, depth], transposed
  static void pack_transposed(const T* from, index stride, index columns, index depth, T* to) {
    constexpr index N = tile_columns<T>;
    for (index j = 0; j < columns; j += N, from += N * stride, to += depth * N) {
      transpose(from, stride, std::min(N, columns - j), depth, to, N, N);
      round_all(to, depth * N);
    }
  }

 private:
  static void round_all(T* values, index count) {
    if constexpr (std::is_same_v<Compute, bf16>)
      for (index i = 0; i < count; ++i) values[i] = static_cast<float>(bf16(values[i]));
  }
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
/// A word is a pair of bf16: k even in its low half, k + 1 in its high half. vdpbf16ps adds both products to a float;
/// it rounds to nearest, and takes subnormal numbers for 0. Words are stored in arrays of float, but are not floats.
template <>
struct operand<bf16, float> {
  static constexpr index numbers_per_word = 2;
  static constexpr index rows_of_tile = has_amx ? amx_rows : tile_rows;
  static constexpr index row_padding = has_amx ? amx_padding : 0;
  static constexpr bool as_it_lies = false;
  static constexpr order columns_order = has_amx ? order::rows : order::columns;
  using scope = amx_scope;
  [[nodiscard]] static constexpr index words(index depth) {
    constexpr index together = has_amx ? amx_words : 1;
    return ((depth + 1) / 2 + together - 1) / together * together;
  }

  [[gnu::always_inline]] static vec<float> multiply_add(const vec<float>& a, const vec<float>& b, const vec<float>& sum) {
    return _mm512_dpbf16_ps(sum, std::bit_cast<__m512bh>(a), std::bit_cast<__m512bh>(b));
  }

  /// to [count in whole tiles, words] = from [count, depth], rows to_stride words apart
  static void pack_rows(const float* from, index stride, index count, index depth, float* to, index to_stride) {
    for (index i = 0; i < count; ++i, from += stride, to += to_stride) pack_row(from, depth, to);
    std::fill_n(to, (rows_of_tile - 1 - (count - 1) % rows_of_tile) * to_stride, 0.f);
  }
  /// to [words] = from [depth]
  static void pack_row(const float* from, index depth, float* to) {
    index k = 0;
    for (; k + 32 <= depth; k += 32) store(to + k / 2, rounded(load(from + k + 16), load(from + k)));
    for (; k < depth; k += 2) to[k / 2] = pair(from[k], k + 1 < depth ? from[k + 1] : 0.f);
    std::fill(to + k / 2, to + words(depth), 0.f);
  }
  /// to [panels, words, tile_columns] = pairs of rows of from [depth, columns]
  static void pack_columns(const float* from, index stride, index depth, index columns, float* to) {
    constexpr index N = tile_columns<float>;
    const index panel = words(depth) * N;
    for (index k = 0; k < depth; k += 2, from += 2 * stride, to += N)
      for (index j = 0; j < columns; j += N)
        for (index c = 0; c < N; c += 16)
          store(to + j / N * panel + c,
                pairs_of_rows(from + j + c, k + 1 < depth ? from + j + c + stride : nullptr, columns - j - c));
    for (index word = (depth + 1) / 2; word < words(depth); ++word, to += N)
      for (index j = 0; j < columns; j += N) std::fill_n(to + j / N * panel, N, 0.f);
  }
  /// to [columns in whole tiles, words] = pairs of rows of from [depth, columns], transposed: rows to_stride words
  /// apart
  static void pack_columns_as_rows(const float* from, index stride, index depth, index columns, float* to, index to_stride) {
    constexpr index W = 16;
    alignas(alignment) float pairs[W * W];
    for (index word = 0; word < words(depth); word += W)
      for (index j = 0; j < (columns + rows_of_tile - 1) / rows_of_tile * rows_of_tile; j += W) {
        for (index n = 0; n < W; ++n) {
          const index k = std::min(2 * (word + n), depth - 1);
          const float* const row = from + k * stride + j;
          store(pairs + n * W,
                pairs_of_rows(row, k + 1 < depth ? row + stride : nullptr, 2 * (word + n) < depth ? columns - j : 0));
        }
        transpose_square(pairs, W, to + j * to_stride + word, to_stride);
      }
  }
  /// to [tiles, words, tile_rows] = pairs of rows of from [depth, columns], tiles tile_stride apart
  static void pack_tiles(const float* from, index stride, index depth, index columns, float* to, index tile_stride) {
    static_assert(tile_rows == 8);
    for (index k = 0; k < depth; k += 2, from += 2 * stride, to += tile_rows)
      for (index j = 0; j < columns; j += 16) {
        const __m512i pairs = pairs_of_rows(from + j, k + 1 < depth ? from + j + stride : nullptr, columns - j);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j / 8 * tile_stride), _mm512_castsi512_si256(pairs));
        if (j + 8 < columns)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (j / 8 + 1) * tile_stride), _mm512_extracti64x4_epi64(pairs, 1));
      }
  }
  /// to [panels, words, tile_columns] = pairs of columns of from [columns, depth], transposed
  static void pack_transposed(const float* from, index stride, index columns, index depth, float* to) {
    constexpr index N = tile_columns<float>, most = 2 * N;
    alignas(alignment) float words_of[N * most / 2];
    for (index j = 0; j < columns; j += N, from += N * stride, to += words(depth) * N) {
      const index there = std::min(N, columns - j);
      for (index k = 0; k < depth; k += most) {
        const index some = std::min(most, depth - k), count = words(some);
        for (index i = 0; i < there; ++i) pack_row(from + i * stride + k, some, words_of + i * count);
        transpose(words_of, count, there, count, to + k / 2 * N, N, N);
      }
    }
  }

 private:
  static __m512 load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, __m512i words) { _mm512_storeu_si512(to, words); }
  /// bf16 of `low` in the lower half, of `high` in the upper one
  static __m512i rounded(__m512 high, __m512 low) { return std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }
  /// 16 pairs of a number in `row` and the one below it in `next` (null: zeros); zeros beyond `columns`.
  static __m512i pairs_of_rows(const float* row, const float* next, index columns) {
    const auto there = static_cast<__mmask16>(columns >= 16 ? 0xffff : columns <= 0 ? 0 : (1 << columns) - 1);
    const __m512 low = _mm512_maskz_loadu_ps(there, row);
    const __m512 high = next ? _mm512_maskz_loadu_ps(there, next) : _mm512_setzero_ps();
    alignas(64) static constexpr std::uint16_t order_of[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                               8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order_of), rounded(high, low));
  }
  static float pair(float low, float high) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bf16(low).bits) |
                                static_cast<std::uint32_t>(bf16(high).bits) << 16);
  }
};
#endif

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
