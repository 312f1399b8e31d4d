// Epilogues: what is applied to the elements of a matrix product as they are stored: bias, residual, activations, their
// gradients. Fused, so that a layer needs no further pass over its activations.
//
// An epilogue is called with the accumulated value(s) and their position in the product, and returns what to store. V
// is the scalar or a SIMD vector of consecutive columns, so each epilogue is written once for every backend. To add
// one, define such a struct in your program. For speed it may declare `static constexpr bool reads_nothing = true`, if
// it depends on no matrix but its own parameters, or `matrix<const T> beside() const`, the one matrix besides the
// result that it reads or writes.
#pragma once

#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/core/anywhere.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

namespace epilogue {

template <class V, class T>
[[nodiscard]] FATHOM_ANYWHERE inline V load(const T* from) {
  if constexpr (std::is_same_v<V, T>)
    return *from;
  else
    return V::load_unaligned(from);
}
template <class V, class T>
FATHOM_ANYWHERE inline void store(T* to, const V& value) {
  if constexpr (std::is_same_v<V, T>)
    *to = value;
  else
    value.store_unaligned(to);
}

/// y = v
struct none {
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index, index) const {
    return v;
  }
};

/// y = v + r, r [rows, columns]; r may be y itself: y += v
template <class T>
struct add {
  matrix<const T> residual;
  [[nodiscard]] matrix<const T> beside() const { return residual; }
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index i, index j) const {
    return v + load<V>(&residual(i, j));
  }
};
template <class T>
add(matrix<T>) -> add<std::remove_const_t<T>>;

/// y = v + b, b [columns]
template <class T>
struct bias {
  static constexpr bool reads_nothing = true;
  const T* b;
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index, index j) const {
    return v + load<V>(b + j);
  }
};
template <class T>
bias(const T*) -> bias<T>;

/// y = v + b + r
template <class T>
struct bias_add {
  const T* b;
  matrix<const T> residual;
  [[nodiscard]] matrix<const T> beside() const { return residual; }
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index i, index j) const {
    return v + load<V>(b + j) + load<V>(&residual(i, j));
  }
};
template <class T, class R>
bias_add(const T*, matrix<R>) -> bias_add<T>;

/// z = v + b, y = A(z); stores z in `before` for the backward pass, if that has data. b may be null: z = v
template <class A, class T>
struct activated {
  static constexpr bool is_long = true;  // for kernels: do not unroll it
  static constexpr bool reads_nothing = true;
  [[no_unique_address]] A activation;
  const T* b;
  matrix<T> before;
  [[nodiscard]] matrix<const T> beside() const { return before; }
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index i, index j) const {
    const V z = b ? v + load<V>(b + j) : v;
    if (before.data) epilogue::store(&before(i, j), z);  // qualified: xsimd's own `store` is for aligned memory
    return typename A::template at<V>(z).value;
  }
};
template <class A, class T>
activated(A, const T*, matrix<T>) -> activated<A, T>;

/// y = v A'(z): the gradient that passes back through the activation
template <class A, class T>
struct activation_gradient {
  static constexpr bool is_long = true;
  [[no_unique_address]] A activation;
  matrix<const T> before;
  [[nodiscard]] matrix<const T> beside() const { return before; }
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index i, index j) const {
    return v * typename A::template at<V>(load<V>(&before(i, j))).derivative;
  }
};
template <class A, class T>
activation_gradient(A, matrix<T>) -> activation_gradient<A, std::remove_const_t<T>>;

}  // namespace epilogue
}  // namespace fathom
