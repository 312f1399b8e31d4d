// Operations that apply a functor to every element: elementwise and update. Their vectorised loops are in
// functors.inl.hpp, compiled where they are used or, for the library's own functors, once in fathom::kernels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/functors.hpp"
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

/// Row i of elementwise. Defined in functors.inl.hpp.
template <class T, class F, std::size_t O, std::size_t I>
void map_row(const F& f, const std::array<matrix<T>, O>& y, const std::array<matrix<const T>, I>& x, index i);

/// f(x[i], more[i]...) for every i in [first, first + count). Defined in functors.inl.hpp.
template <class F, class T, class... X>
void update_range(const F& f, index first, index count, T* x, X*... more);
}  // namespace detail

/// (y...) = f(x...), element by element: f takes numbers<V, I> and returns numbers<V, O>, V a vector or a scalar. All
/// matrices have the same shape; a result may alias an operand.
template <class C, class T, class F, std::size_t O, std::size_t I>
void elementwise(const context<C, T>& on, const F& f, const std::array<matrix<T>, O>& y,
                 const std::array<matrix<const std::type_identity_t<T>>, I>& x) {
  check_is_compiled<F>();
  detail::for_rows(on, y[0].rows, [&](index i) { detail::map_row<T>(f, y, x, i); });
}

/// f(x[i]...) for every i in [0, count); see backend/update.hpp.
template <class C, class T, class F, class... X>
  requires(std::is_same_v<X, T> && ...)
void update(const context<C, T>& on, const F& f, index count, X*... x) {
  check_is_compiled<F>();
  constexpr index piece = 1 << 12;
  on.tasks((count + piece - 1) / piece, [=](index task) {
    detail::update_range(f, task * piece, std::min(piece, count - task * piece), x...);
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/functors.inl.hpp"
#endif
