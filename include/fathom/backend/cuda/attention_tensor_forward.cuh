// Attention on tensor cores: forward (attention_tensor.cuh).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/attention_tensor_queries.cuh"
#include "fathom/backend/cuda/attention_tensor_tile.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"

namespace fathom::cuda::attention {

template <int Width>
constexpr std::size_t forward_shared = sizeof(bf16) * Width * (query_block<Width>::queries + 4 * query_block<Width>::keys);

/// One tile of keys: scores, a step of online softmax, and weighted sums.
///   left [2, steps]: a warp's queries;  o [2, Width / 8]: sums [16, 8];  largest, total [2, 2]: of
///     rows group and group + 8;  seen: visibility (Masked)
template <int Width, bool Masked, class Left>
__device__ __forceinline__ void forward_tile(const Left& left, const bf16* k_tile, const bf16* v_tile, float scale2,
                                             const seen_keys& seen, float (&o)[2][Width / 8][4], float (&largest)[2][2],
                                             float (&total)[2][2]) {
  constexpr int keys = query_block<Width>::keys, steps = Width / 16;
  const int member = thread() % 4;
  float x[2][keys / 8][4] = {};  // scores, then weights: [16, 8] each
  FATHOM_CUDA_UNROLL
  for (int step = 0; step < steps; ++step) {
    std::uint32_t a[2][4];
    left(a[0], 0, step);
    left(a[1], 1, step);
    FATHOM_CUDA_UNROLL
    for (int group = 0; group < keys / 16; ++group) {
      if (Masked && 16 * group >= seen.reach[0] && 16 * group >= seen.reach[1]) continue;
      std::uint32_t b[4];
      load_right_transposed<Width>(b, k_tile, 16 * group, step);
      FATHOM_CUDA_UNROLL
      for (int m = 0; m < 2; ++m) {
        if (Masked && 16 * group >= seen.reach[m]) continue;
        mma(x[m][2 * group], a[m], b[0], b[1]);
        mma(x[m][2 * group + 1], a[m], b[2], b[3]);
      }
    }
  }
  FATHOM_CUDA_UNROLL
  for (int m = 0; m < 2; ++m)
    FATHOM_CUDA_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (Masked && seen.hides) {
        FATHOM_CUDA_UNROLL
        for (int c = 0; c < keys / 8; ++c)
          FATHOM_CUDA_UNROLL
          for (int e = 0; e < 2; ++e)
            if (8 * c + 2 * member + e < seen.hidden[m][h]) x[m][c][2 * h + e] = -INFINITY;
      }
      float most = largest[m][h];
      FATHOM_CUDA_UNROLL
      for (int c = 0; c < keys / 8; ++c)
        FATHOM_CUDA_UNROLL
        for (int e = 0; e < 2; ++e) {
          float& score = x[m][c][2 * h + e];
          if (Masked && 8 * c + 2 * member + e >= seen.limit[m][h]) score = -INFINITY;
          most = fmaxf(most, score);
        }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float base = Masked && seen.hides && most == -INFINITY ? 0.0f : most;  // a row may have seen nothing yet
      const float factor = exp2_fast((largest[m][h] - base) * scale2), shift = base * scale2;
      largest[m][h] = most;
      float sum = 0;
      FATHOM_CUDA_UNROLL
      for (int c = 0; c < keys / 8; ++c)
        FATHOM_CUDA_UNROLL
        for (int e = 0; e < 2; ++e) {
          float& weight = x[m][c][2 * h + e];
          weight = exp2_fast(__fmaf_rn(weight, scale2, -shift));
          sum += weight;
        }
      total[m][h] = total[m][h] * factor + sum;
      FATHOM_CUDA_UNROLL
      for (int c = 0; c < Width / 8; ++c) {
        o[m][c][2 * h] *= factor;
        o[m][c][2 * h + 1] *= factor;
      }
    }
  FATHOM_CUDA_UNROLL
  for (int group = 0; group < keys / 16; ++group) {
    if (Masked && 16 * group >= seen.reach[0] && 16 * group >= seen.reach[1]) continue;
    std::uint32_t p[2][4];
    as_left(p[0], x[0][2 * group], x[0][2 * group + 1]);
    as_left(p[1], x[1][2 * group], x[1][2 * group + 1]);
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 16; ++c) {
      std::uint32_t b[4];
      load_right<Width>(b, v_tile, 16 * group, c);
      FATHOM_CUDA_UNROLL
      for (int m = 0; m < 2; ++m) {
        if (Masked && 16 * group >= seen.reach[m]) continue;
        mma(o[m][2 * c], p[m], b[0], b[1]);
        mma(o[m][2 * c + 1], p[m], b[2], b[3]);
      }
    }
  }
}

