// Attention kernels in float, without tensor cores (which would round operands to TF32), for heads up to 256 wide.
//
// Work is divided as on tensor cores (attention_tensor.cuh), among blocks of 16 x 16 threads. A block multiplies its
// own `left` rows (queries; for dk and dv: keys) with tiles of `right` rows. Thread (y, x) has the scores of the left
// rows y + 16 i and the right rows x + 16 j, and, for its left rows, the columns of results that column() gives. The 16
// threads of a left row are in one warp, so they exchange weights through shared memory without a block barrier.
//
// Rows are Width + 4 floats apart in shared memory, so that 8 threads that read four floats each of 8 rows use
// different banks. Heads narrower than Width are zero-padded there.
#pragma once

#include <cstdint>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

inline constexpr int plain_threads = 256;

template <int Width>
struct plain_block {
  static constexpr int left = Width <= 64 ? 64 : Width == 128 ? 32 : 16, right = Width <= 64 ? 32 : 16;
  static constexpr int row = Width + 4, weight_row = right + 4;  // strides
  static constexpr int i = left / 16, j = right / 16, c = Width / 16;  // per thread: left rows, right rows, columns
  static constexpr std::size_t forward_shared = sizeof(float) * ((left + 4 * right) * row + left * weight_row);
  static constexpr std::size_t backward_queries_shared = sizeof(float) * ((2 * left + 4 * right) * row + left * weight_row);
  static constexpr std::size_t backward_keys_shared =
      sizeof(float) * ((2 * left + 2 * right) * row + 2 * left * weight_row + 2 * right);
};

__device__ __forceinline__ int thread_x() { return thread() % 16; }
__device__ __forceinline__ int thread_y() { return thread() / 16; }
/// Column n of a thread's Width / 16: up to four adjacent ones, repeated every 64.
template <int Width>
__device__ __forceinline__ int column(int n) {
  constexpr int together = Width < 64 ? Width / 16 : 4;
  return n / together * 64 + thread_x() * together + n % together;
}

/// Starts copying x [Rows, head_width], of which `there` rows exist, to a tile [Rows, Width]; the rest becomes 0.
template <int Width, int Rows>
__device__ __forceinline__ void load_plain(float* tile, const float* x, index stride, int there, int head_width) {
  constexpr int row_floats = plain_block<Width>::row;
  if (head_width % 4 == 0 && stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(x) % 16 == 0) {
    for (int n = thread(); n < Rows * (Width / 4); n += plain_threads) {
      const int row = n / (Width / 4), e = n % (Width / 4) * 4;
      copy_async(tile + row * row_floats + e, x + row * stride + e, row < there && e < head_width);
    }
  } else {
    for (int n = thread(); n < Rows * Width; n += plain_threads) {
      const int row = n / Width, e = n % Width;
      copy_async<4>(tile + row * row_floats + e, x + row * stride + e, row < there && e < head_width);
    }
  }
}

