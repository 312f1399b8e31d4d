// Operations on rows and columns on the GPU: copies, sums, activations, layer norm, RMS norm.
//
// The order of sums depends only on the shape, so results are bitwise the same every time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/norm_scale.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cuda {

namespace kernel {

inline constexpr unsigned whole_warp = 0xffffffffu;

/// The sum of x over a warp, on every lane.
__device__ __forceinline__ float warp_sum(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(whole_warp, x, lanes);
  return x;
}
__device__ __forceinline__ double warp_sum(double x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(whole_warp, x, lanes);
  return x;
}
__device__ __forceinline__ float warp_largest(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(whole_warp, x, lanes));
  return x;
}
/// The sum of x over a block of up to 1024 threads, on every thread.
template <class T>
__device__ __forceinline__ T block_sum(T x) {
  FATHOM_CUDA_SHARED(T, parts, 32);
  x = warp_sum(x);
  __syncthreads();  // an earlier sum may still be read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  T sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += parts[w];
  return sum;
}
__device__ __forceinline__ float block_largest(float x) {
  FATHOM_CUDA_SHARED(float, parts, 32);
  x = warp_largest(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float largest = parts[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) largest = fmaxf(largest, parts[w]);
  return largest;
}

/// f(i, j) for every element of a matrix [rows, columns].
template <class F>
__global__ void elements(index rows, index columns, F f) {
  constexpr index together = 4;  // loads in flight
  const index first = static_cast<index>(blockIdx.x) * blockDim.x * together + threadIdx.x;
  const index step = static_cast<index>(gridDim.x) * blockDim.x * together;
  for (index i = blockIdx.y; i < rows; i += gridDim.y)
    for (index j = first; j < columns; j += step) {
      FATHOM_CUDA_UNROLL
      for (index u = 0; u < together; ++u)
        if (const index at = j + u * blockDim.x; at < columns) f(i, at);
    }
}

// ---- Functors for elements ------------------------------------------------------------------------------------------

template <class From, class To>
struct copy_element {
  const From* x;
  index x_stride;
  To* y;
  index y_stride;
  __device__ void operator()(index i, index j) const { y[i * y_stride + j] = from_float<To>(to_float(x[i * x_stride + j])); }
};
struct add_element {
  const float* x;
  index x_stride;
  float* y;
  index y_stride;
  __device__ void operator()(index i, index j) const { y[i * y_stride + j] += x[i * x_stride + j]; }
};
struct zero_element {
  float* y;
  index y_stride;
  __device__ void operator()(index i, index j) const { y[i * y_stride + j] = 0; }
};
/// (y...) = f(x...)
template <class F, std::size_t O, std::size_t I>
struct map_element {
  F f;
  float* y[O];
  index y_strides[O];
  const float* x[I];
  index x_strides[I];
  __device__ void operator()(index i, index j) const {
    numbers<float, I> from;
    FATHOM_CUDA_UNROLL
    for (std::size_t n = 0; n < I; ++n) from.v[n] = x[n][i * x_strides[n] + j];
    const numbers<float, O> to = f(from);
    FATHOM_CUDA_UNROLL
    for (std::size_t n = 0; n < O; ++n) y[n][i * y_strides[n] + j] = to.v[n];
  }
};

// ---- Heads ----------------------------------------------------------------------------------------------------------

struct scale_head_element {
  index width;
  const float* x;
  index x_stride;
  const float* gain;
  index gain_stride;
  float* y;
  index y_stride;
  __device__ void operator()(index i, index j) const {
    const auto head = static_cast<unsigned>(j) / static_cast<unsigned>(width);
    y[i * y_stride + j] = x[i * x_stride + j] * gain[i * gain_stride + head];
  }
};

// ---- Layer normalisation, a warp for each row -----------------------------------------------------------------------

/// `rounded`: a bf16 copy of y for the product that follows; or null
template <class = void>
__global__ void layer_norm_rows(index rows, index columns, const float* x, index x_stride, const float* gain, const float* bias,
                                float* y, index y_stride, float* mean, float* rstd, bf16* rounded, index rounded_stride,
                                float eps) {
  const index i = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= rows) return;
  const index lane = threadIdx.x % 32;
  const float* const row = x + i * x_stride;
  const float count = static_cast<float>(columns);
  float sum = 0;
  for (index j = lane; j < columns; j += 32) sum += row[j];
  const float m = warp_sum(sum) / count;
  float squares = 0;
  for (index j = lane; j < columns; j += 32) squares += (row[j] - m) * (row[j] - m);
  const float r = norm_scale(warp_sum(squares) / count, eps);
  for (index j = lane; j < columns; j += 32) {
    const float normed = (row[j] - m) * r * gain[j] + bias[j];
    y[i * y_stride + j] = normed;
    if (rounded) rounded[i * rounded_stride + j] = from_float<bf16>(normed);
  }
  if (lane == 0) {
    mean[i] = m;
    rstd[i] = r;
  }
}

