// The operations of the cpu backend other than matrix products (backend_matmul.cpp) and attention (backend_attention.cpp),
// against the reference backend in double, over many shapes.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <ostream>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu/simd.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/train/adamw.hpp>

#include "backend_operands.hpp"

namespace fathom::test {

// ---- Rows, columns, elements -----------------------------------------------------------------------------------------

namespace {
struct matrix_shape {
  index rows, columns;
};
constexpr matrix_shape matrix_shapes[] = {{1, 1},   {1, 600}, {2, 3},   {3, 2},    {7, 8},   {9, 7},    {15, 16},  {17, 15},
                                          {31, 33}, {33, 31}, {32, 64}, {64, 63},  {47, 65}, {100, 1},  {65, 100}, {129, 47},
                                          {5, 127}, {3, 129}, {513, 9}, {600, 33}, {8, 513}, {200, 200}};
}  // namespace

TEMPLATE_TEST_CASE("copy, add, zero, column_sums", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(5, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    const framed<T> x = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers);
    const framed<T> poisoned(rows, columns, layouts[turn / 3 % 3]);
    const framed<T> before = framed<T>(poisoned).fill(numbers);
    using results = std::array<framed<T>, 1>;

    const results copied = on_any_number_of_threads<Backend>(
        results{poisoned}, [&](const auto& on, results& y) { copy(on, x.view(), y[0].view()); });
    check_equal("copy", copied[0], x.widened());

    const results zeros = on_any_number_of_threads<Backend>(
        results{poisoned}, [&](const auto& on, results& y) { zero(on, y[0].view()); });
    check_equal("zero", zeros[0], x.widened().map([](double) { return 0.0; }));

    const results sums = on_any_number_of_threads<Backend>(
        results{before}, [&](const auto& on, results& y) { add(on, x.view(), y[0].view()); });
    framed<double> expected = before.widened();
    for (index i = 0; i < rows; ++i)  // one rounding: the sum in T is the only right answer
      for (index j = 0; j < columns; ++j)
        expected.view()(i, j) = static_cast<double>(static_cast<T>(before.view()(i, j) + x.view()(i, j)));
    check_equal("add", sums[0], expected);

    const framed<T> start = framed<T>(1, columns).fill(numbers);
    const results by_column = on_any_number_of_threads<Backend>(
        results{start}, [&](const auto& on, results& g) { column_sums(on, x.view(), g[0].data()); });
    framed<double> total = start.widened(), magnitude = start.widened().map([](double v) { return std::abs(v); });
    column_sums(oracle, x.widened().view(), total.data());
    column_sums(oracle, x.widened().map([](double v) { return std::abs(v); }).view(), magnitude.data());
    check_close("column_sums", by_column[0], total, [&](index, index j) {
      return static_cast<double>(rows + 2) * eps<T> * magnitude.data()[j];
    });
  }
}

TEMPLATE_TEST_CASE("add_scaled, row_dots and softmax", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  using results = std::array<framed<T>, 1>;
  random numbers(6, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    const framed<T> x = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers, 3);
    const framed<T> z = framed<T>(rows, columns, layouts[turn / 2 % 3]).fill(numbers);
    const framed<T> w = framed<T>(rows, 1, layouts[turn / 3 % 3]).fill(numbers);
    const auto bound = [&](double terms) { return [=](index, index) { return terms * eps<T>; }; };
    // a number for each row, one for all, in place of z or x
    for (const bool is_one : {false, true})
      for (const int in_place : {0, 1, 2}) {
        const matrix<const T> factors = is_one ? matrix<const T>(w.data(), rows, 1, 0) : w.view();
        framed<double> expected = z.widened();
        for (index i = 0; i < rows; ++i)
          for (index j = 0; j < columns; ++j)
            expected.view()(i, j) += static_cast<double>(factors(i, 0)) * static_cast<double>(x.view()(i, j));
        const framed<T> before = in_place == 0 ? framed<T>(rows, columns, layouts[turn / 3 % 3]) : in_place == 1 ? z : x;
        const results found = on_any_number_of_threads<Backend>(results{before}, [&](const auto& on, results& y) {
          add_scaled(on, factors, in_place == 2 ? y[0].view() : x.view(), in_place == 1 ? y[0].view() : z.view(), y[0].view());
        });
        check_close("add_scaled", found[0], expected, bound(2 * (z.largest() + w.largest() * x.largest())));
      }
    // with a row of its own, and one that repeats
    for (const bool is_one : {false, true}) {
      const matrix<const T> other = is_one ? matrix<const T>(z.data(), rows, columns, 0) : z.view();
      framed<double> expected(rows, 1);
      for (index i = 0; i < rows; ++i) {
        expected.view()(i, 0) = 0;
        for (index j = 0; j < columns; ++j)
          expected.view()(i, 0) += static_cast<double>(x.view()(i, j)) * static_cast<double>(other(i, j));
      }
      const results found = on_any_number_of_threads<Backend>(results{framed<T>(rows, 1, layouts[turn % 3])}, [&](const auto& on, results& d) {
        row_dots(on, x.view(), other, d[0].view());
      });
      check_close("row_dots", found[0], expected, bound(static_cast<double>(columns + 2) * static_cast<double>(columns) * x.largest() * z.largest()));
    }
    framed<double> weights = x.widened(), slopes = x.widened();
    for (index j = 0; j < columns; ++j) {
      double total = 0, mean = 0;
      for (index i = 0; i < rows; ++i) total += std::exp(static_cast<double>(x.view()(i, j)));
      for (index i = 0; i < rows; ++i) {
        weights.view()(i, j) = std::exp(static_cast<double>(x.view()(i, j))) / total;
        mean += weights.view()(i, j) * static_cast<double>(z.view()(i, j));
      }
      for (index i = 0; i < rows; ++i) slopes.view()(i, j) = weights.view()(i, j) * (static_cast<double>(z.view()(i, j)) - mean);
    }
    const results soft = on_any_number_of_threads<Backend>(
        results{framed<T>(rows, columns, layouts[turn / 3 % 3])}, [&](const auto& on, results& y) { softmax_forward(on, x.view(), y[0].view()); });
    check_close("softmax_forward", soft[0], weights, bound(static_cast<double>(rows) + 8 + 2 * x.largest()));
    const results in_place = on_any_number_of_threads<Backend>(results{x}, [&](const auto& on, results& y) { softmax_forward(on, y[0].view(), y[0].view()); });
    check_equal("softmax_forward in place", in_place[0], soft[0].widened());
    const results slope = on_any_number_of_threads<Backend>(
        results{z}, [&](const auto& on, results& d) { softmax_backward(on, soft[0].view(), d[0].view(), d[0].view()); });
    check_close("softmax_backward", slope[0], slopes, bound(4 * (static_cast<double>(rows) + 8 + 2 * x.largest()) * (1 + z.largest())));
  }
}
TEST_CASE("softmax of large, infinite and NaN scores", "[backend]") {
  constexpr float infinite = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  framed<float> x(2, 9);
  for (index j = 0; j < 9; ++j) x.view()(0, j) = 3e38f, x.view()(1, j) = -3e38f;
  x.view()(1, 8) = -infinite;
  x.view()(1, 3) = nan;
  backend::cpu<float>::executor{1}.run([&](const auto& on) { softmax_forward(on, x.view(), x.view()); });
  for (index j = 0; j < 9; ++j) {
    INFO(j);
    if (j == 3) {
      CHECK(std::isnan(x.view()(0, j)));
      CHECK(std::isnan(x.view()(1, j)));
    } else {
      CHECK(x.view()(0, j) == 1.0f);
      CHECK(x.view()(1, j) == 0.0f);
    }
  }
}

