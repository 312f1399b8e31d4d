// Batches of windows of a token sequence: random ones for training, consecutive ones for validation.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <ranges>
#include <span>
#include <type_traits>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/token_source.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

namespace detail {
/// A temporary that owns its tokens, which batches would outlive. Views (spans) and lvalues are allowed.
template <class Tokens>
concept temporary_tokens = !std::is_lvalue_reference_v<Tokens> &&
                           ((!std::ranges::borrowed_range<Tokens> && std::convertible_to<Tokens, std::span<const token>>) ||
                            contract::stored_tokens<std::remove_cvref_t<Tokens>>);

/// Iterates over source.at(n) for n = first, first + 1, ...
template <class Source>
class batch_iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = fathom::batch;
  using difference_type = index;
  using pointer = const fathom::batch*;
  using reference = const fathom::batch&;

  batch_iterator() = default;
  batch_iterator(Source& source, index position) : source_(&source), position_(position) {}
  [[nodiscard]] const fathom::batch& operator*() const { return source_->at(position_); }
  batch_iterator& operator++() {
    ++position_;
    return *this;
  }
  void operator++(int) { ++position_; }
  [[nodiscard]] bool operator==(const batch_iterator&) const = default;

 private:
  Source* source_ = nullptr;
  index position_ = 0;
};

/// Fails when the inputs and targets of a batch exceed the address space. Both sizes must be at least 1.
inline void check_batch_size(const char* who, index batch, index tokens) {
  constexpr index most = std::numeric_limits<index>::max() / index{2 * sizeof(token)};
  if (batch > most / tokens)
    fail(who, ": ", batch, " windows of ", tokens, " tokens; expected no more than ", most, " tokens in a batch");
}
}  // namespace detail

/// Which windows of a text make up batches.
struct window_options {
  index batch = 1;         // windows per batch
  index tokens = 0;        // per window
  index steps = 0;         // number of batches, counted from step 0
  std::uint64_t seed = 0;  // of the random windows
  index first_step = 0;    // where to resume: earlier steps are skipped
};

/// Random windows of a token sequence, in memory or in files (token_files.hpp), which must outlive this. Each window begins at an independent, uniformly random
/// position; targets are the inputs shifted by one. The windows of a step depend only on the seed, the step, the window
/// length and the sequence length, so training resumed at any step sees the same data. Allocates nothing after
/// construction.
class windows {
 public:
  /// Fails when there are too few tokens for one window and its last target.
  windows(token_source tokens, const window_options& options) : tokens_(tokens), options_(options) {
    if (options.batch < 1 || options.tokens < 1 || options.steps < 0 || options.first_step < 0)
      fail("windows: batch = ", options.batch, ", tokens = ", options.tokens, ", steps = ", options.steps,
           ", first_step = ", options.first_step, "; expected the first two to be at least 1, the others at least 0");
    if (tokens.size() <= options.tokens)
      fail("windows: a run of ", tokens.size(), " tokens; windows of ", options.tokens, " need at least ",
           options.tokens, " tokens and one more to predict");
    detail::check_batch_size("windows", options.batch, options.tokens);
    inputs_.resize(static_cast<std::size_t>(options.batch * options.tokens));
    targets_.resize(inputs_.size());
  }
  template <detail::temporary_tokens Tokens>
  windows(Tokens&&, const window_options&) = delete;  // would dangle: name the tokens

  /// The batch of a step, [batch, tokens]. Valid until the next call.
  [[nodiscard]] const fathom::batch& at(index step) & {
    random numbers(options_.seed, stream_of("windows") + static_cast<std::uint64_t>(step));
    for (index sequence = 0; sequence < options_.batch; ++sequence) {
      const index window = numbers.below(tokens_.size() - options_.tokens);
      const auto first = static_cast<std::size_t>(sequence * options_.tokens), count = static_cast<std::size_t>(options_.tokens);
      tokens_.read(window, std::span(inputs_).subspan(first, count));
      tokens_.read(window + 1, std::span(targets_).subspan(first, count));
    }
    return batch_ = {inputs_, targets_, options_.batch, options_.tokens};
  }

