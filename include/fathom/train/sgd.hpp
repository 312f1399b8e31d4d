// SGD with momentum, optionally Nesterov's.
#pragma once

#include <array>
#include <string_view>

#include "fathom/backend/update.hpp"
#include "fathom/train/optimizer.hpp"

namespace fathom {

/// Options of SGD.
struct sgd_options {
  float rate = 0.1f;
  float momentum = 0.9f;
  bool nesterov = false;
  float decay = 0;    // of tensors with two dimensions; biases and gains are not decayed
  float clip = 1.0f;  // gradient clipping: largest global norm; 0: none
};

/// Stochastic gradient descent with momentum (Sutskever et al., "On the importance of initialization and momentum in
/// deep learning", 2013), as in torch.optim.SGD: weight decay is added to the gradient, and there is no dampening.
///
///   d = g + decay w,   m = momentum m + d,   w -= rate m;   with nesterov: w -= rate (d + momentum m)
struct sgd_rule {
  using options = sgd_options;
  static constexpr std::string_view name = "sgd";
  static constexpr std::array<std::string_view, 1> states{"sgd.momentum"};  // m
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate);
    f("momentum", o.momentum);
    f("nesterov", o.nesterov);
    f("decay", o.decay);
    f("clip", o.clip);
  }
  static bool is_valid(const options& o) { return o.momentum < 1 && (o.momentum > 0 || !o.nesterov); }
  static constexpr std::string_view expected =
      "a momentum in [0, 1), not 0 with nesterov, and the others at least 0, all of them finite";

  template <class T>
  struct formula {
    T rate, momentum, decay;
    T of_gradient, of_momentum;  // coefficients of the step: 0 and 1; with nesterov, 1 and momentum

    template <class V>
    FATHOM_ANYWHERE void operator()(V& w, const V& g, V& m) const {
      const V d = g + V(decay) * w;
      m = V(momentum) * m + d;
      w = w - V(rate) * (V(of_gradient) * d + V(of_momentum) * m);
    }
  };
  template <class T>
  [[nodiscard]] static formula<T> formula_of(const options& o, const step_settings& s) {
    const auto momentum = static_cast<T>(o.momentum);
    return {static_cast<T>(s.rate), momentum, static_cast<T>(s.decay), static_cast<T>(o.nesterov ? 1 : 0),
            o.nesterov ? momentum : static_cast<T>(1)};
  }
};
template <class T>
inline constexpr bool is_in_kernels<sgd_rule::formula<T>> = true;

template <class Model>
using sgd = optimizer_of<Model, sgd_rule>;

}  // namespace fathom
