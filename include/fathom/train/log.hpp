// The log of a run: a CSV file with a line for every step.
#pragma once

#include <filesystem>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"
#include "fathom/train/progress.hpp"

namespace fathom {

/// step,loss,validation,rate,gradient_norm,tokens,seconds: loss and validation in nats, validation empty where the step did
/// not evaluate; tokens trained on so far; seconds that training took so far, those of interrupted runs included.
class training_log {
 public:
  /// No log.
  training_log() = default;
  /// A log that begins with the lines of the first `step` steps, if the file has them; all else that it has is dropped: later
  /// steps, a last line that is not whole, lines of something else. Fails when it cannot be written.
  training_log(const std::filesystem::path& path, index step, index tokens_per_step);

  void write(const progress& p);

 private:
  io::appended_file file_;
  index tokens_per_step_ = 0;
  double seconds_before_ = 0;  // of the steps whose lines were there
};

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/log.inl.hpp"
#endif