TEMPLATE_TEST_CASE("exp_of_nonpositive and logistic", "[backend]", float, double) {
  using T = TestType;
  using V = fathom::cpu::vec<T>;
  constexpr std::size_t W = V::size;
  constexpr double smallest = 1.3e-38;  // below it, floats are 0
  double worst = 0, worst_value = 0, worst_slope = 0, largest_of_small = 0;
  const auto check = [&](const std::array<T, W>& x) {
    std::array<T, W> power, value, slope;
    const V v = V::load_unaligned(x.data());
    fathom::cpu::exp_of_nonpositive<T>(v).store_unaligned(power.data());
    // Both signs: alternating lanes.
    std::array<T, W> u = x;
    for (std::size_t i = 1; i < W; i += 2) u[i] = -u[i];
    const logistic<V> s(V::load_unaligned(u.data()));
    s.value.store_unaligned(value.data());
    s.slope.store_unaligned(slope.data());
    for (std::size_t i = 0; i < W; ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      const auto error = [](T found, double expected) { return std::abs(static_cast<double>(found) / expected - 1) / eps<T>; };
      if (exact < smallest) {
        largest_of_small = std::max({largest_of_small, static_cast<double>(power[i]), static_cast<double>(slope[i])});
        continue;
      }
      worst = std::max(worst, error(power[i], exact));
      worst_value = std::max(worst_value, error(value[i], (u[i] < 0 ? exact : 1) / (1 + exact)));
      if (std::is_same_v<T, float>) worst_slope = std::max(worst_slope, error(slope[i], exact / (1 + exact) / (1 + exact)));
    }
  };
  // From -0 through all orders of magnitude to -120, every 200th float of them.
  std::array<T, W> x;
  std::uint32_t bits = 0;
  while (bits < std::bit_cast<std::uint32_t>(120.f)) {
    for (T& value : x) {
      value = -static_cast<T>(std::bit_cast<float>(bits));
      bits += bits % 3 + 199;
    }
    check(x);
  }
  CHECK(worst <= 2);
  CHECK(worst_value <= 5);
  CHECK(worst_slope <= 5);
  CHECK(largest_of_small <= smallest);
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for (const T far : {-infinity, std::numeric_limits<T>::lowest(), T(-1e30), T(-1e5)})
    CHECK(fathom::cpu::exp_of_nonpositive<T>(V(far)).get(0) == 0);
  CHECK(fathom::cpu::exp_of_nonpositive<T>(V(T(-0.0))).get(0) == 1);
  CHECK(std::isnan(fathom::cpu::exp_of_nonpositive<T>(V(std::numeric_limits<T>::quiet_NaN())).get(0)));
}

TEMPLATE_TEST_CASE("gelu_forward and gelu_backward", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(6, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    framed<T> x = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers, turn % 2 ? 1 : 6);
    // Values that saturate, and tiny ones.
    constexpr double special[] = {0, -0.0, 1e-8, -1e-8, 5, -5, 12, -12, 100, -100, 1e4, -1e4, 1e-30, -1e-30};
    for (index j = 0; j < std::min<index>(columns, std::ssize(special)); ++j) x.view()(rows - 1, j) = static_cast<T>(special[j]);
    const framed<T> dy = framed<T>(rows, columns, layouts[turn / 3 % 3]).fill(numbers);
    const framed<T> poisoned(rows, columns, layouts[turn / 2 % 3]);
    using results = std::array<framed<T>, 1>;
    // Some 20 roundings. The slope x s (1 - s) ... has one more: 1 - s is off by eps until s is 1, x < 7.2, and
    // is multiplied by up to 90 there.
    const results y = on_any_number_of_threads<Backend>(
        results{poisoned}, [&](const auto& on, results& r) { gelu_forward(on, x.view(), r[0].view()); });
    check_close("gelu", y[0], x.widened().map(gelu_of), [&](index i, index j) {
      return 20 * eps<T> * std::abs(static_cast<double>(x.view()(i, j)));
    });
    const results dx = on_any_number_of_threads<Backend>(results{poisoned}, [&](const auto& on, results& r) {
      gelu_backward(on, x.view(), dy.view(), r[0].view());
    });
    framed<double> expected = x.widened().map(gelu_slope_of);
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < columns; ++j) expected.view()(i, j) *= static_cast<double>(dy.view()(i, j));
    check_close("gelu's gradient", dx[0], expected, [&](index i, index j) {
      return (20 + 90) * eps<T> * std::abs(static_cast<double>(dy.view()(i, j)));
    });
  }
}

