// Shared by the tests of a backend's operations: operands and results in memory that reveals mistakes, and error bounds.
//
// Operands and results lie in blocks of memory that are otherwise NaN; results are NaN before they are computed. So stray
// reads and missing writes show. Elements around a result must keep their bits. Every operation runs on 1, 2 and 3
// threads, and must give the same bits.
//
// Bounds: a sum of n products is off by at most n eps times the sum of their magnitudes (Higham, Accuracy and Stability of
// Numerical Algorithms, section 3.1, which has eps / 2); operations before and after it add to n.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <numbers>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>

#include "catch.hpp"

namespace fathom::test {

/// The layout of a matrix in its block.
enum class layout {
  compact,  // row after row, without gaps
  columns,  // some of the columns of a larger matrix
  rows      // every third row of a larger matrix
};
inline constexpr layout layouts[] = {layout::compact, layout::columns, layout::rows};

/// Memory with the library's alignment: the grouping of elements into vectors may depend on their addresses, and with it the
/// last bits of a result.
template <class T>
struct aligned {
  using value_type = T;
  aligned() = default;
  template <class U>
  aligned(const aligned<U>&) {}  // NOLINT: allocators of all types are equal
  [[nodiscard]] T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{alignment}));
  }
  void deallocate(T* block, std::size_t) { ::operator delete(block, std::align_val_t{alignment}); }
  bool operator==(const aligned&) const = default;
};

/// A matrix in a block of NaNs.
template <class T>
class framed {
 public:
  framed(index rows, index columns, layout how = layout::compact)
      : rows_(rows),
        columns_(columns),
        stride_(how == layout::compact ? columns : how == layout::columns ? columns + 5 : 3 * columns),
        offset_(how == layout::compact ? 0 : how == layout::columns ? 3 : columns),
        block_(static_cast<std::size_t>(how == layout::compact ? rows * columns : stride_ * rows),
               std::numeric_limits<T>::quiet_NaN()) {}

  [[nodiscard]] matrix<T> view() { return {block_.data() + offset_, rows_, columns_, stride_}; }
  [[nodiscard]] matrix<const T> view() const { return {block_.data() + offset_, rows_, columns_, stride_}; }
  [[nodiscard]] T* data() { return block_.data() + offset_; }
  [[nodiscard]] const T* data() const { return block_.data() + offset_; }

  /// Normal random numbers.
  framed& fill(random& numbers, double scale = 1) {
    const auto here = view();  // once: a call for each number takes most of the time under sanitizers
    for (index i = 0; i < rows_; ++i)
      for (index j = 0; j < columns_; ++j) here(i, j) = static_cast<T>(scale * numbers.normal());
    return *this;
  }
  /// Replaces each element by f(element).
  template <class F>
  framed& map(const F& f) {
    const auto here = view();
    for (index i = 0; i < rows_; ++i)
      for (index j = 0; j < columns_; ++j) here(i, j) = static_cast<T>(f(here(i, j)));
    return *this;
  }
  /// The same numbers as doubles, compact.
  [[nodiscard]] framed<double> widened() const {
    framed<double> wide(rows_, columns_);
    const auto from = view();
    const auto to = wide.view();
    for (index i = 0; i < rows_; ++i)
      for (index j = 0; j < columns_; ++j) to(i, j) = static_cast<double>(from(i, j));
    return wide;
  }
  [[nodiscard]] double largest() const {
    double most = 0;
    const auto here = view();
    for (index i = 0; i < rows_; ++i)
      for (index j = 0; j < columns_; ++j) most = std::max(most, std::abs(static_cast<double>(here(i, j))));
    return most;
  }

  [[nodiscard]] bool same_bits(const framed& other) const {
    return block_.size() == other.block_.size() &&
           std::memcmp(block_.data(), other.block_.data(), block_.size() * sizeof(T)) == 0;
  }
  /// Whether all elements around the matrix are unchanged.
  [[nodiscard]] bool frame_is_untouched() const {
    const framed fresh(*this, nullptr);
    framed copy = *this;
    copy.map([](T) { return std::numeric_limits<T>::quiet_NaN(); });
    return copy.same_bits(fresh);
  }

 private:
  framed(const framed& like, std::nullptr_t) : framed(like) {
    std::fill(block_.begin(), block_.end(), std::numeric_limits<T>::quiet_NaN());
  }
  index rows_, columns_, stride_, offset_;
  std::vector<T, aligned<T>> block_;
};

