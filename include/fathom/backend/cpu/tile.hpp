// The register tile: the one inner loop that every matrix product and both attentions are made of.
#pragma once

#include "fathom/backend/cpu/simd.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {

/// How a tile reads its left operand a(i, k).
enum class order {
  rows,    // a[i * lda + k]: row-major
  columns  // a[k * lda + i]: the transpose of a row-major matrix
};

// Rows of a tile: as many as keep all accumulators in registers (AVX-512 and Arm have 32, others 16).
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr index tile_rows = 8;
#else
inline constexpr index tile_rows = 4;
#endif
/// Columns of a tile: two vectors.
template <class T>
inline constexpr index tile_columns = 2 * lanes<T>;

/// Rows x tile_columns numbers of a product, in registers.
template <class T, index Rows = tile_rows>
struct tile {
  vec<T> at[Rows][2];

  [[gnu::always_inline]] void clear() {
    unroll<Rows>([&](auto i) __attribute__((always_inline)) { at[i][0] = at[i][1] = vec<T>(T(0)); });
  }
  /// c [Rows, tile_columns], its rows ldc apart
  [[gnu::always_inline]] void load(const T* c, index ldc) {
    unroll<Rows>([&](auto i) __attribute__((always_inline)) {
      at[i][0] = vec<T>::load_unaligned(c + static_cast<index>(i) * ldc);
      at[i][1] = vec<T>::load_unaligned(c + static_cast<index>(i) * ldc + lanes<T>);
    });
  }
  [[gnu::always_inline]] void store(T* c, index ldc) const {
    unroll<Rows>([&](auto i) __attribute__((always_inline)) {
      at[i][0].store_unaligned(c + static_cast<index>(i) * ldc);
      at[i][1].store_unaligned(c + static_cast<index>(i) * ldc + lanes<T>);
    });
  }
  /// += a(:, k) b(k, :) for one k
  template <order Order>
  [[gnu::always_inline]] void add_product(const T* a, index lda, const vec<T>& b0, const vec<T>& b1) {
    unroll<Rows>([&](auto i) __attribute__((always_inline)) {
      const vec<T> left(Order == order::rows ? a[static_cast<index>(i) * lda] : a[static_cast<index>(i)]);
      at[i][0] = xsimd::fma(left, b0, at[i][0]);
      at[i][1] = xsimd::fma(left, b1, at[i][1]);
    });
  }
  /// += a [Rows, depth] b [depth, tile_columns], the rows of b ldb apart
  template <order Order>
  [[gnu::always_inline]] void add_product(const T* a, index lda, const T* b, index ldb, index depth) {
    for (index k = 0; k < depth; ++k) {
      const auto b0 = vec<T>::load_unaligned(b), b1 = vec<T>::load_unaligned(b + lanes<T>);
      add_product<Order>(a, lda, b0, b1);
      a += Order == order::rows ? 1 : lda;
      b += ldb;
    }
  }
};

/// Calls f(first, constant number of rows) so that [0, count) is covered: whole tiles first, then single rows.
template <class F>
[[gnu::always_inline]] inline void for_tiles(index count, const F& f) {
  index i = 0;
  for (; i + tile_rows <= count; i += tile_rows) f(i, std::integral_constant<index, tile_rows>());
  for (; i < count; ++i) f(i, std::integral_constant<index, 1>());
}

}  // namespace fathom::cpu
