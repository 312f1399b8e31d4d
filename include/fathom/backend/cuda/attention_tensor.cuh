// The kernels of attention with bf16 operands, on tensor cores: forward, and backward in two.
//
// Flash attention (Dao, arXiv 2307.08691): a block of queries goes over the keys tile by tile; scores exist in registers only,
// and a running largest score and sum make the softmax. In base 2: exp(scale x) = 2^(scale log2(e) x), one multiply-add.
//
// What a query sees is the prefix of (start + query + 1) D rows, or what a window leaves of it (operations.hpp, attention_shape).
// So a block's tiles are of three kinds: seen by all of its queries, which have no mask; seen by some, where the products of 16 keys
// and 16 queries that do not meet are left out; and the rest, which are not looked at. Nothing depends on D but where they begin
// and end. Heads of queries that share a head of keys and values read it one by one; the kernel for dk and dv goes over them in turn.
//
// Who does what, for heads of 64 columns (how many registers a lane has for it):
//   forward  a block: 128 queries, 4 warps of 32; tiles of 64 keys. A warp has scores [32, 64] (64), sums [32, 64] (64) and half
//            of its queries (16). Two blocks share a multiprocessor. Each fragment of keys or values that is read from shared
//            memory feeds 4 matrix instructions, so that shared memory is not what limits.
//   dq       a block: 128 queries, 4 warps of 32; tiles of 64 keys, of which 16 at a time: scores and their gradients [32, 16]
//            (16 each), dq [32, 64] (64), queries and dout (32 each). Two blocks share a multiprocessor.
//   dk, dv   a block: 64 keys, 4 warps of 16; tiles of 64 queries, of which 16 at a time: scores and their gradients
//            transposed, [16, 16] (8 each), so that they are the left operands of dv += p^T dout and dk += ds^T q as they are;
//            dk, dv [16, 64] (32 each), keys and values (16 each). Three blocks share a multiprocessor.
// A warp's two times 16 queries are those of mirrored places (0 and 7, 1 and 6, ...): all warps have the same share of what the
// mask leaves.
//
// Backward computes scores and their gradients twice, 7 products instead of 5. For that it has: no atomic operations, sums in
// one order and so the same bits every time; no memory for sums, and no pass over them; blocks that are independent of each
// other, as many as there are keys and queries; and no exchange of ds through shared memory. In one kernel, dq would have to be
// added to by all blocks of keys in turn: by one block for each head, of which there are often too few to fill the machine;
// or into one copy for each block of keys, which together are as large as the scores.
//
// Tiles come by cp.async into one of two places while the other is worked on: one barrier a tile. In a tile's rows the groups
// of 8 numbers (16 bytes) lie in an order that depends on the row (`swizzled`), so that the 8 rows which one ldmatrix reads lie
// in different banks.
//
// Blocks with the longest rows come first; heads so many at a time that their keys and values stay in the second-level cache.
#pragma once

#include <cstdint>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

namespace attention {

/// Where the 8 numbers `chunk` of a row of a tile [rows, Width] lie in it.
template <int Width>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  constexpr int shift = Width >= 64 ? 0 : Width == 32 ? 1 : 2;  // 1, 2, 4 rows fill the 128 bytes of all banks
  constexpr int chunks = Width >= 64 ? 8 : Width / 8;
  return row * Width + (chunk ^ ((row >> shift) & (chunks - 1))) * 8;
}

/// Begins to copy x [Rows, Width], of which the first `there` rows exist and the others become 0, to a tile.
template <int Width, int Rows, int Threads>
__device__ __forceinline__ void load_tile(bf16* tile, const bf16* x, index stride, int there) {
  constexpr int chunks = Width / 8, turns = Rows * chunks / Threads;
  static_assert(turns * Threads == Rows * chunks);
  const int first = thread() / chunks, chunk = thread() % chunks;
  const bf16* from = x + first * stride + chunk * 8;
  FATHOM_CUDA_UNROLL
  for (int turn = 0; turn < turns; ++turn) {
    const int row = first + turn * (Threads / chunks);
    copy_async(tile + swizzled<Width>(row, chunk), from, row < there);
    from += Threads / chunks * stride;
  }
}

