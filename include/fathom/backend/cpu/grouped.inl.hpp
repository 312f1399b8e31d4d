// Packing of weights in groups: definitions for grouped.hpp.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fathom/backend/cpu/grouped.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

template <grouped_type P>
void pack_groups(const float* from, index row_stride, index column_stride, const packed_view<P, std::uint8_t>& to) {
  constexpr index N = packed_view<P>::N;
  for (index j = 0; j < to.panels * N; ++j)
    for (index g = 0; g < to.groups; ++g) {
      group<P> rounded;
      if (j < to.out) {
        const index first = g * group_size, count = std::min(group_size, to.in - first);
        float numbers[group_size];
        for (index i = 0; i < count; ++i) numbers[i] = from[(first + i) * row_stride + j * column_stride];
        rounded = round_group<P>(numbers, count);
      }
      to.put(g, j, rounded);
    }
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
