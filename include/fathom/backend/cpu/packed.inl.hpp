// Packing of weights: definitions for packed.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fathom/backend/cpu/packed.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

template <class P>
void pack_panels(const typename packing<P>::scalar* from, index row_stride, index column_stride,
                 const packed_view<P, typename packing<P>::word>& to) {
  using format = packing<P>;
  using T = typename format::scalar;
  constexpr index N = packed_view<P>::N;
  for (index p = 0; p < to.panels; ++p) {
    const index columns = std::min(N, to.out - p * N);
    const T* const panel = from + p * N * column_stride;
    T scales[N];
    std::fill_n(scales, N, T(1));
    if constexpr (std::is_same_v<P, std::int8_t>) {
      float largest[N] = {};
      bool finite[N];
      std::fill_n(finite, N, true);
      for (index k = 0; k < to.in; ++k)
        for (index c = 0; c < columns; ++c) {
          const float magnitude = std::abs(panel[k * row_stride + c * column_stride]);
          largest[c] = std::max(largest[c], magnitude);
          finite[c] &= magnitude <= std::numeric_limits<float>::max();
        }
      for (index c = 0; c < N; ++c)
        to.scales[p * N + c] = scales[c] = finite[c] ? int8_scale(largest[c]) : std::numeric_limits<float>::quiet_NaN();
      std::fill_n(to.totals + p * N, N, 0);
    }
    typename format::word* words = to.panel(p);
    for (index k = 0; k < to.depth * format::rows; k += format::rows, words += N)
      for (index c = 0; c < N; ++c) {
        typename format::word word = 0;
        for (index r = 0; r < format::rows; ++r) {
          const bool is_there = k + r < to.in && c < columns;
          word = format::put(word, r, is_there ? panel[(k + r) * row_stride + c * column_stride] : T(0), scales[c]);
          if constexpr (std::is_same_v<P, std::int8_t>) to.totals[p * N + c] += format::stored(word, r);
        }
        words[c] = word;
      }
  }
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
