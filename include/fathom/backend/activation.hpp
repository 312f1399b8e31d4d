// Activations and gates: functors, written once for every backend, and fused into matrix products where a backend can.
//
// An activation is an empty type with a template
//
//   template <class V> struct at { V value, derivative; FATHOM_ANYWHERE explicit at(const V& x); };
//
// V is a backend's scalar (float, double, std::complex<double>) or a SIMD vector of consecutive elements. Use
// arithmetic, the functions below, and `using std::exp; exp(x)`, which also finds the vector overloads; select with
// where_positive, not `if`. To add an activation, define such a type in your program:
//
//   struct softsign {  // x / (1 + |x|)
//     template <class V>
//     struct at {
//       V value, derivative;
//       FATHOM_ANYWHERE explicit at(const V& x) {
//         const V magnitude = fathom::where_positive(x, x, -x), inverse = V(1) / (V(1) + magnitude);
//         value = x * inverse;
//         derivative = inverse * inverse;
//       }
//     };
//   };
#pragma once

#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "fathom/backend/functors.hpp"
#include "fathom/core/anywhere.hpp"

namespace fathom {

/// The constant c as a V.
template <class V>
[[nodiscard]] FATHOM_ANYWHERE constexpr V constant(double c) {
  if constexpr (requires { typename V::value_type; })
    return V(static_cast<typename V::value_type>(c));
  else
    return static_cast<V>(c);
}

/// `yes` where x > 0 or x is NaN, otherwise `no`; a complex number is compared by its real part.
template <class V>
[[nodiscard, gnu::always_inline]] FATHOM_ANYWHERE inline V where_positive(const V& x, const V& yes, const V& no) {
  if constexpr (requires { typename V::batch_bool_type; })
    return select(x <= V(0), no, yes);  // found by ADL: the vector overload
  else if constexpr (requires { x.real(); })
    return x.real() <= 0 ? no : yes;
  else
    return x <= V(0) ? no : yes;
}

/// The error function; for complex numbers, to first order in the imaginary part: enough for complex-step derivatives.
template <class V>
[[nodiscard]] FATHOM_ANYWHERE inline V error_function(const V& x) {
  using std::erf;
  return erf(x);
}
template <class T>
[[nodiscard]] inline std::complex<T> error_function(const std::complex<T>& x) {
  constexpr double two_over_sqrt_pi = 1.12837916709551257390;
  return {std::erf(x.real()), static_cast<T>(two_over_sqrt_pi) * std::exp(-x.real() * x.real()) * x.imag()};
}

/// The logistic function s(u) = 1 / (1 + e^-u), and its slope s (1 - s). A backend may specialise it for its vectors.
template <class V>
struct logistic {
  V value, slope;

  [[gnu::always_inline]] FATHOM_ANYWHERE explicit logistic(const V& u) {
    using std::exp;  // or the vector overload
    value = V(1) / (V(1) + exp(-u));
    slope = value * (V(1) - value);
  }
};

/// y = x
struct identity {
  template <class V>
  struct at {
    V value, derivative;
    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) : value(x), derivative(V(1)) {}
  };
};

/// GELU in its tanh form, "gelu_new" (Hendrycks and Gimpel, arXiv 1606.08415):
///   x (1 + tanh(u)) / 2 = x s(2u),   u = sqrt(2/pi) (x + 0.044715 x^3),   s the logistic function.
struct gelu_tanh {
  template <class V>
  struct at {
    V value, derivative;

    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) {
      constexpr double sqrt_2_over_pi = 0.79788456080286535588, cubic = 0.044715;
      const V square = x * x;
      const V u2 = constant<V>(2 * sqrt_2_over_pi) * x * (constant<V>(1) + constant<V>(cubic) * square);
      const V slope_of_u2 = constant<V>(2 * sqrt_2_over_pi) * (constant<V>(1) + constant<V>(3 * cubic) * square);
      const logistic<V> s(u2);
      value = x * s.value;
      derivative = s.value + x * s.slope * slope_of_u2;
    }
  };
};

/// Exact GELU: x Phi(x), Phi the standard normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415).
struct gelu_erf {
  template <class V>
  struct at {
    V value, derivative;

    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) {
      using std::exp;
      constexpr double sqrt_half = 0.70710678118654752440, density_at_0 = 0.39894228040143267794;
      const V phi = constant<V>(0.5) * (V(1) + error_function(x * constant<V>(sqrt_half)));
      value = x * phi;
      // Far out the density is 0; the vectors' exp does not take infinite arguments.
      const V u = constant<V>(-0.5) * x * x, inside = u + constant<V>(87);
      const V density = constant<V>(density_at_0) * exp(where_positive(inside, u, constant<V>(-87)));
      derivative = phi + where_positive(inside, x * density, V(0));
    }
  };
};