TEMPLATE_TEST_CASE("layer_norm_forward and layer_norm_backward", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(7, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    framed<T> x = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers, 2);
    x.map([](T v) { return v + T(3); });  // a mean to take away
    for (index j = 0; j < columns && rows > 4; ++j) x.view()(2, j) = T(0.5);  // a row without any variance
    const framed<T> gain = framed<T>(1, columns).fill(numbers), bias = framed<T>(1, columns).fill(numbers);
    const double epsilon = turn % 2 ? 1e-5 : turn % 4 ? 1e-3 : 1e-6;
    using results = std::array<framed<T>, 3>;
    const results found = on_any_number_of_threads<Backend>(
        results{framed<T>(rows, columns, layouts[turn / 3 % 3]), framed<T>(1, rows), framed<T>(1, rows)},
        [&](const auto& on, results& r) {
          layer_norm_forward(on, x.view(), gain.data(), bias.data(), r[0].view(), r[1].data(), r[2].data(), epsilon);
        });
    framed<double> y(rows, columns), mean(1, rows), rstd(1, rows);
    layer_norm_forward(oracle, x.widened().view(), gain.widened().data(), bias.widened().data(), y.view(), mean.data(),
                       rstd.data(), epsilon);
    if (rows > 4) CHECK(std::abs(rstd.data()[2] * std::sqrt(epsilon) - 1) < 1e-12);

    // x - mean is off by (columns + 2) eps times the row's largest magnitude X; that, times rstd, is the relative error of
    // the standard deviation, and of the normalised values n, |n| <= sqrt(columns).
    const double n = static_cast<double>(columns), root = std::sqrt(n), largest = x.largest();
    const auto relative = [&](index i) { return (n + 8) * eps<T> * (1 + largest * rstd.data()[i]); };
    check_close("mean", found[1], mean, [&](index, index) { return (n + 2) * eps<T> * largest; });
    check_close("rstd", found[2], rstd, [&](index, index i) { return 2 * relative(i) * rstd.data()[i]; });
    check_close("y", found[0], y, [&](index i, index j) {
      return relative(i) * (1 + 2 * root) * std::abs(static_cast<double>(gain.data()[j])) +
             4 * eps<T> * std::abs(static_cast<double>(bias.data()[j]));
    });

    // Backward, from the forward pass's means and deviations in T.
    const framed<T> dy = framed<T>(rows, columns, layouts[turn / 2 % 3]).fill(numbers);
    const results before{framed<T>(rows, columns, layouts[turn / 4 % 3]).fill(numbers), framed<T>(1, columns).fill(numbers),
                         framed<T>(1, columns).fill(numbers)};
    const results gradients = on_any_number_of_threads<Backend>(before, [&](const auto& on, results& r) {
      layer_norm_backward(on, x.view(), gain.data(), found[1].data(), found[2].data(), dy.view(), r[0].view(), r[1].data(),
                          r[2].data());
    });
    framed<double> dx = before[0].widened(), dgain = before[1].widened(), dbias = before[2].widened();
    layer_norm_backward(oracle, x.widened().view(), gain.widened().data(), found[1].widened().data(),
                        found[2].widened().data(), dy.widened().view(), dx.view(), dgain.data(), dbias.data());
    // With G the largest |dy gain| and A = X rstd >= |n|, the terms of dx / rstd are at most G, G and A A G.
    const double g = dy.largest() * gain.largest(), d = dy.largest();
    const auto a = [&](index i) { return 2 * largest * static_cast<double>(found[2].data()[i]); };
    const double there = before[0].largest();
    check_close("dx", gradients[0], dx, [&](index i, index) {
      return (n + 8) * eps<T> * (static_cast<double>(found[2].data()[i]) * g * (2 + a(i) * a(i)) + there);
    });
    double total = 0;
    for (index i = 0; i < rows; ++i) total += d * a(i);
    const double m = static_cast<double>(rows);
    const double gain_bound = (m + 4) * eps<T> * (total + before[1].largest()), bias_bound = (m + 2) * eps<T> * (m * d + before[2].largest());
    check_close("dgain", gradients[1], dgain, [&](index, index) { return gain_bound; });
    check_close("dbias", gradients[2], dbias, [&](index, index) { return bias_bound; });
  }
}

namespace {
struct shape_of_heads {
  index rows, heads, width;
};
constexpr shape_of_heads shapes_of_heads[] = {{1, 1, 1},  {1, 1, 600}, {2, 1, 3},    {3, 2, 1},   {9, 1, 7},   {31, 1, 33},  {64, 1, 63},
                                              {129, 1, 47}, {513, 1, 9}, {8, 1, 513}, {200, 1, 200}, {1, 12, 64}, {1, 3, 32},  {33, 2, 32},
                                              {40, 4, 64}, {7, 5, 48},  {65, 3, 80},  {17, 2, 128}, {9, 3, 256}, {100, 7, 17}, {5, 9, 3}};

/// The norm of one head, from its formulas in double, and the derivatives of sum(dy y): dx by differences of the formula itself.
struct normed_head {
  std::vector<double> x, gain;  // gain + offset
  double epsilon;

  [[nodiscard]] long double rstd(std::size_t moved = 0, long double by = 0) const {
    long double squares = 0;
    for (std::size_t j = 0; j < x.size(); ++j) {
      const long double v = static_cast<long double>(x[j]) + (j == moved ? by : 0);
      squares += v * v;
    }
    return 1 / std::sqrt(squares / static_cast<long double>(x.size()) + static_cast<long double>(epsilon));
  }
  /// sum over j of dy[j] y[j], with x[moved] moved by `by`
  [[nodiscard]] long double result(const std::vector<double>& dy, std::size_t moved, long double by) const {
    long double sum = 0;
    for (std::size_t j = 0; j < x.size(); ++j)
      sum += static_cast<long double>(dy[j]) * (static_cast<long double>(x[j]) + (j == moved ? by : 0)) * static_cast<long double>(gain[j]);
    return sum * rstd(moved, by);
  }
};
}  // namespace

