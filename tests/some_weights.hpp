// Weights and tokens for tests of whole models: random, but the same in every model that has a tensor of the same name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/core/storage.hpp>
#include <fathom/core/types.hpp>

namespace fathom::test {

/// Weights with which no term vanishes: biases and gains are random too.
template <class Model>
owned<typename Model::parameters> some_weights() {
  auto weights = make<typename Model::parameters>();
  Model::visit(
      [](std::string_view name, initial start, auto& tensor) {
        random numbers(5, stream_of(name));
        for (auto& w : tensor.span())
          w = static_cast<typename Model::scalar>((start == initial::one ? 1.0 : 0.0) + 0.3 * numbers.normal());
      },
      *weights);
  return weights;
}

/// Weights as for a new model, but no gain is 1, no bias and no shortcut 0, on the backend's device.
template <class Weights>
void disturb(Weights& weights) {
  using model = typename Weights::model;
  fathom::edit_on_host(weights, [](auto& here) {
    random numbers(8, 0);
    model::visit_tensors(
        [&](initial, auto& t) {
          for (auto& x : t.span()) x += static_cast<typename model::scalar>(0.1 * numbers.normal());
        },
        here);
  });
}

inline std::vector<token> some_tokens(std::size_t count, std::uint64_t seed, index vocab = 19) {
  random numbers(seed, 0);
  std::vector<token> some(count);
  for (token& t : some) t = static_cast<token>(numbers.below(vocab));
  return some;
}

}  // namespace fathom::test
