// Attention over a visible prefix on the GPU (operations.hpp, attention_shape): our own flash attention.
//
// Kernels: on tensor cores for bf16 operands and heads up to 128 wide (attention_tensor.cuh), otherwise in float for
// heads up to 256 wide (attention_plain.cuh); for few queries, in float and with the memory split among blocks
// (attention_decode.cuh).
//
// The execution context `on` has
//   scalar, compute          the type of numbers in memory, float or bf16; the type of the operands of products
//   stream(), processors()   of the GPU
//   begin(), scratch<T>(n)   begins an operation; memory for n numbers until the next one begins
// `starts` points to GPU memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "fathom/backend/cuda/attention_decode.cuh"
#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/attention_plain.cuh"
#include "fathom/backend/cuda/attention_rounded.cuh"
#include "fathom/backend/cuda/attention_shape.cuh"
#include "fathom/backend/cuda/attention_tensor.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

namespace attention {

inline constexpr int widest_on_tensor_cores = 128;
inline constexpr int most_queries_to_decode = 4;

// ---- Kernels besides flash attention --------------------------------------------------------------------------------

/// x rounded to Compute, the type of operands.
template <class Compute>
__device__ __forceinline__ float operand(float x) {
  return to_float(from_float<Compute>(x));
}

/// delta [rows, heads] = the sum of dout * out over a head's columns; Width / 8 lanes for each, 256 threads a block
template <int Width, class Compute, class T>
__global__ void __launch_bounds__(256)
    sum_of_products(attention_size s, rows_of_heads<const T> out, rows_of_heads<const T> dout, float* delta) {
  constexpr int lanes = Width / 8;
  const index at = (static_cast<index>(blockIdx.x) * 256 + threadIdx.x) / lanes;
  float sum = 0;
  if (at < static_cast<index>(s.sequences) * s.queries * s.heads) {
    const index row = at / s.heads;
    const int head = static_cast<int>(at % s.heads), first = thread() % lanes * 8, there = s.head_width - first;
    const T* const x = out.at(row, head) + first;
    const T* const y = dout.at(row, head) + first;
    const bool whole = there >= 8 && (reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(y)) % 16 == 0;
    float left[8], right[8];
    load_numbers(left, x, there, whole);
    load_numbers(right, y, there, whole);
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < 8; ++n) sum = __fmaf_rn(left[n], operand<Compute>(right[n]), sum);
  }
  FATHOM_CUDA_UNROLL
  for (int n = lanes / 2; n > 0; n /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, n);
  if (at < static_cast<index>(s.sequences) * s.queries * s.heads && thread() % lanes == 0) delta[at] = sum;
}

/// weights [sequences, heads, queries, memory_rows]; one block per row, one warp per number
template <class Compute, class T>
__global__ void __launch_bounds__(256) softmax(attention_size s, rows_of_heads<const T> q, rows_of_heads<const T> k,
                                               const float* lse, T* weights, index stride) {
  const int query = static_cast<int>(blockIdx.x % static_cast<unsigned>(s.queries));
  const int of_all = static_cast<int>(blockIdx.x / static_cast<unsigned>(s.queries)), head = of_all % s.heads;
  const int sequence = of_all / s.heads, from = s.sees_from(sequence, query), seen = s.sees_to(sequence, query);
  const index row = static_cast<index>(sequence) * s.queries + query;
  const T* const q_row = q.at(row, head);
  const float slope = s.slope_before_scaling(head);
  for (int r = thread() / 32; r < s.memory_rows; r += 8) {
    float score = 0;
    const bool is_seen = r >= from && r < seen;
    if (is_seen) {
      const T* const k_row = k.at(s.memory_row(sequence) + r, head / s.group);
      for (int e = thread() % 32; e < s.head_width; e += 32)
        score = __fmaf_rn(operand<Compute>(to_float(q_row[e])), operand<Compute>(to_float(k_row[e])), score);
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) score += __shfl_xor_sync(0xffffffffu, score, lanes);
    if (s.slopes.are_there) score -= slope * s.distance(s.start(sequence) + query, r);
    if (s.slopes.biases) score += s.bias_before_scaling(head, r);
    if (thread() % 32 == 0)
      weights[blockIdx.x * stride + r] =
          from_float<T>(is_seen ? exp2_fast((score * s.scale - lse[row * s.heads + head]) * log2_e) : 0.0f);
  }
}

