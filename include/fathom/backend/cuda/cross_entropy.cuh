// Softmax cross-entropy on the GPU, one block per row of logits.
#pragma once

#include <span>

#include "fathom/backend/cuda/elementwise.cuh"

namespace fathom::cuda {

namespace kernel {

template <class = void>
__global__ void cross_entropy_rows(index columns, const float* logits, index stride, const token* targets, float* losses,
                                   float* lse) {
  const index i = blockIdx.x;
  const float* const row = logits + i * stride;
  // Each thread keeps the sum of exp(x - its own largest x), in one pass over memory.
  float largest = -INFINITY, sum = 0;
  for (index j = threadIdx.x; j < columns; j += blockDim.x) {
    const float x = row[j];
    if (x > largest) {
      sum = sum * expf(largest - x) + 1;
      largest = x;
    } else {
      sum += x == largest ? 1 : expf(x - largest);
    }
  }
  const float most = block_largest(largest);
  const float total = block_sum(sum > 0 ? sum * expf(largest - most) : sum);  // NaN stays
  if (threadIdx.x > 0) return;
  lse[i] = most + logf(total);
  const token target = targets[i];
  losses[i] = target < 0 ? 0 : lse[i] - row[target];
}

/// `over_cap`: 1 / cap, or 0; `rounded`: a bf16 copy for the products that follow; or null
template <class = void>
__global__ void cross_entropy_rows_backward(index columns, float* logits, index stride, const token* targets, const float* lse,
                                            float scale, float over_cap, bf16* rounded, index rounded_stride) {
  const index i = blockIdx.x;
  float* const row = logits + i * stride;
  const token target = targets[i];
  const float offset = lse[i];
  for (index j = threadIdx.x; j < columns; j += blockDim.x) {
    float d = target < 0 ? 0 : scale * (expf(row[j] - offset) - (j == target ? 1.0f : 0.0f));
    if (over_cap > 0) d *= 1 - (row[j] * over_cap) * (row[j] * over_cap);
    row[j] = d;
    if (rounded) rounded[i * rounded_stride + j] = from_float<bf16>(d);
  }
}

}  // namespace kernel

namespace detail {
[[nodiscard]] inline unsigned threads_of_row(index columns) { return columns < 512 ? 64 : columns < 4096 ? 256 : 1024; }
}  // namespace detail

/// losses [rows] = -log softmax(logits)[target], 0 where the target is -1; keeps lse [rows]
template <class C>
void cross_entropy_forward(const context<C>& on, matrix_in logits, std::span<const token> targets, float* losses, float* lse) {
  on.begin();
  launch("cross_entropy_forward", {static_cast<unsigned>(logits.rows), detail::threads_of_row(logits.columns)}, on.stream(),
         &kernel::cross_entropy_rows<>, logits.columns, logits.data, logits.stride, targets.data(), losses, lse);
}
/// logits become their gradient: scale (softmax(logits) - onehot(target)); 0 where the target is -1. If a cap bounds them,
/// they become the gradient for what it bounded (backend/reference.hpp).
template <class C>
void cross_entropy_backward(const context<C>& on, matrix_out logits, std::span<const token> targets, const float* lse,
                            float scale, double cap = 0) {
  on.begin();
  const matrix<bf16> rounded = detail::room_for_copy(on, logits);
  launch("cross_entropy_backward", {static_cast<unsigned>(logits.rows), detail::threads_of_row(logits.columns)}, on.stream(),
         &kernel::cross_entropy_rows_backward<>, logits.columns, logits.data, logits.stride, targets.data(), lse, scale,
         cap > 0 ? static_cast<float>(1 / cap) : 0.0f, rounded.data, rounded.stride);
}

}  // namespace fathom::cuda