/// Left operand of a product, [16, 16]: rows [row, row + 16) of the tile, columns [16 step, 16 step + 16).
template <int Width>
__device__ __forceinline__ void load_left(std::uint32_t (&a)[4], const bf16* tile, int row, int step) {
  const int lane = thread() % 32;
  load_matrices(a, tile + swizzled<Width>(row + lane % 16, 2 * step + lane / 16));
}
/// Two right operands, [16, 8] each: the tile's columns [16 step, + 16) down, its rows [row, row + 8) and [row + 8, row + 16)
/// across, in b[0], b[1] and b[2], b[3].
template <int Width>
__device__ __forceinline__ void load_right_transposed(std::uint32_t (&b)[4], const bf16* tile, int row, int step) {
  const int lane = thread() % 32;
  load_matrices(b, tile + swizzled<Width>(row + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
}
/// Two right operands, [16, 8] each: the tile's rows [row, row + 16) down, its columns [16 step, + 8) and [16 step + 8, + 8)
/// across.
template <int Width>
__device__ __forceinline__ void load_right(std::uint32_t (&b)[4], const bf16* tile, int row, int step) {
  const int lane = thread() % 32;
  load_matrices<true>(b, tile + swizzled<Width>(row + lane % 16, 2 * step + lane / 16));
}
/// Sums of two neighbouring products [16, 8] as the left operand [16, 16] of the next product.
__device__ __forceinline__ void as_left(std::uint32_t (&a)[4], const float (&x)[4], const float (&y)[4]) {
  a[0] = pack_bf16(x[0], x[1]);
  a[1] = pack_bf16(x[2], x[3]);
  a[2] = pack_bf16(y[0], y[1]);
  a[3] = pack_bf16(y[2], y[3]);
}

/// to [16, head_width] = (upper, lower) sums [16, Width], rows group and group + 8 times their factor; rows from `there` on and
/// columns from head_width on are left out. `stage` is a warp's own room for [16, Width] bf16, which none of it reads any more.
template <int Width, class T>
__device__ __forceinline__ void store_rows(const float (&sums)[Width / 8][4], float upper, float lower, bf16* stage, T* to,
                                           index stride, int there, int head_width) {
  const int lane = thread() % 32, group = lane / 4, member = lane % 4;
  constexpr int together = 16 / static_cast<int>(sizeof(T));
  const bool whole = head_width == Width && reinterpret_cast<std::uintptr_t>(to) % 16 == 0 && stride % together == 0;
  if (!whole) {
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 8; ++c)
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = group + i / 2 * 8, column = 8 * c + 2 * member + i % 2;
        if (row < there && column < head_width)
          to[row * stride + column] = from_float<T>(sums[c][i] * (i / 2 ? lower : upper));
      }
  } else if constexpr (std::is_same_v<T, float>) {  // four lanes write the 32 bytes of a sector
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 8; ++c) {
      float* const at = to + group * stride + 8 * c + 2 * member;
      if (group < there) *reinterpret_cast<float2*>(at) = make_float2(sums[c][0] * upper, sums[c][1] * upper);
      if (group + 8 < there) *reinterpret_cast<float2*>(at + 8 * stride) = make_float2(sums[c][2] * lower, sums[c][3] * lower);
    }
  } else {
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 8; ++c) {
      const auto at = [&](int row) { return reinterpret_cast<std::uint32_t*>(stage + swizzled<Width>(row, c) + 2 * member); };
      *at(group) = pack_bf16(sums[c][0] * upper, sums[c][1] * upper);
      *at(group + 8) = pack_bf16(sums[c][2] * lower, sums[c][3] * lower);
    }
    __syncwarp();
    constexpr int chunks = Width / 8;
    for (int i = lane; i < 16 * chunks; i += 32) {
      const int row = i / chunks, chunk = i % chunks;
      if (row < there)
        *reinterpret_cast<uint4*>(to + row * stride + chunk * 8) =
            *reinterpret_cast<const uint4*>(stage + swizzled<Width>(row, chunk));
    }
    __syncwarp();
  }
}

// ---- Forward ---------------------------------------------------------------------------------------------------------

inline constexpr int warps = 4, threads = 32 * warps;  // of a block

