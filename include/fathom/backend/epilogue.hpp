// What happens to an element of a matrix product where it is stored: bias, residual, GELU, their gradients. Fused, so that
// a layer costs no further pass over its activations.
//
// An epilogue is called with the accumulated value(s) and their place in the product, and returns what to store. V is the
// scalar, or a SIMD batch of consecutive columns: each epilogue is written once for every backend.
#pragma once

#include <cmath>
#include <complex>
#include <type_traits>

#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The logistic function s(u) = 1 / (1 + e^-u), and its slope s (1 - s). A backend has its own for its vectors, where
/// that is faster.
template <class V>
struct logistic {
  V value, slope;

  [[gnu::always_inline]] explicit logistic(const V& u) {
    using std::exp;  // or the SIMD type's own
    value = V(1) / (V(1) + exp(-u));
    slope = value * (V(1) - value);
  }
};

/// GELU in its tanh form, "gelu_new" (Hendrycks and Gimpel, arXiv 1606.08415):
///   x (1 + tanh(u)) / 2 = x s(2u),   u = sqrt(2/pi) (x + 0.044715 x^3),   s the logistic function.
template <class V>
struct gelu {
  V value, derivative;

  [[gnu::always_inline]] explicit gelu(const V& x) {
    constexpr double sqrt_2_over_pi = 0.79788456080286535588, cubic = 0.044715;
    const V square = x * x;
    const V u2 = constant(2 * sqrt_2_over_pi) * x * (constant(1) + constant(cubic) * square);
    const V slope_of_u2 = constant(2 * sqrt_2_over_pi) * (constant(1) + constant(3 * cubic) * square);
    const logistic<V> s(u2);
    value = x * s.value;
    derivative = s.value + x * s.slope * slope_of_u2;
  }

 private:
  static V constant(double c) {
    if constexpr (requires { typename V::value_type; })
      return V(static_cast<typename V::value_type>(c));
    else
      return static_cast<V>(c);
  }
};

namespace epilogue {

template <class V, class T>
[[nodiscard]] inline V load(const T* from) {
  if constexpr (std::is_same_v<V, T>)
    return *from;
  else
    return V::load_unaligned(from);
}
template <class V, class T>
inline void store(T* to, const V& value) {
  if constexpr (std::is_same_v<V, T>)
    *to = value;
  else
    value.store_unaligned(to);
}

/// y = v
struct none {
  template <class V>
  [[nodiscard, gnu::always_inline]] V operator()(const V& v, index, index) const {
    return v;
  }
};

/// y = v + r, r [rows, columns]; r may be y itself: y += v
template <class T>
struct add {
  matrix<const T> residual;
  template <class V>
  [[nodiscard, gnu::always_inline]] V operator()(const V& v, index i, index j) const {
    return v + load<V>(&residual(i, j));
  }
};
template <class T>
add(matrix<T>) -> add<std::remove_const_t<T>>;

/// y = v + b, b [columns]
template <class T>
struct bias {
  const T* b;
  template <class V>
  [[nodiscard, gnu::always_inline]] V operator()(const V& v, index, index j) const {
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
  template <class V>
  [[nodiscard, gnu::always_inline]] V operator()(const V& v, index i, index j) const {
    return v + load<V>(b + j) + load<V>(&residual(i, j));
  }
};
template <class T, class R>
bias_add(const T*, matrix<R>) -> bias_add<T>;

/// z = v + b, y = GELU(z); z is kept for backward in `before`, where that is given
template <class T>
struct bias_gelu {
  static constexpr bool is_long = true;  // a kernel has it once, in a loop
  const T* b;
  matrix<T> before;
  template <class V>
  [[nodiscard, gnu::always_inline]] V operator()(const V& v, index i, index j) const {
    const V z = v + load<V>(b + j);
    if (before.data) epilogue::store(&before(i, j), z);  // qualified: xsimd's own `store` is for aligned memory
    return gelu<V>(z).value;
  }
};
template <class T>
bias_gelu(const T*, matrix<T>) -> bias_gelu<T>;

/// y = v GELU'(z): the gradient that passes back through the activation
template <class T>
struct gelu_gradient {
  static constexpr bool is_long = true;
  matrix<const T> before;
  template <class V>
  [[nodiscard, gnu::always_inline]] V operator()(const V& v, index i, index j) const {
    return v * gelu<V>(load<V>(&before(i, j))).derivative;
  }
};
template <class T>
gelu_gradient(matrix<T>) -> gelu_gradient<std::remove_const_t<T>>;

}  // namespace epilogue
}  // namespace fathom
