// The interface of norms. A norm maps each row of x [rows, E] to a row of y.
//
//   static constexpr index width;                                 E
//   template <class S> struct parameters;  visit(f, at, p...);    as a layer's (layer.hpp)
//   template <class T> struct tape;                               tape(arena&, extent): what forward saves for backward
//   static void forward(on, p, x, y, tape);
//   static void backward(on, p, x, dy, dx, tape, g);              dx += gradient with respect to x; g += gradient of p
//   static constexpr double flops(index tokens);
#pragma once

#include <concepts>
#include <cstdint>
#include <ratio>

#include "fathom/layer/layer.hpp"

namespace fathom {

/// The number that a norm adds to a variance or a mean square: epsilon<1, 1'000'000> is 1e-6.
template <std::intmax_t Numerator, std::intmax_t Denominator>
using epsilon = std::ratio<Numerator, Denominator>;

namespace contract {
template <class N>
concept norm_runs = requires(const any_context& on, const typename N::template parameters<plain<float>>& p,
                             typename N::template parameters<plain<float>>& g, matrix<const float> x, matrix<float> y,
                             const typename N::template tape<float>& t) {
  N::forward(on, p, x, y, t);
  N::backward(on, p, x, x, y, t, g);
};
/// A norm, as described at the top of this file.
template <class N>
concept norm = requires {
  { N::width } -> std::convertible_to<index>;
} && has_parameters<N> && has_tape<N> && has_flops<N> && norm_runs<N>;
}  // namespace contract

namespace layers {
/// y = x: replaces an invalid norm after its error, to prevent follow-up errors.
template <index E>
struct no_norm {
  static constexpr index width = E;
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = nothing;
  template <class On, class P>
  static void forward(const On& on, const P&, input<On> x, output<On> y, const nothing&) {
    copy(on, x, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P&, input<On>, input<On> dy, output<On> dx, const nothing&, G&) {
    add(on, dy, dx);
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
};
}  // namespace layers

}  // namespace fathom
