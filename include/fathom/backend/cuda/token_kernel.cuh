// The kernel of a token program (token_program.cuh): all steps of a token, phase by phase.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fathom/backend/cuda/attention_decode.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/matmul.cuh"
#include "fathom/backend/cuda/token_step.cuh"
#include "fathom/backend/norm_scale.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::kernel {

/// The mean and 1 / sqrt(variance + eps) of x [count], by a warp.
__device__ __forceinline__ void warp_moments(const float* x, int count, float eps, float& mean, float& rstd) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float sum = 0, squares = 0;
  for (int j = lane; j < count; j += 32) sum += x[j];
  mean = warp_sum(sum) / static_cast<float>(count);
  for (int j = lane; j < count; j += 32) squares += (x[j] - mean) * (x[j] - mean);
  rstd = norm_scale(warp_sum(squares) / static_cast<float>(count), eps);
}

/// 1 / sqrt(mean of squares + eps) of x [count], by a warp.
__device__ __forceinline__ float warp_rms(const float* x, int count, float eps) {
  float squares = 0;
  for (int j = static_cast<int>(threadIdx.x % 32); j < count; j += 32) squares += x[j] * x[j];
  return norm_scale(warp_sum(squares) / static_cast<float>(count), eps);
}

/// rows [s.rows, s.depth] in shared memory = norm(x); x itself is loaded behind them
__device__ __forceinline__ void load_rows(const token_step& s, const float* x, float* rows) {
  const int thread = static_cast<int>(threadIdx.x), count = s.rows * s.depth;
  float* const raw = s.gain ? rows + count : rows;
  __syncthreads();  // what was there may still be read
  for (int i = thread; i < count; i += token_threads) raw[i] = x[i / s.depth * s.x_stride + i % s.depth];
  __syncthreads();
  if (!s.gain) return;
  float mean = 0, rstd = 0;
  for (int r = 0; r < s.rows; ++r) {
    if (!s.shift) {
      rstd = warp_rms(raw + r * s.depth, s.depth, s.eps);
      for (int j = thread; j < s.depth; j += token_threads)
        rows[r * s.depth + j] = raw[r * s.depth + j] * rstd * (s.gain[j] + s.offset);
      continue;
    }
    warp_moments(raw + r * s.depth, s.depth, s.eps, mean, rstd);
    for (int j = thread; j < s.depth; j += token_threads)
      rows[r * s.depth + j] = (raw[r * s.depth + j] - mean) * rstd * s.gain[j] + s.shift[j];
  }
  __syncthreads();
}

/// Stores an element of y, and its copy in the cache, if there is one.
__device__ __forceinline__ void store(const token_step& s, int r, int n, float value) {
  if (s.y) s.y[r * s.y_stride + n] = value;
  if (r < s.memory_rows && n >= s.memory_column) {
    const index place = *s.position - s.held.first(0, *s.position);
    s.memory[(place * s.rows_per_position + s.slot + r) * s.memory_stride + n - s.memory_column] = value;
  }
}

/// The weights that a thread reads ahead: 16 bytes at each of `count` places in a column.
struct weights_ahead {
  static constexpr int count = 4;
  uint4 words[count];
};
template <class P>
__device__ __forceinline__ void load_ahead(const token_step& s, const P* column, int k, weights_ahead& to) {
  FATHOM_CUDA_UNROLL
  for (int a = 0; a < weights_ahead::count; ++a)
    if (const int at = k + a * s.lanes * sixteen_bytes<P>::count; at < s.depth)
      to.words[a] = *reinterpret_cast<const uint4*>(column + at);
}

/// A unit of a product; x [s.rows, s.depth] in shared memory, filled by `load_x` while the first weights are in flight.
template <int Rows, class P, class F>
__device__ __forceinline__ void multiply_unit(const token_step& s, const float* x, int unit, const F& load_x) {
  constexpr int together = sixteen_bytes<P>::count;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int part = lane % s.lanes, n = unit * columns_of_unit(s.lanes) + warp * (32 / s.lanes) + lane / s.lanes;
  const P* const column = static_cast<const P*>(s.weights.data) + static_cast<index>(n < s.columns ? n : 0) * s.depth;
  const int step = s.lanes * together;
  int k = part * together;
  weights_ahead ahead{};
  if (s.is_aligned) load_ahead(s, column, k, ahead);
  load_x();
  float sums[Rows] = {};
  if (s.is_aligned) {
    while (k < s.depth) {
      FATHOM_CUDA_UNROLL
      for (int a = 0; a < weights_ahead::count; ++a) {
        const int at = k + a * step;
        if (at >= s.depth) break;
        float w[together];
        sixteen_bytes<P>::widen(ahead.words[a], w);
        FATHOM_CUDA_UNROLL
        for (int r = 0; r < Rows; ++r) {
          if (r >= s.rows) break;
          FATHOM_CUDA_UNROLL
          for (int i = 0; i < together; i += 4) {
            const float4 u = *reinterpret_cast<const float4*>(x + r * s.depth + at + i);
            sums[r] += u.x * w[i] + u.y * w[i + 1] + u.z * w[i + 2] + u.w * w[i + 3];
          }
        }
      }
      k += weights_ahead::count * step;
      load_ahead(s, column, k, ahead);
    }
  } else {
    for (int i = part; i < s.depth; i += s.lanes) {
      const float w = to_float(column[i]);
      FATHOM_CUDA_UNROLL
      for (int r = 0; r < Rows; ++r) {
        if (r >= s.rows) break;
        sums[r] += x[r * s.depth + i] * w;
      }
    }
  }
  FATHOM_CUDA_UNROLL
  for (int r = 0; r < Rows; ++r) {
    if (r >= s.rows) break;
    for (int lanes = s.lanes / 2; lanes > 0; lanes /= 2) sums[r] += __shfl_xor_sync(whole_warp, sums[r], lanes);
    if (part == 0 && n < s.columns) {
      float v = sums[r];
      if (s.bias) v += s.bias[n];
      if (s.has_gelu) v = gelu_tanh::at<float>(v).value;
      if (s.cap > 0) v = epilogue::soft_cap<float>{s.cap}(v, r, n);
      if (s.residual) v += s.residual[r * s.residual_stride + n];
      store(s, r, n, v);
    }
  }
}

