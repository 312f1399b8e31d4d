// The learning rate over the steps of a run.
#pragma once

#include <cmath>
#include <numbers>

#include "fathom/core/types.hpp"

namespace fathom {

/// Linear warm-up, then half a cosine down to `lowest`, which it reaches one step after the last (Loshchilov and Hutter,
/// arXiv 1608.03983).
struct warmup_cosine {
  double rate;
  double lowest;
  index warmup;  // steps
  index steps;

  /// The rate of step `step`, from 0.
  [[nodiscard]] double operator()(index step) const {
    if (step < warmup) return rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (step >= steps) return lowest;
    const double done = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
    return lowest + (rate - lowest) * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }
};

}  // namespace fathom
