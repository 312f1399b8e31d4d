// Matrix products with packed weights: decoding, one row or a few, and reading prompts.
//
// The kernels know no sizes at compile time and no epilogues: there is one of each for a type of weights. They leave their
// sums in a small buffer, and the epilogue is applied on the way from there to the result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cpu {

namespace detail {

inline constexpr index prefetch_bytes = 2048;  // how far ahead of itself one row reads the weights

// ---- One row -----------------------------------------------------------------------------------------------------------

/// sums [count * N] = x [in] times `count` panels from `first` on. Four sums at a time for each column, because one would
/// wait for itself.
template <class P>
[[gnu::noinline]] void row_times_panels(const typename packing<P>::scalar* x, const packed_view<P>& w, index first, index count,
                                        typename packing<P>::scalar* sums) {
  using T = typename packing<P>::scalar;
  using word = typename packing<P>::word;
  constexpr index W = lanes<T>, N = 2 * W, R = packing<P>::rows, ahead = prefetch_bytes / static_cast<index>(sizeof(word));
  constexpr index words_at_once = std::max<index>(1, 4 / R);
  const index whole = w.in / R;
  for (index p = first; p < first + count; ++p, sums += N) {
    const word* at = w.panel(p);
    tile<T, 4> part;
    part.clear();
    const auto step = [&](index d, auto u, auto rows) __attribute__((always_inline)) {
      const auto b0 = load_native<word, W>(at + d * N), b1 = load_native<word, W>(at + d * N + W);
      __builtin_prefetch(at + d * N + ahead);
      if constexpr (N * sizeof(word) > alignment) __builtin_prefetch(at + d * N + W + ahead);
      unroll<static_cast<std::size_t>(rows())>([&](auto r) __attribute__((always_inline)) {
        constexpr index n = (u() * R + static_cast<index>(r())) % 4;
        const vec<T> left(x[d * R + static_cast<index>(r())]);
        part.at[n][0] = xsimd::fma(left, packing<P>::template row<static_cast<index>(r())>(b0), part.at[n][0]);
        part.at[n][1] = xsimd::fma(left, packing<P>::template row<static_cast<index>(r())>(b1), part.at[n][1]);
      });
    };
    using all = std::integral_constant<index, R>;
    index d = 0;
    for (; d + words_at_once <= whole; d += words_at_once)
      unroll<static_cast<std::size_t>(words_at_once)>([&](auto u) __attribute__((always_inline)) {
        step(d + static_cast<index>(u()), std::integral_constant<index, static_cast<index>(u())>(), all());
      });
    for (; d < whole; ++d) step(d, std::integral_constant<index, 0>(), all());
    unroll<static_cast<std::size_t>(R - 1)>([&](auto r) __attribute__((always_inline)) {  // a word of fewer rows
      constexpr index rows = static_cast<index>(r()) + 1;
      if (w.in - whole * R == rows) step(whole, std::integral_constant<index, 0>(), std::integral_constant<index, rows>());
    });
    unroll<2>([&](auto j) __attribute__((always_inline)) {
      vec<T> sum = (part.at[0][j] + part.at[1][j]) + (part.at[2][j] + part.at[3][j]);
      if constexpr (std::is_same_v<P, std::int8_t>) sum *= vec<T>::load_aligned(w.scales + p * N + static_cast<index>(j()) * W);
      sum.store_aligned(sums + static_cast<index>(j()) * W);
    });
  }
}

// Where the machine multiplies bytes, int8 weights are multiplied as integers, with x rounded to 16 bits: the sums are then
// exact, and x is 2^-16 of its largest magnitude off at most, far less than the weights are.
/// x = scale * (256 high + low - 2^15), for bytes high and low; [in], filled up to a multiple of 4
struct row_in_bytes {
  std::uint32_t *high, *low;  // 4 of them in a word
  float scale;
};
[[gnu::noinline]] inline void round_row(const float* x, index in, row_in_bytes& to) {
  constexpr index W = lanes<float>;
  vec<float> most(0.f);
  index k = 0;
  for (; k + W <= in; k += W) most = xsimd::max(most, xsimd::abs(vec<float>::load_unaligned(x + k)));
  alignas(alignment) float each[W];
  most.store_aligned(each);
  float largest = *std::max_element(each, each + W);
  for (; k < in; ++k) largest = std::max(largest, std::abs(x[k]));
  const float inverse = largest > 1e-30f ? 32767 / largest : 0;
  to.scale = largest / 32767;
  // Added to 1.5 * 2^23, a number is rounded to an integer, which the lowest bits of the sum then hold.
  constexpr float round = 12582912.f;
  auto *const high = reinterpret_cast<std::uint8_t*>(to.high), *const low = reinterpret_cast<std::uint8_t*>(to.low);
  for (k = 0; k + W <= in; k += W) {
    const auto sum = load_native<float, W>(x + k) * inverse + round;
    const auto bits = std::bit_cast<native<std::uint32_t, W>>(sum);
    const auto h = __builtin_convertvector((bits >> 8) ^ 0x80u, native<std::uint8_t, W>);
    const auto l = __builtin_convertvector(bits & 0xffu, native<std::uint8_t, W>);
    std::memcpy(high + k, &h, sizeof h);
    std::memcpy(low + k, &l, sizeof l);
  }
  for (; k < (in + 3) / 4 * 4; ++k) {
    const auto bits = std::bit_cast<std::uint32_t>(k < in ? x[k] * inverse + round : round);
    high[k] = static_cast<std::uint8_t>((bits >> 8) ^ 0x80u);
    low[k] = static_cast<std::uint8_t>(bits);
  }
}

/// The same as row_times_panels, of a row in bytes.
template <class P>
[[gnu::noinline]] void bytes_times_panels(const row_in_bytes& x, const packed_view<P>& w, index first, index count, float* sums);

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
inline constexpr bool has_byte_products = true;
/// sums [16] += in each 32-bit lane, the four products of unsigned bytes of a and signed bytes of b
[[gnu::always_inline]] inline __m512i add_byte_products(__m512i sums, std::uint32_t a, const std::int32_t* b) {
  return _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(static_cast<int>(a)), _mm512_load_si512(b));
}
using byte_sums = __m512i;
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
inline constexpr bool has_byte_products = true;
[[gnu::always_inline]] inline __m256i add_byte_products(__m256i sums, std::uint32_t a, const std::int32_t* b) {
  return _mm256_dpbusd_avx_epi32(sums, _mm256_set1_epi32(static_cast<int>(a)),
                                 _mm256_load_si256(reinterpret_cast<const __m256i*>(b)));
}
using byte_sums = __m256i;
#else
inline constexpr bool has_byte_products = false;
#endif

