// Batches: random windows to train on, consecutive ones to validate on.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <fathom/data/batches.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace {

using fathom::token;
using fathom::data::consecutive;
using fathom::data::window_options;
using fathom::data::windows;

/// first, first + 1, ...: every token is its position.
std::vector<token> counting(token first, fathom::index count) {
  std::vector<token> tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

std::vector<token> vector(std::span<const token> tokens) { return {tokens.begin(), tokens.end()}; }

/// Row `sequence` of [sequences, tokens].
std::vector<token> row(std::span<const token> tokens, const fathom::batch& batch, fathom::index sequence) {
  return vector(
      tokens.subspan(static_cast<std::size_t>(sequence * batch.tokens), static_cast<std::size_t>(batch.tokens)));
}

/// The starts of a batch's windows, in tokens that count from 0.
std::vector<token> starts(const fathom::batch& batch) {
  std::vector<token> first;
  for (fathom::index s = 0; s < batch.sequences; ++s) first.push_back(row(batch.inputs, batch, s)[0]);
  return first;
}

}  // namespace

TEST_CASE("batches yields windows and their targets", "[data]") {
  const auto tokens = counting(0, 50);
  fathom::index steps = 0;
  for (const auto& batch : fathom::data::batches(tokens, {.batch = 3, .tokens = 7, .steps = 20, .seed = 1})) {
    CHECK(batch.sequences == 3);
    CHECK(batch.tokens == 7);
    REQUIRE(batch.inputs.size() == 21);
    REQUIRE(batch.targets.size() == 21);
    for (fathom::index s = 0; s < 3; ++s) {
      const auto inputs = row(batch.inputs, batch, s);
      CHECK(inputs == counting(inputs[0], 7));
      CHECK(row(batch.targets, batch, s) == counting(inputs[0] + 1, 7));
      CHECK(inputs[0] >= 0);
      CHECK(row(batch.targets, batch, s).back() < 50);
    }
    ++steps;
  }
  CHECK(steps == 20);
}

TEST_CASE("windows begin at the same places on every machine", "[data]") {
  // Computed by an independent implementation of Philox, in Python.
  const auto tokens = counting(0, 1000);
  windows w(tokens, {.batch = 4, .tokens = 16, .steps = 10, .seed = 7});
  CHECK(starts(w.at(0)) == std::vector<token>{817, 134, 96, 111});
  CHECK(starts(w.at(3)) == std::vector<token>{310, 118, 844, 744});
  windows other(tokens, {.batch = 4, .tokens = 16, .steps = 10, .seed = 8});
  CHECK(starts(other.at(0)) == std::vector<token>{272, 242, 730, 844});
}

TEST_CASE("a step has the same windows however one comes to it", "[data]") {
  const auto tokens = counting(0, 1000);
  const window_options options{.batch = 4, .tokens = 10, .steps = 30, .seed = 5};
  std::vector<std::vector<token>> expected;
  for (const auto& batch : fathom::data::batches(tokens, options)) expected.push_back(vector(batch.inputs));
  REQUIRE(expected.size() == 30);
  CHECK(std::set(expected.begin(), expected.end()).size() == 30);  // and every step others

  SECTION("going on later") {
    auto later = options;
    later.first_step = 17;
    std::size_t step = 17;
    for (const auto& batch : fathom::data::batches(tokens, later)) CHECK(vector(batch.inputs) == expected[step++]);
    CHECK(step == 30);
  }
  SECTION("asking in any order") {
    windows w(tokens, options);
    for (const std::size_t step : {29u, 0u, 13u, 13u, 1u})
      CHECK(vector(w.at(static_cast<fathom::index>(step)).inputs) == expected[step]);
  }
  SECTION("with fewer windows a step") {
    auto fewer = options;
    fewer.batch = 2;
    windows w(tokens, fewer);
    for (std::size_t step = 0; step < 30; ++step)
      CHECK(vector(w.at(static_cast<fathom::index>(step)).inputs) ==
            std::vector(expected[step].begin(), expected[step].begin() + 20));
  }
  SECTION("nothing is left to do") {
    for (const fathom::index first_step : {30, 31}) {
      auto done = options;
      done.first_step = first_step;
      for ([[maybe_unused]] const auto& batch : fathom::data::batches(tokens, done)) FAIL("a step too many");
    }
  }
  SECTION("the memory of a batch is that of the one before") {
    windows w(tokens, options);
    const token *inputs = w.at(0).inputs.data(), *targets = w.at(0).targets.data();
    CHECK(w.at(1).inputs.data() == inputs);
    CHECK(w.at(1).targets.data() == targets);
  }
}

