// The optimiser: AdamW with decoupled weight decay and clipping by global norm.
#pragma once

#include <cmath>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/backend/operations.hpp"
#include "fathom/core/copy.hpp"
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

namespace detail {
/// adamw_options with the names that other libraries have for its fields beside them, for an error.
struct misnamed_adamw_options {
  double rate = 0, lr = 0, learning_rate = 0;
  double beta1 = 0, adam_beta1 = 0, beta2 = 0, adam_beta2 = 0;
  std::initializer_list<double> betas{};
  double eps = 0, epsilon = 0, adam_epsilon = 0;
  double decay = 0, weight_decay = 0, wd = 0;
  double clip = 0, clip_norm = 0, grad_clip = 0, max_grad_norm = 0, max_norm = 0;
};
/// Fails on options that make no sense.
inline void check(const adamw_options& o) {
  bool finite = true;
  for (const float number : {o.rate, o.beta1, o.beta2, o.eps, o.decay, o.clip}) finite &= number >= 0 && std::isfinite(number);
  if (!finite || o.beta1 >= 1 || o.beta2 >= 1 || o.eps == 0)
    fail("adamw: rate ", o.rate, ", beta1 ", o.beta1, ", beta2 ", o.beta2, ", eps ", o.eps, ", decay ", o.decay, ", clip ", o.clip,
         "; expected betas in [0, 1), eps above 0 and the others at least 0, all of them finite");
}
}  // namespace detail

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101).
template <class Model>
class adamw {
 public:
  using parameters = typename Model::parameters;
  using executor = typename Model::executor;

  /// Fails on options that make no sense.
  explicit adamw(const adamw_options& options = {}, executor where = {})
      : options_((detail::check(options), options)), where_(where), first_(make<parameters>()), second_(make<parameters>()),
        whole_(*first_) {
    if constexpr (!steps_by_itself)
      Model::visit_tensors(
          [&](initial, const auto& tensor) { tensors_.push_back({tensor.data() - numbers(*first_), tensor.size, tensor.rank == 2}); },
          *first_);
  }
  explicit adamw(std::initializer_list<detail::nothing_at_all>, executor where = {}) : adamw(adamw_options{}, where) {}
  template <class Habit = detail::misnamed_adamw_options>
    requires std::is_same_v<Habit, detail::misnamed_adamw_options>
  explicit adamw(Habit, executor = {}) : adamw(adamw_options{}) {
    static_assert(detail::never<Habit>, "fathom::adamw_options has no such field: it has rate, beta1, beta2, eps, decay, clip");
  }

  /// One step at the rate of the options, or at another. Zeroes the gradients. Returns their global norm before clipping.
  /// Fails when that norm is not finite, as gradients of a broken batch are: weights and moments are then as they were, the
  /// gradients zero, and the next step is as if this batch had not been.
  double step(parameters& weights, parameters& gradients) { return step(weights, gradients, options_.rate); }
  double step(parameters& weights, parameters& gradients, double rate) {
    const double norm = try_step(weights, gradients, rate);
    if (!std::isfinite(norm)) fail("adamw.step: the norm of the gradients is ", norm, " at step ", steps_ + 1);
    return norm;
  }
  /// The same, but does not fail: a norm that is not finite is returned like any other. A loop may go on.
  double try_step(parameters& weights, parameters& gradients, double rate) {
    if constexpr (steps_by_itself) {
      start_step(weights, gradients, rate);
      return finish_step();
    } else {
      check_rate(rate);
      double norm = 0;
      where_.run([&](const auto& on) {
        auto* const w = numbers(weights);
        auto* const g = numbers(gradients);
        double squares = 0;
        for (const tensor_place& t : tensors_) squares += sum_of_squares(on, g + t.first, t.size);
        const double n = std::sqrt(squares);
        if (on.rank() == 0) norm = n;
        if (!std::isfinite(n)) return;  // every rank sees the same sum
        adamw_settings s = settings(rate);
        s.gradient_scale = options_.clip > 0 && n > options_.clip ? options_.clip / n : 1;
        for (const tensor_place& t : tensors_) {
          s.decay = t.is_decayed ? options_.decay : 0;
          adamw_update(on, w + t.first, g + t.first, numbers(*first_) + t.first, numbers(*second_) + t.first, t.size, s);
        }
      });
      count_step(norm, gradients);
      return norm;
    }
  }

  /// Whether the backend takes a whole step by itself, the norm included. A step then has two halves: one that starts it
  /// and does not wait, and one that waits and returns what try_step returns.
  static constexpr bool steps_by_itself = requires { typename Model::backend::optimizer; };
  void start_step(parameters& weights, parameters& gradients, double rate)
    requires steps_by_itself
  {
    check_rate(rate);
    adamw_settings s = settings(rate);
    s.decay = options_.decay;
    started_ = &gradients;
    whole_.start(where_, weights, gradients, *first_, *second_, s, options_.clip);
  }
  double finish_step()
    requires steps_by_itself
  {
    const double norm = whole_.finish(where_);
    count_step(norm, *started_);
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
  /// Where the numbers of a tensor lie among all of them. A table, so that the operations are compiled for none of their shapes.
  struct tensor_place {
    index first, size;
    bool is_decayed;
  };
  [[nodiscard]] static auto* numbers(parameters& p) { return reinterpret_cast<typename Model::scalar*>(&p); }

  static void check_rate(double rate) {
    if (!(rate >= 0) || !std::isfinite(rate)) fail("adamw.step: a rate of ", rate, "; expected a finite one, 0 or more");
  }
  void count_step(double norm, parameters& gradients) {
    if (std::isfinite(norm))
      ++steps_;
    else  // what is not finite would be added to, and stay so
      memory_of<parameters>::zero(&gradients, sizeof gradients);
  }

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
  std::vector<tensor_place> tensors_;
  parameters* started_ = nullptr;  // the gradients of a step that has been started
  index steps_ = 0;
};

}  // namespace fathom
