// Attention over a visible prefix on the CPU: definitions for attention.hpp. Fused: scores exist only in blocks of some
// queries by some keys (Rabe and Staats, arXiv 2112.05682; Dao et al., arXiv 2205.14135).
//
// A block of one head's keys and values is packed, then read by every tile of queries that sees it. Keys are
// transposed, so that the lanes of a vector of scores are keys. Queries come in tiles of query_rows rows. A tile
// computes scores from the first key that its first query sees to the last key that its last query sees, rounded to
// whole vectors.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fathom/backend/cpu/attention.hpp"
#include "fathom/backend/cpu/attention_decode.inl.hpp"
#include "fathom/backend/cpu/elementwise.inl.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/int8.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {

inline constexpr index largest_head_width = context<float, float>::largest_head_width;

[[nodiscard]] constexpr index round_up(index n, index unit) { return (n + unit - 1) / unit * unit; }

/// Rows (queries or keys) of the register tile; a power of two. Its query_rows x most_vectors sums fill the registers.
inline constexpr index query_rows = vector_registers == 32 ? 8 : 4;
inline constexpr std::size_t most_vectors = vector_registers == 32 ? 2 : 3;

/// The right operand of `multiply`, [depth, columns]: vector v of row k is at data[k * row + v * vector].
template <class T>
struct right_operand {
  const T* data;
  index row, vector = lanes<T>;
};

/// c [query_rows, columns] = a [query_rows, depth] b [depth, columns]; with `factors`, c = diag(factors) c + a b.
/// columns is a multiple of lanes<T>. Not inlined: one function for all shapes.
template <order Order, class T>
[[gnu::noinline]] void multiply(const T* a, index lda, const right_operand<T>& b, index depth, index columns, T* c, index ldc,
                                const T* factors = nullptr) {
  constexpr index W = lanes<T>;
  constexpr std::size_t R = query_rows;
  index first = 0;  // vector of the columns
  const auto strip = [&](auto vectors) __attribute__((always_inline)) {
    constexpr std::size_t V = vectors();
    vec<T> sum[R][V];
    T* const to = c + first * W;
    if (factors)
      unroll<R * V>([&](auto n) __attribute__((always_inline)) {
        constexpr std::size_t i = n / V, v = n % V;
        sum[i][v] = vec<T>(factors[i]) * vec<T>::load_aligned(to + static_cast<index>(i) * ldc + static_cast<index>(v) * W);
      });
    else
      unroll<R * V>([&](auto n) __attribute__((always_inline)) { sum[n / V][n % V] = vec<T>(T(0)); });
    const T* left = a;
    const T* right = b.data + first * b.vector;
    const auto step = [&]() __attribute__((always_inline)) {
      vec<T> row[V];
      unroll<V>([&](auto v) __attribute__((always_inline)) { row[v] = vec<T>::load_aligned(right + static_cast<index>(v) * b.vector); });
      unroll<R>([&](auto i) __attribute__((always_inline)) {
        const vec<T> factor(left[static_cast<index>(i) * (Order == order::rows ? lda : 1)]);
        unroll<V>([&](auto v) __attribute__((always_inline)) { sum[i][v] = xsimd::fma(factor, row[v], sum[i][v]); });
      });
      left += Order == order::rows ? 1 : lda;
      right += b.row;
    };
    index k = 0;
    for (; k + 4 <= depth; k += 4) unroll<4>([&](auto) __attribute__((always_inline)) { step(); });
    for (; k < depth; ++k) step();
    unroll<R * V>([&](auto n) __attribute__((always_inline)) {
      constexpr std::size_t i = n / V, v = n % V;
      sum[i][v].store_aligned(to + static_cast<index>(i) * ldc + static_cast<index>(v) * W);
    });
    first += static_cast<index>(V);
  };
  const index vectors = columns / W;
  if constexpr (most_vectors == 3)
    while (vectors - first >= 3 && vectors - first != 4) strip(std::integral_constant<std::size_t, 3>());
  while (vectors - first >= 2) strip(std::integral_constant<std::size_t, 2>());
  if (first < vectors) strip(std::integral_constant<std::size_t, 1>());
}

/// One key/value head of one sequence: where it is, what its queries see, and its block sizes.
template <class T>
struct head_of {
  static constexpr index W = lanes<T>;
  // Scores are computed in whole vectors and tiles of keys; two vectors make a full strip.
  static constexpr index step = std::max(W, query_rows), strip = std::max(2 * W, query_rows);
  static constexpr index panel = 65536 / static_cast<index>(sizeof(T));
  static constexpr index most_keys = std::max<index>(strip, 256), most_queries = 256;
  static constexpr index numbers = std::max(panel, strip * largest_head_width);  // of a block of keys

