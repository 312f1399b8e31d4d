// Gradients of attention for every attention_shape: shared heads of keys and values, windows, memories without order. Simple
// kernels, a block of 4 warps for each row of a head; what sees all of a prefix, head by head, has faster ones (attention_tensor.cuh,
// attention_plain.cuh). Forward goes through attention_decode.cuh.
//
// Sums are in an order that depends on the shape alone.
#pragma once

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

inline constexpr int general_threads = 128;

/// x as an operand of a product with this type of operands.
template <class Compute>
__device__ __forceinline__ float operand(float x) {
  return to_float(from_float<Compute>(x));
}
__device__ __forceinline__ float sum_of_warp(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
  return x;
}

/// A row of a head, a lane's numbers n of which are those at lane + 32 n; from head_width on 0.
template <int Width, class Compute>
struct row_of_head {
  static constexpr int count = (Width + 31) / 32;
  float numbers[count];

  __device__ __forceinline__ row_of_head() {
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n) numbers[n] = 0;
  }
  template <class T>
  __device__ __forceinline__ row_of_head(const T* x, int head_width) {
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n) {
      const int e = thread() % 32 + 32 * n;
      numbers[n] = e < head_width ? operand<Compute>(to_float(x[e])) : 0.0f;
    }
  }
  [[nodiscard]] __device__ __forceinline__ float times(const row_of_head& other) const {
    float sum = 0;
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n) sum = __fmaf_rn(numbers[n], other.numbers[n], sum);
    return sum_of_warp(sum);
  }
  __device__ __forceinline__ void add(float factor, const row_of_head& other) {
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n) numbers[n] = __fmaf_rn(factor, other.numbers[n], numbers[n]);
  }
  /// to [head_width] = factor times the sum over the block's warps; parts [warps, Width] is shared memory.
  template <class T>
  __device__ __forceinline__ void store_sum(float factor, float* parts, T* to, int head_width) const {
    __syncthreads();  // an earlier sum may still be read
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n)
      if (const int e = thread() % 32 + 32 * n; e < Width) parts[thread() / 32 * Width + e] = numbers[n];
    __syncthreads();
    for (int e = thread(); e < head_width; e += general_threads) {
      float sum = 0;
      FATHOM_CUDA_UNROLL
      for (int w = 0; w < general_threads / 32; ++w) sum += parts[w * Width + e];
      to[e] = from_float<T>(sum * factor);
    }
  }
};

/// dq = ds k / sqrt(head_width), where p = exp(q k^T / sqrt(head_width) - lse) and ds = p (dout v^T - delta)
///   lse, delta [rows, heads];  blocks: rows * heads
template <int Width, class Compute, class T>
__global__ void __launch_bounds__(general_threads)
    backward_queries_general(attention_size s, rows_of_heads<const T> q, rows_of_heads<const T> k, rows_of_heads<const T> v,
                             rows_of_heads<const T> dout, const float* lse, const float* delta, rows_of_heads<T> dq) {
  using numbers = row_of_head<Width, Compute>;
  FATHOM_CUDA_SHARED(float, parts, general_threads / 32 * Width);
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(s.heads)), key_head = head / s.group;
  const index row = blockIdx.x / static_cast<unsigned>(s.heads);
  const int sequence = static_cast<int>(row / s.queries), query = static_cast<int>(row % s.queries);
  const index memory = s.memory_row(sequence);
  const numbers own(q.at(row, head), s.head_width), gradient(dout.at(row, head), s.head_width);
  const float own_lse = lse[row * s.heads + head], own_delta = delta[row * s.heads + head];
  numbers sum;
  for (int r = s.sees_from(sequence, query) + thread() / 32; r < s.sees_to(sequence, query); r += general_threads / 32) {
    const numbers key(k.at(memory + r, key_head), s.head_width), value(v.at(memory + r, key_head), s.head_width);
    const float weight = exp2_fast((own.times(key) * s.scale - own_lse) * log2_e);
    sum.add(operand<Compute>(weight * (gradient.times(value) - own_delta)), key);
  }
  sum.store_sum(s.scale, parts, dq.at(row, head), s.head_width);
}

/// dv = p^T dout;  dk = ds^T q / sqrt(head_width), over all heads of queries that share a head of keys; of rows of memory that no
/// query sees, 0.   blocks: sequences * memory_rows * key heads
template <int Width, class Compute, class T>
__global__ void __launch_bounds__(general_threads)
    backward_keys_general(attention_size s, rows_of_heads<const T> q, rows_of_heads<const T> k, rows_of_heads<const T> v,
                          rows_of_heads<const T> dout, const float* lse, const float* delta, rows_of_heads<T> dk,
                          rows_of_heads<T> dv) {
  using numbers = row_of_head<Width, Compute>;
  FATHOM_CUDA_SHARED(float, parts, general_threads / 32 * Width);
  const unsigned key_heads = static_cast<unsigned>(s.heads / s.group);
  const int key_head = static_cast<int>(blockIdx.x % key_heads);
  const index of_all = blockIdx.x / key_heads;
  const int sequence = static_cast<int>(of_all / s.memory_rows), r = static_cast<int>(of_all % s.memory_rows);
  const index at = s.memory_row(sequence) + r;
  // The queries that see it.
  const int position = r / s.rows_per_position - s.start(sequence);
  const int first = s.sees_all ? 0 : larger(position, 0);
  const int last = s.sees_all || s.window == 0 ? s.queries : smaller(s.queries, position + s.window);
  const numbers key(k.at(at, key_head), s.head_width), value(v.at(at, key_head), s.head_width);
  numbers dk_sum, dv_sum;
  for (int head = key_head * s.group; head < (key_head + 1) * s.group; ++head)
    for (int t = first + thread() / 32; t < last; t += general_threads / 32) {
      const index row = static_cast<index>(sequence) * s.queries + t;
      const numbers query(q.at(row, head), s.head_width), gradient(dout.at(row, head), s.head_width);
      const float weight = exp2_fast((query.times(key) * s.scale - lse[row * s.heads + head]) * log2_e);
      dv_sum.add(operand<Compute>(weight), gradient);
      dk_sum.add(operand<Compute>(weight * (gradient.times(value) - delta[row * s.heads + head])), query);
    }
  dk_sum.store_sum(s.scale, parts, dk.at(at, key_head), s.head_width);
  dv_sum.store_sum(1.0f, parts, dv.at(at, key_head), s.head_width);
}

}  // namespace fathom::cuda::attention
