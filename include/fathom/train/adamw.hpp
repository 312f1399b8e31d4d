// AdamW: moving averages of the gradient and of its square, and decoupled weight decay.
#pragma once

#include <array>
#include <cmath>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fathom/backend/update.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/train/optimizer.hpp"

namespace fathom {

/// Options of AdamW.
struct adamw_options {
  float rate = 1e-3f;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float decay = 0.1f;  // of tensors with two dimensions; biases and gains are not decayed
  float clip = 1.0f;   // gradient clipping: largest global norm; 0: none
};

namespace detail {
/// adamw_options, and other libraries' names for its fields, so that a wrong name gives a helpful error.
struct misnamed_adamw_options {
  double rate = 0, lr = 0, learning_rate = 0;
  double beta1 = 0, adam_beta1 = 0, beta2 = 0, adam_beta2 = 0;
  std::initializer_list<double> betas{};
  double eps = 0, epsilon = 0, adam_epsilon = 0;
  double decay = 0, weight_decay = 0, wd = 0;
  double clip = 0, clip_norm = 0, grad_clip = 0, max_grad_norm = 0, max_norm = 0;

  template <class Habit>
  static void complain() {
    static_assert(never<Habit>, "fathom::adamw_options has no such field: it has rate, beta1, beta2, eps, decay, clip");
  }
};
}  // namespace detail

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101). Step t is
///
///   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
///   w -= rate (decay w + m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps))
struct adamw_rule {
  using options = adamw_options;
  using misnamed = detail::misnamed_adamw_options;
  static constexpr std::string_view name = "adamw";
  static constexpr std::array<std::string_view, 2> states{"adamw.first", "adamw.second"};  // m and v
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate);
    f("beta1", o.beta1);
    f("beta2", o.beta2);
    f("eps", o.eps);
    f("decay", o.decay);
    f("clip", o.clip);
  }
  static bool is_valid(const options& o) { return o.beta1 < 1 && o.beta2 < 1 && o.eps > 0; }
  static constexpr std::string_view expected = "betas in [0, 1), eps above 0 and the others at least 0, all of them finite";

  template <class T>
  struct formula {
    T beta1, beta2, eps;
    T keep;  // 1 - rate decay
    T step;  // rate / (1 - beta1^t)
    T root;  // 1 / sqrt(1 - beta2^t)

    template <class V>
    FATHOM_ANYWHERE void operator()(V& w, const V& g, V& m, V& v) const {
      using std::sqrt;
      m = V(beta1) * m + V(1 - beta1) * g;
      v = V(beta2) * v + V(1 - beta2) * g * g;
      w = V(keep) * w - V(step) * m / (sqrt(v) * V(root) + V(eps));
    }
  };
  template <class T>
  [[nodiscard]] static formula<T> formula_of(const options& o, const step_settings& s) {
    const double count = static_cast<double>(s.step);
    return {static_cast<T>(o.beta1),
            static_cast<T>(o.beta2),
            static_cast<T>(o.eps),
            static_cast<T>(1 - s.rate * s.decay),
            static_cast<T>(s.rate / (1 - std::pow(o.beta1, count))),
            static_cast<T>(1 / std::sqrt(1 - std::pow(o.beta2, count)))};
  }
};
template <class T>
inline constexpr bool is_in_kernels<adamw_rule::formula<T>> = true;

/// AdamW for a model, with named access to its moments.
template <class Model>
class adamw : public optimizer_of<Model, adamw_rule> {
  using base = optimizer_of<Model, adamw_rule>;

 public:
  using typename base::parameters;
  using base::base;
  using base::restore;

  [[nodiscard]] const parameters& first_moment() const { return this->state(0); }
  [[nodiscard]] const parameters& second_moment() const { return this->state(1); }
  void restore(owned<parameters> first, owned<parameters> second, index steps) {
    base::restore({std::move(first), std::move(second)}, steps);
  }
};

}  // namespace fathom
