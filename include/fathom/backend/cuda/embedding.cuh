// Embedding of tokens and of positions on the GPU.
//
// The gradient of the token table is a sum over all rows of each token, in an order that depends only on the tokens:
// rows are sorted by token, pieces of the sorted rows are summed in parallel, then the pieces of each token are added.
#pragma once

#include <span>

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/core/tensor.hpp"

namespace fathom::cuda {

namespace kernel {

/// x [rows, columns] = table[tokens]
template <class Number>
struct embed_token {
  const token* tokens;
  const Number* table;
  index columns;
  float* x;
  index stride;
  __device__ void operator()(index i, index j) const { x[i * stride + j] = to_float(table[tokens[i] * columns + j]); }
};

/// x [rows, columns] += table[positions]; starts: of each sequence, or null
template <class Number>
struct embed_position {
  const index* starts;
  index tokens_per_sequence;
  const Number* table;
  index columns;
  float* x;
  index stride;
  __device__ void operator()(index i, index j) const {
    const index sequence = i / tokens_per_sequence;
    const index position = (starts ? starts[sequence] : 0) + i - sequence * tokens_per_sequence;
    x[i * stride + j] += to_float(table[position * columns + j]);
  }
};

inline constexpr int sort_threads = 256;

/// order [count]: the rows, stably sorted by token. Each thread finds the place of one row.
template <class = void>
__global__ void sort_rows(const token* tokens, int count, int* order) {
  FATHOM_CUDA_SHARED(token, others, sort_threads);
  const int lane = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * sort_threads + lane;
  const token mine = i < count ? tokens[i] : 0;
  int place = 0;
  for (int first = 0; first < count; first += sort_threads) {
    __syncthreads();
    if (first + lane < count) others[lane] = tokens[first + lane];
    __syncthreads();
    const int last = count - first < sort_threads ? count - first : sort_threads, before_me = i - first;
    for (int n = 0; n < last; ++n) place += others[n] < mine || (others[n] == mine && n < before_me);
  }
  if (i < count) order[place] = i;
}

inline constexpr index rows_per_piece = 32;

/// Piece p is the rows order[p * 32], ...; consecutive rows of one token are a run. A run within one piece is added to
/// the table. Of a longer run, the part in piece p goes to heads[p] if the run began before p, else to tails[p].
template <class = void>
__global__ void add_runs(const token* tokens, const int* order, index count, const float* dx, index stride, index columns,
                         float* table, float* heads, float* tails) {
  const index j = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x, piece = blockIdx.y;
  if (j >= columns) return;
  const index first = piece * rows_per_piece, last = first + rows_per_piece < count ? first + rows_per_piece : count;
  index begin = first;
  while (begin < last) {
    const token mine = tokens[order[begin]];
    float sum = 0;
    index n = begin;
    for (; n < last && tokens[order[n]] == mine; ++n) sum += dx[order[n] * stride + j];
    const bool began_before = begin == first && first > 0 && tokens[order[first - 1]] == mine;
    const bool goes_on = n == last && last < count && tokens[order[last]] == mine;
    if (began_before)
      heads[piece * columns + j] = sum;
    else if (goes_on)
      tails[piece * columns + j] = sum;
    else
      table[mine * columns + j] += sum;
    begin = n;
  }
}
/// Runs longer than a piece: each is added up by the piece in which it begins.
template <class = void>
__global__ void add_long_runs(const token* tokens, const int* order, index count, index columns, const float* heads,
                              const float* tails, float* table) {
  const index j = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x, piece = blockIdx.y;
  const index first = piece * rows_per_piece, last = first + rows_per_piece;
  if (j >= columns || last >= count) return;
  const token mine = tokens[order[last - 1]];
  const bool goes_on = tokens[order[last]] == mine;
  const bool began_before = first > 0 && tokens[order[first]] == mine && tokens[order[first - 1]] == mine;
  if (!goes_on || began_before) return;
  float sum = tails[piece * columns + j];
  for (index next = last; next < count && tokens[order[next]] == mine; next += rows_per_piece)
    sum += heads[next / rows_per_piece * columns + j];
  table[mine * columns + j] += sum;
}

/// table[positions] += dx: a position's rows in the order of the sequences
struct add_position {
  const float* dx;
  index stride;
  index sequences, tokens_per_sequence;
  float* table;
  index columns;
  __device__ void operator()(index t, index j) const {
    float sum = 0;
    for (index s = 0; s < sequences; ++s) sum += dx[(s * tokens_per_sequence + t) * stride + j];
    table[t * columns + j] += sum;
  }
};

}  // namespace kernel

/// x [rows, width] = table[tokens]; a table of float or bf16
template <class C, class Table>
void embedding_forward(const context<C>& on, const extent&, std::span<const token> tokens, const Table& table, matrix_out x) {
  on.begin();
  using element = kernel::embed_token<typename Table::value_type>;
  detail::for_elements(on, "embedding_forward", x.rows, x.columns, false,
                       element{tokens.data(), table.data(), x.columns, x.data, x.stride});
}

/// dtable[tokens] += dx
template <class C, class Table>
void embedding_backward(const context<C>& on, const extent&, std::span<const token> tokens, matrix_in dx, Table& dtable) {
  on.begin();
  const index rows = dx.rows, columns = dx.columns;
  const index pieces = (rows + kernel::rows_per_piece - 1) / kernel::rows_per_piece;
  if (pieces > 65535) fail("cuda: embedding_backward of ", rows, " tokens; expected at most ", 65535 * kernel::rows_per_piece);
  int* const order = on.template scratch<int>(rows);
  float* const heads = on.template scratch<float>(pieces * columns);
  float* const tails = on.template scratch<float>(pieces * columns);
  launch("embedding_backward", {detail::blocks_of(rows, kernel::sort_threads), kernel::sort_threads}, on.stream(),
         &kernel::sort_rows<>, tokens.data(), static_cast<int>(rows), order);
  const launch_shape shape{{detail::blocks_of(columns, 128), static_cast<unsigned>(pieces)}, 128};
  launch("embedding_backward", shape, on.stream(), &kernel::add_runs<>, tokens.data(), static_cast<const int*>(order), rows,
         dx.data, dx.stride, columns, dtable.data(), heads, tails);
  launch("embedding_backward", shape, on.stream(), &kernel::add_long_runs<>, tokens.data(), static_cast<const int*>(order), rows,
         columns, static_cast<const float*>(heads), static_cast<const float*>(tails), dtable.data());
}

/// x [rows, width] += table[positions]; a table of float or bf16
template <class C, class Table>
void positions_forward(const context<C>& on, const extent& e, const Table& table, matrix_out x) {
  on.begin();
  using element = kernel::embed_position<typename Table::value_type>;
  detail::for_elements(on, "positions_forward", x.rows, x.columns, false,
                       element{e.starts, e.tokens, table.data(), x.columns, x.data, x.stride});
}

/// dtable[positions] += dx, for sequences that begin at position 0
template <class C, class Table>
void positions_backward(const context<C>& on, const extent& e, matrix_in dx, Table& dtable) {
  if (e.starts) fail("cuda: positions_backward of sequences that do not begin at position 0");
  on.begin();
  detail::for_elements(on, "positions_backward", e.tokens, dx.columns, false,
                       kernel::add_position{dx.data, dx.stride, e.sequences, e.tokens, dtable.data(), dx.columns});
}

}  // namespace fathom::cuda
