// Attention over a visible prefix on the CPU (operations.hpp, attention_shape), fused: scores live in a block of
// block_keys keys by tile_columns queries and never in memory (Rabe and Staats, arXiv 2112.05682; Dao et al.,
// arXiv 2205.14135).
//
// Scores are kept transposed, keys by queries, so that the lanes of a vector are queries: keys and values are then read
// where they lie, one row at a time, and a softmax over keys needs no sums across lanes. What is transposed is a block of
// queries, once. A block's upper end is the prefix that its last query sees; within the block a query stops at its own.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "fathom/backend/cpu/elementwise.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {

namespace detail {

inline constexpr index block_keys = 128;
inline constexpr index largest_head_width = context<float, float>::largest_head_width;

/// One block of up to tile_columns queries of one head, and what they see.
template <class T>
struct query_block {
  static constexpr index N = tile_columns<T>;
  const attention_shape& shape;
  index sequence, head, first, count;  // queries [first, first + count) of the sequence

  query_block(const attention_shape& s, index task)
      : shape(s),
        sequence(task / blocks(s) / s.heads),
        head(task / blocks(s) % s.heads),
        first(task % blocks(s) * N),
        count(std::min(N, s.queries - first)) {}

  /// Blocks of a sequence.
  [[nodiscard]] static index blocks(const attention_shape& s) { return (s.queries + N - 1) / N; }
  [[nodiscard]] index row(index query) const { return sequence * shape.queries + first + query; }
  [[nodiscard]] index column() const { return head * shape.head_width; }
  /// Rows of memory that the last query sees: all that the block has to do with.
  [[nodiscard]] index visible() const { return shape.visible(sequence, first + count - 1); }
  /// Rows that every query sees.
  [[nodiscard]] index seen_by_all() const { return shape.visible(sequence, first); }

