// The optimiser: AdamW with decoupled weight decay and clipping by global norm.
#pragma once

#include <cmath>
#include <utility>

#include "fathom/backend/operations.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

struct adamw_options {
  float rate = 1e-3f;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float decay = 0.1f;  // of tensors with two dimensions; biases and gains are not decayed
  float clip = 1.0f;   // largest global norm of the gradients; 0: none
};

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101).
template <class Model>
class adamw {
 public:
  using parameters = typename Model::parameters;
  using executor = typename Model::executor;

  explicit adamw(const adamw_options& options = {}, executor where = {})
      : options_(options), where_(where), first_(make<parameters>()), second_(make<parameters>()),
        whole_(*first_) {
    if (!(options.rate >= 0) || !(options.beta1 >= 0 && options.beta1 < 1) || !(options.beta2 >= 0 && options.beta2 < 1) ||
        !(options.eps > 0) || !(options.decay >= 0) || !(options.clip >= 0))
      fail("adamw: rate ", options.rate, ", beta1 ", options.beta1, ", beta2 ", options.beta2, ", eps ", options.eps,
           ", decay ", options.decay, ", clip ", options.clip,
           "; expected betas in [0, 1), eps above 0 and the others at least 0");
  }

  /// One step at the rate of the options, or at another. Zeroes the gradients. Returns their global norm before clipping.
  /// Fails, with nothing changed, when that norm is not finite.
  double step(parameters& weights, parameters& gradients) { return step(weights, gradients, options_.rate); }
  double step(parameters& weights, parameters& gradients, double rate) {
    const double norm = try_step(weights, gradients, rate);
    if (!std::isfinite(norm)) fail("adamw.step: the norm of the gradients is ", norm, " at step ", steps_ + 1);
    return norm;
  }
  /// The same, but does not fail: a norm that is not finite is returned like any other.
  double try_step(parameters& weights, parameters& gradients, double rate) {
    if constexpr (steps_by_itself) {
      start_step(weights, gradients, rate);
      return finish_step();
    }
    double norm = 0;
    where_.run([&](const auto& on) {
      double squares = 0;
      Model::visit_tensors([&](initial, const auto& g) { squares += sum_of_squares(on, g.data(), g.size); }, gradients);
      const double n = std::sqrt(squares);
      if (on.rank() == 0) norm = n;
      if (!std::isfinite(n)) return;  // every rank sees the same sum
      adamw_settings s = settings(rate);
      s.gradient_scale = options_.clip > 0 && n > options_.clip ? options_.clip / n : 1;
      Model::visit_tensors(
          [&](initial, auto& w, auto& g, auto& m, auto& v) {
            s.decay = w.rank == 2 ? options_.decay : 0;
            adamw_update(on, w.data(), g.data(), m.data(), v.data(), w.size, s);
          },
          weights, gradients, *first_, *second_);
    });
    if (std::isfinite(norm)) ++steps_;
    return norm;
  }

  /// Whether the backend takes a whole step by itself, the norm included. A step then has two halves: one that starts it
  /// and does not wait, and one that waits and returns what try_step returns.
  static constexpr bool steps_by_itself = requires { typename Model::backend::optimizer; };
  void start_step(parameters& weights, parameters& gradients, double rate)
    requires steps_by_itself
  {
    adamw_settings s = settings(rate);
    s.decay = options_.decay;
    whole_.start(where_, weights, gradients, *first_, *second_, s, options_.clip);
  }
  double finish_step()
    requires steps_by_itself
  {
    const double norm = whole_.finish(where_);
    if (std::isfinite(norm)) ++steps_;
    return norm;
  }

  /// Steps taken so far, and the moments: what a checkpoint holds.
  [[nodiscard]] index steps() const { return steps_; }
  [[nodiscard]] const parameters& first_moment() const { return *first_; }
  [[nodiscard]] const parameters& second_moment() const { return *second_; }
  /// Forgets all steps.
  void reset() {
    memory_of<parameters>::zero(first_.get(), sizeof(parameters));
    memory_of<parameters>::zero(second_.get(), sizeof(parameters));
    steps_ = 0;
  }
  /// Goes on from there.
  void restore(owned<parameters> first, owned<parameters> second, index steps) {
    first_ = std::move(first);
    second_ = std::move(second);
    steps_ = steps;
  }

 private:
  /// Of the next step, but for decay and clipping.
  [[nodiscard]] adamw_settings settings(double rate) const {
    const double count = static_cast<double>(steps_ + 1);
    return {.rate = rate,
            .beta1 = options_.beta1,
            .beta2 = options_.beta2,
            .eps = options_.eps,
            .decay = 0,
            .correction1 = 1 - std::pow(options_.beta1, count),
            .correction2 = 1 - std::pow(options_.beta2, count),
            .gradient_scale = 1};
  }

  struct by_tensor {
    explicit by_tensor(const parameters&) {}
  };
  template <class Backend>
  struct optimizer_of {
    using type = by_tensor;
  };
  template <class Backend>
    requires requires { typename Backend::optimizer; }
  struct optimizer_of<Backend> {
    using type = typename Backend::optimizer::template of<Model>;
  };

  adamw_options options_;
  executor where_;
  owned<parameters> first_, second_;
  [[no_unique_address]] typename optimizer_of<typename Model::backend>::type whole_;
  index steps_ = 0;
};

}  // namespace fathom