/// dx += rstd (g - mean of g - normed (mean of g normed)), g = dy gain, normed = (x - mean) rstd
template <class = void>
__global__ void layer_norm_rows_backward(index rows, index columns, const float* x, index x_stride, const float* gain,
                                         const float* mean, const float* rstd, const float* dy, index dy_stride, float* dx,
                                         index dx_stride) {
  const index i = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= rows) return;
  const index lane = threadIdx.x % 32;
  const float *const row = x + i * x_stride, *const d = dy + i * dy_stride;
  const float m = mean[i], r = rstd[i], count = static_cast<float>(columns);
  float sum_g = 0, sum_gn = 0;
  for (index j = lane; j < columns; j += 32) {
    const float g = d[j] * gain[j];
    sum_g += g;
    sum_gn += g * ((row[j] - m) * r);
  }
  const float mean_g = warp_sum(sum_g) / count, mean_gn = warp_sum(sum_gn) / count;
  for (index j = lane; j < columns; j += 32) dx[i * dx_stride + j] += r * (d[j] * gain[j] - mean_g - (row[j] - m) * r * mean_gn);
}

// ---- RMS norm, a warp for each head of each row ---------------------------------------------------------------------

/// A head of a row. In 32 bits: divisions in 64 take long, and no launch has as many warps.
struct row_and_head {
  index row, head;
  __device__ row_and_head(index i, index heads)
      : row(static_cast<unsigned>(i) / static_cast<unsigned>(heads)),
        head(static_cast<unsigned>(i) % static_cast<unsigned>(heads)) {}
};

/// y may be x. `rounded`: a bf16 copy of y for the product that follows; or null
template <class = void>
__global__ void rms_norm_heads(index rows, index heads, index width, const float* x, index x_stride, const float* gain,
                               float* y, index y_stride, float* rstd, bf16* rounded, index rounded_stride, float eps,
                               float offset) {
  const index i = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= rows * heads) return;
  const index lane = threadIdx.x % 32;
  const row_and_head at(i, heads);
  const float* const from = x + at.row * x_stride + at.head * width;
  float* const to = y + at.row * y_stride + at.head * width;
  float squares = 0;
  for (index j = lane; j < width; j += 32) squares += from[j] * from[j];
  const float r = norm_scale(warp_sum(squares) / static_cast<float>(width), eps);
  for (index j = lane; j < width; j += 32) {
    const float normed = from[j] * r * (gain[j] + offset);
    to[j] = normed;
    if (rounded) rounded[at.row * rounded_stride + at.head * width + j] = from_float<bf16>(normed);
  }
  if (lane == 0) rstd[i] = r;
}

/// dx += rstd (g - normed (mean of g normed)), g = dy (gain + offset), normed = x rstd; or dx = that, and dx may be dy
template <class = void>
__global__ void rms_norm_heads_backward(index rows, index heads, index width, const float* x, index x_stride,
                                        const float* gain, const float* rstd, const float* dy, index dy_stride,
                                        float* dx, index dx_stride, float offset, bool adds) {
  const index i = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= rows * heads) return;
  const index lane = threadIdx.x % 32;
  const row_and_head at(i, heads);
  const float *const n = x + at.row * x_stride + at.head * width, *const d = dy + at.row * dy_stride + at.head * width;
  float* const to = dx + at.row * dx_stride + at.head * width;
  const float r = rstd[i];
  float sum_gn = 0;
  for (index j = lane; j < width; j += 32) sum_gn += d[j] * (gain[j] + offset) * (n[j] * r);
  const float mean_gn = warp_sum(sum_gn) / static_cast<float>(width);
  for (index j = lane; j < width; j += 32) {
    const float gradient = r * (d[j] * (gain[j] + offset) - n[j] * r * mean_gn);
    to[j] = adds ? to[j] + gradient : gradient;
  }
}

