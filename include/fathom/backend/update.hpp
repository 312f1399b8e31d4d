// What becomes of numbers that lie side by side in several arrays: the step of an optimiser, above all. Every backend has one
// operation for it,
//
//   update(on, f, count, x...)      f(x[i]...) for every i in [0, count)
//
// which reads every array once and writes every array once. f is called with V&..., where V is the scalar, or a SIMD batch of
// consecutive numbers: a functor is written once for every backend. It is copied, into kernels of a GPU, too, so that it holds
// numbers and no pointers; what it computes for a number must depend on nothing but the numbers at the same place.
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

/// -1, 0 or 1, for each number by itself; 0 for NaN. V: a scalar, or a SIMD batch.
template <class V>
FATHOM_ANYWHERE inline V sign_of(const V& v) {
  if constexpr (requires { select(v > v, v, v); })
    return select(v > V(0), V(1), select(v < V(0), V(-1), V(0)));
  else
    return static_cast<V>((v > V(0)) - (v < V(0)));
}

/// A tensor among the numbers of a parameter block, and what a step does with it.
struct step_range {
  static constexpr int frozen = -1;  // zeroes its gradient, which does not count for the norm
  static constexpr int left = -2;    // nothing but to count its gradient: the optimiser does the rest
  index first, size;
  int kind;  // the number of the formula that it gets, or one of the above
};

/// f(w, gradient, state...), with the gradient scaled, which is then zeroed: a step in one pass.
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
