// Attention of few queries on the CPU, for decoding: definitions for attention.hpp.
//
// A rank makes one pass over keys and values, a block of keys at a time, for all of its heads. So memory is read in
// long runs, and once for all heads that share it. If there are many keys, ranks share out runs of keys, for all heads,
// and then join what they found. Vector lanes are keys in the softmax, else columns of a head.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

/// Numbers that a cache holds, as T and a vector of T; int8 without its scale.
template <class T, class N>
[[nodiscard, gnu::always_inline]] inline T widen(N number) {
  return static_cast<T>(number);
}
template <class T, class N>
[[nodiscard, gnu::always_inline]] inline vec<T> load_widened(const N* from) {
  constexpr index W = lanes<T>;
  if constexpr (std::is_same_v<N, bf16>) {
#if defined(__AVX512F__)
    if constexpr (W == 16) {
      const auto bits = std::bit_cast<native<std::uint32_t, W>>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
      return as_vec<T>(bits << 16);
    }
#endif
#if defined(__AVX2__)
    if constexpr (W == 8) {
      const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
      return vec<T>(_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
    }
#endif
    native<std::uint16_t, W> bits;
    std::memcpy(&bits, from, sizeof bits);
    return as_vec<T>(__builtin_convertvector(bits, native<std::uint32_t, W>) << 16);
  } else if constexpr (std::is_same_v<N, std::int8_t>) {
#if defined(__AVX512F__)
    if constexpr (W == 16)
      return as_vec<T>(__builtin_convertvector(
          std::bit_cast<native<std::int32_t, W>>(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))), native<float, W>));
#endif
#if defined(__AVX2__)
    if constexpr (W == 8)
      return vec<T>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)))));
#endif
    // By way of 16 bits: g++ 12 would widen bytes to 32 bits one by one.
    const auto half = __builtin_convertvector(load_native<std::int8_t, W>(from), native<std::int16_t, W>);
    return as_vec<T>(__builtin_convertvector(__builtin_convertvector(half, native<std::int32_t, W>), native<float, W>));
  } else {
    return vec<T>::load_unaligned(from);
  }
}

/// The numbers of keys or values.
template <class T>
[[nodiscard]] matrix<const T> numbers_in(const matrix<const T>& x) {
  return x;
}
template <class P>
[[nodiscard]] matrix<const P> numbers_in(const stored_rows<P>& x) {
  return x.numbers;
}

/// The scales of some keys' numbers, for each key/value head; null if they have none.
struct scales_of_keys {
  const float* data = nullptr;  // [visible, key_heads()]
  index stride = 0;
};

/// Those of keys from `row` on, and heads from `head` on.
template <class T>
[[nodiscard]] scales_of_keys scales_in(const matrix<const T>&, index, index) {
  return {};
}
template <class P>
[[nodiscard]] scales_of_keys scales_in(const stored_rows<P>& x, index row, index head) {
  return x.scales.data ? scales_of_keys{x.scales.row(row) + head, x.scales.stride} : scales_of_keys{};
}

/// Consecutive heads of one query, and what they see. The first `alone` of them read the first key/value head; every
/// `group` heads after those read the next one. N is the type in which keys and values are stored.
template <class T, class N = T>
struct decoding_heads {
  const T* query;          // [heads * width]
  const N *keys, *values;  // [visible, key_heads() * width], rows a stride apart
  index key_stride, value_stride;
  index visible, heads, width;
  index group, alone;
  T* out;  // [heads * width]
  T* lse;  // [heads], or null
  index rows_per_position;
  index first_head, all_heads;  // the first of these heads; how many the attention has
  distance_slopes<T> slopes;
  scales_of_keys key_scales{}, value_scales{};
  index after = 0;  // rows behind the visible ones that another call reads
  /// If these keys are a part of what the heads see: out is the sum of weighted values, not divided by the sum of the
  /// weights, which is in `totals`, and the weights are relative to the largest score, in `largest`.
  T *largest = nullptr, *totals = nullptr;  // [heads]

  [[nodiscard]] index key_head(index head) const { return (head + group - alone) / group; }