/// dots [rows, heads] = the sum of x y over each head's columns, a warp for each head of each row
template <class = void>
__global__ void dots_of_heads(index rows, index heads, index width, const float* x, index x_stride, const float* y, index y_stride,
                              float* dots, index dots_stride) {
  const index i = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= rows * heads) return;
  const index lane = threadIdx.x % 32;
  const row_and_head at(i, heads);
  const float *const a = x + at.row * x_stride + at.head * width, *const b = y + at.row * y_stride + at.head * width;
  float sum = 0;
  for (index j = lane; j < width; j += 32) sum += a[j] * b[j];
  sum = warp_sum(sum);
  if (lane == 0) dots[at.row * dots_stride + at.head] = sum;
}

// ---- Sums over rows -------------------------------------------------------------------------------------------------

/// Terms of sums over rows: one number, y, or two, dy normed and dy.
struct sum_of_column {
  static constexpr int count = 1;
  const float* y;
  index stride;
  __device__ void operator()(index i, index j, float* sums) const { sums[0] += y[i * stride + j]; }
};
struct sums_of_layer_norm {
  static constexpr int count = 2;
  const float* x;
  index x_stride;
  const float *mean, *rstd;
  const float* dy;
  index dy_stride;
  __device__ void operator()(index i, index j, float* sums) const {
    const float d = dy[i * dy_stride + j];
    sums[0] += d * ((x[i * x_stride + j] - mean[i]) * rstd[i]);
    sums[1] += d;
  }
};

/// Of dy normed; a head of a row is a row here.
struct sum_of_rms_norm {
  static constexpr int count = 1;
  index heads, width;
  const float* x;
  index x_stride;
  const float* rstd;
  const float* dy;
  index dy_stride;
  __device__ void operator()(index i, index j, float* sums) const {
    const row_and_head at(i, heads);
    sums[0] += dy[at.row * dy_stride + at.head * width + j] * (x[at.row * x_stride + at.head * width + j] * rstd[i]);
  }
};

inline constexpr unsigned column_lanes = 32, row_lanes = 8;

/// partial [slices, count, columns]: the sums of each slice of rows. Blocks of 32 columns by 8 rows.
template <class F>
__global__ void column_partials(index rows, index columns, F f, float* partial) {
  constexpr int N = F::count;
  FATHOM_CUDA_SHARED(float, shared, N* column_lanes* row_lanes);
  const index j = static_cast<index>(blockIdx.x) * column_lanes + threadIdx.x;
  const index first = rows * blockIdx.y / gridDim.y, last = rows * (blockIdx.y + 1) / gridDim.y;
  float sums[N] = {};
  if (j < columns)
    for (index i = first + threadIdx.y; i < last; i += row_lanes) f(i, j, sums);
  for (int n = 0; n < N; ++n) shared[(static_cast<unsigned>(n) * row_lanes + threadIdx.y) * column_lanes + threadIdx.x] = sums[n];
  __syncthreads();
  if (threadIdx.y > 0 || j >= columns) return;
  for (int n = 0; n < N; ++n) {
    float sum = 0;
    for (unsigned y = 0; y < row_lanes; ++y)
      sum += shared[(static_cast<unsigned>(n) * row_lanes + y) * column_lanes + threadIdx.x];
    partial[(static_cast<index>(blockIdx.y) * N + n) * columns + j] = sum;
  }
}
/// g0, g1 [columns] += the sums of all slices
template <int N>
__global__ void add_partials(index columns, index slices, const float* partial, float* g0, float* g1) {
  const index j = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (j >= columns) return;
  for (int n = 0; n < N; ++n) {
    float sum = 0;
    for (index s = 0; s < slices; ++s) sum += partial[(s * N + n) * columns + j];
    (n == 0 ? g0 : g1)[j] += sum;
  }
}

