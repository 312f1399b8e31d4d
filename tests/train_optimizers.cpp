// The optimisers against published formulas, and the trainer's guarantees for each of them, including a user's: the
// same run on any number of threads, interrupted or not; groups of tensors; schedules.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numbers>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>


#include <fathom/core/json.hpp>
#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/functors.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/lion.hpp>
#include <fathom/train/muon.hpp>
#include <fathom/train/sgd.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "optimizer_numbers.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::parameter_group;
using fathom::schedule;
using fathom::token;

constexpr fathom::config small{
    .vocab = 11, .context = 16, .width = 16, .depth = 3, .heads = 2, .shortcut = {.depths = {1}}};
constexpr fathom::config untied{.vocab = 11, .context = 16, .width = 16, .depth = 3, .heads = 2, .tied = false};
using net = fathom::model<small>;
using plain_net = fathom::model<untied>;
using oracle = fathom::model<small, fathom::backend::reference<double>>;

// ---- A user's optimiser ------------------------------------------------------------------------------------------------

/// The sign of the momentum, with two states, so that a trainer that handles only one would fail.
struct mine_options {
  float rate = 1e-3f;
  float clip = 1.0f;
  float beta = 0.9f;
  bool counts = true;
};
struct mine_rule {
  using options = mine_options;
  static constexpr std::string_view name = "mine";
  static constexpr std::array<std::string_view, 2> states{"mine.moment", "mine.count"};
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate), f("clip", o.clip), f("beta", o.beta), f("counts", o.counts);
  }
  static bool is_valid(const options& o) { return o.beta < 1; }
  static constexpr std::string_view expected = "beta below 1";
  template <class T>
  struct formula {
    T rate, beta, one;
    template <class V>
    FATHOM_ANYWHERE void operator()(V& w, const V& g, V& moment, V& count) const {
      moment = V(beta) * moment + g;
      count = count + V(one);
      w = w - V(rate) * fathom::sign_of(moment);
    }
  };
  template <class T>
  static formula<T> formula_of(const options& o, const fathom::step_settings& s) {
    return {static_cast<T>(s.rate), static_cast<T>(o.beta), static_cast<T>(o.counts ? 1 : 0)};
  }
};
template <class Model>
using mine = fathom::optimizer_of<Model, mine_rule>;
static_assert(fathom::optimizer_rule<mine_rule> && fathom::optimizer<mine<net>>);

/// Stands for a class template of a model.
template <template <class> class O>
struct kind_of_optimizer {
  template <class Model>
  using of = O<Model>;
  template <class Model>
  using trainer = fathom::trainer<Model, O>;
};
#define ALL_OPTIMIZERS \
  kind_of_optimizer<fathom::adamw>, kind_of_optimizer<fathom::sgd>, kind_of_optimizer<fathom::lion>, kind_of_optimizer<fathom::muon>, \
      kind_of_optimizer<mine>

// ---- Help ---------------------------------------------------------------------------------------------------------------

std::vector<token> toy(fathom::index count) {
  fathom::random numbers(5, 0);
  std::vector<token> tokens(static_cast<std::size_t>(count), 1);
  for (std::size_t i = 1; i < tokens.size(); ++i)
    tokens[i] = static_cast<token>(numbers.below(10) == 0 ? numbers.below(11) : (tokens[i - 1] * 2 + 1) % 11);
  return tokens;
}
template <class Parameters>
std::string bytes_of(const Parameters& weights) {
  return {reinterpret_cast<const char*>(&weights), sizeof weights};
}
template <class Model>
void fill(typename Model::parameters& p, std::uint64_t seed, double scale = 1) {
  fathom::random numbers(seed, 0);
  Model::visit_tensors(
      [&](fathom::initial, auto& t) {
        for (auto& x : t.span()) x = static_cast<typename Model::scalar>(scale * numbers.normal());
      },
      p);
}
bool is_zero(const std::string& bytes) { return bytes.find_first_not_of('\0') == bytes.npos; }
/// The largest difference of two numbers at one place.
template <class A, class B>
double difference(const A& a, const B& b) {
  double most = 0;
  for (std::size_t i = 0; i < std::size(b); ++i) {
    const double d = std::abs(static_cast<double>(std::data(a)[i]) - static_cast<double>(std::data(b)[i]));
    if (!(d <= most)) most = d;
  }
  return most;
}
/// The same for the numbers of weights, tensor by tensor.
template <class Model>
std::map<std::string, std::string> tensors_of(const typename Model::parameters& weights) {
  std::map<std::string, std::string> all;
  Model::visit(
      [&](const auto& name, fathom::initial, const auto& t) {
        all[std::string(name.view())] = {reinterpret_cast<const char*>(t.data()), t.span().size_bytes()};
      },
      weights);
  return all;
}

