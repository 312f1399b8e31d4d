// Residual connections that look back: DenseFormer, multiples of the embedding, attention residuals, hyper-connections,
// MUDD. Their equations in plain loops, gradients, decoding, the first step, configs, files, and learning rates.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/io/config.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/transformers.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/layer/mlp.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>
#include <fathom/train/adamw.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace fathom::test {
namespace {

constexpr config plain{.vocab = 19, .context = 20, .width = 8, .depth = 5, .heads = 2, .hidden = 12};
constexpr config with(config c, residual_connections r) {
  c.residual = r;
  return c;
}
constexpr config of_family(family f, int kv_heads = 0) {
  config c = plain;
  c.family = f;
  c.depth = 3;
  c.kv_heads = kv_heads;
  if (f == family::gemma3) c.window = 3, c.window_pattern = 2;
  return c;
}

// Every form, with every option; odd depths, so that groups, dilations and periods do not divide them.
struct dense {
  static constexpr config c = with(plain, {.form = residual_form::dense_former});
};
struct dilated {
  static constexpr config c =
      with(of_family(family::qwen3), {.form = residual_form::dense_former, .dilation = 2, .period = 3});
};
struct scalars {
  static constexpr config c =
      with(of_family(family::gpt_neox), {.form = residual_form::embedding_scalars, .backout = 2});
};
struct full {
  static constexpr config c = with(plain, {.form = residual_form::attention});
};
struct grouped {
  static constexpr config c = with(plain, {.form = residual_form::attention, .group = 2});
};
struct full_gemma {  // norms after the sublayers, runs of patterns
  static constexpr config c = with(of_family(family::gemma3), {.form = residual_form::attention});
};
struct delta {
  static constexpr config c = with(of_family(family::llama, 1), {.form = residual_form::delta_attention});
};
struct delta_grouped {
  static constexpr config c = with(plain, {.form = residual_form::delta_attention, .group = 2});
};
struct hyper {
  static constexpr config c =
      with(of_family(family::gpt_neox), {.form = residual_form::hyper_connections, .streams = 3});
};
struct hyper_static {
  static constexpr config c =
      with(of_family(family::olmo2), {.form = residual_form::hyper_connections, .streams = 2, .dynamic = false});
};
struct mudd_all {
  static constexpr config c = with(of_family(family::llama), {.form = residual_form::mudd});
};
struct mudd_last {  // with a shortcut
  static constexpr config c = [] {
    config d = with(plain, {.form = residual_form::mudd, .last_blocks = 2});
    d.shortcut.depths = {0, 2};
    return d;
  }();
};

template <class Kind, class Backend>
using net = model<Kind::c, Backend>;

// ---- Equations ------------------------------------------------------------------------------------------------------

using context = reference::context<double>;
constexpr context on{};
using view = matrix<double>;
using numbers_of = std::vector<double>;
constexpr index rows = 5, E = 6;
constexpr extent five_rows{1, rows};

numbers_of random_numbers(index count, std::uint64_t seed) {
  random from(seed, 0);
  numbers_of x(static_cast<std::size_t>(count));
  for (double& n : x) n = from.normal();
  return x;
}
/// Hidden states 0 to Depth [rows, E], random, for stages on their own.
template <int Depth, class Channels = channels<>>
struct some_states {
  std::vector<numbers_of> numbers;
  hidden_states<double, Depth, Channels> all;
  some_states() {
    for (int s = 0; s <= Depth; ++s) {
      numbers.push_back(random_numbers(rows * E, 100 + static_cast<std::uint64_t>(s)));
      all.states[static_cast<std::size_t>(s)] = numbers.back().data();
    }
    all.rows = rows;
    all.width = E;
  }
  [[nodiscard]] double at(int s, index i, index j) const {
    return numbers[static_cast<std::size_t>(s)][static_cast<std::size_t>(i * E + j)];
  }
};

/// What a stage of a block sees of them.
template <class Hidden>
below<Hidden> in_block(const Hidden& all, int block) {
  return {all, block};
}

/// The parameters of a stage or a part of one, random.
template <class Layer>
struct random_parameters : Layer::template parameters<fathom::plain<double>> {
  explicit random_parameters(std::uint64_t seed) {
    random from(seed, 0);
    Layer::visit(
        [&](const auto&, initial, auto& t) {
          for (double& x : t.span()) x = from.normal();
        },
        no_path{}, static_cast<typename Layer::template parameters<fathom::plain<double>>&>(*this));
  }
};
/// A tape or scratch for five rows, in memory of its own.
template <class Tape>
struct with_memory {
  std::vector<std::max_align_t> memory =
      std::vector<std::max_align_t>(bytes_of<Tape>(five_rows) / sizeof(std::max_align_t) + 8);
  arena a{reinterpret_cast<std::byte*>(memory.data())};
  Tape tape{a, five_rows};
};
void check_rows(const numbers_of& found, const auto& expected) {
  for (index i = 0; i < rows; ++i)
    for (index j = 0; j < E; ++j) {
      INFO("row " << i << ", column " << j);
      CHECK(std::abs(found[static_cast<std::size_t>(i * E + j)] - expected(i, j)) < 1e-12);
    }
}
}  // namespace

