// Lion: steps along the sign of an interpolated momentum.
#pragma once

#include <array>
#include <string_view>

#include "fathom/backend/update.hpp"
#include "fathom/train/optimizer.hpp"

namespace fathom {

/// Options of Lion.
struct lion_options {
  float rate = 1e-4f;  // use 3 to 10 times less than for AdamW, because every weight moves by the full rate
  float beta1 = 0.9f;
  float beta2 = 0.99f;
  float decay = 1.0f;  // use 3 to 10 times more; of tensors with two dimensions: biases and gains are not decayed
  float clip = 1.0f;   // gradient clipping: largest global norm; 0: none
};

/// Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675):
///
///   w -= rate (sign(beta1 m + (1 - beta1) g) + decay w),   then m = beta2 m + (1 - beta2) g
struct lion_rule {
  using options = lion_options;
  static constexpr std::string_view name = "lion";
  static constexpr std::array<std::string_view, 1> states{"lion.momentum"};  // m
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate);
    f("beta1", o.beta1);
    f("beta2", o.beta2);
    f("decay", o.decay);
    f("clip", o.clip);
  }
  static bool is_valid(const options& o) { return o.beta1 < 1 && o.beta2 < 1; }
  static constexpr std::string_view expected = "betas in [0, 1) and the others at least 0, all of them finite";

  template <class T>
  struct formula {
    T rate, beta1, beta2;
    T keep;  // 1 - rate decay

    template <class V>
    FATHOM_ANYWHERE void operator()(V& w, const V& g, V& m) const {
      const V direction = V(beta1) * m + V(1 - beta1) * g;
      m = V(beta2) * m + V(1 - beta2) * g;
      w = V(keep) * w - V(rate) * sign_of(direction);
    }
  };
  template <class T>
  [[nodiscard]] static formula<T> formula_of(const options& o, const step_settings& s) {
    return {static_cast<T>(s.rate), static_cast<T>(o.beta1), static_cast<T>(o.beta2), static_cast<T>(1 - s.rate * s.decay)};
  }
};
template <class T>
inline constexpr bool is_in_kernels<lion_rule::formula<T>> = true;

template <class Model>
using lion = optimizer_of<Model, lion_rule>;

}  // namespace fathom
