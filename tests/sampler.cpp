// Drawing tokens and writing: distributions against exact probabilities, generation against forward passes, errors.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/generate/sampler.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace {

using fathom::sampler;
using fathom::sampling;
using fathom::token;

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

token draw(sampler& s, const std::vector<float>& logits) { return s(std::span<const float>(logits)); }

/// The probability of every token, from the definitions: softmax of logits / temperature; of that the k most likely tokens,
/// the first of equals; of those the fewest of the most likely that together reach top_p.
std::vector<double> probabilities(const std::vector<float>& logits, const sampling& options) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  std::vector<long double> weights;
  for (const std::size_t id : order)
    weights.push_back(std::exp((static_cast<long double>(logits[id]) - static_cast<long double>(logits[order[0]])) /
                               static_cast<long double>(options.temperature)));
  const long double total = std::accumulate(weights.begin(), weights.end(), 0.0L);
  if (options.top_p < 1) {
    std::size_t count = 0;
    for (long double reached = 0; reached < static_cast<long double>(options.top_p) * total;) reached += weights[count++];
    weights.resize(count);
  }
  const long double kept = std::accumulate(weights.begin(), weights.end(), 0.0L);
  std::vector<double> p(logits.size(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) p[order[i]] = static_cast<double>(weights[i] / kept);
  return p;
}

/// Draws often, and checks how often each token came: five standard deviations, and never where the probability is 0.
void check_distribution(const std::vector<float>& logits, const sampling& options) {
  INFO("temperature " << options.temperature << ", top_k " << options.top_k << ", top_p " << options.top_p);
  constexpr int count = 40'000;
  sampler s(std::ssize(logits), options);
  std::vector<int> drawn(logits.size());
  for (int i = 0; i < count; ++i) {
    const token t = draw(s, logits);
    REQUIRE(t >= 0);
    REQUIRE(t < std::ssize(logits));
    ++drawn[static_cast<std::size_t>(t)];
  }
  const auto expected = probabilities(logits, options);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    INFO("token " << i << ": drawn " << drawn[i] << " times, expected " << count * expected[i]);
    CHECK(std::abs(drawn[i] - count * expected[i]) <= 5 * std::sqrt(count * expected[i] * (1 - expected[i])));
  }
}

}  // namespace

// ---- The sampler -----------------------------------------------------------------------------------------------------

TEST_CASE("tokens are drawn with their probabilities", "[generate]") {
  std::vector<float> logits;
  fathom::random numbers(1, 0);
  for (int i = 0; i < 20; ++i) logits.push_back(static_cast<float>(2 * numbers.normal()));
  for (const float temperature : {1.0f, 0.5f, 3.0f, 1e30f}) check_distribution(logits, {.temperature = temperature});
  for (const fathom::index k : {1, 2, 7, 19, 20, 100}) check_distribution(logits, {.top_k = k});
  for (const float p : {1e-6f, 0.3f, 0.7f, 0.95f, 0.9999f}) check_distribution(logits, {.top_p = p});
  // The settings one after the other: top_p is reached by what top_k left, at the given temperature.
  check_distribution(logits, {.temperature = 0.7f, .top_k = 8, .top_p = 0.8f, .seed = 9});
  check_distribution(logits, {.temperature = 2.0f, .top_k = 3, .top_p = 0.5f});

  logits[4] = logits[7] = -infinity;  // never drawn
  check_distribution(logits, {});
  check_distribution(logits, {.top_k = 19});
  check_distribution(logits, {.top_p = 0.9999f});
  logits.assign(5, -infinity);
  logits[3] = -2;
  check_distribution(logits, {});
  check_distribution(logits, {.top_k = 2});
}

