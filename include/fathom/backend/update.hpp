// In-place updates of several arrays, element by element: above all, the step of an optimiser. Every backend has one
// operation for them,
//
//   update(on, f, count, x...)      f(x[i]...) for every i in [0, count)
//
// which reads and writes every array once. f is called with V&..., where V is the scalar or a SIMD batch of consecutive
// elements, so a functor is written once for every backend. It is copied, also into GPU kernels, so it holds values,
// not pointers. Its results must depend only on the elements at the same index.
//
//   template <class T>
//   struct scale_and_add {
//     T a;
//     template <class V>
//     FATHOM_ANYWHERE void operator()(V& y, V& x) const { y = V(a) * y + x; }
//   };
#pragma once

#include <cmath>
#include <type_traits>

#include "fathom/backend/functors.hpp"
#include "fathom/core/anywhere.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The sign of each element: -1, 0 or 1; 0 for NaN. V: a scalar or a SIMD batch.
template <class V>
FATHOM_ANYWHERE inline V sign_of(const V& v) {
  if constexpr (requires { select(v > v, v, v); })
    return select(v > V(0), V(1), select(v < V(0), V(-1), V(0)));
  else
    return static_cast<V>((v > V(0)) - (v < V(0)));
}

/// A tensor's range in a parameter block, and what a step does with it.
struct step_range {
  static constexpr int frozen = -1;  // zeroes its gradient, which is excluded from the norm
  static constexpr int left = -2;    // only counts its gradient in the norm; the optimiser does the rest
  index first, size;
  int kind;  // the index of its formula, or one of the above
};

/// A step in one pass: f(w, scaled gradient, state...), then the gradient is zeroed.
template <class F, class T>
struct gradient_step {
  F f;
  T scale;
  template <class V, class... S>
  FATHOM_ANYWHERE void operator()(V& w, V& g, S&... state) const {
    f(w, V(g * V(scale)), state...);
    g = V(T(0));
  }
};
template <class F, class T>
inline constexpr bool is_in_kernels<gradient_step<F, T>> = is_in_kernels<F>;

}  // namespace fathom