/// memory row (place + t) * rows_per_position + slot of a sequence = its row t in kv [rows, columns]; one block per row
template <class T, class M>
__global__ void __launch_bounds__(256) append(int tokens, const index* starts, held_positions held, index first_row,
                                              index sequence_rows, int depths, int slot, const T* kv, index kv_stride, M* memory,
                                              index memory_stride, index columns) {
  const index row = blockIdx.x, sequence = row / tokens, start = starts ? starts[sequence] : 0;
  const index place = start - held.first(sequence, start) + row % tokens;
  const T* const from = kv + row * kv_stride;
  M* const to = memory + (first_row + sequence * sequence_rows + place * depths + slot) * memory_stride;
  for (index j = threadIdx.x; j < columns; j += 256)
    if constexpr (std::is_same_v<T, M>)
      to[j] = from[j];
    else
      to[j] = from_float<M>(to_float(from[j]));
}

/// to [sequences * memory_rows, columns] = the rows of memory that any query sees, from the first sequence on.   grid: rows
template <class T, class M>
__global__ void __launch_bounds__(256) widen(attention_size s, const M* memory, index stride, T* to, index columns) {
  const index row = blockIdx.x;
  const int sequence = static_cast<int>(row / s.memory_rows), at = static_cast<int>(row % s.memory_rows);
  if (at < s.sees_from(sequence, 0) || at >= s.sees_to(sequence, s.queries - 1)) return;
  for (index j = threadIdx.x; j < columns; j += 256) to[row * columns + j] = from_float<T>(to_float(memory[row * stride + j]));
}

/// Moves the positions of each sequence to their places after the pass.   grid: 256 columns; sequence
template <class T>
__global__ void __launch_bounds__(256) slide(int tokens, const index* starts, held_positions held, index first_row,
                                             index sequence_rows, int depths, T* memory, index stride, index columns) {
  const index sequence = blockIdx.y, column = static_cast<index>(blockIdx.x) * 256 + threadIdx.x;
  if (column < columns)
    slide_column(held, sequence, starts ? starts[sequence] : 0, tokens, depths,
                 memory + (first_row + sequence * sequence_rows) * stride + column, stride);
}

[[noreturn]] inline void fail_in_bf16(const char* operation, const attention_size& s) {
  if (s.slopes.are_there || s.slopes.biases)
    fail("cuda: ", operation, ": scores that fall with distance or have biases, of numbers in bf16; expected float");
  fail("cuda: ", operation, ": heads of ", s.head_width, " columns in bf16; at most ", widest_on_tensor_cores,
       " are supported");
}

}  // namespace attention

/// Contexts that note operations down, with overloads of their own (token_notes.cuh).
template <class On>
concept notes_down = On::notes_down;