  const attention_shape& shape;
  index sequence, head;  // of keys and values
  const distance_slopes<T>& slopes;
  index column = head * shape.head_width, memory = shape.memory_row(sequence), first_row = sequence * shape.queries;
  index width = shape.head_width, wide = round_up(width, W);  // rows in scratch have `wide` numbers, zero-padded
  index keys = std::clamp(panel / wide / strip * strip, strip, most_keys);  // of a block
  index scores = keys + W;  // stride of scores: rows a power of two apart would conflict in the cache

  /// Rows of memory that a query sees: [first_visible, visible).
  [[nodiscard]] index visible(index query) const { return shape.visible(sequence, query); }
  [[nodiscard]] index first_visible(index query) const { return shape.first_visible(sequence, query); }
  /// How many more rows of memory each query sees than the one before it.
  [[nodiscard]] index more() const { return shape.sees_all ? 0 : shape.rows_per_position; }
  /// Rows of memory hidden before the first that a query sees; negative if its window extends beyond the beginning, so
  /// that each query has more() more than the one before it.
  [[nodiscard]] index unseen(index query) const {
    if (shape.window == 0) return std::numeric_limits<index>::min() / 2;
    return (shape.start(sequence) + query + 1 - shape.window) * shape.rows_per_position;
  }
  /// The first query that sees a row of memory, and one past the last.
  [[nodiscard]] index first_to_see(index row) const {
    return shape.sees_all ? 0 : std::max<index>(0, row / shape.rows_per_position - shape.start(sequence));
  }
  [[nodiscard]] index end_of_seeing(index row) const {
    if (shape.window == 0) return shape.queries;
    return std::min(shape.queries, row / shape.rows_per_position - shape.start(sequence) + shape.window);
  }
  /// The start of the first block of keys that a query sees any of.
  [[nodiscard]] index first_block(index query) const { return first_visible(query) / keys * keys; }

  /// How many positions a query is after the row of memory `row`; negative if it comes before.
  [[nodiscard]] T distance(index query, index row) const {
    return static_cast<T>(shape.start(sequence) + query - row / shape.rows_per_position);
  }
  /// to [count] = how many positions each of `count` rows of memory is after the first of them, `row`
  void positions_after(index row, index count, T* to) const {
    index there = shape.rows_per_position - row % shape.rows_per_position;  // rows left of this position
    T position(0);
    for (index i = 0; i < count; ++i) {
      to[i] = position;
      if (--there == 0) position += T(1), there = shape.rows_per_position;
    }
  }

  /// to [count] = the biases of a query head for `count` rows of memory, from `row` on
  void biases_of(index of_head, index row, index count, T* to) const {
    index slot = row % shape.rows_per_position;
    for (index i = 0; i < count; ++i) {
      to[i] = slopes.biases[slot * shape.heads + of_head];
      if (++slot == shape.rows_per_position) slot = 0;
    }
  }

  /// to [padded, wide] = factor * rows [count, width] of x, from column `at` on; the rest 0
  void copy_rows(const matrix<const T>& x, index row, index at, index count, index padded, T factor, T* to) const {
    const index whole = width / W * W;
    const auto copy = [&](index i, auto rows) __attribute__((always_inline)) {  // several rows at once, to hide latency
      const T* const from = x.row(row + i) + at;
      for (index e = 0; e < whole; e += W)
        unroll<rows()>([&](auto n) __attribute__((always_inline)) {
          const index r = static_cast<index>(n);
          (vec<T>::load_unaligned(from + r * x.stride + e) * vec<T>(factor)).store_aligned(to + (i + r) * wide + e);
        });
      if (whole < wide)
        for (index r = 0; r < static_cast<index>(rows()); ++r)
          for (index e = whole; e < wide; ++e) to[(i + r) * wide + e] = e < width ? from[r * x.stride + e] * factor : T(0);
    };
    index i = 0;
    for (; i + 4 <= count; i += 4) copy(i, std::integral_constant<std::size_t, 4>());
    for (; i < count; ++i) copy(i, std::integral_constant<std::size_t, 1>());
    std::fill_n(to + count * wide, (padded - count) * wide, T(0));
  }
  /// to [vectors, width, W] = rows [count] of x, transposed, zero-padded to a whole step
  void copy_columns(const matrix<const T>& x, index row, index count, T* to) const {
    for (index i = 0; i < round_up(count, step); i += W, to += width * W)
      transpose(x.row(memory + row + i) + column, x.stride, std::clamp<index>(count - i, 0, W), width, to, W, W);
  }
  /// A block of keys or values, packed: keys as columns, values as rows. Those that are stored rounded are widened first,
  /// keys in `room` [count, wide].
  void pack_keys(const matrix<const T>& k, index row, index count, T*, T* to) const { copy_columns(k, row, count, to); }
  void pack_values(const matrix<const T>& v, index row, index count, T* to) const {
    copy_rows(v, memory + row, column, count, count, T(1), to);
  }
  template <class P>
  void pack_keys(const stored_rows<P>& k, index row, index count, T* room, T* to) const {
    pack_values(k, row, count, room);
    for (index i = 0; i < round_up(count, step); i += W, to += width * W)
      transpose(room + i * wide, wide, std::clamp<index>(count - i, 0, W), width, to, W, W);
  }
  template <class P>
  void pack_values(const stored_rows<P>& v, index row, index count, T* to) const {
    const index whole = width / W * W;
    for (index i = 0; i < count; ++i, to += wide) {
      const P* const from = v.numbers.row(memory + row + i) + column;
      const T scale = v.scales.data ? static_cast<T>(v.scales(memory + row + i, head)) : T(1);
      for (index e = 0; e < whole; e += W) (load_widened<T>(from + e) * vec<T>(scale)).store_aligned(to + e);
      for (index e = whole; e < wide; ++e) to[e] = e < width ? widen<T>(from[e]) * scale : T(0);
    }
  }
  [[nodiscard]] right_operand<T> columns(const T* vectors) const { return {vectors, W, width * W}; }
  [[nodiscard]] right_operand<T> rows(const T* data) const { return {data, wide}; }
};

