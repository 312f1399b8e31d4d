// Matrix products of the cpu backend against the reference backend in double, over many shapes, with every epilogue, with
// plain and with packed weights.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fathom/core/memory.hpp>

#include "backend_operands.hpp"

// backend_matmul_amx.cpp only tests bf16 products.
#if !defined(FATHOM_TESTED_BACKENDS)
#define FATHOM_TESTED_BACKENDS backend::cpu<float>, backend::cpu<double>, backend::cpu<bf16>
#define FATHOM_TESTS_ALL_BACKENDS 1
#endif

namespace fathom::test {
namespace {

/// A result as an operand, for epilogues that add to existing values.
template <class T>
matrix<const T> as_const_view(const framed<T>& m) {
  return m.view();
}

// ---- Matrix products -------------------------------------------------------------------------------------------------

constexpr index odd_sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 100, 513, 600};

struct product_shape {
  index m, n, k;  // y [m, n], sums of k products
};

/// Every odd size in every dimension, mixes of them, and some that need several blocks of tasks.
std::vector<product_shape> product_shapes() {
  std::vector<product_shape> shapes = {{1030, 40, 20}, {20, 1030, 7}, {9, 33, 1100}, {513, 33, 513}, {21, 35, 1024}, {700, 600, 4}};
  random numbers(1, stream_of("shapes"));
  const auto some = [&] { return 1 + numbers.below(40); };
  for (const index size : odd_sizes) {
    shapes.push_back({size, some(), some()});
    shapes.push_back({some(), size, some()});
    shapes.push_back({some(), some(), size});
  }
  const auto any = [&] { return odd_sizes[numbers.below(std::ssize(odd_sizes))]; };
  while (shapes.size() < 90)
    if (const product_shape s{any(), any(), any()}; s.m * s.n * s.k < 2'000'000) shapes.push_back(s);
  return shapes;
}

/// The operands of a product, and the product of their magnitudes in double.
template <class Backend>
struct product_operands {
  using T = scalar_of<Backend>;
  framed<T> x, w;
  framed<double> product, magnitude;