/// Four weights and gradients that depend on them, as in make_optimizers.py, in a tensor with decay.
template <class Optimizer>
void check_golden(const typename Optimizer::options& options, std::span<const double> expected) {
  using model = typename Optimizer::model;
  using T = typename model::scalar;
  Optimizer optimizer(options, {2});
  auto weights = fathom::make<typename model::parameters>(), gradients = fathom::make<typename model::parameters>();
  constexpr double begin[] = {0.5, -1.25, 2, 0}, slope[] = {0.75, -0.5, 0.125, -1};
  T* const w = weights->embed.wte.data();
  T* const g = gradients->embed.wte.data();
  for (std::size_t i = 0; i < 4; ++i) w[i] = static_cast<T>(begin[i]);
  for (int step = 1; step <= 4; ++step) {
    for (std::size_t i = 0; i < 4; ++i) g[i] = static_cast<T>(slope[i] * step) - static_cast<T>(0.25) * w[i];
    optimizer.step(*weights, *gradients);
  }
  CHECK(difference(std::span(w, 4), expected) < 8 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  CHECK(std::count(weights->embed.wte.span().begin() + 4, weights->embed.wte.span().end(), T(0)) == weights->embed.wte.size - 4);
}

}  // namespace

// ---- Formulas -----------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("steps are those of PyTorch's documentation and of Lion's paper", "[train]", net, oracle) {
  constexpr float rate = 0.125f;
  using sgd = fathom::sgd<TestType>;
  check_golden<sgd>({.rate = rate, .momentum = 0.75f, .clip = 0}, sgd_weights);
  check_golden<sgd>({.rate = rate, .momentum = 0.75f, .nesterov = true, .clip = 0}, sgd_nesterov_weights);
  check_golden<sgd>({.rate = rate, .momentum = 0.75f, .decay = 0.25f, .clip = 0}, sgd_decayed_weights);
  check_golden<sgd>({.rate = rate, .momentum = 0.75f, .nesterov = true, .decay = 0.25f, .clip = 0}, sgd_nesterov_decayed_weights);
  check_golden<fathom::adamw<TestType>>({.rate = rate, .beta1 = 0.75f, .beta2 = 0.5f, .eps = 0x1p-10f, .decay = 0.25f, .clip = 0},
                                        adamw_weights);
  check_golden<fathom::lion<TestType>>({.rate = rate, .beta1 = 0.75f, .beta2 = 0.5f, .decay = 0.25f, .clip = 0}, lion_weights);
}

TEST_CASE("a sign is -1, 0 or 1, in vectors too", "[train]") {
  using V = fathom::cpu::vec<float>;
  for (const float x : {-3e-40f, -2.f, 0.f, -0.f, 1e-38f, 7.f, std::numeric_limits<float>::quiet_NaN()}) {
    const float expected = x > 0 ? 1.f : x < 0 ? -1.f : 0.f;
    CHECK(fathom::sign_of(x) == expected);
    CHECK(fathom::sign_of(V(x)).get(0) == expected);
  }
}

