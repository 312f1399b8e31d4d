// Epilogues: what is applied to the elements of a matrix product as they are stored: bias, residual, activations, their
// gradients. Fused, so that a layer needs no further pass over its activations.
//
// An epilogue is called with the accumulated value(s) and their position in the product, and returns what to store. V
// is the scalar or a SIMD vector of consecutive columns, so each epilogue is written once for every backend. To add
// one, define such a struct in your program. For speed it may declare `static constexpr bool reads_nothing = true`, if
// it depends on no matrix but its own parameters, or `matrix<const T> beside() const`, the one matrix besides the
// result that it reads or writes.
#pragma once

#include <cmath>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/functors.hpp"
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

/// z = v + b, y = A(a) z: a gate. z is kept for backward in `kept`, where that is given. b may be null: z = v
template <class A, class T>
struct gated {
  [[no_unique_address]] A activation;
  const T* b;
  matrix<const T> a;
  matrix<T> kept;
  [[nodiscard]] matrix<const T> beside() const { return a; }
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index i, index j) const {
    const V z = b ? v + load<V>(b + j) : v;
    if (kept.data) epilogue::store(&kept(i, j), z);
    return typename A::template at<V>(load<V>(&a(i, j))).value * z;
  }
};
template <class A, class T, class M>
gated(A, const T*, matrix<M>, matrix<T>) -> gated<A, T>;

/// da = v z A'(a), y = v A(a): the gradients that pass back through the gate, to a and to z
template <class A, class T>
struct gate_gradient {
  [[no_unique_address]] A activation;
  matrix<const T> a, z;
  matrix<T> da;
  [[nodiscard]] matrix<const T> beside() const { return a; }
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index i, index j) const {
    const typename A::template at<V> at(load<V>(&a(i, j)));
    epilogue::store(&da(i, j), V(v * load<V>(&z(i, j)) * at.derivative));
    return v * at.value;
  }
};
template <class A, class M, class T>
gate_gradient(A, matrix<M>, matrix<M>, matrix<T>) -> gate_gradient<A, T>;

/// y = cap tanh(v / cap): v, softly bounded to (-cap, cap) (Gemma 2, arXiv 2408.00118, section 2). dy/dv = 1 - (y / cap)^2
template <class T>
struct soft_cap {
  static constexpr bool reads_nothing = true;
  T cap;
  template <class V>
  [[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE V operator()(const V& v, index, index) const {
    using std::tanh;  // or the vector overload
    return V(cap) * tanh(v / V(cap));
  }
};

}  // namespace epilogue

template <>
inline constexpr bool is_in_kernels<epilogue::none> = true;
template <class T>
inline constexpr bool is_in_kernels<epilogue::soft_cap<T>> = true;
template <class T>
inline constexpr bool is_in_kernels<epilogue::add<T>> = true;
template <class T>
inline constexpr bool is_in_kernels<epilogue::bias<T>> = true;
template <class T>
inline constexpr bool is_in_kernels<epilogue::bias_add<T>> = true;
template <class A, class T>
inline constexpr bool is_in_kernels<epilogue::activated<A, T>> = is_in_kernels<A>;
template <class A, class T>
inline constexpr bool is_in_kernels<epilogue::activation_gradient<A, T>> = is_in_kernels<A>;
template <class A, class T>
inline constexpr bool is_in_kernels<epilogue::gated<A, T>> = is_in_kernels<A>;
template <class A, class T>
inline constexpr bool is_in_kernels<epilogue::gate_gradient<A, T>> = is_in_kernels<A>;

}  // namespace fathom
