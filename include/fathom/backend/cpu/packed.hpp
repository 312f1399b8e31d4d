// Weights laid out for decoding: panels of tile_columns columns, each read front to back, in float, bf16 or int8.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "fathom/backend/cpu/simd.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {

/// tile_columns columns of a weight matrix with In rows. load<k % 2>(k) gives row k;
/// scale() finishes a sum over k.
template <class P, index In>
struct packed_panel;

/// float, double: values[k][column]
template <class T, index In>
  requires std::is_floating_point_v<T>
struct packed_panel<T, In> {
  static constexpr index N = tile_columns<T>;
  alignas(alignment) T values[In * N];

  /// `from(k, column)` gives the weights.
  template <class From>
  void pack(const From& from) {
    for (index k = 0; k < In; ++k)
      for (index j = 0; j < N; ++j) values[k * N + j] = from(k, j);
  }
  [[nodiscard]] T at(index k, index column) const { return values[k * N + column]; }

  /// Row k, as two vectors
  template <bool Odd>
  [[gnu::always_inline]] void load(index k, vec<T>& b0, vec<T>& b1) const {
    b0 = vec<T>::load_aligned(values + k * N);
    b1 = vec<T>::load_aligned(values + k * N + lanes<T>);
  }
  template <class Tile>
  [[gnu::always_inline]] void scale(Tile&) const {}
};

/// bf16: word c of row k holds columns c (low half) and c + lanes (high half), so that one load, a shift and a mask give
/// both vectors of a row.
template <index In>
struct packed_panel<bf16, In> {
  using T = float;
  static constexpr index W = lanes<T>, N = 2 * W;
  alignas(alignment) std::uint32_t words[In * W];

  template <class From>
  void pack(const From& from) {
    for (index k = 0; k < In; ++k)
      for (index c = 0; c < W; ++c)
        words[k * W + c] = std::uint32_t{bf16(from(k, c)).bits} | std::uint32_t{bf16(from(k, c + W)).bits} << 16;
  }
  [[nodiscard]] T at(index k, index column) const {
    bf16 value;
    value.bits = static_cast<std::uint16_t>(words[k * W + column % W] >> (column / W * 16));
    return static_cast<float>(value);
  }

  template <bool Odd>
  [[gnu::always_inline]] void load(index k, vec<T>& b0, vec<T>& b1) const {
    const auto both = load_native<std::uint32_t, W>(words + k * W);
    b0 = as_vec<T>(both << 16);
    b1 = as_vec<T>(both & 0xffff0000u);
  }
  template <class Tile>
  [[gnu::always_inline]] void scale(Tile&) const {}
};

/// int8 with one scale for each column: w(k, column) = scales[column] * value. Word c of the pair of rows (k, k + 1), k
/// even, holds (k, c), (k, c + lanes), (k + 1, c), (k + 1, c + lanes) from its lowest byte on.
template <index In>
struct packed_panel<std::int8_t, In> {
  using T = float;
  static constexpr index W = lanes<T>, N = 2 * W;
  alignas(alignment) std::int32_t words[(In + 1) / 2 * W];
  alignas(alignment) float scales[N];

  /// Symmetric rounding to nearest: scale = the column's largest magnitude / 127.
  template <class From>
  void pack(const From& from) {
    for (index j = 0; j < N; ++j) {
      float largest = 0;
      for (index k = 0; k < In; ++k) largest = std::max(largest, std::abs(from(k, j)));
      scales[j] = largest / 127;
    }
    for (index k = 0; k < In + In % 2; ++k)
      for (index j = 0; j < N; ++j) {
        const float ratio = k < In && scales[j] > 0 ? from(k, j) / scales[j] : 0;
        const auto byte = static_cast<std::uint8_t>(static_cast<std::int8_t>(std::lround(std::clamp(ratio, -127.f, 127.f))));
        auto& word = words[k / 2 * W + j % W];
        if (k % 2 == 0 && j < W) word = 0;
        word = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) | std::uint32_t{byte} << shift(k, j));
      }
  }
  [[nodiscard]] T at(index k, index column) const {
    const auto word = static_cast<std::uint32_t>(words[k / 2 * W + column % W]);
    return scales[column] * static_cast<float>(static_cast<std::int8_t>(static_cast<std::uint8_t>(word >> shift(k, column))));
  }

  template <bool Odd>
  [[gnu::always_inline]] void load(index k, vec<T>& b0, vec<T>& b1) const {
    const auto four = load_native<std::int32_t, W>(words + k / 2 * W);
    b0 = as_vec<T>(__builtin_convertvector((Odd ? four << 8 : four << 24) >> 24, native<float, W>));
    b1 = as_vec<T>(__builtin_convertvector((Odd ? four : four << 16) >> 24, native<float, W>));
  }
  template <class Tile>
  [[gnu::always_inline]] void scale(Tile& acc) const {
    const auto s0 = vec<T>::load_aligned(scales), s1 = vec<T>::load_aligned(scales + W);
    for (auto& row : acc.at) {
      row[0] = row[0] * s0;
      row[1] = row[1] * s1;
    }
  }

 private:
  static constexpr unsigned shift(index k, index column) {
    return static_cast<unsigned>(k % 2 * 16 + column / W * 8);
  }
};