/// sums [i, j] += left rows times right rows
template <int Width>
__device__ __forceinline__ void multiply_rows(const float* left, const float* right,
                                              float (&sums)[plain_block<Width>::i][plain_block<Width>::j]) {
  using b = plain_block<Width>;
  FATHOM_CUDA_ROLL
  for (int e = 0; e < Width; e += 4) {
    float4 x[b::i], y[b::j];
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < b::i; ++i) x[i] = *reinterpret_cast<const float4*>(left + (thread_y() + 16 * i) * b::row + e);
    FATHOM_CUDA_UNROLL
    for (int j = 0; j < b::j; ++j) y[j] = *reinterpret_cast<const float4*>(right + (thread_x() + 16 * j) * b::row + e);
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < b::i; ++i)
      FATHOM_CUDA_UNROLL
      for (int j = 0; j < b::j; ++j) {
        float& sum = sums[i][j];
        sum = __fmaf_rn(x[i].x, y[j].x, sum);
        sum = __fmaf_rn(x[i].y, y[j].y, sum);
        sum = __fmaf_rn(x[i].z, y[j].z, sum);
        sum = __fmaf_rn(x[i].w, y[j].w, sum);
      }
  }
}
/// sums [i, c] += weights [left, right] times right rows
template <int Width>
__device__ __forceinline__ void add_weighted(const float* weights, const float* right,
                                             float (&sums)[plain_block<Width>::i][plain_block<Width>::c]) {
  using b = plain_block<Width>;
  FATHOM_CUDA_ROLL
  for (int r = 0; r < b::right; r += 4) {
    float w[b::i][4];
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < b::i; ++i) {
      const float4 four = *reinterpret_cast<const float4*>(weights + (thread_y() + 16 * i) * b::weight_row + r);
      w[i][0] = four.x, w[i][1] = four.y, w[i][2] = four.z, w[i][3] = four.w;
    }
    FATHOM_CUDA_UNROLL
    for (int n = 0; n < 4; ++n)
      FATHOM_CUDA_UNROLL
      for (int c = 0; c < b::c; ++c) {
        const float x = right[(r + n) * b::row + column<Width>(c)];
        FATHOM_CUDA_UNROLL
        for (int i = 0; i < b::i; ++i) sums[i][c] = __fmaf_rn(w[i][n], x, sums[i][c]);
      }
  }
}
/// to [left, head_width] = factor [i] times sums [i, c], of the first `there` rows
template <int Width>
__device__ __forceinline__ void store_plain(const float (&sums)[plain_block<Width>::i][plain_block<Width>::c],
                                            const float (&factor)[plain_block<Width>::i], float* to, index stride, int there,
                                            int head_width) {
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < plain_block<Width>::i; ++i) {
    const int row = thread_y() + 16 * i;
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < plain_block<Width>::c; ++c)
      if (row < there && column<Width>(c) < head_width) to[row * stride + column<Width>(c)] = sums[i][c] * factor[i];
  }
}
__device__ __forceinline__ float largest_of_row(float x) {
  for (int lanes = 8; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lanes));
  return x;
}
__device__ __forceinline__ float sum_of_row(float x) {
  for (int lanes = 8; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
  return x;
}

// With Sloped, which is General too, scores fall with distance or have biases, or both. They are scaled last, so slopes and biases
// are divided by the scale.

/// out = softmax(q k^T / sqrt(head_width)) v;  lse [rows, heads], unless it is null
template <int Width, bool General, bool Sloped = false>
__global__ void __launch_bounds__(plain_threads)
    forward_plain(attention_size s, rows_of_heads<const float> q, rows_of_heads<const float> k, rows_of_heads<const float> v,
                  rows_of_heads<float> out, float* lse) {
  using sizes = plain_block<Width>;
  constexpr int right = sizes::right, row = sizes::row;
  auto* const q_tile = reinterpret_cast<float*>(dynamic_shared());  // [left, Width]
  float* const kv_tiles = q_tile + sizes::left * row;               // two buffers: keys, values [right, Width]
  float* const weights = kv_tiles + 4 * right * row;                // [left, right]
  const block_of_queries<sizes::left, right, General> b(s, blockIdx.x);

  const auto load = [&](int tile) {
    float* const to = kv_tiles + tile % 2 * 2 * right * row;
    const index from = b.memory + tile * right;
    load_plain<Width, right>(to, k.at(from, b.key_head), k.stride, b.seen - tile * right, s.head_width);
    load_plain<Width, right>(to + right * row, v.at(from, b.key_head), v.stride, b.seen - tile * right, s.head_width);
    commit_copies();
  };
  load_plain<Width, sizes::left>(q_tile, q.at(b.row, b.at.head), q.stride, b.there, s.head_width);
  load(0);
  float o[sizes::i][sizes::c] = {}, largest[sizes::i], total[sizes::i] = {};
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < sizes::i; ++i) largest[i] = -INFINITY;
  const float scale2 = s.scale * log2_e;
  [[maybe_unused]] const float slope = Sloped ? s.slope_before_scaling(b.at.head) : 0.0f;

  FATHOM_CUDA_ROLL
  for (int tile = 0; tile < b.tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // the tile has arrived; all threads are done with the one before
    if (tile + 1 < b.tiles) load(tile + 1);
    const float* const k_tile = kv_tiles + tile % 2 * 2 * right * row;
    float x[sizes::i][sizes::j] = {};
    multiply_rows<Width>(q_tile, k_tile, x);
    if constexpr (Sloped) {
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < sizes::i; ++i)
        FATHOM_CUDA_UNROLL
        for (int j = 0; j < sizes::j; ++j)
          x[i][j] -= slope * s.distance(b.start + b.first + thread_y() + 16 * i, b.skipped + tile * right + thread_x() + 16 * j);
      if (s.slopes.biases)
        FATHOM_CUDA_UNROLL
        for (int j = 0; j < sizes::j; ++j) {
          const float bias = s.bias_before_scaling(b.at.head, b.skipped + tile * right + thread_x() + 16 * j);
          FATHOM_CUDA_UNROLL
          for (int i = 0; i < sizes::i; ++i) x[i][j] += bias;
        }
    }
    const bool hides = b.hides_any(tile * right);
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < sizes::i; ++i) {
      const int y = thread_y() + 16 * i, limit = b.sees(y, tile * right);
      if (hides) {
        const int hidden = b.hides(y, tile * right);
        FATHOM_CUDA_UNROLL
        for (int j = 0; j < sizes::j; ++j)
          if (thread_x() + 16 * j < hidden) x[i][j] = -INFINITY;
      }
      float most = largest[i];
      FATHOM_CUDA_UNROLL
      for (int j = 0; j < sizes::j; ++j) {
        if (thread_x() + 16 * j >= limit) x[i][j] = -INFINITY;
        most = fmaxf(most, x[i][j]);
      }
      most = largest_of_row(most);
      const float base = hides && most == -INFINITY ? 0.0f : most;  // a row may have seen nothing yet
      const float factor = exp2_fast((largest[i] - base) * scale2);
      largest[i] = most;
      total[i] *= factor;
      FATHOM_CUDA_UNROLL
      for (int j = 0; j < sizes::j; ++j) {
        const float weight = exp2_fast((x[i][j] - base) * scale2);
        weights[y * sizes::weight_row + thread_x() + 16 * j] = weight;
        total[i] += weight;
      }
      FATHOM_CUDA_UNROLL
      for (int c = 0; c < sizes::c; ++c) o[i][c] *= factor;
    }
    __syncwarp();
    add_weighted<Width>(weights, k_tile + right * row, o);  // before the next barrier, after which weights change
  }
  float factor[sizes::i];
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < sizes::i; ++i) {
    const int y = thread_y() + 16 * i;
    total[i] = sum_of_row(total[i]);
    factor[i] = 1 / total[i];
    if (lse && thread_x() == 0 && y < b.there) lse[(b.row + y) * s.heads + b.at.head] = largest[i] * s.scale + logf(total[i]);
  }
  store_plain<Width>(o, factor, out.at(b.row, b.at.head), out.stride, b.there, s.head_width);
}

