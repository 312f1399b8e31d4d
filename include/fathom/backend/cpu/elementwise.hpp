// Operations on rows and columns: copies, sums and layer normalisation. backend/reference.hpp defines each in plain
// loops. The kernels: elementwise.inl.hpp.
#pragma once

#include <type_traits>

#include "fathom/backend/cpu/map.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// y = x
template <class C, class T>
void copy(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y);
/// y += x
template <class C, class T>
void add(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<std::type_identity_t<T>> y);
/// y = 0
template <class C, class T>
void zero(const context<C, T>& on, matrix<std::type_identity_t<T>> y);

/// g [N] += sum over the rows of y [M, N]
template <class C, class T>
void column_sums(const context<C, T>& on, matrix<const std::type_identity_t<T>> y, std::type_identity_t<T>* g);

/// y = (x - mean) rstd gain + bias, row by row, rstd = 1 / sqrt(variance + eps); keeps mean [rows] and rstd [rows]
template <class C, class T>
void layer_norm_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                        const std::type_identity_t<T>* gain, const std::type_identity_t<T>* bias,
                        matrix<std::type_identity_t<T>> y, std::type_identity_t<T>* mean, std::type_identity_t<T>* rstd,
                        double eps = norm_epsilon);
/// dx += the gradient with respect to x; dgain and dbias [columns] += theirs (backend/reference.hpp)
template <class C, class T>
void layer_norm_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                         const std::type_identity_t<T>* gain, const std::type_identity_t<T>* mean,
                         const std::type_identity_t<T>* rstd, matrix<const std::type_identity_t<T>> dy,
                         matrix<std::type_identity_t<T>> dx, std::type_identity_t<T>* dgain,
                         std::type_identity_t<T>* dbias);

/// The sum of squares of `count` numbers, in 64 pieces: the same for any number of threads.
template <class C, class T>
[[nodiscard]] double sum_of_squares(const context<C, T>& on, const std::type_identity_t<T>* g, index count);

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/elementwise.inl.hpp"
#endif
