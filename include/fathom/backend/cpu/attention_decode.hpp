// Attention of few queries over a visible prefix on the CPU, as decoding has it (operations.hpp, attention_shape).
//
// The memory of keys and values is gone through once, a block of keys at a time, by all heads that a rank has, so that it
// is read in long runs. The lanes of a vector are keys while scores are made into weights, and columns of a head otherwise.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu::detail {

/// Some heads of one query, side by side, and what they see.
template <class T>
struct decoding_heads {
  const T* query;          // [heads * width]
  const T *keys, *values;  // [visible, heads * width], rows a stride apart
  index key_stride, value_stride;
  index visible, heads, width;
  T* out;  // [heads * width]
  T* lse;  // [heads], or null

  static constexpr index block = 64;                                // keys
  static constexpr index most_numbers = 1024, most_heads = 16;      // of a call: what lies on the stack
  static constexpr index many = 16 * 1024 / sizeof(T);             // numbers of keys that are worth prefetching
};

/// Scores [W] of W keys, beginning with row `first` of at most `last`: query . key for every key, in one vector. The dot
/// products of the W keys, a vector each, are added up across their lanes together, in log2(W) rounds that halve them.
template <class T>
[[gnu::always_inline]] inline vec<T> scores_of_keys(const T* query, const T* keys, index stride, index first, index last,
                                                    index width) {
  constexpr index W = lanes<T>;
  constexpr std::size_t w = static_cast<std::size_t>(W);
  native<T, W> sum[w];
  const index whole = width / W * W;
  constexpr std::size_t some = std::min<std::size_t>(w, 4);  // keys at a time: more rows want more registers to point to them
  unroll<w / some>([&](auto group) __attribute__((always_inline)) {
    const index at = first + static_cast<index>(group() * some);
    const T* row[some];
    unroll<some>([&](auto i) __attribute__((always_inline)) {
      row[i] = keys + std::min(at + static_cast<index>(i()), last) * stride;
      sum[group * some + i] = native<T, W>{};
    });
    for (index e = 0; e < whole; e += W) {
      const auto q = load_native<T, W>(query + e);
      unroll<some>([&](auto i) __attribute__((always_inline)) { sum[group * some + i] += q * load_native<T, W>(row[i] + e); });
    }
  });
  [&]<std::size_t... L>(std::index_sequence<L...>) __attribute__((always_inline)) {
    for (std::size_t half = w / 2; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i)
        sum[i] = __builtin_shufflevector(sum[i], sum[i + half], static_cast<int>(L / 2 + (L % 2) * w)...) +
                 __builtin_shufflevector(sum[i], sum[i + half], static_cast<int>(w / 2 + L / 2 + (L % 2) * w)...);
  }(std::make_index_sequence<w>());
  for (index e = whole; e < width; ++e)
    for (index i = 0; i < W; ++i) sum[0][i] += query[e] * keys[std::min(first + i, last) * stride + e];
  return as_vec<T>(sum[0]);
}

