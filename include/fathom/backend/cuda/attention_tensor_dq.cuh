// Attention on tensor cores: the gradient of queries (attention_tensor.cuh).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/attention_tensor_queries.cuh"
#include "fathom/backend/cuda/attention_tensor_tile.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

template <int Width>
constexpr std::size_t backward_queries_shared =
    sizeof(bf16) * Width * (2 * query_block<Width>::queries + 4 * query_block<Width>::keys);

/// One step over some of a tile's keys: scores, their gradients, and their part of dq.
///   lse2, delta [2, 2]: of rows group and group + 8 of a warp's two groups of 16 queries
template <int Width, bool Masked, class Left, class LeftGradient>
__device__ __forceinline__ void backward_queries_step(const Left& left, const LeftGradient& left_gradient, const bf16* k_tile,
                                                      const bf16* v_tile, int key, float scale2, const float (&lse2)[2][2],
                                                      const float (&delta)[2][2], const seen_keys& seen,
                                                      float (&dq)[2][Width / 8][4]) {
  constexpr int keys = query_block<Width>::step_keys, steps = Width / 16;
  const int member = thread() % 4;
  float x[2][keys / 8][4] = {};   // scores, then their gradients [16, 8]
  float dp[2][keys / 8][4] = {};  // gradients of weights
  FATHOM_CUDA_UNROLL
  for (int step = 0; step < steps; ++step) {
    std::uint32_t a[2][4], da[2][4];
    FATHOM_CUDA_UNROLL
    for (int m = 0; m < 2; ++m) {
      left(a[m], m, step);
      left_gradient(da[m], m, step);
    }
    FATHOM_CUDA_UNROLL
    for (int group = 0; group < keys / 16; ++group) {
      if (Masked && key + 16 * group >= seen.reach[0] && key + 16 * group >= seen.reach[1]) continue;
      std::uint32_t b[4], c[4];
      load_right_transposed<Width>(b, k_tile, key + 16 * group, step);
      load_right_transposed<Width>(c, v_tile, key + 16 * group, step);
      FATHOM_CUDA_UNROLL
      for (int m = 0; m < 2; ++m) {
        if (Masked && key + 16 * group >= seen.reach[m]) continue;
        mma(x[m][2 * group], a[m], b[0], b[1]);
        mma(dp[m][2 * group], da[m], c[0], c[1]);
        mma(x[m][2 * group + 1], a[m], b[2], b[3]);
        mma(dp[m][2 * group + 1], da[m], c[2], c[3]);
      }
    }
  }
  FATHOM_CUDA_UNROLL
  for (int m = 0; m < 2; ++m)
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < keys / 8; ++c)
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int h = i / 2;
        float weight = exp2_fast(__fmaf_rn(x[m][c][i], scale2, -lse2[m][h]));
        if (Masked && key + 8 * c + 2 * member + i % 2 >= seen.limit[m][h]) weight = 0;
        x[m][c][i] = weight * (dp[m][c][i] - delta[m][h]);
      }
  if (Masked && seen.hides) {
    FATHOM_CUDA_UNROLL
    for (int m = 0; m < 2; ++m)
      FATHOM_CUDA_UNROLL
      for (int c = 0; c < keys / 8; ++c)
        FATHOM_CUDA_UNROLL
        for (int i = 0; i < 4; ++i)
          if (key + 8 * c + 2 * member + i % 2 < seen.hidden[m][i / 2]) x[m][c][i] = 0;
  }
  FATHOM_CUDA_UNROLL
  for (int group = 0; group < keys / 16; ++group) {
    if (Masked && key + 16 * group >= seen.reach[0] && key + 16 * group >= seen.reach[1]) continue;
    std::uint32_t ds[2][4];
    as_left(ds[0], x[0][2 * group], x[0][2 * group + 1]);
    as_left(ds[1], x[1][2 * group], x[1][2 * group + 1]);
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 16; ++c) {
      std::uint32_t b[4];
      load_right<Width>(b, k_tile, key + 16 * group, c);
      FATHOM_CUDA_UNROLL
      for (int m = 0; m < 2; ++m) {
        if (Masked && key + 16 * group >= seen.reach[m]) continue;
        mma(dq[m][2 * c], ds[m], b[0], b[1]);
        mma(dq[m][2 * c + 1], ds[m], b[2], b[3]);
      }
    }
  }
}

