// AdamW on the GPU: of one tensor, and of a whole parameter block, where the norm stays on the GPU.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/operations.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"

namespace fathom::cuda {

namespace kernel {

/// adamw_settings as a step uses them.
struct step_numbers {
  float beta1, beta2, eps;
  float keep, keep_undecayed;  // 1 - rate * decay, and 1
  float step;                  // rate / correction1
  float root;                  // 1 / sqrt(correction2)
};

__device__ __forceinline__ void adamw_element(float* w, float* g, float* m, float* v, index i, const step_numbers& s, float keep,
                                              float scale) {
  const float gradient = g[i] * scale;
  const float m1 = s.beta1 * m[i] + (1 - s.beta1) * gradient;
  const float v1 = s.beta2 * v[i] + (1 - s.beta2) * gradient * gradient;
  m[i] = m1;
  v[i] = v1;
  w[i] = keep * w[i] - s.step * m1 / (sqrtf(v1) * s.root + s.eps);
  g[i] = 0;
}

struct adamw_of_tensor {
  float *w, *g, *m, *v;
  step_numbers s;
  float scale;
  __device__ void operator()(index, index j) const { adamw_element(w, g, m, v, j, s, s.keep, scale); }
};

/// Numbers [first, first + count) of a parameter block, all of one tensor.
struct piece {
  index first;
  int count;
  int is_decayed;
};

/// squares [pieces] = the sum of the squares of each piece of g
template <class = void>
__global__ void squares_of_pieces(const piece* pieces, const float* g, double* squares) {
  const piece p = pieces[blockIdx.x];
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += static_cast<int>(blockDim.x)) {
    const float x = g[p.first + i];
    sum += x * x;
  }
  const float total = block_sum(sum);
  if (threadIdx.x == 0) squares[blockIdx.x] = static_cast<double>(total);
}
/// norm = sqrt of the sum of squares [count], by one block
template <class = void>
__global__ void norm_of_squares(const double* squares, index count, double* norm) {
  double sum = 0;
  for (index i = threadIdx.x; i < count; i += blockDim.x) sum += squares[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = sqrt(sum);
}
/// A step of every piece; none where the norm is not finite.
template <class = void>
__global__ void step_of_pieces(const piece* pieces, float* w, float* g, float* m, float* v, const step_numbers* numbers,
                               float clip, const double* norm) {
  const double n = *norm;
  if (!(n <= 1.7976931348623157e308)) return;  // infinite or NaN
  const float scale = clip > 0 && n > static_cast<double>(clip) ? static_cast<float>(static_cast<double>(clip) / n) : 1.0f;
  const step_numbers s = *numbers;
  const piece p = pieces[blockIdx.x];
  const float keep = p.is_decayed ? s.keep : s.keep_undecayed;
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += static_cast<int>(blockDim.x))
    adamw_element(w, g, m, v, p.first + i, s, keep, scale);
}

}  // namespace kernel

namespace detail {
[[nodiscard]] inline kernel::step_numbers numbers_of(const adamw_settings& s) {
  return {static_cast<float>(s.beta1),
          static_cast<float>(s.beta2),
          static_cast<float>(s.eps),
          static_cast<float>(1 - s.rate * s.decay),
          1.0f,
          static_cast<float>(s.rate / s.correction1),
          static_cast<float>(1 / std::sqrt(s.correction2))};
}
}  // namespace detail

/// One AdamW step on `count` numbers; see adamw_settings. Zeroes the gradients.
template <class C>
void adamw_update(const context<C>& on, float* w, float* g, float* m, float* v, index count, const adamw_settings& s) {
  on.begin();
  detail::for_elements(on, "adamw_update", 1, count, true,
                       kernel::adamw_of_tensor{w, g, m, v, detail::numbers_of(s), static_cast<float>(s.gradient_scale)});
}

