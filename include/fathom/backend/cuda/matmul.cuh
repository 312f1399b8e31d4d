// Matrix products on the GPU: cuBLASLt, and our own kernel for the few rows of decoding.
//
// cuBLASLt is column-major, so it computes y^T [N, M]: its A is the right operand, its B the left one. Operands are
// first copied to scratch memory if they are not of the compute type. The algorithm is chosen once per shape.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/packed.cuh"
#include "fathom/backend/epilogue.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/tensor.hpp"

namespace fathom::cuda {

// ---- Epilogues (backend/epilogue.hpp) -------------------------------------------------------------------------------

namespace kernel {

/// y(i, j) = rest(y(i, j), i, j)
template <class Rest>
struct apply_rest {
  Rest rest;
  float* y;
  index stride;
  __device__ void operator()(index i, index j) const { y[i * stride + j] = rest(y[i * stride + j], i, j); }
};

}  // namespace kernel

namespace detail {

/// An epilogue in parts: the residual, which cuBLASLt adds, and the rest: a functor and, if cuBLASLt has it, its
/// epilogue there.
template <class Rest>
struct epilogue_parts {
  Rest rest;             // an epilogue
  matrix_in residual{};  // without data: none
  cublasLtEpilogue_t fused = CUBLASLT_EPILOGUE_DEFAULT;  // the rest in cuBLASLt; default: none, or cuBLASLt lacks it
  const float* bias = nullptr;
  float* before = nullptr;  // the input of GELU: written, or read for its gradient
  index before_stride = 0;
};
/// Any epilogue.
template <class Epilogue>
[[nodiscard]] epilogue_parts<Epilogue> parts_of(const Epilogue& e) {
  return {.rest = e};
}
// Epilogues that cuBLASLt has:
[[nodiscard]] inline epilogue_parts<epilogue::none> parts_of(const epilogue::add<float>& e) {
  return {.rest = {}, .residual = e.residual};
}
[[nodiscard]] inline epilogue_parts<epilogue::bias<float>> parts_of(const epilogue::bias<float>& e) {
  return {.rest = e, .residual = {}, .fused = CUBLASLT_EPILOGUE_BIAS, .bias = e.b};
}
[[nodiscard]] inline epilogue_parts<epilogue::bias<float>> parts_of(const epilogue::bias_add<float>& e) {
  return {.rest = {e.b}, .residual = e.residual, .fused = CUBLASLT_EPILOGUE_BIAS, .bias = e.b};
}
using bias_gelu = epilogue::activated<gelu_tanh, float>;
using gelu_gradient = epilogue::activation_gradient<gelu_tanh, float>;
[[nodiscard]] inline epilogue_parts<bias_gelu> parts_of(const bias_gelu& e) {
  const cublasLtEpilogue_t fused = e.before.data ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS;
  return {.rest = e,
          .residual = {},
          .fused = e.b ? fused : CUBLASLT_EPILOGUE_DEFAULT,
          .bias = e.b,
          .before = e.before.data,
          .before_stride = e.before.stride};
}
[[nodiscard]] inline epilogue_parts<gelu_gradient> parts_of(const gelu_gradient& e) {
  return {.rest = e,
          .residual = {},
          .fused = CUBLASLT_EPILOGUE_DGELU,
          .bias = nullptr,
          .before = const_cast<float*>(e.before.data),  // cuBLASLt has one attribute for both
          .before_stride = e.before.stride};
}
/// cuBLASLt's GELU is precise enough for bf16 operands; float uses our own.
template <class Compute, class Rest>
inline constexpr bool may_fuse = std::is_same_v<Rest, epilogue::bias<float>> ||
                                 (std::is_same_v<Compute, bf16> && (std::is_same_v<Rest, bias_gelu> || std::is_same_v<Rest, gelu_gradient>));

}  // namespace detail

// ---- cuBLASLt -------------------------------------------------------------------------------------------------------

/// A cuBLASLt plan, made once for each kind of product.
struct product_plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool is_possible = false;

  product_plan() = default;
  product_plan(const product_plan&) = delete;
  product_plan& operator=(const product_plan&) = delete;
  ~product_plan() {
    for (const cublasLtMatrixLayout_t layout : {a, b, c, d})
      if (layout) static_cast<void>(cublasLtMatrixLayoutDestroy(layout));
    if (operation) static_cast<void>(cublasLtMatmulDescDestroy(operation));
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_cublas(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value), "describing a matrix product");
  }
};

