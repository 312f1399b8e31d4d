// The n-gram baseline: against numbers worked out by hand, and known figures for a known text.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/ngram.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace {

using fathom::token;
using fathom::data::ngram;

constexpr token a = 0, b = 1, c = 2, d = 3;

/// The sum of the probabilities of all tokens; fails if one of them is not positive.
double total_probability(const ngram& model, const std::vector<token>& context, fathom::index vocab) {
  double sum = 0;
  for (token next = 0; next < vocab; ++next) {
    const double p = model.probability(context, next);
    REQUIRE(p > 0);
    sum += p;
  }
  return sum;
}

/// By definition: counts by searching the training text. Slow.
double by_definition(std::span<const token> train, std::span<const token> context, token next, double vocab) {
  double followers = 0, occurrences = 0;
  std::set<token> different;
  for (std::size_t i = context.size(); i < train.size(); ++i) {
    if (!std::equal(context.begin(), context.end(), train.begin() + static_cast<std::ptrdiff_t>(i - context.size())))
      continue;
    ++followers;
    occurrences += train[i] == next;
    different.insert(train[i]);
  }
  const double shorter = context.empty() ? 1 / vocab : by_definition(train, context.subspan(1), next, vocab);
  if (followers == 0) return shorter;
  const double t = static_cast<double>(different.size());
  return (occurrences + t * shorter) / (followers + t);
}

}  // namespace

TEST_CASE("ngram computes what one computes by hand", "[data]") {
  const std::vector<token> train{a, b, a, b, c};
  const ngram unigram(train, {.order = 1, .vocab = 4}), bigram(train, {.order = 2, .vocab = 4}),
      trigram(train, {.order = 3, .vocab = 4});

  // 5 tokens, 3 different ones, above 1/4 each: (count + 3/4) / 8.
  CHECK(unigram.probability({}, a) == Approx(2.75 / 8));
  CHECK(unigram.probability({}, b) == Approx(2.75 / 8));
  CHECK(unigram.probability({}, c) == Approx(1.75 / 8));
  CHECK(unigram.probability({}, d) == Approx(0.75 / 8));

  // After a: b twice. After b: a and c, once each. After c, the end of the text: nothing. d never occurs.
  CHECK(bigram.probability(std::vector{a}, b) == Approx((2 + 2.75 / 8) / 3));
  CHECK(bigram.probability(std::vector{a}, a) == Approx((0 + 2.75 / 8) / 3));
  CHECK(bigram.probability(std::vector{b}, c) == Approx((1 + 2 * 1.75 / 8) / 4));
  CHECK(bigram.probability(std::vector{b}, d) == Approx((0 + 2 * 0.75 / 8) / 4));
  CHECK(bigram.probability(std::vector{c}, a) == Approx(2.75 / 8));
  CHECK(bigram.probability(std::vector{d}, a) == Approx(2.75 / 8));

  // After ab: a and c, once each. After ba: b, once.
  CHECK(trigram.probability(std::vector{a, b}, c) == Approx((1 + 2 * (1 + 2 * 1.75 / 8) / 4) / 4));
  CHECK(trigram.probability(std::vector{b, a}, b) == Approx((1 + (2 + 2.75 / 8) / 3) / 2));
  CHECK(trigram.probability(std::vector{b, c}, a) == Approx(2.75 / 8));
  CHECK(trigram.probability(std::vector{d, b}, c) == Approx((1 + 2 * 1.75 / 8) / 4));
  CHECK(trigram.probability(std::vector{c, d, a, b}, c) == trigram.probability(std::vector{a, b}, c));
  CHECK(trigram.probability(std::vector{b}, c) == Approx((1 + 2 * 1.75 / 8) / 4));

  // The first token of a text has no context, the second one token of it.
  const double p[] = {2.75 / 8, (1 + 2 * 2.75 / 8) / 4, (1 + (2 + 2.75 / 8) / 3) / 2, (0 + 2 * (2 * 0.75 / 8) / 4) / 4};
  CHECK(trigram.nll(std::vector{b, a, b, d}) ==
        Approx(-(std::log(p[0]) + std::log(p[1]) + std::log(p[2]) + std::log(p[3])) / 4));
  CHECK(trigram.nll(std::vector{d}) == Approx(-std::log(0.75 / 8)));
}

TEST_CASE("ngram computes its definition", "[data]") {
  // Texts of random words, long enough that the table of n-grams grows while they are counted.
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    fathom::random random(seed, 1);
    std::vector<token> train;
    while (train.size() < 400 + 40 * seed) {
      const token word = static_cast<token>(random.below(40));
      for (const token letter : {word % 7, word % 5 + 5, word % 3 + 8, 19}) train.push_back(letter);
      if (random.uniform() < 0.2) train.push_back(static_cast<token>(random.below(20)));
    }
    const std::size_t order = 2 + seed;
    const ngram model(train, {.order = static_cast<fathom::index>(order), .vocab = 20});
    double expected = 0;
    for (std::size_t i = 0; i < train.size(); ++i) {
      const std::size_t past = std::min(i, order - 1);
      expected -= std::log(by_definition(train, std::span(train).subspan(i - past, past), train[i], 20));
    }
    CHECK(model.nll(train) == Approx(expected / static_cast<double>(train.size())).epsilon(1e-12));
  }
}

