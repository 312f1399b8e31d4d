// What a run is, and what it comes to.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/train/groups.hpp"
#include "fathom/train/progress.hpp"
#include "fathom/train/schedule.hpp"

namespace fathom {

/// What a run with AdamW is. All but the last group decides what is computed; a run that is resumed must agree in it.
struct training {
  index batch = 16;     // sequences in a forward pass
  index tokens = 0;     // of each sequence; 0: the model's context
  index accumulate = 1;  // forward passes in a step
  index steps = 1000;
  float rate = 1e-3f;       // highest learning rate
  float lowest_rate = -1;   // at the end of the schedule; -1: a tenth of rate
  index warmup = -1;        // steps of linear warm-up; -1: a twentieth of all, at most 200
  fathom::schedule schedule = fathom::schedule::cosine;  // what comes then; schedule.hpp
  index cooldown = -1;      // last steps of schedule::warmup_stable_decay, in which the rate sinks; -1: a tenth of all
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float decay = 0.1f;
  float clip = 1.0f;        // largest global norm of the gradients; 0: none
  std::vector<parameter_group> groups{};  // of tensors that are trained otherwise, or not at all; groups.hpp
  std::uint64_t seed = 1;   // of the initial weights and of the windows

  index evaluate_every = 0;  // steps; 0: only at the end
  index evaluate_batches = 20;  // batches of held-back data to look at on the way; 0: all. At the end it is all of it
  std::filesystem::path checkpoint{};  // safetensors file with weights, moments and the state of the run; empty: none
  index checkpoint_every = 0;  // steps; 0: only at the end
  bool resume = false;         // go on from the checkpoint if there is one
  bool extend = false;         // also from one of a run of fewer steps; its rate then goes on by the schedule of `steps`
  std::filesystem::path log{};  // CSV file with a line for every step; empty: none
  bool progress = true;        // a progress bar, where standard error is a terminal
  int threads = 0;             // 0: as many as OpenMP would use
  step_observer observer{};    // called after every step with a const progress&; if it returns false, the run ends there
};

/// What a run with another optimiser is: the same, with the optimiser's own options, its rate, decay and clip among them, in
/// `optimizer`.
template <class Options>
struct training_of {
  index batch = 16;
  index tokens = 0;
  index accumulate = 1;
  index steps = 1000;
  float lowest_rate = -1;
  index warmup = -1;
  fathom::schedule schedule = fathom::schedule::cosine;
  index cooldown = -1;
  Options optimizer{};
  std::vector<parameter_group> groups{};
  std::uint64_t seed = 1;

  index evaluate_every = 0;
  index evaluate_batches = 20;
  std::filesystem::path checkpoint{};
  index checkpoint_every = 0;
  bool resume = false;
  bool extend = false;
  std::filesystem::path log{};
  bool progress = true;
  int threads = 0;
  step_observer observer{};
};

/// What a run came to.
struct training_result {
  double training_nll = std::nan("");    // mean over the last steps (a twentieth of the run), in nats per token
  double validation_nll = std::nan("");  // over all held-back tokens; NaN when there are none
  index steps = 0;                       // taken in all
  double seconds = 0;                    // in this call
  double tokens_per_second = 0;          // trained on, evaluation and files not counted
};

namespace detail {
/// The options with defaults filled in, for a model of this context. Fails on what makes no sense.
[[nodiscard]] training checked_training(training options, index context);
/// Fails when the files that a run writes cannot be written, or have no room: before it begins, and changing nothing.
void check_files(const training& options, std::uint64_t checkpoint_bytes);
}  // namespace detail

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/training.inl.hpp"
#endif
