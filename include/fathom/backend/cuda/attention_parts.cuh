// What attention kernels share: the shape as they know it, and the division of work among blocks.
#pragma once

#include "fathom/backend/cuda/device.cuh"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

/// An attention_shape for kernels. A query sees window_rows rows, ending with those of its own position; without a
/// window, window_rows is so large that nothing is hidden. An unordered memory has one row per position, and its
/// queries start at the last row, so that each sees all of it.
struct attention_size {
  int sequences, queries, heads, head_width, rows_per_position, memory_rows, first;
  const index* starts;  // on the device; or null
  int position;         // of the first query, if starts is null
  int group;            // query heads per key/value head
  int window_rows;      // the most rows of memory that a query sees
  int heads_at_once;    // heads, over all sequences, that consecutive blocks work on
  float scale;          // 1 / sqrt(head_width)
  distance_slopes<float> slopes;
  held_positions held;  // the positions in memory

  /// The distance in positions from the query at position `of_query` back to a row of memory.
  [[nodiscard]] __device__ __forceinline__ float distance(int of_query, int row) const {
    return static_cast<float>(of_query - row / rows_per_position);
  }
  /// What each position of distance takes from a score before it is scaled.
  [[nodiscard]] __device__ __forceinline__ float slope_before_scaling(int head) const {
    return slopes.are_there ? slopes.of(head, heads) / scale : 0.0f;
  }
  /// What the bias of a row of memory adds to a score before it is scaled; only if there are biases.
  [[nodiscard]] __device__ __forceinline__ float bias_before_scaling(int head, int row) const {
    return slopes.biases[row % rows_per_position * heads + head] / scale;
  }

  /// The position of a sequence's first query, counted from the first position in memory.
  [[nodiscard]] __device__ __forceinline__ int start(int sequence) const {
    return starts ? static_cast<int>(starts[sequence] - held.first(sequence, starts[sequence])) : position;
  }
  /// A query sees the rows [sees_from, sees_to) of its sequence's memory.
  [[nodiscard]] __device__ __forceinline__ int sees_from(int sequence, int query) const {
    const int hidden = (start(sequence) + query + 1) * rows_per_position - window_rows;
    return hidden > 0 ? hidden : 0;
  }
  [[nodiscard]] __device__ __forceinline__ int sees_to(int sequence, int query) const {
    const int seen = (start(sequence) + query + 1) * rows_per_position;
    return seen < memory_rows ? seen : memory_rows;
  }
  /// The first row of a sequence's memory.
  [[nodiscard]] __device__ __forceinline__ index memory_row(int sequence) const {
    return static_cast<index>(first + sequence) * memory_rows;
  }
};

/// Rows are `stride` elements apart, heads `head` elements.
template <class T>
struct rows_of_heads {
  T* data;
  index stride, head;
  [[nodiscard]] __device__ __forceinline__ T* at(index row, int head_) const { return data + row * stride + head_ * head; }
};

namespace attention {

inline constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/// A block's part of the work: tile `tile` of one head of one sequence.
struct part {
  int tile, sequence, head;
};
/// Work is ordered by chunks of heads_at_once heads, over all sequences. Within a chunk, the first tiles of all heads
/// come first, then the second ones, and so on; or the last ones first.
__device__ __forceinline__ part part_of(const attention_size& s, int heads, unsigned block, int tiles, bool last_first) {
  const unsigned all = static_cast<unsigned>(s.sequences) * static_cast<unsigned>(heads);
  const unsigned chunk = static_cast<unsigned>(s.heads_at_once), of_chunk = chunk * static_cast<unsigned>(tiles);
  const unsigned first = block / of_chunk * chunk, here = all - first < chunk ? all - first : chunk;
  const unsigned rest = block % of_chunk, turn = rest / here, head = first + rest % here;
  return {last_first ? tiles - 1 - static_cast<int>(turn) : static_cast<int>(turn),
          static_cast<int>(head / static_cast<unsigned>(heads)), static_cast<int>(head % static_cast<unsigned>(heads))};
}

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int larger(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }

// Kernels are compiled twice. With General, query heads may share key/value heads, windows may hide the beginning of
// memory, and memories may be unordered. Without it, the code for that is left out, which saves registers.

/// A block of queries, and what they see, in tiles of Keys rows. The first tile begins with the first row that any of
/// the queries sees; rows of memory are counted from there.
template <int Queries, int Keys, bool General>
struct block_of_queries {
  part at;
  int key_head;      // of keys and values
  int start, first, there;  // position of the sequence's first query; the block's first query, and how many there are
  int depths;               // rows_per_position
  int skipped, window;      // rows of memory before the first tile; rows in a window
  int seen;                 // rows of memory that its last query sees
  int tiles, full;          // of keys; in the first `full`, no query's prefix ends
  index row, memory;        // the first row of q; of k and v