/// out = softmax(q k^T / sqrt(head_width)) v;  lse [rows, heads], unless it is null.  q, k, v: heads of Width columns
template <int Width, bool General, class T>
__global__ void __launch_bounds__(threads) forward(attention_size s, rows_of_heads<const bf16> q, rows_of_heads<const bf16> k,
                                                   rows_of_heads<const bf16> v, rows_of_heads<T> out, float* lse) {
  using sizes = query_block<Width>;
  constexpr int keys = sizes::keys, steps = sizes::steps;
  auto* const q_tile = reinterpret_cast<bf16*>(dynamic_shared());  // [queries, Width]
  bf16* const kv_tiles = q_tile + sizes::queries * Width;          // two buffers: keys, values [keys, Width]
  const rows_of_warp<Width, General> b(s, blockIdx.x);
  const int lane = thread() % 32, group = lane / 4;

  const bf16 *k_rows = k.at(b.memory, b.key_head), *v_rows = v.at(b.memory, b.key_head);  // of the next tile to load
  const auto load = [&](int tile) {
    bf16* const to = kv_tiles + tile % 2 * 2 * keys * Width;
    load_tile<Width, keys, threads>(to, k_rows, k.stride, b.seen - tile * keys);
    load_tile<Width, keys, threads>(to + keys * Width, v_rows, v.stride, b.seen - tile * keys);
    commit_copies();
    k_rows += keys * k.stride;
    v_rows += keys * v.stride;
  };
  load_tile<Width, sizes::queries, threads>(q_tile, q.at(b.row, b.at.head), q.stride, b.there);
  load(0);

  constexpr int in_registers = Width <= 32 ? 2 : Width <= 64 ? 1 : 0;  // of a warp's two groups of 16 queries
  std::uint32_t held[2][in_registers > 0 ? steps : 1][4];
  const auto left = [&](std::uint32_t (&a)[4], int m, int step) {
    if (m < in_registers) {
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = held[m][step][i];
    } else {
      load_left<Width>(a, q_tile, b.rows(m), step);
    }
  };
  float o[2][Width / 8][4] = {}, largest[2][2], total[2][2] = {};
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < 4; ++i) largest[i / 2][i % 2] = -INFINITY;
  const float scale2 = s.scale * log2_e;

  FATHOM_CUDA_ROLL
  for (int tile = 0; tile < b.tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // the tile has arrived; all threads are done with the one before
    if (tile + 1 < b.tiles) load(tile + 1);
    if (tile == 0) {
      FATHOM_CUDA_UNROLL
      for (int m = 0; m < in_registers; ++m)
        FATHOM_CUDA_UNROLL
        for (int step = 0; step < steps; ++step) load_left<Width>(held[m][step], q_tile, b.rows(m), step);
    }
    const bf16* const k_tile = kv_tiles + tile % 2 * 2 * keys * Width;
    if (b.is_full(tile)) {
      forward_tile<Width, false>(left, k_tile, k_tile + keys * Width, scale2, {}, o, largest, total);
    } else {
      const seen_keys seen = b.seen_of(tile);
      if (seen.reach[0] > 0 || seen.reach[1] > 0)
        forward_tile<Width, true>(left, k_tile, k_tile + keys * Width, scale2, seen, o, largest, total);
    }
  }

  const rows_of_warp<Width, General> to(s, opaque(blockIdx.x));  // recomputes b, which need not stay in registers
  FATHOM_CUDA_UNROLL
  for (int m = 0; m < 2; ++m) {
    FATHOM_CUDA_UNROLL
    for (int h = 0; h < 2; ++h) {
      total[m][h] += __shfl_xor_sync(0xffffffffu, total[m][h], 1);
      total[m][h] += __shfl_xor_sync(0xffffffffu, total[m][h], 2);
      const int row = to.rows(m) + group + 8 * h;
      if (lse && lane % 4 == 0 && row < to.there)
        lse[(to.row + row) * s.heads + to.at.head] = largest[m][h] * s.scale + logf(total[m][h]);
    }
    store_rows<Width>(o[m], 1 / total[m][0], 1 / total[m][1], q_tile + to.rows(m) * Width,
                      out.at(to.row + to.rows(m), to.at.head), out.stride, to.there - to.rows(m), s.head_width);
  }
}

}  // namespace fathom::cuda::attention
