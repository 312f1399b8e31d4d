// Weights laid out for decoding, in float, bf16 or int8: panels of tile_columns columns, each read front to back, and one
// after the other in memory, so that a rank reads its share of a matrix in one go.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "fathom/backend/cpu/amx.hpp"
#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {

/// How numbers of type P are stored: `rows` consecutive rows of a column share a word, the first in its lowest bits; a column
/// has a multiple of `words_together` of them. The numbers of a column are scale * what is stored.
template <class P>
struct packing {  // float, double: themselves
  using scalar = P;
  using word = P;
  static constexpr index rows = 1, words_together = 1;
  static word put(word, index, P value, P) { return value; }
  static P get(word w, index, P) { return w; }
  static P scale_for(P) { return 1; }
  /// Row R of a vector of words.
  template <index R>
  [[gnu::always_inline]] static vec<P> row(const native<word, lanes<P>>& words) {
    return as_vec<P>(words);
  }
};
template <>
struct packing<bf16> {
  using scalar = float;
  using word = std::uint32_t;
  static constexpr index rows = 2, words_together = detail::has_amx ? detail::amx_words : 1;
  static word put(word w, index row, float value, float) { return w | word{bf16(value).bits} << 16 * row; }
  static float get(word w, index row, float) { return std::bit_cast<float>(row == 0 ? w << 16 : w & 0xffff0000u); }
  static float scale_for(float) { return 1; }
  template <index R>
  [[gnu::always_inline]] static vec<float> row(const native<word, lanes<float>>& words) {
    return as_vec<float>(R == 0 ? words << 16 : words & 0xffff0000u);
  }
};
/// int8: symmetric rounding, a column's largest magnitude being 127 (core/int8.hpp).
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
  static float scale_for(float largest) { return int8_scale(largest); }
  /// Without the scale.
  template <index R>
  [[gnu::always_inline]] static vec<float> row(const native<word, lanes<float>>& words) {
    return as_vec<float>(__builtin_convertvector((words << (24 - 8 * R)) >> 24, native<float, lanes<float>>));
  }
};

/// What int8 keeps for each column beside its numbers.
template <class P, index Columns>
struct packed_columns {};
template <index Columns>
struct packed_columns<std::int8_t, Columns> {
  alignas(alignment) float scales[Columns];
  alignas(alignment) std::int32_t totals[Columns];  // the sum of what is stored
};

/// A packed matrix [in, out] whose type knows no sizes, so that all share their kernels.
template <class P>
struct packed_view {
  using word = typename packing<P>::word;
  static constexpr index N = tile_columns<typename packing<P>::scalar>;
  const word* words;           // [panels][depth][N]
  const float* scales;         // [panels * N], int8 only
  const std::int32_t* totals;  // [panels * N], int8 only
  index in, out, depth, panels;
  [[nodiscard]] const word* panel(index p) const { return words + p * depth * N; }
};

/// The weight of a linear map y = x W, W [In, Out], in panels. Columns beyond Out, and rows beyond In, are 0.
template <class P, index In, index Out>
struct packed_matrix {
  using format = packing<P>;
  using T = typename format::scalar;
  static constexpr index rank = 2;
  static constexpr index N = packed_view<P>::N;
  static constexpr index together = format::rows * format::words_together;
  static constexpr index depth = (In + together - 1) / together * format::words_together;  // words of a column
  static constexpr index panels = (Out + N - 1) / N;
  alignas(alignment) typename format::word words[panels * depth * N];
  [[no_unique_address]] packed_columns<P, panels * N> columns;

  /// from(k, j) gives the weights.
  template <class From>
  void pack(const From& from) {
    for (index j = 0; j < panels * N; ++j) {
      T largest = 0;
      for (index k = 0; k < In && j < Out; ++k) largest = std::max(largest, std::abs(from(k, j)));
      const T scale = format::scale_for(largest);
      for (index k = 0; k < depth * format::rows; k += format::rows) {
        typename format::word word = 0;
        for (index r = 0; r < format::rows; ++r)
          word = format::put(word, r, k + r < In && j < Out ? from(k + r, j) : T(0), scale);
        words[place(k, j)] = word;
      }
      if constexpr (std::is_same_v<P, std::int8_t>) {
        columns.scales[j] = scale;
        columns.totals[j] = 0;
        for (index k = 0; k < In; ++k) columns.totals[j] += format::stored(words[place(k, j)], k % format::rows);
      }
    }
  }
  [[nodiscard]] T at(index k, index j) const {
    T scale = 1;
    if constexpr (std::is_same_v<P, std::int8_t>) scale = columns.scales[j];
    return format::get(words[place(k, j)], k % format::rows, scale);
  }
  [[nodiscard]] packed_view<P> view() const {
    if constexpr (std::is_same_v<P, std::int8_t>)
      return {words, columns.scales, columns.totals, In, Out, depth, panels};
    else
      return {words, nullptr, nullptr, In, Out, depth, panels};
  }

 private:
  static constexpr index place(index k, index j) { return (j / N * depth + k / format::rows) * N + j % N; }
};

/// A table [Rows, Width] that is looked up row by row and multiplied with: the tied embedding, or the output projection.
template <class P, index Rows, index Width>
struct packed_head {
  packed_matrix<P, Width, Rows> transposed;

  /// Element `column` of a row.
  [[nodiscard]] auto at(index row, index column) const { return transposed.at(column, row); }
};

/// The storage of packed weights (core/storage.hpp). Tables that are only looked up are kept in bf16 where the matrices
/// are int8; biases and gains stay as they are.
template <class T, class P>
struct packed {
  template <index In, index Out>
  using matrix = packed_matrix<P, In, Out>;
  template <index N>
  using vector = tensor<T, N>;
  template <index Rows, index Width>
  using table = tensor<std::conditional_t<std::is_same_v<P, std::int8_t>, bf16, P>, Rows, Width>;
  template <index Rows, index Width>
  using head = packed_head<P, Rows, Width>;
};

// Packing a tensor into each of its forms.
template <class T, index N>
void pack_tensor(const tensor<T, N>& from, tensor<T, N>& to) {
  std::copy_n(from.data(), N, to.data());
}
template <class T, class P, index Rows, index Width>
void pack_tensor(const tensor<T, Rows, Width>& from, tensor<P, Rows, Width>& to) {
  for (index i = 0; i < Rows * Width; ++i) to.data()[i] = P(from.data()[i]);
}
template <class T, class P, index In, index Out>
void pack_tensor(const tensor<T, In, Out>& from, packed_matrix<P, In, Out>& to) {
  to.pack([&](index k, index j) { return from.view()(k, j); });
}
template <class T, class P, index Rows, index Width>
void pack_tensor(const tensor<T, Rows, Width>& from, packed_head<P, Rows, Width>& to) {
  to.transposed.pack([&](index k, index j) { return from.view()(j, k); });
}

}  // namespace fathom::cpu