  __device__ __forceinline__ explicit block_of_queries(const attention_size& s, unsigned block)
      : at(part_of(s, s.heads, block, (s.queries + Queries - 1) / Queries, true)),
        key_head(General ? at.head / s.group : at.head),
        start(General || s.starts ? s.start(at.sequence) : 0),
        first(at.tile * Queries),
        there(smaller(Queries, s.queries - first)),
        depths(s.rows_per_position),
        skipped(General ? s.sees_from(at.sequence, first) : 0),
        window(s.window_rows),
        seen(General ? s.sees_to(at.sequence, first + there - 1) - skipped : (start + first + there) * depths),
        tiles((seen + Keys - 1) / Keys),
        full(General ? smaller((start + first + 1) * depths - skipped, seen) / Keys : (start + first + 1) * depths / Keys),
        row(static_cast<index>(at.sequence) * s.queries + first),
        memory(s.memory_row(at.sequence) + skipped) {}

  /// How many rows of memory from `key` on are in the prefix of a block's row. Rows beyond the end count like the last.
  [[nodiscard]] __device__ __forceinline__ int sees(int block_row, int key) const {
    return smaller((start + first + block_row + 1) * depths - (General ? skipped : 0), seen) - key;
  }
  /// How many rows of memory from `key` on the window hides from a block's row; 0 or less: none.
  [[nodiscard]] __device__ __forceinline__ int hides(int block_row, int key) const {
    return (start + first + block_row + 1) * depths - skipped - window - key;
  }
  /// Whether the window hides any row of memory from `key` on from any query.
  [[nodiscard]] __device__ __forceinline__ bool hides_any(int key) const { return General && hides(there - 1, key) > 0; }
};

/// A block's rows of keys and values, and the queries that see them.
template <bool General>
struct block_of_keys {
  part at;           // of the heads of keys and values
  int start;         // position of the sequence's first query
  int first, there;  // the block's first row of the sequence's memory, and how many it has
  int seen;          // how many of them are in the prefix of any query
  int first_query, end_query;

  __device__ __forceinline__ block_of_keys(const attention_size& s, unsigned block, int keys)
      : at(part_of(s, General ? s.heads / s.group : s.heads, block, (s.memory_rows + keys - 1) / keys, false)),
        start(General || s.starts ? s.start(at.sequence) : 0),
        first(at.tile * keys),
        there(smaller(keys, s.memory_rows - first)),
        seen(smaller(there, (start + s.queries) * s.rows_per_position - first)),
        first_query(larger(first / s.rows_per_position - start, 0)),
        end_query(s.queries) {
    if constexpr (General) {
      const index end = (static_cast<index>(first) + there - 1 + s.window_rows) / s.rows_per_position - start;
      if (end < end_query) end_query = static_cast<int>(end);
    }
  }

  [[nodiscard]] __device__ __forceinline__ bool is_seen() const { return seen > 0 && (!General || end_query > 0); }
};

}  // namespace attention
}  // namespace fathom::cuda
