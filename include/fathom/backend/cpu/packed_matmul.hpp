// Matrix products with packed weights, for decoding (one row or a few) and for prompts. The kernels:
// packed_matmul.inl.hpp.
//
// Rows of x are used as they are, or rounded first: to bf16, for weights in bf16, if that is the compute type and the
// processor has bf16 products; to 16-bit integers, for weights in int8, if the processor has integer products; to bytes, for
// weights in groups (grouped_matmul.inl.hpp).
#pragma once

#include <type_traits>

#include "fathom/backend/cpu/any_epilogue.hpp"
#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class C, class T, class P>
void packed_product(const context<C, T>& on, const matrix<const T>& x, const packed_view<P>& w, const matrix<T>& y,
                    const any_epilogue<T>& epilogue);
/// The same for weights in groups.
template <class C, grouped_type P>
void grouped_product(const context<C, float>& on, const matrix<const float>& x, const packed_view<P>& w, const matrix<float>& y,
                     const any_epilogue<float>& epilogue);
}  // namespace detail

/// y [M, N] = epilogue(x [M, K] w), w packed
template <class C, class T, class P, index In, index Out, class Epilogue>
void matmul(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, const packed_matrix<P, In, Out>& w,
            matrix<std::type_identity_t<T>> y, const Epilogue& epilogue) {
  if constexpr (grouped_type<P>)
    detail::grouped_product(on, x, w.view(), y, detail::any_epilogue<T>(epilogue, y));
  else
    detail::packed_product(on, x, w.view(), y, detail::any_epilogue<T>(epilogue, y));
}

/// Logits: y [M, V] = epilogue(x [M, E] w^T), w a packed table of V rows.
template <class C, class T, class P, index V, index E, class Epilogue>
void matmul_nt(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, const packed_head<P, V, E>& w,
               matrix<std::type_identity_t<T>> y, const Epilogue& epilogue) {
  matmul(on, x, w.transposed, y, epilogue);
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/grouped_matmul.inl.hpp"
#include "fathom/backend/cpu/packed_matmul.inl.hpp"
#endif