  /// to [head_width, N] = factor * the block's rows of x, transposed; 0 for queries that are not there
  void transpose_rows(const matrix<const T>& x, T factor, T* to) const {
    transpose(x.row(row(0)) + column(), x.stride, count, shape.head_width, to, N, N);
    for (index i = 0; i < shape.head_width * N; i += lanes<T>)
      (vec<T>::load_aligned(to + i) * vec<T>(factor)).store_aligned(to + i);
  }
};

/// What a task works in, on its stack: some hundred KiB, whatever the length of the sequences.
template <class T>
struct forward_scratch {
  static constexpr index N = tile_columns<T>;
  alignas(alignment) T queries[largest_head_width * N];  // [head_width, N], scaled
  alignas(alignment) T sum[largest_head_width * N];      // [head_width, N], the weighted sum of values
  alignas(alignment) T scores[block_keys * N];           // [keys, N], then weights
  alignas(alignment) T rows[N * largest_head_width];     // [N, head_width], the result
  alignas(alignment) T largest[N], total[N];
};
template <class T>
struct backward_scratch {
  static constexpr index N = tile_columns<T>;
  alignas(alignment) T queries[largest_head_width * N];        // [head_width, N], scaled
  alignas(alignment) T gradients[largest_head_width * N];      // [head_width, N], dout
  alignas(alignment) T query_rows[N * largest_head_width];     // [N, head_width in whole tiles], padded with zeros
  alignas(alignment) T gradient_rows[N * largest_head_width];  // [N, head_width in whole tiles], dout
  alignas(alignment) T weights[block_keys * N];                // [keys, N]
  alignas(alignment) T dscores[block_keys * N];                // [keys, N]
  alignas(alignment) T sum[largest_head_width * N];            // [head_width, N], dq
  alignas(alignment) T rows[N * largest_head_width];           // [N, head_width], dq
  alignas(alignment) T lse[N], delta[N];
};

/// out [keys, N] = rows [keys] of x times right [head_width, N]: scores, or gradients of weights
template <class T>
inline void rows_times_block(const T* x, index stride, index keys, index head_width, const T* right, T* out) {
  constexpr index N = tile_columns<T>;
  for_tiles(keys, [&](index r, auto rows) {
    tile<T, rows()> acc;
    acc.clear();
    acc.template add_product<order::rows>(x + r * stride, stride, right, N, head_width);
    acc.store(out + r * N, N);
  });
}

/// sum [head_width, N] += rows [keys] of x, transposed, times weights [keys, N]
template <class T>
inline void columns_times_block(const T* x, index stride, index keys, index head_width, const T* weights, T* sum) {
  constexpr index N = tile_columns<T>;
  for_tiles(head_width, [&](index first, auto rows) {
    tile<T, rows()> acc;
    acc.load(sum + first * N, N);
    acc.template add_product<order::columns>(x + first, stride, weights, N, keys);
    acc.store(sum + first * N, N);
  });
}

/// Puts -infinity where a query does not see a key. scores [keys, N], the first key being row `from` of memory.
template <class T>
inline void hide_unseen(const query_block<T>& b, index from, index keys, T* scores) {
  constexpr index N = tile_columns<T>;
  for (index r = std::max<index>(0, b.seen_by_all() - from); r < keys; ++r)
    for (index i = 0; i < N; ++i)
      if (from + r >= b.shape.visible(b.sequence, b.first + std::min(i, b.count - 1)))
        scores[r * N + i] = -std::numeric_limits<T>::infinity();
}

/// One query of one head against all that it sees, as decoding has it: keys are gone through once, a block at a time.
template <class T>
inline void attend_one(const attention_shape& s, index sequence, index query, index head, const matrix<const T>& q,
                       const matrix<const T>& k, const matrix<const T>& v, const matrix<T>& o, T* lse) {
  constexpr index W = lanes<T>;
  const index d = s.head_width, c = head * d, row = sequence * s.queries + query, visible = s.visible(sequence, query);
  const T scale = T(1) / std::sqrt(static_cast<T>(d));
  const T* const query_row = q.row(row) + c;
  T* const out_row = o.row(row) + c;
  T scores[block_keys];
  T largest = -std::numeric_limits<T>::infinity(), total = 0;
  alignas(alignment) T sum[largest_head_width] = {};
  for (index from = 0; from < visible; from += block_keys) {
    const index keys = std::min(block_keys, visible - from);
    const T before = largest;
    for (index r = 0; r < keys; ++r) {
      const T* const key = k.row(s.memory_row(sequence) + from + r) + c;
      vec<T> dots(T(0));
      index e = 0;
      for (; e + W <= d; e += W)
        dots = xsimd::fma(vec<T>::load_unaligned(query_row + e), vec<T>::load_unaligned(key + e), dots);
      T dot = horizontal_sum(dots);
      for (; e < d; ++e) dot += query_row[e] * key[e];
      scores[r] = dot * scale;
      largest = std::max(largest, scores[r]);
    }
    const T correction = std::exp(before - largest);
    total *= correction;
    for (index e = 0; e < d; ++e) sum[e] *= correction;
    for (index r = 0; r < keys; ++r) {
      const T weight = std::exp(scores[r] - largest);
      const T* const value = v.row(s.memory_row(sequence) + from + r) + c;
      total += weight;
      index e = 0;
      for (; e + W <= d; e += W)
        xsimd::fma(vec<T>(weight), vec<T>::load_unaligned(value + e), vec<T>::load_aligned(sum + e)).store_aligned(sum + e);
      for (; e < d; ++e) sum[e] += weight * value[e];
    }
  }
  for (index e = 0; e < d; ++e) out_row[e] = sum[e] / total;
  if (lse) lse[row * s.heads + head] = largest + std::log(total);
}

}  // namespace detail