TEST_CASE("top_p keeps as many tokens as it takes", "[generate]") {
  // Probabilities 0.1, 0.5, 0.15, 0.25: the order of likelihood is 1, 3, 2, 0.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f), std::log(0.25f)};
  const auto kept = [&](float p) {
    sampler s(4, {.top_p = p});
    std::vector<token> seen;
    for (int i = 0; i < 1000; ++i) seen.push_back(draw(s, logits));
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    return seen;
  };
  CHECK(kept(0.49f) == std::vector<token>{1});
  CHECK(kept(0.51f) == std::vector<token>{1, 3});
  CHECK(kept(0.74f) == std::vector<token>{1, 3});
  CHECK(kept(0.76f) == std::vector<token>{1, 2, 3});
  CHECK(kept(0.89f) == std::vector<token>{1, 2, 3});
  CHECK(kept(0.91f) == std::vector<token>{0, 1, 2, 3});
}

TEST_CASE("of equally likely tokens the first are kept", "[generate]") {
  const std::vector<float> logits = {0, 1, 1, 0, 1, 1, 0, 1};
  check_distribution(logits, {.top_k = 3});           // tokens 1, 2 and 4
  check_distribution(logits, {.top_k = 6});           // the five, and token 0
  check_distribution(logits, {.top_p = 0.3f});        // 1 and 2
  check_distribution(std::vector<float>(9, 2.5f), {.top_k = 4});
  sampler greedy(8, {.temperature = 0, .top_k = 2});
  CHECK(draw(greedy, logits) == 1);
  CHECK(draw(greedy, {-3, -1, -2, -1, -1, -infinity, -9, -4}) == 1);
  CHECK(draw(greedy, {-infinity, -infinity, -5, -infinity, -6, -7, -8, -9}) == 2);
}

TEST_CASE("a seed gives the same tokens again", "[generate]") {
  const std::vector<float> logits(50, 0.0f);
  const auto drawn = [&](std::uint64_t seed) {
    sampler s(50, {.seed = seed});
    std::vector<token> tokens;
    for (int i = 0; i < 100; ++i) tokens.push_back(draw(s, logits));
    return tokens;
  };
  CHECK(drawn(3) == drawn(3));
  CHECK(drawn(3) != drawn(4));
}

TEST_CASE("logits and settings that make no sense are errors", "[generate]") {
  for (const float temperature : {0.0f, 1.0f}) {
    sampler s(4, {.temperature = temperature});
    CHECK(fails_with([&] { return draw(s, {1, 2, not_a_number, 4}); }, "sampler", "token 2", "nan"));
    CHECK(fails_with([&] { return draw(s, {1, infinity, 3, 4}); }, "token 1", "inf"));
    CHECK(fails_with([&] { return draw(s, {-infinity, -infinity, -infinity, -infinity}); }, "every logit", "-inf"));
    CHECK(fails_with([&] { return draw(s, {1, 2, 3, 4, 5}); }, "5 logits", "4 tokens"));
    CHECK(fails_with([&] { return draw(s, {}); }, "0 logits"));
    CHECK(draw(s, {0, 0, 900, 0}) == 2);  // and afterwards it goes on
  }
  const auto make = [](const sampling& options) {
    return [options] {
      sampler s(4, options);
      return 0;
    };
  };
  CHECK(fails_with(make({.temperature = -0.1f}), "temperature -0.1"));
  CHECK(fails_with(make({.temperature = not_a_number}), "temperature nan"));
  CHECK(fails_with(make({.top_k = -1}), "top_k -1"));
  for (const float p : {0.0f, -0.5f, 1.5f, not_a_number}) CHECK(fails_with(make({.top_p = p}), "top_p"));
}

// ---- The generator ---------------------------------------------------------------------------------------------------

