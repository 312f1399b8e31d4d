// The few vector operations that the kernels are written in, over xsimd: one text for every vector width.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

// GCC 12 takes the undefined operand of the AVX-512 intrinsics for a mistake (GCC bug 105593). Its warnings point into
// this header, so it is included here first.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13 && (defined(__x86_64__) || defined(__i386__))
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include <xsimd/xsimd.hpp>

#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {

/// A vector register of T.
template <class T>
using vec = xsimd::batch<T>;
/// Numbers in it.
template <class T>
inline constexpr index lanes = static_cast<index>(vec<T>::size);

/// Calls f(0), ..., f(N - 1) with compile-time numbers: a loop that is unrolled on every compiler and at every level.
template <std::size_t N, class F>
[[gnu::always_inline]] inline void unroll(const F& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<std::size_t, I>()), ...);
  }(std::make_index_sequence<N>());
}

/// The sum of all lanes.
template <class V>
[[nodiscard]] inline auto horizontal_sum(const V& v) {
  if constexpr (requires { reduce_add(v); })
    return reduce_add(v);
  else
    return hadd(v);  // its name in xsimd 8
}

/// e^x for x <= 0, and 0 for -infinity.
template <class T>
[[nodiscard]] inline vec<T> exp_of_nonpositive(vec<T> x) {
  // On the way, xsimd makes doubles integers, some of them one by one in plain C++, where -infinity has no integer.
  if constexpr (sizeof(T) == sizeof(double)) x = xsimd::select(x < vec<T>(-1000), vec<T>(-1000), x);
  return xsimd::exp(x);
}

/// W numbers as the compiler's own vector, for what is said best in plain operators: shifts, conversions, shuffles.
template <class T, index W>
using native [[gnu::vector_size(W * sizeof(T))]] = T;
template <class T, index W>
[[nodiscard]] inline native<T, W> load_native(const T* from) {
  native<T, W> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
/// The same bits as a vector of T.
template <class T, class Native>
[[nodiscard]] inline vec<T> as_vec(const Native& v) {
  static_assert(sizeof(Native) == sizeof(vec<T>));
  return std::bit_cast<vec<T>>(v);
}

/// Transposes a square of W x W numbers between memory: to[j * to_stride + i] = from[i * from_stride + j]. W = lanes<T>.
/// log2(W) rounds of interleaving row i with row i + W/2.
template <class T>
inline void transpose_square(const T* from, index from_stride, T* to, index to_stride) {
  constexpr std::size_t W = static_cast<std::size_t>(lanes<T>);
  native<T, lanes<T>> rows[W], next[W];
  unroll<W>([&](auto i) __attribute__((always_inline)) { rows[i] = load_native<T, lanes<T>>(from + static_cast<index>(i) * from_stride); });
  const auto interleave = [&]<std::size_t... L>(std::index_sequence<L...>) {
    for (std::size_t width = 1; width < W; width *= 2) {
      unroll<W / 2>([&](auto i) __attribute__((always_inline)) {
        next[2 * i] = __builtin_shufflevector(rows[i], rows[i + W / 2], static_cast<int>(L / 2 + (L % 2) * W)...);
        next[2 * i + 1] =
            __builtin_shufflevector(rows[i], rows[i + W / 2], static_cast<int>(W / 2 + L / 2 + (L % 2) * W)...);
      });
      unroll<W>([&](auto i) __attribute__((always_inline)) { rows[i] = next[i]; });
    }
  };
  interleave(std::make_index_sequence<W>());
  unroll<W>([&](auto i) __attribute__((always_inline)) { std::memcpy(to + static_cast<index>(i) * to_stride, &rows[i], sizeof rows[i]); });
}

/// to[j * to_stride + i] = from[i * from_stride + j] for i in [0, rows), j in [0, columns); the columns of `to`
/// from `rows` up to `padded` become 0.
template <class T>
inline void transpose(const T* from, index from_stride, index rows, index columns, T* to, index to_stride, index padded) {
  constexpr index W = lanes<T>;
  const index whole_rows = rows / W * W, whole_columns = columns / W * W;
  for (index i = 0; i < whole_rows; i += W)
    for (index j = 0; j < whole_columns; j += W)
      transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  const auto one_by_one = [&](index first_row, index first_column) {
    for (index j = first_column; j < columns; ++j) {
      for (index i = first_row; i < rows; ++i) to[j * to_stride + i] = from[i * from_stride + j];
      for (index i = rows; i < padded; ++i) to[j * to_stride + i] = T(0);
    }
  };
  if (whole_columns < columns) one_by_one(0, whole_columns);
  if (whole_rows < padded) one_by_one(whole_rows, 0);
}

}  // namespace fathom::cpu