TEST_CASE("the reference's rms_norm is its formula, and its gradients are differences of it", "[backend]") {
  random numbers(17, 0);
  for (const double offset : {0.0, 1.0})
    for (const shape_of_heads& shape : {shape_of_heads{3, 1, 7}, {2, 3, 5}, {1, 2, 1}}) {
      const index rows = shape.rows, heads = shape.heads, width = shape.width;
      INFO("[" << rows << ", " << heads << " * " << width << "], offset " << offset);
      constexpr double epsilon = 0.25;  // large enough to be seen
      const index columns = heads * width;
      const framed<double> x = framed<double>(rows, columns, layout::columns).fill(numbers), gain = framed<double>(1, width).fill(numbers),
                           dy = framed<double>(rows, columns, layout::rows).fill(numbers);
      framed<double> y(rows, columns, layout::columns), rstd(1, rows * heads);
      rms_norm_forward(oracle, x.view(), gain.data(), y.view(), rstd.data(), epsilon, offset, heads);
      const framed<double> dx_before = framed<double>(rows, columns).fill(numbers), dgain_before = framed<double>(1, width).fill(numbers);
      framed<double> dx = dx_before, dgain = dgain_before;
      rms_norm_backward(oracle, x.view(), gain.data(), rstd.data(), dy.view(), dx.view(), dgain.data(), offset, heads);
      std::vector<double> sums(static_cast<std::size_t>(width));
      for (index i = 0; i < rows; ++i)
        for (index h = 0; h < heads; ++h) {
          normed_head head{{}, {}, epsilon};
          std::vector<double> d;
          for (index j = 0; j < width; ++j) {
            head.x.push_back(x.view()(i, h * width + j));
            head.gain.push_back(gain.data()[j] + offset);
            d.push_back(dy.view()(i, h * width + j));
          }
          const double r = static_cast<double>(head.rstd());
          CHECK(std::abs(rstd.data()[i * heads + h] - r) < 1e-14);
          for (std::size_t j = 0; j < head.x.size(); ++j) {
            const index at = h * width + static_cast<index>(j);
            CHECK(std::abs(y.view()(i, at) - head.x[j] * r * head.gain[j]) < 1e-14);
            constexpr long double step = 1e-6L;
            const double slope = static_cast<double>((head.result(d, j, step) - head.result(d, j, -step)) / (2 * step));
            CHECK(std::abs(dx.view()(i, at) - dx_before.view()(i, at) - slope) < 1e-10);
            sums[j] += d[j] * head.x[j] * r;
          }
        }
      for (index j = 0; j < width; ++j)
        CHECK(std::abs(dgain.data()[j] - dgain_before.data()[j] - sums[static_cast<std::size_t>(j)]) < 1e-13);

      framed<double> replaced(rows, columns), again = dgain_before;
      rms_norm_backward(oracle, x.view(), gain.data(), rstd.data(), dy.view(), replaced.view(), again.data(), offset, heads, false);
      for (index i = 0; i < rows; ++i)
        for (index j = 0; j < columns; ++j)
          CHECK(std::abs(replaced.view()(i, j) - (dx.view()(i, j) - dx_before.view()(i, j))) < 1e-14);
      CHECK(again.same_bits(dgain));
      framed<double> in_place = x;
      rms_norm_forward(oracle, in_place.view(), gain.data(), in_place.view(), rstd.data(), epsilon, offset, heads);
      CHECK(in_place.same_bits(y));
      in_place = dy;
      rms_norm_backward(oracle, x.view(), gain.data(), rstd.data(), in_place.view(), in_place.view(), again.data(), offset, heads, false);
      check_equal("dx in the place of dy", in_place, replaced);
    }
}

TEMPLATE_TEST_CASE("rms_norm_forward and rms_norm_backward", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(18, 0);
  std::size_t turn = 0;
  for (const shape_of_heads& shape : shapes_of_heads) {
    const index rows = shape.rows, heads = shape.heads, width = shape.width, columns = heads * width;
    ++turn;
    INFO("[" << rows << ", " << heads << " * " << width << "]");
    const double offset = turn % 2 ? 1 : 0, epsilon = turn % 3 ? 1e-6 : 1e-3;
    framed<T> x = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers, 2);
    for (index j = 0; j < columns && rows > 4; ++j) x.view()(2, j) = 0;  // a row of nothing
    const framed<T> gain = framed<T>(1, width).fill(numbers);
    using results = std::array<framed<T>, 2>;
    const results found = on_any_number_of_threads<Backend>(
        results{framed<T>(rows, columns, layouts[turn / 3 % 3]), framed<T>(1, rows * heads)}, [&](const auto& on, results& r) {
          rms_norm_forward(on, x.view(), gain.data(), r[0].view(), r[1].data(), epsilon, offset, heads);
        });
    framed<double> y(rows, columns), rstd(1, rows * heads);
    rms_norm_forward(oracle, x.widened().view(), gain.widened().data(), y.view(), rstd.data(), epsilon, offset, heads);
    if (rows > 4) CHECK(std::abs(rstd.data()[2 * heads] * std::sqrt(epsilon) - 1) < 1e-12);

    // A sum of squares has no cancellation: rstd is off by half of (width + 4) eps, relatively.
    const double n = static_cast<double>(width), relative = (n + 8) * eps<T>, most_gain = gain.largest() + offset;
    check_close("rstd", found[1], rstd, [&](index, index i) { return relative * rstd.data()[i]; });
    check_close("y", found[0], y, [&](index i, index j) {
      return relative * std::abs(static_cast<double>(x.view()(i, j))) * rstd.data()[i * heads + j / width] * most_gain;
    });
    const results in_place = on_any_number_of_threads<Backend>(results{x, framed<T>(1, rows * heads)}, [&](const auto& on, results& r) {
      rms_norm_forward(on, r[0].view(), gain.data(), r[0].view(), r[1].data(), epsilon, offset, heads);
    });
    check_equal("y in the place of x", in_place[0], found[0].widened());

    const framed<T> dy = framed<T>(rows, columns, layouts[turn / 2 % 3]).fill(numbers);
    const results before{framed<T>(rows, columns, layouts[turn / 4 % 3]).fill(numbers), framed<T>(1, width).fill(numbers)};
    const auto backward = [&](const results& start, bool adds) {
      return on_any_number_of_threads<Backend>(start, [&](const auto& on, results& r) {
        rms_norm_backward(on, x.view(), gain.data(), found[1].data(), dy.view(), r[0].view(), r[1].data(), offset, heads, adds);
      });
    };
    const auto check = [&](const char* what, const results& gradients, framed<double> dx, bool adds) {
      framed<double> dgain = before[1].widened();
      rms_norm_backward(oracle, x.widened().view(), gain.widened().data(), found[1].widened().data(), dy.widened().view(), dx.view(),
                        dgain.data(), offset, heads, adds);
      // With G the largest |dy (gain + offset)|, and |n| <= A = sqrt(width): the terms of dx / rstd are at most G and A A G.
      const double g = dy.largest() * most_gain, there = adds ? before[0].largest() : 0;
      check_close(what, gradients[0], dx, [&](index i, index j) {
        const double r = static_cast<double>(found[1].data()[i * heads + j / width]);
        return (n + 8) * eps<T> * (r * g * (1 + n) + there);
      });
      const double m = static_cast<double>(rows * heads);
      const double gain_bound = (m + 4) * eps<T> * (m * dy.largest() * std::sqrt(n) + before[1].largest());
      check_close("dgain", gradients[1], dgain, [&](index, index) { return gain_bound; });
    };
    check("dx", backward(before, true), before[0].widened(), true);
    // Poison in dx is gone without `adds`.
    check("dx alone", backward({framed<T>(rows, columns, layouts[turn / 4 % 3]), before[1]}, false), before[0].widened(), false);
    const results replaced = on_any_number_of_threads<Backend>(results{dy, before[1]}, [&](const auto& on, results& r) {
      rms_norm_backward(on, x.view(), gain.data(), found[1].data(), r[0].view(), r[0].view(), r[1].data(), offset, heads, false);
    });
    check("dx in the place of dy", replaced, before[0].widened(), false);
  }
}

