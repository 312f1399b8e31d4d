// The few vector operations that the kernels use, on top of xsimd: one source for every vector width.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// GCC 12 warns about the deliberately undefined operand of the AVX-512 intrinsics (GCC bug 105593). The warnings point
// into this header, so it is included here first.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13 && (defined(__x86_64__) || defined(__i386__))
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include <xsimd/xsimd.hpp>

#include "fathom/backend/cpu/isa.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// A vector register of T.
template <class T>
using vec = xsimd::batch<T>;
/// Its number of lanes.
template <class T>
inline constexpr index lanes = static_cast<index>(vec<T>::size);
static_assert(sizeof(vec<float>) == vector_bytes, "fathom: xsimd chose vectors of another width than isa.hpp");

/// Calls f(0), ..., f(N - 1) with compile-time indices: a loop that every compiler unrolls at every optimisation level.
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

namespace detail {
/// Calls f(V(), j) for consecutive pieces of [0, n): V is a vector, and T itself for the remainder.
template <class T, class F>
[[gnu::always_inline]] inline void for_lanes(index n, const F& f) {
  index j = 0;
  for (; j + lanes<T> <= n; j += lanes<T>) f(vec<T>(), j);
  for (; j < n; ++j) f(T(), j);
}
}  // namespace detail

/// W numbers as a compiler vector type, for plain operators: shifts, conversions, shuffles.
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

/// The bits of a vector as a compiler vector of U.
template <class U, class T>
[[nodiscard]] inline auto bits_of(const vec<T>& v) {
  static_assert(sizeof(U) == sizeof(T));
  return std::bit_cast<native<U, lanes<T>>>(v);
}

/// The largest of all lanes, in every lane.
template <class T>
[[nodiscard]] inline vec<T> largest_lane(vec<T> v) {
  const auto with_partner = [&]<std::size_t Distance, std::size_t... L>(std::index_sequence<L...>)
      __attribute__((always_inline)) {
    const auto lanes_of_v = bits_of<T>(v);
    v = xsimd::max(v, as_vec<T>(__builtin_shufflevector(lanes_of_v, lanes_of_v, static_cast<int>(L ^ Distance)...)));
  };
  constexpr std::size_t W = static_cast<std::size_t>(lanes<T>);
  unroll<std::bit_width(W) - 1>([&](auto i) __attribute__((always_inline)) {
    with_partner.template operator()<(std::size_t{1} << i)>(std::make_index_sequence<W>());
  });
  return v;
}

template <class T>
[[nodiscard]] inline T horizontal_max(const vec<T>& v) {
  return largest_lane<T>(v).get(0);
}

/// e^x for floats in [-87.3, 87.3], NaN for NaN; relative error at most 2 eps. e^x = 2^n e^r with n = round(x / ln 2),
/// and a minimax polynomial for e^r, |r| <= ln(2)/2, of relative error at most 1.05e-7, whose first two coefficients
/// are 1.
[[nodiscard, gnu::always_inline]] inline vec<float> exp_in_range(const vec<float>& x) {
  using V = vec<float>;
  // 1.5 * 2^23 + 127: adding it rounds a number to an integer, which the last bits of the sum hold, plus the exponent
  // bias.
  const V to_integer(12583039.f);
  const V sum = xsimd::fma(x, V(1.44269504f), to_integer), n = sum - to_integer;
  // ln 2 in two parts; n times the larger one is exact.
  const V r = xsimd::fma(n, V(2.12194440e-4f), xsimd::fma(n, V(-0.693359375f), x));
  V power = xsimd::fma(r, V(0.00831250101f), V(0.0418903343f));
  power = xsimd::fma(r, power, V(0.166671157f));
  power = xsimd::fma(r, power, V(0.499992311f));
  power = xsimd::fma(r, power, V(1.f));
  power = xsimd::fma(r, power, V(1.f));
  // A product, not an integer addition to the exponent: it preserves NaN.
  return power * as_vec<float>(bits_of<std::uint32_t, float>(sum) << 23);
}