namespace {

/// A simple row-major matrix.
struct dense {
  fathom::index rows, columns;
  std::vector<double> x;
  double& operator()(fathom::index i, fathom::index j) { return x[static_cast<std::size_t>(i * columns + j)]; }
  double operator()(fathom::index i, fathom::index j) const { return x[static_cast<std::size_t>(i * columns + j)]; }
  dense(fathom::index r, fathom::index c) : rows(r), columns(c), x(static_cast<std::size_t>(r * c)) {}
};
dense product(const dense& a, const dense& b, bool transposed) {  // a b, or a b^T
  dense y(a.rows, transposed ? b.rows : b.columns);
  for (fathom::index i = 0; i < y.rows; ++i)
    for (fathom::index j = 0; j < y.columns; ++j)
      for (fathom::index k = 0; k < a.columns; ++k) y(i, j) += a(i, k) * (transposed ? b(j, k) : b(k, j));
  return y;
}
/// Muon's, always with x x^T.
dense orthogonalized(dense x, int iterations) {
  double squares = 0;
  for (const double v : x.x) squares += v * v;
  for (double& v : x.x) v /= std::sqrt(squares) + 1e-7;
  for (int n = 0; n < iterations; ++n) {
    const dense gram = product(x, x, true), square = product(gram, gram, false);
    const dense first = product(gram, x, false), second = product(square, x, false);
    for (std::size_t i = 0; i < x.x.size(); ++i) x.x[i] = 3.4445 * x.x[i] - 4.7750 * first.x[i] + 2.0315 * second.x[i];
  }
  return x;
}
/// Singular values, for few rows: the roots of the eigenvalues of x x^T, by Jacobi rotations.
std::vector<double> singular_values(const dense& x) {
  dense a = product(x, x, true);
  for (int sweep = 0; sweep < 30; ++sweep)
    for (fathom::index p = 0; p < a.rows; ++p)
      for (fathom::index q = p + 1; q < a.rows; ++q) {
        if (std::abs(a(p, q)) < 1e-300) continue;
        const double angle = 0.5 * std::atan2(2 * a(p, q), a(q, q) - a(p, p)), c = std::cos(angle), s = std::sin(angle);
        for (fathom::index k = 0; k < a.rows; ++k) {
          const double u = a(k, p), v = a(k, q);
          a(k, p) = c * u - s * v;
          a(k, q) = s * u + c * v;
        }
        for (fathom::index k = 0; k < a.rows; ++k) {
          const double u = a(p, k), v = a(q, k);
          a(p, k) = c * u - s * v;
          a(q, k) = s * u + c * v;
        }
      }
  std::vector<double> values;
  for (fathom::index i = 0; i < a.rows; ++i) values.push_back(std::sqrt(std::max(0.0, a(i, i))));
  return values;
}

template <class Backend>
dense newton_schulz_on(dense x, int threads, int iterations = 5) {
  using T = typename Backend::scalar;
  fathom::buffer memory(x.x.size() * sizeof(T)), workspace(static_cast<std::size_t>(fathom::newton_schulz_workspace(x.rows, x.columns)) * sizeof(T));
  T* const numbers = reinterpret_cast<T*>(memory.bytes().data());
  std::copy(x.x.begin(), x.x.end(), numbers);
  typename Backend::executor{threads}.run([&](const auto& on) {
    fathom::newton_schulz(on, fathom::matrix<T>(numbers, x.rows, x.columns), iterations, reinterpret_cast<T*>(workspace.bytes().data()));
  });
  std::copy(numbers, numbers + x.x.size(), x.x.begin());
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("newton_schulz makes matrices orthogonal, as numpy does", "[train]", fathom::backend::reference<double>,
                   fathom::backend::cpu<double>, fathom::backend::cpu<float>) {
  const double tolerance = sizeof(typename TestType::scalar) == 8 ? 1e-12 : 2e-5;
  const auto check = [&](fathom::index rows, fathom::index columns, std::span<const double> expected) {
    dense x(rows, columns);
    for (fathom::index i = 0; i < rows * columns; ++i)
      x.x[static_cast<std::size_t>(i)] = static_cast<double>((i * i * 5 + i * 7 + 3) % 23 - 11) / 8;
    CHECK(difference(newton_schulz_on<TestType>(x, 1).x, expected) < tolerance);
  };
  check(3, 5, orthogonal_3x5);
  check(5, 3, orthogonal_5x3);
  check(4, 4, orthogonal_4x4);

  fathom::random numbers(9, 0);
  for (const auto& [rows, columns] : {std::pair<fathom::index, fathom::index>{1, 1}, {1, 20}, {24, 36}, {36, 24}, {20, 80}}) {
    INFO(rows << " x " << columns);
    dense x(rows, columns);
    for (double& v : x.x) v = 1e-3 * numbers.normal();
    const dense y = newton_schulz_on<TestType>(x, 1);
    dense wide(std::min(rows, columns), std::max(rows, columns));
    for (fathom::index i = 0; i < rows; ++i)
      for (fathom::index j = 0; j < columns; ++j) (rows <= columns ? wide(i, j) : wide(j, i)) = y(i, j);
    for (const double value : singular_values(wide)) {
      CHECK(value > 0.68);
      CHECK(value < 1.21);
    }
    CHECK(difference(y.x, orthogonalized(x, 5).x) < 10 * tolerance);
    CHECK(newton_schulz_on<TestType>(x, 2).x == y.x);
  }
  // Zero stays zero.
  for (const double v : newton_schulz_on<TestType>(dense(3, 4), 1).x) CHECK(v == 0);
}

TEMPLATE_TEST_CASE("muon moves matrices by its formula, and all else as AdamW does", "[train]", net, oracle) {
  using T = typename TestType::scalar;
  using parameters = typename TestType::parameters;
  const bool nesterov = GENERATE(true, false);
  const fathom::muon_options o{.rate = 0.25f, .momentum = 0.75f, .nesterov = nesterov, .adamw_rate = 0.125f, .decay = 0.5f, .clip = 1};
  fathom::muon<TestType> optimizer(o, {2});
  fathom::adamw<TestType> others({.rate = 0.125f, .decay = 0.5f, .clip = 1}, {2});
  auto weights = fathom::make<parameters>(), gradients = fathom::make<parameters>(), of_others = fathom::make<parameters>();
  fill<TestType>(*weights, 1, 0.1);
  fathom::copy(*weights, *of_others);
  std::map<std::string, std::pair<dense, dense>> matrices;  // weight and momentum
  TestType::visit(
      [&](const auto& name, fathom::initial, const auto& w, const auto& as) {
        if (as.role != fathom::role::matrix) return;
        dense x(as.shape[0], as.shape[std::size(as.shape) - 1]);
        std::copy(w.span().begin(), w.span().end(), x.x.begin());
        matrices.emplace(std::string(name.view()), std::pair(x, dense(x.rows, x.columns)));
      },
      *weights, TestType::tensors);
  REQUIRE(matrices.size() == 3 * 4 + 5);  // 4 in each block; in the shortcut 2 of the feature map, q, kv and projection

  for (int step = 1; step <= 3; ++step) {
    fill<TestType>(*gradients, static_cast<std::uint64_t>(step));
    auto same = fathom::copy(gradients);
    double squares = 0;
    TestType::visit_tensors([&](fathom::initial, const auto& g) { for (const T x : g.span()) squares += static_cast<double>(x * x); },
                            *gradients);
    TestType::visit(
        [&](const auto& name, fathom::initial, const auto& g) {
          const auto found = matrices.find(std::string(name.view()));
          if (found == matrices.end()) return;
          auto& [w, m] = found->second;
          dense d(w.rows, w.columns);
          for (std::size_t i = 0; i < d.x.size(); ++i) {
            const double gradient = static_cast<double>(g.data()[i]) / std::sqrt(squares);  // clipped to 1
            m.x[i] = 0.75 * m.x[i] + 0.25 * gradient;
            d.x[i] = nesterov ? 0.25 * gradient + 0.75 * m.x[i] : m.x[i];
          }
          d = orthogonalized(d, 5);
          const double shape = std::sqrt(std::max(1.0, static_cast<double>(w.columns) / static_cast<double>(w.rows)));
          for (std::size_t i = 0; i < d.x.size(); ++i) w.x[i] -= 0.25 * (shape * d.x[i] + 0.5 * w.x[i]);
        },
        *gradients);
    const double norm = optimizer.step(*weights, *gradients);
    CHECK(norm == Approx(std::sqrt(squares)).epsilon(1e-6));
    CHECK(others.step(*of_others, *same) == norm);
    CHECK(is_zero(bytes_of(*gradients)));
  }
  double worst = 0;
  TestType::visit(
      [&](const auto& name, fathom::initial, const auto& w, const auto& of_adamw, const auto& second) {
        const auto found = matrices.find(std::string(name.view()));
        if (found == matrices.end()) {
          CHECK((std::memcmp(w.data(), of_adamw.data(), w.span().size_bytes()) == 0));
        } else {
          worst = std::max(worst, difference(w.span(), found->second.first.x));
          CHECK(std::count(second.span().begin(), second.span().end(), T(0)) == second.size);
        }
      },
      *weights, *of_others, optimizer.state(1));
  CHECK(worst < (sizeof(T) == 8 ? 1e-9 : 2e-3));
}

TEMPLATE_TEST_CASE("every optimiser clips, and leaves alone what is not finite", "[train]", ALL_OPTIMIZERS) {
  using optimizer_of_net = typename TestType::template of<oracle>;
  typename optimizer_of_net::options clipped, free;
  clipped.rate = free.rate = 0.125f;
  clipped.clip = 2;
  free.clip = 0;
  optimizer_of_net a(clipped), b(free);
  auto weights = fathom::make<oracle::parameters>(), gradients = fathom::make<oracle::parameters>();
  fill<oracle>(*weights, 1, 0.1);
  auto others = fathom::copy(weights), scaled = fathom::make<oracle::parameters>();
  for (std::uint64_t step = 1; step <= 3; ++step) {
    fill<oracle>(*gradients, step);
    fathom::copy(*gradients, *scaled);
    double squares = 0;
    oracle::visit_tensors([&](fathom::initial, const auto& g) { for (const double x : g.span()) squares += x * x; }, *gradients);
    REQUIRE(squares > 4);
    oracle::visit_tensors([&](fathom::initial, auto& g) { for (double& x : g.span()) x *= 2 / std::sqrt(squares); }, *scaled);
    CHECK(a.step(*weights, *gradients) == Approx(std::sqrt(squares)));
    CHECK(b.step(*others, *scaled) == Approx(2));
    oracle::visit_tensors([&](fathom::initial, const auto& x, const auto& y) { CHECK(difference(x.span(), y.span()) < 1e-9); }, *weights,
                          *others);

    fill<oracle>(*gradients, step);
    gradients->embed.wte.data()[1] = std::numeric_limits<double>::infinity();
    const std::string before = bytes_of(*weights), state = bytes_of(a.state(0));
    CHECK(std::isinf(a.try_step(*weights, *gradients, 0.5)));
    CHECK((bytes_of(*weights) == before));
    CHECK((bytes_of(a.state(0)) == state));
    CHECK(a.steps() == static_cast<fathom::index>(step));
  }
  CHECK(fails_with([&] { a.step(*weights, *gradients, -1); }, std::string(optimizer_of_net::rule::name) + ".step: a rate of -1"));
}

TEST_CASE("options that make no sense", "[train]") {
  CHECK(fails_with([] { fathom::sgd<oracle>({.momentum = 1}); }, "sgd: rate 0.1, momentum 1, nesterov 0", "expected a momentum in [0, 1)"));
  CHECK(fails_with([] { fathom::sgd<oracle>({.momentum = 0, .nesterov = true}); }, "sgd: ", "not 0 with nesterov"));
  CHECK(fails_with([] { fathom::lion<oracle>({.beta2 = 1}); }, "lion: ", "beta2 1", "expected"));
  CHECK(fails_with([] { fathom::lion<oracle>({.decay = std::nanf("")}); }, "lion: ", "decay nan", "expected"));
  CHECK(fails_with([] { fathom::muon<oracle>({.iterations = 0}); }, "muon: ", "iterations 0", "expected"));
  CHECK(fails_with([] { fathom::muon<oracle>({.rate = 0}); }, "muon: rate 0", "expected a rate above 0"));
  CHECK(fails_with([] { mine<oracle>({.beta = 1}); }, "mine: rate 0.001, clip 1, beta 1, counts 1; expected beta below 1"));
  CHECK(fails_with([] { fathom::trainer<oracle, fathom::lion>({.optimizer = {.rate = -1}}); }, "rate -1"));
  CHECK(fails_with([] { fathom::trainer<oracle>({.cooldown = 3}); }, "cooldown 3", "only schedule::warmup_stable_decay"));
  CHECK(fails_with([] { fathom::trainer<oracle>({.schedule = schedule::warmup_stable_decay, .cooldown = -2}); }, "cooldown -2"));
}

// ---- Schedules ----------------------------------------------------------------------------------------------------------

TEST_CASE("schedules follow their formulas", "[train]") {
  const fathom::warmup_linear linear{.rate = 8, .lowest = 2, .warmup = 4, .steps = 24};
  CHECK(linear(0) == 2);
  CHECK(linear(3) == 8);
  CHECK(linear(4) == 8);
  CHECK(linear(14) == Approx(5));
  CHECK(linear(23) == Approx(2.3));
  CHECK(linear(24) == 2);
  CHECK(linear(99) == 2);
  const fathom::warmup_stable_decay stable{.rate = 8, .lowest = 2, .warmup = 4, .steps = 24, .cooldown = 10};
  CHECK(stable(1) == 4);
  CHECK(stable(4) == 8);
  CHECK(stable(14) == 8);
  CHECK(stable(15) == Approx(7.4));
  CHECK(stable(23) == Approx(2.6));
  CHECK(stable(24) == 2);
  const fathom::warmup_stable_decay short_one{.rate = 8, .lowest = 0, .warmup = 4, .steps = 6, .cooldown = 8};
  CHECK(short_one(3) == 8);
  CHECK(short_one(4) == 2);

  // The trainer follows them, with its defaults: a tenth of the steps, a tenth of the rate.
  const auto data = toy(100);
  std::vector<double> rates;
  const auto observer = [&](const fathom::progress& p) { rates.push_back(p.rate); };
  fathom::trainer<oracle>({.batch = 1, .steps = 20, .rate = 0.5f, .schedule = schedule::warmup_stable_decay, .progress = false,
                           .observer = observer}).fit(data);
  REQUIRE(rates.size() == 20);
  for (std::size_t i = 0; i < 20; ++i)
    CHECK(rates[i] == fathom::warmup_stable_decay{0.5, static_cast<double>(0.05f), 1, 20, 2}(static_cast<fathom::index>(i)));
  rates.clear();
  fathom::trainer<oracle, fathom::sgd>({.batch = 1, .steps = 20, .warmup = 4, .schedule = schedule::linear,
                                        .optimizer = {.rate = 0.5f}, .progress = false, .observer = observer}).fit(data);
  REQUIRE(rates.size() == 20);
  for (std::size_t i = 0; i < 20; ++i)
    CHECK(rates[i] == fathom::warmup_linear{0.5, static_cast<double>(0.05f), 4, 20}(static_cast<fathom::index>(i)));
}

// ---- Runs ---------------------------------------------------------------------------------------------------------------

namespace {

template <class Trainer>
typename Trainer::options_type short_run(const temporary_folder& folder, const std::string& name, schedule how = schedule::cosine) {
  typename Trainer::options_type o{.batch = 2, .tokens = 8, .accumulate = 2, .steps = 10, .warmup = 2, .schedule = how, .seed = 7};
  if (how == schedule::warmup_stable_decay) o.cooldown = 4;
  o.groups = {{.match = fathom::glob("*.bias"), .rate = 0.5}, {.match = fathom::glob("wpe.weight"), .decay = 0.25}};
  o.checkpoint = folder.path() / (name + ".safetensors");
  o.progress = false;
  return o;
}

}  // namespace

TEMPLATE_TEST_CASE("with every optimiser and schedule, a run that was interrupted ends like one that was not", "[train]", ALL_OPTIMIZERS) {
  using trainer = typename TestType::template trainer<net>;
  const auto data = toy(300);
  for (const schedule how : {schedule::cosine, schedule::linear, schedule::warmup_stable_decay}) {
    const temporary_folder folder;
    auto options = short_run<trainer>(folder, "whole", how);
    options.threads = 1;
    trainer whole(options);
    const std::string initial = bytes_of(whole.weights());
    whole.fit(data);
    CHECK((bytes_of(whole.weights()) != initial));

    options = short_run<trainer>(folder, "parts", how);
    options.threads = 2;
    options.resume = true;
    for (const fathom::index stop : {3, 7, -1}) {
      options.observer = [=](const fathom::progress& p) { return p.step != stop; };
      trainer(options).fit(data);
    }
    const std::string file = folder.read("whole.safetensors");
    CHECK((folder.read("parts.safetensors") == file));

    // It is also a file of weights, despite the optimiser's state.
    auto weights = fathom::make<net::parameters>();
    fathom::load(folder.path() / "parts.safetensors", *weights);
    CHECK((bytes_of(*weights) == bytes_of(whole.weights())));
  }
}

TEMPLATE_TEST_CASE("every optimiser learns", "[train]", ALL_OPTIMIZERS) {
  using trainer = typename TestType::template trainer<net>;
  typename trainer::options_type options{.batch = 8, .steps = 150, .seed = 1, .progress = false};
  if constexpr (requires { options.optimizer.adamw_rate; })
    options.optimizer.adamw_rate = 1e-2f;
  else if constexpr (requires { options.optimizer; })
    options.optimizer.rate = std::is_same_v<TestType, kind_of_optimizer<fathom::sgd>> ? 0.2f : 2e-3f;
  else
    options.rate = 1e-2f;
  const auto result = trainer(options).fit(toy(4000));
  CHECK(result.training_nll < 1.2);  // between log(11) = 2.4 and the entropy, 0.5
}

TEST_CASE("a run is resumed with the optimiser, the schedule and the groups that it had", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300);
  using trainer = fathom::trainer<net, fathom::sgd>;
  auto options = short_run<trainer>(folder, "run", schedule::warmup_stable_decay);
  options.optimizer.nesterov = true;
  options.observer = [](const fathom::progress& p) { return p.step < 4; };
  trainer(options).fit(data);
  options.resume = true;
  const std::string file = folder.read("run.safetensors");
  const auto refuses = [&](const auto& change, const std::string& message) {
    auto changed = options;
    change(changed);
    trainer other(changed);
    const std::string before = bytes_of(other.weights());
    return fails_with([&] { other.fit(data); }, "run.safetensors: is the checkpoint of another run", message) &&
           bytes_of(other.weights()) == before && folder.read("run.safetensors") == file;
  };
  CHECK(refuses([](auto& o) { o.optimizer.nesterov = false; }, "optimizer.nesterov: expected false, found true"));
  CHECK(refuses([](auto& o) { o.optimizer.momentum = 0.5f; }, "optimizer.momentum: expected 0.5, found 0.89"));
  CHECK(refuses([](auto& o) { o.optimizer.rate = 0.5f; }, "optimizer.rate: expected 0.5, found 0.1"));
  CHECK(refuses([](auto& o) { o.schedule = schedule::linear; o.cooldown = -1; },
                "schedule: expected \"linear\", found \"warmup_stable_decay\""));
  CHECK(refuses([](auto& o) { o.cooldown = 3; }, "cooldown: expected 3, found 4"));
  CHECK(refuses([](auto& o) { o.groups[1].frozen = true; }, "groups.wpe.weight.frozen: expected true, found false"));
  CHECK(refuses([](auto& o) { o.groups[1].decay.reset(); }, "groups.wpe.weight.decay: expected null, found 0.25"));
  CHECK(refuses([](auto& o) { o.groups.erase(o.groups.begin()); }, "groups.ln_f.bias.rate: expected 1.0, found 0.5"));
  CHECK(refuses([](auto& o) { o.groups.push_back({.match = fathom::glob("wte.weight"), .rate = 2}); },
                "groups.wte.weight.rate: expected 2.0, found 1.0"));

  const auto other_optimizer = [&]<class Trainer>(std::type_identity<Trainer>, const std::string& message) {
    auto changed = short_run<Trainer>(folder, "run", schedule::warmup_stable_decay);
    changed.resume = true;
    return fails_with([&] { Trainer(changed).fit(data); }, "is the checkpoint of another run", message);
  };
  CHECK(other_optimizer(std::type_identity<fathom::trainer<net>>(), "optimizer.name: expected \"adamw\", found \"sgd\""));
  CHECK(other_optimizer(std::type_identity<fathom::trainer<net, mine>>(), "optimizer.name: expected \"mine\", found \"sgd\""));
  fathom::trainer<net>(short_run<fathom::trainer<net>>(folder, "run", schedule::warmup_stable_decay)).fit(data);
  CHECK(other_optimizer(std::type_identity<trainer>(), "optimizer.name: expected \"sgd\", found \"adamw\""));
}

TEST_CASE("a checkpoint of the stable part goes on for more steps, as if it had been planned for them", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300);
  using trainer = fathom::trainer<net, fathom::lion>;
  auto options = short_run<trainer>(folder, "short", schedule::warmup_stable_decay);
  options.observer = [](const fathom::progress& p) { return p.step < 6; };
  trainer(options).fit(data);
  options.observer = nullptr;
  options.steps = 20;
  options.cooldown = 5;
  options.resume = options.extend = true;
  trainer extended(options);
  CHECK(extended.fit(data).steps == 20);
  options.checkpoint.clear();
  trainer planned(options);
  planned.fit(data);
  CHECK((bytes_of(extended.weights()) == bytes_of(planned.weights())));
}