TEST_CASE("DenseFormer's average is its equation", "[depths]") {
  using stage = layers::depth_sum<"average", E, layers::averaged_depths<2, 1, 3, 4, false>>;
  STATIC_REQUIRE(stage::most == 2);
  STATIC_REQUIRE(stage::depths == depth_set{0, 1, 2});
  const some_states<5> s;
  const random_parameters<stage> p(3);
  numbers_of y(rows * E);
  const auto run = [&](int block) {
    stage::forward(on, p, five_rows, in_block(s.all, block), s.all.state(block), view(y.data(), rows, E), nothing());
  };
  const double own = 1 + p.own.values[0], first = p.weight.values[0], second = p.weight.values[1];
  run(4);
  check_rows(y, [&](index i, index j) { return own * s.at(4, i, j) + first * s.at(2, i, j) + second * s.at(0, i, j); });
  run(3);
  check_rows(y, [&](index i, index j) { return own * s.at(3, i, j) + first * s.at(1, i, j); });
  // only after every third block: block 4 reads what block 3 made
  using every_third = layers::depth_sum<"average", E, layers::averaged_depths<2, 3, 3, 4, false>>;
  const random_parameters<every_third> q(3);
  every_third::forward(on, q, five_rows, in_block(s.all, 4), s.all.state(4), view(y.data(), rows, E), nothing());
  check_rows(y, [&](index i, index j) { return s.at(4, i, j); });
}

TEST_CASE("MUDD's dynamic average is its equation", "[depths]") {
  using stage = layers::dynamic_depth_sum<"mudd", E, 3, false>;
  const some_states<5> s;
  const random_parameters<stage> p(3);
  with_memory<stage::tape<double>> t;
  numbers_of y(rows * E);
  stage::forward(on, p, five_rows, in_block(s.all, 2), s.all.state(2), view(y.data(), rows, E), t.tape);
  check_rows(y, [&](index i, index j) {
    double squares = 0;
    for (index e = 0; e < E; ++e) squares += s.at(2, i, e) * s.at(2, i, e);
    const double rstd = 1 / std::sqrt(squares / E + 1e-5);
    std::array<double, 4> hidden{}, weights{};
    for (std::size_t k = 0; k < 4; ++k) {
      double sum = 0;
      for (index e = 0; e < E; ++e)
        sum += s.at(2, i, e) * rstd * p.norm.weight.values[e] * p.c_fc.weight.view()(e, static_cast<index>(k));
      hidden[k] = sum * (1 + std::erf(sum / std::sqrt(2.0))) / 2;
    }
    for (std::size_t n = 0; n < 4; ++n) {
      weights[n] = p.c_proj.bias.values[n];
      for (std::size_t k = 0; k < 4; ++k)
        weights[n] += hidden[k] * p.c_proj.weight.view()(static_cast<index>(k), static_cast<index>(n));
    }
    return (1 + weights[0]) * s.at(2, i, j) + weights[1] * s.at(1, i, j) + weights[2] * s.at(0, i, j);
  });
}

