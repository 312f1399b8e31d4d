// Attention over a visible prefix, or a window of it, on the CPU (operations.hpp, attention_shape). The kernels:
// attention.inl.hpp, and attention_decode.inl.hpp for few queries.
#pragma once

#include <type_traits>

#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// out = softmax(q k^T / sqrt(head_width) - slope distance + bias) v over the visible rows; lse may be null
template <class C, class T>
void attention_forward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                       matrix<std::type_identity_t<T>> o, std::type_identity_t<T>* lse,
                       const distance_slopes<std::type_identity_t<T>>& slopes = {});

/// dq, dk, dv = the gradients, given dout. delta [sequences * queries, heads] is scratch. One task owns a key/value
/// head of a sequence, so its gradients are summed in a fixed order. dslopes [sequences * queries, heads], unless it is
/// null, receives each query's share of the gradient of the slopes; dbiases [rows of memory, heads], unless it is null, each row's
/// share of that of the biases.
template <class C, class T>
void attention_backward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                        matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                        matrix<const std::type_identity_t<T>> o, const std::type_identity_t<T>* lse,
                        matrix<const std::type_identity_t<T>> dout, std::type_identity_t<T>* delta,
                        matrix<std::type_identity_t<T>> dq, matrix<std::type_identity_t<T>> dk,
                        matrix<std::type_identity_t<T>> dv, const distance_slopes<std::type_identity_t<T>>& slopes = {},
                        std::type_identity_t<T>* dslopes = nullptr, std::type_identity_t<T>* dbiases = nullptr);

/// weights [sequences * heads * queries, memory_rows]: the softmax itself, for inspection; 0 for rows not visible
template <class C, class T>
void attention_weights(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, const std::type_identity_t<T>* lse,
                       matrix<std::type_identity_t<T>> weights, const distance_slopes<std::type_identity_t<T>>& slopes = {});

/// Copies rows of kv to a cache's memory: the position at place p goes to row p * rows_per_position + slot.
template <class C, class T>
void attention_append(const context<C, T>& on, const extent& e, matrix<const std::type_identity_t<T>> kv,
                      matrix<std::type_identity_t<T>> memory, index rows_per_position, index slot);

/// Moves the positions in a cache's memory to their places after this pass, if these differ; see held_positions.
template <class C, class T, class N>
void attention_slide(const context<C, T>& on, const extent& e, matrix<N> memory, index rows_per_position);

/// attention_forward and attention_append with keys and values that are stored rounded, as bf16 or int8.
template <class C, class T, class P>
  requires std::is_same_v<T, float>
void attention_forward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       const stored_rows<P>& k, const stored_rows<P>& v, matrix<std::type_identity_t<T>> o,
                       std::type_identity_t<T>* lse, const distance_slopes<std::type_identity_t<T>>& slopes = {});
template <class C, class T, class P>
  requires std::is_same_v<T, float>
void attention_append(const context<C, T>& on, const extent& e, matrix<const std::type_identity_t<T>> kv,
                      const stored_rows<P>& memory, index rows_per_position, index slot);

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/attention.inl.hpp"
#endif