/// Lanes before `unseen`, and from `seen` on, become `hidden`.
template <class T>
[[nodiscard]] inline vec<T> hide(const vec<T>& x, index unseen, index seen, T hidden) {
  alignas(alignment) static constexpr auto numbers = [] {
    std::array<T, static_cast<std::size_t>(lanes<T>)> n{};
    for (std::size_t i = 0; i < n.size(); ++i) n[i] = static_cast<T>(i);
    return n;
  }();
  const auto lane = vec<T>::load_aligned(numbers.data());
  const auto shown = xsimd::select(lane < vec<T>(static_cast<T>(seen)), x, vec<T>(hidden));
  return unseen <= 0 ? shown : xsimd::select(lane < vec<T>(static_cast<T>(unseen)), vec<T>(hidden), shown);
}

/// scores [query_rows, columns] of a tile, from column `begin` on, -= slope * (distance + i - positions [columns]) in row i
template <class T>
[[gnu::noinline]] void subtract_distances(T* scores, index stride, index begin, index columns, const T* positions, T distance,
                                          T slope) {
  for (index j = begin; j < columns; j += lanes<T>) {
    const vec<T> nearer = vec<T>::load_aligned(positions + j) - vec<T>(distance);
    unroll<query_rows>([&](auto i) __attribute__((always_inline)) {
      T* const at = scores + static_cast<index>(i) * stride + j;
      xsimd::fma(vec<T>(slope), nearer - vec<T>(static_cast<T>(i())), vec<T>::load_aligned(at)).store_aligned(at);
    });
  }
}
/// scores [query_rows, columns] of a tile, from column `begin` on, += biases [columns] in every row
template <class T>
[[gnu::noinline]] void add_biases(T* scores, index stride, index begin, index columns, const T* biases) {
  for (index j = begin; j < columns; j += lanes<T>) {
    const vec<T> more = vec<T>::load_aligned(biases + j);
    unroll<query_rows>([&](auto i) __attribute__((always_inline)) {
      T* const at = scores + static_cast<index>(i) * stride + j;
      (vec<T>::load_aligned(at) + more).store_aligned(at);
    });
  }
}
/// The sum of dscores [columns] times -(distance - positions [columns]), from column `begin` on.
template <class T>
[[nodiscard]] inline T sum_of_distances(const T* dscores, index begin, index columns, const T* positions, T distance) {
  vec<T> sum(T(0));
  for (index j = begin; j < columns; j += lanes<T>)
    sum = xsimd::fma(vec<T>::load_aligned(dscores + j), vec<T>::load_aligned(positions + j) - vec<T>(distance), sum);
  return horizontal_sum(sum);
}

/// A task's workspace: some hundred KiB, whatever the length of the sequences.
template <class T>
struct forward_scratch {
  using head = head_of<T>;
  static constexpr index group = 16384;  // numbers of a group of queries
  alignas(alignment) T queries[group];                               // [queries, wide], scaled
  alignas(alignment) T sums[group];                                  // [queries, wide]: weighted sums of values
  alignas(alignment) T totals[head::most_queries * lanes<T>];        // [queries, lanes]: sums of weights, lane by lane
  alignas(alignment) T largest[head::most_queries];                  // score so far
  alignas(alignment) T keys[head::numbers], values[head::numbers];   // [width, keys], [keys, wide]
  alignas(alignment) T scores[query_rows * (head::most_keys + lanes<T>)];  // [query_rows, keys], then weights
  alignas(alignment) T positions[head::most_keys];                         // [keys], if scores fall with distance
  alignas(alignment) T biases[head::most_keys];                            // [keys], of a head, if scores have biases
  T factors[query_rows];
};

