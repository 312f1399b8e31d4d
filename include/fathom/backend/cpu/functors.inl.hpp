// The loops that call functors, activations and epilogues with vectors: definitions for map.hpp and any_epilogue.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/cpu/any_epilogue.hpp"
#include "fathom/backend/cpu/map.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

template <class T, class F, std::size_t O, std::size_t I>
void map_row(const F& f, const std::array<matrix<T>, O>& y, const std::array<matrix<const T>, I>& x, index i) {
  for_lanes<T>(y[0].columns, [&]<class V>(V, index j) __attribute__((always_inline)) {
    numbers<V, I> from;
    unroll<I>([&](auto n) __attribute__((always_inline)) { from[n] = epilogue::load<V>(x[n].row(i) + j); });
    const numbers<V, O> to = f(from);
    unroll<O>([&](auto n) __attribute__((always_inline)) { epilogue::store(y[n].row(i) + j, to[n]); });
  });
}

/// f of the numbers from i on: as many as V has.
template <class V, class F, std::size_t... N, class... X>
[[gnu::always_inline]] inline void update_at(const F& f, index i, std::index_sequence<N...>, X*... x) {
  V v[] = {epilogue::load<V>(x + i)...};
  f(v[N]...);
  (epilogue::store(x + i, v[N]), ...);
}
template <class F, class T, class... X>
void update_range(const F& f, index first, index count, T* x, X*... more) {
  const F own = f;  // in registers: the compiler cannot know that no number of theirs is part of f
  for_lanes<T>(count, [=]<class V>(V, index j) __attribute__((always_inline)) {
    update_at<V>(own, first + j, std::index_sequence_for<T, X...>(), x, more...);
  });
}

template <class T, class Epilogue>
void apply_epilogue(const void* epilogue, const T* sums, index stride, const matrix<T>& y, index i, index j, index rows,
                    index columns) {
  constexpr index W = lanes<T>;
  const Epilogue e = *static_cast<const Epilogue*>(epilogue);
  for (index r = 0; r < rows; ++r) {
    T* const to = y.row(i + r) + j;
    index c = 0;
    for (; c + W <= columns; c += W) e(vec<T>::load_aligned(sums + r * stride + c), i + r, j + c).store_unaligned(to + c);
    for (; c < columns; ++c) to[c] = e(sums[r * stride + c], i + r, j + c);
  }
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
