// Rotary positions on the GPU.
#pragma once

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/rotation.hpp"
#include "fathom/core/matrix.hpp"

namespace fathom::cuda {

namespace kernel {
/// Turns pair j % pairs of head j / pairs in row i of x.
struct turn_pair {
  rotation r;
  const index* starts;  // position of each sequence's first token; null: 0
  index tokens, rows_per_position, head_width;
  float sign;
  float* x;
  index stride;
  __device__ void operator()(index i, index j) const {
    const index row = i / rows_per_position, pair = j % r.pairs;
    const index position = (starts ? starts[row / tokens] : 0) + row % tokens;
    float sine, cosine;
    sincosf(r.angle(position, pair), &sine, &cosine);
    sine *= sign * r.scale;
    cosine *= r.scale;
    float* const head = x + i * stride + j / r.pairs * head_width;
    const float a = head[r.first(pair)], b = head[r.second(pair)];
    head[r.first(pair)] = cosine * a - sine * b;
    head[r.second(pair)] = sine * a + cosine * b;
  }
};
}  // namespace kernel

/// Turns the pairs of each head of x by their positions (backend/rotation.hpp).
template <class C>
void rotate(const context<C>& on, const extent& e, const rotation& r, matrix_out x, index head_width, index rows_per_position,
            int sign) {
  on.begin();
  detail::for_elements(on, "rotate", x.rows, x.columns / head_width * r.pairs, false,
                       kernel::turn_pair{r, e.starts, e.tokens, rows_per_position, head_width, static_cast<float>(sign), x.data, x.stride});
}

}  // namespace fathom::cuda