/// out = softmax(q k^T / sqrt(head_width)) v over the visible prefix; lse may be null
template <class C, class T>
void attention_forward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                       matrix<std::type_identity_t<T>> o, std::type_identity_t<T>* lse) {
  constexpr index N = tile_columns<T>, W = lanes<T>;
  if (s.queries < 4) {  // too few to fill the lanes
    on.tasks(s.sequences * s.queries * s.heads, [&](index task) {
      detail::attend_one<T>(s, task / s.heads / s.queries, task / s.heads % s.queries, task % s.heads, q, k, v, o, lse);
    });
    return;
  }
  on.tasks(s.sequences * s.heads * detail::query_block<T>::blocks(s), [&](index task) {
    const detail::query_block<T> b(s, task);
    const index d = s.head_width;
    detail::forward_scratch<T> w;
    b.transpose_rows(q, T(1) / std::sqrt(static_cast<T>(d)), w.queries);
    std::fill_n(w.sum, d * N, T(0));
    vec<T> largest[2], total[2];
    largest[0] = largest[1] = vec<T>(-std::numeric_limits<T>::infinity());
    total[0] = total[1] = vec<T>(T(0));

    for (index from = 0; from < b.visible(); from += detail::block_keys) {
      const index keys = std::min(detail::block_keys, b.visible() - from), row = s.memory_row(b.sequence) + from;
      detail::rows_times_block(k.row(row) + b.column(), k.stride, keys, d, w.queries, w.scores);
      detail::hide_unseen(b, from, keys, w.scores);
      for (int half = 0; half < 2; ++half) {
        T* const block = w.scores + half * W;
        vec<T> most = largest[half], sum_of_weights(T(0));
        for (index r = 0; r < keys; ++r) most = xsimd::max(most, vec<T>::load_aligned(block + r * N));
        // Every query sees the first key of all, so `most` is finite; exp(-infinity) is 0.
        const vec<T> correction = exp_of_nonpositive<T>(largest[half] - most);
        for (index r = 0; r < keys; ++r) {
          const vec<T> weight = exp_of_nonpositive<T>(vec<T>::load_aligned(block + r * N) - most);
          weight.store_aligned(block + r * N);
          sum_of_weights += weight;
        }
        total[half] = total[half] * correction + sum_of_weights;
        largest[half] = most;
        for (index e = 0; e < d; ++e) {
          T* const at = w.sum + e * N + half * W;
          (vec<T>::load_aligned(at) * correction).store_aligned(at);
        }
      }
      detail::columns_times_block(v.row(row) + b.column(), v.stride, keys, d, w.scores, w.sum);
    }

    for (int half = 0; half < 2; ++half) {
      const vec<T> inverse = vec<T>(T(1)) / total[half];
      for (index e = 0; e < d; ++e) {
        T* const at = w.sum + e * N + half * W;
        (vec<T>::load_aligned(at) * inverse).store_aligned(at);
      }
    }
    transpose(w.sum, N, d, N, w.rows, d, d);
    for (index i = 0; i < b.count; ++i) std::copy_n(w.rows + i * d, d, o.row(b.row(i)) + b.column());
    if (lse) {
      for (int half = 0; half < 2; ++half) {
        largest[half].store_aligned(w.largest + half * W);
        total[half].store_aligned(w.total + half * W);
      }
      for (index i = 0; i < b.count; ++i) lse[b.row(i) * s.heads + b.head] = w.largest[i] + std::log(w.total[i]);
    }
  });
}