/// acc += a [rows, depth] times rows [first, first + depth) of a panel; first is even
template <order Order, class T, index Rows, class P, index In>
[[gnu::always_inline]] inline void add_panel_product(tile<T, Rows>& acc, const T* a, index lda,
                                                     const packed_panel<P, In>& panel, index first, index depth) {
  const auto step = [&](index k, auto odd) __attribute__((always_inline)) {
    vec<T> b0, b1;
    panel.template load<odd()>(first + k, b0, b1);
    acc.template add_product<Order>(a + (Order == order::rows ? k : k * lda), lda, b0, b1);
  };
  index k = 0;
  for (; k + 2 <= depth; k += 2) {
    step(k, std::false_type());
    step(k + 1, std::true_type());
  }
  if (k < depth) step(k, std::false_type());
}

/// x [In] times a panel: four sums at a time, because one would wait for itself.
template <class T, class P, index In>
[[gnu::always_inline]] inline tile<T, 1> row_panel_product(const T* x, const packed_panel<P, In>& panel) {
  tile<T, 4> part;
  part.clear();
  const auto step = [&](index k, auto n) __attribute__((always_inline)) {
    vec<T> b0, b1;
    panel.template load<n() % 2 == 1>(k, b0, b1);
    part.at[n][0] = xsimd::fma(vec<T>(x[k]), b0, part.at[n][0]);
    part.at[n][1] = xsimd::fma(vec<T>(x[k]), b1, part.at[n][1]);
  };
  index k = 0;
  for (; k + 4 <= In; k += 4) unroll<4>([&](auto n) __attribute__((always_inline)) { step(k + static_cast<index>(n), n); });
  unroll<3>([&](auto n) __attribute__((always_inline)) {
    if (k + static_cast<index>(n) < In) step(k + static_cast<index>(n), n);
  });
  tile<T, 1> sum;
  unroll<2>([&](auto j) __attribute__((always_inline)) { sum.at[0][j] = (part.at[0][j] + part.at[1][j]) + (part.at[2][j] + part.at[3][j]); });
  return sum;
}

/// The weight of a linear map y = x W, W [In, Out], in panels. Columns beyond Out are 0.
template <class P, index In, index Out>
struct packed_matrix {
  static constexpr index rank = 2;
  static constexpr index panel_columns = packed_panel<P, In>::N;
  static constexpr index panel_count = (Out + panel_columns - 1) / panel_columns;
  packed_panel<P, In> panels[panel_count];

  template <class From>
  void pack(const From& from) {
    for (index p = 0; p < panel_count; ++p)
      panels[p].pack([&](index k, index j) { return p * panel_columns + j < Out ? from(k, p * panel_columns + j) : 0; });
  }
};

/// A table [Rows, Width] that is looked up row by row and multiplied with: the tied embedding, or the output projection.
template <class P, index Rows, index Width>
struct packed_head {
  packed_matrix<P, Width, Rows> transposed;

  /// Element `column` of a row.
  [[nodiscard]] auto at(index row, index column) const {
    constexpr index N = decltype(transposed)::panel_columns;
    return transposed.panels[row / N].at(column, row % N);
  }
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