TEST_CASE("a softmax over depths is its equation", "[depths]") {
  struct three_sources {
    const some_states<5>& s;
    index count = 3;
    [[nodiscard]] matrix<const double> at(index i) const { return s.all.state(static_cast<int>(i) + 1); }
  };
  const some_states<5> s;
  const auto average = [&](const auto& query, index i, index j) {
    double total = 0, sum = 0;
    for (int d = 1; d <= 3; ++d) {
      double dot = 0, squares = 0;
      for (index e = 0; e < E; ++e) dot += query.values[e] * s.at(d, i, e), squares += s.at(d, i, e) * s.at(d, i, e);
      const double power = std::exp(dot / std::sqrt(squares / E + 1e-5));
      total += power;
      sum += power * s.at(d, i, j);
    }
    return sum / total;
  };
  numbers_of y(rows * E);
  using plain_mix = layers::depth_softmax<E, 4, false>;
  const random_parameters<plain_mix> p(3);
  with_memory<plain_mix::tape<double>> t;
  plain_mix::forward(on, p, five_rows, three_sources{s}, s.all.state(0), view(y.data(), rows, E), t.tape);
  check_rows(y, [&](index i, index j) { return average(p.query, i, j); });
  using gated_mix = layers::depth_softmax<E, 3, true>;
  const random_parameters<gated_mix> q(4);
  with_memory<gated_mix::tape<double>> u;
  gated_mix::forward(on, q, five_rows, three_sources{s}, s.all.state(0), view(y.data(), rows, E), u.tape);
  check_rows(y, [&](index i, index j) { return s.at(0, i, j) + q.gate.values[0] * average(q.query, i, j); });
}

TEST_CASE("attention residuals read the outputs that their papers say", "[depths]") {
  using each = layers::sublayer_outputs<E, 2, 0>;
  CHECK(each::count(0, 0, true) == 1);  // the embedding
  CHECK(each::count(2, 1, true) == 6);
  CHECK(each::number_of(5, 2, 1) == 4);
  using groups = layers::sublayer_outputs<E, 2, 3>;
  // In block 4, the second of its group: the embedding, the sum that block 2 ended, and the group's own so far.
  CHECK(groups::count(4, 0, true) == 3);
  CHECK(groups::number_of(1, 4, 0) == 5);
  CHECK(groups::number_of(2, 4, 0) == 7);
  CHECK(groups::count(4, 0, false) == 2);
  CHECK(groups::count(3, 0, true) == 2);  // the first of a group
  CHECK(groups::count(3, 1, true) == 3);
  CHECK(groups::number_of(2, 3, 1) == 6);
  // After 7 blocks: two whole groups, and a part.
  CHECK(groups::count(7, 0, true) == 4);
  CHECK(groups::number_of(2, 7, 0) == 11);
  CHECK(groups::number_of(3, 7, 0) == 13);
}

TEMPLATE_TEST_CASE_SIG("hyper-connections are their equations", "[depths]", ((bool IsDynamic), IsDynamic), false,
                       true) {
  constexpr int M = 2, N = 3, block = 1, k = block * M;  // reads what sublayer 1 of block 0 left
  using inner = layers::sublayer<"ln", layers::layer_norm<E>, "mlp", layers::mlp<E, 4>>;
  using stage = layers::hyper_connection<inner, "mlp", 0, M, N, IsDynamic>;
  using streams = layers::residual_streams<E, M, N>;
  const some_states<2, channels<typename streams::slots>> some;
  auto all = some.all;
  std::array<numbers_of, 2> published{random_numbers(rows * M * N * E, 7), numbers_of(rows * M * N * E)};
  for (std::size_t b = 0; b < 2; ++b) std::get<0>(all.published).rows[b] = published[b].data();
  const auto hidden = in_block(all, block);
  const random_parameters<stage> p(3);
  with_memory<typename stage::template tape<double>> t;
  numbers_of y(rows * E);
  stage::forward(on, p, five_rows, hidden, all.state(block), view(y.data(), rows, E), t.tape);

  const auto before = [&](int n, index i, index j) { return streams::at(hidden, k - 1, n)(i, j); };
  const auto weight = [&](int n, int m, index i) {  // a_nm; m = N + 1: b_n
    const double fixed = m <= N ? p.alpha.values[n * (N + 1) + m] : p.beta.values[n];
    if constexpr (!IsDynamic) {
      return fixed;
    } else {
      double mean = 0, variance = 0, z = 0;
      for (index e = 0; e < E; ++e) mean += before(n, i, e) / E;
      for (index e = 0; e < E; ++e) variance += (before(n, i, e) - mean) * (before(n, i, e) - mean) / E;
      for (index e = 0; e < E; ++e) {
        const double normed =
            (before(n, i, e) - mean) / std::sqrt(variance + 1e-5) * p.norm.weight.values[e] + p.norm.bias.values[e];
        z += normed * p.c_fc.weight.view()(e, m);
      }
      return fixed + (m <= N ? p.alpha_scale : p.beta_scale).values[0] * std::tanh(z) / 100;
    }
  };
  numbers_of h(rows * E), o(rows * E);
  for (index i = 0; i < rows; ++i)
    for (index j = 0; j < E; ++j) {
      double& sum = h[static_cast<std::size_t>(i * E + j)] = before(k % N, i, j);
      for (int n = 0; n < N; ++n) sum += weight(n, 0, i) * before(n, i, j);
    }
  with_memory<typename inner::template tape<double>> u;
  inner::forward_onto(on, p.inner, five_rows, hidden, view(h.data(), rows, E), view(o.data(), rows, E),
                      view(o.data(), rows, E), u.tape);
  check_rows(y, [&](index i, index j) { return o[static_cast<std::size_t>(i * E + j)]; });
  for (int m = 0; m < N; ++m) {
    numbers_of found;
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < E; ++j) found.push_back(streams::at(hidden, k, m)(i, j));
    check_rows(found, [&](index i, index j) {
      double sum = before(m, i, j) + (1 + weight(m, N + 1, i)) * o[static_cast<std::size_t>(i * E + j)];
      for (int n = 0; n < N; ++n) sum += weight(n, m + 1, i) * before(n, i, j);
      return sum;
    });
  }
}

