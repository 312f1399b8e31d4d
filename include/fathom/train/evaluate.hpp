// The loss on data that the model was not trained on.
#pragma once

#include <span>

#include "fathom/core/types.hpp"
#include "fathom/data/batches.hpp"

namespace fathom {

/// Mean negative log-likelihood of a run of tokens, in nats per token: the run in windows of `length` tokens, every token
/// but the first predicted once from those before it in its window. At most `most_batches` batches are looked at; 0: all.
template <class Model>
[[nodiscard]] double evaluate(const typename Model::parameters& weights, std::span<const token> tokens,
                              typename Model::tape& tape, index batch, index length = Model::context,
                              index most_batches = 0) {
  double sum = 0;
  index counted = 0;
  for (const fathom::batch& b : data::consecutive(tokens, batch, length)) {
    Model::forward(weights, b, tape);
    sum += static_cast<double>(tape.loss()) * static_cast<double>(tape.counted());
    counted += tape.counted();
    if (--most_batches == 0) break;
  }
  return sum / static_cast<double>(counted);
}

}  // namespace fathom
