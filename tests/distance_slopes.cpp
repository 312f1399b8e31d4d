// Architectures whose scores fall with distance (ALiBi, and learned slopes) and whose logits have a soft cap: they compute what
// transformers computes (make_mpt.py), train alike on every backend, decode as they read, and say what they are. The operations:
// backend_attention.cpp, backend_operations.cpp; the layers: layer_gradients.cpp, layer_attention.cpp; on a GPU:
// cuda_attention.cpp, cuda_model.cpp.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/io/safetensors.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/layer/feature_memory.hpp>
#include <fathom/layer/joint_attention.hpp>
#include <fathom/layer/rms_norm.hpp>
#include <fathom/layer/shortcut_attention.hpp>
#include <fathom/model/architecture.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "some_weights.hpp"
#include "temporary_folder.hpp"

namespace fathom::test {
namespace {

/// ALiBi in a window, learned slopes of grouped heads, slopes of a shortcut and of joint attention; no other positions.
template <class... OfHead>
using sloped = architecture<
    sizes<19, 20, 12>, embed<tokens>,
    body<block<pre<"attn", rms_norm<>, attention<3, alibi, window<5>>>, pre<"mlp", rms_norm<>, mlp<20>>>,
         block<pre<"attn", rms_norm<>, attention<4, kv_heads<2>, learned_slopes>>, pre<"mlp", rms_norm<>, mlp<20>>>,
         block<pre<"attn", layer_norm<>, look_back_jointly<3, false, learned_slopes>, features<depths<0, 1>, linear_features>>,
               pre<"other", layer_norm<>, look_back<2, initial::residual, alibi>, features<depths<1, 2>, identity_features>>,
               pre<"mlp", rms_norm<>, mlp<20>>>>,
    head<rms_norm<>, tied, OfHead...>>;
using net = sloped<soft_cap<1, 2>>;

/// MPT as make_mpt.py has it.
template <class... OfHead>
using mpt = architecture<sizes<29, 64, 12>, embed<tokens>,
                         body<repeat<2, block<pre<"attn", layer_norm<>, attention<6, alibi, no_bias>>,
                                              pre<"mlp", layer_norm<>, mlp<48, gelu_erf, false>>>>>,
                         head<layer_norm<>, tied, OfHead...>>;

std::vector<float> numbers_in(const io::safetensors_file& file, const std::string& name) {
  std::vector<float> numbers(static_cast<std::size_t>(file.at(name).size()));
  io::copy_numbers(file.at(name), numbers.data());
  return numbers;
}
/// The largest difference, as a fraction of the largest number expected.
template <class T, class U>
double difference(const T& found, const U& expected) {
  REQUIRE(std::size(found) == std::size(expected));
  double largest = 0, off = 0;
  for (std::size_t i = 0; i < std::size(found); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    if (const double d = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])); !(d <= off)) off = d;
  }
  return off / largest;
}