TEST_CASE("windows begin anywhere, equally often", "[data]") {
  const auto tokens = counting(0, 10);
  std::map<token, int> count;
  windows w(tokens, {.batch = 60, .tokens = 4, .seed = 2});
  for (fathom::index step = 0; step < 100; ++step)
    for (const token start : starts(w.at(step))) ++count[start];
  // 6 places, 1000 each expected; five standard deviations are 144.
  CHECK(count.size() == 6);
  CHECK(count.begin()->first == 0);
  CHECK(count.rbegin()->first == 5);
  for (const auto& [start, times] : count) CHECK(std::abs(times - 1000) < 144);

  SECTION("also when there is only one place") {
    windows one(tokens, {.batch = 2, .tokens = 9, .steps = 1});
    CHECK(starts(one.at(0)) == std::vector<token>{0, 0});
    CHECK(one.at(0).targets.back() == 9);
  }
}

TEST_CASE("batches says what is wrong", "[data]") {
  const auto tokens = counting(0, 10);
  const auto make = [&](const window_options& options) {
    return [&] { return fathom::data::batches(tokens, options); };
  };
  CHECK(fails_with(make({.batch = 1, .tokens = 10, .steps = 1}), "10 tokens", "windows of 10"));
  CHECK(fails_with(make({.batch = 1, .steps = 1}), "tokens = 0"));
  CHECK(fails_with(make({.batch = 0, .tokens = 4, .steps = 1}), "batch = 0"));
  CHECK(fails_with(make({.batch = 1, .tokens = 4, .steps = -1}), "steps = -1"));
  CHECK(fails_with(make({.batch = 1, .tokens = 4, .steps = 1, .first_step = -2}), "first_step = -2"));
  CHECK(fails_with([] { return windows({}, {.batch = 1, .tokens = 4, .steps = 1}); }, "0 tokens"));
}

TEST_CASE("consecutive batches cover a run once", "[data]") {
  for (fathom::index n = 2; n <= 30; ++n)
    for (const fathom::index length : {1, 2, 3, 7, 29, 30, 100})
      for (const fathom::index batch : {1, 2, 3, 100}) {
        INFO(n << " tokens in windows of " << length << ", " << batch << " at a time");
        const auto tokens = counting(100, n);
        consecutive run(tokens, batch, length);
        std::vector<token> inputs, targets;
        fathom::index batches = 0, counted = 0, largest = 0;
        bool well_formed = true;
        for (const auto& b : run) {
          well_formed &= b.tokens == length && b.sequences >= 1 && b.sequences <= batch;
          well_formed &= std::ssize(b.inputs) == b.sequences * length && b.targets.size() == b.inputs.size();
          inputs.insert(inputs.end(), b.inputs.begin(), b.inputs.end());
          targets.insert(targets.end(), b.targets.begin(), b.targets.end());
          counted += b.counted();
          largest = std::max(largest, b.sequences);
          ++batches;
        }
        CHECK(well_formed);
        CHECK(batches == run.size());
        CHECK(counted == n - 1);

        // The windows in order are the tokens, followed by less than a window of padding.
        const auto padding = std::ssize(inputs) - (n - 1);
        CHECK(padding >= 0);
        CHECK(padding < length);
        auto expected_inputs = counting(100, n - 1), expected_targets = counting(101, n - 1);
        expected_inputs.resize(inputs.size(), 0);
        expected_targets.resize(targets.size(), -1);
        CHECK(inputs == expected_inputs);
        CHECK(targets == expected_targets);
        CHECK((batches == 1 || largest == batch));  // only the last batch has fewer
      }
}