#if (defined(__AVX512VNNI__) && defined(__AVX512F__)) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
template <class P>
void bytes_times_panels(const row_in_bytes& x, const packed_view<P>& w, index first, index count, float* sums) {
  constexpr index W = lanes<float>, N = 2 * W, ahead = prefetch_bytes / 4;
  for (index p = first; p < first + count; ++p, sums += N) {
    const std::int32_t* const at = w.panel(p);
    byte_sums high[2][2] = {}, low[2][2] = {};
    const auto step = [&](index d, auto u) __attribute__((always_inline)) {
      __builtin_prefetch(at + d * N + ahead);
      if constexpr (N * 4 > alignment) __builtin_prefetch(at + d * N + W + ahead);
      unroll<2>([&](auto j) __attribute__((always_inline)) {
        const std::int32_t* const words = at + d * N + static_cast<index>(j()) * W;
        high[u][j] = add_byte_products(high[u][j], x.high[d], words);
        low[u][j] = add_byte_products(low[u][j], x.low[d], words);
      });
    };
    index d = 0;
    for (; d + 2 <= w.depth; d += 2) {
      step(d, std::integral_constant<std::size_t, 0>());
      step(d + 1, std::integral_constant<std::size_t, 1>());
    }
    if (d < w.depth) step(d, std::integral_constant<std::size_t, 0>());
    unroll<2>([&](auto j) __attribute__((always_inline)) {
      using integers = native<std::int32_t, W>;
      using floats = native<float, W>;
      const auto total = load_native<std::int32_t, W>(w.totals + p * N + static_cast<index>(j()) * W);
      const integers h = std::bit_cast<integers>(high[0][j]) + std::bit_cast<integers>(high[1][j]) - 128 * total;
      const integers l = std::bit_cast<integers>(low[0][j]) + std::bit_cast<integers>(low[1][j]);
      const floats sum = __builtin_convertvector(h, floats) * 256.f + __builtin_convertvector(l, floats);
      const auto scale = load_native<float, W>(w.scales + p * N + static_cast<index>(j()) * W) * x.scale;
      const floats result = sum * scale;
      std::memcpy(sums + static_cast<index>(j()) * W, &result, sizeof result);
    });
  }
}
#endif

