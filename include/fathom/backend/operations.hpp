// Types shared by all backends' primitive operations. The operations are free functions in each backend's namespace,
// found by ADL through their first argument, the execution context:
//
//   matmul(on, x, w, y, epilogue)           y [M, N] = epilogue(x [M, K] w [K, N]);   w may be packed
//   matmul_nt(on, x, w, y, epilogue)        y [M, N] = epilogue(x [M, K] w [N, K]^T); w may be packed
//   matmul_tn(on, x, y, g)                  g [K, N] += x [M, K]^T y [M, N]
//   column_sums(on, y, g)                   g [N] += sum over the rows of y [M, N]
//   copy(on, x, y), add(on, x, y), zero(on, y)
//   elementwise(on, f, {y...}, {x...})      (y...) = f(x...), element by element: activations, gates (activation.hpp)
//   add_scaled(on, w, x, z, y)              y = z + w x, w [M, 1] a number for each row: see "Sums over depths" below
//   row_dots(on, x, y, d)                   d [M, 1] = sum over the columns of x y
//   softmax_forward(on, x, y)               y = softmax of each column of x
//   softmax_backward(on, y, dy, dx)         dx = its gradient
//   layer_norm_forward(on, x, gain, bias, y, mean, rstd, eps)
//   layer_norm_backward(on, x, gain, mean, rstd, dy, dx, dgain, dbias)
//   rms_norm_forward(on, x, gain, y, rstd, eps, offset, heads)
//   rms_norm_backward(on, x, gain, rstd, dy, dx, dgain, offset, heads, adds)      both: see "RMS norm" below
//   attention_forward(on, shape, q, k, v, out, lse[, slopes])                               slopes: distance_slopes.hpp
//   attention_backward(on, shape, q, k, v, out, lse, dout, delta, dq, dk, dv[, slopes, dslopes, dbiases])
//   attention_weights(on, shape, q, k, lse, weights[, slopes])
//   scale_heads(on, x, gain, y), dot_heads(on, x, y, dots)       a number for each head of each row: see "Heads" below
//   attention_append(on, extent, kv, memory, rows, slot)
//   attention_slide(on, extent, memory, rows)     forgets positions that the windows of later tokens do not reach
//     attention_forward and attention_append may also take keys and values rounded, as stored_rows
//   embedding_forward(on, extent, tokens, table, x)
//   embedding_backward(on, extent, tokens, dx, dtable)
//   positions_forward(on, extent, table, x)       x += table[positions]
//   positions_backward(on, extent, dx, dtable)
//   rotate(on, extent, rotation, x, head_width, rows_per_position, sign)   turns pairs by position (rotation.hpp)
//   cross_entropy_forward(on, logits, targets, losses, lse)
//   cross_entropy_backward(on, logits, targets, lse, scale, cap = 0)     through a soft cap of the logits (epilogue.hpp) as well
//   update(on, f, count, x...)              f(x[i]...) for every i: an optimiser's step (update.hpp)
//   sum_of_squares(on, g, count)
//
// Every rank of a team calls every operation, in the same order. An operation sees what earlier ones wrote; other code
// must call on.barrier() before it reads results. backend/reference.hpp defines each operation in plain loops.
#pragma once

#include <array>
#include <concepts>

#include "fathom/backend/activation.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The shape of an attention over a visible prefix. Each position of a sequence owns `rows_per_position` consecutive
/// rows of memory (keys and values), and the query at position p sees the rows [0, (p + 1) * rows_per_position): one
/// softmax runs over all depths of all positions up to its own, without a mask (../README.md, "Shortcut"). A window
/// hides all but the rows of the last `window` positions.
///
///   q, out [sequences * queries, heads * head_width]
///   k, v   [sequences * memory_rows, key_heads() * head_width], row r of a sequence belongs to position
///          r / rows_per_position
///   lse    [sequences * queries, heads]: log of the sum of exp(scores), for backward; may be null
///
/// The gradients of k and v are sums over the query heads that read them, the first head's first.
struct attention_shape {
  index sequences;
  index queries;            // of each sequence; query t has position start(sequence) + t
  index heads;
  index head_width;
  index rows_per_position;
  index memory_rows;        // rows of memory of each sequence
  const index* starts = nullptr;  // position of each sequence's first query; null: 0
  index first = 0;                // index in memory of the first sequence here
  // Grouped-query attention (Ainslie et al., arXiv 2305.13245): the number of key/value heads, a divisor of heads; 0:
  // as many as heads. Query head h reads head h / (heads / kv_heads).
  index kv_heads = 0;
  index window = 0;       // positions that a query sees, ending with its own; 0: all up to its own
  bool sees_all = false;  // queries see every row: for unordered memories, which have no window
  held_positions held{};  // the positions in memory, if it does not begin with position 0