namespace attention {
/// The shape for kernels, with slopes, if there are any.
template <class Slopes>
[[nodiscard]] attention_size size_of(const char* operation, const attention_shape& shape, [[maybe_unused]] const Slopes& slopes) {
  attention_size s = size_of(operation, shape);
  if constexpr (!std::is_same_v<Slopes, no_slopes>) s.slopes = slopes;
  return s;
}
/// The type of the operands of products. With slopes it is float: the kernels on tensor cores have none.
template <class On, class Slopes>
using operand_type = std::conditional_t<std::is_same_v<Slopes, no_slopes>, typename On::compute, float>;
/// Calls f(general, sloped), two constants (with_generality).
template <class Slopes, class F>
void with_kind(const attention_shape& s, const F& f) {
  if constexpr (std::is_same_v<Slopes, no_slopes>)
    with_generality(s, [&](auto general) { f(general, std::false_type()); });
  else
    f(std::true_type(), std::true_type());
}

/// attention_forward of few queries, by `decode`. Keys and values may be of another type.
template <class On, class T, class K>
void forward_of_few(const On& on, const char* operation, const attention_shape& shape, const attention_size& s, const matrix<const T>& q,
                    const matrix<const K>& k, const matrix<const K>& v, const matrix<T>& out, float* lse) {
  const index rows = shape.sequences * shape.queries;
  // At least 128 rows per block, and no more blocks than keep the GPU busy. The same for every position, because work
  // is recorded once and replayed for all of them.
  const index busy = 4 * static_cast<index>(on.processors()) / (rows * shape.heads);
  const auto splits = static_cast<unsigned>(std::clamp<index>(std::min(busy, most_seen(s) / 128), 1, 64));
  with_decode_width(s.head_width, [&](auto width) {
    constexpr int W = width();
    float* const parts = splits > 1 ? on.template scratch<float>(rows * shape.heads * splits * (W + 2)) : nullptr;
    const unsigned blocks = blocks_of(operation, rows * shape.heads);
    launch(operation, {{blocks, splits}, decode_threads}, on.stream(), &decode<W, T, K>, s, heads_of(q, s), heads_of(k, s),
           heads_of(v, s), heads_of(out, s), lse, parts);
    if (splits > 1)
      launch(operation, {blocks, decode_threads}, on.stream(), &combine<W, T>, s, static_cast<int>(splits), parts,
             heads_of(out, s), lse);
  });
}

/// attention_forward of more queries. Slopes: distance_slopes<float>, or no_slopes.
template <class Slopes, class On, class T>
void forward_of_many(const On& on, const char* operation, const attention_shape& shape, const attention_size& s,
                     const matrix<const T>& q, const matrix<const T>& k, const matrix<const T>& v, const matrix<T>& out, float* lse) {
  const auto blocks = [&](index queries) {
    return blocks_of(operation, (shape.queries + queries - 1) / queries * shape.sequences * shape.heads);
  };
  if constexpr (std::is_same_v<operand_type<On, Slopes>, bf16>)
    if (s.head_width <= widest_on_tensor_cores) {
      with_tensor_width(s.head_width, [&](auto width) {
        constexpr int W = width();
        attention_size of_copies;
        const auto x = rounded<W, T, On>(on, operation, s)(std::array<matrix<const T>, 3>{q, k, v}, 6, of_copies);
        with_generality(shape, [&](auto general) {
          launch(operation, {blocks(query_block<W>::queries), threads, forward_shared<W>}, on.stream(), &forward<W, general(), T>,
                 of_copies, x[0], x[1], x[2], heads_of(out, s), lse);
        });
      });
      return;
    }
  if constexpr (std::is_same_v<T, float>)
    with_plain_width<operand_type<On, Slopes>>(s.head_width, [&](auto width) {
      constexpr int W = width();
      with_kind<Slopes>(shape, [&](auto general, auto sloped) {
        launch(operation, {blocks(plain_block<W>::left), plain_threads, plain_block<W>::forward_shared}, on.stream(),
               &forward_plain<W, general(), sloped()>, s, heads_of(q, s), heads_of(k, s), heads_of(v, s), heads_of(out, s), lse);
      });
    });
  else
    fail_in_bf16(operation, s);
}

}  // namespace attention

/// out = softmax(q k^T / sqrt(head_width)) v over the visible prefix, per sequence and head; see attention_shape. Slopes:
/// distance_slopes<float>, or none.
template <class On, class T = typename On::scalar, class Slopes = no_slopes>
  requires(!notes_down<On>)
void attention_forward(const On& on, const attention_shape& shape, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                       matrix<std::type_identity_t<T>> out, float* lse, const Slopes& slopes = {}) {
  using namespace attention;
  const char* const operation = "attention_forward";
  on.begin();
  const attention_size s = size_of(operation, shape, slopes);
  if (shape.sequences * shape.queries * shape.heads == 0) return;
  if (s.queries <= most_queries_to_decode)
    forward_of_few<On, T, T>(on, operation, shape, s, q, k, v, out, lse);
  else
    forward_of_many<Slopes, On, T>(on, operation, shape, s, q, k, v, out, lse);
}
/// The same with keys and values that are stored in bf16. For many queries, they are widened into scratch memory.
template <class On, class T = typename On::scalar, class Slopes = no_slopes>
  requires(!notes_down<On>)
