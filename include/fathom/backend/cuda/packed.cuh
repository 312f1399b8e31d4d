// Weights packed for decoding on the GPU, in float or bf16: the weights of each output are contiguous.
#pragma once

#include <cstdint>
#include <type_traits>

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/tensor.hpp"

namespace fathom::cuda {

/// A matrix [In, Out], transposed.
template <class P, index In, index Out>
struct packed_matrix {
  tensor<P, Out, In> transposed;
};

/// The storage of packed weights (core/storage.hpp). Biases and gains are not converted.
template <class P>
struct packed {
  static_assert(std::is_same_v<P, float> || std::is_same_v<P, bf16>,
                "fathom: for decoding on a GPU, weights are packed as float or fathom::bf16");
  template <index In, index Out>
  using matrix = packed_matrix<P, In, Out>;
  template <index N>
  using vector = tensor<float, N>;
  template <index Rows, index Width>
  using table = tensor<P, Rows, Width>;
  template <index Rows, index Width>
  using head = tensor<P, Rows, Width>;
};

namespace kernel {
template <class P>
struct transpose_element {
  const float* from;  // [In, Out]
  index from_columns;
  P* to;  // [Out, In]
  index to_columns;
  __device__ void operator()(index i, index j) const { to[i * to_columns + j] = from_float<P>(from[j * from_columns + i]); }
};
}  // namespace kernel

// One overload for each form of storage.
template <class C, class P, index... Extents>
void pack_tensor(const context<C>& on, const tensor<float, Extents...>& from, tensor<P, Extents...>& to) {
  on.begin();
  detail::for_elements(on, "pack", 1, from.size, true,
                       kernel::copy_element<float, P>{from.data(), from.size, to.data(), from.size});
}
template <class C, class P, index In, index Out>
void pack_tensor(const context<C>& on, const tensor<float, In, Out>& from, packed_matrix<P, In, Out>& to) {
  on.begin();
  detail::for_elements(on, "pack", Out, In, false, kernel::transpose_element<P>{from.data(), Out, to.transposed.data(), In});
}

}  // namespace fathom::cuda
