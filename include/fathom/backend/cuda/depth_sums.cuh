// Sums over depths on the GPU ("Sums over depths" in backend/operations.hpp).
#pragma once

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/core/matrix.hpp"

namespace fathom::cuda {

namespace kernel {
struct add_scaled_element {
  const float* w;
  index w_stride;
  const float* x;
  index x_stride;
  const float* z;
  index z_stride;
  float* y;
  index y_stride;
  __device__ void operator()(index i, index j) const {
    y[i * y_stride + j] = z[i * z_stride + j] + w[i * w_stride] * x[i * x_stride + j];
  }
};

/// A warp for each row.
template <class = void>
__global__ void dots_of_rows(index rows, index columns, const float* x, index x_stride, const float* y, index y_stride,
                             float* d, index d_stride) {
  const index i = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= rows) return;
  const index lane = threadIdx.x % 32;
  float sum = 0;
  for (index j = lane; j < columns; j += 32) sum += x[i * x_stride + j] * y[i * y_stride + j];
  sum = warp_sum(sum);
  if (lane == 0) d[i * d_stride] = sum;
}

/// A thread for each column.
struct softmax_of_column {
  index rows;
  const float* x;
  index x_stride;
  float* y;
  index y_stride;
  __device__ void operator()(index, index j) const {
    float largest = x[j];
    for (index i = 1; i < rows; ++i) largest = fmaxf(largest, x[i * x_stride + j]);
    float total = 0;
    for (index i = 0; i < rows; ++i) {
      const float power = expf(x[i * x_stride + j] - largest);
      y[i * y_stride + j] = power;
      total += power;
    }
    const float inverse = 1 / total;
    for (index i = 0; i < rows; ++i) y[i * y_stride + j] *= inverse;
  }
};
struct softmax_slope_of_column {
  index rows;
  const float* y;
  index y_stride;
  const float* dy;
  index dy_stride;
  float* dx;
  index dx_stride;
  __device__ void operator()(index, index j) const {
    float sum = 0;
    for (index i = 0; i < rows; ++i) sum += y[i * y_stride + j] * dy[i * dy_stride + j];
    for (index i = 0; i < rows; ++i) dx[i * dx_stride + j] = y[i * y_stride + j] * (dy[i * dy_stride + j] - sum);
  }
};
}  // namespace kernel

/// y = z + w x, w [M, 1]; y may be z or x
template <class C>
void add_scaled(const context<C>& on, matrix_in w, matrix_in x, matrix_in z, matrix_out y) {
  on.begin();
  detail::for_elements(
      on, "add_scaled", y.rows, y.columns, false,
      kernel::add_scaled_element{w.data, w.stride, x.data, x.stride, z.data, z.stride, y.data, y.stride});
}
/// d [M, 1] = sum over the columns of x y
template <class C>
void row_dots(const context<C>& on, matrix_in x, matrix_in y, matrix_out d) {
  on.begin();
  if (x.rows == 0) return;
  launch("row_dots", {detail::blocks_of(x.rows, 4), 128}, on.stream(), &kernel::dots_of_rows<>, x.rows, x.columns,
         x.data, x.stride, y.data, y.stride, d.data, d.stride);
}
/// y = softmax of each column of x; y may be x
template <class C>
void softmax_forward(const context<C>& on, matrix_in x, matrix_out y) {
  on.begin();
  detail::for_elements(on, "softmax_forward", 1, x.columns, false,
                       kernel::softmax_of_column{x.rows, x.data, x.stride, y.data, y.stride});
}
/// dx = y (dy - sum over the rows of y dy); dx may be dy
template <class C>
void softmax_backward(const context<C>& on, matrix_in y, matrix_in dy, matrix_out dx) {
  on.begin();
  detail::for_elements(
      on, "softmax_backward", 1, y.columns, false,
      kernel::softmax_slope_of_column{y.rows, y.data, y.stride, dy.data, dy.stride, dx.data, dx.stride});
}

}  // namespace fathom::cuda
