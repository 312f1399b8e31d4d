// The register tile of matrix products: its shape and its accumulators.
#pragma once

#include "fathom/backend/cpu/simd.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// How a kernel reads its left operand a(i, k).
enum class order {
  rows,    // a[i * lda + k]: row-major
  columns  // a[k * lda + i]: the transpose of a row-major matrix
};

/// Rows of the register tile. Its rows x 2 accumulators are enough to hide latency (two fused multiply-adds a cycle, of
/// four or five cycles each, need ten chains), and fit in registers beside two vectors of the right operand and one
/// number of the left.
inline constexpr index tile_rows = vector_registers == 32 ? 8 : 6;
/// Its columns: two vectors.
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
};

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
