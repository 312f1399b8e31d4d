// Shared by the tests of the CUDA backend: operands and results in the GPU's memory.
//
// The source of these tests is compiled twice: by g++ or clang++, with kernels and CUDA's libraries emulated on the CPU
// (cuda_library.hpp), and, as gpu_*.cu, by nvcc for a GPU.
//
// Operands and results lie in blocks of memory that are otherwise NaN; results are NaN before they are computed, and elements
// around a result must keep their bits. Everything runs several times, under emulation with different orders of threads, and must
// give the same bits.
#pragma once

#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include <fathom/backend/cuda.cuh>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>

#include "catch.hpp"

namespace fathom::test {

/// The layout of a matrix in its block: row after row; some columns of a larger matrix; every third row of one.
enum class layout { compact, columns, rows };
inline constexpr layout layouts[] = {layout::compact, layout::columns, layout::rows};

/// Numbers on the GPU, with a copy on the host.
template <class T>
class numbers {
 public:
  explicit numbers(index count) : host(static_cast<std::size_t>(count)), device_(host.size() * sizeof(T)) {
    std::memset(static_cast<void*>(host.data()), 0xff, host.size() * sizeof(T));
  }
  explicit numbers(const std::vector<T>& from) : host(from), device_(host.size() * sizeof(T)) { upload(); }
  void upload() { cuda::memory::copy(device_.bytes().data(), host.data(), host.size() * sizeof(T)); }
  void download() { cuda::memory::copy(host.data(), device_.bytes().data(), host.size() * sizeof(T)); }
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(device_.bytes().data()); }
  [[nodiscard]] std::span<const T> span() const { return {data(), host.size()}; }

  std::vector<T> host;

 private:
  buffer_in<cuda::memory> device_;
};

/// A matrix on the GPU in a block of NaNs.
class operand {
 public:
  operand(index rows_, index columns_, layout how = layout::compact)
      : rows(rows_),
        columns(columns_),
        stride_(how == layout::compact   ? columns_
                : how == layout::columns ? columns_ + 5
                                         : 3 * columns_),
        offset_(how == layout::compact   ? 0
                : how == layout::columns ? 3
                                         : columns_),
        block_(how == layout::compact ? rows_ * columns_ : stride_ * rows_) {
    block_.upload();
  }
  operand& fill(random& from, double scale = 1) {
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < columns; ++j) at(i, j) = static_cast<float>(scale * from.normal());
    block_.upload();
    return *this;
  }
  [[nodiscard]] matrix<float> view() const { return {block_.data() + offset_, rows, columns, stride_}; }
  [[nodiscard]] float* data() const { return view().data; }
  [[nodiscard]] float& at(index i, index j) { return block_.host[static_cast<std::size_t>(offset_ + i * stride_ + j)]; }
  [[nodiscard]] float at(index i, index j) const { return const_cast<operand&>(*this).at(i, j); }
  void upload() { block_.upload(); }
  void download() { block_.download(); }

  /// The same numbers as doubles, for the reference backend; f(x) of each.
  template <class F>
  [[nodiscard]] std::vector<double> widened(const F& f) const {
    std::vector<double> wide;
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < columns; ++j) wide.push_back(f(static_cast<double>(at(i, j))));
    return wide;
  }
  [[nodiscard]] std::vector<double> widened() const {
    return widened([](double x) { return x; });
  }
  [[nodiscard]] const std::vector<float>& block() const { return block_.host; }
  [[nodiscard]] std::vector<float>& block() { return block_.host; }
  /// Whether all elements around the matrix are still NaN.
  [[nodiscard]] bool frame_is_untouched() const {
    for (std::size_t n = 0; n < block_.host.size(); ++n) {
      const index at = static_cast<index>(n) - offset_;
      if (at >= 0 && at / stride_ < rows && at % stride_ < columns) continue;
      if (std::bit_cast<std::uint32_t>(block_.host[n]) != 0xffffffffu) return false;
    }
    return true;
  }

  index rows, columns;

 private:
  index stride_, offset_;
  numbers<float> block_;
};

/// A matrix of doubles.
inline matrix<double> view(std::vector<double>& numbers, index rows, index columns) { return {numbers.data(), rows, columns}; }

inline constexpr fathom::reference::context<double> oracle{};

template <class Compute>
typename backend::cuda<Compute>::executor& executor() {
  static auto* const one = new typename backend::cuda<Compute>::executor;  // leaked: CUDA may shut down before static objects
  return *one;
}

/// Runs an operation several times, each time from the same initial results, and leaves its output in them.
template <class Compute = float, class F>
void run(const F& f, std::initializer_list<operand*> results) {
  std::vector<std::vector<float>> before, first;
  for (operand* const r : results) before.push_back(r->block());
  for (const int seed : {0, 3, 6}) {
#if defined(FATHOM_CUDA_EMULATION)
    emulation::set_seed(static_cast<std::uint64_t>(seed));
#endif
    for (std::size_t n = 0; n < results.size(); ++n) {
      results.begin()[n]->block() = before[n];
      results.begin()[n]->upload();
    }
    executor<Compute>().run(f);
    executor<Compute>().on->wait("a test");
    for (std::size_t n = 0; n < results.size(); ++n) {
      operand& r = *results.begin()[n];
      r.download();
      CHECK(r.frame_is_untouched());
      if (seed == 0)
        first.push_back(r.block());
      else
        CHECK(std::memcmp(first[n].data(), r.block().data(), first[n].size() * sizeof(float)) == 0);
    }
  }
#if defined(FATHOM_CUDA_EMULATION)
  emulation::set_seed(0);
#endif
}

/// Checks that found equals expected to within bound(i, j) at each place.
template <class Bound>
void check_close(const char* what, const operand& found, const std::vector<double>& expected, const Bound& bound) {
  REQUIRE(expected.size() == static_cast<std::size_t>(found.rows * found.columns));
  double worst = 0;
  index row = 0, column = 0;
  for (index i = 0; i < found.rows; ++i)
    for (index j = 0; j < found.columns; ++j) {
      const double difference =
          std::abs(static_cast<double>(found.at(i, j)) - expected[static_cast<std::size_t>(i * found.columns + j)]);
      const double ratio = difference == 0 ? 0 : difference / bound(i, j);
      if (!(ratio <= worst)) {  // written so that NaN is the worst
        worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
        row = i;
        column = j;
      }
    }
  INFO(what << " (" << row << ", " << column << "): found " << found.at(row, column) << ", expected "
            << expected[static_cast<std::size_t>(row * found.columns + column)] << ", allowed difference " << bound(row, column));
  CHECK(worst <= 1);
}

inline constexpr double eps = std::numeric_limits<float>::epsilon();

}  // namespace fathom::test