/// total = the sum of x [count], by one block
template <class = void>
__global__ void sum_in_double(const float* x, index count, double* total) {
  double sum = 0;
  for (index i = threadIdx.x; i < count; i += blockDim.x) sum += static_cast<double>(x[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

}  // namespace kernel

namespace detail {

inline constexpr index few = 8;  // the most rows of a product in decoding

[[nodiscard]] inline unsigned blocks_of(index count, index each, index most = index{1} << 30) {
  return static_cast<unsigned>(std::clamp<index>((count + each - 1) / each, 1, most));
}

/// Calls f(i, j) for every element of a matrix; `compact`: all operands are contiguous.
template <class C, class F>
void for_elements(const context<C>& on, const char* operation, index rows, index columns, bool compact, const F& f) {
  if (rows == 0 || columns == 0) return;
  if (compact) {
    columns *= rows;
    rows = 1;
  }
  const index most = index{16} * on.processors();
  launch(operation, {{blocks_of(columns, 1024, most), blocks_of(rows, 1, 65535)}, 256}, on.stream(), &kernel::elements<F>, rows,
         columns, f);
}
template <class T, class U>
[[nodiscard]] bool are_compact(const matrix<T>& x, const matrix<U>& y) {
  return x.stride == x.columns && y.stride == y.columns;
}

/// The row stride of an operand's copy: whole 16 bytes.
[[nodiscard]] inline index copy_stride(index columns) { return (columns + 7) / 8 * 8; }

/// Scratch for a bf16 copy of an operation's result, if it is an operand of the products that follow; without data if
/// they take y as it is, or if it has few rows (matmul.cuh).
template <class Compute>
[[nodiscard]] matrix<bf16> room_for_copy(const context<Compute>& on, matrix_in y) {
  if (!std::is_same_v<Compute, bf16> || y.rows <= few) return {};
  const index stride = copy_stride(y.columns);
  bf16* const to = on.template scratch<bf16>(y.rows * stride);
  on.on().keep_copy({y.data, y.rows, y.columns, y.stride, to});
  return {to, y.rows, y.columns, stride};
}

/// g0, g1 [columns] += the sums of f over the rows
template <class C, class F>
void add_column_sums(const context<C>& on, const char* operation, index rows, index columns, const F& f, float* g0, float* g1) {
  constexpr int N = F::count;
  const unsigned tiles = blocks_of(columns, kernel::column_lanes);
  const index slices = std::clamp<index>(rows / 64, 1, std::max<index>(1, index{8} * on.processors() / tiles));
  float* const partial = on.template scratch<float>(slices * N * columns);
  launch(operation, {{tiles, static_cast<unsigned>(slices)}, {kernel::column_lanes, kernel::row_lanes}}, on.stream(),
         &kernel::column_partials<F>, rows, columns, f, partial);
  launch(operation, {blocks_of(columns, 128), 128}, on.stream(), &kernel::add_partials<N>, columns, slices,
         static_cast<const float*>(partial), g0, g1);
}

}  // namespace detail

/// y = x
template <class C>
void copy(const context<C>& on, matrix_in x, matrix_out y) {
  on.begin();
  detail::for_elements(on, "copy", y.rows, y.columns, detail::are_compact(x, y),
                       kernel::copy_element<float, float>{x.data, x.stride, y.data, y.stride});
}
/// y += x
template <class C>
void add(const context<C>& on, matrix_in x, matrix_out y) {
  on.begin();
  detail::for_elements(on, "add", y.rows, y.columns, detail::are_compact(x, y),
                       kernel::add_element{x.data, x.stride, y.data, y.stride});
}
/// y = 0
template <class C>
void zero(const context<C>& on, matrix_out y) {
  on.begin();
  detail::for_elements(on, "zero", y.rows, y.columns, y.stride == y.columns, kernel::zero_element{y.data, y.stride});
}
/// (y...) = f(x...), element by element: f takes numbers<float, I> and returns numbers<float, O>. All matrices have the
/// same shape; a result may alias an operand.
template <class C, class F, std::size_t O, std::size_t I>
void elementwise(const context<C>& on, const F& f, const std::array<matrix_out, O>& y, const std::array<matrix_in, I>& x) {
  on.begin();
  kernel::map_element<F, O, I> map{f, {}, {}, {}, {}};
  bool are_compact = true;
  for (std::size_t n = 0; n < O; ++n) {
    map.y[n] = y[n].data;
    map.y_strides[n] = y[n].stride;
    are_compact &= y[n].stride == y[n].columns;
  }
  for (std::size_t n = 0; n < I; ++n) {
    map.x[n] = x[n].data;
    map.x_strides[n] = x[n].stride;
    are_compact &= x[n].stride == x[n].columns;
  }
  detail::for_elements(on, "elementwise", y[0].rows, y[0].columns, are_compact, map);
}

/// g [N] += sum over the rows of y [M, N]. Keeps copies of operands: it runs between two products that use y.
template <class C>
void column_sums(const context<C>& on, matrix_in y, float* g) {
  on.on().free_scratch_but_copies();
  detail::add_column_sums(on, "column_sums", y.rows, y.columns, kernel::sum_of_column{y.data, y.stride}, g, nullptr);
}

/// y = (x - mean) rstd gain + bias, row by row, rstd = 1 / sqrt(variance + eps); keeps mean [rows] and rstd [rows]
template <class C>
void layer_norm_forward(const context<C>& on, matrix_in x, const float* gain, const float* bias, matrix_out y, float* mean,
                        float* rstd, double eps = norm_epsilon) {
  on.begin();
  const matrix<bf16> rounded = detail::room_for_copy(on, y);
  launch("layer_norm_forward", {detail::blocks_of(x.rows, 4), 128}, on.stream(), &kernel::layer_norm_rows<>, x.rows, x.columns,
         x.data, x.stride, gain, bias, y.data, y.stride, mean, rstd, rounded.data, rounded.stride, static_cast<float>(eps));
}
/// dx += the gradient with respect to x; dgain and dbias [columns] += theirs
template <class C>
void layer_norm_backward(const context<C>& on, matrix_in x, const float* gain, const float* mean, const float* rstd, matrix_in dy,
                         matrix_out dx, float* dgain, float* dbias) {
  on.begin();
  launch("layer_norm_backward", {detail::blocks_of(x.rows, 4), 128}, on.stream(), &kernel::layer_norm_rows_backward<>, x.rows,
         x.columns, x.data, x.stride, gain, mean, rstd, dy.data, dy.stride, dx.data, dx.stride);
  detail::add_column_sums(on, "layer_norm_backward", x.rows, x.columns,
                          kernel::sums_of_layer_norm{x.data, x.stride, mean, rstd, dy.data, dy.stride}, dgain, dbias);
}

/// y = x rstd (gain + offset), rstd = 1 / sqrt(mean(x^2) + eps), for each of the heads of a row; keeps rstd
/// [rows, heads] ("RMS norm" in backend/operations.hpp). y may be x.
template <class C>
void rms_norm_forward(const context<C>& on, matrix_in x, const float* gain, matrix_out y, float* rstd,
                      double eps = norm_epsilon, double offset = 0, index heads = 1) {
  on.begin();
  // Products read whole rows that are normalised; heads are for attention.
  const matrix<bf16> rounded = heads == 1 ? detail::room_for_copy(on, y) : matrix<bf16>();
  launch("rms_norm_forward", {detail::blocks_of(x.rows * heads, 4), 128}, on.stream(), &kernel::rms_norm_heads<>,
         x.rows, heads, x.columns / heads, x.data, x.stride, gain, y.data, y.stride, rstd, rounded.data, rounded.stride,
         static_cast<float>(eps), static_cast<float>(offset));
}
/// dx += the gradient with respect to x, or without `adds` dx = it, which may then be dy; dgain [width] += the gain's
template <class C>
void rms_norm_backward(const context<C>& on, matrix_in x, const float* gain, const float* rstd, matrix_in dy,
                       matrix_out dx, float* dgain, double offset = 0, index heads = 1, bool adds = true) {
  on.begin();
  const index width = x.columns / heads;
  // first, since dx may be dy
  detail::add_column_sums(on, "rms_norm_backward", x.rows * heads, width,
                          kernel::sum_of_rms_norm{heads, width, x.data, x.stride, rstd, dy.data, dy.stride}, dgain,
                          nullptr);
  launch("rms_norm_backward", {detail::blocks_of(x.rows * heads, 4), 128}, on.stream(),
         &kernel::rms_norm_heads_backward<>, x.rows, heads, width, x.data, x.stride, gain, rstd, dy.data, dy.stride,
         dx.data, dx.stride, static_cast<float>(offset), adds);
}

/// y = x gain, head by head; gain [rows, heads], all rows the same if its stride is 0. y may be x.
template <class C>
void scale_heads(const context<C>& on, matrix_in x, matrix_in gain, matrix_out y) {
  on.begin();
  detail::for_elements(on, "scale_heads", y.rows, y.columns, false,
                       kernel::scale_head_element{y.columns / gain.columns, x.data, x.stride, gain.data, gain.stride, y.data, y.stride});
}
/// dots [rows, heads] = the sum of x y over the columns of each head
template <class C>
void dot_heads(const context<C>& on, matrix_in x, matrix_in y, matrix_out dots) {
  on.begin();
  launch("dot_heads", {detail::blocks_of(x.rows * dots.columns, 4), 128}, on.stream(), &kernel::dots_of_heads<>, x.rows, dots.columns,
         x.columns / dots.columns, x.data, x.stride, y.data, y.stride, dots.data, dots.stride);
}

/// total [1] = the sum of x [count]; for the loss, which the host then reads
template <class C>
void sum(const context<C>& on, const float* x, index count, double* total) {
  on.begin();
  launch("sum", {1, 1024}, on.stream(), &kernel::sum_in_double<>, x, count, total);
}

}  // namespace fathom::cuda