template <class Model>
void check_mpt(const std::string& kind) {
  INFO(kind);
  const io::safetensors_file expected(FATHOM_TESTS "/mpt/expected.safetensors");
  auto weights = make<typename Model::parameters>(), gradients = make<typename Model::parameters>();
  load(FATHOM_TESTS "/mpt/weights.safetensors", *weights);
  std::vector<token> inputs(48), targets(48, -1);
  const auto bytes = expected.at("tokens").bytes();
  REQUIRE(bytes.size() == 48 * sizeof(token));
  std::memcpy(inputs.data(), bytes.data(), bytes.size());
  for (std::size_t i = 0; i + 1 < 48; ++i)
    if (i != 23) targets[i] = inputs[i + 1];

  typename Model::tape tape(2, 24);
  Model::forward(*weights, {inputs, {}, 2, 24}, tape);
  CHECK(difference(tape.logits(), numbers_in(expected, kind + ".logits")) < 1e-5);
  Model::forward_backward(*weights, {inputs, targets, 2, 24}, tape, *gradients);
  CHECK(std::abs(static_cast<double>(tape.loss()) - static_cast<double>(numbers_in(expected, kind + ".loss")[0])) < 1e-5);
  index compared = 0;
  Model::visit(
      [&](std::string_view name, initial, const auto& g) {
        const std::string theirs = kind + ".gradient." + std::string(name);
        if (!expected.tensors().contains(theirs)) return;  // MPT's norms have no biases
        INFO(name);
        CHECK(difference(g.span(), numbers_in(expected, theirs)) < 1e-4);
        ++compared;
      },
      *gradients);
  CHECK(compared == 14);

  // And token by token.
  const auto ready = pack<typename Model::scalar>(*weights);
  typename Model::cache cache(1);
  const auto logits = numbers_in(expected, kind + ".logits");
  std::span<const typename Model::scalar> found = Model::prefill(*ready, std::span(inputs).first(7), cache);
  for (std::size_t i = 7;; ++i) {
    CHECK(difference(found, std::span(logits).subspan((i - 1) * 29, 29)) < 1e-5);
    if (i == 24) break;
    found = Model::decode(*ready, inputs[i], cache);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("an MPT computes what transformers computes", "[slopes]", backend::reference<double>, backend::cpu<double>,
                   backend::cpu<float>) {
  check_mpt<transformer<mpt<>, TestType>>("plain");
  check_mpt<transformer<mpt<soft_cap<3, 2>>, TestType>>("capped");
}

TEST_CASE("gradients of an architecture with slopes agree with the complex step", "[slopes]") {
  using complex = std::complex<double>;
  using complex_net = transformer<net, backend::reference<complex>>;
  const auto inputs = some_tokens(14, 1), targets = some_tokens(14, 2);
  const auto gradients_of = [&]<class Model>(std::type_identity<Model>) {
    const auto weights = some_weights<Model>();
    auto gradients = make<typename Model::parameters>();
    typename Model::tape tape(2, 7);
    Model::forward_backward(*weights, {inputs, targets, 2, 7}, tape, *gradients);
    std::vector<double> all;
    Model::visit_tensors([&](initial, const auto& g) { all.insert(all.end(), g.span().begin(), g.span().end()); }, *gradients);
    return all;
  };
  const auto weights = some_weights<complex_net>();
  complex_net::tape tape(2, 7);
  constexpr double h = 1e-20;
  std::vector<double> expected;
  double of_slopes = 0;
  complex_net::visit(
      [&](std::string_view name, initial, auto& tensor) {
        for (complex& w : tensor.span()) {
          w += complex(0, h);
          complex_net::forward(*weights, {inputs, targets, 2, 7}, tape);
          expected.push_back(tape.loss().imag() / h);
          if (name.ends_with("slopes")) of_slopes = std::max(of_slopes, std::abs(expected.back()));
          w = w.real();
        }
      },
      *weights);
  CHECK(of_slopes > 1e-4);
  const auto check = [&](const std::vector<double>& found, double tolerance) { CHECK(difference(found, expected) <= tolerance); };
  check(gradients_of(std::type_identity<transformer<net, backend::reference<double>>>{}), 1e-12);
  check(gradients_of(std::type_identity<transformer<net, backend::cpu<double>>>{}), 1e-12);
  check(gradients_of(std::type_identity<transformer<net, backend::cpu<float>>>{}), 1e-4);
}

TEST_CASE("training with slopes has the same losses on reference and cpu, and the same weights on any number of threads", "[slopes]") {
  std::vector<token> text;
  for (token i = 0; i < 300; ++i) text.push_back(i * i % 19);
  const auto run = [&]<class Backend>(std::type_identity<Backend>, int threads, std::vector<typename Backend::scalar>* weights) {
    std::vector<double> losses;
    using model = transformer<net, Backend>;
    trainer<model> runs({.batch = 3,
                         .steps = 8,
                         .rate = 1e-2f,
                         .seed = 2,
                         .progress = false,
                         .threads = threads,
                         .observer = [&](const progress& p) {
                           losses.push_back(p.loss);
                           return true;
                         }});
    runs.fit(text);
    model::visit_tensors([&](initial, const auto& w) { weights->insert(weights->end(), w.span().begin(), w.span().end()); }, runs.weights());
    return losses;
  };
  std::vector<double> wide;
  const auto expected = run(std::type_identity<backend::reference<double>>{}, 1, &wide);
  REQUIRE(expected.size() == 8);
  std::vector<float> alone, together;
  const auto found = run(std::type_identity<backend::cpu<float>>{}, 1, &alone);
  CHECK(difference(found, expected) < 1e-4);
  CHECK(run(std::type_identity<backend::cpu<float>>{}, 3, &together) == found);
  CHECK(alone == together);
}

TEMPLATE_TEST_CASE("an architecture with slopes decodes as it reads", "[slopes]", backend::reference<double>, backend::cpu<float>,
                   backend::cpu<double>) {
  using m = transformer<net, TestType>;
  const auto weights = some_weights<m>();
  const auto ready = pack<typename m::scalar>(*weights);
  const auto text = some_tokens(20, 3);
  typename m::tape tape(1);
  m::forward(*weights, {text, {}, 1, 20}, tape);
  const auto expected = tape.logits();
  for (const auto x : expected) REQUIRE(std::abs(static_cast<double>(x)) < 0.5);  // the cap
  for (const std::size_t prompt : {1u, 3u, 9u}) {
    typename m::cache cache(1);
    std::span<const typename m::scalar> logits = m::prefill(*ready, std::span(text).first(prompt), cache);
    for (std::size_t i = prompt;; ++i) {
      INFO("position " << i - 1);
      CHECK(difference(logits, expected.subspan((i - 1) * 19, 19)) <= (std::is_same_v<typename m::scalar, double> ? 1e-12 : 1e-4));
      if (i == 20) break;
      logits = m::decode(*ready, text[i], cache);
    }
  }
}

// Against a pass in float over the weights that packing holds.
TEST_CASE("weights packed as bf16 and int8 decode with slopes and a cap", "[slopes]") {
  using m = transformer<net, backend::cpu<float>>;
  const auto weights = some_weights<m>();
  const auto text = some_tokens(12, 4);
  const temporary_folder folder;
  const auto check = [&]<class P>(P, double tolerance) {
    save<P>(folder.path() / "packed", *weights);
    auto rounded = make<m::parameters>();
    load(folder.path() / "packed", *rounded);
    m::tape tape(1);
    m::forward(*rounded, {text, {}, 1, 12}, tape);
    m::cache cache(1);
    const auto ready = pack<P>(*weights);
    m::prefill(*ready, std::span(text).first(11), cache);
    CHECK(difference(m::decode(*ready, text[11], cache), tape.logits().subspan(11 * 19, 19)) < tolerance);
  };
  check(bf16(), 1e-4);
  check(std::int8_t(), 1e-3);
}

TEST_CASE("attention weights have slopes", "[slopes]") {
  // The shortcut of a model whose queries are all alike: weights fall by exp(-slope) with each position.
  using flat = architecture<sizes<19, 20, 12>, embed<tokens>,
                            body<block<pre<"shortcut", layer_norm<>, look_back<2, initial::residual, learned_slopes>,
                                           features<depths<0>, identity_features>>,
                                       pre<"mlp", layer_norm<>, mlp<20>>>>,
                            head<layer_norm<>, tied>>;
  using m = transformer<flat, backend::cpu<double>>;
  auto weights = some_weights<m>();
  m::visit(
      [](std::string_view name, initial, auto& tensor) {
        if (name.find("c_q") != name.npos) std::ranges::fill(tensor.span(), 0.0);
        if (name.ends_with("slopes")) tensor.span()[0] = 0.5, tensor.span()[1] = -0.25;
      },
      *weights);
  const auto map = attention_map<m>(*weights, some_tokens(9, 5));
  for (index query = 0; query < 9; ++query)
    for (index key = 1; key <= query; ++key) {
      CHECK(std::abs(map(0, query, 0, key) / map(0, query, 0, key - 1) - static_cast<float>(std::exp(0.5))) < 1e-5f);
      CHECK(std::abs(map(1, query, 0, key) / map(1, query, 0, key - 1) - static_cast<float>(std::exp(-0.25))) < 1e-5f);
    }
}

TEST_CASE("slopes and a cap say what they are, in descriptions, summaries and files", "[slopes]") {
  CHECK(description_of_part<attention<3, alibi>>() == R"({"part":"attention","heads":3,"slopes":"alibi"})");
  CHECK(description_of_part<attention<3, window<5>, learned_slopes>>() == R"({"part":"attention","heads":3,"window":5,"slopes":"learned"})");
  CHECK(description_of_part<head<rms_norm<>, tied>>() == R"({"part":"head","norm":{"part":"rms_norm"},"tied":true})");
  CHECK(description_of_part<head<rms_norm<>, tied, soft_cap<30>>>() == R"({"part":"head","norm":{"part":"rms_norm"},"tied":true,"soft_cap":30})");
  CHECK(line_of_part<head<rms_norm<>, untied, soft_cap<61, 2>>>() == "head (norm rms_norm, tied false, soft_cap 30.5)");

  using m = transformer<net, backend::cpu<float>>;
  const std::string text = summary<m>();
  CHECK(text.find("causal self-attention, 3 heads of 4, a window of 5, ALiBi's slopes") != text.npos);
  CHECK(text.find("2 of keys and values, learned slopes") != text.npos);
  CHECK(text.find("softly capped at 0.5") != text.npos);

  // Learned slopes are a tensor, and start as ALiBi's; fixed ones are none.
  auto weights = make<m::parameters>();
  initialize<m>(*weights, 1);
  std::vector<std::string> names;
  m::visit(
      [&](std::string_view name, initial, const auto& tensor) {
        if (!name.ends_with("slopes")) return;
        names.emplace_back(name);
        for (index h = 0; h < tensor.size; ++h) CHECK(tensor.span()[static_cast<std::size_t>(h)] == alibi_slope<float>(h, tensor.size));
      },
      *weights);
  CHECK(names == std::vector<std::string>{"h.1.attn.slopes", "h.2.attn.slopes"});

  const temporary_folder folder;
  const auto file = folder.path() / "net.safetensors";
  save(file, *weights);
  auto loaded = make<m::parameters>();
  load(file, *loaded);
  m::visit([&](std::string_view, initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); }, *weights, *loaded);
  // Another cap, or none, has the same tensors, and is refused for what it is.
  const auto refuses = [&]<class Other>(std::type_identity<Other>) {
    auto refused = make<typename Other::parameters>();
    return fails_with(
        [&] {
          load(file, *refused);
          return 0;
        },
        "soft_cap");
  };
  CHECK(refuses(std::type_identity<transformer<sloped<soft_cap<2>>, backend::cpu<float>>>{}));
  CHECK(refuses(std::type_identity<transformer<sloped<>, backend::cpu<float>>>{}));
}

}  // namespace fathom::test