TEST_CASE("the probabilities of an ngram sum to one", "[data]") {
  fathom::random random(1, 0);
  std::vector<token> train(3000);
  // A text with structure, so that contexts of every length repeat.
  for (std::size_t i = 0; i < train.size(); ++i)
    train[i] =
        i > 2 && random.uniform() < 0.8 ? (train[i - 1] + 2 * train[i - 2]) % 11 : static_cast<token>(random.below(11));
  for (const fathom::index order : {1, 2, 3, 5, 8}) {
    const ngram model(train, {.order = order, .vocab = 13});  // two tokens never occur
    CHECK(total_probability(model, {}, 13) == Approx(1).epsilon(1e-12));
    for (const std::size_t length : {1u, 2u, 4u, 7u, 20u}) {
      const std::vector<token> seen(train.end() - 10 - static_cast<std::ptrdiff_t>(length), train.end() - 10);
      CHECK(total_probability(model, seen, 13) == Approx(1).epsilon(1e-12));
      const std::vector<token> at_the_end(train.end() - static_cast<std::ptrdiff_t>(length), train.end());
      CHECK(total_probability(model, at_the_end, 13) == Approx(1).epsilon(1e-12));
      std::vector<token> unseen = seen;
      unseen[length / 2] = 12;
      CHECK(total_probability(model, unseen, 13) == Approx(1).epsilon(1e-12));
    }
  }
}

TEST_CASE("an ngram with a large vocabulary keeps its tokens apart", "[data]") {
  // A cycle through all tokens: each is followed by the next, and only a table that confuses some would err.
  constexpr token vocab = 65536;
  std::vector<token> train;
  for (int round = 0; round < 2; ++round)
    for (token t = 0; t < vocab; ++t) train.push_back(t);
  const ngram model(train, {.order = 2, .vocab = vocab});
  const double unigram = 1.0 / vocab;  // all tokens are equally frequent
  int wrong = 0;
  for (token t = 1; t < vocab - 1; ++t) {
    wrong += model.probability(std::vector{t}, t + 1) != Approx((2 + unigram) / 3);
    wrong += model.probability(std::vector{t}, t - 1) != Approx(unigram / 3);
  }
  CHECK(wrong == 0);
  CHECK(model.probability(std::vector{vocab - 1}, 0) == Approx((1 + unigram) / 2));
}

TEST_CASE("ngram says what is wrong", "[data]") {
  const std::vector<token> train{0, 1, 2};
  CHECK(fails_with([&] { return ngram(train, {.order = 0}); }, "order = 0", "1 to 8"));
  CHECK(fails_with([&] { return ngram(train, {.order = 9}); }, "order = 9"));
  CHECK(fails_with([&] { return ngram(train, {.vocab = 0}); }, "vocabulary of 0"));
  CHECK(fails_with([&] { return ngram({}, {}); }, "0 tokens to train on"));
  CHECK(fails_with([&] { return ngram(train, {.vocab = 2}); }, "training", "token 2 at position 2"));
  const ngram model(train, {.vocab = 3});
  CHECK(fails_with([&] { return model.nll({}); }, "no tokens"));
  CHECK(fails_with([&] { return model.nll(std::vector<token>{0, 3}); }, "token 3 at position 1"));
  CHECK(fails_with([&] { return model.probability(std::vector<token>{-1}, 0); }, "token -1"));
  CHECK(fails_with([&] { return model.probability({}, 3); }, "token 3"));
}

TEST_CASE("ngram meets the known figures for the King James text", "[data]") {
  // The text of the Debian package bible-kjv.
  std::FILE* const text = ::popen("bible -f gen1:1-rev22:21 2>/dev/null | cut -d' ' -f2-", "r");
  REQUIRE(text != nullptr);
  std::vector<token> tokens;
  for (int byte; (byte = std::fgetc(text)) != EOF;) tokens.push_back(byte);
  ::pclose(text);
  if (tokens.size() != 4137850) {
    WARN("the package bible-kjv is not installed, or its text is another one: nothing to compare");
    return;
  }
  const auto train = std::span(tokens).first(3724065), validation = std::span(tokens).subspan(3724065);
  const struct {
    fathom::index order;
    double first, all;  // nats per byte: of the first 200,000 bytes of the last tenth, and of the whole of it
  } expected[] = {{1, 3.0379, 3.0238}, {3, 1.8770, 1.8595}, {5, 1.3586, 1.3443}};  // by an implementation in Python
  for (const auto& e : expected) {
    const ngram model(train, {.order = e.order, .vocab = 256});
    CHECK(model.nll(validation.first(200000)) == Approx(e.first).margin(1e-4));
    CHECK(model.nll(validation) == Approx(e.all).margin(1e-4));
  }
}