// ---- Whole models
// -----------------------------------------------------------------------------------------------------

#define ALL_KINDS \
  dense, dilated, scalars, full, grouped, full_gemma, delta, delta_grouped, hyper, hyper_static, mudd_all, mudd_last

TEMPLATE_TEST_CASE("gradients of residual connections agree with the complex step", "[depths]", ALL_KINDS) {
  using complex = std::complex<double>;
  using fast = net<TestType, backend::cpu<double>>;
  using complex_net = net<TestType, backend::reference<complex>>;
  const auto inputs = some_tokens(8, 1), targets = some_tokens(8, 2);
  const auto fast_weights = some_weights<fast>();
  auto gradients = make<typename fast::parameters>();
  typename fast::tape fast_tape(2, 4);
  fast::forward_backward(*fast_weights, {inputs, targets, 2, 4}, fast_tape, *gradients);

  const auto weights = some_weights<complex_net>();
  typename complex_net::tape tape(2, 4);
  constexpr double step = 1e-20;
  double largest = 0, difference = 0;
  std::string worst;
  complex_net::visit(
      [&](std::string_view name, initial, auto& tensor, const auto& found) {
        // The first and last numbers and some between, for time.
        for (index i = 0; i < tensor.size; i += i % 4 == 0 || i > tensor.size - 5 ? 1 : 4) {
          complex& w = tensor.span()[static_cast<std::size_t>(i)];
          w += complex(0, step);
          complex_net::forward(*weights, {inputs, targets, 2, 4}, tape);
          w = w.real();
          const double expected = tape.loss().imag() / step,
                       d = std::abs(found.span()[static_cast<std::size_t>(i)] - expected);
          largest = std::max(largest, std::abs(expected));
          if (!(d <= difference)) difference = d, worst = name;
        }
      },
      *weights, *gradients);
  INFO("worst: " << worst);
  CHECK(largest > 0.01);
  CHECK(difference <= 1e-12 * largest);
}

TEMPLATE_TEST_CASE("models with residual connections decode as they read", "[depths]", ALL_KINDS) {
  using m = net<TestType, backend::cpu<double>>;
  const auto weights = some_weights<m>();
  const auto ready = pack<double>(*weights);
  const auto text = some_tokens(20, 3);
  typename m::tape tape(1);
  m::forward(*weights, {text, {}, 1, 20}, tape);
  const auto expected = tape.logits();
  double largest = 0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  typename m::cache cache(1);
  std::span<const double> logits = m::prefill(*ready, std::span(text).first(3), cache);
  for (std::size_t i = 3;; ++i) {
    double difference = 0;
    for (std::size_t v = 0; v < 19; ++v)
      difference = std::max(difference, std::abs(logits[v] - expected[(i - 1) * 19 + v]));
    INFO("position " << i - 1);
    CHECK(difference <= 1e-11 * largest);
    if (i == 20) break;
    logits = m::decode(*ready, text[i], cache);
  }
}

