// Views of fathom's tensors as Eigen matrices, and of Eigen matrices as fathom's, without copying. The only header here
// that needs Eigen.
//
//   fathom::as_eigen(weights->embed.wte.view()).rowwise().norm()
//   Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> x(512, 768);
//   Layer::forward(on, p, e, fathom::as_matrix(x), ...)
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <type_traits>

#include <Eigen/Core>

#include "fathom/core/matrix.hpp"
#include "fathom/core/tensor.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// A row-major Eigen matrix; const if T is const.
template <class T>
using eigen_matrix =
    std::conditional_t<std::is_const_v<T>,
                       const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
                       Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
template <class T>
using eigen_map = Eigen::Map<eigen_matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

/// A matrix [rows, columns] as an Eigen map; writable unless T is const.
template <class T>
[[nodiscard]] eigen_map<T> as_eigen(const matrix<T>& m) {
  return {m.data, m.rows, m.columns, Eigen::OuterStride<>(m.stride)};
}
/// A tensor of two dimensions as an Eigen map; a tensor of one dimension becomes a matrix of one row.
template <class T, index... Extents>
[[nodiscard]] eigen_map<T> as_eigen(tensor<T, Extents...>& t) {
  static_assert(sizeof...(Extents) <= 2, "fathom::as_eigen: only tensors of one or two dimensions are matrices");
  constexpr index columns = tensor<T, Extents...>::shape[sizeof...(Extents) - 1];
  return {t.data(), tensor<T, Extents...>::size / columns, columns, Eigen::OuterStride<>(columns)};
}
template <class T, index... Extents>
[[nodiscard]] eigen_map<const T> as_eigen(const tensor<T, Extents...>& t) {
  static_assert(sizeof...(Extents) <= 2, "fathom::as_eigen: only tensors of one or two dimensions are matrices");
  constexpr index columns = tensor<T, Extents...>::shape[sizeof...(Extents) - 1];
  return {t.data(), tensor<T, Extents...>::size / columns, columns, Eigen::OuterStride<>(columns)};
}

/// An Eigen matrix, map or block as a fathom matrix. It must be row-major, with an inner stride of 1.
template <class Derived>
[[nodiscard]] auto as_matrix(Eigen::DenseBase<Derived>& m) {
  static_assert(Derived::IsRowMajor || Derived::ColsAtCompileTime == 1 || Derived::RowsAtCompileTime == 1,
                "fathom::as_matrix: only row-major matrices; write Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>");
  static_assert(Derived::InnerStrideAtCompileTime == 1, "fathom::as_matrix: the numbers of a row must lie side by side");
  using T = std::remove_reference_t<decltype(*m.derived().data())>;
  // A column vector has rows of one number each.
  const index stride = Derived::IsRowMajor ? m.derived().outerStride() : Derived::ColsAtCompileTime == 1 ? 1 : m.cols();
  return matrix<T>(m.derived().data(), m.rows(), m.cols(), stride);
}
template <class Derived>
[[nodiscard]] auto as_matrix(const Eigen::DenseBase<Derived>& m) {
  auto view = as_matrix(const_cast<Eigen::DenseBase<Derived>&>(m));
  return matrix<const std::remove_pointer_t<decltype(view.data)>>(view);
}
/// Deleted, because the view would outlive a temporary matrix. Temporary maps are fine: they are views themselves.
template <class Derived>
auto as_matrix(const Eigen::PlainObjectBase<Derived>&&) = delete;

}  // namespace fathom