// ---- Several rows ------------------------------------------------------------------------------------------------------

/// sums [Rows, N] = rows [i, i + Rows) of x [rows, in] times a panel. Rows that x does not have are its last.
template <class P, index Rows>
[[gnu::noinline]] void rows_times_panel(const matrix<const typename packing<P>::scalar>& x, index i, const packed_view<P>& w,
                                        index p, typename packing<P>::scalar* sums) {
  using T = typename packing<P>::scalar;
  using word = typename packing<P>::word;
  constexpr index W = lanes<T>, N = 2 * W, R = packing<P>::rows;
  constexpr auto rows = static_cast<std::size_t>(Rows);
  const T* row[rows];
  unroll<rows>([&](auto r) __attribute__((always_inline)) { row[r] = x.row(std::min(i + static_cast<index>(r()), x.rows - 1)); });
  const word* at = w.panel(p);
  tile<T, Rows> acc;
  acc.clear();
  const auto step = [&](index d, auto count) __attribute__((always_inline)) {
    const auto b0 = load_native<word, W>(at + d * N), b1 = load_native<word, W>(at + d * N + W);
    unroll<static_cast<std::size_t>(count())>([&](auto n) __attribute__((always_inline)) {
      constexpr index r = static_cast<index>(n());
      const vec<T> v0 = packing<P>::template row<r>(b0), v1 = packing<P>::template row<r>(b1);
      unroll<rows>([&](auto m) __attribute__((always_inline)) {
        const vec<T> left(row[m][d * R + r]);
        acc.at[m][0] = xsimd::fma(left, v0, acc.at[m][0]);
        acc.at[m][1] = xsimd::fma(left, v1, acc.at[m][1]);
      });
    });
  };
  const index whole = w.in / R;
  for (index d = 0; d < whole; ++d) step(d, std::integral_constant<index, R>());
  unroll<static_cast<std::size_t>(R - 1)>([&](auto r) __attribute__((always_inline)) {
    constexpr index count = static_cast<index>(r()) + 1;
    if (w.in - whole * R == count) step(whole, std::integral_constant<index, count>());
  });
  if constexpr (std::is_same_v<P, std::int8_t>)
    unroll<rows>([&](auto m) __attribute__((always_inline)) {
      acc.at[m][0] *= vec<T>::load_aligned(w.scales + p * N);
      acc.at[m][1] *= vec<T>::load_aligned(w.scales + p * N + W);
    });
  acc.store(sums, N);
}

/// y(i.., j..) = epilogue(sums [rows, stride]), for the columns of y from j on that there are sums for
template <class T, class Epilogue>
[[gnu::always_inline]] inline void finish(const T* sums, index stride, index rows, index columns, const matrix<T>& y, index i,
                                          index j, const Epilogue& epilogue) {
  constexpr index W = lanes<T>;
  columns = std::min(columns, y.columns - j);
  for (index r = 0; r < rows; ++r) {
    index c = 0;
    for (; c + W <= columns; c += W)
      epilogue(vec<T>::load_aligned(sums + r * stride + c), i + r, j + c).store_unaligned(y.row(i + r) + j + c);
    for (; c < columns; ++c) y(i + r, j + c) = epilogue(sums[r * stride + c], i + r, j + c);
  }
}