  static constexpr index block = 64;                                // keys
  static constexpr index most_numbers = 1024, most_heads = 16;      // of a call: sizes of arrays on the stack
  static constexpr index many = 128 * 1024 / sizeof(N);             // prefetch if keys have more numbers than this
};

/// Shuffle index for two vectors of W lanes: in each group of lanes, the even units (odd = 0) or the odd ones (odd = 1)
/// of the first vector, then of the second.
constexpr int neighbour(std::size_t lane, std::size_t odd, std::size_t unit, std::size_t group, std::size_t W) {
  const std::size_t units = group / unit, nth = 2 * (lane % group / unit) + odd;
  return static_cast<int>(lane / group * group + nth % units * unit + lane % unit + nth / units * W);
}
/// The horizontal sums of W vectors, as one vector. Each of log2(W) rounds adds neighbouring units and halves the
/// number of vectors. Units are lanes within 128 bits while there are several, then whole 128 bits: cheap shuffles.
template <class T>
[[gnu::always_inline]] inline vec<T> sums_of_lanes(vec<T>* v) {
  constexpr std::size_t W = static_cast<std::size_t>(lanes<T>), in_128 = 16 / sizeof(T);
  const auto halve = [&]<std::size_t Count, std::size_t... L>(std::index_sequence<L...>) __attribute__((always_inline)) {
    constexpr bool inside = W / Count <= in_128;
    constexpr std::size_t unit = inside ? 1 : in_128, group = inside ? in_128 : W;
    unroll<Count>([&](auto i) __attribute__((always_inline)) {
      const auto a = bits_of<T>(v[2 * i]), b = bits_of<T>(v[2 * i + 1]);
      v[i] = as_vec<T>(__builtin_shufflevector(a, b, neighbour(L, 0, unit, group, W)...)) +
             as_vec<T>(__builtin_shufflevector(a, b, neighbour(L, 1, unit, group, W)...));
    });
  };
  unroll<std::bit_width(W) - 1>([&](auto round) __attribute__((always_inline)) {
    halve.template operator()<(W >> (round() + 1))>(std::make_index_sequence<W>());
  });
  return v[0];
}

/// Scores [W] of W keys, a stride apart: query . key for every key, in one vector.
template <class T, class N>
[[gnu::always_inline]] inline vec<T> scores_of_keys(const T* query, const N* keys, index stride, index width) {
  constexpr std::size_t W = static_cast<std::size_t>(lanes<T>), some = std::min<std::size_t>(W, 4);
  vec<T> sum[W];
  const N* row[W / some];  // every fourth: the next three are at multiples of the stride
  unroll<W>([&](auto i) __attribute__((always_inline)) { sum[i] = vec<T>(T(0)); });
  unroll<W / some>([&](auto n) __attribute__((always_inline)) { row[n] = keys + static_cast<index>(n * some) * stride; });
  const index whole = width / lanes<T> * lanes<T>;
  for (index e = 0; e < whole; e += lanes<T>) {
    const auto q = vec<T>::load_unaligned(query + e);
    unroll<W / some>([&](auto n) __attribute__((always_inline)) {
      unroll<some>([&](auto i) __attribute__((always_inline)) {
        const auto key = load_widened<T>(row[n] + static_cast<index>(i()) * stride);
        sum[n * some + i] = xsimd::fma(q, key, sum[n * some + i]);
      });
      row[n] += lanes<T>;
    });
  }
  auto scores = sums_of_lanes<T>(sum);
  if (whole < width) {
    alignas(alignment) T each[W];
    scores.store_aligned(each);
    for (std::size_t i = 0; i < W; ++i)
      for (index e = whole; e < width; ++e) each[i] += query[e] * widen<T>(keys[static_cast<index>(i) * stride + e]);
    scores = vec<T>::load_aligned(each);
  }
  return scores;
}

