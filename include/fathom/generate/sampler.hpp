// Samples a token from logits, on the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "fathom/backend/sampling.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Samples tokens with temperature, top-k and top-p. Allocates nothing after construction.
class sampler {
 public:
  sampler(index vocab, const sampling& options) : sampler(vocab, options, {}, buffer(bytes(vocab))) {}
  /// The same in the caller's memory, which must outlive the sampler: at least bytes(vocab) bytes, aligned to
  /// fathom::alignment.
  sampler(index vocab, const sampling& options, std::span<std::byte> memory) : sampler(vocab, options, memory, {}) {
    check_memory("sampler", memory, bytes(vocab));
  }
  /// Size of a sampler's working memory in bytes.
  [[nodiscard]] static constexpr std::size_t bytes(index vocab) {
    return vocab > 0 ? static_cast<std::size_t>(vocab) * sizeof(candidate) : 0;
  }

  /// Samples the next token from logits [vocab]. Ignores tokens from options.ids on, if set. A logit of -infinity
  /// excludes its token. Fails on NaN, on +infinity, and when all tokens are excluded.
  template <class T>
  [[nodiscard]] token operator()(std::span<const T> logits) {
    if (logits.size() != candidates_.size())
      fail("sampler: ", logits.size(), " logits; expected one for each of ", candidates_.size(), " tokens");
    if (options_.ids > 0) logits = logits.first(static_cast<std::size_t>(options_.ids));
    for (std::size_t i = 0; i < logits.size(); ++i)
      if (!(logits[i] < std::numeric_limits<T>::infinity()))
        fail("sampler: the logit of token ", i, " is ", logits[i], "; expected a finite number");
    const auto most_likely = std::max_element(logits.begin(), logits.end());
    if (*most_likely == -std::numeric_limits<T>::infinity()) fail("sampler: every logit is -inf; expected a finite one");
    if (options_.temperature == 0) return static_cast<token>(most_likely - logits.begin());
    for (std::size_t i = 0; i < logits.size(); ++i) candidates_[i] = {static_cast<double>(logits[i]), static_cast<token>(i)};
    auto kept = candidates_.first(logits.size());
    // Sort by probability, then by token, so that the order and thus the result is the same on every machine.
    const auto likelier = [](const candidate& a, const candidate& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
    };
    const bool some = options_.top_k > 0 && options_.top_k < static_cast<index>(kept.size());
    if (some) {
      std::nth_element(kept.begin(), kept.begin() + options_.top_k, kept.end(), likelier);
      kept = kept.first(static_cast<std::size_t>(options_.top_k));
    }
    if (some || options_.top_p < 1) std::sort(kept.begin(), kept.end(), likelier);

    double largest = kept[0].weight;
    for (const candidate& c : kept) largest = std::max(largest, c.weight);
    double total = 0;
    for (candidate& c : kept) total += c.weight = std::exp((c.weight - largest) / static_cast<double>(options_.temperature));
    if (options_.top_p < 1) {
      double reached = 0;
      std::size_t count = 0;
      while (count < kept.size() && reached < static_cast<double>(options_.top_p) * total) reached += kept[count++].weight;
      kept = kept.first(std::max<std::size_t>(count, 1));
      total = reached;
    }
    double at = numbers_.uniform() * total;
    token drawn = 0;  // if rounding leaves a remainder, the last possible token
    for (const candidate& c : kept) {
      if (c.weight == 0) continue;
      drawn = c.id;
      if ((at -= c.weight) < 0) break;
    }
    return drawn;
  }

 private:
  struct candidate {
    double weight;  // the logit, later exp((logit - largest) / temperature)
    token id;
  };
  sampler(index vocab, const sampling& options, std::span<std::byte> memory, buffer own)
      : options_((check_sampling(vocab, options), options)),
        numbers_(options.seed, stream_of("sampler")),
        own_(std::move(own)),
        candidates_(reinterpret_cast<candidate*>(memory.data() ? memory.data() : own_.bytes().data()),
                    static_cast<std::size_t>(vocab)) {}

  sampling options_;
  random numbers_;
  buffer own_;
  std::span<candidate> candidates_;
};

}  // namespace fathom
