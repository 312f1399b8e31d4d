// Sampling and generation: distributions against exact probabilities, generation against forward passes, errors.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/bf16.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/generate/sampler.hpp>
#include <fathom/model/batch.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace {

using fathom::sampler;
using fathom::sampling;
using fathom::token;

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

token draw(sampler& s, const std::vector<float>& logits) { return s(std::span<const float>(logits)); }

/// The probability of every token, by definition: softmax of logits / temperature; then the k most likely tokens,
/// the first of equals; then the fewest most likely ones that together reach top_p. All among the first ids.
std::vector<double> probabilities(const std::vector<float>& logits, const sampling& options) {
  std::vector<std::size_t> order(options.ids > 0 ? static_cast<std::size_t>(options.ids) : logits.size());
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

/// Draws many tokens, and checks the frequency of each: to five standard deviations, and never if the probability is 0.
void check_distribution(const std::vector<float>& logits, const sampling& options) {
  INFO("temperature " << options.temperature << ", top_k " << options.top_k << ", top_p " << options.top_p << ", ids " << options.ids);
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
  // The settings apply in order: top_p to the tokens that top_k leaves, at the given temperature.
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

TEST_CASE("however high the temperature, what is impossible is never drawn", "[generate]") {
  const std::vector<float> logits = {-infinity, 3, -infinity, -2, 80, -infinity};
  for (const float temperature : {1e-30f, 1e-3f, 1e3f, 1e30f, std::numeric_limits<float>::max()}) {
    check_distribution(logits, {.temperature = temperature});
    check_distribution(logits, {.temperature = temperature, .top_k = 5});
    check_distribution(logits, {.temperature = temperature, .top_p = 0.99999f});
  }
  // The hottest sampler draws the three remaining tokens equally often.
  const auto p = probabilities(logits, {.temperature = std::numeric_limits<float>::max()});
  for (const std::size_t i : {1u, 3u, 4u}) CHECK(std::abs(p[i] - 1.0 / 3) < 1e-9);
}

TEST_CASE("only the first ids are drawn, and nobody looks at the others", "[generate]") {
  std::vector<float> logits;
  fathom::random numbers(2, 0);
  for (int i = 0; i < 16; ++i) logits.push_back(static_cast<float>(2 * numbers.normal()));
  for (std::size_t i = 11; i < 16; ++i) logits[i] = 50;  // likelier than all others
  logits[13] = not_a_number;
  logits[14] = infinity;
  logits[15] = -infinity;
  check_distribution(logits, {.ids = 11});
  check_distribution(logits, {.temperature = 3, .top_k = 4, .ids = 11});
  check_distribution(logits, {.top_k = 15, .ids = 11});
  check_distribution(logits, {.temperature = 0.7f, .top_k = 8, .top_p = 0.8f, .ids = 11});
  check_distribution(logits, {.ids = 1});
  sampler greedy(16, {.temperature = 0, .ids = 11});
  CHECK(draw(greedy, logits) == std::max_element(logits.begin(), logits.begin() + 11) - logits.begin());
  // A limit of all tokens is the same as 0, no limit.
  logits.resize(11);
  sampler all(11, {.seed = 5, .ids = 11}), no_limit(11, {.seed = 5});
  for (int i = 0; i < 100; ++i) CHECK(draw(all, logits) == draw(no_limit, logits));
  for (const float temperature : {0.0f, 1.0f}) {
    sampler two(4, {.temperature = temperature, .ids = 2});
    CHECK(fails_with([&] { return draw(two, {-infinity, -infinity, 1, 2}); }, "every logit", "-inf"));
    CHECK(fails_with([&] { return draw(two, {1, not_a_number, 1, 2}); }, "token 1", "nan"));
    CHECK(fails_with([&] { return draw(two, {1, 2}); }, "2 logits", "4 tokens"));
  }
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
    CHECK(draw(s, {0, 0, 900, 0}) == 2);  // and afterwards it continues
  }
  const auto make = [](const sampling& options) {
    return [options] {
      sampler s(4, options);
      return 0;
    };
  };
  CHECK(fails_with(make({.temperature = -0.1f}), "temperature -0.1"));
  CHECK(fails_with(make({.temperature = not_a_number}), "temperature nan"));
  CHECK(fails_with(make({.temperature = infinity}), "temperature inf", "expected a finite temperature"));
  CHECK(fails_with(make({.top_k = -1}), "top_k -1"));
  for (const float p : {0.0f, -0.5f, 1.5f, not_a_number, infinity}) CHECK(fails_with(make({.top_p = p}), "top_p"));
  for (const fathom::index ids : {-1, 5}) CHECK(fails_with(make({.ids = ids}), "ids " + std::to_string(ids), "from 0 to the 4 tokens"));
  for (const fathom::index vocab : {fathom::index{0}, fathom::index{-1}, std::numeric_limits<fathom::index>::min()}) {
    const std::string expected = "a vocabulary of " + std::to_string(vocab) + " tokens; expected at least 1";
    CHECK(fails_with([&] { return sampler(vocab, {}), 0; }, expected));
    const fathom::buffer memory(64);
    CHECK(fails_with([&] { return sampler(vocab, {}, memory.bytes()), 0; }, expected));
    CHECK(sampler::bytes(vocab) == 0);
  }
  sampler one(1, {});
  CHECK(draw(one, {-5}) == 0);
}

// ---- The generator ---------------------------------------------------------------------------------------------------

namespace {

constexpr fathom::config config{
    .vocab = 23, .context = 11, .width = 16, .depth = 2, .heads = 2, .tied = false, .shortcut = {.depths = {0, 1}}};

/// Weights of a model with varied output.
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

/// Greedy generation by forward passes over all tokens in sight. change(sight, logits) may change the logits; only
/// the first ids count.
template <class Model>
std::vector<token> by_forward_passes(
    const typename Model::parameters& weights, std::vector<token> sight, int count,
    const std::function<void(std::span<const token>, std::span<float>)>& change = [](auto, auto) {}, fathom::index ids = Model::vocab) {
  std::vector<token> tokens;
  typename Model::tape tape(1, Model::context, {1});
  for (int i = 0; i < count; ++i) {
    Model::forward(weights, {sight, {}, 1, std::ssize(sight)}, tape);
    std::vector<float> last;
    for (const auto logit : tape.logits().last(Model::vocab)) last.push_back(static_cast<float>(logit));
    change(sight, last);
    tokens.push_back(static_cast<token>(std::max_element(last.begin(), last.begin() + ids) - last.begin()));
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

  // Every text starts afresh; only the random numbers continue.
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
  // Eight tokens fit after the prompt, and the ninth need not be read.
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

TEMPLATE_TEST_CASE("a generator writes no more than the first ids, and what a callback leaves", "[generate]",
                   fathom::backend::reference<double>, fathom::backend::cpu<float>) {
  using net = fathom::model<config, TestType>;
  const auto weights = some_weights<net>();
  const std::vector<token> prompt = {1, 2, 3};
  const auto with = [&](const fathom::generation& options) {
    fathom::generator<net> writer(*weights, options);
    return written(writer, prompt, 40);
  };
  const auto unlimited = with({.temperature = 0});
  CHECK(*std::max_element(unlimited.begin(), unlimited.end()) >= 9);  // so that the limit is one
  const auto below = with({.temperature = 0, .ids = 9});
  CHECK(*std::max_element(below.begin(), below.end()) < 9);
  CHECK(below == by_forward_passes<net>(*weights, prompt, 40, [](auto, auto) {}, 9));
  for (const token t : with({.temperature = 5, .seed = 3, .ids = 2})) CHECK(t < 2);

  // No token in sight is repeated, and logits 7 and 8 are doubled.
  std::vector<std::size_t> sizes;
  const auto change = [&](std::span<const token> text, std::span<float> logits) {
    CHECK(logits.size() == 23);
    sizes.push_back(text.size());
    for (const token t : text) logits[static_cast<std::size_t>(t)] = -infinity;
    logits[7] *= 2;
    logits[8] *= 2;
  };
  const auto changed = with({.temperature = 0, .adjust = change});
  std::vector<std::size_t> expected_sizes = {3, 4, 5, 6, 7, 8, 9, 10, 11};
  while (expected_sizes.size() < 40) expected_sizes.push_back(expected_sizes.back() == 11 ? 6 : expected_sizes.back() + 1);  // slid
  CHECK(sizes == expected_sizes);
  CHECK(changed == by_forward_passes<net>(*weights, prompt, 40, change));
  CHECK(changed != unlimited);
  CHECK(with({.temperature = 0, .ids = 15, .adjust = change}) == by_forward_passes<net>(*weights, prompt, 40, change, 15));
  // A callback that changes nothing changes nothing.
  CHECK(with({.temperature = 0.9f, .top_k = 7, .seed = 2, .adjust = [](auto, auto) {}}) == with({.temperature = 0.9f, .top_k = 7, .seed = 2}));
  // One token is left.
  const auto only = [](std::span<const token>, std::span<float> logits) {
    std::fill(logits.begin(), logits.end(), -infinity);
    logits[11] = -1e30f;
  };
  CHECK(with({.temperature = 1e30f, .adjust = only}) == std::vector<token>(40, 11));

  CHECK(fails_with([&] { with({.ids = 11, .adjust = only}); }, "every logit is -inf"));
  for (const float bad : {not_a_number, infinity}) {
    const auto spoil = [&](std::span<const token> text, std::span<float> logits) {
      if (text.size() == 5) logits[4] = bad;
    };
    std::vector<token> tokens;
    fathom::generator<net> writer(*weights, {.temperature = 0, .adjust = spoil});
    CHECK(fails_with([&] { writer.write(prompt, 40, [&](token t) { tokens.push_back(t); }); }, "the logit of token 4 is"));
    CHECK(tokens == std::vector<token>(unlimited.begin(), unlimited.begin() + 2));
  }
  CHECK(fails_with([&] { with({.ids = 24}); }, "ids 24", "the 23 tokens of the vocabulary"));
  CHECK(fails_with([&] { with({.ids = -1}); }, "ids -1"));
  CHECK(fails_with([&] { with({.temperature = infinity}); }, "temperature inf"));
}

TEST_CASE("a generator is made of weights, of what owns them, and of packed ones", "[generate]") {
  using net = fathom::model<config, fathom::backend::reference<float>>;
  const auto weights = some_weights<net>();
  const auto text = [](auto&& writer) { return written(writer, {1, 2}, 20); };
  const auto expected = text(fathom::generator<net>(*weights, {.seed = 3}));
  CHECK(text(fathom::generator<net>(weights, {.seed = 3})) == expected);
  CHECK(text(fathom::generator<net>(some_weights<net>(), {.seed = 3})) == expected);
  auto packed = fathom::pack<float>(weights);
  const fathom::buffer memory(fathom::generator<net>::bytes);
  CHECK(text(fathom::generator<net>(*packed, memory.bytes(), {.seed = 3})) == expected);
  CHECK(text(fathom::generator<net>(std::move(packed), {.seed = 3})) == expected);
  fathom::owned<net::parameters> nothing;
  CHECK(fails_with([&] { return fathom::generator<net>(nothing), 0; }, "generator: a pointer to nothing"));
  CHECK(fails_with([&] { return fathom::generator<net>(std::move(packed)), 0; }, "generator: a pointer to nothing"));
  CHECK(fails_with([&] { static_cast<void>(fathom::pack<float>(nothing)); }, "pack: a pointer to nothing"));

  fathom::generator<net> writer(weights, {.temperature = 0});
  std::vector<token> listed;
  CHECK(writer.write({1, 2}, 20, [&](token t) { listed.push_back(t); }) == 20);
  CHECK(listed == written(writer, {1, 2}, 20));
}

// ---- Broken weights --------------------------------------------------------------------------------------------------

// Bits decide, not comparisons: NaN propagates through every product, table and packed form, and nothing is drawn.
TEMPLATE_TEST_CASE("a NaN in any tensor is a NaN in the loss, and nothing is written", "[generate]", fathom::backend::reference<float>,
                   fathom::backend::cpu<float>, fathom::backend::cpu<fathom::bf16>) {
  using net = fathom::model<config, TestType>;
  const std::vector<token> text = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  const fathom::batch batch{std::span(text).first(8), std::span(text).last(8), 1, 8};
  typename net::tape tape(1, 8, {1});
  const auto tensors_of = [](auto& weights) {
    std::vector<std::pair<std::string, float*>> tensors;
    net::visit([&](std::string_view name, fathom::initial, auto& tensor) { tensors.emplace_back(name, tensor.data()); }, weights);
    return tensors;
  };
  auto weights = some_weights<net>();
  net::forward(*weights, batch, tape);
  CHECK(std::isfinite(tape.loss()));
  const auto refuses = [&]<class P>(P) {
    fathom::generator<net, P> writer(*weights, {.threads = 1});
    const auto none = [](token) { FAIL("a token is drawn"); };
    return fails_with([&] { return writer.write(text, 1, none); }, "sampler: the logit of token ", "nan", "expected a finite number");
  };
  for (const auto& [name, numbers] : tensors_of(*weights))
    for (const std::uint32_t bits : {0x7fc00001u, 0xffc00001u, 0x7f800001u}) {
      INFO(name << ", " << std::hex << bits);
      const float before = numbers[0];
      numbers[0] = std::bit_cast<float>(bits);
      net::forward(*weights, batch, tape);
      CHECK(std::isnan(tape.loss()));
      CHECK(refuses(float()));
      CHECK(refuses(fathom::bf16()));
      CHECK(refuses(std::int8_t()));
      numbers[0] = before;
    }
}
