// Attention of few queries over a long memory: decoding. The cost is reading keys and values once.
//
// The rows that a query sees are split evenly among `splits` blocks of 4 warps. A group of lanes reads a row, 16 bytes
// per lane and load; a warp reads one row per group at a time, and several such sets before it computes. Each group has
// its own online softmax (largest score, sum of weights, weighted sum). These are combined in an order that depends
// only on the shape: lanes, warps, splits. So results do not depend on timing.
#pragma once

#include <cstdint>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

inline constexpr int decode_threads = 128;

/// A partial softmax is a largest score (in base 2), a sum of weights relative to it, and a weighted sum of rows. This
/// factor makes its sums relative to another largest score; it is 0 if there are no rows.
__device__ __forceinline__ float factor_of(float largest, float other) {
  return largest == -INFINITY ? 0.0f : exp2_fast(largest - other);
}

/// Moves one column of a sequence's memory by as many positions as held.first() grows in a pass over `tokens` tokens: the
/// first rows first, because rows move to where others were. Several are read at once, fewer than they move by.
template <class T>
__device__ __forceinline__ void slide_column(const held_positions& held, index sequence, index start, index tokens, int depths,
                                             T* column, index stride) {
  constexpr int at_once = 8;
  static_assert(at_once <= held_positions::step);
  const index before = held.first(sequence, start), first = held.first(sequence, start + tokens);
  if (first == before) return;
  const index by = (first - before) * depths, rows = (start + tokens - first) * depths;
  for (index r = 0; r < rows; r += at_once) {
    T moved[at_once];
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < at_once; ++n)
      if (r + n < rows) moved[n] = column[(r + n + by) * stride];
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < at_once; ++n)
      if (r + n < rows) column[(r + n) * stride] = moved[n];
  }
}

/// to [Count] = x [Count], 0 from `there` on; `whole`: all exist, and x is aligned to 16 bytes
template <int Count, class T>
__device__ __forceinline__ void load_numbers(float (&to)[Count], const T* x, int there, bool whole) {
  constexpr int together = 16 / static_cast<int>(sizeof(T));
  static_assert(Count % together == 0);
  if (whole) {
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < Count; n += together) {
      const uint4 words = *reinterpret_cast<const uint4*>(x + n);
      const std::uint32_t w[4] = {words.x, words.y, words.z, words.w};
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i)
        if constexpr (std::is_same_v<T, float>) {
          to[n + i] = __uint_as_float(w[i]);
        } else {
          to[n + 2 * i] = low_bf16(w[i]);
          to[n + 2 * i + 1] = high_bf16(w[i]);
        }
    }
  } else {
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < Count; ++n) to[n] = n < there ? to_float(x[n]) : 0.0f;
  }
}

