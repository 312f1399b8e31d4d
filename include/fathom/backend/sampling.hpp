// How to sample a token from logits: on the host (generate/sampler.hpp), or in a backend, where the logits are.
#pragma once

#include <cstdint>
#include <limits>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// How a token is drawn from logits.
struct sampling {
  float temperature = 1;   // 0: greedy, the most likely token (the first, on ties); finite
  index top_k = 0;         // only the k most likely tokens; 0: all
  float top_p = 1;         // of those, the fewest that reach this probability (Holtzman et al., arXiv 1904.09751)
  std::uint64_t seed = 0;
  index ids = 0;           // only tokens below this, if the rest of the vocabulary is padding; 0: all
};

/// Fails unless the options are valid for `vocab` tokens.
inline void check_sampling(index vocab, const sampling& options) {
  if (vocab < 1) fail("sampler: a vocabulary of ", vocab, " tokens; expected at least 1");
  if (!(options.temperature >= 0 && options.temperature <= std::numeric_limits<float>::max()) || options.top_k < 0 ||
      !(options.top_p > 0 && options.top_p <= 1) || options.ids < 0 || options.ids > vocab)
    fail("sampler: temperature ", options.temperature, ", top_k ", options.top_k, ", top_p ", options.top_p, ", ids ", options.ids,
         "; expected a finite temperature and a top_k of at least 0, a top_p above 0 and at most 1, and ids from 0 to the ", vocab,
         " tokens of the vocabulary");
}

}  // namespace fathom