namespace detail {

/// y [M, N] = left [M, K] right [K, N] + residual, and an epilogue; either operand may be given transposed.
struct product_task {
  const char* operation;
  const void *left, *right;
  index left_rows, left_columns, left_stride;  // as stored
  index right_rows, right_columns, right_stride;
  bool left_transposed, right_transposed;
  cudaDataType_t type;  // of both operands
  matrix_out y;
  matrix_in residual;  // without data: none
  cublasLtEpilogue_t epilogue;
  const float* bias;
  float* before;
  index before_stride;
};

/// The largest power of two, at most 256, that an address is a multiple of.
[[nodiscard]] inline std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

[[nodiscard]] inline std::shared_ptr<product_plan> make_plan(gpu& on, const product_task& t) {
  auto plan = std::make_shared<product_plan>();
  check_cublas(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), t.operation);
  plan->set(CUBLASLT_MATMUL_DESC_TRANSA, t.right_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan->set(CUBLASLT_MATMUL_DESC_TRANSB, t.left_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan->set(CUBLASLT_MATMUL_DESC_EPILOGUE, t.epilogue);
  if (t.bias) plan->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(t.bias));
  if (t.before) {
    plan->set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(t.before));
    plan->set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, static_cast<std::int64_t>(t.before_stride));
  }
  const auto layout = [&](cublasLtMatrixLayout_t& to, cudaDataType_t type, index rows, index columns, index stride) {
    check_cublas(cublasLtMatrixLayoutCreate(&to, type, static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows),
                                            static_cast<std::int64_t>(stride)),
                 t.operation);
  };
  const matrix_in c = t.residual.data ? t.residual : matrix_in(t.y);
  layout(plan->a, t.type, t.right_rows, t.right_columns, t.right_stride);
  layout(plan->b, t.type, t.left_rows, t.left_columns, t.left_stride);
  layout(plan->c, CUDA_R_32F, t.y.rows, t.y.columns, c.stride);
  layout(plan->d, CUDA_R_32F, t.y.rows, t.y.columns, t.y.stride);

  cublasLtMatmulPreference_t wish = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&wish), t.operation);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_cublas(cublasLtMatmulPreferenceSetAttribute(wish, attribute, &value, sizeof value), t.operation);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, gpu::workspace_bytes);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(t.right));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(t.left));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(c.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(t.y.data));
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(on.blas(), plan->operation, plan->a, plan->b, plan->c, plan->d, wish, 1, &best, &found);
  static_cast<void>(cublasLtMatmulPreferenceDestroy(wish));
  plan->is_possible = status == CUBLAS_STATUS_SUCCESS && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  plan->algorithm = best.algo;
  return plan;
}

/// Runs a product; returns false if cuBLASLt cannot.
[[nodiscard]] inline bool try_product(gpu& on, const product_task& t) {
  const void* const c = t.residual.data ? static_cast<const void*>(t.residual.data) : t.y.data;
  const product_key key{t.left_rows,
                        t.left_columns,
                        t.left_stride,
                        t.right_rows,
                        t.right_columns,
                        t.right_stride,
                        t.left_transposed,
                        t.right_transposed,
                        t.type,
                        t.y.stride,
                        t.residual.data ? t.residual.stride : 0,
                        t.epilogue,
                        t.before_stride,
                        alignment_of(t.left),
                        alignment_of(t.right),
                        alignment_of(c),
                        alignment_of(t.y.data),
                        alignment_of(t.bias),
                        alignment_of(t.before),
                        t.residual.data == t.y.data};
  std::shared_ptr<product_plan>& plan = on.plans[key];
  if (!plan) plan = make_plan(on, t);
  if (!plan->is_possible) return false;
  if (t.bias) plan->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(t.bias));
  if (t.before) plan->set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(t.before));
  const float one = 1, weight = t.residual.data ? 1 : 0;
  const cublasStatus_t status =
      cublasLtMatmul(on.blas(), plan->operation, &one, t.right, plan->a, t.left, plan->b, &weight, c, plan->c, t.y.data, plan->d,
                     &plan->algorithm, on.workspace(), gpu::workspace_bytes, on.stream());
  if (status != CUBLAS_STATUS_SUCCESS && t.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {  // it may work without the epilogue
    plan->is_possible = false;
    return false;
  }
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuda: ", t.operation, " [", t.left_rows, ", ", t.left_columns, "] with [", t.right_rows, ", ", t.right_columns,
         "] to [", t.y.rows, ", ", t.y.columns, "]: ", cublasLtGetStatusString(status));
  return true;
}

/// An operand in the compute type: in place, or a copy that later products reuse.
template <class Compute, class T>
[[nodiscard]] matrix<const Compute> operand(const context<Compute>& on, matrix<const T> x) {
  if constexpr (std::is_same_v<T, Compute>) {
    return x;
  } else {
    const index stride = copy_stride(x.columns);
    const gpu::copy_of wanted{x.data, x.rows, x.columns, x.stride, nullptr};
    for (const gpu::copy_of& c : on.on().copies)
      if (c == wanted) return {static_cast<const Compute*>(c.copy), x.rows, x.columns, stride};
    Compute* const to = on.template scratch<Compute>(x.rows * stride);
    for_elements(on, "operand of a product", x.rows, x.columns, x.stride == x.columns && stride == x.columns,
                 kernel::copy_element<T, Compute>{x.data, x.stride, to, stride});
    on.on().keep_copy({x.data, x.rows, x.columns, x.stride, to});
    return {to, x.rows, x.columns, stride};
  }
}