/// Tiles of the kernels that go over keys for a block of queries.
template <int Width>
struct query_block {
  static constexpr int queries = 128, keys = Width <= 64 ? 64 : 32;
  static constexpr int step_keys = Width <= 32 ? 32 : 16;  // that the kernel for dq works on at one time
  static constexpr bool left_in_registers = Width <= 64;  // a warp's queries, in the kernel for dq
  static constexpr int steps = Width / 16;                // of depth
};
template <int Width>
constexpr std::size_t forward_shared = sizeof(bf16) * Width * (query_block<Width>::queries + 4 * query_block<Width>::keys);

/// Which of a tile's keys a warp's two times 16 queries see: rows group and group + 8 of them [hidden, limit). From `reach` on, none
/// of the 16 sees any.
struct seen_keys {
  int limit[2][2], hidden[2][2], reach[2];
  bool hides;  // whether any of the block's queries has hidden keys
};

/// One tile of keys: scores, softmax so far, and sums.
///   left [2, steps]: a warp's queries;  o [2, Width / 8]: sums [16, 8];  largest, total [2, 2]: of rows group and group + 8
///   seen: what the queries see (Masked)
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

/// The rows of a block of queries that a thread's warp works on.
template <int Width, bool General>
struct rows_of_warp : block_of_queries<query_block<Width>::queries, query_block<Width>::keys, General> {
  using block_of_queries<query_block<Width>::queries, query_block<Width>::keys, General>::block_of_queries;

  /// Where the first (0) or second (1) 16 of them begin.
  [[nodiscard]] static __device__ __forceinline__ int rows(int m) {
    const int warp = thread() / 32;
    return 16 * (m == 0 ? warp : query_block<Width>::queries / 16 - 1 - warp);
  }
  /// Whether all of the block's queries see all of a tile.
  [[nodiscard]] __device__ __forceinline__ bool is_full(int tile) const {
    return tile < this->full && !this->hides_any(tile * query_block<Width>::keys);
  }
  /// What they see of a tile.
  [[nodiscard]] __device__ __forceinline__ seen_keys seen_of(int tile) const {
    constexpr int keys = query_block<Width>::keys;
    const int group = thread() % 32 / 4, key = tile * keys;
    seen_keys found;
    found.hides = this->hides_any(key);
    FATHOM_CUDA_UNROLL
    for (int m = 0; m < 2; ++m) {
      FATHOM_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        found.limit[m][h] = this->sees(rows(m) + group + 8 * h, key);
        found.hidden[m][h] = General ? this->hides(rows(m) + group + 8 * h, key) : 0;
      }
      found.reach[m] = found.hides && this->hides(rows(m), key) >= keys ? 0 : this->sees(rows(m) + 15, key);
    }
    return found;
  }
};