TEST_CASE("checkpoints of AdamW say what they have always said", "[train]") {
  const temporary_folder folder;
  fathom::trainer<net>({.batch = 1, .steps = 1, .checkpoint = folder.path() / "run.safetensors", .progress = false}).fit(toy(40));
  const fathom::io::safetensors_file file(folder.path() / "run.safetensors");
  std::set<std::string> keys;
  const auto training = fathom::json::parse(file.metadata().at("fathom.training"));
  REQUIRE(training);
  for (const auto& entry : training->members()) keys.insert(entry.first);
  CHECK(keys == std::set<std::string>{"accumulate", "batch", "beta1", "beta2", "clip", "compute", "data", "decay", "lowest_rate", "rate",
                                      "recent", "seed", "step", "steps", "tokens", "warmup"});
  std::set<std::string> others;
  for (const auto& entry : file.tensors()) {
    const std::string& name = entry.first;
    if (name.ends_with("ln_f.bias")) others.insert(name);
  }
  CHECK(others == std::set<std::string>{"ln_f.bias", "adamw.first.ln_f.bias", "adamw.second.ln_f.bias"});
}

TEST_CASE("load takes what an optimiser has left for that, and nothing else", "[train]") {
  const temporary_folder folder;
  fathom::trainer<net, mine>({.batch = 1, .steps = 1, .checkpoint = folder.path() / "run.safetensors", .progress = false}).fit(toy(40));
  const fathom::io::safetensors_file file(folder.path() / "run.safetensors");
  auto weights = fathom::make<net::parameters>();
  const auto load_with = [&](const std::string& name, std::vector<fathom::index> shape) {
    std::vector<fathom::io::tensor_to_write> tensors;
    std::map<std::string, std::vector<std::byte>> bytes;
    for (const auto& [other, tensor] : file.tensors())
      tensors.push_back({other, tensor.type, tensor.shape, bytes[other] = tensor.bytes()});
    const std::vector<std::byte> zeros(16 * sizeof(float));
    tensors.push_back({name, "F32", shape, zeros});
    fathom::io::write_safetensors(folder.path() / "changed.safetensors", tensors, {});
    fathom::load(folder.path() / "changed.safetensors", *weights);
  };
  load_with("another.ln_f.bias", {16});
  CHECK(fails_with([&] { load_with("another.ln_f.bias", {4, 4}); }, "another.ln_f.bias: not part of the model"));
  CHECK(fails_with([&] { load_with("another.bias", {16}); }, "another.bias: not part of the model"));
  CHECK(fails_with([&] { load_with("h.7.ln_1.bias", {16}); }, "h.7.ln_1.bias: not part of the model"));
}

