// Batches of windows of a run of tokens: at random places to train on, one after the other to validate on.
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
#include "fathom/model/batch.hpp"

namespace fathom::data {

namespace detail {
/// What owns tokens and is about to go away: batches of them cannot be had. Views (spans) and what has a name can.
template <class Tokens>
concept temporary_tokens = !std::is_lvalue_reference_v<Tokens> && !std::ranges::borrowed_range<Tokens> &&
                           std::convertible_to<Tokens, std::span<const token>>;

/// Goes through source.at(n) for n = first, first + 1, ...
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

/// Fails when memory could not hold inputs and targets of so many windows of so many tokens, both at least 1.
inline void check_batch_size(const char* who, index batch, index tokens) {
  constexpr index most = std::numeric_limits<index>::max() / index{2 * sizeof(token)};
  if (batch > most / tokens)
    fail(who, ": ", batch, " windows of ", tokens, " tokens; expected no more than ", most, " tokens in a batch");
}
}  // namespace detail

struct window_options {
  index batch = 1;         // windows side by side
  index tokens = 0;        // in each window
  index steps = 0;         // batches, counted from step 0
  std::uint64_t seed = 0;  // which windows
  index first_step = 0;    // where to go on: the steps before it are left out
};

/// Random windows of a run of tokens, which must outlive this. Every window begins at a place of its own, all places
/// being equally likely; the targets are the inputs shifted by one. Where the windows of a step begin depends on the
/// seed, the number of the step, the length of a window and the length of the run, and on nothing else: training that
/// stops and goes on at any step sees the same data. After construction nothing is allocated.
class windows {
 public:
  /// Fails when the tokens do not make up a window and its last target.
  windows(std::span<const token> tokens, const window_options& options) : tokens_(tokens), options_(options) {
    if (options.batch < 1 || options.tokens < 1 || options.steps < 0 || options.first_step < 0)
      fail("windows: batch = ", options.batch, ", tokens = ", options.tokens, ", steps = ", options.steps,
           ", first_step = ", options.first_step, "; expected the first two to be at least 1, the others at least 0");
    if (std::ssize(tokens) <= options.tokens)
      fail("windows: a run of ", tokens.size(), " tokens; windows of ", options.tokens, " need at least ",
           options.tokens, " tokens and one more to predict");
    detail::check_batch_size("windows", options.batch, options.tokens);
    inputs_.resize(static_cast<std::size_t>(options.batch * options.tokens));
    targets_.resize(inputs_.size());
  }
  template <detail::temporary_tokens Tokens>
  windows(Tokens&&, const window_options&) = delete;  // name the tokens: a temporary's are gone before the first batch

  /// The batch of a step, [batch, tokens]. It is valid until the next one is asked for.
  [[nodiscard]] const fathom::batch& at(index step) & {
    random numbers(options_.seed, stream_of("windows") + static_cast<std::uint64_t>(step));
    for (index sequence = 0; sequence < options_.batch; ++sequence) {
      const token* const window = tokens_.data() + numbers.below(std::ssize(tokens_) - options_.tokens);
      std::copy_n(window, options_.tokens, inputs_.data() + sequence * options_.tokens);
      std::copy_n(window + 1, options_.tokens, targets_.data() + sequence * options_.tokens);
    }
    return batch_ = {inputs_, targets_, options_.batch, options_.tokens};
  }

  using iterator = detail::batch_iterator<windows>;
  /// The batches of steps first_step, first_step + 1, ..., steps - 1.
  [[nodiscard]] iterator begin() & { return {*this, std::min(options_.first_step, options_.steps)}; }
  [[nodiscard]] iterator end() & { return {*this, options_.steps}; }

 private:
  std::span<const token> tokens_;
  window_options options_;
  std::vector<token> inputs_, targets_;  // [batch, tokens]
  fathom::batch batch_;
};

/// Batches of random windows, step after step:
///
///   for (const fathom::batch& batch : fathom::data::batches(tokens, {.batch = 8, .tokens = 128, .steps = 1000})) ...
[[nodiscard]] inline windows batches(std::span<const token> tokens, const window_options& options) {
  return {tokens, options};
}
template <detail::temporary_tokens Tokens>
windows batches(Tokens&&, const window_options&) = delete;  // name the tokens: a temporary's would be gone by then

/// A run of n tokens, which must outlive this, once and in order: as windows of `length` tokens that do not overlap, up
/// to `batch` of them at a time. Every token but the first is a target exactly once, n - 1 in all, predicted from the
/// tokens before it in its window. The last window is filled up with inputs 0 and targets -1, which do not count; the
/// last batch may have fewer windows. To get the mean over the run, weigh the loss of every batch with its counted().
class consecutive {
 public:
  /// Fails when there is nothing to predict.
  consecutive(std::span<const token> tokens, index batch, index length)
      : tokens_(tokens), sequences_(batch), length_(length) {
    if (batch < 1 || length < 1)
      fail("consecutive: batch = ", batch, ", length = ", length, "; expected both to be at least 1");
    if (tokens.size() < 2)
      fail("consecutive: ", tokens.size(), " tokens; expected at least 2, so that one is predicted");
    windows_ = (std::ssize(tokens) - 2) / length + 1;
    detail::check_batch_size("consecutive", std::min(batch, windows_), length);
    inputs_.resize(static_cast<std::size_t>(std::min(batch, windows_) * length));
    targets_.resize(inputs_.size());
  }
  template <detail::temporary_tokens Tokens>
  consecutive(Tokens&&, index, index) = delete;  // name the tokens: a temporary's are gone before the first batch

  /// How many batches there are.
  [[nodiscard]] index size() const { return (windows_ - 1) / sequences_ + 1; }

  /// Batch `n` of size(), [up to batch, length]. It is valid until the next one is asked for.
  [[nodiscard]] const fathom::batch& at(index n) & {
    if (n < 0 || n >= size()) fail("consecutive: batch ", n, "; expected 0 to ", size() - 1);
    const index sequences = std::min(sequences_, windows_ - n * sequences_);
    const auto count = static_cast<std::size_t>(sequences * length_);
    const auto first = static_cast<std::size_t>(n * sequences_ * length_);
    for (std::size_t i = 0; i < count; ++i) {
      const bool predicted = first + i + 1 < tokens_.size();
      inputs_[i] = predicted ? tokens_[first + i] : 0;
      targets_[i] = predicted ? tokens_[first + i + 1] : -1;
    }
    return batch_ = {std::span(inputs_).first(count), std::span(targets_).first(count), sequences, length_};
  }

  using iterator = detail::batch_iterator<consecutive>;
  [[nodiscard]] iterator begin() & { return {*this, 0}; }
  [[nodiscard]] iterator end() & { return {*this, size()}; }

 private:
  std::span<const token> tokens_;
  index sequences_, length_;
  index windows_ = 0;
  std::vector<token> inputs_, targets_;  // [batch, length]
  fathom::batch batch_;
};

}  // namespace fathom::data