TEST_CASE("rms_norm of queries and keys that lie in one row with the values", "[backend]") {
  // Queries of 4 heads, keys of 2 heads, values: each norm sees its own columns, and touches no others.
  using Backend = backend::cpu<float>;
  constexpr index rows = 37, width = 32;
  random numbers(19, 0);
  const framed<float> qkv = framed<float>(rows, 8 * width, layout::columns).fill(numbers), gain = framed<float>(2, width).fill(numbers);
  using results = std::array<framed<float>, 3>;
  const results found = on_any_number_of_threads<Backend>(
      results{qkv, framed<float>(1, rows * 4), framed<float>(1, rows * 2)}, [&](const auto& on, results& r) {
        const matrix<float> all = r[0].view(), q = all.columns_from(0, 4 * width), k = all.columns_from(4 * width, 2 * width);
        rms_norm_forward(on, q, gain.view().row(0), q, r[1].data(), 1e-6, 0, 4);
        rms_norm_forward(on, k, gain.view().row(1), k, r[2].data(), 1e-6, 0, 2);
      });
  for (index head = 0; head < 8; ++head) {
    framed<double> y(rows, width), rstd(1, rows);
    const framed<double> x = qkv.widened(), g = gain.widened();
    const matrix<const double> of_head = x.view().columns_from(head * width, width);
    if (head < 6)
      rms_norm_forward(oracle, of_head, g.view().row(head / 4), y.view(), rstd.data(), 1e-6);
    else
      copy(oracle, of_head, y.view());
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < width; ++j)
        REQUIRE(std::abs(static_cast<double>(found[0].view()(i, head * width + j)) - y.view()(i, j)) < 2e-6 * (head < 6 ? 4 : 0) + 1e-30);
  }
}

TEMPLATE_TEST_CASE("scale_heads and dot_heads", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(29, 0);
  std::size_t turn = 0;
  for (const index rows : {1, 7, 40})
    for (const index heads : {1, 3})
      for (const index width : {1, 5, 16, 33}) {
        ++turn;
        INFO(rows << " rows of " << heads << " heads of " << width);
        const index columns = heads * width;
        const framed<T> x = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers), y = framed<T>(rows, columns, layouts[turn / 3 % 3]).fill(numbers);
        const framed<T> gain = framed<T>(rows, heads, layouts[turn / 2 % 3]).fill(numbers), of_all = framed<T>(1, heads).fill(numbers);
        using results = std::array<framed<T>, 4>;
        const results found = on_any_number_of_threads<Backend>(
            results{framed<T>(rows, columns, layouts[turn / 2 % 3]), x, framed<T>(rows, columns), framed<T>(rows, heads)},
            [&](const auto& on, results& r) {
              scale_heads(on, x.view(), gain.view(), r[0].view());
              scale_heads(on, r[1].view(), gain.view(), r[1].view());  // in place
              scale_heads(on, x.view(), matrix<const T>(of_all.data(), rows, heads, 0), r[2].view());
              dot_heads(on, x.view(), y.view(), r[3].view());
            });
        framed<double> scaled(rows, columns), same(rows, columns), dots(rows, heads), magnitudes(rows, heads);
        const auto magnitude = [](double v) { return std::abs(v); };
        for (index i = 0; i < rows; ++i)
          for (index j = 0; j < columns; ++j) {  // one rounding: the product in T is the only right answer
            scaled.view()(i, j) = static_cast<double>(x.view()(i, j) * gain.view()(i, j / width));
            same.view()(i, j) = static_cast<double>(x.view()(i, j) * of_all.view()(0, j / width));
          }
        dot_heads(oracle, x.widened().view(), y.widened().view(), dots.view());
        dot_heads(oracle, x.widened().map(magnitude).view(), y.widened().map(magnitude).view(), magnitudes.view());
        check_equal("scale_heads", found[0], scaled);
        check_equal("scale_heads in place", found[1], scaled);
        check_equal("scale_heads of all rows", found[2], same);
        check_close("dot_heads", found[3], dots,
                    [&](index i, index h) { return static_cast<double>(width + 2) * eps<T> * magnitudes.view()(i, h); });
      }
}