  /// x [m, k] w [k, n]; with `transposed`, w is [n, k]
  product_operands(const product_shape& s, bool transposed, random& numbers, std::size_t turn)
      : x(s.m, s.k, layouts[turn % 3]),
        w(transposed ? s.n : s.k, transposed ? s.k : s.n, layouts[turn / 3 % 3]),
        product(s.m, s.n),
        magnitude(s.m, s.n) {
    x.fill(numbers);
    w.fill(numbers);
    framed<double> left = x.widened().map(operand<Backend>), right = w.widened().map(operand<Backend>);
    const auto multiply = [&](framed<double>& to) {
      if (transposed)
        matmul_nt(oracle, left.view(), right.view(), to.view(), epilogue::none{});
      else
        matmul(oracle, left.view(), right.view(), to.view(), epilogue::none{});
    };
    multiply(product);
    left.map([](double v) { return std::abs(v); });
    right.map([](double v) { return std::abs(v); });
    multiply(magnitude);
  }
};

/// y = epilogue(x w), or epilogue(x w^T). All epilogues in float; otherwise a plain sum and one epilogue, because an
/// epilogue does not depend on the scalar or on the computation of the sum.
template <class Backend, bool Transposed>
void check_products() {
  using T = scalar_of<Backend>;
  random numbers(2, Transposed);
  std::size_t turn = 0;
  for (const product_shape& s : product_shapes()) {
    ++turn;
    const product_operands<Backend> p(s, Transposed, numbers, turn);
    INFO("[" << s.m << ", " << s.k << "] times [" << s.k << ", " << s.n << "], layouts " << turn % 3 << turn / 3 % 3
             << turn / 2 % 3);
    const framed<T> poisoned(s.m, s.n, layouts[turn / 2 % 3]);
    const framed<T> bias = framed<T>(1, s.n).fill(numbers);
    const framed<T> residual = framed<T>(s.m, s.n, layouts[turn / 5 % 3]).fill(numbers);
    const framed<T> before = framed<T>(s.m, s.n, layouts[turn / 7 % 3]).fill(numbers);
    const double depth = static_cast<double>(s.k);
    const auto b = [&](index j) { return static_cast<double>(bias.data()[j]); };
    const auto r = [&](index i, index j) { return static_cast<double>(residual.view()(i, j)); };
    const auto z = [&](index i, index j) { return static_cast<double>(before.view()(i, j)); };
    const auto sum = [&](index i, index j) { return p.product.view()(i, j); };
    /// The error of a sum to which numbers of the size `more` are added.
    const auto sum_error = [&](index i, index j, double more) {
      return (depth + 4) * eps<T> * (p.magnitude.view()(i, j) + more);
    };

    // epilogue_of(y) is the epilogue for the results y; exact(i, j) the expected element, error(i, j) the
    // permitted rounding error.
    using results = std::vector<framed<T>>;
    const auto check = [&](const char* what, const results& fresh, const auto& epilogue_of, const auto& exact,
                           const auto& error) {
      const results found = on_any_number_of_threads<Backend>(fresh, [&](const auto& on, results& y) {
        if constexpr (Transposed)
          matmul_nt(on, p.x.view(), p.w.view(), y[0].view(), epilogue_of(y));
        else
          matmul(on, p.x.view(), p.w.view(), y[0].view(), epilogue_of(y));
      });
      framed<double> expected(s.m, s.n);
      for (index i = 0; i < s.m; ++i)
        for (index j = 0; j < s.n; ++j) expected.view()(i, j) = exact(i, j);
      check_close(what, found[0], expected, error);
      return found;
    };

    check("none", {poisoned}, [](auto&) { return epilogue::none{}; }, sum,
          [&](index i, index j) { return sum_error(i, j, 0); });
    const auto with_both = [&](index i, index j) { return sum(i, j) + b(j) + r(i, j); };
    const auto error_of_both = [&](index i, index j) { return sum_error(i, j, std::abs(b(j)) + std::abs(r(i, j))); };
    check("bias_add", {poisoned}, [&](auto&) { return epilogue::bias_add{bias.data(), residual.view()}; }, with_both,
          error_of_both);
    if (s.m * s.n * s.k > 100'000) continue;
    check("bias_add to the result itself", {residual},
          [&](results& y) { return epilogue::bias_add{bias.data(), as_const_view(y[0])}; }, with_both, error_of_both);

    // Of all sizes, far into saturation too; the slope is at most 1, and tanh takes some 8 roundings.
    if constexpr (Transposed)
      for (const double cap : {0.01, 3.0, 1e3})
        check("soft_cap", {poisoned}, [&](auto&) { return epilogue::soft_cap<T>{static_cast<T>(cap)}; },
              [&](index i, index j) { return cap * std::tanh(sum(i, j) / cap); },
              [&](index i, index j) { return sum_error(i, j, 0) + 8 * eps<T> * std::min(cap, std::abs(sum(i, j))); });

    // The formulas of GELU and its derivative take some 20 roundings of numbers up to 1 + |z|; |slope| <= 1.13.
    if constexpr (std::is_same_v<Backend, backend::cpu<float>> && Transposed)
      check("gelu_gradient", {poisoned}, [&](auto&) { return epilogue::activation_gradient{fathom::gelu_tanh{}, before.view()}; },
            [&](index i, index j) { return sum(i, j) * gelu_slope_of(z(i, j)); },
            [&](index i, index j) { return 1.13 * sum_error(i, j, 0) + 20 * eps<T> * std::abs(sum(i, j)); });
    if constexpr (std::is_same_v<Backend, backend::cpu<float>> && !Transposed) {
      const auto with_bias = [&](index i, index j) { return sum(i, j) + b(j); };
      const auto error_of_bias = [&](index i, index j) { return sum_error(i, j, std::abs(b(j))); };
      check("bias", {poisoned}, [&](auto&) { return epilogue::bias{bias.data()}; }, with_bias, error_of_bias);
      const auto with_residual = [&](index i, index j) { return sum(i, j) + r(i, j); };
      const auto error_of_residual = [&](index i, index j) { return sum_error(i, j, std::abs(r(i, j))); };
      check("add", {poisoned}, [&](auto&) { return epilogue::add{residual.view()}; }, with_residual, error_of_residual);
      check("add to the result itself", {residual}, [](results& y) { return epilogue::add{as_const_view(y[0])}; },
            with_residual, error_of_residual);
      const auto activated = [&](index i, index j) { return gelu_of(with_bias(i, j)); };
      const auto error_of_gelu = [&](index i, index j) {
        return 1.13 * error_of_bias(i, j) + 20 * eps<T> * (1 + std::abs(with_bias(i, j)));
      };
      const results both = check("bias_gelu", {poisoned, framed<T>(s.m, s.n, layouts[turn / 4 % 3])},
                                 [&](results& y) { return epilogue::activated{fathom::gelu_tanh{}, bias.data(), y[1].view()}; }, activated,
                                 error_of_gelu);
      framed<double> argument(s.m, s.n);
      for (index i = 0; i < s.m; ++i)
        for (index j = 0; j < s.n; ++j) argument.view()(i, j) = with_bias(i, j);
      check_close("bias_gelu's argument", both[1], argument, error_of_bias);
      const results alone =
          check("bias_gelu that keeps nothing", {poisoned},
                [&](auto&) { return epilogue::activated{fathom::gelu_tanh{}, bias.data(), matrix<T>()}; }, activated, error_of_gelu);
      CHECK(alone[0].same_bits(both[0]));
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("matmul", "[backend]", FATHOM_TESTED_BACKENDS) { check_products<TestType, false>(); }
TEMPLATE_TEST_CASE("matmul_nt", "[backend]", FATHOM_TESTED_BACKENDS) { check_products<TestType, true>(); }

TEMPLATE_TEST_CASE("matmul_tn", "[backend]", FATHOM_TESTED_BACKENDS) {
  using T = scalar_of<TestType>;
  random numbers(3, 0);
  std::size_t turn = 0;
  for (const product_shape& s : product_shapes()) {
    ++turn;
    INFO("[" << s.k << ", " << s.m << "]^T times [" << s.k << ", " << s.n << "], layouts " << turn % 3 << turn / 3 % 3
             << turn / 2 % 3);
    const framed<T> x = framed<T>(s.k, s.m, layouts[turn % 3]).fill(numbers);
    const framed<T> y = framed<T>(s.k, s.n, layouts[turn / 3 % 3]).fill(numbers);
    const framed<T> before = framed<T>(s.m, s.n, layouts[turn / 2 % 3]).fill(numbers);
    using results = std::array<framed<T>, 1>;
    const results found = on_any_number_of_threads<TestType>(
        results{before}, [&](const auto& on, results& g) { matmul_tn(on, x.view(), y.view(), g[0].view()); });

    framed<double> left = x.widened().map(operand<TestType>), right = y.widened().map(operand<TestType>);
    framed<double> expected = before.widened(), magnitude = before.widened();
    matmul_tn(oracle, left.view(), right.view(), expected.view());
    const auto abs = [](double v) { return std::abs(v); };
    matmul_tn(oracle, left.map(abs).view(), right.map(abs).view(), magnitude.map(abs).view());
    check_close("matmul_tn", found[0], expected, [&](index i, index j) {
      return static_cast<double>(s.k + 2) * eps<T> * magnitude.view()(i, j);
    });
  }
}

// ---- Packed weights --------------------------------------------------------------------------------------------------

namespace {

/// The products of packed weights of one shape and type. `as_head`: a table [Out, In] instead of a matrix [In, Out].
template <class Backend, class P, index In, index Out, bool AsHead>
void check_packed() {
  using T = scalar_of<Backend>;
  using packed = typename Backend::template packed<P>;
  random numbers(4, static_cast<std::uint64_t>(In * 1000 + Out));
  framed<T> weights = framed<T>(In, Out).fill(numbers);
  for (index k = 0; k < In; ++k) weights.view()(k, Out / 2) = 0;  // a column without any magnitude

  auto plain = make<tensor<T, AsHead ? Out : In, AsHead ? In : Out>>();
  for (index k = 0; k < In; ++k)
    for (index j = 0; j < Out; ++j)
      plain->view()(AsHead ? j : k, AsHead ? k : j) = weights.view()(k, j);
  const auto ready = [&] {
    if constexpr (AsHead) {
      auto to = make<typename packed::template head<Out, In>>();
      Backend::template pack_tensor<P>(*plain, *to);
      return to;
    } else {
      auto to = make<typename packed::template matrix<In, Out>>();
      Backend::template pack_tensor<P>(*plain, *to);
      return to;
    }
  }();
  const auto multiply = [&](const auto& on, matrix<const T> x, matrix<T> y, const auto& e) {
    if constexpr (AsHead)
      matmul_nt(on, x, *ready, y, e);
    else
      matmul(on, x, *ready, y, e);
  };
  INFO((AsHead ? "head" : "matrix") << " [" << In << ", " << Out << "], " << sizeof(P) << " bytes a number");

  framed<T> rounded = weights;
  round_columns<P>(rounded);

  // Rows of the identity extract the weights: once row by row, once all together.
  framed<T> identity(In, In);
  identity.map([](T) { return 0; });
  for (index k = 0; k < In; ++k) identity.view()(k, k) = 1;
  framed<T> alone(In, Out), together(In, Out), nothing(In, Out);
  nothing.map([](T) { return 0; });
  const auto add_nothing = epilogue::bias_add{std::as_const(nothing).data(), as_const_view(nothing)};
  typename Backend::executor{2}.run([&](const auto& on) {
    for (index k = 0; k < In; ++k)
      multiply(on, identity.view().rows_from(k, 1), alone.view().rows_from(k, 1), add_nothing);
    multiply(on, identity.view(), together.view(), add_nothing);
  });
  // The step of int8 is itself rounded: a few eps of the weight. The others are exact.
  const auto weight_bound = [&](index k, index j) {
    return std::is_same_v<P, std::int8_t> ? 3 * eps<T> * std::abs(static_cast<double>(rounded.view()(k, j)))
                                          : std::numeric_limits<double>::min();
  };
  check_close("weights, one row", alone, rounded.widened(), weight_bound);
  check_close("weights, all rows", together, rounded.widened(), weight_bound);

  std::size_t turn = 0;
  for (const index rows : {1, 2, 3, 7, 8, 9, 17, 33}) {
    ++turn;
    INFO(rows << " rows");
    const framed<T> x = framed<T>(rows, In, layouts[turn % 3]).fill(numbers);
    const framed<T> bias = framed<T>(1, Out).fill(numbers), residual = framed<T>(rows, Out, layouts[turn / 3 % 3]).fill(numbers);
    using results = std::array<framed<T>, 1>;
    const results found = on_any_number_of_threads<Backend>(
        results{framed<T>(rows, Out, layouts[turn / 2 % 3])}, [&](const auto& on, results& y) {
          multiply(on, x.view(), y[0].view(), epilogue::bias_add{bias.data(), residual.view()});
        });
    framed<double> expected(rows, Out), magnitude(rows, Out);
    framed<double> exact = x.widened();  // or rounded, if the compute type bf16 multiplies bf16
    const bool multiplies_bf16 = std::string_view(cpu::instruction_set()).find("_bf16") != std::string_view::npos;
    if (multiplies_bf16 && std::is_same_v<P, bf16> && std::is_same_v<typename Backend::context::compute, bf16>)
      exact.map([](double v) { return static_cast<double>(static_cast<float>(bf16(static_cast<float>(v)))); });
    const framed<double> wide = rounded.widened(), wide_bias = bias.widened(), wide_residual = residual.widened();
    matmul(oracle, exact.view(), wide.view(), expected.view(),
           epilogue::bias_add{wide_bias.data(), wide_residual.view()});
    const auto abs = [](double v) { return std::abs(v); };
    matmul(oracle, x.widened().map(abs).view(), rounded.widened().map(abs).view(), magnitude.view(),
           epilogue::bias_add{bias.widened().map(abs).data(), residual.widened().map(abs).view()});
    // int8 weights may be multiplied as integers, with a row rounded to 16 bits: it is then off by 2^-16 of its largest.
    const auto rounding = [&](index i, index j) {
      double largest = 0, weight = 0;
      for (index k = 0; k < In; ++k) {
        largest = std::max(largest, std::abs(static_cast<double>(x.view()(i, k))));
        weight += std::abs(static_cast<double>(rounded.view()(k, j)));
      }
      return std::is_same_v<P, std::int8_t> ? std::ldexp(largest * weight, -16) : 0;
    };
    check_close("product", found[0], expected, [&](index i, index j) {
      return static_cast<double>(In + 8) * eps<T> * magnitude.view()(i, j) + rounding(i, j);
    });
  }
}

template <class Backend, class P>
void check_packed_shapes() {
  check_packed<Backend, P, 1, 1, false>();
  check_packed<Backend, P, 33, 100, false>();
  check_packed<Backend, P, 47, 64, true>();
  check_packed<Backend, P, 515, 17, false>();
}

}  // namespace

TEST_CASE("matmul and matmul_nt with weights packed as bf16, for the compute type bf16", "[backend]") {
  check_packed_shapes<backend::cpu<bf16>, bf16>();
}
#if defined(FATHOM_TESTS_ALL_BACKENDS)
TEST_CASE("matmul and matmul_nt with weights packed as float", "[backend]") {
  check_packed_shapes<backend::cpu<float>, float>();
}
TEST_CASE("matmul and matmul_nt with weights packed as bf16", "[backend]") {
  check_packed_shapes<backend::cpu<float>, bf16>();
}
TEST_CASE("matmul and matmul_nt with weights packed as int8", "[backend]") {
  check_packed_shapes<backend::cpu<float>, std::int8_t>();
}
TEST_CASE("matmul and matmul_nt with weights packed as double", "[backend]") {
  check_packed<backend::cpu<double>, double, 33, 100, false>();
  check_packed<backend::cpu<double>, double, 47, 33, true>();
}
#endif

}  // namespace fathom::test