/// The score of one key.
template <class T, class N>
[[gnu::always_inline]] inline T score_of_key(const T* query, const N* key, index width) {
  vec<T> sum(T(0));
  index e = 0;
  for (; e + lanes<T> <= width; e += lanes<T>)
    sum = xsimd::fma(vec<T>::load_unaligned(query + e), load_widened<T>(key + e), sum);
  T score = horizontal_sum(sum);
  for (; e < width; ++e) score += query[e] * widen<T>(key[e]);
  return score;
}

/// sum [columns of V vectors] += weights [keys] times values [keys, ...]; several rows at a time, to hide latency
template <std::size_t V, class T, class N>
[[gnu::always_inline]] inline void add_weighted(const T* weights, const N* values, index stride, index keys, T* sum) {
  constexpr std::size_t at_once = V > 2 ? 2 : 4;
  vec<T> part[at_once][V];
  unroll<V>([&](auto c) __attribute__((always_inline)) {
    unroll<at_once>([&](auto n) __attribute__((always_inline)) { part[n][c] = vec<T>(T(0)); });
    part[0][c] = vec<T>::load_unaligned(sum + static_cast<index>(c()) * lanes<T>);
  });
  const auto add_row = [&](index r, auto n) __attribute__((always_inline)) {
    const vec<T> weight(weights[r]);
    unroll<V>([&](auto c) __attribute__((always_inline)) {
      const auto value = load_widened<T>(values + r * stride + static_cast<index>(c()) * lanes<T>);
      part[n][c] = xsimd::fma(weight, value, part[n][c]);
    });
  };
  index r = 0;
  for (; r + static_cast<index>(at_once) <= keys; r += static_cast<index>(at_once))
    unroll<at_once>([&](auto n) __attribute__((always_inline)) { add_row(r + static_cast<index>(n()), n); });
  for (; r < keys; ++r) add_row(r, std::integral_constant<std::size_t, 0>());
  unroll<V>([&](auto c) __attribute__((always_inline)) {
    for (std::size_t n = 1; n < at_once; ++n) part[0][c] += part[n][c];
    part[0][c].store_unaligned(sum + static_cast<index>(c()) * lanes<T>);
  });
}

/// to [count] = how many positions before the query each of `count` rows is. After the first come `first` more, up to the
/// last one of the query's own position.
template <class T>
inline void distances_before(index first, index rows_per_position, index count, T* to) {
  index there = first % rows_per_position + 1;  // rows left of this position
  T distance = static_cast<T>(first / rows_per_position);
  for (index i = 0; i < count; ++i) {
    to[i] = distance;
    if (--there == 0) distance -= T(1), there = rows_per_position;
  }
}

/// x [keys] times the scales of keys [from, from + keys) in a head.
template <class T>
inline void multiply_by_scales(const scales_of_keys& scales, index from, index keys, index head, T* x) {
  const float* scale = scales.data + from * scales.stride + head;
  for (index r = 0; r < keys; ++r, scale += scales.stride) x[r] *= static_cast<T>(*scale);
}

/// scores [keys] += the biases of a head, which are `stride` apart. `ahead`: how many rows of memory the query sees from the first
/// of these keys on; the last of them is the last row of its position.
template <class T>
[[gnu::noinline]] void add_biases_of_head(const T* biases, index stride, index rows_per_position, index ahead, index keys, T* scores) {
  index slot = (rows_per_position - ahead % rows_per_position) % rows_per_position;
  for (index r = 0; r < keys; ++r) {
    scores[r] += biases[slot * stride];
    if (++slot == rows_per_position) slot = 0;
  }
}