  [[nodiscard]] constexpr index key_heads() const { return kv_heads > 0 ? kv_heads : heads; }
  /// Query heads per key/value head.
  [[nodiscard]] constexpr index group_size() const { return heads / key_heads(); }
  /// The position of a sequence's first query, counted from the first position in memory.
  [[nodiscard]] constexpr index start(index sequence) const {
    return starts ? starts[sequence] - held.first(sequence, starts[sequence]) : 0;
  }

  /// A query sees the rows of memory [first_visible, visible), counted from memory_row(sequence).
  [[nodiscard]] constexpr index first_visible(index sequence, index query) const {
    const index hidden = start(sequence) + query + 1 - window;  // positions
    return window > 0 && hidden > 0 ? hidden * rows_per_position : 0;
  }
  [[nodiscard]] constexpr index visible(index sequence, index query) const {
    return sees_all ? memory_rows : (start(sequence) + query + 1) * rows_per_position;
  }
  [[nodiscard]] constexpr index memory_row(index sequence) const { return (first + sequence) * memory_rows; }
};

/// Keys or values that a cache holds rounded, as P: bf16 to the nearest, or int8 with a scale for each head of each row
/// (core/int8.hpp). Attention computes with these numbers, in the scalar of its backend.
template <class P>
struct stored_rows {
  matrix<P> numbers;      // [rows, key heads * head_width]
  matrix<float> scales{};  // [rows, key heads], of int8: number = scale * int8; others have none
};

/// The default epsilon that normalisations add to the variance.
inline constexpr double norm_epsilon = 1e-5;

// ---- RMS norm -------------------------------------------------------------------------------------------------------
//
// Root mean square normalisation (Zhang and Sennrich, arXiv 1910.07467) of whole rows, or of every head of a row by
// itself, as the norms of queries and keys are:
//
//   rms_norm_forward(on, x, gain, y, rstd, eps = norm_epsilon, offset = 0, heads = 1)
//   rms_norm_backward(on, x, gain, rstd, dy, dx, dgain, offset = 0, heads = 1, adds = true)
//
//   x, y, dy, dx   [rows, heads * width]: heads lie side by side. Each may be some columns of a wider matrix
//                  (matrix::columns_from), with a stride of its own
//   gain, dgain    [width]: one gain for all heads. A width may be any, narrow ones as well
//   rstd           [rows, heads], contiguous
//
//   forward:   rstd = 1 / sqrt(mean(x^2) + eps), y = x rstd (gain + offset), for each head of each row. The offset is
//              0, or 1 for a gain that is stored as what it has over 1 (Gemma's). NaN where a square overflows (norm_scale.hpp)
//   backward:  with n = x rstd and g = dy (gain + offset):
//              dgain += sum of dy n over all heads of all rows
//              dx    += rstd (g - n mean(g n)); or, without `adds`, dx = that, whatever dx held before
//
// Forward may work in place: y may be x, the same elements. Backward reads x as it was before the norm, the rstd of
// forward, gain, offset and dy, but never y: who normalises in place must keep a copy of x for backward, or have no
// backward (decoding). Without `adds`, dx may be dy, the same elements: it is read before it is written, for dgain too.
// Nothing else may overlap.