namespace {
/// Whether a tensor is one of the residual connections'.
bool is_residual(std::string_view name) {
  for (const std::string_view part :
       {".average.", ".average_out.", ".x0.", ".mudd.", ".mudd_out.", ".depth.", ".streams."})
    if (name.find(part) != name.npos) return true;
  return name.starts_with("backout.") || name.starts_with("depth_out.");
}
/// The largest difference of logits from those of the plain model, relative to the largest logit, with new residual
/// connections and otherwise random weights. Embeddings and what sublayers write are large, so that the epsilons of
/// norms do not show.
template <class Kind>
double difference_from_plain() {
  using m = net<Kind, backend::cpu<double>>;
  using without = model<with(Kind::c, {}), backend::cpu<double>>;
  const auto text = some_tokens(16, 3);
  const auto logits_of = [&]<class Model>(std::type_identity<Model>) {
    auto weights = some_weights<Model>();
    Model::visit(
        [](std::string_view name, initial start, auto& t) {
          const bool is_large = name == "wte.weight" || name == "wpe.weight" || name.ends_with("c_proj.weight") ||
                                name.ends_with("down_proj.weight");
          for (double& x : t.span())
            x = is_residual(name) && start == initial::zero  ? 0
                : is_residual(name) && start == initial::one ? 1
                : is_large                                   ? 300 * x
                                                             : x;
        },
        *weights);
    typename Model::tape tape(1, 16);
    Model::forward(*weights, {text, {}, 1, 16}, tape);
    return std::vector<double>(tape.logits().begin(), tape.logits().end());
  };
  const auto found = logits_of(std::type_identity<m>{}), expected = logits_of(std::type_identity<without>{});
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double d = std::abs(found[i] - expected[i]);
    if (!(d <= difference)) difference = d;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return difference / largest;
}
}  // namespace

TEST_CASE("at the first step, residual connections are plain ones", "[depths]") {
  CHECK(difference_from_plain<dense>() == 0);
  CHECK(difference_from_plain<dilated>() == 0);
  CHECK(difference_from_plain<scalars>() == 0);
  CHECK(difference_from_plain<mudd_all>() == 0);
  CHECK(difference_from_plain<mudd_last>() == 0);
  CHECK(difference_from_plain<delta>() < 1e-14);
  CHECK(difference_from_plain<delta_grouped>() < 1e-14);
  // The mean of all outputs in place of their sum, and N times the stream: the same but for the norms' epsilons.
  CHECK(difference_from_plain<full>() < 1e-6);
  CHECK(difference_from_plain<grouped>() < 1e-6);
  CHECK(difference_from_plain<hyper>() < 1e-6);
  CHECK(difference_from_plain<hyper_static>() < 1e-6);
}

TEMPLATE_TEST_CASE("gradients of residual connections in float, and with products of bf16", "[depths]", grouped,
                   hyper) {
  const auto gradients_of = []<class Model>(std::type_identity<Model>) {
    const auto inputs = some_tokens(32, 1), targets = some_tokens(32, 2);
    const auto weights = some_weights<Model>();
    auto gradients = make<typename Model::parameters>();
    typename Model::tape tape(2, 16);
    Model::forward_backward(*weights, {inputs, targets, 2, 16}, tape, *gradients);
    std::vector<double> all;
    Model::visit_tensors([&](initial, const auto& g) { all.insert(all.end(), g.span().begin(), g.span().end()); },
                         *gradients);
    return all;
  };
  const auto expected = gradients_of(std::type_identity<net<TestType, backend::cpu<double>>>{});
  const auto check_close = [&](const std::vector<double>& found, double tolerance) {
    double difference = 0, largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double d = std::abs(found[i] - expected[i]);
      if (!(d <= difference)) difference = d;
      largest = std::max(largest, std::abs(expected[i]));
    }
    CHECK(difference <= tolerance * largest);
  };
  check_close(gradients_of(std::type_identity<net<TestType, backend::cpu<float>>>{}), 1e-4);
  check_close(gradients_of(std::type_identity<net<TestType, backend::cpu<bf16>>>{}),
              0.1);  // operands are off by 1 part in 512
}

// ---- Configs and files
// --------------------------------------------------------------------------------------------------

