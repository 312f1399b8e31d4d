// Matrix products on the CPU. The kernels: matmul.inl.hpp.
#pragma once

#include "fathom/backend/cpu/any_epilogue.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/tensor.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

template <class On>
using in = matrix<const typename On::scalar>;
template <class On>
using out = matrix<typename On::scalar>;

namespace detail {
/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class C, class T>
void product_nn(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& w, const matrix<T>& y,
                const any_epilogue<T>& epilogue);
/// y [M, N] = epilogue(x [M, K] w [N, K]^T)
template <class C, class T>
void product_nt(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& w, const matrix<T>& y,
                const any_epilogue<T>& epilogue);
/// g [K, N] += x [M, K]^T y [M, N]
template <class C, class T>
void product_tn(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& y, const matrix<T>& g);
}  // namespace detail

/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class C, class T, class Epilogue>
void matmul(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> w, out<context<C, T>> y,
            const Epilogue& epilogue) {
  detail::product_nn(on, x, w, y, detail::any_epilogue<T>(epilogue, y));
}
/// y [M, N] = epilogue(x [M, K] w [N, K]^T)
template <class C, class T, class Epilogue>
void matmul_nt(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> w, out<context<C, T>> y,
               const Epilogue& epilogue) {
  detail::product_nt(on, x, w, y, detail::any_epilogue<T>(epilogue, y));
}
/// g [K, N] += x [M, K]^T y [M, N]
template <class C, class T>
void matmul_tn(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> y, out<context<C, T>> g) {
  detail::product_tn(on, x, y, g);
}

// Overloads for weights given as tensors.
template <class C, class T, index... Extents, class Epilogue>
void matmul(const context<C, T>& on, in<context<C, T>> x, const tensor<T, Extents...>& w, out<context<C, T>> y,
            const Epilogue& epilogue) {
  matmul(on, x, w.view(), y, epilogue);
}
template <class C, class T, index... Extents, class Epilogue>
void matmul_nt(const context<C, T>& on, in<context<C, T>> x, const tensor<T, Extents...>& w, out<context<C, T>> y,
               const Epilogue& epilogue) {
  matmul_nt(on, x, w.view(), y, epilogue);
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/matmul.inl.hpp"
#endif