TEMPLATE_TEST_CASE("cross_entropy_forward and cross_entropy_backward", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(8, 0);
  std::size_t turn = 0;
  for (const auto& [rows, columns] : matrix_shapes)
    for (const double size : {3.0, 1e4}) {
      ++turn;
      INFO("[" << rows << ", " << columns << "], logits of about " << size);
      const framed<T> logits = framed<T>(rows, columns, layouts[turn % 3]).fill(numbers, size);
      std::vector<token> targets(static_cast<std::size_t>(rows));
      for (std::size_t i = 0; i < targets.size(); ++i)
        targets[i] = i % 4 == 3 ? -1 : static_cast<token>(numbers.below(columns));
      using results = std::array<framed<T>, 2>;
      const results found = on_any_number_of_threads<Backend>(
          results{framed<T>(1, rows), framed<T>(1, rows)}, [&](const auto& on, results& r) {
            cross_entropy_forward(on, logits.view(), targets, r[0].data(), r[1].data());
          });
      framed<double> losses(1, rows), lse(1, rows);
      cross_entropy_forward(oracle, logits.widened().view(), targets, losses.data(), lse.data());
      // The logarithm of a sum of `columns` exponentials, each off by eps times its argument at most, and a shift by the
      // largest logit.
      const double bound = (static_cast<double>(columns) + 8) * eps<T> + 4 * eps<T> * logits.largest();
      const double gradient_bound = 0.25 * (8 + 2 * logits.largest()) * eps<T>, cap = 1.25 * logits.largest();
      check_close("lse", found[1], lse, [&](index, index) { return bound; });
      check_close("losses", found[0], losses, [&](index, index) { return bound; });
      for (std::size_t i = 0; i < targets.size(); ++i)
        if (targets[i] < 0) CHECK(found[0].data()[i] == 0);

      using gradient = std::array<framed<T>, 1>;
      const T scale = T(0.25);
      const gradient d = on_any_number_of_threads<Backend>(gradient{logits}, [&](const auto& on, gradient& r) {
        cross_entropy_backward(on, r[0].view(), targets, found[1].data(), scale);
      });
      framed<double> expected = logits.widened();
      cross_entropy_backward(oracle, expected.view(), targets, found[1].widened().data(), static_cast<double>(scale));
      check_close("gradient", d[0], expected, [&](index, index) { return gradient_bound; });
      for (index i = 0; i < rows; ++i)
        if (targets[static_cast<std::size_t>(i)] < 0)
          for (index j = 0; j < columns; ++j) REQUIRE(d[0].view()(i, j) == 0);

      // The same, if the logits have a soft cap: times the slope of cap tanh(x / cap), of x = cap artanh(logit / cap).
      const gradient of_capped = on_any_number_of_threads<Backend>(gradient{logits}, [&](const auto& on, gradient& r) {
        cross_entropy_backward(on, r[0].view(), targets, found[1].data(), scale, cap);
      });
      for (index i = 0; i < rows; ++i)
        for (index j = 0; j < columns; ++j) {
          const double cosine = std::cosh(std::atanh(static_cast<double>(logits.view()(i, j)) / cap));
          expected.view()(i, j) /= cosine * cosine;
        }
      check_close("gradient through a cap", of_capped[0], expected, [&](index, index) { return 2 * gradient_bound; });
    }
}

// ---- Embedding -------------------------------------------------------------------------------------------------------

