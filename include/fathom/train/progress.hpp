// How far a run is: one line on a terminal, written over and over; nothing where there is no terminal.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>

#include "fathom/core/types.hpp"

namespace fathom {

/// What a trainer knows after a step.
struct progress {
  index step = 0;   // taken so far
  index steps = 0;  // of the whole run
  double loss = 0;  // mean over the step's tokens, in nats
  double rate = 0;
  double gradient_norm = 0;
  double tokens_per_second = 0;
  double seconds = 0;            // since fit began
  double validation = std::nan("");  // NLL in nats, where this step evaluated
};

/// Draws a bar with the steps, the loss, the speed and the time left on standard error, at most ten times a second.
class progress_bar {
 public:
  explicit progress_bar(bool wanted = true) : shown_(wanted && ::isatty(STDERR_FILENO) == 1) {}
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar() {
    if (drawn_) std::fputc('\n', stderr);
  }

  void show(const progress& p) {
    using clock = std::chrono::steady_clock;
    if (!std::isnan(p.validation)) validation_ = p.validation;
    const auto now = clock::now();
    if (!shown_ || (p.step < p.steps && drawn_ && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    drawn_ = true;
    constexpr int width = 24;
    const int full = static_cast<int>(p.steps > 0 ? width * p.step / p.steps : width);
    const double left = p.tokens_per_second > 0 && p.step > 0
                            ? p.seconds / static_cast<double>(std::max<index>(p.step - first_, 1)) * static_cast<double>(p.steps - p.step)
                            : 0;
    std::fprintf(stderr, "\r[%.*s%*s] %td/%td  loss %.3f", full, "########################", width - full, "", p.step, p.steps,
                 p.loss);
    if (!std::isnan(validation_)) std::fprintf(stderr, "  validation %.3f", validation_);
    std::fprintf(stderr, "  %.0f tokens/s  %d:%02d left  ", p.tokens_per_second, static_cast<int>(left) / 60,
                 static_cast<int>(left) % 60);
    std::fflush(stderr);
  }
  /// The run goes on from this step: earlier ones took no time here.
  void start_at(index step) { first_ = step; }

 private:
  bool shown_;
  bool drawn_ = false;
  index first_ = 0;
  double validation_ = std::nan("");
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace fathom