TEST_CASE("the summary shows residual connections", "[depths]") {
  const auto has = [](const std::string& text, std::string_view line) {
    INFO(text);
    return text.find(line) != std::string::npos;
  };
  CHECK(has(summary<net<dense, backend::cpu<double>>>(), "h.4.average "));
  CHECK(has(summary<net<dense, backend::cpu<double>>>(), "h.4.average_out "));
  CHECK(has(summary<net<dilated, backend::cpu<double>>>(), "every 2, after every 3 blocks"));
  CHECK(has(summary<net<scalars, backend::cpu<double>>>(), "a multiple of depth 2"));
  CHECK(has(summary<net<grouped, backend::cpu<double>>>(), "softmax over sums of outputs of groups of 2 blocks"));
  CHECK(has(summary<net<hyper, backend::cpu<double>>>(), "dynamic hyper-connection of 3 streams"));
  CHECK(has(summary<net<mudd_last, backend::cpu<double>>>(), "h.4.mudd_out "));
  CHECK(!has(summary<net<mudd_last, backend::cpu<double>>>(), "h.3.mudd "));
}

TEST_CASE("a config's residual connections in JSON and C++", "[depths]") {
  for (const config& c :
       {dense::c, with(plain, {.form = residual_form::dense_former, .dilation = 4, .period = 5}), full::c, grouped::c,
        delta_grouped::c, mudd_last::c, with(plain, {.form = residual_form::embedding_scalars, .backout = 3}),
        with(plain, {.form = residual_form::hyper_connections, .streams = 2, .dynamic = false})}) {
    const std::string text = io::to_json(c);
    INFO(text);
    const auto read = io::read_config(text);
    CHECK(read.problem.view() == "");
    CHECK(read.value.residual == normalized(c).residual);
    CHECK(io::differences(c, text).empty());
  }
  for (const residual_form form : {residual_form::dense_former, residual_form::embedding_scalars, residual_form::attention,
                                   residual_form::delta_attention, residual_form::hyper_connections, residual_form::mudd}) {
    const config c = with(plain, {.form = form});
    CHECK(io::read_config(io::to_json(c)).value.residual == normalized(c).residual);
    CHECK(io::problems_of(c).empty());
  }
  // All members of all forms, as C++.
  const auto cpp_of = [](residual_connections r) {
    const std::string text = io::to_cpp(with(plain, r));
    const std::size_t at = text.find(".residual = ");
    return at == text.npos ? std::string() : text.substr(at, text.find('}', at) + 1 - at);
  };
  CHECK(cpp_of({}).empty());
  CHECK(cpp_of({.form = residual_form::dense_former, .dilation = 2, .period = 3}) ==
        ".residual = {.form = fathom::residual_form::dense_former, .dilation = 2, .period = 3, .backout = 0, .group = 0, .streams = 0, "
        ".dynamic = true, .last_blocks = 0}");
  CHECK(cpp_of({.form = residual_form::embedding_scalars, .backout = 3}).find("::embedding_scalars, .dilation = 0, .period = 0, .backout = 3,") != std::string::npos);
  CHECK(cpp_of({.form = residual_form::attention, .group = 2}).find("::attention,") != std::string::npos);
  CHECK(cpp_of({.form = residual_form::delta_attention, .group = 2}).find("::delta_attention, .dilation = 0, .period = 0, .backout = 0, .group = 2,") != std::string::npos);
  CHECK(cpp_of({.form = residual_form::hyper_connections, .streams = 3, .dynamic = false}).find(".streams = 3, .dynamic = false,") != std::string::npos);
  CHECK(cpp_of({.form = residual_form::mudd, .last_blocks = 2}).ends_with("::mudd, .dilation = 0, .period = 0, .backout = 0, .group = 0, .streams = 0, .dynamic = true, .last_blocks = 2}"));
  CHECK(io::to_json(plain).find("residual") == std::string::npos);  // as before there was a choice
  CHECK(io::differences(delta_grouped::c, io::to_json(with(plain, {.form = residual_form::delta_attention})))
            .find("residual") != std::string::npos);
  const auto problem = [](std::string_view residual, std::string_view shortcut = "null") {
    return std::string(io::read_config(join(R"({"vocab":19,"context":20,"width":8,"depth":5,"heads":2,"shortcut":)",
                                            shortcut, R"(,"residual":)", residual, "}"))
                           .problem.view());
  };
  CHECK(problem(R"({"form":"dense_former","dilation":2})").empty());
  CHECK(
      problem(R"({"form":"loops"})").starts_with(R"("residual.form" is "loops"; expected one of plain, dense_former)"));
  CHECK(problem(R"({"form":"mudd","last_blocks":6})")
            .ends_with("expected a number of blocks in residual.last_blocks, or 0 for all"));
  CHECK(problem(R"({"form":"embedding_scalars","backout":5})")
            .find("expected a depth in residual.backout below the number of blocks") != std::string::npos);
  CHECK(problem(R"({"form":"attention","streams":-1})").starts_with(R"("residual.streams" is -1; expected)"));
  CHECK(problem(R"({"form":"hyper_connections"})", R"({"depths":[1]})")
            .ends_with("expected no shortcut, for hyper_connections"));
  CHECK(problem(R"({"form":"mudd","of":1})").starts_with(R"("residual.of" is 1; expected no such key)"));
}

