// Learning-rate schedules. Each begins with a linear warm-up, whose first step already has a rate above 0.
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

/// Linear warm-up, then cosine decay to `lowest`, reached one step after the last (Loshchilov and Hutter,
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

/// Linear warm-up, then linear decay to `lowest`, reached one step after the last.
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

/// Warmup-stable-decay (Hu et al., MiniCPM, arXiv 2404.06395): linear warm-up, constant rate, then linear decay to
/// `lowest` over the last `cooldown` steps, reached one step after the last. A checkpoint from the constant phase can
/// be resumed for more steps, as if the run had been planned for them.
struct warmup_stable_decay {
  double rate;
  double lowest;
  index warmup;  // steps
  index steps;
  index cooldown;  // steps; if warm-up and cooldown overlap, the warm-up takes precedence

  /// The rate of step `step`, from 0.
  [[nodiscard]] double operator()(index step) const {
    if (step < warmup) return detail::warmup_rate(rate, step, warmup);
    if (step >= steps) return lowest;
    if (step < steps - cooldown) return rate;
    return lowest + (rate - lowest) * static_cast<double>(steps - step) / static_cast<double>(cooldown);
  }
};

enum class schedule { cosine, linear, warmup_stable_decay };

}  // namespace fathom
