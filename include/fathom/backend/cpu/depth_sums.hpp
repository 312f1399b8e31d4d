// Sums over depths on the CPU ("Sums over depths" in backend/operations.hpp). The kernels: depth_sums.inl.hpp.
#pragma once

#include <type_traits>

#include "fathom/backend/cpu/team.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// y = z + w x, w [M, 1]; y may be z or x
template <class C, class T>
void add_scaled(const context<C, T>& on, matrix<const std::type_identity_t<T>> w,
                matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> z,
                matrix<std::type_identity_t<T>> y);
/// d [M, 1] = sum over the columns of x y
template <class C, class T>
void row_dots(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> y,
              matrix<std::type_identity_t<T>> d);
/// y = softmax of each column of x; y may be x
template <class C, class T>
void softmax_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                     matrix<std::type_identity_t<T>> y);
/// dx = y (dy - sum over the rows of y dy); dx may be dy
template <class C, class T>
void softmax_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> y,
                      matrix<const std::type_identity_t<T>> dy, matrix<std::type_identity_t<T>> dx);

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/depth_sums.inl.hpp"
#endif