template <class Compute, class T, class U, class Rest>
void product(const context<Compute>& on, const char* operation, matrix<const T> x, bool x_transposed, matrix<const U> w,
             bool w_transposed, matrix_out y, const epilogue_parts<Rest>& e) {
  if (y.rows == 0 || y.columns == 0) return;
  const matrix<const Compute> left = operand<Compute>(on, x), right = operand<Compute>(on, w);
  product_task task{.operation = operation,
                    .left = left.data,
                    .right = right.data,
                    .left_rows = left.rows,
                    .left_columns = left.columns,
                    .left_stride = left.stride,
                    .right_rows = right.rows,
                    .right_columns = right.columns,
                    .right_stride = right.stride,
                    .left_transposed = x_transposed,
                    .right_transposed = w_transposed,
                    .type = std::is_same_v<Compute, bf16> ? CUDA_R_16BF : CUDA_R_32F,
                    .y = y,
                    .residual = e.residual,
                    .epilogue = e.fused,
                    .bias = e.bias,
                    .before = e.before,
                    .before_stride = e.before_stride};
  if constexpr (std::is_same_v<Rest, epilogue::none>) {
    if (!try_product(on.on(), task)) fail("cuda: ", operation, " to [", y.rows, ", ", y.columns, "]: cuBLASLt has no algorithm");
  } else {
    // cuBLASLt needs rows of GELU's input a multiple of 8 numbers apart.
    if constexpr (may_fuse<Compute, Rest>)
      if (task.epilogue != CUBLASLT_EPILOGUE_DEFAULT && task.before_stride % 8 == 0 && try_product(on.on(), task)) return;
    task.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    task.bias = task.before = nullptr;
    task.before_stride = 0;
    if (!try_product(on.on(), task)) fail("cuda: ", operation, " to [", y.rows, ", ", y.columns, "]: cuBLASLt has no algorithm");
    for_elements(on, operation, y.rows, y.columns, false, kernel::apply_rest<Rest>{e.rest, y.data, y.stride});
  }
}

}  // namespace detail

// ---- A few rows: each weight is read once, by one warp per output ---------------------------------------------------

namespace kernel {

/// Sixteen bytes of weights as floats.
template <class P>
struct sixteen_bytes;
template <>
struct sixteen_bytes<float> {
  static constexpr int count = 4;
  __device__ static void widen(const uint4& v, float (&to)[4]) {
    to[0] = __uint_as_float(v.x);
    to[1] = __uint_as_float(v.y);
    to[2] = __uint_as_float(v.z);
    to[3] = __uint_as_float(v.w);
  }
};
template <>
struct sixteen_bytes<bf16> {
  static constexpr int count = 8;
  __device__ static void widen(const uint4& v, float (&to)[8]) {
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
    FATHOM_CUDA_UNROLL
    for (int i = 0; i < 4; ++i) {
      to[2 * i] = low_bf16(words[i]);
      to[2 * i + 1] = high_bf16(words[i]);
    }
  }
};

inline constexpr int most_rows = 4;  // of x at a time
inline constexpr unsigned warps_of_few_rows = 4;

/// y [rows, N] = rest(x [rows, K] w [N, K]^T + residual); `aligned`: rows of w and x are aligned to 16 bytes
template <int Rows, class P, class Rest>
__global__ void few_rows(index depth, index columns, bool aligned, const float* x, index x_stride, const P* w, index w_stride,
                         const float* residual, index residual_stride, Rest rest, float* y, index y_stride) {
  constexpr int together = sixteen_bytes<P>::count;
  const index n = static_cast<index>(blockIdx.x) * warps_of_few_rows + threadIdx.x / 32;
  if (n >= columns) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const P* const weights = w + n * w_stride;
  float sums[Rows] = {};
  const index whole = aligned ? depth / together * together : 0;
  for (index k = lane * together; k < whole; k += 32 * together) {
    float v[together];
    sixteen_bytes<P>::widen(*reinterpret_cast<const uint4*>(weights + k), v);
    FATHOM_CUDA_UNROLL
    for (int r = 0; r < Rows; ++r) {
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < together; i += 4) {
        const float4 u = *reinterpret_cast<const float4*>(x + r * x_stride + k + i);
        sums[r] += u.x * v[i] + u.y * v[i + 1] + u.z * v[i + 2] + u.w * v[i + 3];
      }
    }
  }
  for (index k = whole + lane; k < depth; k += 32) {
    const float v = to_float(weights[k]);
    for (int r = 0; r < Rows; ++r) sums[r] += x[r * x_stride + k] * v;
  }
  FATHOM_CUDA_UNROLL
  for (int r = 0; r < Rows; ++r) {
    const float sum = warp_sum(sums[r]);
    if (lane == 0) y[r * y_stride + n] = rest(residual ? sum + residual[r * residual_stride + n] : sum, r, n);
  }
}