namespace {

constexpr fathom::config config{
    .vocab = 23, .context = 11, .width = 16, .depth = 2, .heads = 2, .tied = false, .shortcut = {.depths = {0, 1}}};

/// Weights that make a model which does not say the same thing all the time.
template <class Model>
fathom::owned<typename Model::parameters> some_weights() {
  auto weights = fathom::make<typename Model::parameters>();
  Model::visit(
      [&](std::string_view name, fathom::initial start, auto& tensor) {
        fathom::random numbers(5, fathom::stream_of(name));
        for (auto& w : tensor.span())
          w = static_cast<typename Model::scalar>((start == fathom::initial::one ? 1 : 0) + 0.5 * numbers.normal());
      },
      *weights);
  return weights;
}

template <class Writer>
std::vector<token> written(Writer& writer, const std::vector<token>& prompt, fathom::index count) {
  std::vector<token> tokens;
  const fathom::index reported = writer.write(prompt, count, [&](token t) {
    tokens.push_back(t);
    return true;
  });
  CHECK(reported == std::ssize(tokens));
  return tokens;
}

/// Greedy writing by forward passes over everything that is in sight.
template <class Model>
std::vector<token> by_forward_passes(const typename Model::parameters& weights, std::vector<token> sight, int count) {
  std::vector<token> tokens;
  typename Model::tape tape(1, Model::context, {1});
  for (int i = 0; i < count; ++i) {
    Model::forward(weights, {sight, {}, 1, std::ssize(sight)}, tape);
    const auto last = tape.logits().last(Model::vocab);
    tokens.push_back(static_cast<token>(std::max_element(last.begin(), last.end()) - last.begin()));
    if (std::ssize(sight) == Model::context) sight.erase(sight.begin(), sight.end() - Model::context / 2);
    sight.push_back(tokens.back());
  }
  return tokens;
}

}  // namespace

TEMPLATE_TEST_CASE("a generator writes what forward passes say, past the context too", "[generate]",
                   fathom::backend::reference<double>, fathom::backend::cpu<float>) {
  using net = fathom::model<config, TestType>;
  const auto weights = some_weights<net>();
  fathom::generator<net> writer(*weights, {.temperature = 0});
  for (const std::vector<token>& prompt :
       {std::vector<token>{7}, {1, 2, 3}, {22, 0, 22, 5, 6, 7, 8, 9, 10, 11, 12}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}) {
    const auto tokens = written(writer, prompt, 60);
    CHECK(tokens == by_forward_passes<net>(*weights, prompt, 60));
    CHECK(std::adjacent_find(tokens.begin(), tokens.end(), std::not_equal_to<>()) != tokens.end());
  }
  // A prompt longer than the context loses its beginning.
  std::vector<token> longer = {4, 4, 4, 22, 0, 22, 5, 6, 7, 8, 9, 10, 11, 12};
  CHECK(written(writer, longer, 20) == by_forward_passes<net>(*weights, {longer.end() - 11, longer.end()}, 20));
}

TEST_CASE("a generator repeats itself with its seed and weights, on any number of threads", "[generate]") {
  using net = fathom::model<config>;
  const auto weights = some_weights<net>();
  const auto text = [&]<class P>(P, std::uint64_t seed, int threads) {
    fathom::generator<net, P> writer(*weights, {.temperature = 0.9f, .top_k = 15, .seed = seed, .threads = threads});
    return written(writer, {1, 2, 3}, 100);
  };
  const auto first = text(float(), 1, 1);
  CHECK(text(float(), 1, 1) == first);
  CHECK(text(float(), 1, 2) == first);
  CHECK(text(float(), 2, 1) != first);
  for (const token t : first) CHECK((t >= 0 && t < 23));
  CHECK(text(std::int8_t(), 1, 2) == text(std::int8_t(), 1, 1));

  // Every text begins anew; only the random numbers go on.
  fathom::generator<net> writer(*weights, {.temperature = 0.9f, .top_k = 15, .seed = 1});
  CHECK(written(writer, {1, 2, 3}, 100) == first);
  CHECK(written(writer, {1, 2, 3}, 100) != first);
}

