// The training log: a CSV file with one line per step.
#pragma once

#include <filesystem>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"
#include "fathom/train/progress.hpp"

namespace fathom {

/// Columns: step,loss,validation,rate,gradient_norm,tokens,seconds; and waiting, for groups. loss and validation are in nats;
/// validation is empty for steps without evaluation. tokens and seconds are totals so far, including interrupted runs. waiting is
/// the share of the step in which the first rank waited for others; 0 in lines of a run without a group.
class training_log {
 public:
  /// No log.
  training_log() = default;
  /// Continues an existing log after `step` steps, or begins a new one. Keeps the file's lines of these steps and drops
  /// everything else: later steps, an incomplete last line, invalid lines; and the column `waiting`, unless it is wanted. Fails
  /// when the file cannot be written.
  training_log(const std::filesystem::path& path, index step, index tokens_per_step, bool has_waiting = false);

  void write(const progress& p);

 private:
  io::appended_file file_;
  index tokens_per_step_ = 0;
  bool has_waiting_ = false;
  double seconds_before_ = 0;  // from the lines that were kept
};

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/log.inl.hpp"
#endif