/// out = softmax(q k^T / sqrt(head_width)) v;  lse [rows, heads], unless it is null.  q, k, v: heads of Width columns
template <int Width, bool General, class T>
__global__ void __launch_bounds__(threads) forward(attention_size s, rows_of_heads<const bf16> q, rows_of_heads<const bf16> k,
                                                   rows_of_heads<const bf16> v, rows_of_heads<T> out, float* lse) {
  using sizes = query_block<Width>;
  constexpr int keys = sizes::keys, steps = sizes::steps;
  auto* const q_tile = reinterpret_cast<bf16*>(dynamic_shared());  // [queries, Width]
  bf16* const kv_tiles = q_tile + sizes::queries * Width;          // 2 times: keys, values [keys, Width]
  const rows_of_warp<Width, General> b(s, blockIdx.x);
  const int lane = thread() % 32, group = lane / 4;

  const bf16 *k_rows = k.at(b.memory, b.key_head), *v_rows = v.at(b.memory, b.key_head);  // of the tile that is loaded next
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

  constexpr int in_registers = Width <= 32 ? 2 : Width <= 64 ? 1 : 0;  // of a warp's two times 16 queries
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
    __syncthreads();  // the tile is there, and none reads the one before any more
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

  const rows_of_warp<Width, General> to(s, opaque(blockIdx.x));  // as b, anew: less is held in registers until here
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

// ---- Backward: dq ----------------------------------------------------------------------------------------------------

template <int Width>
constexpr std::size_t backward_queries_shared =
    sizeof(bf16) * Width * (2 * query_block<Width>::queries + 4 * query_block<Width>::keys);

/// Some of a tile's keys: scores, their gradients, and what they add to dq.
///   lse2, delta [2, 2]: of rows group and group + 8 of a warp's two times 16 queries
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
  bf16* const kv_tiles = dout_tile + sizes::queries * Width;        // 2 times: keys, values [keys, Width]
  const rows_of_warp<Width, General> b(s, blockIdx.x);
  const int group = thread() % 32 / 4;

  const bf16 *k_rows = k.at(b.memory, b.key_head), *v_rows = v.at(b.memory, b.key_head);  // of the tile that is loaded next
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

  float row_lse2[2][2], row_delta[2][2];  // of rows that are not there: 0, as are their queries and dout
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
    __syncthreads();  // the tile is there, and none reads the one before any more
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

// ---- Backward: dk, dv ------------------------------------------------------------------------------------------------

/// Tiles of the kernel that goes over queries for a block of keys.
template <int Width>
struct key_block {
  static constexpr int keys = 16 * warps, queries = 64;
  static constexpr int step_queries = Width == 64 ? 16 : 32;  // that a warp works on at one time
  static constexpr bool left_in_registers = Width <= 64;  // a warp's keys and values
  static constexpr int steps = Width / 16;
};
template <int Width>
constexpr std::size_t backward_keys_shared =
    sizeof(bf16) * Width * (4 * key_block<Width>::queries + (Width <= 64 ? 0 : 2 * key_block<Width>::keys)) +
    sizeof(float) * 4 * key_block<Width>::queries;

/// Which of a tile's queries see a warp's 16 keys: rows group and group + 8 of them are seen by [first, end). Before `reach`, no query
/// sees any of the 16.
struct seeing_queries {
  int first[2], end[2], reach;
  bool hides;  // whether any of the block's keys is hidden from a query behind it
};

/// Some of a tile's queries: scores [keys, queries], their gradients, and what they add to dk and dv.
///   seen_by: which of them see what (Masked)
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
        if (query + 8 * c + 2 * member + i % 2 >= seen_by.end[i / 2]) x[c][i] = dp[c][i] = 0;  // hidden rows may hold anything
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

/// dv = p^T dout;  dk = ds^T q / sqrt(head_width); of rows of memory that no query sees, 0.
template <int Width, bool General, class T>
__global__ void __launch_bounds__(threads, Width <= 64 ? 3 : 1)
    backward_keys(attention_size s, rows_of_heads<const bf16> q, rows_of_heads<const bf16> k, rows_of_heads<const bf16> v,
                  rows_of_heads<const bf16> dout, const float* lse, const float* delta, rows_of_heads<T> dk,
                  rows_of_heads<T> dv) {
  using sizes = key_block<Width>;
  constexpr int keys = sizes::keys, queries = sizes::queries, steps = sizes::steps;
  auto* const tiles = reinterpret_cast<bf16*>(dynamic_shared());                   // 2 times: queries, dout [queries, Width]
  auto* const numbers = reinterpret_cast<float*>(tiles + 4 * queries * Width);     // 2 times: lse, delta [queries]

  const block_of_keys<General> b(s, blockIdx.x, keys);
  const part& at = b.at;
  const int start = b.start, depths = s.rows_per_position, first = b.first;
  const index memory = s.memory_row(at.sequence) + first;
  const int warp_row = 16 * (thread() / 32), lane = thread() % 32, group = lane / 4;
  /// The first query that sees the row `row` of the block, and the first that does not see it any more.
  const auto first_to_see = [&](int row) { return (first + row) / depths - start; };
  const auto end_of_seeing = [&](int row) { return (first + row + s.window_rows) / depths - start; };

  float dk_sums[Width / 8][4] = {}, dv_sums[Width / 8][4] = {};
  if (b.is_seen()) {
    const int first_tile = b.first_query / queries, tile_count = (b.end_query + queries - 1) / queries;
    const index row = static_cast<index>(at.sequence) * s.queries + first_tile * queries;  // of the first tile
    int head = General ? at.head * s.group : at.head;                                      // of queries
    const bf16 *q_rows = q.at(row, head), *dout_rows = dout.at(row, head);                 // of the tile that is loaded next
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
    // Keys and values [keys, Width]: for good, or in the second tile's place until they are in registers.
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
        __syncthreads();  // the tile is there, and none reads the one before, or keys and values in its place, any more
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
      __syncthreads();  // none reads tiles any more
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

}  // namespace attention
}  // namespace fathom::cuda