/// A step of online softmax: one block of keys for a tile of queries. scores [query_rows, columns], from column `begin`
/// on, become weights relative to the largest score so far. Updates largest [query_rows] and
/// totals [query_rows, lanes]; factors [query_rows] rescale earlier sums. Row i sees the keys
/// [unseen + i * more, seen + i * more).
template <class T>
[[gnu::always_inline]] inline void softmax(T* scores, index stride, index begin, index columns, index unseen, index seen,
                                           index more, T* largest, T* totals, T* factors) {
  constexpr index W = lanes<T>;
  constexpr std::size_t R = query_rows;
  vec<T> most[R], sum[R];
  unroll<R>([&](auto i) __attribute__((always_inline)) {
    most[i] = vec<T>(largest[i]);
    sum[i] = vec<T>(T(0));
  });
  index j = begin;
  const auto at_an_edge = [&](index end) __attribute__((always_inline)) {  // of what a row sees: masked
    for (; j < end; j += W)
      unroll<R>([&](auto i) __attribute__((always_inline)) {
        T* const at = scores + static_cast<index>(i) * stride + j;
        const index further = static_cast<index>(i) * more - j;
        const vec<T> score = hide(vec<T>::load_aligned(at), unseen + further, seen + further, -std::numeric_limits<T>::infinity());
        score.store_aligned(at);
        most[i] = xsimd::max(most[i], score);
      });
  };
  at_an_edge(std::min(unseen + (query_rows - 1) * more, columns));
  for (; j + W <= std::min(seen, columns); j += W)
    unroll<R>([&](auto i) __attribute__((always_inline)) {
      most[i] = xsimd::max(most[i], vec<T>::load_aligned(scores + static_cast<index>(i) * stride + j));
    });
  at_an_edge(columns);
  // Finite even where a row sees nothing, because the largest score starts at the lowest finite number.
  unroll<R>([&](auto i) __attribute__((always_inline)) { most[i] = largest_lane<T>(most[i]); });
  for (j = begin; j < columns; j += W)
    unroll<R>([&](auto i) __attribute__((always_inline)) {
      T* const at = scores + static_cast<index>(i) * stride + j;
      const vec<T> weight = exp_of_nonpositive<T>(vec<T>::load_aligned(at) - most[i]);
      weight.store_aligned(at);
      sum[i] += weight;
    });
  unroll<R>([&](auto i) __attribute__((always_inline)) {
    T* const total = totals + static_cast<index>(i) * W;
    const vec<T> factor = exp_of_nonpositive<T>(vec<T>(largest[i]) - most[i]);
    xsimd::fma(vec<T>::load_aligned(total), factor, sum[i]).store_aligned(total);
    largest[i] = most[i].get(0);
    factors[i] = factor.get(0);
  });
}

/// The queries [first, first + count) of `heads` heads, from `head` on, that share keys and values. A query's result
/// does not depend on which others are in the group. k and v are matrices of T, or stored_rows.
template <class T, class Rows>
[[gnu::noinline]] void attend(const head_of<T>& h, index head, index heads, index first, index count, const matrix<const T>& q,
                              const Rows& k, const Rows& v, const matrix<T>& o, T* lse, forward_scratch<T>& w) {
  constexpr index W = lanes<T>;
  const index padded = round_up(count, query_rows), apart = round_up(padded, W);  // between the queries of two heads
  const index seen_by_last = h.visible(first + count - 1);
  for (index n = 0; n < heads; ++n)
    h.copy_rows(q, h.first_row + first, (head + n) * h.width, count, padded, T(1) / std::sqrt(static_cast<T>(h.width)),
                w.queries + n * apart * h.wide);
  std::fill_n(w.largest, heads * apart, std::numeric_limits<T>::lowest());
  std::fill_n(w.totals, heads * apart * W, T(0));

  for (index from = h.first_block(first); from < seen_by_last; from += h.keys) {
    const index keys_there = std::min(h.keys, seen_by_last - from);
    h.pack_keys(k, from, keys_there, w.values, w.keys);
    h.pack_values(v, from, keys_there, w.values);
    if (h.slopes.are_there) h.positions_after(from, round_up(keys_there, W), w.positions);
    const index first_tile = std::max<index>(0, h.first_to_see(from) - first) / query_rows * query_rows;
    const index end = std::min(padded, h.end_of_seeing(from + keys_there - 1) - first);
    for (index n = 0; n < heads; ++n) {
      if (h.slopes.biases) h.biases_of(head + n, from, round_up(keys_there, W), w.biases);
      for (index query = first_tile; query < end; query += query_rows) {
        const index tile = n * apart + query;
        const index unseen = h.unseen(first + query) - from, begin = std::max<index>(0, unseen), skipped = begin / W * W;
        const index keys = std::min(keys_there, h.visible(first + query + query_rows - 1) - from);
        multiply<order::rows>(w.queries + tile * h.wide, h.wide, h.columns(w.keys + skipped * h.width), h.width,
                              round_up(keys, W) - skipped, w.scores + skipped, h.scores);
        if (h.slopes.are_there)
          subtract_distances(w.scores, h.scores, skipped, round_up(keys, W), w.positions, h.distance(first + query, from),
                             h.slopes.of(head + n, h.shape.heads));
        if (h.slopes.biases) add_biases(w.scores, h.scores, skipped, round_up(keys, W), w.biases);
        softmax(w.scores, h.scores, skipped, round_up(keys, W), unseen, h.visible(first + query) - from, h.more(),
                w.largest + tile, w.totals + tile * W, w.factors);
        multiply<order::rows>(w.scores + begin, h.scores, h.rows(w.values + begin * h.wide), keys - begin, h.wide,
                              w.sums + tile * h.wide, h.wide, from > h.first_block(first + query) ? w.factors : nullptr);
      }
    }
  }

  for (index n = 0; n < heads; ++n)
    for (index i = 0; i < count; i += W) {  // a vector of queries
      const index at = n * apart + i;
      alignas(alignment) T lanes_of_totals[W * W], totals[W];
      transpose_square(w.totals + at * W, W, lanes_of_totals, W);
      vec<T> total(T(0));
      for (index j = 0; j < W; ++j) total += vec<T>::load_aligned(lanes_of_totals + j * W);
      total.store_aligned(totals);
      for (index r = 0; r < std::min(W, count - i); ++r) {
        const index row = h.first_row + first + i + r;
        const T* const sum = w.sums + (at + r) * h.wide;
        T* const out = o.row(row) + (head + n) * h.width;
        const T inverse = T(1) / totals[r];
        for (index e = 0; e < h.width; ++e) out[e] = sum[e] * inverse;
        if (lse) lse[row * h.shape.heads + head + n] = w.largest[at + r] + std::log(totals[r]);
      }
    }
}