// ---- Groups ---------------------------------------------------------------------------------------------------------------

TEST_CASE("globs match whole names", "[train]") {
  const auto matches = [](const char* pattern, std::string_view name) { return fathom::glob(pattern)(name); };
  CHECK(matches("h.0.ln_1.bias", "h.0.ln_1.bias"));
  CHECK_FALSE(matches("h.0.ln_1", "h.0.ln_1.bias"));
  CHECK_FALSE(matches("ln_1.bias", "h.0.ln_1.bias"));
  CHECK(matches("h.0.*", "h.0.ln_1.bias"));
  CHECK_FALSE(matches("h.0.*", "h.01.ln_1.bias"));
  CHECK(matches("h.?.*", "h.7.x"));
  CHECK_FALSE(matches("h.?.*", "h.12.x"));
  CHECK(matches("*.bias", "h.0.ln_1.bias"));
  CHECK(matches("*ab*ab", "abab"));
  CHECK(matches("*aab", "aaaab"));
  CHECK_FALSE(matches("*aab", "aaaaba"));
  CHECK(matches("*", ""));
  CHECK(matches("", ""));
  CHECK_FALSE(matches("", "a"));
  CHECK_FALSE(matches("?", ""));
  CHECK(matches("a**b", "ab"));
}

TEST_CASE("groups that make no sense", "[train]") {
  const auto refuses = [](const parameter_group& group, const auto&... pieces) {
    return fails_with([&] { fathom::trainer<oracle>({.groups = {{.match = fathom::glob("wte.weight")}, group}}); }, "groups: ", pieces...);
  };
  CHECK(refuses({}, "group 2 has no match", "expected"));
  CHECK(refuses({.match = fathom::glob("h.9.*")}, "group 2 matches no tensor; expected one of", "\n  wte.weight", "\n  ln_f.bias"));
  CHECK(refuses({.match = fathom::glob("*"), .rate = -1}, "group 2: rate -1"));
  CHECK(refuses({.match = fathom::glob("*"), .rate = std::nan("")}, "rate nan"));
  CHECK(refuses({.match = fathom::glob("*"), .decay = -0.5}, "decay -0.5"));
  CHECK(refuses({.match = fathom::glob("*"), .frozen = true}, "all tensors are frozen"));
}

