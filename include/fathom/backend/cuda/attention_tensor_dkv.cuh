// Attention on tensor cores: the gradients of keys and values (attention_tensor.cuh).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/attention_tensor_tile.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

/// Tile sizes of the kernel that loops over queries for a block of keys.
template <int Width>
struct key_block {
  static constexpr int keys = 16 * warps, queries = 64;
  static constexpr int step_queries = Width == 64 ? 16 : 32;  // that a warp works on at a time
  static constexpr bool left_in_registers = Width <= 64;  // a warp's keys and values
  static constexpr int steps = Width / 16;
};
template <int Width>
constexpr std::size_t backward_keys_shared =
    sizeof(bf16) * Width * (4 * key_block<Width>::queries + (Width <= 64 ? 0 : 2 * key_block<Width>::keys)) +
    sizeof(float) * 4 * key_block<Width>::queries;

/// Which of a tile's queries see a warp's 16 keys: queries [first, end) see rows group and group + 8. No query before
/// `reach` sees any of the 16.
struct seeing_queries {
  int first[2], end[2], reach;
  bool hides;  // whether the window hides any of the block's keys from a query
};

/// One step over some of a tile's queries: scores [keys, queries], their gradients, and their part of dk and dv.
///   seen_by: visibility (Masked)
template <int Width, bool Masked, class Left, class LeftValues>
__device__ __forceinline__ void backward_keys_step(const Left& left, const LeftValues& left_values, const bf16* q_tile,
                                                   const bf16* dout_tile, const float* tile_lse, const float* tile_delta,
                                                   int query, float scale2, const seeing_queries& seen_by,
                                                   float (&dk)[Width / 8][4], float (&dv)[Width / 8][4]) {
  constexpr int queries = key_block<Width>::step_queries, steps = Width / 16;
  const int member = thread() % 4;
  float x[queries / 8][4] = {}, dp[queries / 8][4] = {};  // [16 keys, 8 queries] each
  FATHOM_CUDA_UNROLL
  for (int step = 0; step < steps; ++step) {
    std::uint32_t a[4], da[4];
    left(a, step);
    left_values(da, step);
    FATHOM_CUDA_UNROLL
    for (int group = 0; group < queries / 16; ++group) {
      if (Masked && query + 16 * group + 15 < seen_by.reach) continue;
      std::uint32_t b[4], c[4];
      load_right_transposed<Width>(b, q_tile, query + 16 * group, step);
      load_right_transposed<Width>(c, dout_tile, query + 16 * group, step);
      mma(x[2 * group], a, b[0], b[1]);
      mma(dp[2 * group], da, c[0], c[1]);
      mma(x[2 * group + 1], a, b[2], b[3]);
      mma(dp[2 * group + 1], da, c[2], c[3]);
    }
  }
  FATHOM_CUDA_UNROLL
  for (int c = 0; c < queries / 8; ++c) {
    const int column = query + 8 * c + 2 * member;
    const float2 lse = *reinterpret_cast<const float2*>(tile_lse + column);
    const float2 delta = *reinterpret_cast<const float2*>(tile_delta + column);
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < 4; ++i) {
      float weight = exp2_fast(__fmaf_rn(x[c][i], scale2, -log2_e * (i % 2 ? lse.y : lse.x)));
      if (Masked && column + i % 2 < seen_by.first[i / 2]) weight = 0;
      dp[c][i] = weight * (dp[c][i] - (i % 2 ? delta.y : delta.x));
      x[c][i] = weight;
    }
  }
  if (Masked && seen_by.hides) {
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < queries / 8; ++c)
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i)
        if (query + 8 * c + 2 * member + i % 2 >= seen_by.end[i / 2]) x[c][i] = dp[c][i] = 0;  // hidden rows may be NaN
  }
  FATHOM_CUDA_UNROLL
  for (int group = 0; group < queries / 16; ++group) {
    if (Masked && query + 16 * group + 15 < seen_by.reach) continue;
    std::uint32_t p[4], ds[4];
    as_left(p, x[2 * group], x[2 * group + 1]);
    as_left(ds, dp[2 * group], dp[2 * group + 1]);
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 16; ++c) {
      std::uint32_t b[4];
      load_right<Width>(b, dout_tile, query + 16 * group, c);
      mma(dv[2 * c], p, b[0], b[1]);
      mma(dv[2 * c + 1], p, b[2], b[3]);
    }
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 16; ++c) {
      std::uint32_t b[4];
      load_right<Width>(b, q_tile, query + 16 * group, c);
      mma(dk[2 * c], ds, b[0], b[1]);
      mma(dk[2 * c + 1], ds, b[2], b[3]);
    }
  }
}

