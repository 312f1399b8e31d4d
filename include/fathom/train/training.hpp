// The options and the result of a training run.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/train/groups.hpp"
#include "fathom/train/progress.hpp"
#include "fathom/train/schedule.hpp"

namespace fathom {

/// Options of a run with AdamW. Those of the first group affect the result; a resumed run must have the same values.
struct training {
  index batch = 16;     // sequences per forward pass
  index tokens = 0;     // tokens per sequence; 0: the model's context
  index accumulate = 1;  // forward passes of each micro-batch, one after the other (gradient accumulation)
  index micro_batches = 1;  // of a step. A fixed tree adds their gradients (micro_batches.hpp), and the ranks of a group share
                            // them out: at least one each. The result is the same for any number of ranks
  bool bf16_gradients = false;  // round the gradients of micro-batches, and their sums but for the last, to bf16, so that ranks send
                                // half as many bytes of them. The result is still the same for any number of ranks
  index steps = 1000;
  float rate = 1e-3f;       // highest learning rate
  float lowest_rate = -1;   // at the end of the schedule; -1: a tenth of rate
  index warmup = -1;        // steps of linear warm-up; -1: a twentieth of all, at most 200
  fathom::schedule schedule = fathom::schedule::cosine;  // after the warm-up; schedule.hpp
  index cooldown = -1;      // decay steps of schedule::warmup_stable_decay; -1: a tenth of all
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float decay = 0.1f;
  float clip = 1.0f;        // gradient clipping: largest global norm; 0: none
  std::vector<parameter_group> groups{};  // tensors with their own settings; groups.hpp
  std::uint64_t seed = 1;   // of the initial weights and of the training windows

  index evaluate_every = 0;  // steps; 0: only at the end
  index evaluate_batches = 20;  // validation batches during the run; 0: all. The last evaluation always uses all
  std::filesystem::path checkpoint{};  // safetensors file with weights, moments and the state of the run; empty: none
  index checkpoint_every = 0;  // steps; 0: only at the end
  bool resume = false;         // continue from the checkpoint, if it exists
  bool extend = false;         // also resume a run of fewer steps; the rate then follows the schedule of `steps`
  std::filesystem::path log{};  // CSV file with a line for every step; empty: none
  bool progress = true;        // show a progress bar if standard error is a terminal
  int threads = 0;             // 0: as many as OpenMP would use
  step_observer observer{};    // called after every step with a const progress&; returning false ends the run
};

/// Options of a run with another optimiser: the same, except that `optimizer` holds the optimiser's options, including
/// rate, decay and clip.
template <class Options>
struct training_of {
  index batch = 16;
  index tokens = 0;
  index accumulate = 1;
  index micro_batches = 1;
  bool bf16_gradients = false;
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

/// The result of a run.
struct training_result {
  double training_nll = std::nan("");    // mean over the last steps (a twentieth of the run), in nats per token
  double validation_nll = std::nan("");  // mean over all validation tokens; NaN when there are none
  index steps = 0;                       // total, including those before resuming
  double seconds = 0;                    // in this call
  double tokens_per_second = 0;          // of training, without the time for evaluation and files
  double waiting = 0;  // the share of the training time in which this rank of a group waited for others
  int signal = 0;      // that ended the run of a group early, on any rank: SIGTERM; 0: none. The checkpoint is of the last step.
                       // One that came after the last step ended nothing; the rank that got it has it here
};

/// What a rank of a group needs (trainer::memory_of_rank), in bytes: upper bounds.
struct rank_memory {
  std::size_t weights = 0;
  std::size_t gradients = 0;  // of its nodes of the tree
  std::size_t exchanged = 0;  // buffers for gradients that arrive, and for those that leave as bf16
  std::size_t states = 0;     // its share of the optimiser's
  std::size_t tape = 0;
  [[nodiscard]] constexpr std::size_t total() const { return weights + gradients + exchanged + states + tape; }
};

namespace detail {
/// A line about it, and about what the first rank sends in a step: gradients and weights, in bytes.
[[nodiscard]] std::string summary_of_rank(int ranks, index micro_batches, const rank_memory& memory, double sent_gradients, double sent_weights);
/// Fills in the defaults, for a model of this context. Fails on invalid options.
[[nodiscard]] training checked_training(training options, index context);
/// Fails if the files of a run cannot be written or the disk has no room for them. Changes nothing.
void check_files(const training& options, std::uint64_t checkpoint_bytes);
}  // namespace detail

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/train/training.inl.hpp"
#endif
