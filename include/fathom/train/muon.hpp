// Muon: hidden matrices are updated with their orthogonalized momentum; all other tensors use AdamW.
#pragma once

#include <array>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/backend/update.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"
#include "fathom/train/adamw.hpp"
#include "fathom/train/optimizer.hpp"

namespace fathom {

/// Options of Muon, and of AdamW for what is no hidden matrix.
struct muon_options {
  float rate = 0.02f;  // of hidden matrices; the schedule applies to it
  float momentum = 0.95f;
  bool nesterov = true;
  int iterations = 5;          // Newton-Schulz iterations
  float adamw_rate = 3e-4f;    // of embeddings, heads, biases and gains; follows the same schedule
  float beta1 = 0.9f;          // beta1, beta2 and eps are AdamW's
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float decay = 0.1f;  // of tensors with two dimensions; biases and gains are not decayed
  float clip = 1.0f;   // gradient clipping: largest global norm; 0: none
};

namespace detail {
template <class T>
struct scale_number {
  T a;
  template <class V>
  FATHOM_ANYWHERE void operator()(V& x) const {
    x = V(a) * x;
  }
};
/// y = a y + b x
template <class T>
struct combine_numbers {
  T a, b;
  template <class V>
  FATHOM_ANYWHERE void operator()(V& y, V& x) const {
    y = V(a) * y + V(b) * x;
  }
};
/// Updates the momentum and replaces the gradient by the direction of the step.
template <class T>
struct muon_momentum {
  T momentum, scale;
  T of_gradient, of_momentum;  // coefficients of the direction
  template <class V>
  FATHOM_ANYWHERE void operator()(V& g, V& m) const {
    const V gradient = g * V(scale);
    m = V(momentum) * m + V(1 - momentum) * gradient;
    g = V(of_gradient) * gradient + V(of_momentum) * m;
  }
};
}  // namespace detail
template <class T>
inline constexpr bool is_in_kernels<detail::scale_number<T>> = true;
template <class T>
inline constexpr bool is_in_kernels<detail::combine_numbers<T>> = true;
template <class T>
inline constexpr bool is_in_kernels<detail::muon_momentum<T>> = true;

/// Size of the workspace of newton_schulz in numbers, for a matrix of this size.
[[nodiscard]] constexpr index newton_schulz_workspace(index rows, index columns) {
  const index least = std::min(rows, columns);
  return rows * columns + 2 * least * least;
}

/// Newton-Schulz iteration: replaces x [rows, columns] by approximately U V^T, where U S V^T is its singular value
/// decomposition. Normalizes x, then applies x = a x + b (x x^T) x + c (x x^T)^2 x `iterations` times, with the
/// coefficients of Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. They drive the
/// singular values towards 1 quickly but not exactly: after five iterations, all that were at least 0.01 of x's
/// Frobenius norm lie between 0.68 and 1.14. x must be contiguous. `workspace` has newton_schulz_workspace numbers.
template <class On, class T>
void newton_schulz(const On& on, matrix<T> x, int iterations, T* workspace) {
  const auto number = [](double n) { return static_cast<T>(n); };
  const T a = number(3.4445), b = number(-4.7750), c = number(2.0315);
  const bool is_wide = x.rows <= x.columns;
  const index least = std::min(x.rows, x.columns), size = x.rows * x.columns;
  const matrix<T> product(workspace, x.rows, x.columns), gram(workspace + size, least, least),
      square(workspace + size + least * least, least, least);
  update(on, detail::scale_number<T>{number(1 / (std::sqrt(sum_of_squares(on, x.data, size)) + 1e-7))}, size, x.data);
  for (int i = 0; i < iterations; ++i) {
    // Use the smaller of x x^T and x^T x; the result is the same.
    if (is_wide) {
      matmul_nt(on, x, matrix<const T>(x), gram, epilogue::none{});
    } else {
      zero(on, gram);
      matmul_tn(on, x, x, gram);
    }
    matmul(on, gram, matrix<const T>(gram), square, epilogue::none{});
    update(on, detail::combine_numbers<T>{c, b}, least * least, square.data, gram.data);
    if (is_wide)
      matmul(on, square, matrix<const T>(x), product, epilogue::none{});
    else
      matmul(on, x, matrix<const T>(square), product, epilogue::none{});
    update(on, detail::combine_numbers<T>{a, number(1)}, size, x.data, product.data);
  }
}

/// Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon). For hidden matrices, the weights [in, out] of
/// linear layers,
///
///   m = momentum m + (1 - momentum) g,   d = m;   with nesterov: d = (1 - momentum) g + momentum m
///   w -= rate (sqrt(max(1, out / in)) newton_schulz(d) + decay w)
///
/// All other tensors use AdamW (adamw.hpp) at adamw_rate, scaled by the schedule and the group like `rate`. The second
/// state of hidden matrices stays zero.
struct muon_rule {
  using options = muon_options;
  static constexpr std::string_view name = "muon";
  static constexpr std::array<std::string_view, 2> states{"muon.first", "muon.second"};
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate);
    f("momentum", o.momentum);
    f("nesterov", o.nesterov);
    f("iterations", o.iterations);
    f("adamw_rate", o.adamw_rate);
    f("beta1", o.beta1);
    f("beta2", o.beta2);
    f("eps", o.eps);
    f("decay", o.decay);
    f("clip", o.clip);
  }
  static bool is_valid(const options& o) {
    return o.rate > 0 && o.momentum < 1 && o.iterations > 0 && o.beta1 < 1 && o.beta2 < 1 && o.eps > 0;
  }
  static constexpr std::string_view expected =
      "a rate above 0, a momentum and betas in [0, 1), at least 1 of the iterations, eps above 0 and the others at least 0, all of "
      "them finite";

  template <class T>
  using formula = adamw_rule::formula<T>;
  template <class T>
  [[nodiscard]] static formula<T> formula_of(const options& o, const step_settings& s) {
    const adamw_options others{.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps};
    return adamw_rule::formula_of<T>(others, {s.rate * (static_cast<double>(o.adamw_rate) / static_cast<double>(o.rate)), s.decay, s.step});
  }

  [[nodiscard]] static index workspace(index rows, index columns) { return newton_schulz_workspace(rows, columns); }
  template <class On, class T, std::size_t N>
  static void update_matrix(const On& on, const options& o, const step_settings& s, T gradient_scale, matrix<T> w, matrix<T> g,
                            const std::array<T*, N>& state, T* workspace) {
    const auto number = [](double n) { return static_cast<T>(n); };
    const index size = w.rows * w.columns;
    const T momentum = number(o.momentum);
    update(on, detail::muon_momentum<T>{momentum, gradient_scale, number(o.nesterov ? 1 - o.momentum : 0), number(o.nesterov ? o.momentum : 1)},
           size, g.data, state[0]);
    newton_schulz(on, g, o.iterations, workspace);
    const double shape = std::sqrt(std::max(1.0, static_cast<double>(w.columns) / static_cast<double>(w.rows)));
    update(on, detail::combine_numbers<T>{number(1 - s.rate * s.decay), number(-s.rate * shape)}, size, w.data, g.data);
  }
};
template <class Model>
using muon = optimizer_of<Model, muon_rule>;

}  // namespace fathom
