// Validates an attention map before it is shown.
#pragma once

#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"

namespace fathom::viz::detail {

/// Fails if the map is empty, its sizes disagree, or a weight is outside 0 to 1.
inline void check(const attention_weights_map& map) {
  const auto sources = static_cast<index>(map.sources.size());
  if (map.heads <= 0 || map.queries <= 0 || sources == 0)
    fail("viz: an attention map of ", map.heads, " heads, ", map.queries, " tokens and ", sources,
         " sources; expected at least 1 of each");
  const index count = map.heads * map.queries * sources * map.keys;
  if (map.keys != map.queries || std::cmp_not_equal(map.tokens.size(), map.keys) ||
      std::cmp_not_equal(map.weights.size(), count))
    fail("viz: an attention map of ", map.heads, " heads, ", map.queries, " queries, ", sources, " sources and ",
         map.keys, " keys with ", map.tokens.size(), " tokens and ", map.weights.size(),
         " weights; expected as many keys and tokens as queries, and a weight for each head, query, source and key");
  for (const float weight : map.weights)
    if (!(weight >= 0 && weight <= 1.001f))  // rejects NaN, too
      fail("viz: an attention map with a weight of ", weight, "; expected numbers from 0 to 1");
}

}  // namespace fathom::viz::detail