template <class T>
struct backward_scratch {
  using head = head_of<T>;
  static constexpr index queries = 64, block = std::max<index>(queries * 64, query_rows * largest_head_width);
  alignas(alignment) T scaled_queries[block], gradients[block];                           // [queries, wide]: q, dout
  alignas(alignment) T lse[queries], delta[queries];
  alignas(alignment) T weights[queries * (head::most_keys + lanes<T>)];                      // [queries, keys]
  alignas(alignment) T dscores[queries * (head::most_keys + lanes<T>)];                      // [queries, keys]
  alignas(alignment) T key_columns[head::numbers], value_columns[head::numbers];             // [width, keys]
  alignas(alignment) T key_rows[head::numbers], dkeys[head::numbers], dvalues[head::numbers];  // [keys, wide]
  alignas(alignment) T dqueries[query_rows * round_up(largest_head_width, lanes<T>)];         // [query_rows, wide]
  alignas(alignment) T positions[head::most_keys], biases[head::most_keys];                  // [keys], as in forward
  alignas(alignment) T dbiases[head::most_keys];                                             // [keys], of a head
};

/// All queries of the heads that share a key/value head, one block of keys at a time.
template <class T>
[[gnu::noinline]] void attend_backward(const head_of<T>& h, const matrix<const T>& q, const matrix<const T>& k,
                                       const matrix<const T>& v, const matrix<const T>& o, const T* lse,
                                       const matrix<const T>& dout, T* delta, const matrix<T>& dq, const matrix<T>& dk,
                                       const matrix<T>& dv, T* dslopes, T* dbiases, backward_scratch<T>& w) {
  constexpr index W = lanes<T>;
  const index queries = h.shape.queries, d = h.width, seen_by_last = h.visible(queries - 1);
  const index first_head = h.head * h.shape.group_size(), last_head = first_head + h.shape.group_size();
  const index block = std::min(w.queries, w.block / h.wide / query_rows * query_rows);
  const T scale = T(1) / std::sqrt(static_cast<T>(d));
  T ones[query_rows];
  std::fill_n(ones, query_rows, T(1));

  for (index head = first_head; head < last_head; ++head)
    for (index i = 0; i < queries; ++i) {
      const T *const g = dout.row(h.first_row + i) + head * d, *const out = o.row(h.first_row + i) + head * d;
      vec<T> dots(T(0));
      index e = 0;
      for (; e + W <= d; e += W) dots = xsimd::fma(vec<T>::load_unaligned(g + e), vec<T>::load_unaligned(out + e), dots);
      T dot = horizontal_sum(dots);
      for (; e < d; ++e) dot += g[e] * out[e];
      delta[(h.first_row + i) * h.shape.heads + head] = dot;
      if (dslopes) dslopes[(h.first_row + i) * h.shape.heads + head] = T(0);
    }

  for (index from = 0; from < h.shape.memory_rows; from += h.keys) {
    const index keys_there = std::clamp<index>(seen_by_last - from, 0, h.keys);
    h.copy_columns(k, from, keys_there, w.key_columns);
    h.copy_columns(v, from, keys_there, w.value_columns);
    h.copy_rows(k, h.memory + from, h.column, keys_there, keys_there, T(1), w.key_rows);
    if (h.slopes.are_there) h.positions_after(from, round_up(keys_there, h.step), w.positions);
    std::fill_n(w.dkeys, h.keys * h.wide, T(0));
    std::fill_n(w.dvalues, h.keys * h.wide, T(0));
    const index end = std::min(queries, round_up(h.end_of_seeing(from + keys_there - 1), query_rows));  // whole tiles

    for (index head = first_head; head < last_head; ++head) {
      if (h.slopes.biases) h.biases_of(head, from, round_up(keys_there, h.step), w.biases);
      if (dbiases) std::fill_n(w.dbiases, h.keys, T(0));
      for (index first = h.first_to_see(from) / query_rows * query_rows; first < end; first += block) {
        const index count = std::min(block, end - first), padded = round_up(count, query_rows), row = h.first_row + first;
        const index column = head * d;
        h.copy_rows(q, row, column, count, padded, scale, w.scaled_queries);
        h.copy_rows(dout, row, column, count, padded, T(1), w.gradients);
        for (index i = 0; i < padded; ++i) {  // padding queries: their weights are exp(-infinity) = 0
          w.lse[i] = i < count ? lse[(row + i) * h.shape.heads + head] : std::numeric_limits<T>::infinity();
          w.delta[i] = i < count ? delta[(row + i) * h.shape.heads + head] : T(0);
        }
        // Of a tile's keys, [begin, keys) are visible; it computes whole steps of them: [skipped, columns).
        const auto begin_of = [&](index tile) { return std::max<index>(0, h.unseen(first + tile) - from); };
        const auto skipped_of = [&](index tile) { return begin_of(tile) / h.step * h.step; };
        const auto keys_of = [&](index tile) { return std::min(keys_there, h.visible(first + tile + query_rows - 1) - from); };
        const auto columns_of = [&](index tile) { return round_up(keys_of(tile), h.step); };
        const auto multiply_columns = [&](const T* left, const T* right, T* to) {
          for (index tile = 0; tile < padded; tile += query_rows)
            multiply<order::rows>(left + tile * h.wide, h.wide, h.columns(right + skipped_of(tile) * d), d,
                                  columns_of(tile) - skipped_of(tile), to + tile * h.scores + skipped_of(tile), h.scores);
        };
        multiply_columns(w.scaled_queries, w.key_columns, w.weights);
        multiply_columns(w.gradients, w.value_columns, w.dscores);
        if (h.slopes.are_there) {
          const T slope = h.slopes.of(head, h.shape.heads);
          for (index tile = 0; tile < padded; tile += query_rows)
            subtract_distances(w.weights + tile * h.scores, h.scores, skipped_of(tile), columns_of(tile), w.positions,
                               h.distance(first + tile, from), slope);
        }
        if (h.slopes.biases)
          for (index tile = 0; tile < padded; tile += query_rows)
            add_biases(w.weights + tile * h.scores, h.scores, skipped_of(tile), columns_of(tile), w.biases);
        for (index i = 0; i < padded; i += 2) {  // two rows at once, to hide latency
          const index tile = i / query_rows * query_rows, columns = columns_of(tile), more = h.more();
          const index unseen = h.unseen(first + i) - from, seen = h.visible(first + i) - from;
          const auto differentiate = [&](index j, auto whole) __attribute__((always_inline)) {
            unroll<2>([&](auto n) __attribute__((always_inline)) {
              const index row_of = i + static_cast<index>(n), at = row_of * h.scores + j;
              const index further = static_cast<index>(n) * more - j;
              vec<T> weight = exp_of_nonpositive<T>(vec<T>::load_aligned(w.weights + at) - vec<T>(w.lse[row_of]));
              vec<T> dscore = vec<T>::load_aligned(w.dscores + at) - vec<T>(w.delta[row_of]);
              if constexpr (!whole()) {  // both: hidden keys may hold NaN
                weight = hide(weight, unseen + further, seen + further, T(0));
                dscore = hide(dscore, unseen + further, seen + further, T(0));
              }
              weight.store_aligned(w.weights + at);
              (weight * dscore).store_aligned(w.dscores + at);
            });
          };
          index j = skipped_of(tile);
          for (; j < std::min(unseen + more, columns); j += W) differentiate(j, std::false_type());
          for (; j + W <= std::min(seen, columns); j += W) differentiate(j, std::true_type());
          for (; j < columns; j += W) differentiate(j, std::false_type());
        }
        if (dslopes)
          for (index i = 0; i < count; ++i) {
            const index tile = i / query_rows * query_rows;
            dslopes[(row + i) * h.shape.heads + head] += sum_of_distances(w.dscores + i * h.scores, skipped_of(tile), columns_of(tile),
                                                                          w.positions, h.distance(first + i, from));
          }
        if (dbiases)
          for (index i = 0; i < count; ++i) {
            const T* const of_row = w.dscores + i * h.scores;
            const index tile = i / query_rows * query_rows;
            for (index j = skipped_of(tile); j < keys_of(tile); ++j) w.dbiases[j] += of_row[j];
          }
        for (index tile = 0; tile < padded; tile += query_rows) {
          const index begin = begin_of(tile);
          multiply<order::rows>(w.dscores + tile * h.scores + begin, h.scores, h.rows(w.key_rows + begin * h.wide),
                                keys_of(tile) - begin, h.wide, w.dqueries, h.wide);
          for (index i = 0; i < std::min(query_rows, count - tile); ++i) {
            T* const to = dq.row(row + tile + i) + column;
            const T* const sum = w.dqueries + i * h.wide;
            if (from > h.first_block(first + tile))
              for (index e = 0; e < d; ++e) to[e] += scale * sum[e];
            else
              for (index e = 0; e < d; ++e) to[e] = scale * sum[e];
          }
        }
        const auto add_to_rows = [&](const T* left, const T* right, T* to) {
          for (index r = 0; r < keys_there; r += query_rows) {
            const index before = std::max<index>(0, h.first_to_see(from + r) - first);
            const index after = std::min(padded, h.end_of_seeing(from + r + query_rows - 1) - first);
            if (before < after)
              multiply<order::columns>(left + before * h.scores + r, h.scores, h.rows(right + before * h.wide), after - before,
                                       h.wide, to + r * h.wide, h.wide, ones);
          }
        };
        add_to_rows(w.weights, w.gradients, w.dvalues);
        add_to_rows(w.dscores, w.scaled_queries, w.dkeys);
      }
      if (dbiases)
        for (index r = 0; r < std::min(h.keys, h.shape.memory_rows - from); ++r)
          dbiases[(h.memory + from + r) * h.shape.heads + head] = w.dbiases[r];
    }
    for (index r = 0; r < std::min(h.keys, h.shape.memory_rows - from); ++r) {
      std::copy_n(w.dkeys + r * h.wide, d, dk.row(h.memory + from + r) + h.column);
      std::copy_n(w.dvalues + r * h.wide, d, dv.row(h.memory + from + r) + h.column);
    }
  }
}