/// dq = ds k / sqrt(head_width), where p = exp(q k^T / sqrt(head_width) - lse) and ds = p (dout v^T - delta)
///   lse, delta [rows, heads]
template <int Width, bool General, class T>
__global__ void __launch_bounds__(threads)
    backward_queries(attention_size s, rows_of_heads<const bf16> q, rows_of_heads<const bf16> k, rows_of_heads<const bf16> v,
                     rows_of_heads<const bf16> dout, const float* lse, const float* delta, rows_of_heads<T> dq) {
  using sizes = query_block<Width>;
  constexpr int keys = sizes::keys, steps = sizes::steps;
  auto* const q_tile = reinterpret_cast<bf16*>(dynamic_shared());   // [queries, Width]
  bf16* const dout_tile = q_tile + sizes::queries * Width;          // [queries, Width]
  bf16* const kv_tiles = dout_tile + sizes::queries * Width;        // two buffers: keys, values [keys, Width]
  const rows_of_warp<Width, General> b(s, blockIdx.x);
  const int group = thread() % 32 / 4;

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
  load_tile<Width, sizes::queries, threads>(dout_tile, dout.at(b.row, b.at.head), dout.stride, b.there);
  load(0);

  float row_lse2[2][2], row_delta[2][2];  // rows beyond the end: 0, as are their queries and dout
  FATHOM_CUDA_UNROLL
  for (int m = 0; m < 2; ++m)
    FATHOM_CUDA_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = b.rows(m) + group + 8 * h;
      const index at = (b.row + row) * s.heads + b.at.head;
      row_lse2[m][h] = row < b.there ? lse[at] * log2_e : 0.0f;
      row_delta[m][h] = row < b.there ? delta[at] : 0.0f;
    }

  constexpr int held_steps = sizes::left_in_registers ? steps : 1;
  std::uint32_t held[2][held_steps][4], held_gradient[2][held_steps][4];
  const auto left = [&](std::uint32_t (&a)[4], int m, int step) {
    if constexpr (sizes::left_in_registers) {
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = held[m][step][i];
    } else {
      load_left<Width>(a, q_tile, b.rows(m), step);
    }
  };
  const auto left_gradient = [&](std::uint32_t (&a)[4], int m, int step) {
    if constexpr (sizes::left_in_registers) {
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = held_gradient[m][step][i];
    } else {
      load_left<Width>(a, dout_tile, b.rows(m), step);
    }
  };
  float sums[2][Width / 8][4] = {};
  const float scale2 = s.scale * log2_e;

  FATHOM_CUDA_ROLL
  for (int tile = 0; tile < b.tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // the tile has arrived; all threads are done with the one before
    if (tile + 1 < b.tiles) load(tile + 1);
    if constexpr (sizes::left_in_registers)
      if (tile == 0) {
        FATHOM_CUDA_UNROLL
        for (int m = 0; m < 2; ++m)
          FATHOM_CUDA_UNROLL
          for (int step = 0; step < steps; ++step) {
            load_left<Width>(held[m][step], q_tile, b.rows(m), step);
            load_left<Width>(held_gradient[m][step], dout_tile, b.rows(m), step);
          }
      }
    const bf16* const k_tile = kv_tiles + tile % 2 * 2 * keys * Width;
    const bf16* const v_tile = k_tile + keys * Width;
    if (b.is_full(tile)) {
      FATHOM_CUDA_ROLL
      for (int key = 0; key < keys; key += sizes::step_keys)
        backward_queries_step<Width, false>(left, left_gradient, k_tile, v_tile, key, scale2, row_lse2, row_delta, {}, sums);
    } else {
      const seen_keys seen = b.seen_of(tile);
      FATHOM_CUDA_ROLL
      for (int key = 0; key < larger(seen.reach[0], seen.reach[1]) && key < keys; key += sizes::step_keys)
        backward_queries_step<Width, true>(left, left_gradient, k_tile, v_tile, key, scale2, row_lse2, row_delta, seen, sums);
    }
  }
  const rows_of_warp<Width, General> to(s, opaque(blockIdx.x));
  FATHOM_CUDA_UNROLL
  for (int m = 0; m < 2; ++m)
    store_rows<Width>(sums[m], s.scale, s.scale, q_tile + to.rows(m) * Width, dq.at(to.row + to.rows(m), to.at.head), dq.stride,
                      to.there - to.rows(m), s.head_width);
}

}  // namespace fathom::cuda::attention