/// e^x for x <= 0; 0 for -infinity, NaN for NaN. In float: relative error at most 2 eps, and 0 below 1.3e-38.
template <class T>
[[nodiscard, gnu::always_inline]] inline vec<T> exp_of_nonpositive(const vec<T>& x) {
  if constexpr (std::is_same_v<T, float>) {
    return xsimd::select(x < vec<T>(-87.3f), vec<T>(0.f), exp_in_range(x));
  } else {
    // xsimd converts to integers here, on some targets in plain C++, which is undefined for -infinity and NaN.
    const vec<T> power = xsimd::exp(xsimd::select(x >= vec<T>(-1000), x, vec<T>(-1000)));
    return xsimd::select(x == x, power, x);
  }
}

/// N numbers as a vector: 128 bits from `from`, the next 128 from a stride further on, and so forth.
template <class T, index N>
[[nodiscard, gnu::always_inline]] inline native<T, N> load_pieces(const T* from, index stride) {
  constexpr index in_128 = 16 / static_cast<index>(sizeof(T));
  if constexpr (N == in_128) {
    return load_native<T, N>(from);
  } else {
    const auto low = load_pieces<T, N / 2>(from, stride), high = load_pieces<T, N / 2>(from + N / 2 / in_128 * stride, stride);
    return [&]<std::size_t... L>(std::index_sequence<L...>) __attribute__((always_inline)) {
      return __builtin_shufflevector(low, high, static_cast<int>(L)...);
    }(std::make_index_sequence<static_cast<std::size_t>(N)>());
  }
}

/// Transposes a W x W square in memory: to[j * to_stride + i] = from[i * from_stride + j]. W = lanes<T>. It takes P
/// columns at a time, P the numbers in 128 bits. Piece m of vector r is loaded from row r + m P; each 128 bits of P
/// such vectors are then a P x P square, transposed in log2(P) rounds of interleaving vector r with r + P / 2. Both are
/// cheap: loads of 128 bits, and shuffles within 128 bits.
template <class T>
inline void transpose_square(const T* from, index from_stride, T* to, index to_stride) {
  constexpr index W = lanes<T>;
  constexpr std::size_t P = 16 / sizeof(T);
  const auto interleave = [&]<std::size_t... L>(native<T, W>* v, std::index_sequence<L...>) __attribute__((always_inline)) {
    constexpr std::size_t N = sizeof...(L);
    native<T, W> next[P];
    unroll<P / 2>([&](auto r) __attribute__((always_inline)) {
      next[2 * r] = __builtin_shufflevector(v[r], v[r + P / 2], static_cast<int>(L / P * P + L % P / 2 + (L % 2) * N)...);
      next[2 * r + 1] = __builtin_shufflevector(v[r], v[r + P / 2], static_cast<int>(L / P * P + P / 2 + L % P / 2 + (L % 2) * N)...);
    });
    unroll<P>([&](auto r) __attribute__((always_inline)) { v[r] = next[r]; });
  };
  for (index j = 0; j < W; j += static_cast<index>(P)) {
    native<T, W> v[P];
    unroll<P>([&](auto r) __attribute__((always_inline)) {
      v[r] = load_pieces<T, W>(from + static_cast<index>(r()) * from_stride + j, static_cast<index>(P) * from_stride);
    });
    unroll<std::bit_width(P) - 1>([&](auto) __attribute__((always_inline)) {
      interleave(v, std::make_index_sequence<static_cast<std::size_t>(W)>());
    });
    unroll<P>([&](auto r) __attribute__((always_inline)) {
      std::memcpy(to + (j + static_cast<index>(r())) * to_stride, &v[r], sizeof v[r]);
    });
  }
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

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

namespace fathom {

/// The logistic function of float vectors: relative error at most 5 eps, or absolute error at most 1.3e-38.
template <>
struct logistic<cpu::vec<float>> {
  cpu::vec<float> value, slope;

  [[gnu::always_inline]] explicit logistic(const cpu::vec<float>& u) {
    using V = cpu::vec<float>;
    // If one operand is NaN, max and min return the second one.
    const V power = cpu::exp_in_range(xsimd::min(V(87.3f), xsimd::max(V(-87.3f), -u)));
    value = V(1.f) / (V(1.f) + power);
    slope = power * value * value;  // power * value = 1 - value, without cancellation
  }
};

}  // namespace fathom