/// attention_forward. k and v are matrices of T, or stored_rows.
template <class On, class T, class Rows>
void attend_all(const On& on, const attention_shape& s, const matrix<const T>& q, const Rows& k, const Rows& v, const matrix<T>& o,
                T* lse, const distance_slopes<T>& slopes) {
  if (s.queries < 4) {  // too few for tiles of queries
    attend_few(on, s, q, k, v, o, lse, slopes);
    return;
  }
  // Queries come in groups: large ones, because each group packs the keys and values that it sees, but enough for all
  // ranks. A group takes as many of the heads that share keys and values as leave room for 32 queries.
  const index wide = round_up(s.head_width, lanes<T>), each = s.group_size();
  const index room = std::min(head_of<T>::most_queries, forward_scratch<T>::group / wide);
  index heads = each;
  while (heads > 1 && (each % heads != 0 || room / heads < 32)) --heads;
  const index sets = s.heads / heads;  // sets of such heads in a sequence
  index group = room / heads;
  while (group > 32 && s.sequences * sets * ((s.queries + group - 1) / group) < 4 * on.size()) group /= 2;
  const index unit = heads > 1 ? head_of<T>::step : query_rows;
  group = group / unit * unit;
  const index groups = (s.queries + group - 1) / group;
  on.tasks(s.sequences * sets * groups, [&](index task) {
    // First, last, second, second to last, ...: later groups see more keys, so this gives ranks even shares.
    const index set = task / groups, turn = task % groups, first = (turn % 2 ? groups - 1 - turn / 2 : turn / 2) * group;
    const index head = set % sets * heads;
    static_assert(sizeof(forward_scratch<T>) <= decoding_workspace_bytes<T>);
    on.template with_scratch<forward_scratch<T>>([&](forward_scratch<T>& w) {
      attend<T>({s, set / sets, head / each, slopes}, head, heads, first, std::min(group, s.queries - first), q, k, v, o, lse, w);
    });
  });
}

}  // namespace detail

