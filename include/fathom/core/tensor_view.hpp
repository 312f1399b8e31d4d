// Tensors that lie elsewhere or nowhere: the gradients of a model of which only some tensors are trained.
#pragma once

#include <array>

#include "fathom/core/matrix.hpp"
#include "fathom/core/tensor.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The place of a tensor's gradient. Of a frozen tensor, nobody reads it: its place is memory that other frozen tensors use
/// too, so that any layer can write there; or none, for a frozen table of tokens or positions. A layer that asks is_trained
/// first saves the work.
template <class T, index... Extents>
struct tensor_view {
  using value_type = T;
  static constexpr index rank = sizeof...(Extents);
  static constexpr index size = (Extents * ... * 1);
  static constexpr std::array<index, sizeof...(Extents)> shape{Extents...};

  [[nodiscard]] T* data() const { return values; }
  [[nodiscard]] matrix<T> view() const
    requires(rank == 2)
  {
    return {values, shape[0], shape[1]};
  }

  T* values = nullptr;
  bool is_trained = false;
};

/// The storage (storage.hpp) of such gradients.
template <class T>
struct views {
  using scalar = T;
  template <index In, index Out>
  using matrix = tensor_view<T, In, Out>;
  template <index N>
  using vector = tensor_view<T, N>;
  template <index Rows, index Width>
  using table = tensor_view<T, Rows, Width>;
  template <index Rows, index Width>
  using head = tensor_view<T, Rows, Width>;
};

/// Whether the gradient of a tensor is wanted.
template <class T, index... Extents>
[[nodiscard]] constexpr bool is_trained(const tensor<T, Extents...>&) {
  return true;
}
template <class T, index... Extents>
[[nodiscard]] constexpr bool is_trained(const tensor_view<T, Extents...>& gradient) {
  return gradient.is_trained;
}

/// gradient [In, Out] += x^T dy, unless it is frozen.   x [rows, In], dy [rows, Out]
template <class On, class X, class Y, class Gradient>
void add_weight_gradient(const On& on, const X& x, const Y& dy, Gradient& gradient) {
  if (is_trained(gradient)) matmul_tn(on, x, dy, gradient.view());
}

}  // namespace fathom
