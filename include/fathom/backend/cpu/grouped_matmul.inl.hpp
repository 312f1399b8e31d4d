// Matrix products with weights in groups: definitions for packed_matmul.hpp.
//
// Rows of x are rounded to bytes, in groups as well, each with its own scale, as llama.cpp does for such weights: x is off by
// at most 1/254 of the largest magnitude of its group, far less than the weights are. A product of two groups is then a sum of
// products of bytes, times both scales, and, for weights with an offset, the offset times the sum of the group of x. One kernel
// serves one row, a few, and prompts: it unpacks a vector of weights once for several rows. Sums of a group are exact, and
// groups are added up one after the other, so results do not depend on the number of rows.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "fathom/backend/cpu/any_epilogue.hpp"
#include "fathom/backend/cpu/grouped.inl.hpp"
#include "fathom/backend/cpu/packed_matmul.hpp"
#include "fathom/backend/cpu/packed_matmul.inl.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/core/matrix.hpp"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

// ---- Rows of x ------------------------------------------------------------------------------------------------------

/// A group of a rounded row: x[i] = scale * q[i].
struct rounded_group {
  std::int32_t words[8];  // q, four to a word, the first in its lowest bits
  float scale;            // NaN if a number is not finite
  float sum;              // of the group, scale * q
  std::int32_t start;     // -zero times the sum of q, for P::zero of the weights
};

/// Rounded rows, [count][groups].
struct rounded_group_rows {
  rounded_group* groups;
  index groups_per_row, count;
  [[nodiscard]] rounded_group* row(index r) const { return groups + r * groups_per_row; }
};

/// to = x [32], rounded.
[[gnu::always_inline]] inline void round_group_of_row(const float* x, int zero, rounded_group& to) {
  constexpr index W = lanes<float>;
  constexpr auto pieces = static_cast<std::size_t>(group_size / W);
  vec<float> most(0.f), differences(0.f);  // x - x: 0, or NaN if x is not finite
  unroll<pieces>([&](auto i) __attribute__((always_inline)) {
    const auto numbers = vec<float>::load_unaligned(x + static_cast<index>(i()) * W);
    most = xsimd::max(most, xsimd::abs(numbers));
    differences += numbers - numbers;
  });
  const float largest = horizontal_max(most), difference = horizontal_sum(differences);
  const float inverse = difference == 0 && largest > 1e-30f ? 127 / largest : 0;
  native<float, W> sums{};
  unroll<pieces>([&](auto i) __attribute__((always_inline)) {
    const auto shifted = load_native<float, W>(x + static_cast<index>(i()) * W) * inverse + to_integer;
    sums += shifted - to_integer;
    const auto bytes = __builtin_convertvector(std::bit_cast<native<std::uint32_t, W>>(shifted), native<std::uint8_t, W>);
    std::memcpy(reinterpret_cast<std::uint8_t*>(to.words) + static_cast<index>(i()) * W, &bytes, sizeof bytes);
  });
  const float sum = horizontal_sum(as_vec<float>(sums));
  to.scale = inverse > 0 ? largest / 127 : difference;
  to.sum = to.scale * sum;
  to.start = inverse > 0 ? -zero * static_cast<std::int32_t>(sum) : 0;  // the sum of rows that are not finite is NaN
}
/// Row r of `to` = x [in], rounded, with zeros beyond its end.
[[gnu::noinline]] inline void round_row_in_groups(const float* x, index in, int zero, const rounded_group_rows& to, index r) {
  rounded_group* const groups = to.row(r);
  const index whole = in / group_size;
  for (index g = 0; g < whole; ++g) round_group_of_row(x + g * group_size, zero, groups[g]);
  if (whole == to.groups_per_row) return;
  float rest[group_size] = {};
  std::copy_n(x + whole * group_size, in - whole * group_size, rest);
  round_group_of_row(rest, zero, groups[whole]);
}

// ---- Sums of products of bytes --------------------------------------------------------------------------------------
//
// byte_products<P> is a vector of sums for the columns of a vector, one for each 32-bit lane:
//
//   byte_products(start)       start + 0
//   add(w, x)                  adds the products of the four bytes in each lane of w, stored weights, and the four of x
//   sum()                      the sum of (stored - P::zero) * x after 8 calls of add, as P::zero enters with start

using weight_bytes = native<std::uint8_t, vector_bytes>;
using weight_sums = native<std::int32_t, lanes<float>>;

