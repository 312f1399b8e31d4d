// Training progress, and a progress bar that redraws one line of a terminal; silent without a terminal.
#pragma once

#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The state of a run after a step.
struct progress {
  index step = 0;   // steps taken so far
  index steps = 0;  // of the whole run
  double loss = 0;  // mean over the step's tokens, in nats
  double rate = 0;
  double gradient_norm = 0;
  double tokens_per_second = 0;
  double seconds = 0;            // since fit began
  double validation = std::nan("");  // NLL in nats; NaN unless this step evaluated
  double waiting = 0;  // the share of the training time in which this rank of a group waited for others
  double step_waiting = 0;  // the same of this step
};

/// A callback after every step: any callable that takes a const progress&. It may return a bool; false ends the run.
class step_observer {
 public:
  step_observer() = default;
  step_observer(std::nullptr_t) {}  // NOLINT: as of std::function
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, step_observer>)
  step_observer(F&& f) {  // NOLINT: {.observer = [](const auto& progress) { ... }}
    using call = std::decay_t<F>;
    if constexpr (std::is_invocable_r_v<bool, call&, const progress&>)
      call_ = std::forward<F>(f);
    else if constexpr (returns_nothing<call>())
      call_ = [g = call(std::forward<F>(f))](const progress& p) mutable { return g(p), true; };
    else
      static_assert(sizeof(call) == 0, "fathom::training: observer must be callable with a const fathom::progress&, and return bool or nothing");
  }

  [[nodiscard]] explicit operator bool() const { return static_cast<bool>(call_); }
  /// Whether the run goes on.
  bool operator()(const progress& p) const { return !call_ || call_(p); }

 private:
  template <class Call>
  [[nodiscard]] static constexpr bool returns_nothing() {
    if constexpr (std::is_invocable_v<Call&, const progress&>) return std::is_void_v<std::invoke_result_t<Call&, const progress&>>;
    return false;
  }
  std::function<bool(const progress&)> call_;
};

/// Draws a bar with the steps, the loss, the speed and the time left to standard error, at most ten times a second.
class progress_bar {
 public:
  explicit progress_bar(bool wanted = true);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar();

  void show(const progress& p);
  /// Excludes the steps before this one from the time estimate, because a resumed run did not take them.
  void start_at(index step) { first_ = step; }

 private:
  bool shown_;
  bool drawn_ = false;
  index first_ = 0;
  double validation_ = std::nan("");
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/progress.inl.hpp"
#endif
