// A step of a token program (token_program.cuh): an operation of its kernel, and the operands.
#pragma once

#include <cstddef>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::kernel {

inline constexpr int token_warps = 8;
inline constexpr int token_threads = 32 * token_warps;
inline constexpr int token_rows = 4;  // the most rows of a product; larger ones are several steps

/// An array of float or bf16.
struct numbers {
  const void* data;
  bool is_bf16;
  [[nodiscard]] __device__ __forceinline__ float at(index i) const {
    return is_bf16 ? to_float(static_cast<const bf16*>(data)[i]) : static_cast<const float*>(data)[i];
  }
};

struct token_step {
  enum class what : int { embed, normalize, multiply, attend, slide, copy };
  what does;
  int phase;
  int first, units;  // this step's first unit of work, counted through its phase, and how many

  //   embed:      y = table[token] + positions[position]; positions are optional
  //   normalize:  y = norm(x), of depth numbers; unit u is head u of those that lie side by side in a row
  //   multiply:   y [rows, columns] = gelu(norm(x [rows, depth]) weights [columns, depth]^T + bias) + residual; norm,
  //               gelu, bias and residual are optional. A cap bounds products softly (epilogue::soft_cap)
  //   copy:       y = x; y is optional
  // With memory, columns [memory_column, columns) of rows r < memory_rows of y also go to the cache, to row
  // place * rows_per_position + slot + r, where place is that of the position (held_positions).
  //   slide:      moves positions in the cache; unit u is columns [u, u + 1) * token_threads
  int rows, columns, depth;
  const float* x;
  index x_stride;
  const float *gain, *shift;  // of the norm; gain is null where there is none, shift where it is an RMS norm
  float eps, offset;          // of the norm; offset is added to the gain of an RMS norm
  numbers weights, table, positions;
  int lanes;                         // lanes of a warp that share a column
  bool is_aligned;                   // rows of weights are aligned to 16 bytes
  bool has_gelu;
  float cap;                         // or 0
  const float *bias, *residual;      // or null
  index residual_stride;
  float* y;
  index y_stride;
  float* memory;  // or null
  index memory_stride;
  int memory_column, memory_rows, rows_per_position, slot;
  const index* position;  // of the token
  held_positions held;
  const token* token_at;

  // attend: unit u is split u % splits of head u / splits
  attention_size size;
  rows_of_heads<const float> q, k, v;
  rows_of_heads<float> out;
  int splits;
  float* parts;
  unsigned* arrived;  // [heads]
};

/// Shared memory for the steps; the rows follow.
__host__ __device__ constexpr std::size_t bytes_of_steps(int count) {
  return (static_cast<std::size_t>(count) * sizeof(token_step) + 15) / 16 * 16;
}

static_assert(sizeof(token_step) % 8 == 0);  // copied in words of 8 bytes

/// Blocks that have arrived at the barriers so far, and that have ended.
struct token_counters {
  unsigned arrived, elsewhere[31], ended;  // each in 128 bytes of its own
};

/// The columns of a product in one unit.
__host__ __device__ constexpr int columns_of_unit(int lanes) { return token_warps * (32 / lanes); }

}  // namespace fathom::cuda::kernel
