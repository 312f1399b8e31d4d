// Softmax cross-entropy on the CPU. The kernels: cross_entropy.inl.hpp.
#pragma once

#include <span>
#include <type_traits>

#include "fathom/backend/cpu/team.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// losses [rows] = -log softmax(logits)[target], 0 where the target is -1; keeps lse [rows]
template <class C, class T>
void cross_entropy_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> logits,
                           std::span<const token> targets, std::type_identity_t<T>* losses,
                           std::type_identity_t<T>* lse);
/// logits become their gradient: scale (softmax(logits) - onehot(target)); 0 where the target is -1. If a cap bounds them,
/// they become the gradient for what it bounded (backend/reference.hpp).
template <class C, class T>
void cross_entropy_backward(const context<C, T>& on, matrix<std::type_identity_t<T>> logits,
                            std::span<const token> targets, const std::type_identity_t<T>* lse,
                            std::type_identity_t<T> scale, double cap = 0);

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/cross_entropy.inl.hpp"
#endif