template <class T, class N>
[[gnu::noinline]] void attend(const decoding_heads<T, N>& a) {
  constexpr index W = lanes<T>, block = decoding_heads<T>::block, line = static_cast<index>(alignment / sizeof(N));
  constexpr bool is_scaled = std::is_same_v<N, std::int8_t>;
  const vec<T> scale(T(1) / std::sqrt(static_cast<T>(a.width)));
  const index d = a.width, columns = (a.key_head(a.heads - 1) + 1) * d;
  const bool prefetches = (a.visible + a.after) * columns > decoding_heads<T, N>::many;
  constexpr T none = -std::numeric_limits<T>::infinity();
  alignas(alignment) T scores[decoding_heads<T>::most_heads][W + block];  // of a block of keys, from index W on
  alignas(alignment) T sum[decoding_heads<T>::most_numbers];
  alignas(alignment) T total[decoding_heads<T>::most_heads][W];  // its lanes add up to the sum of weights
  T largest[decoding_heads<T>::most_heads];
  alignas(alignment) T distances[block];            // of a block of keys, if scores fall with distance
  T slopes[decoding_heads<T>::most_heads];
  for (index h = 0; h < a.heads && a.slopes.are_there; ++h) slopes[h] = a.slopes.of(a.first_head + h, a.all_heads);
  index key_column[decoding_heads<T>::most_heads];
  for (index h = 0; h < a.heads; ++h) key_column[h] = a.key_head(h) * d;
  std::fill_n(sum, a.heads * d, T(0));
  std::fill_n(largest, a.heads, none);
  std::fill_n(total[0], a.heads * W, T(0));

  for (index from = 0; from < a.visible; from += block) {
    const index keys = std::min(block, a.visible - from);
    for (index first = 0; first < keys; first += W) {
      // Prefetch the values of these keys, and the next keys.
      if (const index rows = std::min(W, a.visible + a.after - W - from - first); prefetches && rows > 0) {
        const N *value = a.values + (from + first) * a.value_stride, *key = a.keys + (from + first + W) * a.key_stride;
        for (index r = 0; r < rows; ++r, value += a.value_stride, key += a.key_stride)
          for (index j = 0; j < columns; j += line) {
            __builtin_prefetch(value + j);
            __builtin_prefetch(key + j);
          }
      }
      // The last W visible keys may overlap keys that already have scores; those get the same scores again.
      const index at = std::min(from + first, a.visible - W);
      for (index h = 0; h < a.heads; ++h) {
        const T* const query = a.query + h * d;
        const N* const key = a.keys + at * a.key_stride + key_column[h];
        T* const to = scores[h] + W + (at - from);
        if (at >= 0)
          (scores_of_keys(query, key, a.key_stride, d) * scale).store_unaligned(to);
        else
          for (index r = 0; r < keys; ++r)
            scores[h][W + r] = score_of_key(query, a.keys + r * a.key_stride + key_column[h], d) * scale.get(0);
      }
    }
    const index padded = (keys + W - 1) / W * W;
    if (a.slopes.are_there) distances_before(a.visible + a.after - 1 - from, a.rows_per_position, padded, distances);
    for (index h = 0; h < a.heads; ++h) {
      T* const s = scores[h] + W;
      if constexpr (is_scaled) multiply_by_scales(a.key_scales, from, keys, a.key_head(h), s);
      std::fill_n(s + keys, padded - keys, none);
      if (a.slopes.are_there)
        for (index r = 0; r < padded; r += W)
          xsimd::fma(vec<T>(-slopes[h]), vec<T>::load_aligned(distances + r), vec<T>::load_aligned(s + r)).store_aligned(s + r);
      if (a.slopes.biases) add_biases_of_head(a.slopes.biases + a.first_head + h, a.all_heads, a.rows_per_position, a.visible + a.after - from, keys, s);
      vec<T> most(largest[h]), weights = vec<T>::load_aligned(total[h]);
      for (index r = 0; r < padded; r += W) most = xsimd::max(most, vec<T>::load_aligned(s + r));
      most = largest_lane<T>(most);
      const T top = most.get(0);
      T* const to = sum + h * d;
      if (top > largest[h] && from > 0) {  // earlier sums were relative to a smaller maximum
        const T correction = std::exp(largest[h] - top);
        weights *= vec<T>(correction);
        for (index e = 0; e < d; ++e) to[e] *= correction;
      }
      for (index r = 0; r < padded; r += W) {
        const vec<T> weight = exp_of_nonpositive<T>(vec<T>::load_aligned(s + r) - most);
        weight.store_aligned(s + r);
        weights += weight;
      }
      weights.store_aligned(total[h]);
      largest[h] = top;
      if constexpr (is_scaled) multiply_by_scales(a.value_scales, from, keys, a.key_head(h), s);
      const N* const values = a.values + from * a.value_stride + key_column[h];
      index e = 0;
      for (; e + 4 * W <= d; e += 4 * W) add_weighted<4>(s, values + e, a.value_stride, keys, to + e);
      for (; e + 2 * W <= d; e += 2 * W) add_weighted<2>(s, values + e, a.value_stride, keys, to + e);
      for (; e + W <= d; e += W) add_weighted<1>(s, values + e, a.value_stride, keys, to + e);
      for (; e < d; ++e)
        for (index r = 0; r < keys; ++r) to[e] += s[r] * widen<T>(values[r * a.value_stride + e]);
    }
  }
  for (index h = 0; h < a.heads; ++h) {
    const T weight = horizontal_sum(vec<T>::load_aligned(total[h]));
    if (a.largest) {
      a.largest[h] = largest[h];
      a.totals[h] = weight;
      std::copy_n(sum + h * d, d, a.out + h * d);
      continue;
    }
    const T inverse = T(1) / weight;
    for (index e = 0; e < d; ++e) a.out[h * d + e] = sum[h * d + e] * inverse;
    if (a.lse) a.lse[h] = largest[h] + std::log(weight);
  }
}

