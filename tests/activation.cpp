// Activations and gates, the library's and a custom one: values, derivatives, and that a functor written
// once runs on every backend and in every epilogue.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <fathom/backend/activation.hpp>
#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/functors.hpp>
#include <fathom/layer/gated_mlp.hpp>
#include <fathom/layer/mlp.hpp>
#include <fathom/model/architecture.hpp>
#include <fathom/model/edit.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"

namespace fathom::test {
namespace {

/// x / (1 + |x|)
struct softsign {
  template <class V>
  struct at {
    V value, derivative;
    FATHOM_ANYWHERE explicit at(const V& x) {
      const V magnitude = where_positive(x, x, -x), inverse = V(1) / (V(1) + magnitude);
      value = x * inverse;
      derivative = inverse * inverse;
    }
  };
};

/// Each activation by definition, with the standard library's functions.
double defined(gelu_tanh, double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double defined(gelu_erf, double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); }
double defined(sigmoid, double x) { return (1 + std::tanh(x / 2)) / 2; }
double defined(silu, double x) { return x * (1 + std::tanh(x / 2)) / 2; }
double defined(tanh_activation, double x) { return std::tanh(x); }
double defined(relu, double x) { return std::max(x, 0.0); }
double defined(relu_squared, double x) { return std::pow(std::max(x, 0.0), 2); }
double defined(identity, double x) { return x; }
double defined(softsign, double x) { return x / (1 + std::abs(x)); }

/// Numbers of all magnitudes and both signs; their count is not a multiple of a vector's.
std::vector<double> some_numbers() {
  std::vector<double> x{0.0, -0.0, 1e-30, -1e-30, 20, -20, 80, -80};
  random from(3, 0);
  while (x.size() < 83) x.push_back(3 * from.normal());
  return x;
}
template <class T>
matrix<T> row_of(std::vector<T>& x) {
  return {x.data(), 1, static_cast<index>(x.size())};
}

}  // namespace

TEMPLATE_TEST_CASE("an activation is what it is defined as, on every backend", "[activation]", gelu_tanh, gelu_erf, sigmoid, silu,
                   tanh_activation, relu, relu_squared, identity, softsign) {
  using A = TestType;
  STATIC_REQUIRE(contract::activation<A>);
  const std::vector<double> x = some_numbers();
  const std::size_t n = x.size();

  // The derivative, by a complex step of the functor itself; -0 and 0 have one by convention only.
  for (const double at : x)
    if (at != 0) {
      const auto step = typename A::template at<std::complex<double>>(std::complex<double>(at, 1e-20));
      const typename A::template at<double> here(at);
      INFO("x = " << at);
      CHECK(std::abs(here.value - defined(A{}, at)) <= 1e-14 * std::max(1.0, std::abs(at)));
      CHECK(std::abs(here.derivative - step.value.imag() / 1e-20) <= 1e-13 * std::max(1.0, std::abs(at)));
    }

  const auto check = [&]<class Backend>(std::type_identity<Backend>, double tolerance) {
    using T = typename Backend::scalar;
    std::vector<T> from(x.begin(), x.end()), b(n, T(0.5)), dy(n, T(-2)), y(n), dx(n), gated(n), da(n), db(n);
    const matrix<const T> mx = row_of(from), mb = row_of(b), mdy = row_of(dy);
    typename Backend::executor{}.run([&](const auto& on) {
      activation_forward(on, A{}, mx, row_of(y));
      activation_backward(on, A{}, mx, mdy, row_of(dx));
      gate_forward(on, A{}, mx, mb, row_of(gated));
      gate_backward(on, A{}, mx, mb, mdy, row_of(da), row_of(db));
    });
    for (std::size_t i = 0; i < n; ++i) {
      const double value = defined(A{}, static_cast<double>(from[i])), slope = typename A::template at<double>(static_cast<double>(from[i])).derivative;
      const auto is_near = [&](T found, double expected) {
        return std::abs(static_cast<double>(found) - expected) <= tolerance * std::max({1.0, std::abs(x[i]), std::abs(expected)});
      };
      INFO("x = " << x[i] << ": " << y[i] << ", expected " << value);
      CHECK(is_near(y[i], value));
      CHECK(is_near(dx[i], -2 * slope));
      CHECK(is_near(gated[i], 0.5 * value));
      CHECK(is_near(da[i], -2 * 0.5 * slope));
      CHECK(is_near(db[i], -2 * value));
    }
  };
  check(std::type_identity<backend::reference<double>>{}, 1e-13);
  check(std::type_identity<backend::cpu<double>>{}, 1e-13);
  check(std::type_identity<backend::cpu<float>>{}, 3e-6);

  // NaN propagates.
  std::vector<float> nan(17, std::numeric_limits<float>::quiet_NaN()), y(17);
  backend::cpu<float>::executor{}.run([&](const auto& on) { activation_forward(on, A{}, row_of(nan), row_of(y)); });
  CHECK(std::ranges::all_of(y, [](float v) { return std::isnan(v); }));
}

TEMPLATE_TEST_CASE("an activation of one's own is fused into products", "[activation]", float, double) {
  using T = TestType;
  constexpr index rows = 5, depth = 9, columns = 21;
  random numbers(4, 0);
  const auto some = [&](index count) {
    std::vector<T> v(static_cast<std::size_t>(count));
    for (T& value : v) value = static_cast<T>(numbers.normal());
    return v;
  };
  std::vector<T> x = some(rows * depth), w = some(depth * columns), b = some(columns), before(rows * columns), y(rows * columns),
                 d(rows * columns);
  const auto view = [](std::vector<T>& v, index r) { return matrix<T>(v.data(), r, static_cast<index>(v.size()) / r); };
  for (const bool has_bias : {true, false}) {
    const T* const bias = has_bias ? b.data() : nullptr;
    typename backend::cpu<T>::executor{}.run([&](const auto& on) {
      matmul(on, view(x, rows), matrix<const T>(view(w, depth)), view(y, rows), epilogue::activated{softsign{}, bias, view(before, rows)});
      matmul(on, view(x, rows), matrix<const T>(view(w, depth)), view(d, rows), epilogue::activation_gradient{softsign{}, view(before, rows)});
    });
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < columns; ++j) {
        double sum = 0;
        for (index k = 0; k < depth; ++k) sum += static_cast<double>(view(x, rows)(i, k)) * static_cast<double>(view(w, depth)(k, j));
        const double z = sum + (has_bias ? static_cast<double>(b[static_cast<std::size_t>(j)]) : 0);
        const double tolerance = 1e2 * static_cast<double>(std::numeric_limits<T>::epsilon());
        CHECK(std::abs(static_cast<double>(view(before, rows)(i, j)) - z) <= tolerance);
        CHECK(std::abs(static_cast<double>(view(y, rows)(i, j)) - defined(softsign{}, z)) <= tolerance);
        CHECK(std::abs(static_cast<double>(view(d, rows)(i, j)) - sum / std::pow(1 + std::abs(z), 2)) <= tolerance);
      }
  }
}

