// The custom layer and residual sources of custom_layer.hpp: their gradients on every backend,
// decoding, files.
#include <algorithm>
#include <cmath>
#include <complex>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>

#include "catch.hpp"
#include "custom_layer.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using complex = std::complex<double>;

template <class Backend>
using net = fathom::transformer<custom::architecture, Backend>;
using oracle = net<fathom::backend::reference<double>>;

/// Weights with which no term vanishes: tensors that start at 0 or 1 are random too.
template <class Model>
fathom::owned<typename Model::parameters> some_weights() {
  auto weights = fathom::make<typename Model::parameters>();
  Model::visit(
      [](std::string_view name, fathom::initial start, auto& tensor) {
        fathom::random numbers(5, fathom::stream_of(name));
        for (auto& w : tensor.span())
          w = static_cast<typename Model::scalar>((start == fathom::initial::one ? 1.0 : 0.0) + 0.3 * numbers.normal());
      },
      *weights);
  return weights;
}

std::vector<token> some_tokens(std::size_t count, std::uint64_t seed) {
  fathom::random numbers(seed, 0);
  std::vector<token> tokens(count);
  for (token& t : tokens) t = static_cast<token>(numbers.below(custom::architecture::vocab));
  return tokens;
}

/// The gradients of a model for one small batch, by name.
template <class Model>
std::map<std::string, std::vector<double>> gradients_of() {
  const auto weights = some_weights<Model>();
  auto gradients = fathom::make<typename Model::parameters>();
  const auto inputs = some_tokens(10, 1), targets = some_tokens(10, 2);
  typename Model::tape tape(2, 5);
  Model::forward(*weights, {inputs, targets, 2, 5}, tape);
  Model::backward(*weights, {inputs, targets, 2, 5}, tape, *gradients);
  std::map<std::string, std::vector<double>> result;
  Model::visit([&](std::string_view name, fathom::initial, const auto& g) {
    result[std::string(name)].assign(g.span().begin(), g.span().end());
  }, *gradients);
  return result;
}

/// Checks that every tensor agrees to `tolerance` of its largest number, or of 1e-3, because a key's bias has no gradient
/// (softmax ignores it).
void check_agree(const std::map<std::string, std::vector<double>>& found,
                 const std::map<std::string, std::vector<double>>& expected, double tolerance) {
  REQUIRE(found.size() == expected.size());
  for (const auto& [name, numbers] : expected) {
    double difference = 0, largest = 1e-3;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (const double d = std::abs(found.at(name)[i] - numbers[i]); !(d <= difference)) difference = d;  // NaN is largest
      largest = std::max(largest, std::abs(numbers[i]));
    }
    INFO(name << ": they differ by " << difference << ", the largest is " << largest);
    CHECK(difference <= tolerance * largest);
  }
}

}  // namespace

TEST_CASE("gradients of a custom layer and source agree with the complex step", "[custom]") {
  using complex_net = net<fathom::backend::reference<complex>>;
  const auto weights = some_weights<complex_net>();
  const auto inputs = some_tokens(10, 1), targets = some_tokens(10, 2);
  complex_net::tape tape(2, 5);
  constexpr double h = 1e-20;
  std::map<std::string, std::vector<double>> expected;
  complex_net::visit(
      [&](std::string_view name, fathom::initial, auto& tensor) {
        for (complex& w : tensor.span()) {
          w += complex(0, h);
          complex_net::forward(*weights, {inputs, targets, 2, 5}, tape);
          expected[std::string(name)].push_back(tape.loss().imag() / h);
          w = w.real();
        }
      },
      *weights);
  check_agree(gradients_of<oracle>(), expected, 1e-10);
}

TEST_CASE("a custom layer and source run on every backend", "[custom]") {
  const auto expected = gradients_of<oracle>();
  check_agree(gradients_of<net<fathom::backend::cpu<double>>>(), expected, 1e-12);
  check_agree(gradients_of<net<fathom::backend::cpu<float>>>(), expected, 1e-4);
  check_agree(gradients_of<net<fathom::backend::reference<float>>>(), expected, 1e-4);
  // bf16 rounds operands to 1 part in 512, in some twenty products one after the other, forward and backward.
  check_agree(gradients_of<net<fathom::backend::cpu<fathom::bf16>>>(), expected, 40.0 / 512);
}