/// The sum of the squares of `count` numbers, for the host, which waits for it.
template <class C>
[[nodiscard]] double sum_of_squares(const context<C>& on, const float* g, index count) {
  on.begin();
  std::vector<kernel::piece> pieces;
  for (index first = 0; first < count; first += 8192)
    pieces.push_back({first, static_cast<int>(std::min<index>(8192, count - first)), 0});
  auto* const table = on.template scratch<kernel::piece>(std::ssize(pieces));
  auto* const squares = on.template scratch<double>(std::ssize(pieces) + 1);
  on.on().upload(table, pieces.data(), pieces.size() * sizeof(kernel::piece));
  launch("sum_of_squares", {static_cast<unsigned>(pieces.size()), 256}, on.stream(), &kernel::squares_of_pieces<>,
         static_cast<const kernel::piece*>(table), g, squares);
  launch("sum_of_squares", {1, 1024}, on.stream(), &kernel::norm_of_squares<>, static_cast<const double*>(squares),
         std::ssize(pieces), squares + pieces.size());
  double norm = 0;
  on.on().download(&norm, squares + pieces.size(), sizeof norm);
  return norm * norm;
}

/// AdamW of whole parameter blocks: what fathom::adamw runs on a GPU. Three kernels, recorded; nobody waits in between.
struct block_optimizer {
  template <class Model>
  class of {
    using parameters = typename Model::parameters;
    using executor = typename Model::executor;
    static constexpr index piece_size = 8192;

   public:
    /// `like`: any parameters; only where its tensors lie counts.
    explicit of(parameters& like) {
      std::vector<kernel::piece> pieces;
      const auto* const begin = reinterpret_cast<const float*>(&like);
      Model::visit_tensors(
          [&](initial, auto& tensor) {
            for (index i = 0; i < tensor.size; i += piece_size)
              pieces.push_back(
                  {tensor.data() - begin + i, static_cast<int>(std::min(piece_size, tensor.size - i)), tensor.rank == 2 ? 1 : 0});
          },
          like);
      count_ = std::ssize(pieces);
      pieces_ = buffer_in<memory>(pieces.size() * sizeof(kernel::piece));
      squares_ = buffer_in<memory>((pieces.size() + 1) * sizeof(double));  // and the norm
      numbers_ = buffer_in<memory>(sizeof(kernel::step_numbers));
      memory::copy(pieces_.bytes().data(), pieces.data(), pieces.size() * sizeof(kernel::piece));
    }

    void start(const executor& where, parameters& w, parameters& g, parameters& m, parameters& v, const adamw_settings& s,
               float clip) {
      const kernel::step_numbers numbers = detail::numbers_of(s);
      where.upload(numbers_.bytes().data(), &numbers, sizeof numbers);
      const auto address = [](const parameters& p) { return reinterpret_cast<std::uintptr_t>(&p); };
      const auto values = [](parameters& p) { return reinterpret_cast<float*>(&p); };
      recording_.run(where, {address(w), address(g), address(m), address(v), std::bit_cast<std::uint32_t>(clip)},
                     [&](const auto& on) {
                       on.begin();
                       const auto* const pieces = reinterpret_cast<const kernel::piece*>(pieces_.bytes().data());
                       auto* const squares = reinterpret_cast<double*>(squares_.bytes().data());
                       const auto grid = static_cast<unsigned>(count_);
                       launch("adamw", {grid, 256}, on.stream(), &kernel::squares_of_pieces<>, pieces,
                              static_cast<const float*>(values(g)), squares);
                       launch("adamw", {1, 1024}, on.stream(), &kernel::norm_of_squares<>, static_cast<const double*>(squares),
                              count_, squares + count_);
                       launch("adamw", {grid, 256}, on.stream(), &kernel::step_of_pieces<>, pieces, values(w), values(g), values(m),
                              values(v), reinterpret_cast<const kernel::step_numbers*>(numbers_.bytes().data()), clip,
                              static_cast<const double*>(squares + count_));
                     });
    }
    /// Waits; the norm of the gradients. When it is not finite, nothing has changed.
    [[nodiscard]] double finish(const executor& where) const {
      double norm = 0;
      where.on->download(&norm, reinterpret_cast<const double*>(squares_.bytes().data()) + count_, sizeof norm);
      return norm;
    }

   private:
    index count_ = 0;
    buffer_in<memory> pieces_, squares_, numbers_;
    recording recording_;
  };
};

}  // namespace fathom::cuda