/// Runs an operation on 1, 2 and 3 threads, each time on a copy of `fresh`, checks that all agree, and returns the results.
template <class Backend, class Results, class Run>
Results on_any_number_of_threads(const Results& fresh, const Run& run) {
  Results first = fresh;
  typename Backend::executor{1}.run([&](const auto& on) { run(on, first); });
  for (const auto& result : first) CHECK(result.frame_is_untouched());
  for (const int threads : {2, 3}) {
    Results other = fresh;
    typename Backend::executor{threads}.run([&](const auto& on) { run(on, other); });
    INFO(threads << " threads");
    for (std::size_t i = 0; i < first.size(); ++i) CHECK(first[i].same_bits(other[i]));
  }
  return first;
}

/// Checks that found equals expected to within bound(i, j) at each place.
template <class T, class Bound>
void check_close(const char* what, const framed<T>& found, const framed<double>& expected, const Bound& bound) {
  const auto f = found.view();
  const auto e = expected.view();
  REQUIRE((f.rows == e.rows && f.columns == e.columns));
  double worst = 0;
  index row = 0, column = 0;
  for (index i = 0; i < f.rows; ++i)
    for (index j = 0; j < f.columns; ++j) {
      const double difference = std::abs(static_cast<double>(f(i, j)) - e(i, j));
      const double ratio = difference == 0 ? 0 : difference / bound(i, j);
      if (!(ratio <= worst)) {  // written so that NaN is the worst
        worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
        row = i;
        column = j;
      }
    }
  INFO(what << " (" << row << ", " << column << "): found " << f(row, column) << ", expected " << e(row, column)
            << ", allowed difference " << bound(row, column));
  CHECK(worst <= 1);
}
/// The same bits, or numbers that compare equal.
template <class T>
void check_equal(const char* what, const framed<T>& found, const framed<double>& expected) {
  check_close(what, found, expected, [](index, index) { return std::numeric_limits<double>::min(); });
}

inline constexpr fathom::reference::context<double> oracle{};

template <class Backend>
using scalar_of = typename Backend::scalar;
template <class T>
constexpr double eps = std::numeric_limits<T>::epsilon();

/// An operand of a matrix product as a backend sees it: bf16 rounds it to nearest, ties to even.
template <class Backend>
double operand(double x) {
  if constexpr (std::is_same_v<Backend, backend::cpu<bf16>>) {
    if (x == 0) return x;
    const int exponent = std::ilogb(x) - 7;  // 8 significant bits
    return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
  } else {
    return x;
  }
}

/// Rounds to bf16 or int8 by definition: to 8 significant bits, or to the nearest multiple of
/// the column's largest magnitude / 127.
template <class P, class T>
void round_columns(framed<T>& w) {
  const auto v = w.view();
  for (index j = 0; j < v.columns; ++j) {
    double largest = 0;
    for (index i = 0; i < v.rows; ++i) largest = std::max(largest, std::abs(static_cast<double>(v(i, j))));
    const double step = largest / 127;
    for (index i = 0; i < v.rows; ++i) {
      const double x = static_cast<double>(v(i, j));
      if constexpr (std::is_same_v<P, bf16>) v(i, j) = static_cast<T>(operand<backend::cpu<bf16>>(x));
      if constexpr (std::is_same_v<P, std::int8_t>) v(i, j) = static_cast<T>(step > 0 ? std::nearbyint(x / step) * step : 0);
    }
  }
}

/// GELU and its derivative, from the formula with tanh.
inline double gelu_of(double x) {
  const long double v = static_cast<long double>(x);
  return static_cast<double>(
      0.5L * v * (1 + std::tanh(std::sqrt(2 / std::numbers::pi_v<long double>) * (v + 0.044715L * v * v * v))));
}
inline double gelu_slope_of(double x) {
  const long double v = static_cast<long double>(x), c = std::sqrt(2 / std::numbers::pi_v<long double>);
  const long double t = std::tanh(c * (v + 0.044715L * v * v * v));
  return static_cast<double>(0.5L * (1 + t) + 0.5L * v * (1 - t * t) * c * (1 + 3 * 0.044715L * v * v));
}

}  // namespace fathom::test