/// dq = ds k / sqrt(head_width), where p = exp(q k^T / sqrt(head_width) - lse) and ds = p (dout v^T - delta)
///   lse, delta [rows, heads];  dslopes [rows, heads], each row's sum of ds * -distance, unless it is null (Sloped)
template <int Width, bool General, bool Sloped = false>
__global__ void __launch_bounds__(plain_threads)
    backward_queries_plain(attention_size s, rows_of_heads<const float> q, rows_of_heads<const float> k,
                           rows_of_heads<const float> v, rows_of_heads<const float> dout, const float* lse, const float* delta,
                           rows_of_heads<float> dq, [[maybe_unused]] float* dslopes) {
  using sizes = plain_block<Width>;
  constexpr int right = sizes::right, row = sizes::row;
  auto* const q_tile = reinterpret_cast<float*>(dynamic_shared());  // [left, Width]
  float* const dout_tile = q_tile + sizes::left * row;              // [left, Width]
  float* const kv_tiles = dout_tile + sizes::left * row;            // two buffers: keys, values [right, Width]
  float* const gradients = kv_tiles + 4 * right * row;              // [left, right], of scores
  const block_of_queries<sizes::left, right, General> b(s, blockIdx.x);

  const auto load = [&](int tile) {
    float* const to = kv_tiles + tile % 2 * 2 * right * row;
    const index from = b.memory + tile * right;
    load_plain<Width, right>(to, k.at(from, b.key_head), k.stride, b.seen - tile * right, s.head_width);
    load_plain<Width, right>(to + right * row, v.at(from, b.key_head), v.stride, b.seen - tile * right, s.head_width);
    commit_copies();
  };
  load_plain<Width, sizes::left>(q_tile, q.at(b.row, b.at.head), q.stride, b.there, s.head_width);
  load_plain<Width, sizes::left>(dout_tile, dout.at(b.row, b.at.head), dout.stride, b.there, s.head_width);
  load(0);
  float sums[sizes::i][sizes::c] = {}, row_lse[sizes::i], row_delta[sizes::i];
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < sizes::i; ++i) {  // rows beyond the end: 0, as are their queries and dout
    const int y = thread_y() + 16 * i;
    const index at = (b.row + y) * s.heads + b.at.head;
    row_lse[i] = y < b.there ? lse[at] : 0.0f;
    row_delta[i] = y < b.there ? delta[at] : 0.0f;
  }
  [[maybe_unused]] const float slope = Sloped ? s.slope_before_scaling(b.at.head) : 0.0f;
  [[maybe_unused]] float dslope[sizes::i] = {};
  FATHOM_CUDA_ROLL
  for (int tile = 0; tile < b.tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // the tile has arrived; all threads are done with the one before
    if (tile + 1 < b.tiles) load(tile + 1);
    const float* const k_tile = kv_tiles + tile % 2 * 2 * right * row;
    float x[sizes::i][sizes::j] = {}, dp[sizes::i][sizes::j] = {};
    multiply_rows<Width>(q_tile, k_tile, x);
    multiply_rows<Width>(dout_tile, k_tile + right * row, dp);
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < sizes::i; ++i) {
      const int y = thread_y() + 16 * i, limit = b.sees(y, tile * right), hidden = General ? b.hides(y, tile * right) : 0;
      FATHOM_CUDA_UNROLL
      for (int j = 0; j < sizes::j; ++j) {
        const bool seen = thread_x() + 16 * j < limit && (!General || thread_x() + 16 * j >= hidden);
        [[maybe_unused]] float distance = 0;
        if constexpr (Sloped) {
          const int of_row = b.skipped + tile * right + thread_x() + 16 * j;
          distance = s.distance(b.start + b.first + y, of_row);
          x[i][j] -= slope * distance;
          if (s.slopes.biases) x[i][j] += s.bias_before_scaling(b.at.head, of_row);
        }
        const float weight = exp2_fast((x[i][j] * s.scale - row_lse[i]) * log2_e);
        const float gradient = seen ? weight * (dp[i][j] - row_delta[i]) : 0.0f;
        gradients[y * sizes::weight_row + thread_x() + 16 * j] = gradient;
        if constexpr (Sloped) dslope[i] -= gradient * distance;
      }
    }
    __syncwarp();
    add_weighted<Width>(gradients, k_tile, sums);  // before the next barrier, after which gradients change
  }
  float factor[sizes::i];
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < sizes::i; ++i) factor[i] = s.scale;
  store_plain<Width>(sums, factor, dq.at(b.row, b.at.head), dq.stride, b.there, s.head_width);
  if constexpr (Sloped)
    if (dslopes) {
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < sizes::i; ++i) {
        const float sum = sum_of_row(dslope[i]);
        const int y = thread_y() + 16 * i;
        if (thread_x() == 0 && y < b.there) dslopes[(b.row + y) * s.heads + b.at.head] = sum;
      }
    }
}