/// An epilogue whose rows start at `first`.
template <class Rest>
struct from_row {
  Rest rest;
  index first;
  __device__ __forceinline__ float operator()(float v, index i, index j) const { return rest(v, first + i, j); }
};

}  // namespace kernel

namespace detail {

template <int Rows, class C, class P, class Rest>
void some_rows(const context<C>& on, const char* operation, matrix_in x, matrix<const P> w, matrix_out y, matrix_in residual,
               const Rest& rest, index first) {
  const auto aligned = [](const auto& m) {
    return alignment_of(m.data) >= 16 && m.stride * static_cast<index>(sizeof *m.data) % 16 == 0;
  };
  launch(operation, {blocks_of(y.columns, kernel::warps_of_few_rows), 32 * kernel::warps_of_few_rows}, on.stream(),
         &kernel::few_rows<Rows, P, kernel::from_row<Rest>>, x.columns, y.columns, aligned(x) && aligned(w), x.row(first),
         x.stride, w.data, w.stride, residual.data ? residual.row(first) : nullptr, residual.stride,
         kernel::from_row<Rest>{rest, first}, y.row(first), y.stride);
}

/// y = epilogue(x w^T) for a few rows of x
template <class C, class P, class Rest>
void product_of_few_rows(const context<C>& on, const char* operation, matrix_in x, matrix<const P> w, matrix_out y,
                         const epilogue_parts<Rest>& e) {
  index i = 0;
  for (; i + kernel::most_rows <= y.rows; i += kernel::most_rows)
    some_rows<kernel::most_rows>(on, operation, x, w, y, e.residual, e.rest, i);
  for (; i < y.rows; ++i) some_rows<1>(on, operation, x, w, y, e.residual, e.rest, i);
}

template <class C, class P, class Rest>
void product_nt(const context<C>& on, const char* operation, matrix_in x, matrix<const P> w, matrix_out y,
                const epilogue_parts<Rest>& e) {
  if (y.rows <= few) {
    on.begin();
    product_of_few_rows(on, operation, x, w, y, e);
  } else {
    on.on().free_scratch_but_copies();
    product(on, operation, x, false, w, true, y, e);
    on.begin();  // y may be an operand that was copied
  }
}

}  // namespace detail

/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class C, class P, class Epilogue>
void matmul(const context<C>& on, matrix_in x, matrix<P> w, matrix_out y, const Epilogue& epilogue) {
  on.on().free_scratch_but_copies();
  detail::product(on, "matmul", x, false, matrix<const std::remove_const_t<P>>(w), false, y, detail::parts_of(epilogue));
  on.begin();
}
/// y [M, N] = epilogue(x [M, K] w [N, K]^T)
template <class C, class P, class Epilogue>
void matmul_nt(const context<C>& on, matrix_in x, matrix<P> w, matrix_out y, const Epilogue& epilogue) {
  detail::product_nt(on, "matmul_nt", x, matrix<const std::remove_const_t<P>>(w), y, detail::parts_of(epilogue));
}
/// g [K, N] += x [M, K]^T y [M, N]
template <class C>
void matmul_tn(const context<C>& on, matrix_in x, matrix_in y, matrix_out g) {
  on.on().free_scratch_but_copies();
  detail::product(on, "matmul_tn", x, true, y, false, g, detail::parts_of(epilogue::add<float>{g}));
}

// Overloads for weights given as tensors; packed matrices are stored transposed.
template <class C, class P, index... Extents, class Epilogue>
void matmul(const context<C>& on, matrix_in x, const tensor<P, Extents...>& w, matrix_out y, const Epilogue& epilogue) {
  matmul(on, x, w.view(), y, epilogue);
}
template <class C, class P, index... Extents, class Epilogue>
void matmul_nt(const context<C>& on, matrix_in x, const tensor<P, Extents...>& w, matrix_out y, const Epilogue& epilogue) {
  matmul_nt(on, x, w.view(), y, epilogue);
}
template <class C, class P, index In, index Out, class Epilogue>
void matmul(const context<C>& on, matrix_in x, const packed_matrix<P, In, Out>& w, matrix_out y, const Epilogue& epilogue) {
  detail::product_nt(on, "matmul", x, w.transposed.view(), y, detail::parts_of(epilogue));
}

}  // namespace fathom::cuda