TEST_CASE("below the first depth that is trained, no gradients are computed, and above they are the same", "[train]") {
  const auto check = [&]<class Model>(std::type_identity<Model>) {
    const auto data = toy(33);
    const fathom::batch b{std::span(data).first(32), std::span(data).last(32), 2, 16};
    auto weights = fathom::make<typename Model::parameters>(), all = fathom::make<typename Model::parameters>();
    fathom::initialize<Model>(*weights, 3);
    typename Model::tape tape(2, 16);
    Model::forward_backward(*weights, b, tape, *all);
    const auto expected = tensors_of<Model>(*all);
    for (int first = 0; first <= 4; ++first) {
      auto some = fathom::make<typename Model::parameters>();
      Model::forward_backward(*weights, b, tape, *some, 1, fathom::lowest_stage{first - 1, 0});
      for (const auto& [name, bytes] : tensors_of<Model>(*some)) {
        INFO("from depth " << first << ": " << name);
        const int depth = name.starts_with("w")        ? 0
                          : name.starts_with("h.")     ? name[2] - '0' + 1
                          : name.starts_with("shortcut") ? 3
                                                       : 4;
        if (depth >= first) CHECK((bytes == expected.at(name)));
        if (depth < first && !(Model::tied && name == "wte.weight")) CHECK(is_zero(bytes));
      }
    }
  };
  check(std::type_identity<net>());
  check(std::type_identity<plain_net>());
}