TEST_CASE("a generator stops when it is told to", "[generate]") {
  using net = fathom::model<config, fathom::backend::reference<float>>;
  const auto weights = some_weights<net>();
  fathom::generator<net> writer(*weights, {.temperature = 0});
  const auto all = written(writer, {1, 2}, 30);
  for (const int stop : {1, 2, 10, 29, 30}) {
    std::vector<token> tokens;
    const auto reported = writer.write(std::vector<token>{1, 2}, 30, [&](token t) {
      tokens.push_back(t);
      return std::ssize(tokens) < stop;
    });
    CHECK(reported == stop);
    CHECK(tokens == std::vector<token>(all.begin(), all.begin() + stop));
  }
  for (const fathom::index none : {0, -3}) CHECK(written(writer, {1, 2}, none).empty());
}

TEST_CASE("a generator that may not slide fails when the context is full", "[generate]") {
  using net = fathom::model<config, fathom::backend::reference<float>>;
  const auto weights = some_weights<net>();
  fathom::generator<net> slides(*weights, {.temperature = 0});
  fathom::generator<net> writer(*weights, {.temperature = 0, .overflow = fathom::overflow::fails});
  const std::vector<token> prompt = {1, 2, 3};
  // Eight tokens find room after the prompt, and the ninth need not be read.
  CHECK(written(writer, prompt, 9) == written(slides, prompt, 9));
  std::vector<token> tokens;
  CHECK(fails_with([&] {
    return writer.write(prompt, 10, [&](token t) {
      tokens.push_back(t);
      return true;
    });
  }, "generator.write", "context of 11", "9 tokens", "slide"));
  CHECK(tokens == written(slides, prompt, 9));
  CHECK(fails_with([&] { return written(writer, std::vector<token>(12, 1), 1); }, "prompt of 12 tokens", "11"));
  CHECK(written(writer, std::vector<token>(11, 1), 1) == written(slides, std::vector<token>(11, 1), 1));
}

TEST_CASE("a generator says what is wrong with a prompt", "[generate]") {
  using net = fathom::model<config, fathom::backend::reference<float>>;
  const auto weights = some_weights<net>();
  fathom::generator<net> writer(*weights);
  CHECK(fails_with([&] { return written(writer, {}, 5); }, "generator.write", "empty"));
  CHECK(fails_with([&] { return written(writer, {1, 23}, 5); }, "prompt", "token 23", "position 1", "22"));
  CHECK(fails_with([&] { return written(writer, {-1}, 5); }, "token -1", "position 0"));
  CHECK(fails_with([&] { return written(writer, {40, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 5); }, "token 40", "position 0"));
  CHECK(fails_with([&] { return fathom::generator<net>(*weights, {.temperature = -1}), 0; }, "temperature -1"));
}

TEST_CASE("a text is a prompt of bytes", "[generate]") {
  constexpr fathom::config bytes{.vocab = 256, .context = 8, .width = 16, .depth = 1, .heads = 2};
  using net = fathom::model<bytes, fathom::backend::reference<float>>;
  const auto weights = some_weights<net>();
  fathom::generator<net> writer(*weights, {.temperature = 0});
  const auto of_text = [&](std::string_view prompt) {
    std::vector<token> tokens;
    writer.write(prompt, 12, [&](token t) {
      tokens.push_back(t);
      return true;
    });
    return tokens;
  };
  const auto expected = written(writer, {104, 195, 164, 255, 0}, 12);
  CHECK(of_text(std::string_view("h\xc3\xa4\xff\0", 5)) == expected);
  CHECK(of_text(std::string_view("lost at first: h\xc3\xa4\xff\0", 20)) == written(writer, {116, 58, 32, 104, 195, 164, 255, 0}, 12));
  CHECK(fails_with([&] { return of_text(""); }, "empty"));
  fathom::generator<net> strict(*weights, {.overflow = fathom::overflow::fails});
  CHECK(fails_with([&] { return strict.write("nine byte", 1, [](token) { return true; }); }, "prompt of 9 tokens", "8"));
}
