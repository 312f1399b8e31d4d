// Operations on rows and columns: copies, sums, layer norm and RMS norm. backend/reference.hpp defines each in plain
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

/// y = x rstd (gain + offset), rstd = 1 / sqrt(mean(x^2) + eps), for each of the heads of a row; keeps rstd
/// [rows, heads] ("RMS norm" in backend/operations.hpp). y may be x.
template <class C, class T>
void rms_norm_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                      const std::type_identity_t<T>* gain, matrix<std::type_identity_t<T>> y,
                      std::type_identity_t<T>* rstd, double eps = norm_epsilon, double offset = 0, index heads = 1);
/// dx += the gradient with respect to x, or without `adds` dx = it, which may then be dy; dgain [width] += the gain's
template <class C, class T>
void rms_norm_backward(const context<C, T>& on, matrix<const std::type_identity_t<T>> x,
                       const std::type_identity_t<T>* gain, const std::type_identity_t<T>* rstd,
                       matrix<const std::type_identity_t<T>> dy, matrix<std::type_identity_t<T>> dx,
                       std::type_identity_t<T>* dgain, double offset = 0, index heads = 1, bool adds = true);

/// y = x gain, head by head; gain [rows, heads], all rows the same if its stride is 0 ("Heads" in backend/operations.hpp)
template <class C, class T>
void scale_heads(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> gain,
                 matrix<std::type_identity_t<T>> y);
/// dots [rows, heads] = the sum of x y over the columns of each head
template <class C, class T>
void dot_heads(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, matrix<const std::type_identity_t<T>> y,
               matrix<std::type_identity_t<T>> dots);

/// The sum of squares of `count` numbers, in 64 pieces: the same for any number of threads.
template <class C, class T>
[[nodiscard]] double sum_of_squares(const context<C, T>& on, const std::type_identity_t<T>* g, index count);

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/elementwise.inl.hpp"
#endif
