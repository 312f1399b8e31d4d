// Initial weights.
#pragma once

#include <cstdint>

#include "fathom/core/compiled.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom {

namespace detail {
/// numbers[i] = value, as a T.
using store_number = void(std::byte* numbers, index i, double value);
template <class T>
void store_as(std::byte* numbers, index i, double value) {
  reinterpret_cast<T*>(numbers)[i] = static_cast<T>(value);
}
void initialize(const tensor_table& table, std::byte* weights, store_number* store, int depth, std::uint64_t seed);
}  // namespace detail

/// Fills weights with initial values (../README.md, "Initialisation"). The values depend on the seed and on each
/// tensor's name, so two models with one seed agree in every tensor that they share by name and shape.
template <class Model>
void initialize(typename Model::parameters& weights, std::uint64_t seed) {
  edit_on_host(weights, [&](auto& here) {
    using T = typename Model::scalar;
    detail::initialize(table_of<Model>(here), detail::address_of(here), &detail::store_as<T>, Model::depth, seed);
  });
}

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/model/initialize.inl.hpp"
#endif
