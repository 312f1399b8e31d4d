// The words that every backend's primitive operations share. The operations themselves are free functions, one set in
// each backend's namespace, found through the execution context that is their first argument:
//
//   matmul(on, x, w, y, epilogue)           y [M, N] = epilogue(x [M, K] w [K, N]);   w may be packed
//   matmul_nt(on, x, w, y, epilogue)        y [M, N] = epilogue(x [M, K] w [N, K]^T); w may be packed
//   matmul_tn(on, x, y, g)                  g [K, N] += x [M, K]^T y [M, N]
//   column_sums(on, y, g)                   g [N] += sum over the rows of y [M, N]
//   copy(on, x, y), add(on, x, y), zero(on, y)
//   gelu_forward(on, x, y), gelu_backward(on, x, dy, dx)
//   layer_norm_forward(on, x, gain, bias, y, mean, rstd)
//   layer_norm_backward(on, x, gain, mean, rstd, dy, dx, dgain, dbias)
//   attention_forward(on, shape, q, k, v, out, lse)
//   attention_backward(on, shape, q, k, v, out, lse, dout, delta, dq, dk, dv)
//   attention_weights(on, shape, q, k, lse, weights)
//   attention_append(on, extent, kv, memory, rows, slot)
//   embedding_forward(on, extent, tokens, tokens_table, positions_table, x)
//   embedding_backward(on, extent, tokens, dx, dtokens_table, dpositions_table)
//   cross_entropy_forward(on, logits, targets, losses, lse)
//   cross_entropy_backward(on, logits, targets, lse, scale)
//   update(on, f, count, x...)              f(x[i]...) for every i: an optimiser's step (update.hpp)
//   sum_of_squares(on, g, count)
//
// Every rank of a team calls every operation, in the same order. The next operation finds what the last one wrote; code
// that looks at it without one calls on.barrier() first.
// backend/reference.hpp says in plain loops what each of them computes.
#pragma once

#include "fathom/core/types.hpp"

namespace fathom {

/// The shape of an attention over a visible prefix. Each position of a sequence owns `rows_per_position` consecutive rows
/// of memory (keys and values), and the query at position p sees exactly the rows [0, (p + 1) * rows_per_position): so
/// one softmax runs over all depths of all positions up to its own, and there is no mask (../README.md, "Shortcut").
///
///   q, out [sequences * queries, heads * head_width]
///   k, v   [sequences * memory_rows, heads * head_width], row r of a sequence belongs to position r / rows_per_position
///   lse    [sequences * queries, heads]: log of the sum of exp(scores), for backward; may be null
struct attention_shape {
  index sequences;
  index queries;            // of each sequence; query t has position start(sequence) + t
  index heads;
  index head_width;
  index rows_per_position;
  index memory_rows;        // rows of memory between one sequence's and the next's
  const index* starts = nullptr;  // position of each sequence's first query; null: 0
  index first = 0;                // the sequence of memory that the first sequence here looks at

  /// Rows of memory that a query sees, from memory_row(sequence) on.
  [[nodiscard]] constexpr index visible(index sequence, index query) const {
    return ((starts ? starts[sequence] : 0) + query + 1) * rows_per_position;
  }
  [[nodiscard]] constexpr index memory_row(index sequence) const { return (first + sequence) * memory_rows; }
};

/// Stops compilation where heads are wider than a backend's attention has room for. Layers that attend call it.
template <class On, index HeadWidth>
consteval void check_head_width() {
  if constexpr (requires { On::largest_head_width; })
    static_assert(HeadWidth <= On::largest_head_width,
                  "fathom: attention heads (width / heads) are wider than this backend has room for; use more heads");
}

}  // namespace fathom