/// The operands of attention_forward for few queries. k and v are matrices of T, or stored_rows.
template <class T, class Rows>
struct few_queries {
  const attention_shape& shape;
  const matrix<const T>& q;
  const Rows &k, &v;
  const matrix<T>& out;
  T* lse;
  const distance_slopes<T>& slopes;

  [[nodiscard]] index rows() const { return shape.sequences * shape.queries; }
  /// The most heads of one call.
  [[nodiscard]] index most_heads() const {
    return std::clamp<index>(decoding_heads<T>::most_numbers / shape.head_width, 1, decoding_heads<T>::most_heads);
  }
  /// The number of rows of memory that the query in a row sees.
  [[nodiscard]] index seen_by(index row) const {
    const index sequence = row / shape.queries, query = row % shape.queries;
    return shape.visible(sequence, query) - shape.first_visible(sequence, query);
  }
  /// Heads [head, head + heads) of the query in a row, and at most `keys` of the rows that it sees, from `from` on.
  [[nodiscard]] auto heads_of(index row, index head, index heads, index from, index keys) const {
    const auto all_keys = numbers_in(k), all_values = numbers_in(v);
    using N = std::remove_const_t<std::remove_pointer_t<decltype(all_keys.data)>>;
    const index sequence = row / shape.queries, query = row % shape.queries, group = shape.group_size();
    const index memory = shape.memory_row(sequence) + shape.first_visible(sequence, query) + from, visible = seen_by(row) - from;
    const index column = head * shape.head_width, key_column = head / group * shape.head_width;
    decoding_heads<T, N> a{q.row(row) + column, all_keys.row(memory) + key_column, all_values.row(memory) + key_column, all_keys.stride,
                           all_values.stride, std::min(visible, keys), heads, shape.head_width, group, group - head % group,
                           out.row(row) + column, nullptr, shape.rows_per_position, head, shape.heads, slopes,
                           scales_in(k, memory, head / group), scales_in(v, memory, head / group)};
    a.after = visible - a.visible;
    return a;
  }
};

/// What one query's heads find in a run of keys. A rank has room for `most`, in half of its workspace.
template <class T>
struct decoding_part {
  alignas(alignment) T sum[decoding_heads<T>::most_numbers];  // [heads * width]
  T largest[decoding_heads<T>::most_heads], total[decoding_heads<T>::most_heads];
  static constexpr index most = static_cast<index>(decoding_workspace_bytes<T> / (2 * sizeof(T))) / (decoding_heads<T>::most_numbers + 64);
};

