// The linear layer.
#pragma once

#include <string>

#include "fathom/backend/epilogue.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/tensor_view.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom::layers {

/// y = x W + b.   x [rows, In], W [In, Out] (the GPT-2 `Conv1D` convention), b [Out], y [rows, Out].
/// Without b if !HasBias.
template <index In, index Out, initial Weights = initial::normal, bool HasBias = true>
struct linear {
  template <class S>
  struct parameters {
    typename S::template matrix<In, Out> weight;
    typename S::template vector<Out> bias;
  };
  template <class S>
    requires(!HasBias)
  struct parameters<S> {
    typename S::template matrix<In, Out> weight;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "weight", Weights, p.weight...);
    if constexpr (HasBias) f(at / "bias", initial::zero, p.bias...);
  }

  /// y = x W + b; y may be every n-th row of a larger matrix
  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> y) {
    if constexpr (HasBias)
      matmul(on, x, p.weight, y, epilogue::bias{p.bias.data()});
    else
      matmul(on, x, p.weight, y, epilogue::none{});
  }
  /// y = residual + x W + b
  template <class On, class P>
  static void forward_add(const On& on, const P& p, input<On> x, input<On> residual, output<On> y) {
    if constexpr (HasBias)
      matmul(on, x, p.weight, y, epilogue::bias_add{p.bias.data(), residual});
    else
      matmul(on, x, p.weight, y, epilogue::add{residual});
  }
  /// before = x W + b; y = A(before), with an activation A
  template <class A, class On, class P>
  static void forward_activated(const On& on, const P& p, input<On> x, output<On> before, output<On> y) {
    const scalar<On>* bias = nullptr;
    if constexpr (HasBias) bias = p.bias.data();
    matmul(on, x, p.weight, y, epilogue::activated{A{}, bias, before});
  }

  /// y = A(a) (x W + b); x W + b goes to `kept`
  template <class A, class On, class P>
  static void forward_gated(const On& on, const P& p, input<On> x, input<On> a, output<On> kept, output<On> y) {
    const scalar<On>* bias = nullptr;
    if constexpr (HasBias) bias = p.bias.data();
    matmul(on, x, p.weight, y, epilogue::gated{A{}, bias, a, kept});
  }

  /// g += the gradients of W and b, of those that are trained
  template <class On, class G>
  static void backward_parameters(const On& on, input<On> x, input<On> dy, G& g) {
    add_weight_gradient(on, x, dy, g.weight);
    if constexpr (HasBias) {
      if (is_trained(g.bias)) column_sums(on, dy, g.bias.data());
    }
  }
  /// dx = epilogue(dy W^T)
  template <class On, class P, class Epilogue = epilogue::none>
  static void backward_input(const On& on, const P& p, input<On> dy, output<On> dx, const Epilogue& e = {}) {
    matmul_nt(on, dy, p.weight, dx, e);
  }

  [[nodiscard]] static constexpr double flops(index rows) {
    return 2.0 * static_cast<double>(In) * static_cast<double>(Out) * static_cast<double>(rows);
  }
  [[nodiscard]] static std::string describe() { return join("linear ", In, " to ", Out); }
};

}  // namespace fathom::layers

namespace fathom {
using layers::linear;
}  // namespace fathom