TEMPLATE_TEST_CASE("what is frozen stays, and the rest is trained as if its gradient were zero", "[train]", ALL_OPTIMIZERS) {
  using optimizer = typename TestType::template of<net>;
  const char* const frozen = GENERATE("[wh]*", "wpe.weight", "h.1.*", "ln_f.*");  // the first: all but the shortcut and ln_f
  INFO(frozen);
  const std::vector<parameter_group> groups{{.match = fathom::glob("*"), .rate = 1},
                                            {.match = frozen[0] == '['
                                                          ? [](std::string_view name) { return name[0] == 'w' || name[0] == 'h'; }
                                                          : fathom::glob(frozen),
                                             .frozen = true}};
  const auto data = toy(300);
  auto windows = fathom::data::batches(data, {.batch = 2, .tokens = 8, .steps = 6, .seed = 2});
  auto weights = fathom::make<net::parameters>(), gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 3);
  auto others = fathom::copy(weights), other_gradients = fathom::make<net::parameters>();
  const auto initial = fathom::copy(weights);
  net::tape tape(2, 8);
  optimizer some, by_hand;
  some.set_groups(groups);
  const int lowest_block = frozen[0] == '[' ? 2 : -1;
  CHECK(some.lowest_trained().block == lowest_block);
  for (fathom::index step = 0; step < 6; ++step) {
    net::forward_backward(*weights, windows.at(step), tape, *gradients, 1, some.lowest_trained());
    net::forward_backward(*others, windows.at(step), tape, *other_gradients);
    const auto each_frozen = [&](const auto& f, auto&... p) {
      net::visit([&](const auto& name, fathom::initial, auto&... t) { if (groups[1].match(name)) f(t...); }, p...);
    };
    each_frozen([](auto& g) { std::fill(g.span().begin(), g.span().end(), 0.f); }, *other_gradients);
    CHECK(some.step(*weights, *gradients, 1e-2) == by_hand.step(*others, *other_gradients, 1e-2));
    // By hand, decay moved them.
    each_frozen([](auto& to, const auto& from) { std::copy(from.span().begin(), from.span().end(), to.data()); }, *others, *initial);
    CHECK((bytes_of(*weights) == bytes_of(*others)));
    CHECK(is_zero(bytes_of(*gradients)));
  }
  CHECK((bytes_of(*weights) != bytes_of(*initial)));
}