/// sum [columns of V vectors] += weights [keys] times values [keys, ...]: several rows at a time, so that no sum waits for
/// itself
template <std::size_t V, class T>
[[gnu::always_inline]] inline void add_weighted(const T* weights, const T* values, index stride, index keys, T* sum) {
  constexpr std::size_t at_once = V > 2 ? 2 : 4;
  vec<T> part[at_once][V];
  unroll<V>([&](auto c) __attribute__((always_inline)) {
    unroll<at_once>([&](auto n) __attribute__((always_inline)) { part[n][c] = vec<T>(T(0)); });
    part[0][c] = vec<T>::load_unaligned(sum + static_cast<index>(c()) * lanes<T>);
  });
  const auto add_row = [&](index r, auto n) __attribute__((always_inline)) {
    const vec<T> weight(weights[r]);
    unroll<V>([&](auto c) __attribute__((always_inline)) {
      const auto value = vec<T>::load_unaligned(values + r * stride + static_cast<index>(c()) * lanes<T>);
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

template <class T>
[[gnu::noinline]] void attend(const decoding_heads<T>& a) {
  constexpr index W = lanes<T>, block = decoding_heads<T>::block;
  const T scale = T(1) / std::sqrt(static_cast<T>(a.width));
  const index d = a.width, columns = a.heads * d, line = static_cast<index>(alignment / sizeof(T));
  const bool prefetches = a.visible * columns > decoding_heads<T>::many;
  alignas(alignment) T scores[decoding_heads<T>::most_heads][block];
  alignas(alignment) T sum[decoding_heads<T>::most_numbers];
  T largest[decoding_heads<T>::most_heads], total[decoding_heads<T>::most_heads];
  std::fill_n(sum, columns, T(0));
  std::fill_n(largest, a.heads, -std::numeric_limits<T>::infinity());
  std::fill_n(total, a.heads, T(0));

  for (index from = 0; from < a.visible; from += block) {
    const index keys = std::min(block, a.visible - from);
    for (index first = 0; first < keys; first += W) {
      if (prefetches)  // the values of these keys, and the next keys
        for (index r = from + first; r < std::min(from + first + W, a.visible - W); ++r)
          for (index j = 0; j < columns; j += line) {
            __builtin_prefetch(a.values + r * a.value_stride + j);
            __builtin_prefetch(a.keys + (r + W) * a.key_stride + j);
          }
      for (index h = 0; h < a.heads; ++h) {
        const auto s = scores_of_keys(a.query + h * d, a.keys + h * d, a.key_stride, from + first, a.visible - 1, d);
        (s * vec<T>(scale)).store_aligned(scores[h] + first);
      }
    }
    const index padded = (keys + W - 1) / W * W;
    for (index h = 0; h < a.heads; ++h) {
      T* const s = scores[h];
      std::fill_n(s + keys, padded - keys, -std::numeric_limits<T>::infinity());
      vec<T> most(largest[h]), weights(T(0));
      for (index r = 0; r < padded; r += W) most = xsimd::max(most, vec<T>::load_aligned(s + r));
      alignas(alignment) T each[W];
      most.store_aligned(each);
      const T top = *std::max_element(each, each + W);
      for (index r = 0; r < padded; r += W) {
        const vec<T> weight = exp_of_nonpositive<T>(vec<T>::load_aligned(s + r) - vec<T>(top));
        weight.store_aligned(s + r);
        weights += weight;
      }
      T* const to = sum + h * d;
      if (top > largest[h] && from > 0) {  // what was added up so far was relative to a smaller one
        const T correction = std::exp(largest[h] - top);
        total[h] *= correction;
        for (index e = 0; e < d; ++e) to[e] *= correction;
      }
      total[h] += horizontal_sum(weights);
      largest[h] = top;
      const T* const values = a.values + from * a.value_stride + h * d;
      index e = 0;
      for (; e + 4 * W <= d; e += 4 * W) add_weighted<4>(s, values + e, a.value_stride, keys, to + e);
      for (; e + 2 * W <= d; e += 2 * W) add_weighted<2>(s, values + e, a.value_stride, keys, to + e);
      for (; e + W <= d; e += W) add_weighted<1>(s, values + e, a.value_stride, keys, to + e);
      for (; e < d; ++e)
        for (index r = 0; r < keys; ++r) to[e] += s[r] * values[r * a.value_stride + e];
    }
  }
  for (index h = 0; h < a.heads; ++h) {
    const T inverse = T(1) / total[h];
    for (index e = 0; e < d; ++e) a.out[h * d + e] = sum[h * d + e] * inverse;
    if (a.lse) a.lse[h] = largest[h] + std::log(total[h]);
  }
}

/// out = softmax(q k^T / sqrt(head_width)) v; every rank takes its share of the heads of all queries. A head's result does
/// not depend on which others come with it.
template <class On, class T>
void attend_few(const On& on, const attention_shape& s, const matrix<const T>& q, const matrix<const T>& k,
                const matrix<const T>& v, const matrix<T>& o, T* lse) {
  const index most = std::clamp<index>(decoding_heads<T>::most_numbers / s.head_width, 1, decoding_heads<T>::most_heads);
  on.share(s.sequences * s.queries * s.heads, [&](index first, index last) {
    while (first < last) {
      const index row = first / s.heads, head = first % s.heads, c = head * s.head_width;
      const index heads = std::min({s.heads - head, last - first, most});
      const index sequence = row / s.queries, memory = s.memory_row(sequence);
      attend<T>({q.row(row) + c, k.row(memory) + c, v.row(memory) + c, k.stride, v.stride,
                 s.visible(sequence, row % s.queries), heads, s.head_width, o.row(row) + c, lse ? lse + first : nullptr});
      first += heads;
    }
  });
}

}  // namespace fathom::cpu::detail
