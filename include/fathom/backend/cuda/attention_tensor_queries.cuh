// A warp's share of a block of queries, and what it sees of a tile of keys, for the kernels that loop over keys.
#pragma once

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/attention_tensor_tile.cuh"
#include "fathom/backend/cuda/device.cuh"

namespace fathom::cuda::attention {

/// Tile sizes of the kernels that loop over keys for a block of queries.
template <int Width>
struct query_block {
  static constexpr int queries = 128, keys = Width <= 64 ? 64 : 32;
  static constexpr int step_keys = Width <= 32 ? 32 : 16;  // that the kernel for dq works on at a time
  static constexpr bool left_in_registers = Width <= 64;  // a warp's queries, in the kernel for dq
  static constexpr int steps = Width / 16;                // of depth
};
/// Which of a tile's keys a warp's two groups of 16 queries see: rows group and group + 8 see [hidden, limit). None of
/// the 16 sees any key from `reach` on.
struct seen_keys {
  int limit[2][2], hidden[2][2], reach[2];
  bool hides;  // whether the window hides any key from any of the block's queries
};

/// The rows of a block of queries that a thread's warp works on.
template <int Width, bool General>
struct rows_of_warp : block_of_queries<query_block<Width>::queries, query_block<Width>::keys, General> {
  using block_of_queries<query_block<Width>::queries, query_block<Width>::keys, General>::block_of_queries;

  /// The first row of the warp's first (0) or second (1) 16 queries.
  [[nodiscard]] static __device__ __forceinline__ int rows(int m) {
    const int warp = thread() / 32;
    return 16 * (m == 0 ? warp : query_block<Width>::queries / 16 - 1 - warp);
  }
  /// Whether all of the block's queries see all of a tile.
  [[nodiscard]] __device__ __forceinline__ bool is_full(int tile) const {
    return tile < this->full && !this->hides_any(tile * query_block<Width>::keys);
  }
  /// What the warp's queries see of a tile.
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

}  // namespace fathom::cuda::attention
