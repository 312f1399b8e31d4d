// A model's tensors as a run-time table. Code that visits tensors by name (saving, loading, initial values) uses the
// table, and so is compiled once instead of for every shape of every model.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// A tensor of a model.
struct tensor_row {
  std::string name;
  initial start;
  fathom::role role;
  std::vector<index> shape;
  index size;          // numbers
  std::size_t offset;  // of its first byte in the parameters
};
/// All tensors, in the order of memory.
using tensor_table = std::vector<tensor_row>;

namespace detail {
void add_row(tensor_table& table, std::string_view name, initial start, role as, const index* shape, std::size_t rank,
             std::ptrdiff_t offset);
/// The address that the offsets of tensors are relative to.
template <class T>
[[nodiscard]] const std::byte* address_of(const T& numbers) {
  return reinterpret_cast<const std::byte*>(&numbers);
}
template <class T>
[[nodiscard]] std::byte* address_of(T& numbers) {
  return reinterpret_cast<std::byte*>(&numbers);
}
}  // namespace detail

/// The table of a model. `like`: any of its parameters, in any memory; only their addresses are used.
template <class Model>
[[nodiscard]] tensor_table table_of(const typename Model::template layout<plain<typename Model::scalar>>& like) {
  tensor_table table;
  Model::visit(
      [&](const auto& name, initial start, const auto& tensor, const auto& as) {
        detail::add_row(table, name, start, as.role, as.shape.data(), as.shape.size(),
                        reinterpret_cast<const std::byte*>(tensor.data()) - detail::address_of(like));
      },
      like, Model::tensors);
  return table;
}
/// The same without offsets, for weights in another storage.
template <class Model>
[[nodiscard]] tensor_table table_of() {
  tensor_table table;
  Model::visit(
      [&](const auto& name, initial start, const auto& as) {
        detail::add_row(table, name, start, as.role, as.shape.data(), as.shape.size(), 0);
      },
      Model::tensors);
  return table;
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/model/tensor_table.inl.hpp"
#endif