/// s(x), the logistic function.
struct sigmoid {
  template <class V>
  struct at {
    V value, derivative;
    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) {
      const logistic<V> s(x);
      value = s.value;
      derivative = s.slope;
    }
  };
};

/// x s(x), also called swish (Elfwing et al., arXiv 1702.03118; Ramachandran et al., arXiv 1710.05941).
struct silu {
  template <class V>
  struct at {
    V value, derivative;
    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) {
      const logistic<V> s(x);
      value = x * s.value;
      derivative = s.value + x * s.slope;
    }
  };
};

/// tanh(x)
struct tanh_activation {
  static constexpr const char* name = "tanh";
  template <class V>
  struct at {
    V value, derivative;
    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) {
      using std::tanh;
      value = tanh(x);
      derivative = V(1) - value * value;
    }
  };
};

/// max(x, 0)
struct relu {
  template <class V>
  struct at {
    V value, derivative;
    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x)
        : value(where_positive(x, x, V(0))), derivative(where_positive(x, V(1), V(0))) {}
  };
};

/// max(x, 0)^2 (So et al., "Primer", arXiv 2109.08668)
struct relu_squared {
  template <class V>
  struct at {
    V value, derivative;
    [[gnu::always_inline]] FATHOM_ANYWHERE explicit at(const V& x) {
      const V positive = where_positive(x, x, V(0));
      value = positive * positive;
      derivative = positive + positive;
    }
  };
};

template <>
inline constexpr bool is_in_kernels<identity> = true;
template <>
inline constexpr bool is_in_kernels<gelu_tanh> = true;
template <>
inline constexpr bool is_in_kernels<gelu_erf> = true;
template <>
inline constexpr bool is_in_kernels<sigmoid> = true;
template <>
inline constexpr bool is_in_kernels<silu> = true;
template <>
inline constexpr bool is_in_kernels<tanh_activation> = true;
template <>
inline constexpr bool is_in_kernels<relu> = true;
template <>
inline constexpr bool is_in_kernels<relu_squared> = true;

namespace contract {
/// An activation, as described at the top of this file.
template <class A>
concept activation = std::is_empty_v<A> && std::is_default_constructible_v<A> && requires(float x) {
  typename A::template at<float>;
  { typename A::template at<float>(x).value } -> std::convertible_to<float>;
  { typename A::template at<float>(x).derivative } -> std::convertible_to<float>;
};
}  // namespace contract

// ---- As functors for elementwise (backend/operations.hpp) -----------------------------------------------------------

/// N numbers or vectors: the argument or result of such a functor.
template <class V, std::size_t N>
struct numbers {
  V v[N];
  [[gnu::always_inline]] FATHOM_ANYWHERE constexpr V& operator[](std::size_t n) { return v[n]; }
  [[gnu::always_inline]] FATHOM_ANYWHERE constexpr const V& operator[](std::size_t n) const { return v[n]; }
};

/// y = A(x)
template <class A>
struct activation_value {
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 1> operator()(const numbers<V, 1>& x) const {
    return {{typename A::template at<V>(x[0]).value}};
  }
};
/// dx = dy A'(x), of (x, dy)
template <class A>
struct activation_slope {
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 1> operator()(const numbers<V, 2>& x) const {
    return {{x[1] * typename A::template at<V>(x[0]).derivative}};
  }
};
/// y = A(a) b, of (a, b): a gate (Dauphin et al., arXiv 1612.08083; Shazeer, arXiv 2002.05202)
template <class A>
struct gate_value {
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 1> operator()(const numbers<V, 2>& x) const {
    return {{typename A::template at<V>(x[0]).value * x[1]}};
  }
};
/// (da, db) of (a, b, dy)
template <class A>
struct gate_slope {
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 2> operator()(const numbers<V, 3>& x) const {
    const typename A::template at<V> a(x[0]);
    return {{x[2] * x[1] * a.derivative, x[2] * a.value}};
  }
};

/// y = factor x
struct times {
  double factor;
  template <class V>
  [[gnu::always_inline]] FATHOM_ANYWHERE numbers<V, 1> operator()(const numbers<V, 1>& x) const {
    return {{constant<V>(factor) * x[0]}};
  }
};

template <>
inline constexpr bool is_in_kernels<times> = true;
template <class A>
inline constexpr bool is_in_kernels<activation_value<A>> = is_in_kernels<A>;
template <class A>
inline constexpr bool is_in_kernels<activation_slope<A>> = is_in_kernels<A>;
template <class A>
inline constexpr bool is_in_kernels<gate_value<A>> = is_in_kernels<A>;
template <class A>
inline constexpr bool is_in_kernels<gate_slope<A>> = is_in_kernels<A>;

}  // namespace fathom
