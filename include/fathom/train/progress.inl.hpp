// Implementation of progress.hpp.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "fathom/train/progress.hpp"

namespace fathom {

FATHOM_INLINE progress_bar::progress_bar(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) == 1) {}
FATHOM_INLINE progress_bar::~progress_bar() {
  if (drawn_) std::fputc('\n', stderr);
}

FATHOM_INLINE void progress_bar::show(const progress& p) {
  using clock = std::chrono::steady_clock;
  if (!std::isnan(p.validation)) validation_ = p.validation;
  const auto now = clock::now();
  if (!shown_ || (p.step < p.steps && drawn_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  drawn_ = true;
  constexpr int width = 24;
  const int full = static_cast<int>(p.steps > 0 ? width * p.step / p.steps : width);
  double left = 0;
  if (p.tokens_per_second > 0 && p.step > 0)
    left = p.seconds / static_cast<double>(std::max<index>(p.step - first_, 1)) * static_cast<double>(p.steps - p.step);
  left = std::min(left, 1e9);
  std::fprintf(stderr, "\r[%.*s%*s] %td/%td  loss %.3f", full, "########################", width - full, "", p.step, p.steps,
               p.loss);
  if (!std::isnan(validation_)) std::fprintf(stderr, "  validation %.3f", validation_);
  if (p.waiting > 0) std::fprintf(stderr, "  waits %.0f%%", 100 * p.waiting);
  std::fprintf(stderr, "  %.0f tokens/s  %d:%02d left  ", p.tokens_per_second, static_cast<int>(left) / 60,
               static_cast<int>(left) % 60);
  std::fflush(stderr);
}

}  // namespace fathom
