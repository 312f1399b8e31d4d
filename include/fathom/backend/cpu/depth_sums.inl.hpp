// Sums over depths on the CPU: definitions for depth_sums.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "fathom/backend/cpu/depth_sums.hpp"
#include "fathom/backend/cpu/elementwise.inl.hpp"
#include "fathom/backend/cpu/map.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/epilogue.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

template <class C, class T>
void add_scaled(const context<C, T>& on, matrix<const std::type_identity_t<T>> w,
                matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> z,
                matrix<std::type_identity_t<T>> y) {
  detail::for_rows(on, y.rows, [&](index i) {
    const T factor = w(i, 0);
    const T *const from = x.row(i), *const onto = z.row(i);
    T* const to = y.row(i);
    detail::for_lanes<T>(
        y.columns, [=]<class V>(V, index j) __attribute__((always_inline)) {
          epilogue::store(to + j, V(epilogue::load<V>(onto + j) + V(factor) * epilogue::load<V>(from + j)));
        });
  });
}

template <class C, class T>
void row_dots(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> y,
              matrix<std::type_identity_t<T>> d) {
  detail::for_rows(on, x.rows, [&](index i) {
    const T *const a = x.row(i), *const b = y.row(i);
    d(i, 0) = detail::sums_of<T, 1>(
        x.columns, [=]<class V>(V, index j) __attribute__((always_inline)) {
          return std::array{V(epilogue::load<V>(a + j) * epilogue::load<V>(b + j))};
        })[0];
  });
}

namespace detail {
/// e^x for x <= 0, of a vector or a scalar.
template <class T, class V>
[[gnu::always_inline]] inline V exp_down(const V& x) {
  if constexpr (std::is_same_v<V, T>)
    return std::exp(x);
  else
    return exp_of_nonpositive<T>(x);
}
template <class T, class V>
[[gnu::always_inline]] inline V larger(const V& a, const V& b) {
  if constexpr (std::is_same_v<V, T>)
    return std::max(a, b);
  else
    return xsimd::max(a, b);
}
}  // namespace detail

template <class C, class T>
void softmax_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                     matrix<std::type_identity_t<T>> y) {
  detail::for_columns(on, x.columns, [&](index first, index count) {
    const matrix<const T> from = x.columns_from(first, count);
    const matrix<T> to = y.columns_from(first, count);
    detail::for_lanes<T>(
        count, [=]<class V>(V, index j) __attribute__((always_inline)) {
          V largest = epilogue::load<V>(from.row(0) + j);
          for (index i = 1; i < from.rows; ++i)
            largest = detail::larger<T>(largest, epilogue::load<V>(from.row(i) + j));
          V total(T(0));
          for (index i = 0; i < from.rows; ++i) {
            const V power = detail::exp_down<T>(V(epilogue::load<V>(from.row(i) + j) - largest));
            epilogue::store(to.row(i) + j, power);
            total += power;
          }
          const V inverse = V(T(1)) / total;
          for (index i = 0; i < from.rows; ++i)
            epilogue::store(to.row(i) + j, V(epilogue::load<V>(to.row(i) + j) * inverse));
        });
  });
}

template <class C, class T>
void softmax_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> y,
                      matrix<const std::type_identity_t<T>> dy, matrix<std::type_identity_t<T>> dx) {
  detail::for_columns(on, y.columns, [&](index first, index count) {
    const matrix<const T> weights = y.columns_from(first, count), d = dy.columns_from(first, count);
    const matrix<T> to = dx.columns_from(first, count);
    detail::for_lanes<T>(
        count, [=]<class V>(V, index j) __attribute__((always_inline)) {
          V sum(T(0));
          for (index i = 0; i < weights.rows; ++i)
            sum += epilogue::load<V>(weights.row(i) + j) * epilogue::load<V>(d.row(i) + j);
          for (index i = 0; i < weights.rows; ++i)
            epilogue::store(to.row(i) + j,
                            V(epilogue::load<V>(weights.row(i) + j) * (epilogue::load<V>(d.row(i) + j) - sum)));
        });
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