namespace {

/// Tokens of `sequences` x `tokens`, some of them frequent.
std::vector<token> some_tokens(index count, index vocab, random& numbers) {
  std::vector<token> tokens(static_cast<std::size_t>(count));
  for (token& t : tokens) t = static_cast<token>(numbers.below(numbers.below(3) ? vocab : (vocab + 3) / 4));
  return tokens;
}

template <class T, index V, index Context, index E>
void check_embedding(random& numbers, std::size_t turn) {
  using Backend = backend::cpu<T>;
  auto wte = make<tensor<T, V, E>>();
  auto wpe = make<tensor<T, Context, E>>();
  for (T& x : wte->span()) x = static_cast<T>(numbers.normal());
  for (T& x : wpe->span()) x = static_cast<T>(numbers.normal());

  for (const bool decoding : {false, true}) {
    const index sequences = 3, tokens = decoding ? 2 : Context;
    std::vector<index> starts;
    for (index s = 0; s < sequences && decoding; ++s) starts.push_back(numbers.below(Context - 1));
    const extent e{sequences, tokens, decoding ? starts.data() : nullptr, Context, 0};
    INFO("vocabulary " << V << ", context " << Context << ", width " << E << (decoding ? ", decoding" : ""));
    const auto ids = some_tokens(e.rows(), V, numbers);
    const auto position = [&](index i) { return e.start(i / tokens) + i % tokens; };

    using results = std::array<framed<T>, 1>;
    const results x = on_any_number_of_threads<Backend>(
        results{framed<T>(e.rows(), E, layouts[turn % 3])},
        [&](const auto& on, results& r) {
          embedding_forward(on, e, ids, *wte, r[0].view());
          positions_forward(on, e, *wpe, r[0].view());
        });
    framed<double> expected(e.rows(), E);
    for (index i = 0; i < e.rows(); ++i)  // one rounding: the sum in T is the only right answer
      for (index j = 0; j < E; ++j)
        expected.view()(i, j) = static_cast<double>(
            static_cast<T>(wte->view()(ids[static_cast<std::size_t>(i)], j) + wpe->view()(position(i), j)));
    check_equal("x", x[0], expected);

    const framed<T> dx = framed<T>(e.rows(), E, layouts[turn / 2 % 3]).fill(numbers);
    using tables = std::array<framed<T>, 2>;
    const tables before{framed<T>(V, E).fill(numbers), framed<T>(Context, E).fill(numbers)};
    // Gradients are tensors, so they are moved there and back.
    const tables found = on_any_number_of_threads<Backend>(before, [&](const auto& on, tables& g) {
      static tensor<T, V, E> dwte;
      static tensor<T, Context, E> dwpe;
      copy(on, g[0].view(), dwte.view());
      copy(on, g[1].view(), dwpe.view());
      embedding_backward(on, e, ids, dx.view(), dwte);
      positions_backward(on, e, dx.view(), dwpe);
      copy(on, dwte.view(), g[0].view());
      copy(on, dwpe.view(), g[1].view());
    });
    framed<double> dwte = before[0].widened(), dwpe = before[1].widened();
    for (index i = 0; i < e.rows(); ++i)
      for (index j = 0; j < E; ++j) {
        dwte.view()(ids[static_cast<std::size_t>(i)], j) += static_cast<double>(dx.view()(i, j));
        dwpe.view()(position(i), j) += static_cast<double>(dx.view()(i, j));
      }
    const double rows = static_cast<double>(e.rows());
    const double bound = (rows + 1) * eps<T> * (before[0].largest() + before[1].largest() + rows * dx.largest());
    check_close("dwte", found[0], dwte, [&](index, index) { return bound; });
    check_close("dwpe", found[1], dwpe, [&](index, index) { return bound; });
    for (token id = 0; id < V; ++id)  // rows that no token uses are unchanged
      if (std::find(ids.begin(), ids.end(), id) == ids.end())
        for (index j = 0; j < E; ++j) REQUIRE(found[0].view()(id, j) == before[0].view()(id, j));
  }
}

template <class P, index V, index Context, index E>
void check_packed_embedding(random& numbers) {
  using Backend = backend::cpu<float>;
  using packed = Backend::packed<P>;
  auto wte = make<tensor<float, V, E>>();
  auto wpe = make<tensor<float, Context, E>>();
  for (float& x : wte->span()) x = static_cast<float>(numbers.normal());
  for (float& x : wpe->span()) x = static_cast<float>(numbers.normal());
  auto head = make<typename packed::template head<V, E>>();
  auto table = make<typename packed::template table<V, E>>();
  auto positions = make<typename packed::template table<Context, E>>();
  Backend::pack_tensor<P>(*wte, *head);
  Backend::pack_tensor<P>(*wte, *table);
  Backend::pack_tensor<P>(*wpe, *positions);

  // A head is packed token by token; tables are bf16 where matrices are int8.
  framed<float> as_head(E, V), as_table(V, E), as_positions(Context, E);
  for (index i = 0; i < V; ++i)
    for (index j = 0; j < E; ++j) as_head.view()(j, i) = as_table.view()(i, j) = wte->view()(i, j);
  for (index i = 0; i < Context; ++i)
    for (index j = 0; j < E; ++j) as_positions.view()(i, j) = wpe->view()(i, j);
  using table_type = std::conditional_t<std::is_same_v<P, std::int8_t>, bf16, P>;
  round_columns<P>(as_head);
  round_columns<table_type>(as_table);
  round_columns<table_type>(as_positions);

  const extent e{2, Context};
  const auto ids = some_tokens(e.rows(), V, numbers);
  using results = std::array<framed<float>, 2>;
  const results found = on_any_number_of_threads<Backend>(
      results{framed<float>(e.rows(), E), framed<float>(e.rows(), E)}, [&](const auto& on, results& r) {
        embedding_forward(on, e, ids, *head, r[0].view());
        embedding_forward(on, e, ids, *table, r[1].view());
        for (framed<float>& x : r) positions_forward(on, e, *positions, x.view());
      });
  framed<double> from_head(e.rows(), E), from_table(e.rows(), E);
  for (index i = 0; i < e.rows(); ++i)
    for (index j = 0; j < E; ++j) {
      const token id = ids[static_cast<std::size_t>(i)];
      const double p = static_cast<double>(as_positions.view()(i % Context, j));
      from_head.view()(i, j) = static_cast<double>(as_head.view()(j, id)) + p;
      from_table.view()(i, j) = static_cast<double>(as_table.view()(id, j)) + p;
    }
  // Two numbers of at most 4 or so, one of them off by 3 eps as the step of int8 is.
  const double bound = 4 * eps<float> * (as_head.largest() + as_positions.largest());
  INFO("vocabulary " << V << ", context " << Context << ", width " << E << ", " << sizeof(P) << " bytes a number");
  check_close("from a head", found[0], from_head, [&](index, index) { return bound; });
  check_close("from a table", found[1], from_table, [&](index, index) { return bound; });
}

}  // namespace

TEMPLATE_TEST_CASE("embedding of tokens and positions", "[backend]", float, double) {
  random numbers(15, 0);
  check_embedding<TestType, 1, 2, 1>(numbers, 0);
  check_embedding<TestType, 7, 9, 5>(numbers, 1);
  check_embedding<TestType, 61, 33, 17>(numbers, 2);
  check_embedding<TestType, 300, 40, 64>(numbers, 3);
}

TEMPLATE_TEST_CASE("embedding from packed weights", "[backend]", float, bf16, std::int8_t) {
  random numbers(16, 0);
  check_packed_embedding<TestType, 1, 2, 1>(numbers);
  check_packed_embedding<TestType, 61, 33, 17>(numbers);
  check_packed_embedding<TestType, 100, 7, 64>(numbers);
}