/// `start` in all lanes
[[gnu::always_inline]] inline weight_sums in_all_lanes(std::int32_t start) { return weight_sums{} + start; }

#if (defined(__AVX512VNNI__) && defined(__AVX512F__)) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
template <grouped_type P>
struct byte_products {
  weight_sums sums;
  [[gnu::always_inline]] explicit byte_products(std::int32_t start) : sums(in_all_lanes(start)) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
#if defined(__AVX512F__)
    sums = std::bit_cast<weight_sums>(
        _mm512_dpbusd_epi32(std::bit_cast<__m512i>(sums), std::bit_cast<__m512i>(w), _mm512_set1_epi32(x)));
#else
    sums = std::bit_cast<weight_sums>(
        _mm256_dpbusd_avx_epi32(std::bit_cast<__m256i>(sums), std::bit_cast<__m256i>(w), _mm256_set1_epi32(x)));
#endif
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const { return sums; }
};
#elif (defined(__SSE2__) && !defined(__AVX__)) || (defined(__AVX2__) && !defined(__AVX512F__)) || defined(__AVX512BW__)
/// The operations of this processor for whole vectors.
struct integer_vectors {
  using shorts = native<std::int16_t, vector_bytes / 2>;
#if defined(__AVX512BW__)
  static weight_sums pairs(const shorts& a, const shorts& b) {
    return std::bit_cast<weight_sums>(_mm512_madd_epi16(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b)));
  }
  static shorts bytes(const weight_bytes& a, const weight_sums& b) {
    return std::bit_cast<shorts>(_mm512_maddubs_epi16(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b)));
  }
