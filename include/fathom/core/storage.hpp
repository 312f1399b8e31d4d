// Storages: what the parameters of a layer are made of. A layer declares its parameters once, over a storage:
//
//   template <class S> struct parameters {
//     typename S::template matrix<In, Out> weight;
//     typename S::template vector<Out> bias;
//   };
//
// and the storage decides what they are: numbers to train (plain), a backend's packed form to decode with, or only
// shapes, to count at compile time.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "fathom/core/bf16.hpp"
#include "fathom/core/grouped.hpp"
#include "fathom/core/tensor.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Row-major numbers: weights, gradients and moments.
template <class T>
struct plain {
  using scalar = T;
  template <index In, index Out>
  using matrix = tensor<T, In, Out>;  // the weight of a linear map, y = x W
  template <index N>
  using vector = tensor<T, N>;  // biases, gains
  template <index Rows, index Width>
  using table = tensor<T, Rows, Width>;  // rows looked up by number: embeddings
  template <index Rows, index Width>
  using head = tensor<T, Rows, Width>;  // a table that logits are made with as well: y = x W^T
};

namespace check {
template <class P, class Scalar>
inline constexpr bool weights_are_packed_as_float_bf16_int8_int4_or_the_scalar =
    std::is_same_v<P, float> || std::is_same_v<P, bf16> || std::is_same_v<P, std::int8_t> || grouped_type<P> || std::is_same_v<P, Scalar>;
}

/// The role of a tensor: which member of a storage it is.
enum class role { matrix, vector, table, head };

/// Shapes and roles without numbers.
struct shapes {
  template <role Role, index... Extents>
  struct shape_only {
    static constexpr fathom::role role = Role;
    static constexpr index rank = sizeof...(Extents);
    static constexpr index size = (Extents * ... * 1);
    static constexpr std::array<index, sizeof...(Extents)> shape{Extents...};
  };
  template <index In, index Out>
  using matrix = shape_only<role::matrix, In, Out>;
  template <index N>
  using vector = shape_only<role::vector, N>;
  template <index Rows, index Width>
  using table = shape_only<role::table, Rows, Width>;
  template <index Rows, index Width>
  using head = shape_only<role::head, Rows, Width>;
};

/// The distribution that a tensor's initial values come from (../README.md, "Initialisation").
enum class initial {
  zero,
  one,
  normal,    // normal(0, 0.02)
  residual,  // normal(0, 0.02 / sqrt(2 L)): a projection that writes to the residual stream
  unit,      // normal(0, 1 / sqrt(inputs)): a projection that makes numbers of unit scale from such
  alibi,     // a slope for each head: ALiBi's (backend/distance_slopes.hpp)
};

}  // namespace fathom