// ---- The optimiser ---------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("rotate", "[backend]", float, double) {
  using T = TestType;
  random from(12, 0);
  for (const bool adjacent : {false, true})
    for (const index pairs : {1, 5, 8, 37})
      for (const bool decoding : {false, true}) {
        const index head_width = 80, heads = 3, rows_per_position = decoding ? 1 : 2;
        const std::vector<index> starts{5, 0, 3000};
        const extent e{3, decoding ? 1 : 7, decoding ? starts.data() : nullptr, 4000, 0};
        rotation r{.pairs = pairs, .are_adjacent = adjacent, .scale = 1.5f};
        for (index i = 0; i < pairs; ++i) r.frequencies[i] = std::pow(0.8f, static_cast<float>(i));
        INFO(pairs << (adjacent ? " adjacent pairs" : " pairs") << (decoding ? ", decoding" : ""));
        const framed<T> before = framed<T>(e.rows() * rows_per_position, heads * head_width, layout::columns).fill(from);
        for (const int sign : {1, -1}) {
          using results = std::array<framed<T>, 1>;
          const results found = on_any_number_of_threads<backend::cpu<T>>(results{before}, [&](const auto& on, results& x) {
            rotate(on, e, r, x[0].view(), head_width, rows_per_position, sign);
          });
          framed<double> expected = before.widened();
          for (index i = 0; i < expected.view().rows; ++i)
            for (index head = 0; head < heads; ++head)
              for (index pair = 0; pair < pairs; ++pair) {
                const index row = i / rows_per_position;
                const float angle = static_cast<float>(e.start(row / e.tokens) + row % e.tokens) * r.frequencies[pair];
                const double c = 1.5 * std::cos(static_cast<double>(angle)), s = sign * 1.5 * std::sin(static_cast<double>(angle));
                double& a = expected.view()(i, head * head_width + (adjacent ? 2 * pair : pair));
                double& b = expected.view()(i, head * head_width + (adjacent ? 2 * pair + 1 : pair + pairs));
                const double a0 = a, b0 = b;
                a = c * a0 - s * b0;
                b = s * a0 + c * b0;
              }
          const double bound = 8 * eps<T> * before.largest() * 1.5;
          check_close("x", found[0], expected, [&](index, index) { return bound; });
        }
      }
}

TEMPLATE_TEST_CASE("update, with the step of AdamW", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(17, 0);
  for (const index count : {1, 2, 7, 8, 9, 16, 31, 33, 600, 4095, 4096, 4097, 10'000})
    for (const int step : {1, 2, 1000})
      for (const bool decayed : {false, true}) {
        INFO(count << " numbers, step " << step << (decayed ? ", decayed" : ""));
        const fathom::adamw_options o{.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
        const double decay = decayed ? 0.1 : 0.0, scale = decayed ? 0.3 : 1.0;
        const fathom::gradient_step<fathom::adamw_rule::formula<T>, T> f{fathom::adamw_rule::formula_of<T>(o, {0.01, decay, step}),
                                                                         static_cast<T>(scale)};
        using results = std::array<framed<T>, 4>;
        results before{framed<T>(1, count, layout::columns).fill(numbers), framed<T>(1, count, layout::columns).fill(numbers),
                       framed<T>(1, count, layout::columns).fill(numbers, 0.1),
                       framed<T>(1, count, layout::columns).fill(numbers).map([](T v) { return v * v; })};
        before[1].data()[0] = 0;  // a zero gradient without history
        before[2].data()[0] = 0;
        before[3].data()[0] = 0;
        const results after = on_any_number_of_threads<Backend>(before, [&](const auto& on, results& r) {
          update(on, f, count, r[0].data(), r[1].data(), r[2].data(), r[3].data());
        });
        results by_reference = before;
        update(fathom::reference::context<T>(), f, count, by_reference[0].data(), by_reference[1].data(), by_reference[2].data(),
               by_reference[3].data());
        for (const results* found : std::initializer_list<const results*>{&after, &by_reference}) {
          INFO((found == &after ? "cpu" : "reference"));
          double worst = 0;
          bool zeroed = true;
          for (index i = 0; i < count; ++i) {
            const auto at = [&](std::size_t n) { return static_cast<long double>(before[n].data()[i]); };
            using wide = long double;
            const wide beta1 = static_cast<wide>(o.beta1), beta2 = static_cast<wide>(o.beta2), epsilon = static_cast<wide>(o.eps);
            const wide correction1 = 1 - std::pow(beta1, step), correction2 = 1 - std::pow(beta2, step);
            const wide g = at(1) * static_cast<wide>(scale);
            const wide m = beta1 * at(2) + (1 - beta1) * g, v = beta2 * at(3) + (1 - beta2) * g * g;
            const wide mhat = m / correction1, vhat = v / correction2;
            const wide change = 0.01L * (mhat / (std::sqrt(vhat) + epsilon) + static_cast<wide>(decay) * at(0));
            // Some ten roundings; errors of m and v are relative to their terms. sqrt(v) is as exact as v.
            const wide size_m = 0.9L * std::abs(at(2)) + 0.1L * std::abs(g);
            const wide size_change = 0.01L * (size_m / correction1 / (std::sqrt(vhat) + epsilon) + at(0));
            const auto compare = [&](std::size_t n, wide expected, wide size) {
              const wide difference = std::abs(static_cast<wide>((*found)[n].data()[i]) - expected);
              const double ratio = static_cast<double>(difference == 0 ? 0 : difference / (16 * eps<T> * std::abs(size)));
              if (!(ratio <= worst)) worst = ratio;
            };
            compare(0, at(0) - change, std::abs(at(0)) + std::abs(size_change));
            compare(2, m, size_m);
            compare(3, v, v);
            zeroed = zeroed && (*found)[1].data()[i] == 0;
          }
          CHECK(worst <= 1);
          CHECK(zeroed);
        }
      }
}

TEMPLATE_TEST_CASE("sum_of_squares", "[backend]", float, double) {
  using T = TestType;
  using Backend = backend::cpu<T>;
  random numbers(18, 0);
  for (const index count : {1, 2, 7, 63, 64, 65, 100, 513, 4096, 5000, 300'000}) {
    INFO(count << " numbers");
    const framed<T> g = framed<T>(1, count, layout::columns).fill(numbers, 3);
    long double expected = 0;
    for (index i = 0; i < count; ++i) expected += static_cast<long double>(g.data()[i]) * static_cast<long double>(g.data()[i]);
    double first = 0;
    for (const int threads : {1, 2, 3})
      typename Backend::executor{threads}.run([&](const auto& on) {
        const double found = sum_of_squares(on, g.data(), count);
        if (on.rank() != 0) return;
        if (threads == 1) first = found;
        CHECK(found == first);
      });
    // Sums of at most 4096 in T, and those in double.
    const double bound = static_cast<double>(std::min<index>(count, 4096) + 2) * eps<T> * static_cast<double>(expected);
    CHECK(std::abs(first - static_cast<double>(expected)) <= bound);
    CHECK(std::abs(sum_of_squares(fathom::reference::context<T>(), g.data(), count) - static_cast<double>(expected)) <= bound);
  }
}

}  // namespace fathom::test
