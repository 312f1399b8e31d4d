// Weights in groups (core/grouped.hpp), packed for decoding: panels of columns, as in packed.hpp. A panel is its groups one after
// the other, each of them the scales of all columns, their offsets, if there are any, and words of four rows of a column
// (core/packed_layout.hpp):
//
//   scales   [N] f16
//   offsets  [N] f16, int4 only
//   words    [4 or 8][N] of four bytes
//
// With eight bits, word d has rows 4 d to 4 d + 3 of the group. With four bits, it has them in the lower halves of its bytes,
// and rows 4 d + 16 to 4 d + 19 in the upper ones, as blocks of files do: a mask and a shift unpack a vector.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "fathom/backend/cpu/packed.hpp"
#include "fathom/core/grouped.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

template <grouped_type P>
struct packing<P> {
  using scalar = float;
  using word = std::uint8_t;
};

/// A packed matrix [in, out] with run-time sizes.
template <grouped_type P, class Word>
struct packed_view<P, Word> {
  using T = float;
  using type = P;
  static constexpr index N = panel_columns<T>;
  static constexpr index head_bytes = N * (P::has_offset ? 4 : 2);  // scales and offsets
  static constexpr index words = P::bits;                           // of a column of a group
  static constexpr index group_bytes = head_bytes + N * words * 4;  // of all columns of a panel
  Word* bytes;                                                      // [panels][groups][group_bytes]
  index in, out, groups, panels;

  [[nodiscard]] Word* group_at(index p, index g) const { return bytes + (p * groups + g) * group_bytes; }

  /// Group g of column j.
  [[nodiscard]] group<P> get(index g, index j) const {
    const Word* const at = group_at(j / N, g);
    group<P> result;
    std::memcpy(&result.scale, at + j % N * 2, 2);
    if constexpr (P::has_offset) std::memcpy(&result.offset, at + (N + j % N) * 2, 2);
    for (index i = 0; i < group_size; ++i) {
      const std::uint8_t byte = at[byte_of(i, j)];
      result.q[i] = P::bits == 8 ? byte : i < 16 ? byte & 15 : byte >> 4;
    }
    return result;
  }
  void put(index g, index j, const group<P>& from) const {
    Word* const at = group_at(j / N, g);
    std::memcpy(at + j % N * 2, &from.scale, 2);
    if constexpr (P::has_offset) std::memcpy(at + (N + j % N) * 2, &from.offset, 2);
    for (index i = 0; i < words * 4; ++i)
      at[byte_of(i, j)] = static_cast<std::uint8_t>(P::bits == 8 ? from.q[i] : from.q[i] | from.q[i + 16] << 4);
  }
  [[nodiscard]] T at(index k, index j) const {
    const Word* const from = group_at(j / N, k / group_size);
    f16 scale, offset{0};
    std::memcpy(&scale, from + j % N * 2, 2);
    if constexpr (P::has_offset) std::memcpy(&offset, from + (N + j % N) * 2, 2);
    const index i = k % group_size;
    const std::uint8_t byte = from[byte_of(i, j)];
    const int q = P::bits == 8 ? byte : i < 16 ? byte & 15 : byte >> 4;
    return grouped_number<P>(q, static_cast<float>(scale), static_cast<float>(offset));
  }

 private:
  /// Where number i of a group of column j lies.
  static constexpr index byte_of(index i, index j) {
    const index row = i % (words * 4);
    return head_bytes + (row / 4 * N + j % N) * 4 + row % 4;
  }
};

namespace detail {
/// Packs weights [in, out]; number (k, j) is at from[k * row_stride + j * column_stride].
template <grouped_type P>
void pack_groups(const float* from, index row_stride, index column_stride, const packed_view<P, std::uint8_t>& to);
}  // namespace detail

/// The weight of a linear map y = x W, W [In, Out], in panels. Columns beyond Out are 0.
template <grouped_type P, index In, index Out>
struct packed_matrix<P, In, Out> {
  using T = float;
  static_assert(In <= 65536, "fathom: packed weights of more than 65536 rows");  // a rounded row has to fit a workspace
  static constexpr index rank = 2;
  static constexpr index N = packed_view<P>::N;
  static constexpr index groups = (In + group_size - 1) / group_size;
  static constexpr index panels = (Out + N - 1) / N;
  alignas(alignment) std::uint8_t bytes[panels * groups * packed_view<P>::group_bytes];

  /// Number (k, j) of the weights is at from[k * row_stride + j * column_stride].
  void pack(const T* from, index row_stride, index column_stride) {
    detail::pack_groups(from, row_stride, column_stride, writable_view());
  }
  [[nodiscard]] packed_view<P> view() const { return {bytes, In, Out, groups, panels}; }
  [[nodiscard]] packed_view<P, std::uint8_t> writable_view() { return {bytes, In, Out, groups, panels}; }
};

// The groups of a tensor, to be filled one by one.
template <grouped_type P, index In, index Out>
[[nodiscard]] packed_view<P, std::uint8_t> groups_of(packed_matrix<P, In, Out>& weights) {
  return weights.writable_view();
}
template <grouped_type P, index Rows, index Width>
[[nodiscard]] packed_view<P, std::uint8_t> groups_of(packed_head<P, Rows, Width>& weights) {
  return weights.transposed.writable_view();
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/grouped.inl.hpp"
#endif
