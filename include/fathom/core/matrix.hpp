// A non-owning view of a matrix. Every layer and every operation takes such views.
#pragma once

#include <type_traits>

#include "fathom/core/anywhere.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// A row-major matrix [rows, columns] with rows `stride` elements apart. Copying the view copies no numbers.
template <class T>
struct matrix {
  T* data = nullptr;
  index rows = 0;
  index columns = 0;
  index stride = 0;

  constexpr matrix() = default;
  constexpr matrix(T* data_, index rows_, index columns_) : matrix(data_, rows_, columns_, columns_) {}
  constexpr matrix(T* data_, index rows_, index columns_, index stride_)
      : data(data_), rows(rows_), columns(columns_), stride(stride_) {}
  template <class Mutable>
    requires std::is_same_v<const Mutable, T>
  constexpr matrix(const matrix<Mutable>& other)  // NOLINT: a writable view converts to a read-only one
      : matrix(other.data, other.rows, other.columns, other.stride) {}

  [[nodiscard]] FATHOM_ANYWHERE constexpr T& operator()(index row, index column) const { return data[row * stride + column]; }
  [[nodiscard]] FATHOM_ANYWHERE constexpr T* row(index i) const { return data + i * stride; }

  /// Columns [first, first + count) of every row.
  [[nodiscard]] constexpr matrix columns_from(index first, index count) const {
    return {data + first, rows, count, stride};
  }
  /// Rows [first, first + count).
  [[nodiscard]] constexpr matrix rows_from(index first, index count) const {
    return {data + first * stride, count, columns, stride};
  }
  /// Rows first, first + step, first + 2 step, ...: one of `step` interleaved matrices.
  [[nodiscard]] constexpr matrix every(index step, index first) const {
    return {data + first * stride, rows / step, columns, stride * step};
  }
};

}  // namespace fathom
