// Shards of a parameter block: which rank of a group keeps the optimiser's states of which weights, and updates them (ZeRO-1;
// Rajbhandari et al., arXiv 1910.02054).
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "fathom/backend/update.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// A rank's part of a parameter block.
struct shard {
  std::size_t first_range, last_range;  // of the step's ranges, [first, last)
  index first, last;                    // numbers of the block, [first, last)
  [[nodiscard]] index size() const { return last - first; }
};

/// How an optimiser is shared out.
struct sharing {
  /// The largest range of a step that has several micro-batches, in numbers. The norm of the gradients is the sum of those of
  /// ranges, so this is part of the result.
  static constexpr index range = index{1} << 16;

  int ranks = 1, rank = 0;
  index largest_range = std::numeric_limits<index>::max();  // longer tensors are cut, unless they are updated as a whole
  const void* like = nullptr;  // any parameters, whose addresses say where tensors are; needed for several ranks
};

/// Cuts the ranges of a step, in the order of memory, into shards of about the same size.
[[nodiscard]] inline std::vector<shard> shards_of(std::span<const step_range> ranges, int ranks) {
  index total = 0;
  for (const step_range& r : ranges) total += r.size;
  std::vector<shard> shards;
  std::size_t at = 0;
  index before = 0;  // numbers in ranges before `at`
  for (int r = 0; r < ranks; ++r) {
    shard s{at, at, 0, 0};
    // Ends where the sum comes closest to the rank's share of all.
    const double end = static_cast<double>(total) * (r + 1) / ranks;
    while (at < ranges.size() && (r + 1 == ranks || static_cast<double>(before) + static_cast<double>(ranges[at].size) / 2 <= end))
      before += ranges[at++].size;
    s.last_range = at;
    if (s.first_range < s.last_range) {
      s.first = ranges[s.first_range].first;
      s.last = ranges[s.last_range - 1].first + ranges[s.last_range - 1].size;
    }
    shards.push_back(s);
  }
  return shards;
}

}  // namespace fathom
