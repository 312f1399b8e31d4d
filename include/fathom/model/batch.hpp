// A batch: the tokens that a forward pass reads.
#pragma once

#include <span>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Token sequences side by side: row-major [sequences, tokens]. Without targets a pass yields logits instead of a loss;
/// a target of -1 is not counted.
struct batch {
  std::span<const token> inputs;
  std::span<const token> targets;
  index sequences = 0;
  index tokens = 0;

  /// The number of targets that count.
  [[nodiscard]] index counted() const {
    index count = 0;
    for (const token target : targets) count += target >= 0;
    return count;
  }
};

/// Fails unless every token is in [lowest, vocab).
inline void check_tokens(std::span<const token> tokens, token lowest, index vocab, const char* what) {
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < lowest || tokens[i] >= vocab)
      fail(what, ": token ", tokens[i], " at position ", i, " is outside of the vocabulary, ", lowest, " to ", vocab - 1);
}

}  // namespace fathom