TEST_CASE("the last group that matches decides rate and decay", "[train]") {
  fathom::adamw<oracle> some({.rate = 0.5f, .decay = 0.25f, .clip = 0}), slow({.rate = 0.0625f, .decay = 0.25f, .clip = 0}),
      plain({.rate = 0.5f, .decay = 0.25f, .clip = 0}), undecayed({.rate = 0.125f, .decay = 0, .clip = 0});
  some.set_groups(std::array<parameter_group, 3>{{{.match = fathom::glob("w*"), .rate = 5, .frozen = true},
                                                  {.match = fathom::glob("wte.*"), .rate = 0.125},
                                                  {.match = fathom::glob("h.*"), .rate = 0.25, .decay = 0}}});
  auto weights = fathom::make<oracle::parameters>(), gradients = fathom::make<oracle::parameters>();
  fill<oracle>(*weights, 1);
  const auto before = tensors_of<oracle>(*weights);
  const auto stepped = [&](auto& optimizer) {
    auto w = fathom::copy(weights);
    fill<oracle>(*gradients, 2);
    optimizer.step(*w, *gradients);
    return tensors_of<oracle>(*w);
  };
  const auto found = stepped(some), by_slow = stepped(slow), by_plain = stepped(plain), by_undecayed = stepped(undecayed);
  for (const auto& [name, bytes] : found) {
    INFO(name);
    const auto& expected = name == "wpe.weight"           ? before
                           : name == "wte.weight"         ? by_slow
                           : name.starts_with("h.")       ? by_undecayed
                                                          : by_plain;
    CHECK((bytes == expected.at(name)));
  }
}

TEST_CASE("a trainer with groups trains what they leave, and its checkpoint goes on", "[train]") {
  const auto data = toy(300);
  const temporary_folder folder;
  using trainer = fathom::trainer<net, fathom::muon>;
  auto options = short_run<trainer>(folder, "run");
  options.groups.push_back({.match = [](std::string_view name) { return name.starts_with("w") || name.starts_with("h.0."); }, .frozen = true});
  trainer whole(options);
  const auto before = tensors_of<net>(whole.weights());
  whole.fit(data);
  const auto after = tensors_of<net>(whole.weights());
  for (const auto& [name, bytes] : after) {
    INFO(name);
    CHECK((bytes == before.at(name)) == (name.starts_with("w") || name.starts_with("h.0.")));
  }
}