  using iterator = detail::batch_iterator<windows>;
  /// The batches of steps first_step, first_step + 1, ..., steps - 1.
  [[nodiscard]] iterator begin() & { return {*this, std::min(options_.first_step, options_.steps)}; }
  [[nodiscard]] iterator end() & { return {*this, options_.steps}; }

 private:
  token_source tokens_;
  window_options options_;
  std::vector<token> inputs_, targets_;  // [batch, tokens]
  fathom::batch batch_;
};

/// Batches of random windows, one per step:
///
///   for (const fathom::batch& batch : fathom::data::batches(tokens, {.batch = 8, .tokens = 128, .steps = 1000})) ...
[[nodiscard]] inline windows batches(token_source tokens, const window_options& options) {
  return {tokens, options};
}
template <detail::temporary_tokens Tokens>
windows batches(Tokens&&, const window_options&) = delete;  // would dangle: name the tokens

/// A sequence of n tokens, which must outlive this, once and in order: non-overlapping windows of `length` tokens, up
/// to `batch` of them at a time. Every token but the first is a target exactly once, n - 1 in all, predicted from the
/// tokens before it in its window. The last window is padded with inputs 0 and targets -1, which are ignored; the last
/// batch may have fewer windows. For the mean over the sequence, weight the loss of each batch by its counted().
class consecutive {
 public:
  /// Fails when there is nothing to predict.
  consecutive(token_source tokens, index batch, index length)
      : tokens_(tokens), sequences_(batch), length_(length) {
    if (batch < 1 || length < 1)
      fail("consecutive: batch = ", batch, ", length = ", length, "; expected both to be at least 1");
    if (tokens.size() < 2)
      fail("consecutive: ", tokens.size(), " tokens; expected at least 2, so that one is predicted");
    windows_ = (tokens.size() - 2) / length + 1;
    detail::check_batch_size("consecutive", std::min(batch, windows_), length);
    inputs_.resize(static_cast<std::size_t>(std::min(batch, windows_) * length));
    targets_.resize(inputs_.size());
  }
  template <detail::temporary_tokens Tokens>
  consecutive(Tokens&&, index, index) = delete;  // would dangle: name the tokens

  /// The number of batches.
  [[nodiscard]] index size() const { return (windows_ - 1) / sequences_ + 1; }

  /// Batch `n` of size(), [up to batch, length]. Valid until the next call.
  [[nodiscard]] const fathom::batch& at(index n) & {
    if (n < 0 || n >= size()) fail("consecutive: batch ", n, "; expected 0 to ", size() - 1);
    const index sequences = std::min(sequences_, windows_ - n * sequences_);
    const auto count = static_cast<std::size_t>(sequences * length_);
    const index first = n * sequences_ * length_;
    const auto predicted = static_cast<std::size_t>(std::min(std::ssize(inputs_), tokens_.size() - 1 - first));
    const std::span<token> inputs = std::span(inputs_).first(count), targets = std::span(targets_).first(count);
    const std::size_t whole = std::min(count, predicted);
    tokens_.read(first, inputs.first(whole));
    tokens_.read(first + 1, targets.first(whole));
    std::fill(inputs.begin() + static_cast<index>(whole), inputs.end(), 0);
    std::fill(targets.begin() + static_cast<index>(whole), targets.end(), -1);
    return batch_ = {inputs, targets, sequences, length_};
  }

  using iterator = detail::batch_iterator<consecutive>;
  [[nodiscard]] iterator begin() & { return {*this, 0}; }
  [[nodiscard]] iterator end() & { return {*this, size()}; }

 private:
  token_source tokens_;
  index sequences_, length_;
  index windows_ = 0;
  std::vector<token> inputs_, targets_;  // [batch, length]
  fathom::batch batch_;
};

}  // namespace fathom::data