TEST_CASE("MLPs of any activation stand in architectures", "[activation]") {
  using base = gpt2<config{.vocab = 11, .context = 8, .width = 12, .depth = 2, .heads = 2}>;
  using own = edit<base, every_block, in_place_of<"mlp", pre<"mlp", layer_norm<>, fathom::mlp<10, softsign, false>>>>;
  using gated = edit<base, every_block, in_place_of<"mlp", pre<"mlp", layer_norm<>, fathom::gated_mlp<10>>>>;
  const auto check = []<class A>(std::type_identity<A>) {
    using oracle = transformer<A, backend::reference<double>>;
    using fast = transformer<A, backend::cpu<float>>;
    const std::vector<token> inputs{1, 2, 3, 4, 5, 6, 7, 8}, targets{2, 3, 4, 5, 6, 7, 8, 9};
    const auto gradients_of = [&]<class M>(std::type_identity<M>) {
      auto weights = make<typename M::parameters>(), gradients = make<typename M::parameters>();
      M::visit(
          [](std::string_view name, initial start, auto& tensor) {
            random numbers(5, stream_of(name));
            for (auto& w : tensor.span())
              w = static_cast<typename M::scalar>((start == initial::one ? 1.0 : 0.0) + 0.3 * numbers.normal());
          },
          *weights);
      typename M::tape tape(1, 8);
      M::forward_backward(*weights, {inputs, targets, 1, 8}, tape, *gradients);
      std::vector<double> all;
      M::visit_tensors([&](initial, const auto& g) { all.insert(all.end(), g.span().begin(), g.span().end()); }, *gradients);
      return all;
    };
    const auto expected = gradients_of(std::type_identity<oracle>{}), found = gradients_of(std::type_identity<fast>{});
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      difference = std::max(difference, std::abs(found[i] - expected[i]));
    }
    CHECK(largest > 0.01);
    CHECK(difference <= 1e-4 * largest);
    return A::description();
  };
  CHECK(check(std::type_identity<own>{}).find(R"("layer":{"part":"mlp","hidden":10,"activation":"softsign","bias":false})") != std::string::npos);
  CHECK(check(std::type_identity<gated>{}).find(R"("layer":{"part":"gated_mlp","hidden":10,"activation":"silu","bias":false})") != std::string::npos);
}

}  // namespace fathom::test
