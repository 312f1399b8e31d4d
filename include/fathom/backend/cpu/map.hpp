// The CPU backend's open operation: a functor for every element. Compiled where it is used, even with fathom::kernels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
inline constexpr index rows_per_task = 32;

/// Calls f(i) for every row, shared among the ranks.
template <class On, class F>
void for_rows(const On& on, index rows, const F& f) {
  on.tasks((rows + rows_per_task - 1) / rows_per_task, [&](index task) {
    const index last = std::min(rows, (task + 1) * rows_per_task);
    for (index i = task * rows_per_task; i < last; ++i) f(i);
  });
}
}  // namespace detail

/// (y...) = f(x...), element by element: f takes numbers<V, I> and returns numbers<V, O>, V a vector or a scalar. All
/// matrices have the same shape; a result may alias an operand.
template <class C, class T, class F, std::size_t O, std::size_t I>
void elementwise(const context<C, T>& on, const F& f, const std::array<matrix<T>, O>& y,
                 const std::array<matrix<const std::type_identity_t<T>>, I>& x) {
  detail::for_rows(on, y[0].rows, [&](index i) {
    detail::for_lanes<T>(y[0].columns, [&]<class V>(V, index j) __attribute__((always_inline)) {
      numbers<V, I> from;
      unroll<I>([&](auto n) __attribute__((always_inline)) { from[n] = epilogue::load<V>(x[n].row(i) + j); });
      const numbers<V, O> to = f(from);
      unroll<O>([&](auto n) __attribute__((always_inline)) { epilogue::store(y[n].row(i) + j, to[n]); });
    });
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
