// A tensor whose shape is part of its type, so it holds only numbers. Parameters are structs of tensors.
#pragma once

#include <array>
#include <span>

#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Row-major numbers of a fixed shape. It cannot be copied, so no large object crosses the stack by accident:
/// fathom::make<...>() puts it on the heap, `static` into the program's zeroed storage.
template <class T, index... Extents>
struct alignas(alignment) tensor {
  using value_type = T;
  static constexpr index rank = sizeof...(Extents);
  static constexpr index size = (Extents * ... * 1);
  static constexpr std::array<index, sizeof...(Extents)> shape{Extents...};

  tensor() = default;
  tensor(const tensor&) = delete;
  tensor& operator=(const tensor&) = delete;

  [[nodiscard]] T* data() { return values; }
  [[nodiscard]] const T* data() const { return values; }
  [[nodiscard]] std::span<T> span() { return {values, static_cast<std::size_t>(size)}; }
  [[nodiscard]] std::span<const T> span() const { return {values, static_cast<std::size_t>(size)}; }

  /// A tensor of two dimensions as a matrix.
  [[nodiscard]] matrix<T> view()
    requires(rank == 2)
  {
    return {values, shape[0], shape[1]};
  }
  [[nodiscard]] matrix<const T> view() const
    requires(rank == 2)
  {
    return {values, shape[0], shape[1]};
  }

  T values[static_cast<std::size_t>(size)];
};

}  // namespace fathom
