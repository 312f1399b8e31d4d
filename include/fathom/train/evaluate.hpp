// The loss on held-out data.
#pragma once

#include <type_traits>

#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/batches.hpp"
#include "fathom/data/token_source.hpp"

namespace fathom {

namespace detail {
/// The mean loss of several batches, weighted by their counted targets and added in the order of add().
class mean_loss {
 public:
  // Compiled once: inlined, it could round differently, as compilers fuse multiply-adds.
  [[gnu::noinline]] void add(double loss, index counted) {
    sum_ += loss * static_cast<double>(counted);
    counted_ += counted;
  }
  [[nodiscard]] double mean() const { return sum_ / static_cast<double>(counted_); }

 private:
  double sum_ = 0;
  index counted_ = 0;
};
}  // namespace detail

/// Mean negative log-likelihood of a token sequence, in nats per token. The sequence is cut into windows of `length`
/// tokens; every token except the first is predicted once, from the tokens before it in its window. Uses at most
/// `most_batches` batches; 0: all. Fails when there is nothing to predict, when a batch does not fit the tape, and when
/// `most_batches` is negative.
template <class Model>
[[nodiscard]] double evaluate(const typename Model::parameters& weights, const data::token_source& tokens,
                              typename Model::tape& tape, index batch, index length = Model::context,
                              index most_batches = 0) {
  if (most_batches < 0) fail("evaluate: at most ", most_batches, " batches; expected 0, for all, or more");
  detail::mean_loss mean;
  for (const fathom::batch& b : data::consecutive(tokens, batch, length)) {
    Model::forward(weights, b, tape);
    mean.add(static_cast<double>(tape.loss()), tape.counted());
    if (--most_batches == 0) break;
  }
  return mean.mean();
}
/// The same for owned weights.
template <class Model>
[[nodiscard]] double evaluate(const owned<typename Model::parameters>& weights, const data::token_source& tokens,
                              typename Model::tape& tape, index batch, index length = Model::context,
                              index most_batches = 0) {
  return evaluate<Model>(detail::weights_in(weights, "evaluate"), tokens, tape, batch, length, most_batches);
}
template <class Model, class Weights, class Tokens, class... More>
  requires(!std::is_convertible_v<const Tokens&, data::token_source>)
[[nodiscard]] double evaluate(const Weights&, const Tokens&, const More&...) {
  static_assert(detail::never<Tokens>, "fathom::evaluate: expected weights and then tokens, as a std::span or a std::vector of "
                                       "fathom::token (32 bits)");
  return 0;
}

}  // namespace fathom