/// dv = p^T dout;  dk = ds^T q / sqrt(head_width); 0 for rows of memory that no query sees.
template <int Width, bool General, class T>
__global__ void __launch_bounds__(threads, Width <= 64 ? 3 : 1)
    backward_keys(attention_size s, rows_of_heads<const bf16> q, rows_of_heads<const bf16> k, rows_of_heads<const bf16> v,
                  rows_of_heads<const bf16> dout, const float* lse, const float* delta, rows_of_heads<T> dk,
                  rows_of_heads<T> dv) {
  using sizes = key_block<Width>;
  constexpr int keys = sizes::keys, queries = sizes::queries, steps = sizes::steps;
  auto* const tiles = reinterpret_cast<bf16*>(dynamic_shared());                   // two buffers: queries, dout
  auto* const numbers = reinterpret_cast<float*>(tiles + 4 * queries * Width);     // two buffers: lse, delta

  const block_of_keys<General> b(s, blockIdx.x, keys);
  const part& at = b.at;
  const int start = b.start, depths = s.rows_per_position, first = b.first;
  const index memory = s.memory_row(at.sequence) + first;
  const int warp_row = 16 * (thread() / 32), lane = thread() % 32, group = lane / 4;
  /// The first query that sees row `row` of the block, and the first that no longer does.
  const auto first_to_see = [&](int row) { return (first + row) / depths - start; };
  const auto end_of_seeing = [&](int row) { return (first + row + s.window_rows) / depths - start; };

  float dk_sums[Width / 8][4] = {}, dv_sums[Width / 8][4] = {};
  if (b.is_seen()) {
    const int first_tile = b.first_query / queries, tile_count = (b.end_query + queries - 1) / queries;
    const index row = static_cast<index>(at.sequence) * s.queries + first_tile * queries;  // of the first tile
    int head = General ? at.head * s.group : at.head;                                      // of queries
    const bf16 *q_rows = q.at(row, head), *dout_rows = dout.at(row, head);                 // of the next tile to load
    static_assert(threads == 2 * queries);
    const float* number = (thread() < queries ? lse : delta) + (row + thread() % queries) * s.heads + head;
    const auto load = [&](int tile) {
      const int place = tile % 2, there_too = s.queries - tile * queries;
      bf16* const to = tiles + place * 2 * queries * Width;
      load_tile<Width, queries, threads>(to, q_rows, q.stride, there_too);
      load_tile<Width, queries, threads>(to + queries * Width, dout_rows, dout.stride, there_too);
      copy_async<4>(numbers + place * 2 * queries + thread(), number, thread() % queries < there_too);
      commit_copies();
      q_rows += queries * q.stride;
      dout_rows += queries * dout.stride;
      number += queries * s.heads;
    };
    // Keys and values [keys, Width]: in their own buffer, or in the second tile's until they are in registers.
    bf16* const k_tile = sizes::left_in_registers ? tiles + (first_tile + 1) % 2 * 2 * queries * Width
                                                  : reinterpret_cast<bf16*>(numbers + 4 * queries);
    bf16* const v_tile = k_tile + keys * Width;
    static_assert(keys <= queries);
    load_tile<Width, keys, threads>(k_tile, k.at(memory, at.head), k.stride, b.seen);
    load_tile<Width, keys, threads>(v_tile, v.at(memory, at.head), v.stride, b.seen);
    load(first_tile);

    constexpr int held_steps = sizes::left_in_registers ? steps : 1;
    std::uint32_t held[held_steps][4], held_values[held_steps][4];
    const auto left = [&](std::uint32_t (&a)[4], int step) {
      if constexpr (sizes::left_in_registers) {
        FATHOM_CUDA_UNROLL
        for (int i = 0; i < 4; ++i) a[i] = held[step][i];
      } else {
        load_left<Width>(a, k_tile, warp_row, step);
      }
    };
    const auto left_values = [&](std::uint32_t (&a)[4], int step) {
      if constexpr (sizes::left_in_registers) {
        FATHOM_CUDA_UNROLL
        for (int i = 0; i < 4; ++i) a[i] = held_values[step][i];
      } else {
        load_left<Width>(a, v_tile, warp_row, step);
      }
    };
    const float scale2 = s.scale * log2_e;
    if constexpr (sizes::left_in_registers) {
      wait_copies<0>();
      __syncthreads();
      FATHOM_CUDA_UNROLL
      for (int step = 0; step < steps; ++step) {
        load_left<Width>(held[step], k_tile, warp_row, step);
        load_left<Width>(held_values[step], v_tile, warp_row, step);
      }
    }
    FATHOM_CUDA_ROLL
    for (;;) {
      FATHOM_CUDA_ROLL
      for (int tile = first_tile; tile < tile_count; ++tile) {
        wait_copies<0>();
        __syncthreads();  // the tile has arrived; nobody uses the one before, or keys and values there
        if (tile + 1 < tile_count) load(tile + 1);
        const int place = tile % 2, query = tile * queries;
        const bf16* const q_tile = tiles + place * 2 * queries * Width;
        const bf16* const dout_tile = q_tile + queries * Width;
        const float* const tile_lse = numbers + place * 2 * queries;
        const float* const tile_delta = tile_lse + queries;
        const bool hides = General && (start + query + queries) * depths - s.window_rows > first;
        if ((start + query + 1) * depths >= first + keys && !hides) {
          FATHOM_CUDA_ROLL
          for (int from = 0; from < queries; from += sizes::step_queries)
            backward_keys_step<Width, false>(left, left_values, q_tile, dout_tile, tile_lse, tile_delta, from, scale2, {},
                                             dk_sums, dv_sums);
        } else {
          seeing_queries seen_by;
          seen_by.hides = hides;
          FATHOM_CUDA_UNROLL
          for (int h = 0; h < 2; ++h) {
            seen_by.first[h] = first_to_see(warp_row + group + 8 * h) - query;
            seen_by.end[h] = hides ? end_of_seeing(warp_row + group + 8 * h) - query : queries;
          }
          seen_by.reach = first_to_see(warp_row) - query;
          const int end = hides ? smaller(queries, end_of_seeing(warp_row + 15) - query) : queries;
          FATHOM_CUDA_ROLL
          for (int from = 0; from < end; from += sizes::step_queries)
            if (from + sizes::step_queries > seen_by.reach)
              backward_keys_step<Width, true>(left, left_values, q_tile, dout_tile, tile_lse, tile_delta, from, scale2, seen_by,
                                              dk_sums, dv_sums);
        }
      }
      __syncthreads();  // all threads are done with the tiles
      if (!General || ++head == (at.head + 1) * s.group) break;
      q_rows = q.at(row, head);
      dout_rows = dout.at(row, head);
      number = (thread() < queries ? lse : delta) + (row + thread() % queries) * s.heads + head;
      load(first_tile);
    }
  }
  bf16* const stage = tiles + warp_row * Width;
  const index row = memory + warp_row;
  store_rows<Width>(dk_sums, s.scale, s.scale, stage, dk.at(row, at.head), dk.stride, b.there - warp_row, s.head_width);
  store_rows<Width>(dv_sums, 1.0f, 1.0f, stage, dv.at(row, at.head), dv.stride, b.there - warp_row, s.head_width);
}

}  // namespace fathom::cuda::attention