TEST_CASE("consecutive batches can be asked for again, and in any order", "[data]") {
  const auto tokens = counting(0, 12);
  consecutive run(tokens, 2, 3);  // windows at 0, 3; 6, 9
  REQUIRE(run.size() == 2);
  CHECK(vector(run.at(1).inputs) == std::vector<token>{6, 7, 8, 9, 10, 0});
  CHECK(vector(run.at(1).targets) == std::vector<token>{7, 8, 9, 10, 11, -1});
  CHECK(vector(run.at(0).inputs) == std::vector<token>{0, 1, 2, 3, 4, 5});
  CHECK(vector(run.at(0).targets) == std::vector<token>{1, 2, 3, 4, 5, 6});

  CHECK(fails_with([&] { return run.at(2); }, "batch 2", "0 to 1"));
  CHECK(fails_with([&] { return run.at(-1); }, "batch -1"));
  CHECK(fails_with([&] { return consecutive(std::span(tokens).first(1), 2, 3); }, "1 tokens", "at least 2"));
  CHECK(fails_with([&] { return consecutive({}, 2, 3); }, "0 tokens"));
  CHECK(fails_with([&] { return consecutive(tokens, 0, 3); }, "batch = 0"));
  CHECK(fails_with([&] { return consecutive(tokens, 2, 0); }, "length = 0"));
}

TEST_CASE("windows of nobody's tokens do not compile, and sizes that no memory has are an error", "[data]") {
  // Temporary owners of tokens would be destroyed before the first batch.
  using tokens = std::vector<token>;
  const auto has_batches = []<class T>(std::type_identity<T>) {
    return requires(T source) { fathom::data::batches(std::forward<T>(source), window_options{}); };
  };
  const auto takes = [&]<class T>(std::type_identity<T> type) {
    constexpr bool a = std::is_constructible_v<windows, T, window_options>;
    constexpr bool b = std::is_constructible_v<consecutive, T, fathom::index, fathom::index>;
    CHECK(a == b);
    CHECK(a == has_batches(type));
    return a;
  };
  CHECK_FALSE(takes(std::type_identity<tokens>()));
  CHECK_FALSE(takes(std::type_identity<const tokens>()));
  CHECK_FALSE(takes(std::type_identity<std::array<token, 20>>()));
  CHECK_FALSE(takes(std::type_identity<std::initializer_list<token>>()));
  CHECK(takes(std::type_identity<tokens&>()));
  CHECK(takes(std::type_identity<const tokens&>()));
  CHECK(takes(std::type_identity<const std::array<token, 20>&>()));
  CHECK(takes(std::type_identity<const token(&)[20]>()));
  CHECK(takes(std::type_identity<std::span<token>>()));
  CHECK(takes(std::type_identity<std::span<const token>>()));
  CHECK(takes(std::type_identity<const std::span<const token>&>()));
  // Nor iterators of destroyed batches.
  const auto has_begin = []<class T>(std::type_identity<T>) {
    return requires { std::declval<T>().begin(); };
  };
  CHECK(has_begin(std::type_identity<windows&>()));
  CHECK(has_begin(std::type_identity<consecutive&>()));
  CHECK_FALSE(has_begin(std::type_identity<windows>()));
  CHECK_FALSE(has_begin(std::type_identity<consecutive>()));

  const auto run = counting(0, 20);
  constexpr auto most = std::numeric_limits<fathom::index>::max();
  CHECK(fails_with([&] { return windows(run, {.batch = most, .tokens = 2}); }, "windows of 2 tokens", "no more than"));
  CHECK(fails_with([&] { return windows(run, {.batch = most / 8, .tokens = 19}); }, "windows of 19 tokens"));
  CHECK(fails_with([&] { return consecutive(run, 1, most); }, "1 windows of"));
  CHECK(fails_with([&] { return consecutive(run, most, most); }, "1 windows of"));
  consecutive all(run, most, 5);
  CHECK(all.size() == 1);
  CHECK(all.at(0).sequences == 4);
}
