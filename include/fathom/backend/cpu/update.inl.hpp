// Updates (backend/update.hpp): the definition for elementwise.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "fathom/backend/cpu/elementwise.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/epilogue.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
/// Applies f to the elements from i on, as many as V holds.
template <class V, class F, std::size_t... N, class... X>
[[gnu::always_inline]] inline void update_at(const F& f, index i, std::index_sequence<N...>, X*... x) {
  V v[] = {epilogue::load<V>(x + i)...};
  f(v[N]...);
  (epilogue::store(x + i, v[N]), ...);
}
}  // namespace detail

template <class C, class T, class F, class... X>
  requires(std::is_same_v<X, T> && ...)
void update(const context<C, T>& on, const F& f, index count, X*... x) {
  constexpr index piece = 1 << 12;
  on.tasks((count + piece - 1) / piece, [=](index task) {
    const index first = task * piece;
    const F own = f;  // a local copy, because the arrays might alias f as far as the compiler knows
    detail::for_lanes<T>(std::min(piece, count - first), [=]<class V>(V, index j) __attribute__((always_inline)) {
      detail::update_at<V>(own, first + j, std::index_sequence_for<X...>(), x...);
    });
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