template <class C, class T>
void attention_forward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                       matrix<std::type_identity_t<T>> o, std::type_identity_t<T>* lse,
                       const distance_slopes<std::type_identity_t<T>>& slopes) {
  detail::attend_all<context<C, T>, T>(on, s, q, k, v, o, lse, slopes);
}
template <class C, class T, class P>
  requires std::is_same_v<T, float>
void attention_forward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       const stored_rows<P>& k, const stored_rows<P>& v, matrix<std::type_identity_t<T>> o,
                       std::type_identity_t<T>* lse, const distance_slopes<std::type_identity_t<T>>& slopes) {
  detail::attend_all<context<C, T>, T>(on, s, q, k, v, o, lse, slopes);
}

template <class C, class T>
void attention_backward(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                        matrix<const std::type_identity_t<T>> k, matrix<const std::type_identity_t<T>> v,
                        matrix<const std::type_identity_t<T>> o, const std::type_identity_t<T>* lse,
                        matrix<const std::type_identity_t<T>> dout, std::type_identity_t<T>* delta,
                        matrix<std::type_identity_t<T>> dq, matrix<std::type_identity_t<T>> dk,
                        matrix<std::type_identity_t<T>> dv, const distance_slopes<std::type_identity_t<T>>& slopes,
                        std::type_identity_t<T>* dslopes, std::type_identity_t<T>* dbiases) {
  on.tasks(s.sequences * s.key_heads(), [&](index task) {
    static_assert(sizeof(detail::backward_scratch<T>) <= workspace_bytes<T>);
    on.template with_scratch<detail::backward_scratch<T>>([&](detail::backward_scratch<T>& w) {
      detail::attend_backward<T>({s, task / s.key_heads(), task % s.key_heads(), slopes}, q, k, v, o, lse, dout, delta, dq, dk,
                                 dv, dslopes, dbiases, w);
    });
  });
}

