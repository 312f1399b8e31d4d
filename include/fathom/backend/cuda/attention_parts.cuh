// What the kernels of attention share: the shape as they know it, and how its work is divided among blocks.
#pragma once

#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

/// What kernels know of an attention_shape.
struct attention_size {
  int sequences, queries, heads, head_width, rows_per_position, memory_rows, first;
  const index* starts;  // on the device
  int heads_at_once;    // of all sequences' heads, in blocks that follow each other
  float scale;          // 1 / sqrt(head_width)
  int group = 1;        // heads of queries that share a head of keys and values
  int window = 0;       // positions that a query sees; 0: all up to its own
  bool sees_all = false;

  [[nodiscard]] __device__ __forceinline__ int start(int sequence) const {
    return starts ? static_cast<int>(starts[sequence]) : 0;
  }
  /// The rows of a sequence's memory that a query sees, [sees_from, sees_to).
  [[nodiscard]] __device__ __forceinline__ int sees_from(int sequence, int query) const {
    const int hidden = start(sequence) + query + 1 - window;
    return window > 0 && hidden > 0 ? hidden * rows_per_position : 0;
  }
  [[nodiscard]] __device__ __forceinline__ int sees_to(int sequence, int query) const {
    return sees_all ? memory_rows : (start(sequence) + query + 1) * rows_per_position;
  }
  /// The first row of a sequence's memory.
  [[nodiscard]] __device__ __forceinline__ index memory_row(int sequence) const {
    return static_cast<index>(first + sequence) * memory_rows;
  }
};

/// Rows `stride` elements apart; heads `head` elements.
template <class T>
struct rows_of_heads {
  T* data;
  index stride, head;
  [[nodiscard]] __device__ __forceinline__ T* at(index row, int head_) const { return data + row * stride + head_ * head; }
};

namespace attention {

inline constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/// Which part of the work a block does: tile `tile` of a head of a sequence.
struct part {
  int tile, sequence, head;
};
/// Chunks of heads_at_once heads; in a chunk, all heads' first tile, then all heads' second, ...; or from the last tile on.
__device__ __forceinline__ part part_of(const attention_size& s, unsigned block, int tiles, bool last_first) {
  const unsigned all = static_cast<unsigned>(s.sequences) * static_cast<unsigned>(s.heads);
  const unsigned chunk = static_cast<unsigned>(s.heads_at_once), of_chunk = chunk * static_cast<unsigned>(tiles);
  const unsigned first = block / of_chunk * chunk, here = all - first < chunk ? all - first : chunk;
  const unsigned rest = block % of_chunk, turn = rest / here, head = first + rest % here;
  return {last_first ? tiles - 1 - static_cast<int>(turn) : static_cast<int>(turn),
          static_cast<int>(head / static_cast<unsigned>(s.heads)), static_cast<int>(head % static_cast<unsigned>(s.heads))};
}

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int larger(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }

/// A block's queries, and what they see in tiles of Keys rows.
template <int Queries, int Keys>
struct block_of_queries {
  part at;
  int start, first, there;  // position of the sequence's first query; the block's first query, and how many it has
  int depths, seen;         // rows_per_position; rows of memory that its last query sees
  int tiles, full;          // of keys; the first `full` of them are seen by all
  index row, memory;        // the first row of q; of k and v

  __device__ __forceinline__ explicit block_of_queries(const attention_size& s, unsigned block)
      : at(part_of(s, block, (s.queries + Queries - 1) / Queries, true)),
        start(s.start(at.sequence)),
        first(at.tile * Queries),
        there(smaller(Queries, s.queries - first)),
        depths(s.rows_per_position),
        seen((start + first + there) * depths),
        tiles((seen + Keys - 1) / Keys),
        full((start + first + 1) * depths / Keys),
        row(static_cast<index>(at.sequence) * s.queries + first),
        memory(s.memory_row(at.sequence)) {}

  /// How many rows of memory from `key` on a row of the block sees. Rows that are not there see as much as the last.
  [[nodiscard]] __device__ __forceinline__ int sees(int block_row, int key) const {
    return smaller((start + first + block_row + 1) * depths, seen) - key;
  }
};

}  // namespace attention
}  // namespace fathom::cuda
