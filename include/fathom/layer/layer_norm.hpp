// Layer normalisation.
#pragma once

#include <ratio>

#include "fathom/core/storage.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/norm.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// y = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias, for each row (Ba et al., arXiv 1607.06450).
/// x, y [rows, E]; weight, bias [E]. Epsilon is a std::ratio, because clang++ 14 does not support double template
/// arguments.
template <index E, class Epsilon = std::ratio<1, 100'000>>
struct layer_norm {
  static constexpr index width = E;
  static constexpr double epsilon = static_cast<double>(Epsilon::num) / static_cast<double>(Epsilon::den);
  static_assert(epsilon > 0, "fathom::layer_norm: epsilon must be positive");

  template <class S>
  struct parameters {
    typename S::template vector<E> weight;
    typename S::template vector<E> bias;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "weight", initial::one, p.weight...);
    f(at / "bias", initial::zero, p.bias...);
  }

  template <class T>
  struct tape {
    T* mean;  // [rows]
    T* rstd;  // [rows], 1 / standard deviation
    constexpr tape(arena& a, const extent& e) : mean(a.take<T>(e.rows())), rstd(a.take<T>(e.rows())) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> y, const tape<scalar<On>>& t) {
    layer_norm_forward(on, x, p.weight.data(), p.bias.data(), y, t.mean, t.rstd, epsilon);
  }
  /// dx += the gradient with respect to x
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, input<On> x, input<On> dy, output<On> dx, const tape<scalar<On>>& t,
                       G& g) {
    layer_norm_backward(on, x, p.weight.data(), t.mean, t.rstd, dy, dx, g.weight.data(), g.bias.data());
  }

  /// 0: by convention, only matrix products count, not element-wise operations.
  [[nodiscard]] static constexpr double flops(index) { return 0; }
};

}  // namespace fathom::layers

namespace fathom {

/// Layer normalisation as a part.
template <class Epsilon = epsilon<1, 100'000>>
struct layer_norm {
  static constexpr auto options = [] {
    if constexpr (std::ratio_equal_v<Epsilon, epsilon<1, 100'000>>)
      return fields();
    else
      return fields(field<"epsilon">(static_cast<double>(Epsilon::num) / static_cast<double>(Epsilon::den)));
  }();
  template <class At>
  using bind = layers::layer_norm<At::width, Epsilon>;
};

}  // namespace fathom