void attention_forward(const On& on, const attention_shape& shape, matrix<const std::type_identity_t<T>> q,
                       const stored_rows<bf16>& k, const stored_rows<bf16>& v, matrix<std::type_identity_t<T>> out, float* lse,
                       const Slopes& slopes = {}) {
  using namespace attention;
  const char* const operation = "attention_forward";
  on.begin();
  const attention_size s = size_of(operation, shape, slopes);
  if (shape.sequences * shape.queries * shape.heads == 0) return;
  if (s.queries <= most_queries_to_decode) {
    forward_of_few<On, T, bf16>(on, operation, shape, s, q, k.numbers, v.numbers, out, lse);
    return;
  }
  const index rows = shape.sequences * shape.memory_rows, columns = shape.key_heads() * shape.head_width;
  const auto widened = [&](const matrix<bf16>& x) {
    T* const to = on.template scratch<T>(rows * columns);
    launch(operation, {blocks_of(operation, rows), 256}, on.stream(), &widen<T, bf16>, s,
           static_cast<const bf16*>(x.row(shape.memory_row(0))), x.stride, to, columns);
    return matrix<const T>(to, rows, columns);
  };
  const matrix<const T> keys = widened(k.numbers), values = widened(v.numbers);
  attention_shape of_copies = shape;
  of_copies.first = 0;
  forward_of_many<Slopes, On, T>(on, operation, of_copies, size_of(operation, of_copies, slopes), q, keys, values, out, lse);
}

/// dq, dk, dv = the gradients, given dout; 0 for rows of memory that no query sees. They are overwritten. `delta`
/// [sequences * queries, heads] is scratch: it receives the sum of dout * out over a head's columns. dslopes
/// [sequences * queries, heads], unless it is null, receives each query's share of the gradient of the slopes; dbiases
/// [rows of memory, heads], unless it is null, each row's share of that of the biases.
template <class On, class T = typename On::scalar, class Slopes = no_slopes>
void attention_backward(const On& on, const attention_shape& shape, matrix<const std::type_identity_t<T>> q,
                        matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                        matrix<const std::type_identity_t<T>> out, const float* lse, matrix<const std::type_identity_t<T>> dout,
                        float* delta, matrix<std::type_identity_t<T>> dq, matrix<std::type_identity_t<T>> dk,
                        matrix<std::type_identity_t<T>> dv, const Slopes& slopes = {}, [[maybe_unused]] float* dslopes = nullptr,
                        [[maybe_unused]] float* dbiases = nullptr) {
  using namespace attention;
  const char* const operation = "attention_backward";
  on.begin();
  const attention_size s = size_of(operation, shape, slopes);
  const index rows = shape.sequences * shape.queries;
  if (rows * shape.heads == 0) return;
  const auto tiles = [&](index count, index tile, index heads) {
    return blocks_of(operation, (count + tile - 1) / tile * shape.sequences * heads);
  };

  const auto make_delta = [&](auto width, auto compute) {
    constexpr int W = width();
    const unsigned blocks = blocks_of(operation, (rows * shape.heads * (W / 8) + 255) / 256);
    launch(operation, {blocks, 256}, on.stream(), &sum_of_products<W, decltype(compute), T>, s, heads_of(out, s),
           heads_of(dout, s), delta);
  };
  if constexpr (std::is_same_v<operand_type<On, Slopes>, bf16>)
    if (s.head_width <= widest_on_tensor_cores) {
      with_tensor_width(s.head_width, [&](auto width) {
        constexpr int W = width();
        make_delta(width, bf16());
        attention_size of_copies;
        const auto x = rounded<W, T, On>(on, operation, s)(std::array<matrix<const T>, 4>{q, k, v, dout}, 6, of_copies);
        // dk and dv are laid out like the whole memory; rounded copies begin with the first sequence.
        const auto of_memory = [&](const matrix<T>& m) {
          return heads_of(of_copies.first == s.first ? m : matrix<T>(m.row(shape.memory_row(0)), m.rows, m.columns, m.stride), s);
        };
        with_generality(shape, [&](auto general) {
          constexpr bool General = general();
          launch(operation, {tiles(shape.queries, query_block<W>::queries, shape.heads), threads, backward_queries_shared<W>},
                 on.stream(), &backward_queries<W, General, T>, of_copies, x[0], x[1], x[2], x[3], lse, delta, heads_of(dq, s));
          launch(operation, {tiles(shape.memory_rows, key_block<W>::keys, shape.key_heads()), threads, backward_keys_shared<W>},
                 on.stream(), &backward_keys<W, General, T>, of_copies, x[0], x[1], x[2], x[3], lse, delta, of_memory(dk),
                 of_memory(dv));
        });
      });
      return;
    }
  if constexpr (std::is_same_v<T, float>) {
    with_plain_width<operand_type<On, Slopes>>(s.head_width, [&](auto width) {
      constexpr int W = width();
      using sizes = plain_block<W>;
      make_delta(width, float());
      with_kind<Slopes>(shape, [&](auto general, auto sloped) {
        constexpr bool General = general(), Sloped = sloped();
        launch(operation, {tiles(shape.queries, sizes::left, shape.heads), plain_threads, sizes::backward_queries_shared},
               on.stream(), &backward_queries_plain<W, General, Sloped>, s, heads_of(q, s), heads_of(k, s), heads_of(v, s),
               heads_of(dout, s), lse, delta, heads_of(dq, s), dslopes);
        launch(operation, {tiles(shape.memory_rows, sizes::left, shape.key_heads()), plain_threads, sizes::backward_keys_shared},
               on.stream(), &backward_keys_plain<W, General, Sloped>, s, heads_of(q, s), heads_of(k, s), heads_of(v, s),
               heads_of(dout, s), lse, delta, heads_of(dk, s), heads_of(dv, s), dbiases);
      });
    });
  } else {
    fail_in_bf16(operation, s);
  }
}