/// One split of one query's head, `row_and_head` of [rows, heads], by a block of Warps warps.
/// parts [rows, heads, splits, Width + 2]: largest score, sum of weights, weighted sum of a split. If there is one
/// split, writes out [rows, heads] and lse [rows, heads] (unless it is null) directly.
/// Keys and values may be of another type than queries.
template <int Width, int Warps, class T, class K>
__device__ __forceinline__ void decode_split(const attention_size& s, const rows_of_heads<const T>& q,
                                             const rows_of_heads<const K>& k, const rows_of_heads<const K>& v,
                                             const rows_of_heads<T>& out, float* lse, float* parts, index row_and_head, int split,
                                             int splits) {
  constexpr int together = 16 / static_cast<int>(sizeof(K));
  constexpr int lanes = Width / together < 32 ? Width / together : 32, count = Width / lanes;  // of a row; numbers each
  constexpr int rows = 32 / lanes, ahead = Width <= 128 ? 4 : 2;
  FATHOM_CUDA_SHARED(float, warp_parts, Warps * (Width + 2));

  const int head = static_cast<int>(row_and_head % s.heads);
  const index row = row_and_head / s.heads;
  const int sequence = static_cast<int>(row / s.queries), query = static_cast<int>(row % s.queries);
  const int from = s.sees_from(sequence, query), seen = s.sees_to(sequence, query), key_head = head / s.group;
  const int share = (seen - from + splits - 1) / splits, begin = from + split * share, end = smaller(seen, begin + share);
  const index memory = s.memory_row(sequence);
  const int warp = thread() / 32, lane = thread() % 32, first = lane % lanes * count, there = s.head_width - first;

  const T* const q_row = q.at(row, head) + first;
  const K* const k_rows = k.at(memory, key_head) + first;
  const K* const v_rows = v.at(memory, key_head) + first;
  const auto whole_rows = [&](const auto& x, const auto* at) {
    constexpr int in_16_bytes = 16 / static_cast<int>(sizeof(*at));
    return s.head_width == Width && x.stride % in_16_bytes == 0 && reinterpret_cast<std::uintptr_t>(at) % 16 == 0;
  };
  const bool whole = whole_rows(k, k_rows) && whole_rows(v, v_rows);
  float left[count];
  load_numbers(left, q_row, there, whole_rows(q, q_row));
  FATHOM_CUDA_UNROLL
  for (int n = 0; n < count; ++n) left[n] *= s.scale * log2_e;
  const int position = s.start(sequence) + query;
  const float slope2 = s.slopes.are_there ? s.slopes.of(head, s.heads) * log2_e : 0.0f;

  float largest = -INFINITY, total = 0, sums[count] = {};
  FATHOM_CUDA_ROLL
  for (int r = begin + warp * rows; r < end; r += ahead * Warps * rows) {
    float score[ahead], values[ahead][count], most = largest;
    FATHOM_CUDA_UNROLL
    for (int a = 0; a < ahead; ++a) {
      const int at = r + a * Warps * rows + lane / lanes;
      float keys[count] = {};
      FATHOM_CUDA_UNROLL
      for (int n = 0; n < count; ++n) values[a][n] = 0;
      if (at < end) {
        load_numbers(keys, k_rows + at * k.stride, there, whole);
        load_numbers(values[a], v_rows + at * v.stride, there, whole);
      }
      score[a] = 0;
      FATHOM_CUDA_UNROLL
      for (int n = 0; n < count; ++n) score[a] = __fmaf_rn(left[n], keys[n], score[a]);
    }
    FATHOM_CUDA_UNROLL
    for (int a = 0; a < ahead; ++a) {
      FATHOM_CUDA_UNROLL
      for (int n = lanes / 2; n > 0; n /= 2) score[a] += __shfl_xor_sync(0xffffffffu, score[a], n);
      if (s.slopes.are_there) score[a] -= slope2 * s.distance(position, r + a * Warps * rows + lane / lanes);
      if (s.slopes.biases) score[a] += s.slopes.bias(head, s.heads, r + a * Warps * rows + lane / lanes, s.rows_per_position) * log2_e;
      if (r + a * Warps * rows + lane / lanes >= end) score[a] = -INFINITY;
      most = fmaxf(most, score[a]);
    }
    const float factor = factor_of(largest, most);
    largest = most;
    total *= factor;
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n) sums[n] *= factor;
    FATHOM_CUDA_UNROLL
    for (int a = 0; a < ahead; ++a) {
      const float weight = factor_of(score[a], most);
      total += weight;
      FATHOM_CUDA_UNROLL
      for (int n = 0; n < count; ++n) sums[n] = __fmaf_rn(weight, values[a][n], sums[n]);
    }
  }
  // The warp's groups of lanes.
  FATHOM_CUDA_UNROLL
  for (int n = lanes; n < 32; n *= 2) {
    const float most = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, n)), factor = factor_of(largest, most);
    largest = most;
    total *= factor;
    total += __shfl_xor_sync(0xffffffffu, total, n);
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < count; ++i) {
      sums[i] *= factor;
      sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], n);
    }
  }
  if (lane < lanes) {
    float* const to = warp_parts + warp * (Width + 2);
    if (lane == 0) to[0] = largest, to[1] = total;
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < count; ++n) to[2 + first + n] = sums[n];
  }
  __syncthreads();
  // The block's warps.
  float most = -INFINITY, all = 0;
  FATHOM_CUDA_UNROLL
  for (int w = 0; w < Warps; ++w) most = fmaxf(most, warp_parts[w * (Width + 2)]);
  FATHOM_CUDA_UNROLL
  for (int w = 0; w < Warps; ++w)
    all += warp_parts[w * (Width + 2) + 1] * factor_of(warp_parts[w * (Width + 2)], most);
  float* const part_to = splits > 1 ? parts + (row_and_head * splits + split) * (Width + 2) : nullptr;
  for (int n = thread(); n < Width; n += 32 * Warps) {
    float sum = 0;
    FATHOM_CUDA_UNROLL
    for (int w = 0; w < Warps; ++w)
      sum += warp_parts[w * (Width + 2) + 2 + n] * factor_of(warp_parts[w * (Width + 2)], most);
    if (splits > 1)
      part_to[2 + n] = sum;
    else if (n < s.head_width)
      out.at(row, head)[n] = from_float<T>(sum / all);
  }
  if (thread() == 0) {
    if (splits > 1)
      part_to[0] = most, part_to[1] = all;
    else if (lse)
      lse[row_and_head] = most * ln_2 + logf(all);
  }
}

/// out, lse = the splits of `parts`, combined by one block.
template <int Width, class T>
__device__ __forceinline__ void combine_splits(const attention_size& s, int splits, const float* parts, const rows_of_heads<T>& out,
                                               float* lse, index row_and_head) {
  const int head = static_cast<int>(row_and_head % s.heads);
  const index row = row_and_head / s.heads;
  const float* const from = parts + row_and_head * splits * (Width + 2);
  float most = -INFINITY, all = 0;
  for (int i = 0; i < splits; ++i) most = fmaxf(most, from[i * (Width + 2)]);
  for (int i = 0; i < splits; ++i) all += from[i * (Width + 2) + 1] * factor_of(from[i * (Width + 2)], most);
  for (int n = thread(); n < s.head_width; n += static_cast<int>(blockDim.x)) {
    float sum = 0;
    for (int i = 0; i < splits; ++i) sum += from[i * (Width + 2) + 2 + n] * factor_of(from[i * (Width + 2)], most);
    out.at(row, head)[n] = from_float<T>(sum / all);
  }
  if (lse && thread() == 0) lse[row_and_head] = most * ln_2 + logf(all);
}

/// The same as kernels.   grid: rows * heads, splits
template <int Width, class T, class K>
__global__ void __launch_bounds__(decode_threads)
    decode(attention_size s, rows_of_heads<const T> q, rows_of_heads<const K> k, rows_of_heads<const K> v, rows_of_heads<T> out,
           float* lse, float* parts) {
  decode_split<Width, decode_threads / 32>(s, q, k, v, out, lse, parts, blockIdx.x, static_cast<int>(blockIdx.y),
                                           static_cast<int>(gridDim.y));
}
/// grid: rows * heads
template <int Width, class T>
__global__ void __launch_bounds__(decode_threads)
    combine(attention_size s, int splits, const float* parts, rows_of_heads<T> out, float* lse) {
  combine_splits<Width>(s, splits, parts, out, lse, blockIdx.x);
}

}  // namespace fathom::cuda::attention