// ---- Sums over depths -----------------------------------------------------------------------------------------------
//
// What layers that mix depths (layer/depth_sum.hpp) are made of:
//
//   add_scaled(on, w, x, z, y)    y = z + w x.   x, y, z [M, N]; y may be z or x; w [M, 1], a number for each row
//   row_dots(on, x, y, d)         d = sum over the columns of x y.   x, y [M, N]; d [M, 1]
//   softmax_forward(on, x, y)     y = softmax of each column of x.   x, y [D, M], D >= 1; y may be x
//   softmax_backward(on, y, dy, dx)   dx = y (dy - sum over the rows of y dy).   dx may be dy
//
// Operands may have strides of their own. A stride of 0 repeats a row: w one number for all rows, x or y one row.

// ---- Heads ----------------------------------------------------------------------------------------------------------
//
//   scale_heads(on, x, gain, y)     y = x gain, head by head; y may be x, the same elements
//   dot_heads(on, x, y, dots)       dots = the sum of x y over the columns of each head
//
//   x, y    [rows, heads * width], each with a stride of its own
//   gain    [rows, heads]; with a stride of 0, one number for each head, the same in all rows
//   dots    [rows, heads]

// ---- Activations and gates, by elementwise --------------------------------------------------------------------------

/// y = A(x)
template <class On, class A>
void activation_forward(const On& on, A, matrix<const typename On::scalar> x, matrix<typename On::scalar> y) {
  using T = typename On::scalar;
  elementwise(on, activation_value<A>{}, std::array<matrix<T>, 1>{y}, std::array<matrix<const T>, 1>{x});
}
/// dx = dy A'(x); dx may be dy
template <class On, class A>
void activation_backward(const On& on, A, matrix<const typename On::scalar> x, matrix<const typename On::scalar> dy,
                         matrix<typename On::scalar> dx) {
  using T = typename On::scalar;
  elementwise(on, activation_slope<A>{}, std::array<matrix<T>, 1>{dx}, std::array<matrix<const T>, 2>{x, dy});
}
/// y = A(a) b
template <class On, class A>
void gate_forward(const On& on, A, matrix<const typename On::scalar> a, matrix<const typename On::scalar> b,
                  matrix<typename On::scalar> y) {
  using T = typename On::scalar;
  elementwise(on, gate_value<A>{}, std::array<matrix<T>, 1>{y}, std::array<matrix<const T>, 2>{a, b});
}
/// da = dy b A'(a), db = dy A(a)
template <class On, class A>
void gate_backward(const On& on, A, matrix<const typename On::scalar> a, matrix<const typename On::scalar> b,
                   matrix<const typename On::scalar> dy, matrix<typename On::scalar> da, matrix<typename On::scalar> db) {
  using T = typename On::scalar;
  elementwise(on, gate_slope<A>{}, std::array<matrix<T>, 2>{da, db}, std::array<matrix<const T>, 3>{a, b, dy});
}
/// x = factor x
template <class On>
void multiply(const On& on, double factor, matrix<typename On::scalar> x) {
  using T = typename On::scalar;
  elementwise(on, times{factor}, std::array<matrix<T>, 1>{x}, std::array<matrix<const T>, 1>{x});
}
/// y = GELU(x), dx = dy GELU'(x), in its tanh form
template <class On>
void gelu_forward(const On& on, matrix<const typename On::scalar> x, matrix<typename On::scalar> y) {
  activation_forward(on, gelu_tanh{}, x, y);
}
template <class On>
void gelu_backward(const On& on, matrix<const typename On::scalar> x, matrix<const typename On::scalar> dy,
                   matrix<typename On::scalar> dx) {
  activation_backward(on, gelu_tanh{}, x, dy, dx);
}

namespace contract {
/// Whether the attention of a backend takes keys and values that are stored as P.
template <class Context, class P>
concept attends_to_stored = requires(const Context& on, const attention_shape& shape, const extent& e,
                                     matrix<const typename Context::scalar> x, matrix<typename Context::scalar> y, stored_rows<P> rows) {
  attention_append(on, e, x, rows, index{1}, index{0});
  attention_forward(on, shape, x, rows, rows, y, nullptr);
  attention_slide(on, e, rows.numbers, index{1});
};
}  // namespace contract

}  // namespace fathom