#elif defined(__AVX2__)
  static weight_sums pairs(const shorts& a, const shorts& b) {
    return std::bit_cast<weight_sums>(_mm256_madd_epi16(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
  }
  static shorts bytes(const weight_bytes& a, const weight_sums& b) {
    return std::bit_cast<shorts>(_mm256_maddubs_epi16(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
  }
  static weight_bytes magnitudes(const weight_bytes& a) { return std::bit_cast<weight_bytes>(_mm256_abs_epi8(std::bit_cast<__m256i>(a))); }
  static weight_sums with_signs(const weight_sums& a, const weight_bytes& b) {
    return std::bit_cast<weight_sums>(_mm256_sign_epi8(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
  }
#else
  static weight_sums pairs(const shorts& a, const shorts& b) {
    return std::bit_cast<weight_sums>(_mm_madd_epi16(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
  }
#if defined(__SSSE3__)
  static shorts bytes(const weight_bytes& a, const weight_sums& b) {
    return std::bit_cast<shorts>(_mm_maddubs_epi16(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
  }
  static weight_bytes magnitudes(const weight_bytes& a) { return std::bit_cast<weight_bytes>(_mm_abs_epi8(std::bit_cast<__m128i>(a))); }
  static weight_sums with_signs(const weight_sums& a, const weight_bytes& b) {
    return std::bit_cast<weight_sums>(_mm_sign_epi8(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
  }
#endif
#endif
};
/// Bytes as pairs of 16-bit integers: first the even ones, then the odd ones.
template <grouped_type P>
struct byte_products {
  using shorts = integer_vectors::shorts;
  weight_sums sums;
  [[gnu::always_inline]] explicit byte_products(std::int32_t start) : sums(in_all_lanes(start)) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
    const auto left = std::bit_cast<native<std::uint16_t, vector_bytes / 2>>(w);
    const auto right = std::bit_cast<shorts>(in_all_lanes(x));
    sums += integer_vectors::pairs(std::bit_cast<shorts>(left & 0xff), (right << 8) >> 8);
    sums += integer_vectors::pairs(std::bit_cast<shorts>(left >> 8), right >> 8);
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const { return sums; }
};
#if defined(__SSSE3__) && !defined(__AVX512F__)
/// With eight bits, magnitudes of weights times x with their signs: the sum of two products fits 16 bits, 2 * 128 * 127 < 2^15.
template <grouped_type P>
  requires(P::bits == 8)
struct byte_products<P> {
  weight_sums sums{};
  [[gnu::always_inline]] explicit byte_products(std::int32_t) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
    const weight_bytes left = w ^ 0x80;
    sums += integer_vectors::pairs(integer_vectors::bytes(integer_vectors::magnitudes(left), integer_vectors::with_signs(in_all_lanes(x), left)),
                                   integer_vectors::shorts{} + 1);
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const { return sums; }
};
#endif
#if defined(__SSSE3__)
/// With four bits, the sum of 16 products fits 16 bits: 16 * 15 * 127 < 2^15.
template <grouped_type P>
  requires(P::bits == 4)
struct byte_products<P> {
  integer_vectors::shorts sums{};
  std::int32_t start;
  [[gnu::always_inline]] explicit byte_products(std::int32_t first) : start(first) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) { sums += integer_vectors::bytes(w, in_all_lanes(x)); }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const {
    return integer_vectors::pairs(sums, integer_vectors::shorts{} + 1) + start;
  }
};
#endif
#elif defined(__ARM_NEON) && defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
template <grouped_type P>
struct byte_products {
  int32x4_t sums;
  [[gnu::always_inline]] explicit byte_products(std::int32_t start) : sums(vdupq_n_s32(P::bits == 4 ? start : 0)) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
    sums = vdotq_s32(sums, std::bit_cast<int8x16_t>(P::bits == 4 ? w : w ^ 0x80), vreinterpretq_s8_s32(vdupq_n_s32(x)));
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const { return std::bit_cast<weight_sums>(sums); }
};
#elif defined(__ARM_NEON) && defined(__aarch64__)
template <grouped_type P>
struct byte_products {
  int32x4_t sums;
  [[gnu::always_inline]] explicit byte_products(std::int32_t start) : sums(vdupq_n_s32(P::bits == 4 ? start : 0)) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
    const auto left = std::bit_cast<int8x16_t>(P::bits == 4 ? w : w ^ 0x80);
    const int8x16_t right = vreinterpretq_s8_s32(vdupq_n_s32(x));
    const int16x8_t low = vmull_s8(vget_low_s8(left), vget_low_s8(right)), high = vmull_high_s8(left, right);
    sums = vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const { return std::bit_cast<weight_sums>(sums); }
};
/// With four bits, a sum of 8 products fits 16 bits.
template <grouped_type P>
  requires(P::bits == 4)
struct byte_products<P> {
  int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);  // of two columns each
  std::int32_t start;
  [[gnu::always_inline]] explicit byte_products(std::int32_t first) : start(first) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
    const auto left = std::bit_cast<int8x16_t>(w);
    const int8x16_t right = vreinterpretq_s8_s32(vdupq_n_s32(x));
    low = vmlal_s8(low, vget_low_s8(left), vget_low_s8(right));
    high = vmlal_high_s8(high, left, right);
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const {
    return std::bit_cast<weight_sums>(vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))) + start;
  }
};
#else
template <grouped_type P>
struct byte_products {
  weight_sums sums;
  [[gnu::always_inline]] explicit byte_products(std::int32_t start) : sums(in_all_lanes(start)) {}
  [[gnu::always_inline]] void add(const weight_bytes& w, std::int32_t x) {
    const auto left = std::bit_cast<native<std::uint32_t, lanes<float>>>(w);
    unroll<4>([&](auto i) __attribute__((always_inline)) {
      const std::int32_t right = static_cast<std::int8_t>(static_cast<std::uint32_t>(x) >> (8 * i()) & 0xffu);
      sums += std::bit_cast<weight_sums>((left >> (8 * i())) & 0xffu) * right;
    });
  }
  [[nodiscard, gnu::always_inline]] weight_sums sum() const { return sums; }
};
#endif

// ---- The kernel -----------------------------------------------------------------------------------------------------

/// The f16 numbers of a vector's columns, in float.
[[gnu::always_inline]] inline vec<float> load_f16(const std::uint8_t* from) {
#if defined(__AVX512F__)
  return {_mm512_cvtph_ps(std::bit_cast<__m256i>(load_native<std::uint8_t, 32>(from)))};
#elif defined(__F16C__) && defined(__AVX__)
  return {_mm256_cvtph_ps(std::bit_cast<__m128i>(load_native<std::uint8_t, 16>(from)))};
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return {vcvt_f32_f16(vreinterpret_f16_u8(std::bit_cast<uint8x8_t>(load_native<std::uint8_t, 8>(from))))};
#else
  // The bits of a half, three places to the left and with no bias, are a float 2^112 times as small. All scales are finite
  // or NaN.
  constexpr index W = lanes<float>;
  using words = native<std::uint32_t, W>;
  const words bits = __builtin_convertvector(load_native<std::uint16_t, W>(reinterpret_cast<const std::uint16_t*>(from)), words);
  const auto magnitude = std::bit_cast<native<float, W>>((bits & 0x7fffu) << 13) * 0x1p112f;
  const words nan = std::bit_cast<words>((bits & 0x7fffu) > 0x7c00u) & 0x7fc00000u;
  return as_vec<float>(std::bit_cast<words>(magnitude) | nan | (bits & 0x8000u) << 16);
#endif
}

/// Vectors of a strip that several rows are multiplied with at a time: both, if there are registers for their sums.
inline constexpr index vectors_at_once = vector_registers == 32 ? 2 : 1;
/// Rows that share each unpacked vector of weights.
inline constexpr index grouped_rows = 4;

/// Two vectors of columns that kernels take at a time, as strip in packed_matmul.inl.hpp, but of groups.
template <grouped_type P>
struct group_strip {
  using view = packed_view<P>;
  static constexpr index W = lanes<float>, N = view::N;
  static constexpr index columns = 2 * W;
  static constexpr bool is_two_panels = W == N;

  const std::uint8_t *scales, *words;      // of the first vector, in group 0; those of others are group_bytes further on
  index other_scales = W * 2, other_words = W * 4;  // bytes from the first vector to the second

  /// For several rows: strip s.
  group_strip(const view& w, index s) : group_strip(w, s * columns / N, s * columns % N, 2 * s + 1 < w.panels ? 1 : 0) {}
  /// For one row: if strips are two panels, s and s + apart, else strip s.
  group_strip(const view& w, index s, index apart) : group_strip(w, s * row_step / N, s * row_step % N, apart) {}
  static constexpr index row_step = is_two_panels ? W : columns;
  static constexpr index other_sums = is_two_panels ? strips_at_once * W : W;
  [[nodiscard]] static index count(const view& w) { return (w.panels * N + columns - 1) / columns; }

  /// Prefetches what follows group g, and may lie in the next panel.
  [[gnu::always_inline]] void prefetch(index g) const {
    constexpr index bytes = view::group_bytes;
    const std::uint8_t* const next = scales + g * bytes + prefetch_bytes;
    for (index b = 0; b < bytes; b += alignment) __builtin_prefetch(next + b);
    if constexpr (is_two_panels)
      for (index b = 0; b < bytes; b += alignment) __builtin_prefetch(next + other_scales + b);
  }

 private:
  group_strip(const view& w, index panel, index column, index apart) : scales(w.group_at(panel, 0)) {
    words = scales + view::head_bytes + column * 4;
    scales += column * 2;
    if constexpr (is_two_panels) other_scales = other_words = apart * w.groups * view::group_bytes;
  }
};

/// sums [Rows, stride] = rows [i, i + Rows) times strip `first`; rows beyond the end repeat the last one. For one row, the sums
/// of `count` strips from `first` on, as each_strip_of_row has them.
template <class P, index Rows>
[[gnu::noinline]] void rows_times_groups(const rounded_group_rows& x, index i, const packed_view<P>& w, index first, index count,
                                         index apart, float* sums, index stride) {
  constexpr index W = lanes<float>, N = packed_view<P>::N, group_bytes = packed_view<P>::group_bytes;
  constexpr auto rows = static_cast<std::size_t>(Rows);
  constexpr auto vectors = static_cast<std::size_t>(Rows == 1 ? 2 : vectors_at_once);
  const rounded_group* left[rows];
  unroll<rows>([&](auto r) __attribute__((always_inline)) {
    left[r] = x.row(std::min(i + static_cast<index>(r()), x.count - 1));
  });
  using strip = group_strip<P>;
  constexpr index other_sums = Rows == 1 ? strip::other_sums : W;
  for (index s = first; s < first + count; ++s, sums += strip::row_step) {
    const strip of = Rows == 1 ? strip(w, s, apart) : strip(w, s);
    for (index v = 0; v < 2; v += static_cast<index>(vectors)) {
      const std::uint8_t *scales = of.scales + v * of.other_scales, *words = of.words + v * of.other_words;
      vec<float> total[rows][vectors];
      unroll<rows * vectors>([&](auto n) __attribute__((always_inline)) { total[n / vectors][n % vectors] = vec<float>(0.f); });
      for (index g = 0; g < w.groups; ++g, scales += group_bytes, words += group_bytes) {
        if constexpr (Rows == 1) of.prefetch(g);
        using products = byte_products<P>;
        const auto products_of = [&]<std::size_t... R>(std::index_sequence<R...>) __attribute__((always_inline)) {
          return std::array<products, rows * vectors>{products(left[R / vectors][g].start)...};
        };
        auto part = products_of(std::make_index_sequence<rows * vectors>());
        unroll<static_cast<std::size_t>(packed_view<P>::words)>([&](auto d) __attribute__((always_inline)) {
          unroll<vectors>([&](auto j) __attribute__((always_inline)) {
            const auto bytes = load_native<std::uint8_t, vector_bytes>(words + static_cast<index>(d()) * N * 4 + (j() == 0 ? 0 : of.other_words));
            if constexpr (P::bits == 8) {
              unroll<rows>([&](auto r) __attribute__((always_inline)) { part[r * vectors + j].add(bytes, left[r][g].words[d]); });
            } else {
              const weight_bytes low = bytes & 15;
              const auto shifted = std::bit_cast<native<std::uint16_t, vector_bytes / 2>>(bytes) >> 4;
              const weight_bytes high = std::bit_cast<weight_bytes>(shifted) & 15;
              unroll<rows>([&](auto r) __attribute__((always_inline)) {
                part[r * vectors + j].add(low, left[r][g].words[d]);
                part[r * vectors + j].add(high, left[r][g].words[d + 4]);
              });
            }
          });
        });
        unroll<vectors>([&](auto j) __attribute__((always_inline)) {
          const std::uint8_t* const at = scales + (j() == 0 ? 0 : of.other_scales);
          const vec<float> scale = load_f16(at);
          unroll<rows>([&](auto r) __attribute__((always_inline)) {
            vec<float>& sum = total[r][j];
            const auto product = as_vec<float>(__builtin_convertvector(part[r * vectors + j].sum(), native<float, W>));
            sum = xsimd::fma(product * scale, vec<float>(left[r][g].scale), sum);
            if constexpr (P::has_offset) sum = xsimd::fma(load_f16(at + N * 2), vec<float>(left[r][g].sum), sum);
          });
        });
      }
      unroll<rows * vectors>([&](auto n) __attribute__((always_inline)) {
        constexpr auto r = static_cast<index>(n() / vectors), j = static_cast<index>(n() % vectors);
        total[r][j].store_aligned(sums + r * stride + (v + j) * other_sums);
      });
    }
  }
}

// ---- Products -------------------------------------------------------------------------------------------------------

/// Workspace for rounded rows: at least one of the most groups that there can be.
struct grouped_scratch {
  alignas(alignment) rounded_group groups[9 * 1024];
};
static_assert(sizeof(grouped_scratch) <= decoding_workspace_bytes<float>);

/// Each rank rounds as many rows as it has room for, and takes its share of the strips.
template <class C, grouped_type P>
void grouped_product(const context<C, float>& on, const matrix<const float>& x, const packed_view<P>& w, const matrix<float>& y,
                     const any_epilogue<float>& epilogue) {
  constexpr index N = group_strip<P>::columns;
  on.share(group_strip<P>::count(w), [&](index first, index last) {
    on.template with_scratch<grouped_scratch>([&](grouped_scratch& own) {
      const index room = std::max<index>(1, std::min<index>(128, std::ssize(own.groups) / w.groups / grouped_rows * grouped_rows));
      alignas(alignment) float sums[grouped_rows * N];
      for (index i = 0; i < x.rows; i += room) {
        const rounded_group_rows rows{own.groups, w.groups, std::min(room, x.rows - i)};
        for (index r = 0; r < rows.count; ++r) round_row_in_groups(x.row(i + r), w.in, P::zero, rows, r);
        if (rows.count == 1) {
          each_strip_of_row<group_strip<P>>(
              w, first, last,
              [&](index s, index count, index apart, float* of) { rows_times_groups<P, 1>(rows, 0, w, s, count, apart, of, 0); },
              [&](const float* of, index column, index columns) { epilogue(of, 0, y, i, column, 1, columns); });
          continue;
        }
        for (index s = first; s < last; ++s)
          for (index r = 0; r < rows.count; r += grouped_rows) {
            const index count = std::min(grouped_rows, rows.count - r);
            if (count <= 2)
              rows_times_groups<P, 2>(rows, r, w, s, 1, 0, sums, N);
            else
              rows_times_groups<P, grouped_rows>(rows, r, w, s, 1, 0, sums, N);
            epilogue(sums, N, y, i + r, s * N, count, N);
          }
      }
    });
  });
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