/// out [width] of a head, the h-th of its parts: part(0), ..., part(count - 1), in this order. A part without keys has a total
/// of 0; the first has some. Returns the log of the sum of exp(scores).
template <class T, class PartOf>
T join_parts(const PartOf& part, index count, index h, index width, T* out) {
  T top = part(0).largest[h], weight = T(0);
  for (index r = 1; r < count; ++r)
    if (part(r).total[h] != T(0)) top = std::max(top, part(r).largest[h]);
  std::fill_n(out, width, T(0));
  for (index r = 0; r < count; ++r)
    if (const decoding_part<T>& p = part(r); p.total[h] != T(0)) {
      const T share = std::exp(p.largest[h] - top);
      weight += share * p.total[h];
      for (index e = 0; e < width; ++e) out[e] += share * p.sum[h * width + e];
    }
  const T inverse = T(1) / weight;
  for (index e = 0; e < width; ++e) out[e] *= inverse;
  return top + std::log(weight);
}

/// Ranks share out runs of keys: `runs` for each query and set of heads, each of `run` keys. So each reads whole rows of memory,
/// one after the other, whatever the number of heads.
template <class On, class T, class Rows>
void attend_in_runs(const On& on, const few_queries<T, Rows>& few, index runs, index run) {
  const index heads = few.shape.heads, most = few.most_heads(), sets = (heads + most - 1) / most;
  on.template share_parts<decoding_part<T>, decoding_part<T>::most>(
      few.rows() * runs * sets,
      [&](index i, decoding_part<T>& part) {
        const index row = i / sets / runs, from = i / sets % runs * run, head = i % sets * most, count = std::min(most, heads - head);
        if (from >= few.seen_by(row)) {  // fewer than another query sees
          std::fill_n(part.total, count, T(0));
          return;
        }
        auto a = few.heads_of(row, head, count, from, run);
        a.out = part.sum, a.largest = part.largest, a.totals = part.total;
        attend(a);
      },
      few.rows() * heads,
      [&](index first, index last, const auto& part_of) {
        for (; first < last; ++first) {
          const index row = first / heads, head = first % heads, width = few.shape.head_width;
          const auto part = [&](index r) -> const decoding_part<T>& { return part_of((row * runs + r) * sets + head / most); };
          const T lse = join_parts<T>(part, runs, head % most, width, few.out.row(row) + head * width);
          if (few.lse) few.lse[first] = lse;
        }
      });
}

/// Ranks share out heads; those that share keys and values stay together if ranks then have about equal shares.
template <class On, class T, class Rows>
void attend_by_heads(const On& on, const few_queries<T, Rows>& few) {
  const attention_shape& s = few.shape;
  const index groups = few.rows() * s.key_heads(), most_of_a_rank = (groups + on.size() - 1) / on.size();
  const index together = 8 * most_of_a_rank * on.size() <= 9 * groups ? s.group_size() : 1;
  on.share(few.rows() * s.heads / together, [&](index first, index last) {
    for (first *= together, last *= together; first < last;) {
      const index row = first / s.heads, head = first % s.heads, heads = std::min({s.heads - head, last - first, few.most_heads()});
      auto a = few.heads_of(row, head, heads, 0, few.seen_by(row));
      if (few.lse) a.lse = few.lse + first;
      attend(a);
      first += heads;
    }
  });
}

/// out = softmax(q k^T / sqrt(head_width)) v. A result does not depend on the number of ranks, nor a head's on which others
/// are with it.
template <class On, class T, class Rows>
void attend_few(const On& on, const attention_shape& s, const matrix<const T>& q, const Rows& k, const Rows& v, const matrix<T>& o,
                T* lse, const distance_slopes<T>& slopes) {
  const few_queries<T, Rows> few{s, q, k, v, o, lse, slopes};
  index longest = 0;
  for (index row = 0; row < few.rows(); ++row) longest = std::max(longest, few.seen_by(row));
  // Runs of whole blocks of keys: as many for each query as there is room for. Few keys are not worth another barrier.
  constexpr index block = decoding_heads<T>::block;
  const index sets = (s.heads + few.most_heads() - 1) / few.most_heads();
  const index runs = std::min(decoding_part<T>::most / (few.rows() * sets), (longest + block - 1) / block);
  if (longest >= 4 * block && runs > 1)
    attend_in_runs(on, few, runs, ((longest + runs - 1) / runs + block - 1) / block * block);
  else
    attend_by_heads(on, few);
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
