// Definitions for attention_map.hpp.
#pragma once

#include "fathom/model/attention_map.hpp"

namespace fathom::detail {

template <class T>
void set_weights_from(attention_weights_map& map, const T* found) {
  // The model's columns are position-major, the map's source-major.
  const auto sources = static_cast<index>(map.sources.size());
  map.weights.clear();
  map.weights.reserve(static_cast<std::size_t>(map.heads * map.queries * sources * map.keys));
  for (index i = 0; i < map.heads * map.queries; ++i)
    for (index s = 0; s < sources; ++s)
      for (index j = 0; j < map.keys; ++j) map.weights.push_back(static_cast<float>(found[(i * map.keys + j) * sources + s]));
}

FATHOM_INLINE void set_weights(attention_weights_map& map, const float* found) { set_weights_from(map, found); }
FATHOM_INLINE void set_weights(attention_weights_map& map, const double* found) { set_weights_from(map, found); }

}  // namespace fathom::detail
