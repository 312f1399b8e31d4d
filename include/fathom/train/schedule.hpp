// The learning rate over the steps of a run. Each schedule begins with a linear warm-up, of which no step has a rate of 0.
#pragma once

#include <cmath>
#include <numbers>

#include "fathom/core/types.hpp"

namespace fathom {

namespace detail {
[[nodiscard]] inline double warmup_rate(double rate, index step, index warmup) {
  return rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
}
}  // namespace detail

/// Linear warm-up, then half a cosine down to `lowest`, which it reaches one step after the last (Loshchilov and Hutter,
/// arXiv 1608.03983).
struct warmup_cosine {
  double rate;
  double lowest;
  index warmup;  // steps
  index steps;

  /// The rate of step `step`, from 0.
  [[nodiscard]] double operator()(index step) const {
    if (step < warmup) return detail::warmup_rate(rate, step, warmup);
    if (step >= steps) return lowest;
    const double done = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
    return lowest + (rate - lowest) * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }
};

/// Linear warm-up, then a straight line down to `lowest`, which it reaches one step after the last.
struct warmup_linear {
  double rate;
  double lowest;
  index warmup;  // steps
  index steps;

  /// The rate of step `step`, from 0.
  [[nodiscard]] double operator()(index step) const {
    if (step < warmup) return detail::warmup_rate(rate, step, warmup);
    if (step >= steps) return lowest;
    return lowest + (rate - lowest) * static_cast<double>(steps - step) / static_cast<double>(steps - warmup);
  }
};

/// Warm-up, stable, decay (Hu et al., MiniCPM, arXiv 2404.06395): linear warm-up, the rate itself, and over the last `cooldown`
/// steps a straight line down to `lowest`, which it reaches one step after the last. A checkpoint of the stable part can be
/// resumed for more steps, as if it had been planned for them.
struct warmup_stable_decay {
  double rate;
  double lowest;
  index warmup;  // steps
  index steps;
  index cooldown;  // steps; where they and the warm-up are more than all, the warm-up is whole

  /// The rate of step `step`, from 0.
  [[nodiscard]] double operator()(index step) const {
    if (step < warmup) return detail::warmup_rate(rate, step, warmup);
    if (step >= steps) return lowest;
    if (step < steps - cooldown) return rate;
    return lowest + (rate - lowest) * static_cast<double>(steps - step) / static_cast<double>(cooldown);
  }
};

/// Which of them.
enum class schedule { cosine, linear, warmup_stable_decay };

}  // namespace fathom