namespace {
/// Whether depths above 63, which no stage can read, are not needed in `Depth` blocks.
template <int Depth>
bool fits(residual_form form, int group) {
  using layers::averaged_depths;
  const auto reads = [](const depth_set& depths) { return depths.impossible == 0; };
  switch (form) {
    case residual_form::dense_former:
      return reads(averaged_depths<1, 1, 0, Depth - 1, false>::depths) && reads(averaged_depths<1, 1, 0, Depth - 1, true>::depths);
    case residual_form::mudd:
      return reads(depth_set::up_to(Depth - 1));  // of dynamic_depth_sum at the end of the last block
    case residual_form::delta_attention:  // every block reads where its group begins
      for (int block = 0; block < Depth && group > 0; ++block)
        if (!reads(depth_set::only(block - block % group))) return false;
      return true;
    default:
      return true;
  }
}
}  // namespace

TEST_CASE("residual connections fit as many blocks as their stages can read", "[depths]") {
  const auto check = []<int Depth>(std::integral_constant<int, Depth>) {
    for (const residual_form form : {residual_form::dense_former, residual_form::mudd, residual_form::delta_attention, residual_form::attention})
      for (const int group : {0, 1, 2, 33, 64}) {
        if (group > 0 && form != residual_form::delta_attention && form != residual_form::attention) continue;
        const residual_connections r = normalized({.form = form, .group = group}, Depth);
        INFO("form " << static_cast<int>(form) << ", " << Depth << " blocks, group " << group);
        CHECK((problem_of(r, Depth, false) == nullptr) == (fits<Depth>(form, group) && group <= Depth));
      }
  };
  check(std::integral_constant<int, 63>());
  check(std::integral_constant<int, 64>());
  check(std::integral_constant<int, 65>());
  check(std::integral_constant<int, 66>());
  // The deepest that there are, for the compiler.
  constexpr config deep{.vocab = 3, .context = 4, .width = 2, .depth = 64, .heads = 1, .hidden = 1};
  CHECK(model<with(deep, {.form = residual_form::dense_former})>::depth == 64);
  CHECK(model<with(deep, {.form = residual_form::mudd})>::depth == 64);
  CHECK(model<with(deep, {.form = residual_form::delta_attention, .group = 1})>::depth == 64);
  constexpr config deeper = [](config c) {
    c.depth = 66;
    return c;
  }(deep);
  CHECK(model<with(deeper, {.form = residual_form::delta_attention, .group = 33})>::depth == 66);
}

