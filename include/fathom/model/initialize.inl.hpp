// Definitions for initialize.hpp.
#pragma once

#include <cmath>

#include "fathom/backend/distance_slopes.hpp"
#include "fathom/core/random.hpp"
#include "fathom/model/initialize.hpp"

namespace fathom::detail {

FATHOM_INLINE void initialize(const tensor_table& table, std::byte* weights, store_number* store, int depth, std::uint64_t seed) {
  constexpr double deviation = 0.02;
  const double residual = deviation / std::sqrt(2.0 * depth);
  for (const tensor_row& tensor : table) {
    random numbers(seed, stream_of(tensor.name));
    for (index i = 0; i < tensor.size; ++i) {
      double value = 0;
      switch (tensor.start) {
        case initial::zero: break;
        case initial::one: value = 1; break;
        case initial::normal: value = deviation * numbers.normal(); break;
        case initial::residual: value = residual * numbers.normal(); break;
        case initial::unit: value = numbers.normal() / std::sqrt(static_cast<double>(tensor.shape.front())); break;
        case initial::alibi: value = alibi_slope<double>(i, tensor.size); break;
      }
      store(weights + tensor.offset, i, value);
    }
  }
}

}  // namespace fathom::detail
