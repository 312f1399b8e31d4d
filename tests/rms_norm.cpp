// Architectures with RMS norm in place of layer norm: they train alike on every backend, decode as they read, and say what
// their norms are. Its operations: backend_operations.cpp; its layer: layer_gradients.cpp; on a GPU: cuda_operations.cpp,
// cuda_model.cpp.
#include <algorithm>
#include <cmath>
#include <complex>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/layer/gated_mlp.hpp>
#include <fathom/layer/rms_norm.hpp>
#include <fathom/model/architecture.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "head_norms.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace fathom::test {
namespace {

/// Norms of all kinds: the default, Gemma's, and of heads.
template <class Norm>
using with_last = architecture<sizes<19, 20, 12>, embed<tokens, learned_positions>,
                               body<repeat<2, block<pre<"attn", rms_norm<>, attention<2>>,
                                                    pre<"mlp", rms_norm<std::micro, 1>, gated_mlp<20>>>>,
                                    block<pre<"heads", rms_norm<epsilon<1, 1000>>, head_norms<3>>,
                                          pre<"mlp", rms_norm<>, fathom::mlp<20>>>>,
                               head<Norm, tied>>;
using net = with_last<rms_norm<>>;

}  // namespace

TEST_CASE("gradients of an architecture with RMS norm agree with the complex step", "[rms_norm]") {
  using complex = std::complex<double>;
  using complex_net = transformer<net, backend::reference<complex>>;
  const auto inputs = some_tokens(8, 1), targets = some_tokens(8, 2);
  const auto gradients_of = [&]<class Model>(std::type_identity<Model>) {
    const auto weights = some_weights<Model>();
    auto gradients = make<typename Model::parameters>();
    typename Model::tape tape(2, 4);
    Model::forward_backward(*weights, {inputs, targets, 2, 4}, tape, *gradients);
    std::vector<double> all;
    Model::visit_tensors([&](initial, const auto& g) { all.insert(all.end(), g.span().begin(), g.span().end()); }, *gradients);
    return all;
  };
  const auto weights = some_weights<complex_net>();
  complex_net::tape tape(2, 4);
  constexpr double h = 1e-20;
  std::vector<double> expected;
  complex_net::visit_tensors(
      [&](initial, auto& tensor) {
        for (complex& w : tensor.span()) {
          w += complex(0, h);
          complex_net::forward(*weights, {inputs, targets, 2, 4}, tape);
          expected.push_back(tape.loss().imag() / h);
          w = w.real();
        }
      },
      *weights);
  const auto check = [&](const std::vector<double>& found, double tolerance) {
    REQUIRE(found.size() == expected.size());
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      if (const double d = std::abs(found[i] - expected[i]); !(d <= difference)) difference = d;
    }
    CHECK(largest > 0.01);
    CHECK(difference <= tolerance * largest);
  };
  check(gradients_of(std::type_identity<transformer<net, backend::reference<double>>>{}), 1e-12);
  check(gradients_of(std::type_identity<transformer<net, backend::cpu<double>>>{}), 1e-12);
  check(gradients_of(std::type_identity<transformer<net, backend::cpu<float>>>{}), 1e-4);
}

TEST_CASE("RMS norm is plain at the start", "[rms_norm]") {
  // Whatever the offset, the same function of the same weights.
  using other = with_last<rms_norm<std::ratio<1, 100'000>, 1>>;
  const auto logits_of = []<class A>(std::type_identity<A>) {
    using m = transformer<A, backend::reference<double>>;
    auto weights = make<typename m::parameters>();
    initialize<m>(*weights, 3);
    typename m::tape tape(1);
    m::forward(*weights, {some_tokens(12, 4), {}, 1, 12}, tape);
    const auto logits = tape.logits();
    return std::vector<double>(logits.begin(), logits.end());
  };
  CHECK(logits_of(std::type_identity<net>{}) == logits_of(std::type_identity<other>{}));
}