/// dv = p^T dout;  dk = ds^T q / sqrt(head_width); 0 for rows of memory that no query sees.
///   dbiases [rows of memory, heads], each row's sum of ds over all queries, unless it is null (Sloped)
template <int Width, bool General, bool Sloped = false>
__global__ void __launch_bounds__(plain_threads)
    backward_keys_plain(attention_size s, rows_of_heads<const float> q, rows_of_heads<const float> k,
                        rows_of_heads<const float> v, rows_of_heads<const float> dout, const float* lse, const float* delta,
                        rows_of_heads<float> dk, rows_of_heads<float> dv, [[maybe_unused]] float* dbiases) {
  using sizes = plain_block<Width>;
  constexpr int left = sizes::left, right = sizes::right, row = sizes::row;
  auto* const k_tile = reinterpret_cast<float*>(dynamic_shared());  // [left, Width]
  float* const v_tile = k_tile + left * row;                        // [left, Width]
  float* const q_tile = v_tile + left * row;                        // [right, Width]
  float* const dout_tile = q_tile + right * row;                    // [right, Width]
  float* const weights = dout_tile + right * row;                   // [left, right]
  float* const gradients = weights + left * sizes::weight_row;      // [left, right], of scores
  float* const tile_lse = gradients + left * sizes::weight_row;     // [right]
  float* const tile_delta = tile_lse + right;                       // [right]

  const block_of_keys<General> b(s, blockIdx.x, left);
  const part& at = b.at;
  const int depths = s.rows_per_position;
  const index memory = s.memory_row(at.sequence) + b.first;

  float dk_sums[sizes::i][sizes::c] = {}, dv_sums[sizes::i][sizes::c] = {};
  if (b.is_seen()) {
    load_plain<Width, left>(k_tile, k.at(memory, at.head), k.stride, b.seen, s.head_width);
    load_plain<Width, left>(v_tile, v.at(memory, at.head), v.stride, b.seen, s.head_width);
    FATHOM_CUDA_ROLL
    for (int head = General ? at.head * s.group : at.head, left_heads = General ? s.group : 1; left_heads > 0;
         ++head, --left_heads) {
      [[maybe_unused]] const float slope = Sloped ? s.slope_before_scaling(head) : 0.0f;
      [[maybe_unused]] float dbias[sizes::i] = {};
      FATHOM_CUDA_ROLL
      for (int query = b.first_query / right * right; query < b.end_query; query += right) {
        const index from = static_cast<index>(at.sequence) * s.queries + query;
        const int here = s.queries - query;
        load_plain<Width, right>(q_tile, q.at(from, head), q.stride, here, s.head_width);
        load_plain<Width, right>(dout_tile, dout.at(from, head), dout.stride, here, s.head_width);
        if (thread() < 2 * right) {
          const int i = thread() % right;
          copy_async<4>(tile_lse + thread(), (thread() < right ? lse : delta) + (from + i) * s.heads + head, i < here);
        }
        commit_copies();
        wait_copies<0>();
        __syncthreads();
        float x[sizes::i][sizes::j] = {}, dp[sizes::i][sizes::j] = {};
        multiply_rows<Width>(k_tile, q_tile, x);
        multiply_rows<Width>(v_tile, dout_tile, dp);
        FATHOM_CUDA_UNROLL
        for (int i = 0; i < sizes::i; ++i)
          FATHOM_CUDA_UNROLL
          for (int j = 0; j < sizes::j; ++j) {
            const int key = thread_y() + 16 * i, n = thread_x() + 16 * j;
            const int seen = (b.start + query + n + 1) * depths - b.first;
            const bool sees = key < seen && (!General || key >= seen - s.window_rows);
            if constexpr (Sloped) {
              x[i][j] -= slope * s.distance(b.start + query + n, b.first + key);
              if (s.slopes.biases) x[i][j] += s.bias_before_scaling(head, b.first + key);
            }
            const float weight = sees ? exp2_fast((x[i][j] * s.scale - tile_lse[n]) * log2_e) : 0.0f;
            weights[key * sizes::weight_row + n] = weight;
            const float gradient = weight * (dp[i][j] - tile_delta[n]);
            gradients[key * sizes::weight_row + n] = General && !sees ? 0.0f : gradient;  // hidden rows may be NaN
            if constexpr (Sloped) dbias[i] += sees ? gradient : 0.0f;
          }
        __syncwarp();
        add_weighted<Width>(weights, dout_tile, dv_sums);
        add_weighted<Width>(gradients, q_tile, dk_sums);
        __syncthreads();  // before the next tile overwrites this one
      }
      if constexpr (Sloped)
        if (dbiases) {
          FATHOM_CUDA_UNROLL
          for (int i = 0; i < sizes::i; ++i) {
            const float sum = sum_of_row(dbias[i]);
            const int key = thread_y() + 16 * i;
            if (thread_x() == 0 && key < b.there) dbiases[(memory + key) * s.heads + head] = sum;
          }
        }
    }
  } else if (Sloped && dbiases) {
    for (int n = thread(); n < b.there * s.group; n += plain_threads)
      dbiases[(memory + n / s.group) * s.heads + at.head * s.group + n % s.group] = 0;
  }
  float one[sizes::i], scale[sizes::i];
  FATHOM_CUDA_UNROLL
  for (int i = 0; i < sizes::i; ++i) one[i] = 1, scale[i] = s.scale;
  store_plain<Width>(dk_sums, scale, dk.at(memory, at.head), dk.stride, b.there, s.head_width);
  store_plain<Width>(dv_sums, one, dv.at(memory, at.head), dv.stride, b.there, s.head_width);
}

}  // namespace fathom::cuda::attention
