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

namespace fathom {

FATHOM_INLINE attention_weights_map attention_weights_map::one_head(index head) const {
  if (head < 0 || head >= heads) fail("attention_map: head ", head, " of ", heads, "; expected 0 to ", heads - 1);
  attention_weights_map one{.heads = 1, .queries = queries, .sources = sources, .keys = keys, .tokens = tokens, .vocab = vocab, .weights = {}};
  const index size = queries * static_cast<index>(sources.size()) * keys;
  one.weights.assign(weights.begin() + head * size, weights.begin() + (head + 1) * size);
  return one;
}

}  // namespace fathom