TEST_CASE("a plain file begins a model with residual connections", "[depths]") {
  const temporary_folder folder;
  const auto begin = [&]<class From, class To>(std::type_identity<From>, std::type_identity<To>) {
    const auto path = folder.path() / "from.safetensors";
    const auto weights = some_weights<From>();
    save(path, *weights);
    auto loaded = make<typename To::parameters>();
    initialize<To>(*loaded, 3);
    CHECK(fails_with([&] { return load(path, *loaded), 0; }, "residual: expected {"));
    load(path, *loaded, {.missing = missing::keep});
    const auto logits_of = [&]<class M>(std::type_identity<M>, const typename M::parameters& p) {
      typename M::tape tape(1, 8);
      M::forward(p, {some_tokens(8, 4), {}, 1, 8}, tape);
      return std::vector<double>(tape.logits().begin(), tape.logits().end());
    };
    CHECK(logits_of(std::type_identity<To>(), *loaded) == logits_of(std::type_identity<From>(), *weights));
  };
  using backend = backend::cpu<double>;
  begin(std::type_identity<model<plain, backend>>(), std::type_identity<net<dense, backend>>());
  // With a shortcut, which the file has as well.
  begin(std::type_identity<model<with(mudd_last::c, {}), backend>>(), std::type_identity<net<mudd_last, backend>>());
  // As others distribute it, too.
  const auto from_folder = [&]<class From, class To>(std::type_identity<From>, std::type_identity<To>) {
    const auto weights = some_weights<From>();
    save_transformers(folder.path() / "folder", *weights);
    save_gguf(folder.path() / "from.gguf", *weights);
    for (const char* from : {"folder", "from.gguf"}) {
      auto loaded = make<typename To::parameters>();
      CHECK(fails_with([&] { return load(folder.path() / from, *loaded), 0; }, ": missing; expected"));
      load(folder.path() / from, *loaded, {.missing = missing::keep});
      std::size_t n = 0;
      std::vector<std::vector<double>> all;
      From::visit_tensors([&](initial, const auto& t) { all.emplace_back(t.span().begin(), t.span().end()); }, *weights);
      To::visit(
          [&](std::string_view name, initial, const auto& t) {
            if (is_residual(name)) return;
            INFO(from << ": " << name);
            REQUIRE(n < all.size());
            REQUIRE(all[n].size() == static_cast<std::size_t>(t.size));
            double off = 0;  // a file has floats
            for (std::size_t i = 0; i < all[n].size(); ++i) off = std::max(off, std::abs(all[n][i] - static_cast<double>(t.span()[i])));
            CHECK(off < 1e-6);
            ++n;
          },
          *loaded);
      CHECK(n == all.size());
    }
  };
  from_folder(std::type_identity<model<plain>>(), std::type_identity<model<dense::c>>());
  from_folder(std::type_identity<model<with(delta::c, {})>>(), std::type_identity<model<delta::c>>());
  // Another shortcut is an error still.
  constexpr config other = [](config c) {
    c.shortcut.exit = shortcut_exit::sink;
    return c;
  }(mudd_last::c);
  auto another = make<model<other, backend>::parameters>();
  const auto path = folder.path() / "from.safetensors";
  CHECK(fails_with([&] { return load(path, *another, {.missing = missing::keep}), 0; }, "shortcut.exit: expected \"sink\", found nothing"));
}

TEST_CASE("files of models with residual connections load into the same architecture only", "[depths]") {
  const temporary_folder folder;
  const auto path = folder.path() / "delta.safetensors";
  using m = net<delta_grouped, backend::cpu<double>>;
  const auto weights = some_weights<m>();
  save(path, *weights);
  auto loaded = make<m::parameters>();
  load(path, *loaded);
  m::visit_tensors([](initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); },
                   *weights, *loaded);
  // The same tensors, but not the same sums.
  auto other = make<model<with(plain, {.form = residual_form::delta_attention}), backend::cpu<double>>::parameters>();
  CHECK(fails_with(
      [&] {
        load(path, *other);
        return 0;
      },
      "residual", "group"));
  auto without = make<model<plain, backend::cpu<double>>::parameters>();
  CHECK(fails_with(
      [&] {
        load(path, *without);
        return 0;
      },
      "residual: expected nothing, found"));

  // A family's file describes the parts.
  const auto of_family = folder.path() / "family.safetensors";
  using f = net<delta, backend::cpu<double>>;
  save(of_family, *some_weights<f>());
  auto grouped_family = make<
      model<with(delta::c, {.form = residual_form::delta_attention, .group = 2}), backend::cpu<double>>::parameters>();
  CHECK(fails_with(
      [&] {
        load(of_family, *grouped_family);
        return 0;
      },
      "group"));
}

TEST_CASE("scalars of residual connections may have learning rates of their own", "[depths]") {
  using m = net<scalars, backend::cpu<double>>;
  adamw<m> optimizer({.rate = 0.01f, .clip = 0});
  const std::array<parameter_group, 2> groups{parameter_group{.match = glob("*.x0.weight"), .rate = 10},
                                              parameter_group{.match = glob("*.x0.own"), .rate = 0.1}};
  optimizer.set_groups(groups);
  auto weights = make<m::parameters>(), gradients = make<m::parameters>();
  initialize<m>(*weights, 3);
  m::visit_tensors(
      [](initial, auto& g) {
        for (double& x : g.span()) x = 0.5;
      },
      *gradients);
  optimizer.step(*weights, *gradients);
  // AdamW's first step is the rate, against the gradient's sign.
  m::visit(
      [](std::string_view name, initial, const auto& t) {
        INFO(name);
        if (name.ends_with(".x0.weight")) CHECK(t.span()[0] == Approx(-0.1));
        if (name.ends_with(".x0.own")) CHECK(t.span()[0] == Approx(-0.001));
        if (name == "backout.weight") CHECK(t.span()[0] == Approx(-0.01));
      },
      *weights);
}

}  // namespace fathom::test
