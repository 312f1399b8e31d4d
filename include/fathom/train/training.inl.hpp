// Implementation of training.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <system_error>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/summary.inl.hpp"
#include "fathom/train/training.hpp"

namespace fathom::detail {

FATHOM_INLINE training checked_training(training o, index context) {
  const bool default_lowest = o.lowest_rate == -1, default_warmup = o.warmup == -1;
  if (o.tokens == 0) o.tokens = context;
  if (default_lowest) o.lowest_rate = o.rate / 10;
  if (default_warmup) o.warmup = std::min<index>(200, o.steps / 20);
  const bool has_cooldown = o.schedule == schedule::warmup_stable_decay;
  if (has_cooldown && o.cooldown == -1) o.cooldown = o.steps / 10;
  bool finite = true;
  for (const float number : {o.rate, o.lowest_rate, o.decay, o.clip}) finite &= number >= 0 && std::isfinite(number);
  if (o.batch < 1 || o.tokens < 1 || o.tokens > context || o.accumulate < 1 || o.micro_batches < 1 || o.steps < 0 || !finite || o.warmup < 0 ||
      o.evaluate_every < 0 || o.evaluate_batches < 0 || o.checkpoint_every < 0 || o.threads < 0)
    fail("trainer: batch ", o.batch, ", tokens ", o.tokens, ", accumulate ", o.accumulate, ", micro_batches ", o.micro_batches,
         ", steps ", o.steps, ", rate ", o.rate, ", lowest_rate ", o.lowest_rate, ", warmup ", o.warmup, ", decay ", o.decay, ", clip ", o.clip,
         ", evaluate_every ", o.evaluate_every, ", evaluate_batches ", o.evaluate_batches, ", checkpoint_every ",
         o.checkpoint_every, ", threads ", o.threads, "; expected batch, accumulate and micro_batches of at least 1, 1 to ", context,
         " tokens (the model's context), and nothing below 0, infinite or NaN (but lowest_rate and warmup may be -1)");
  if (has_cooldown ? o.cooldown < 0 : o.cooldown != -1)
    fail("trainer: cooldown ", o.cooldown, "; expected ",
         has_cooldown ? "0 or more steps, or -1" : "none (-1), as only schedule::warmup_stable_decay has one");
  // The token count of a whole run must fit an index.
  index most = std::numeric_limits<index>::max();
  for (const index factor : {o.batch, o.tokens, o.accumulate, o.micro_batches, std::max<index>(o.steps, 1)}) {
    if (factor > most)
      fail("trainer: batch ", o.batch, ", tokens ", o.tokens, ", accumulate ", o.accumulate, ", micro_batches ",
           o.micro_batches, ", steps ", o.steps, "; expected fewer than ", std::numeric_limits<index>::max(), " tokens in all");
    most /= factor;
  }
  if (o.extend && !o.resume) fail("trainer: extend without resume; expected both");
  return o;
}

FATHOM_INLINE std::string summary_of_rank(int ranks, index micro_batches, const rank_memory& memory, double sent_gradients, double sent_weights) {
  const auto bytes = [](auto number) { return join(in_units(static_cast<double>(number)), "B"); };
  std::string text = join(ranks == 1 ? std::string("one process") : join("each of ", ranks, " ranks"), ", ", micro_batches,
                          micro_batches == 1 ? " micro-batch: " : " micro-batches: ", bytes(memory.total()), ": weights ", bytes(memory.weights),
                          ", gradients ", bytes(memory.gradients), ", states ", bytes(memory.states), ", tape ", bytes(memory.tape));
  if (ranks > 1)
    text += join(", buffers ", bytes(memory.exchanged), "; a step sends ", bytes(sent_gradients), " of gradients and ", bytes(sent_weights),
                 " of weights");
  return text + "\n";
}

FATHOM_INLINE void check_files(const training& o, std::uint64_t checkpoint_bytes) {
  std::error_code none;
  if (!o.checkpoint.empty() && !o.log.empty() &&
      (o.checkpoint.lexically_normal() == o.log.lexically_normal() || std::filesystem::equivalent(o.checkpoint, o.log, none)))
    fail("trainer: ", o.checkpoint.string(), " is both checkpoint and log; expected two files");
  if (!o.checkpoint.empty()) io::check_writable(o.checkpoint, checkpoint_bytes);
  if (!o.log.empty()) io::check_writable(o.log);
}

}  // namespace fathom::detail
