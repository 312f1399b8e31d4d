// A baseline: n-gram models with interpolated Witten-Bell smoothing.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// Options of an n-gram model.
struct ngram_options {
  index order = 3;  // n: predicts a token from up to n - 1 previous tokens
  index vocab = 256;
};

/// The interpolated n-gram model
///
///   P(w | h) = (c(hw) + t(h) P(w | h')) / (c(h) + t(h))
///
/// where c(hw) is the number of times token w followed context h in training, c(h) the number of times any token did,
/// t(h) the number of distinct tokens that did, and h' is h without its oldest token. The empty context backs off to
/// the uniform distribution; a context without followers backs off to h'. (Witten and Bell, "The zero-frequency
/// problem", IEEE Transactions on Information Theory 37, 1991, method C; in this recursive form Chen and Goodman, "An
/// empirical study of smoothing techniques for language modeling", Harvard TR-10-98, 1998, "Witten-Bell smoothing".)
class ngram {
 public:
  static constexpr index largest_order = 8;

  /// Counts the n-grams of a token sequence.
  explicit ngram(std::span<const token> train, const ngram_options& options = {})
      : order_(options.order), vocab_(options.vocab), slots_(1024) {
    if (order_ < 1 || order_ > largest_order) fail("ngram: order = ", order_, "; expected 1 to ", largest_order);
    detail::check_vocab(vocab_);
    if (train.empty() || train.size() > std::numeric_limits<count>::max())
      fail("ngram: ", train.size(), " tokens to train on; expected 1 to ", std::numeric_limits<count>::max());
    check_tokens(train, 0, vocab_, "ngram: training");

    contexts seen{};
    for (std::size_t i = 0; i < train.size(); ++i)
      // Longest first: order n makes the context of order n + 1 for the next token.
      for (auto n = std::min(static_cast<std::size_t>(order_), i + 1); n >= 1; --n) {
        const id context = seen[n - 1];
        const id next = add(context, train[i]);
        const bool is_new = ++nodes_[next].occurrences == 1;
        ++nodes_[context].followers;
        nodes_[context].different_followers += is_new;
        seen[n] = next;
      }
  }

  /// P(next | context). Uses the last order - 1 tokens of the context, which may have fewer.
  [[nodiscard]] double probability(std::span<const token> context, token next) const {
    check_tokens(context, 0, vocab_, "ngram: context");
    check_tokens({&next, 1}, 0, vocab_, "ngram: next token");
    contexts seen{};
    for (const token past : context.last(std::min(context.size(), static_cast<std::size_t>(order_ - 1))))
      static_cast<void>(advance(seen, past));
    return advance(seen, next);
  }

  /// The mean of -log P over all tokens of a text, in nats. Each token is predicted from as many previous tokens of the
  /// text as the order permits.
  [[nodiscard]] double nll(std::span<const token> text) const {
    if (text.empty()) fail("ngram: no tokens to evaluate");
    check_tokens(text, 0, vocab_, "ngram: evaluation");
    contexts seen{};
    double sum = 0;
    for (const token next : text) sum -= std::log(advance(seen, next));
    return sum / static_cast<double>(text.size());
  }

 private:
  using id = std::uint32_t;
  using count = std::uint32_t;

  /// An n-gram that occurred in training, of any length up to the order: the n-gram `parent` followed by `last`.
  struct node {
    id parent;
    token last;
    count occurrences;                     // c(hw), where hw is the n-gram
    count followers, different_followers;  // c(h) and t(h), where h is the n-gram
  };
  static constexpr id root = 0;  // the empty n-gram; it is no child, so 0 also means "none"

  /// The n-grams at the end of the text so far, by length: the contexts of the next token.
  using contexts = std::array<id, largest_order + 1>;

  /// Returns the probability of the next token and advances the contexts past it.
  [[nodiscard]] double advance(contexts& seen, token next) const {
    contexts after{};
    double p = 1 / static_cast<double>(vocab_);
    for (std::size_t n = 1; n <= static_cast<std::size_t>(order_); ++n) {
      const id context = seen[n - 1];
      if (n > 1 && context == root) break;  // this context never occurred, nor did longer ones
      after[n] = slots_[slot_of(context, next)];
      const double c = nodes_[context].followers, t = nodes_[context].different_followers;
      const double c_next = after[n] == root ? 0 : nodes_[after[n]].occurrences;
      if (c > 0) p = (c_next + t * p) / (c + t);
    }
    seen = after;
    return p;
  }

  /// The slot of the child of an n-gram, or a free slot for it.
  [[nodiscard]] std::size_t slot_of(id parent, token last) const {
    const std::uint64_t key = (std::uint64_t{parent} << 32) | static_cast<std::uint32_t>(last);
    std::uint64_t hash = key * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
    for (std::size_t slot = hash & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
      const id found = slots_[slot];
      if (found == root || (nodes_[found].parent == parent && nodes_[found].last == last)) return slot;
    }
  }
  /// The child of an n-gram; added if it does not exist.
  [[nodiscard]] id add(id parent, token last) {
    std::size_t slot = slot_of(parent, last);
    if (slots_[slot] != root) return slots_[slot];
    if (nodes_.size() > std::numeric_limits<id>::max()) fail("ngram: more than ", nodes_.size() - 1, " n-grams");
    if (2 * nodes_.size() >= slots_.size()) {  // at most half full, to keep searches short
      slots_.assign(2 * slots_.size(), root);
      for (id n = 1; n < nodes_.size(); ++n) slots_[slot_of(nodes_[n].parent, nodes_[n].last)] = n;
      slot = slot_of(parent, last);
    }
    slots_[slot] = static_cast<id>(nodes_.size());
    nodes_.push_back({parent, last, 0, 0, 0});
    return slots_[slot];
  }

  index order_, vocab_;
  std::vector<node> nodes_{{root, 0, 0, 0, 0}};
  std::vector<id> slots_;  // hash table of the nodes by parent and last token; its size is a power of 2
};

}  // namespace fathom::data