template <class C, class T>
void attention_weights(const context<C, T>& on, const attention_shape& s, matrix<const std::type_identity_t<T>> q,
                       matrix<const std::type_identity_t<T>> k, const std::type_identity_t<T>* lse,
                       matrix<std::type_identity_t<T>> weights, const distance_slopes<std::type_identity_t<T>>& slopes) {
  const T scale = T(1) / std::sqrt(static_cast<T>(s.head_width));
  on.tasks(s.sequences * s.heads * s.queries, [&](index task) {
    const index sequence = task / s.queries / s.heads, head = task / s.queries % s.heads, query = task % s.queries;
    const index row = sequence * s.queries + query;
    const index first = s.first_visible(sequence, query), visible = s.visible(sequence, query);
    const T* const query_row = q.row(row) + head * s.head_width;
    const T slope = slopes.are_there ? slopes.of(head, s.heads) : T(0);
    for (index r = 0; r < s.memory_rows; ++r) {
      const T* const key = k.row(s.memory_row(sequence) + r) + head / s.group_size() * s.head_width;
      weights(task, r) = T(0);
      if (r >= first && r < visible) {
        T score = detail::score_of_key(query_row, key, s.head_width) * scale;
        if (slopes.are_there) score -= slope * static_cast<T>((visible - 1 - r) / s.rows_per_position);
        if (slopes.biases) score += slopes.bias(head, s.heads, r, s.rows_per_position);
        weights(task, r) = std::exp(score - lse[row * s.heads + head]);
      }
    }
  });
}

template <class C, class T>
void attention_append(const context<C, T>& on, const extent& e, matrix<const std::type_identity_t<T>> kv,
                      matrix<std::type_identity_t<T>> memory, index rows_per_position, index slot) {
  detail::for_rows(on, e.rows(), [&](index i) {
    const index s = i / e.tokens, place = e.place(s) + i % e.tokens;
    std::copy_n(kv.row(i), kv.columns, memory.row(((e.first + s) * e.capacity + place) * rows_per_position + slot));
  });
}

template <class C, class T, class P>
  requires std::is_same_v<T, float>
void attention_append(const context<C, T>& on, const extent& e, matrix<const std::type_identity_t<T>> kv,
                      const stored_rows<P>& memory, index rows_per_position, index slot) {
  detail::for_rows(on, e.rows(), [&](index i) {
    const index s = i / e.tokens, row = ((e.first + s) * e.capacity + e.place(s) + i % e.tokens) * rows_per_position + slot;
    const T* from = kv.row(i);
    P* to = memory.numbers.row(row);
    if constexpr (std::is_same_v<P, std::int8_t>) {
      const index width = kv.columns / memory.scales.columns;
      for (index h = 0; h < memory.scales.columns; ++h, from += width, to += width) {
        float largest = 0;
        for (index j = 0; j < width; ++j) largest = std::max(largest, std::abs(from[j]));
        const float scale = memory.scales(row, h) = int8_scale(largest);
        for (index j = 0; j < width; ++j) to[j] = to_int8(from[j], scale);
      }
    } else {
      for (index j = 0; j < kv.columns; ++j) to[j] = P(from[j]);
    }
  });
}

template <class C, class T, class N>
void attention_slide(const context<C, T>& on, const extent& e, matrix<N> memory, index rows_per_position) {
  index sliding = 0;
  for (index s = 0; s < e.sequences; ++s) sliding += e.slides(s) > 0;
  if (sliding == 0) return;  // for most tokens
  // A task moves some columns of all rows, the first row first: rows move to where others were.
  constexpr index piece = 4 * static_cast<index>(alignment / sizeof(N));
  const index pieces = (memory.columns + piece - 1) / piece;
  on.tasks(e.sequences * pieces, [&](index task) {
    const index s = task / pieces, column = task % pieces * piece, by = e.slides(s) * rows_per_position;
    if (by == 0) return;
    const index first = (e.first + s) * e.capacity * rows_per_position;
    for (index r = first; r < first + (e.place(s) + e.tokens) * rows_per_position - by; ++r)
      std::copy_n(memory.row(r + by) + column, std::min(piece, memory.columns - column), memory.row(r) + column);
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