TEST_CASE("training with RMS norm has the same losses on reference and cpu", "[rms_norm]") {
  std::vector<token> text;  // with something to learn
  for (token i = 0; i < 300; ++i) text.push_back(i * i % 19);
  const auto losses_of = [&]<class Backend>(std::type_identity<Backend>) {
    std::vector<double> losses;
    trainer<transformer<net, Backend>> runs({.batch = 3,
                                             .steps = 8,
                                             .rate = 1e-2f,
                                             .seed = 2,
                                             .progress = false,
                                             .observer = [&](const progress& p) {
                                               losses.push_back(p.loss);
                                               return true;
                                             }});
    runs.fit(text);
    return losses;
  };
  const auto expected = losses_of(std::type_identity<backend::reference<double>>{});
  REQUIRE(expected.size() == 8);
  CHECK(expected.back() < expected.front() - 0.05);
  const auto check = [&](const std::vector<double>& found, double tolerance) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - expected[i]) <= tolerance);
  };
  check(losses_of(std::type_identity<backend::cpu<double>>{}), 1e-9);
  check(losses_of(std::type_identity<backend::reference<float>>{}), 1e-3);
  check(losses_of(std::type_identity<backend::cpu<float>>{}), 1e-3);
}

TEMPLATE_TEST_CASE("an architecture with RMS norm decodes as it reads", "[rms_norm]", backend::reference<double>, backend::cpu<float>,
                   backend::cpu<double>) {
  using m = transformer<net, TestType>;
  const auto weights = some_weights<m>();
  const auto ready = pack<typename m::scalar>(*weights);
  const auto text = some_tokens(20, 3);
  typename m::tape tape(1);
  m::forward(*weights, {text, {}, 1, 20}, tape);
  const auto expected = tape.logits();
  typename m::cache cache(1);
  std::span<const typename m::scalar> logits = m::prefill(*ready, std::span(text).first(3), cache);
  for (std::size_t i = 3;; ++i) {
    double difference = 0;
    for (std::size_t v = 0; v < 19; ++v)
      difference = std::max(difference, std::abs(static_cast<double>(logits[v] - expected[(i - 1) * 19 + v])));
    INFO("position " << i - 1);
    CHECK(difference <= (std::is_same_v<typename m::scalar, double> ? 1e-12 : 1e-4));
    if (i == 20) break;
    logits = m::decode(*ready, text[i], cache);
  }
}

TEST_CASE("an RMS norm says what it is, in descriptions and files", "[rms_norm]") {
  CHECK(description_of_part<rms_norm<>>() == R"({"part":"rms_norm"})");
  CHECK(description_of_part<rms_norm<std::micro>>() == R"({"part":"rms_norm","epsilon":1e-06})");
  CHECK(description_of_part<rms_norm<epsilon<1, 1'000'000>, 1>>() == R"({"part":"rms_norm","epsilon":1e-06,"gain_offset":1})");
  CHECK(description_of_part<rms_norm<epsilon<1, 100'000>, 1>>() == R"({"part":"rms_norm","gain_offset":1})");
  CHECK(line_of_part<rms_norm<std::micro, 1>>() == "rms_norm (epsilon 1e-06, gain_offset 1)");

  using m = transformer<net, backend::cpu<float>>;
  std::vector<std::string> names;
  m::visit([&](std::string_view name, initial, const auto&) { names.emplace_back(name); }, *make<m::parameters>());
  CHECK(std::ranges::count(names, "h.0.ln_1.weight") == 1);
  CHECK(std::ranges::count(names, "ln_f.weight") == 1);
  CHECK(std::ranges::count(names, "h.0.ln_1.bias") == 0);

  const temporary_folder folder;
  const auto weights = some_weights<m>();
  const auto file = folder.path() / "net.safetensors";
  save(file, *weights);
  auto loaded = make<m::parameters>();
  load(file, *loaded);
  m::visit([&](std::string_view, initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); }, *weights, *loaded);
  // Another offset has tensors of the same names and shapes, and is refused for what it is.
  using other = transformer<with_last<rms_norm<epsilon<1, 100'000>, 1>>, backend::cpu<float>>;
  auto refused = make<other::parameters>();
  CHECK(fails_with(
      [&] {
        load(file, *refused);
        return 0;
      },
      "gain_offset"));
}

}  // namespace fathom::test
