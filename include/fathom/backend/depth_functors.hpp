// Functors of sums over depths, for elementwise (backend/operations.hpp).
#pragma once

#include <cmath>
#include <cstddef>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/functors.hpp"
#include "fathom/core/anywhere.hpp"

namespace fathom {

/// r = 1 / sqrt(x / count + epsilon), of the sum x of `count` squares. NaN where it is infinite, as for norms (norm_scale.hpp)
struct inverse_root_mean {
  double count, epsilon;
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 1> operator()(const numbers<V, 1>& x) const {
    using std::sqrt;  // or the vector overload
    return {{V(V(1) / sqrt(V(x[0] * constant<V>(1 / count) + constant<V>(epsilon))) + (x[0] - x[0]))}};
  }
};

/// The gradient of a score s = r (w . x), r = 1 / sqrt(x . x / count + epsilon), with respect to x is a w + b x, where,
/// of (ds, r, w . x):  a = ds r,  b = -ds (w . x) r^3 / count
struct normed_score_slopes {
  double count;
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 2> operator()(const numbers<V, 3>& x) const {
    const V a = x[0] * x[1];
    return {{a, V(a * x[1] * x[1] * x[2] * constant<V>(-1 / count))}};
  }
};

/// dz = d (1 - tanh(z)^2) / 100, of d and t = tanh(z) / 100
struct small_tanh_slope {
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 1> operator()(const numbers<V, 2>& x) const {
    return {{V(x[0] * (constant<V>(0.01) - constant<V>(100) * x[1] * x[1]))}};
  }
};

template <>
inline constexpr bool is_in_kernels<small_tanh_slope> = true;
template <>
inline constexpr bool is_in_kernels<inverse_root_mean> = true;
template <>
inline constexpr bool is_in_kernels<normed_score_slopes> = true;

}  // namespace fathom
