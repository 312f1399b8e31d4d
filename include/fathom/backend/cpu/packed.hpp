// Weights packed for decoding, in float, bf16 or int8: panels of columns, contiguous in memory and each read front to
// back, so that a rank streams its share of a matrix. Their bytes are the same for every processor
// (core/packed_layout.hpp). Weights in groups: grouped.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "fathom/backend/cpu/isa.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/grouped.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/core/packed_layout.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// How numbers of type P are stored: `rows` consecutive rows of a column share a word, the first in its lowest bits; a
/// column has a multiple of `words_together` words. A number is the scale of its column times the stored value.
template <class P>
struct packing {  // float, double: themselves
  using scalar = P;
  using word = P;
  static constexpr index rows = 1, words_together = 1;
  static word put(word, index, P value, P) { return value; }
  static P get(word w, index, P) { return w; }
};
template <>
struct packing<bf16> {
  static_assert(packed_bf16_words % amx_words == 0);
  using scalar = float;
  using word = std::uint32_t;
  static constexpr index rows = 2, words_together = packed_bf16_words;
  static word put(word w, index row, float value, float) { return w | word{bf16(value).bits} << 16 * row; }
  static float get(word w, index row, float) { return std::bit_cast<float>(row == 0 ? w << 16 : w & 0xffff0000u); }
};
/// int8: symmetric rounding that maps a column's largest magnitude to 127 (core/int8.hpp). A column with a number that
/// is not finite gets the scale NaN.
template <>
struct packing<std::int8_t> {
  using scalar = float;
  using word = std::int32_t;
  static constexpr index rows = 4, words_together = 1;
  static word put(word w, index row, float value, float scale) {
    const auto byte = static_cast<std::uint8_t>(to_int8(value, scale));
    return static_cast<word>(static_cast<std::uint32_t>(w) | std::uint32_t{byte} << 8 * row);
  }
  static std::int8_t stored(word w, index row) {
    return static_cast<std::int8_t>(static_cast<std::uint8_t>(static_cast<std::uint32_t>(w) >> 8 * row));
  }
  static float get(word w, index row, float scale) { return scale * static_cast<float>(stored(w, row)); }
};

/// What int8 stores for each column besides its numbers.
template <class P, index Columns>
struct packed_columns {};
template <index Columns>
struct packed_columns<std::int8_t, Columns> {
  alignas(alignment) float scales[Columns];
  alignas(alignment) std::int32_t totals[Columns];  // the sum of the stored values
};

/// A packed matrix [in, out] with run-time sizes, so that all share their kernels. Word: packing<P>::word or const.
template <class P, class Word = const typename packing<P>::word>
struct packed_view {
  using format = packing<P>;
  using T = typename format::scalar;
  template <class Number>
  using like_word = std::conditional_t<std::is_const_v<Word>, const Number, Number>;
  static constexpr index N = panel_columns<T>;
  Word* words;                      // [panels][depth][N]
  like_word<float>* scales;         // [panels * N], int8 only
  like_word<std::int32_t>* totals;  // [panels * N], int8 only
  index in, out, depth, panels;     // depth: words of a column

  [[nodiscard]] Word* panel(index p) const { return words + p * depth * N; }
  [[nodiscard]] T scale(index j) const {
    if constexpr (std::is_same_v<P, std::int8_t>)
      return scales[j];
    else
      return 1;
  }
  /// The word that holds row k of column j.
  [[nodiscard]] Word& word(index k, index j) const { return words[(j / N * depth + k / format::rows) * N + j % N]; }
  [[nodiscard]] T at(index k, index j) const { return format::get(word(k, j), k % format::rows, scale(j)); }
};

namespace detail {
/// Packs weights [in, out]; number (k, j) is at from[k * row_stride + j * column_stride].
template <class P>
void pack_panels(const typename packing<P>::scalar* from, index row_stride, index column_stride,
                 const packed_view<P, typename packing<P>::word>& to);
}  // namespace detail

/// The weight of a linear map y = x W, W [In, Out], in panels. Columns beyond Out, and rows beyond In, are 0.
template <class P, index In, index Out>
struct packed_matrix {
  using format = packing<P>;
  using T = typename format::scalar;
  // int8 has 32-bit sums.
  static_assert(std::is_same_v<P, T> || In <= 65536, "fathom: packed weights of more than 65536 rows");
  static constexpr index rank = 2;
  static constexpr index N = packed_view<P>::N;
  static constexpr index together = format::rows * format::words_together;
  static constexpr index depth = (In + together - 1) / together * format::words_together;  // words of a column
  static constexpr index panels = (Out + N - 1) / N;
  alignas(alignment) typename format::word words[panels * depth * N];
  [[no_unique_address]] packed_columns<P, panels * N> columns;

  /// Number (k, j) of the weights is at from[k * row_stride + j * column_stride].
  void pack(const T* from, index row_stride, index column_stride) {
    detail::pack_panels<P>(from, row_stride, column_stride, view_of<typename format::word>(*this));
  }
  [[nodiscard]] packed_view<P> view() const { return view_of<const typename format::word>(*this); }

 private:
  template <class Word, class Self>
  static packed_view<P, Word> view_of(Self& self) {
    if constexpr (std::is_same_v<P, std::int8_t>)
      return {self.words, self.columns.scales, self.columns.totals, In, Out, depth, panels};
    else
      return {self.words, nullptr, nullptr, In, Out, depth, panels};
  }
};

/// A table [Rows, Width] used for lookup and for products: the tied embedding, or the output projection.
template <class P, index Rows, index Width>
struct packed_head {
  packed_matrix<P, Width, Rows> transposed;
};

/// The storage of packed weights (core/storage.hpp). Lookup-only tables are bf16 if the matrices have fewer bits; biases
/// and gains are not converted.
template <class T, class P>
struct packed {
  template <index In, index Out>
  using matrix = packed_matrix<P, In, Out>;
  template <index N>
  using vector = tensor<T, N>;
  template <index Rows, index Width>
  using table = tensor<std::conditional_t<std::is_same_v<P, std::int8_t> || grouped_type<P>, bf16, P>, Rows, Width>;
  template <index Rows, index Width>
  using head = packed_head<head_type<P>, Rows, Width>;
};

// One overload for each form of storage.
template <class T, index N>
void pack_tensor(const tensor<T, N>& from, tensor<T, N>& to) {
  std::copy_n(from.data(), N, to.data());
}
template <class T, class P, index Rows, index Width>
void pack_tensor(const tensor<T, Rows, Width>& from, tensor<P, Rows, Width>& to) {
  std::transform(from.data(), from.data() + Rows * Width, to.data(), [](T number) { return P(number); });
}
template <class T, class P, index In, index Out>
void pack_tensor(const tensor<T, In, Out>& from, packed_matrix<P, In, Out>& to) {
  to.pack(from.data(), Out, 1);
}
template <class T, class P, index Rows, index Width>
void pack_tensor(const tensor<T, Rows, Width>& from, packed_head<P, Rows, Width>& to) {
  to.transposed.pack(from.data(), 1, Width);
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#include "fathom/backend/cpu/grouped.hpp"

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/packed.inl.hpp"
#endif
