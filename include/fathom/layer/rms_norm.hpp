// Root mean square normalisation.
#pragma once

#include <ratio>
#include <string>
#include <tuple>

#include "fathom/core/storage.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/norm.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// y = x / sqrt(mean(x^2) + epsilon) * (weight + GainOffset), for each row (Zhang and Sennrich, arXiv 1910.07467).
/// x, y [rows, E]; weight [E]. GainOffset is 0, or 1 for a weight that is what the gain has over 1 (Gemma's). At the
/// start, weight + GainOffset is 1. Epsilon is a std::ratio, because clang++ 14 does not support double template
/// arguments.
template <index E, class Epsilon = std::ratio<1, 100'000>, int GainOffset = 0>
struct rms_norm {
  static constexpr index width = E;
  static constexpr double epsilon = static_cast<double>(Epsilon::num) / static_cast<double>(Epsilon::den);
  static constexpr double gain_offset = GainOffset;
  static_assert(epsilon > 0, "fathom::rms_norm: epsilon must be positive");
  static_assert(GainOffset == 0 || GainOffset == 1, "fathom::rms_norm: the gain's offset must be 0 or 1");

  template <class S>
  struct parameters {
    typename S::template vector<E> weight;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "weight", GainOffset == 0 ? initial::one : initial::zero, p.weight...);
  }

  template <class T>
  struct tape {
    T* rstd;  // [rows], 1 / root mean square
    constexpr tape(arena& a, const extent& e) : rstd(a.take<T>(e.rows())) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> y, const tape<scalar<On>>& t) {
    rms_norm_forward(on, x, p.weight.data(), y, t.rstd, epsilon, gain_offset);
  }
  /// dx += the gradient with respect to x
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, input<On> x, input<On> dy, output<On> dx, const tape<scalar<On>>& t,
                       G& g) {
    rms_norm_backward(on, x, p.weight.data(), t.rstd, dy, dx, g.weight.data(), gain_offset);
  }

  /// 0: by convention, only matrix products count, not element-wise operations.
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() { return "RMS norm"; }
};

}  // namespace fathom::layers

namespace fathom {

/// RMS norm as a part. rms_norm<std::micro> has the epsilon 1e-6, as rms_norm<epsilon<1, 1'000'000>> does; with
/// rms_norm<std::micro, 1>, the gain is 1 + weight.
template <class Epsilon = epsilon<1, 100'000>, int GainOffset = 0>
struct rms_norm {
  static constexpr auto options = [] {
    constexpr auto of_epsilon = [] {
      if constexpr (std::ratio_equal_v<Epsilon, epsilon<1, 100'000>>)
        return fields();
      else
        return fields(field<"epsilon">(static_cast<double>(Epsilon::num) / static_cast<double>(Epsilon::den)));
    };
    constexpr auto of_gain = [] {
      if constexpr (GainOffset == 0)
        return fields();
      else
        return fields(field<"gain_offset">(GainOffset));
    };
    return std::tuple_cat(of_epsilon(), of_gain());
  }();
  template <class At>
  using bind = layers::rms_norm<At::width, Epsilon, GainOffset>;
};

}  // namespace fathom