/// One row: every rank streams its share of the panels through.
template <class On, class T, class P, class Epilogue>
[[gnu::noinline]] void packed_row_product(const On& on, const matrix<const T>& x, const packed_view<P>& w, const matrix<T>& y,
                                          [[maybe_unused]] std::uint32_t* bytes, const Epilogue& epilogue) {
  constexpr index N = packed_view<P>::N, at_once = 8;
  on.share(w.panels, [&](index first, index last) {
    alignas(alignment) T sums[at_once * N];
    const auto all = [&](const auto& multiply) __attribute__((always_inline)) {
      for (index p = first; p < last; p += at_once) {
        const index count = std::min(at_once, last - p);
        multiply(p, count);
        finish(sums, 0, 1, count * N, y, 0, p * N, epilogue);
      }
    };
    if constexpr (has_byte_products && std::is_same_v<P, std::int8_t>) {
      row_in_bytes row{bytes, bytes + w.depth, 0};
      round_row(x.row(0), w.in, row);
      all([&](index p, index count) { bytes_times_panels(row, w, p, count, sums); });
    } else {
      all([&](index p, index count) { row_times_panels<P>(x.row(0), w, p, count, sums); });
    }
  });
}

/// Several rows: a panel is used for all of them, tile by tile, while the caches hold it; a few lines of the next one are
/// fetched with each tile.
template <class On, class T, class P, class Epilogue>
[[gnu::noinline]] void packed_rows_product(const On& on, const matrix<const T>& x, const packed_view<P>& w, const matrix<T>& y,
                                           const Epilogue& epilogue) {
  constexpr index N = packed_view<P>::N;
  const index rows = x.rows <= tile_rows / 2 ? tile_rows / 2 : tile_rows, tiles = (x.rows + rows - 1) / rows;
  const index panel_bytes = w.depth * N * static_cast<index>(sizeof(*w.words));
  on.share(w.panels * tiles, [&](index first, index last) {
    alignas(alignment) T sums[tile_rows * N];
    for (index task = first; task < last; ++task) {
      const index p = task / tiles, i = task % tiles * rows;
      if (p + 1 < w.panels) {
        const char* const next = reinterpret_cast<const char*>(w.panel(p + 1));
        for (index b = panel_bytes * (task % tiles) / tiles; b < panel_bytes * (task % tiles + 1) / tiles; b += alignment)
          __builtin_prefetch(next + b, 0, 2);
      }
      if (rows == tile_rows)
        rows_times_panel<P, tile_rows>(x, i, w, p, sums);
      else
        rows_times_panel<P, tile_rows / 2>(x, i, w, p, sums);
      finish(sums, N, std::min(rows, x.rows - i), N, y, i, p * N, epilogue);
    }
  });
}

}  // namespace detail

/// y [M, N] = epilogue(x [M, K] w), w packed
template <class C, class T, class P, index In, index Out, class Epilogue>
void matmul(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, const packed_matrix<P, In, Out>& w,
            matrix<std::type_identity_t<T>> y, const Epilogue& epilogue) {
  if (x.rows == 1) {
    constexpr bool in_bytes = detail::has_byte_products && std::is_same_v<P, std::int8_t>;
    static_assert(!in_bytes || In <= 65536, "fathom: int8 weights of more than 65536 rows");  // their sums are 32-bit integers
    alignas(alignment) std::uint32_t bytes[in_bytes ? 2 * packed_matrix<P, In, Out>::depth : 1];
    detail::packed_row_product<context<C, T>, T, P>(on, x, w.view(), y, bytes, epilogue);
  } else {
    detail::packed_rows_product<context<C, T>, T, P>(on, x, w.view(), y, epilogue);
  }
}

/// Logits: y [M, V] = epilogue(x [M, E] w^T), w a packed table of V rows.
template <class C, class T, class P, index V, index E, class Epilogue>
void matmul_nt(const context<C, T>& on, matrix<const std::type_identity_t<T>> x, const packed_head<P, V, E>& w,
               matrix<std::type_identity_t<T>> y, const Epilogue& epilogue) {
  matmul(on, x, w.transposed, y, epilogue);
}

}  // namespace fathom::cpu