/// weights [sequences * heads * queries, memory_rows]: the softmax itself, for inspection; 0 for rows not visible.
template <class On, class T = typename On::scalar, class Slopes = no_slopes>
void attention_weights(const On& on, const attention_shape& shape, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, const float* lse, matrix<std::type_identity_t<T>> weights,
                       const Slopes& slopes = {}) {
  using namespace attention;
  const char* const operation = "attention_weights";
  on.begin();
  const attention_size s = size_of(operation, shape, slopes);
  const index blocks = shape.sequences * shape.heads * shape.queries;
  if (blocks == 0) return;
  launch(operation, {blocks_of(operation, blocks), 256}, on.stream(), &softmax<operand_type<On, Slopes>, T>, s, heads_of(q, s),
         heads_of(k, s), lse, weights.data, weights.stride);
}

namespace attention {
template <class On, class T, class M>
void append_rows(const On& on, const extent& e, const matrix<const T>& kv, const matrix<M>& memory, index rows_per_position, index slot) {
  const char* const operation = "attention_append";
  on.begin();
  if (e.rows() == 0) return;
  const index sequence_rows = e.capacity * rows_per_position;
  launch(operation, {blocks_of(operation, e.rows()), 256}, on.stream(), &append<T, M>, static_cast<int>(e.tokens), e.starts, e.held,
         e.first * sequence_rows, sequence_rows, static_cast<int>(rows_per_position), static_cast<int>(slot), kv.data, kv.stride,
         memory.data, memory.stride, kv.columns);
}
}  // namespace attention

/// Copies rows of kv to a cache's memory: the position at place p goes to row p * rows_per_position + slot.
template <class On, class T = typename On::scalar>
  requires(!notes_down<On>)
void attention_append(const On& on, const extent& e, matrix<const std::type_identity_t<T>> kv,
                      matrix<std::type_identity_t<T>> memory, index rows_per_position, index slot) {
  attention::append_rows<On, T, T>(on, e, kv, memory, rows_per_position, slot);
}
/// The same, rounded.
template <class On, class T = typename On::scalar>
  requires(!notes_down<On>)
void attention_append(const On& on, const extent& e, matrix<const std::type_identity_t<T>> kv, const stored_rows<bf16>& memory,
                      index rows_per_position, index slot) {
  attention::append_rows<On, T, bf16>(on, e, kv, memory.numbers, rows_per_position, slot);
}

/// Moves the positions in a cache's memory to their places after this pass, if these differ; see held_positions.
template <class On, class T>
  requires(!notes_down<On>)
void attention_slide(const On& on, const extent& e, matrix<T> memory, index rows_per_position) {
  const char* const operation = "attention_slide";
  on.begin();
  if (e.rows() == 0) return;
  const index sequence_rows = e.capacity * rows_per_position;
  const unsigned blocks = attention::blocks_of(operation, (memory.columns + 255) / 256);
  launch(operation, {{blocks, attention::blocks_of(operation, e.sequences)}, 256}, on.stream(), &attention::slide<T>,
         static_cast<int>(e.tokens), e.starts, e.held, e.first * sequence_rows, sequence_rows, static_cast<int>(rows_per_position),
         memory.data, memory.stride, memory.columns);
}

}  // namespace fathom::cuda