/// A unit of attention: one split of one head. The last split to arrive combines them.
template <int Width>
__device__ __forceinline__ void attend_unit(const token_step& s, int unit) {
  FATHOM_CUDA_SHARED(int, is_last, 1);
  const int head = unit / s.splits;
  __syncthreads();  // the unit before may still use shared memory
  attention::decode_split<Width, token_warps>(s.size, s.q, s.k, s.v, s.out, nullptr, s.parts, head, unit % s.splits, s.splits);
  if (s.splits == 1) return;
  __syncthreads();
  if (threadIdx.x == 0) *is_last = arrive(s.arrived + head) == static_cast<unsigned>(s.splits) - 1;
  __syncthreads();
  if (!*is_last) return;
  attention::combine_splits<Width>(s.size, s.splits, s.parts, s.out, nullptr, head);
  if (threadIdx.x == 0) s.arrived[head] = 0;  // for the next token
}

/// The first of a step's units that a block runs; the others are `blocks` apart.
__device__ __forceinline__ int first_unit(const token_step& s, int block, int blocks) {
  return (block + blocks - s.first % blocks) % blocks;
}

/// Runs all steps for one token. `counters` are 0 before and after.   Cooperative; any number of blocks.
template <int Width>
__global__ void __launch_bounds__(token_threads, 1) run_steps(const token_step* all, int count, token_counters* counters) {
  auto* const steps = reinterpret_cast<token_step*>(dynamic_shared());
  auto* const rows = reinterpret_cast<float*>(dynamic_shared() + bytes_of_steps(count));
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  {
    const auto* const from = reinterpret_cast<const std::uint64_t*>(all);
    auto* const to = reinterpret_cast<std::uint64_t*>(steps);
    for (int i = thread; i < count * static_cast<int>(sizeof(token_step) / 8); i += token_threads) to[i] = from[i];
  }
  __syncthreads();
  for (int begin = 0, end = 0; begin < count; begin = end) {
    const int phase = steps[begin].phase;
    while (end < count && steps[end].phase == phase) ++end;
    for (int i = end; i < count && steps[i].phase == steps[end].phase; ++i)
      if (const token_step& s = steps[i]; s.does == token_step::what::multiply) {
        const index unit_bytes = static_cast<index>(columns_of_unit(s.lanes)) * s.depth * (s.weights.is_bf16 ? 2 : 4);
        const index bytes = static_cast<index>(s.columns) * s.depth * (s.weights.is_bf16 ? 2 : 4);
        for (int unit = first_unit(s, block, blocks); unit < s.units; unit += blocks)
          for (index at = unit * unit_bytes + thread * 128; at < (unit + 1) * unit_bytes && at < bytes; at += token_threads * 128)
            prefetch(static_cast<const std::byte*>(s.weights.data) + at);
      }
    for (int i = begin; i < end; ++i) {
      const token_step& s = steps[i];
      bool is_loaded = false;
      const auto load_x = [&] {
        if (!is_loaded) load_rows(s, s.x, rows);
        is_loaded = true;
      };
      for (int unit = first_unit(s, block, blocks); unit < s.units; unit += blocks) {
        switch (s.does) {
          case token_step::what::embed:
            for (int j = thread; j < s.columns; j += token_threads) {
              const float row = s.table.at(static_cast<index>(*s.token_at) * s.columns + j);
              store(s, 0, j, s.positions.data ? row + s.positions.at(*s.position * s.columns + j) : row);
            }
            break;
          case token_step::what::normalize:
            load_rows(s, s.x + unit * s.depth, rows);
            for (int j = thread; j < s.depth; j += token_threads) store(s, 0, unit * s.depth + j, rows[j]);
            break;
          case token_step::what::multiply:
            if (s.weights.is_bf16)
              s.rows == 1 ? multiply_unit<1, bf16>(s, rows, unit, load_x) : multiply_unit<token_rows, bf16>(s, rows, unit, load_x);
            else
              s.rows == 1 ? multiply_unit<1, float>(s, rows, unit, load_x) : multiply_unit<token_rows, float>(s, rows, unit, load_x);
            break;
          case token_step::what::attend:
            attend_unit<Width>(s, unit);
            break;
          case token_step::what::slide:
            if (const int j = unit * token_threads + thread; j < s.columns)
              attention::slide_column(s.held, 0, *s.position, 1, s.rows_per_position, s.memory + j, s.memory_stride);
            break;
          case token_step::what::copy:
            for (int j = thread; j < s.columns; j += token_threads)
              for (int r = 0; r < s.rows; ++r) store(s, r, j, s.x[r * s.x_stride + j]);
            break;
        }
      }
    }
    __syncthreads();
    if (end == count) break;
    if (thread == 0) {
      arrive(&counters->arrived);
      wait_for_arrivals(&counters->arrived, static_cast<unsigned>(blocks) * static_cast<unsigned>(phase + 1));
    }
    __syncthreads();
  }
  if (thread == 0 && arrive(&counters->ended) == static_cast<unsigned>(blocks) - 1) counters->arrived = counters->ended = 0;
}

}  // namespace fathom::cuda::kernel