TEMPLATE_TEST_CASE("a model with a custom layer and source decodes as it reads", "[custom]",
                   fathom::backend::reference<double>, fathom::backend::cpu<float>) {
  using model = net<TestType>;
  const auto weights = some_weights<model>();
  const auto ready = fathom::pack<typename model::scalar>(*weights);
  const auto tokens = some_tokens(70, 3);
  typename model::tape tape(1);
  model::forward(*weights, {tokens, {}, 1, 70}, tape);
  const auto expected = tape.logits();
  double largest = 0;
  for (const auto logit : expected) largest = std::max(largest, std::abs(static_cast<double>(logit)));

  const auto check = [&](std::size_t position, std::span<const typename model::scalar> found) {
    double difference = 0;
    for (std::size_t v = 0; v < 19; ++v)
      if (const double d = std::abs(static_cast<double>(found[v] - expected[position * 19 + v])); !(d <= difference))
        difference = d;
    INFO("position " << position);
    CHECK(difference <= (std::is_same_v<typename model::scalar, double> ? 1e-13 : 1e-5) * largest);
  };
  typename model::cache cache(1);
  check(2, model::prefill(*ready, std::span(tokens).first(3), cache));
  for (std::size_t i = 3; i < 70; ++i) check(i, model::decode(*ready, tokens[i], cache));
  cache.truncate(0);
  check(68, model::prefill(*ready, std::span(tokens).first(69), cache));  // in two blocks of tokens
  check(69, model::decode(*ready, tokens[69], cache));
}

TEST_CASE("a model with a custom layer and source begins as the one without", "[custom]") {
  using plain = fathom::model<fathom::config{.vocab = 19, .context = 70, .width = 12, .depth = 4, .heads = 2, .hidden = 20},
                              fathom::backend::reference<double>>;
  auto weights = fathom::make<oracle::parameters>();
  auto plain_weights = fathom::make<plain::parameters>();
  fathom::initialize<oracle>(*weights, 7);
  fathom::initialize<plain>(*plain_weights, 7);
  const auto tokens = some_tokens(12, 4);
  oracle::tape tape(1, 12);
  plain::tape plain_tape(1, 12);
  oracle::forward(*weights, {tokens, {}, 1, 12}, tape);
  plain::forward(*plain_weights, {tokens, {}, 1, 12}, plain_tape);
  const auto found = tape.logits(), expected = plain_tape.logits();
  CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
}

TEST_CASE("the tensors of a custom layer and source have names, in files too", "[custom]") {
  // Counted by hand: the embedding, four GPT-2 blocks, eight sublayers over depth, the mixing weights of blocks 0 and 1 (block 1
  // uses one) and of blocks 2 and 3 (block 3 uses three).
  constexpr fathom::index E = 12, F = 20, block = 2 * 2 * E + (E + 1) * 3 * E + (E + 1) * E + (E + 1) * F + (F + 1) * E,
                          over_depth = 2 * E + (E + 1) * E + (E + 1) * 2 * E + (E + 1) * E;
  STATIC_REQUIRE(oracle::parameter_count == (19 + 70) * E + 4 * block + 8 * over_depth + 2 * 1 + 2 * 3 + 2 * E);

  const temporary_folder folder;
  const auto path = folder.path() / "custom.safetensors";
  const auto weights = some_weights<oracle>();
  fathom::save(path, *weights);
  const fathom::io::safetensors_file file(path);
  using shape = std::vector<fathom::index>;
  std::map<std::string, shape> own = {
      {"h.0.mix.weight", {1}}, {"h.1.mix.weight", {1}}, {"h.2.mix.weight", {3}}, {"h.3.mix.weight", {3}}};
  for (const std::string stage : {"h.0.depth", "h.1.depth", "h.2.depth", "h.3.depth", "h.2.middle", "h.3.middle", "h.2.of_values", "h.3.of_values"})
    own.insert({{stage + ".ln.weight", {E}},
                {stage + ".ln.bias", {E}},
                {stage + ".c_q.weight", {E, E}},
                {stage + ".c_q.bias", {E}},
                {stage + ".c_kv.weight", {E, 2 * E}},
                {stage + ".c_kv.bias", {2 * E}},
                {stage + ".c_proj.weight", {E, E}},
                {stage + ".c_proj.bias", {E}}});
  CHECK(file.tensors().size() == 2 + 4 * 12 + 2 + own.size());  // wte, wpe; four blocks; ln_f
  for (const auto& [name, expected] : own) {
    INFO(name);
    CHECK(file.at(name).shape == expected);
  }

  auto loaded = fathom::make<oracle::parameters>();
  fathom::load(path, *loaded);
  oracle::visit_tensors(
      [](fathom::initial, const auto& a, const auto& b) {
        CHECK(std::equal(a.span().begin(), a.span().end(), b.span().begin()));
      },
      *weights, *loaded);
}

TEST_CASE("the summary shows a custom layer and source", "[custom]") {
  const std::string text = fathom::summary<oracle>();
  for (const char* line : {"h.2.mix ", "weighted sum of the depths below", "h.2.depth ", "attention over 4 depths at most", "h.3.middle.source "}) {
    INFO(text);
    CHECK(text.find(line) != std::string::npos);
  }
}
