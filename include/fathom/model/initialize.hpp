// Initial weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "fathom/core/memory.hpp"
#include "fathom/core/random.hpp"
#include "fathom/core/storage.hpp"

namespace fathom {

/// Fills weights with initial values (../README.md, "Initialisation"): a function of the seed and of each tensor's name, so
/// that two models with one seed agree in every tensor that they share by name and shape.
template <class Model>
void initialize(typename Model::parameters& weights, std::uint64_t seed) {
  using T = typename Model::scalar;
  constexpr double deviation = 0.02;
  const double residual = deviation / std::sqrt(2.0 * Model::depth);
  edit_on_host(weights, [&](auto& here) {
    Model::visit(
        [&](std::string_view name, initial start, auto& tensor) {
          random numbers(seed, stream_of(name));
          for (auto& value : tensor.span()) switch (start) {
              case initial::zero: value = T(0); break;
              case initial::one: value = T(1); break;
              case initial::normal: value = static_cast<T>(deviation * numbers.normal()); break;
              case initial::residual: value = static_cast<T>(residual * numbers.normal()); break;
            }
        },
        here);
  });
}

}  // namespace fathom
