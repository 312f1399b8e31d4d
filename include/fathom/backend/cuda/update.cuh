// Optimisers on the GPU: updates of arrays, and steps of whole parameter blocks, whose norm stays on the GPU.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/backend/cuda/elementwise.cuh"
#include "fathom/backend/operations.hpp"
#include "fathom/backend/update.hpp"
#include "fathom/core/memory.hpp"

namespace fathom::cuda {

namespace kernel {

/// Arrays, as a kernel argument.
template <std::size_t Count>
struct arrays {
  float* x[Count];
};

/// Applies f to the numbers at i. F: a functor of backend/update.hpp.
template <class F, std::size_t Count, std::size_t... N>
__device__ __forceinline__ void update_at(const F& f, const arrays<Count>& a, index i, std::index_sequence<N...>) {
  float v[] = {a.x[N][i]...};
  f(v[N]...);
  ((a.x[N][i] = v[N]), ...);
}
template <class F, std::size_t Count>
struct update_element {
  F f;
  arrays<Count> a;
  __device__ void operator()(index, index j) const { update_at(f, a, j, std::make_index_sequence<Count>()); }
};

/// Numbers [first, first + count) of a parameter block, all of one tensor.
struct piece {
  index first;
  int count;
  int kind;  // as in step_range
};

/// squares [pieces] = the sum of squares of each piece of g; 0 for frozen ones
template <class = void>
__global__ void squares_of_pieces(const piece* pieces, const float* g, double* squares) {
  const piece p = pieces[blockIdx.x];
  float sum = 0;
  if (p.kind != step_range::frozen)
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
/// Steps every piece with the formula of its kind, unless the norm is not finite. a: w, g, and the states.
template <class F, std::size_t Count>
__global__ void step_of_pieces(const piece* pieces, arrays<Count> a, const F* formulas, float clip, const double* norm) {
  const double n = *norm;
  if (!(n <= 1.7976931348623157e308)) return;  // infinite or NaN
  const float scale = clip > 0 && n > static_cast<double>(clip) ? static_cast<float>(static_cast<double>(clip) / n) : 1.0f;
  const piece p = pieces[blockIdx.x];
  if (p.kind == step_range::left) return;
  if (p.kind == step_range::frozen) {
    for (int i = static_cast<int>(threadIdx.x); i < p.count; i += static_cast<int>(blockDim.x)) a.x[1][p.first + i] = 0;
    return;
  }
  const gradient_step<F, float> f{formulas[p.kind], scale};
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += static_cast<int>(blockDim.x))
    update_at(f, a, p.first + i, std::make_index_sequence<Count>());
}

}  // namespace kernel

/// f(x[i]...) for every i in [0, count); see backend/update.hpp.
template <class C, class F, class... X>
  requires(std::is_same_v<X, float> && ...)
void update(const context<C>& on, const F& f, index count, X*... x) {
  on.begin();
  detail::for_elements(on, "update", 1, count, true, kernel::update_element<F, sizeof...(X)>{f, {{x...}}});
}

/// The sum of squares of `count` numbers. The host waits for it.
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

/// Steps of whole parameter blocks for optimisers (train/optimizer.hpp): three recorded kernels, without a wait.
struct block_steps {
  template <class Model, class Formula, std::size_t States>
  class of {
    using parameters = typename Model::parameters;
    using executor = typename Model::executor;
    static constexpr index piece_size = 8192;
    static_assert(std::is_trivially_copyable_v<Formula>, "fathom: the formula of an optimiser is copied to the GPU: it holds numbers");

   public:
    /// Sets the ranges to step, for `kinds` formulas.
    void plan(std::span<const step_range> ranges, std::size_t kinds) {
      std::vector<kernel::piece> pieces;
      for (const step_range& r : ranges)
        for (index i = 0; i < r.size; i += piece_size)
          pieces.push_back({r.first + i, static_cast<int>(std::min(piece_size, r.size - i)), r.kind});
      count_ = std::ssize(pieces);
      pieces_ = buffer_in<memory>(pieces.size() * sizeof(kernel::piece));
      squares_ = buffer_in<memory>((pieces.size() + 1) * sizeof(double));  // and the norm
      formulas_ = buffer_in<memory>(std::max<std::size_t>(kinds, 1) * sizeof(Formula));
      memory::copy(pieces_.bytes().data(), pieces.data(), pieces.size() * sizeof(kernel::piece));
      recording_ = {};
    }

    void start(const executor& where, parameters& w, parameters& g, const std::array<parameters*, States>& states,
               std::span<const Formula> formulas, float clip) {
      where.upload(formulas_.bytes().data(), formulas.data(), formulas.size_bytes());
      const auto values = [](parameters& p) { return reinterpret_cast<float*>(&p); };
      kernel::arrays<2 + States> a{{values(w), values(g)}};
      for (std::size_t i = 0; i < States; ++i) a.x[2 + i] = values(*states[i]);
      [&]<std::size_t... N>(std::index_sequence<N...>) {
        recording_.run(where, {reinterpret_cast<std::uintptr_t>(a.x[N])..., std::bit_cast<std::uint32_t>(clip)},
                       [&](const auto& on) { run(on, a, clip); });
      }(std::make_index_sequence<2 + States>());
    }
    /// Waits, and returns the norm of the gradients. If it is not finite, nothing has changed.
    [[nodiscard]] double finish(const executor& where) const {
      double norm = 0;
      where.on->download(&norm, reinterpret_cast<const double*>(squares_.bytes().data()) + count_, sizeof norm);
      return norm;
    }

   private:
    template <class On>
    void run(const On& on, const kernel::arrays<2 + States>& a, float clip) const {
      on.begin();
      const auto* const pieces = reinterpret_cast<const kernel::piece*>(pieces_.bytes().data());
      auto* const squares = reinterpret_cast<double*>(squares_.bytes().data());
      const auto grid = static_cast<unsigned>(count_);
      launch("optimizer", {grid, 256}, on.stream(), &kernel::squares_of_pieces<>, pieces, static_cast<const float*>(a.x[1]), squares);
      launch("optimizer", {1, 1024}, on.stream(), &kernel::norm_of_squares<>, static_cast<const double*>(squares), count_,
             squares + count_);
      launch("optimizer", {grid, 256}, on.stream(), &kernel::step_of_pieces<Formula, 2 + States>, pieces, a,
             reinterpret_cast<const Formula*>(formulas_.bytes().data()), clip, static_cast<const double*>(squares + count_));
    }

    index count_ = 0;
    buffer_in<memory> pieces_, squares_, formulas_;
    recording recording_;
  };
};

}  // namespace fathom::cuda