/// dq, dk, dv = the gradients, given dout. delta [sequences * queries, heads] is scratch. One task has a head of a
/// sequence to itself, and so adds up its keys' and values' gradients in one order.
template <class C, class T>
void attention_backward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                        matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                        matrix<const std::type_identity_t<T>> o, const std::type_identity_t<T>* lse,
                        matrix<const std::type_identity_t<T>> dout, std::type_identity_t<T>* delta,
                        matrix<std::type_identity_t<T>> dq, matrix<std::type_identity_t<T>> dk,
                        matrix<std::type_identity_t<T>> dv) {
  constexpr index N = tile_columns<T>, W = lanes<T>;
  const index d = s.head_width, wide = (d + N - 1) / N * N;  // head width in whole tiles
  const T scale = T(1) / std::sqrt(static_cast<T>(d));
  on.tasks(s.sequences * s.heads, [&](index task) {
    const index blocks = detail::query_block<T>::blocks(s);
    detail::backward_scratch<T> w;
    const index column = task % s.heads * d, memory = s.memory_row(task / s.heads);
    for (index r = 0; r < s.memory_rows; ++r) {
      std::fill_n(dk.row(memory + r) + column, d, T(0));
      std::fill_n(dv.row(memory + r) + column, d, T(0));
    }
    for (index block = 0; block < blocks; ++block) {
      const detail::query_block<T> b(s, task * blocks + block);
      b.transpose_rows(q, scale, w.queries);
      b.transpose_rows(dout, T(1), w.gradients);
      std::fill_n(w.query_rows, N * wide, T(0));
      std::fill_n(w.gradient_rows, N * wide, T(0));
      for (index i = 0; i < N; ++i) {
        if (i >= b.count) {  // a query that is not there: its weights are exp(-infinity) = 0
          w.lse[i] = std::numeric_limits<T>::infinity();
          w.delta[i] = 0;
          continue;
        }
        const T *const g = dout.row(b.row(i)) + column, *const out = o.row(b.row(i)) + column;
        std::copy_n(q.row(b.row(i)) + column, d, w.query_rows + i * wide);
        std::copy_n(g, d, w.gradient_rows + i * wide);
        T dot = 0;
        for (index e = 0; e < d; ++e) dot += g[e] * out[e];
        w.lse[i] = lse[b.row(i) * s.heads + b.head];
        w.delta[i] = delta[b.row(i) * s.heads + b.head] = dot;
      }
      std::fill_n(w.sum, d * N, T(0));

      for (index from = 0; from < b.visible(); from += detail::block_keys) {
        const index keys = std::min(detail::block_keys, b.visible() - from), row = memory + from;
        detail::rows_times_block(k.row(row) + column, k.stride, keys, d, w.queries, w.weights);
        detail::hide_unseen(b, from, keys, w.weights);
        detail::rows_times_block(v.row(row) + column, v.stride, keys, d, w.gradients, w.dscores);
        for (index r = 0; r < keys; ++r)
          unroll<2>([&](auto half) __attribute__((always_inline)) {
            const index at = r * N + static_cast<index>(half) * W;
            const auto offset = vec<T>::load_aligned(w.lse + half * static_cast<std::size_t>(W));
            const auto mean = vec<T>::load_aligned(w.delta + half * static_cast<std::size_t>(W));
            const vec<T> weight = exp_of_nonpositive<T>(vec<T>::load_aligned(w.weights + at) - offset);
            weight.store_aligned(w.weights + at);
            (weight * (vec<T>::load_aligned(w.dscores + at) - mean) * vec<T>(scale)).store_aligned(w.dscores + at);
          });
        detail::columns_times_block(k.row(row) + column, k.stride, keys, d, w.dscores, w.sum);
        // dv += weights dout, dk += dscores q: rows are keys, and the sum runs over the block's queries
        const auto add_rows = [&](const T* left, const T* right, const matrix<T>& to) {
          for (index first = 0; first < d; first += N)
            for_tiles(keys, [&](index r, auto rows) {
              const bool whole = first + N <= d;
              alignas(alignment) T edge[rows() * N];
              T* const place = to.row(row + r) + column + first;
              tile<T, rows()> acc;
              if (whole)
                acc.load(place, to.stride);
              else
                acc.clear();
              acc.template add_product<order::rows>(left + r * N, N, right + first, wide, N);
              if (whole) {
                acc.store(place, to.stride);
                return;
              }
              acc.store(edge, N);
              for (index i = 0; i < rows(); ++i)
                for (index e = 0; e < d - first; ++e) place[i * to.stride + e] += edge[i * N + e];
            });
        };
        add_rows(w.weights, w.gradient_rows, dv);
        add_rows(w.dscores, w.query_rows, dk);
      }
      // w.sum is dscores k; the scale is in dscores already
      transpose(w.sum, N, d, N, w.rows, d, d);
      for (index i = 0; i < b.count; ++i) std::copy_n(w.rows + i * d, d, dq.row(b.row(i)) + column);
    }
  });
}

/// weights [sequences * heads * queries, memory_rows]: the softmax itself, to look at; rows out of sight are 0
template <class C, class T>
void attention_weights(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, const std::type_identity_t<T>* lse,
                       matrix<std::type_identity_t<T>> weights) {
  const T scale = T(1) / std::sqrt(static_cast<T>(s.head_width));
  on.tasks(s.sequences * s.heads * s.queries, [&](index task) {
    const index sequence = task / s.queries / s.heads, head = task / s.queries % s.heads, query = task % s.queries;
    const index row = sequence * s.queries + query, visible = s.visible(sequence, query);
    const auto query_row = array(q.row(row) + head * s.head_width, s.head_width);
    for (index r = 0; r < s.memory_rows; ++r) {
      const auto key = array(k.row(s.memory_row(sequence) + r) + head * s.head_width, s.head_width);
      weights(task, r) = r < visible ? std::exp((query_row * key).sum() * scale - lse[row * s.heads + head]) : T(0);
    }
  });
}

/// Rows of kv to their places in a cache's memory: position p goes to row p * rows_per_position + slot.
template <class C, class T>
void attention_append(const context<C, T>& on, const extent& e, matrix<const std::type_identity_t<T>> kv,
                      matrix<std::type_identity_t<T>> memory, index rows_per_position, index slot) {
  detail::for_rows(on, e.rows(), [&](index i) {
    const index s = i / e.tokens, position = e.start(s) + i % e.tokens;
    std::copy_n(kv.row(i), kv.columns, memory.row(((e.first + s) * e.capacity + position) * rows_per_position + slot));
  });
}

}  // namespace fathom::cpu
