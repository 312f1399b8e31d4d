// Many sequences at once write what a generator writes of each by itself, whoever joins and leaves.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/generate/batch_generator.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/model/model.hpp>

#include "caching.hpp"
#include "catch.hpp"
#include "fails_with.hpp"

namespace fathom::test {
namespace {

constexpr config learned_positions{.vocab = caching_vocab, .context = 300, .width = 16, .depth = 3, .heads = 2, .shortcut = {.depths = {0, 2}}};

template <class Model, class Weights, class Cached>
struct kind {
  using model = Model;
  using P = Weights;
  using T = Cached;
};
template <class Architecture>
using on_cpu = transformer<Architecture, backend::cpu<float>>;

using texts = std::map<index, std::vector<token>>;  // what each sequence has written

template <class Batch>
void step(Batch& batch, texts& written) {
  for (const auto& [id, next, end] : batch.step()) written[id].push_back(next);
}
/// What a generator writes of a sequence by itself.
template <class K>
std::vector<token> alone(const owned<typename K::model::parameters>& weights, const std::vector<token>& prompt, index count, std::uint64_t seed) {
  generator<typename K::model, typename K::P, typename K::T> writer(
      weights, {.temperature = 0.8f, .top_k = 9, .seed = seed, .overflow = overflow::fails, .threads = 1});
  std::vector<token> text;
  writer.write(prompt, count, [&](token t) { text.push_back(t); });
  return text;
}

}  // namespace

TEMPLATE_TEST_CASE("sequences write what each writes by itself", "[batch]", (kind<on_cpu<pattern>, float, float>),
                   (kind<on_cpu<looking_back>, float, std::int8_t>), (kind<on_cpu<local>, int4, bf16>),
                   (kind<transformer<pattern, backend::cpu<bf16>>, bf16, bf16>), (kind<model<learned_positions>, std::int8_t, float>),
                   (kind<transformer<looking_back, backend::reference<double>>, double, double>)) {
  using net = typename TestType::model;
  const auto weights = some_weights<net>();
  // Prompts of many lengths, some of them of several blocks, and texts that windows leave behind.
  struct wanted {
    std::size_t prompt;
    index count;
  };
  constexpr index most = net::context;
  const std::vector<wanted> all{{3, 150}, {std::size_t{most} - 40, 41}, {1, 20}, {270, 25}, {40, 1}, {5, 180}, {256, 9}, {64, 60}, {7, 33}};
  const auto options = [](std::size_t i, index count) {
    return continuation{.temperature = 0.8f, .top_k = 9, .seed = i, .count = count, .stops = {}, .adjust = {}};
  };
  std::vector<std::vector<token>> prompts, expected;
  for (std::size_t i = 0; i < all.size(); ++i) {
    prompts.push_back(caching_tokens(all[i].prompt, i + 1));
    expected.push_back(alone<TestType>(weights, prompts[i], all[i].count, i));
  }
  for (const int threads : {1, 2}) {
    batch_generator<net, typename TestType::P, typename TestType::T> batch(weights, {.sequences = 4, .threads = threads});
    texts written;
    std::vector<index> ids;
    // One joins whenever there is room, but not in every step; one more joins and leaves early.
    std::optional<index> short_lived;
    for (int n = 0; ids.size() < all.size() || batch.size() > 0; ++n) {
      if (n == 2) {
        short_lived = batch.join(caching_tokens(100, 50));
        REQUIRE(short_lived);
      } else if (n == 9) {
        batch.leave(*short_lived);
      } else if (n % 3 == 0 && ids.size() < all.size()) {
        if (const auto id = batch.join(prompts[ids.size()], options(ids.size(), all[ids.size()].count))) ids.push_back(*id);
      }
      step(batch, written);
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(threads, i);
      CHECK(written[ids[i]] == expected[i]);
    }
    CHECK(written[*short_lived].size() == 7);
    CHECK(batch.room() == 4);
  }
}

TEMPLATE_TEST_CASE("sequences share the beginning of their prompts", "[batch]", (kind<on_cpu<looking_back>, float, std::int8_t>),
                   (kind<on_cpu<pattern>, float, bf16>), (kind<model<learned_positions>, std::int8_t, float>)) {
  using net = typename TestType::model;
  const auto weights = some_weights<net>();
  const auto prefix = caching_tokens(210, 1);
  std::vector<std::vector<token>> rests, expected;
  for (std::size_t i = 0; i < 5; ++i) {
    rests.push_back(caching_tokens(3 + 5 * i, 10 + i));
    auto prompt = prefix;
    prompt.insert(prompt.end(), rests[i].begin(), rests[i].end());
    expected.push_back(alone<TestType>(weights, prompt, 40, i));
  }
  batch_generator<net, typename TestType::P, typename TestType::T> batch(weights, {.sequences = 5, .prefixes = 1, .threads = 2});
  // A prefix is not changed by those that go on from it, nor by its place having been another's.
  const auto other = batch.hold(caching_tokens(250, 9));
  REQUIRE(other);
  CHECK(!batch.hold(prefix));
  batch.release(*other);
  const auto held = batch.hold(prefix);
  REQUIRE(held);
  texts written;
  std::vector<index> ids;
  for (std::size_t i = 0; i < 5; ++i) {
    const auto id = batch.join_after(*held, rests[i], {.temperature = 0.8f, .top_k = 9, .seed = i, .count = 40, .stops = {}, .adjust = {}});
    REQUIRE(id);
    ids.push_back(*id);
    CHECK(batch.text(*id).size() == prefix.size() + rests[i].size());
    if (i < 3)
      for (int n = 0; n < 4; ++n) step(batch, written);
  }
  batch.release(*held);  // two of them have read nothing yet
  while (batch.size() > 0) step(batch, written);
  for (std::size_t i = 0; i < 5; ++i) {
    CAPTURE(i);
    CHECK(written[ids[i]] == expected[i]);
  }
}

TEST_CASE("why sequences end", "[batch]") {
  using net = on_cpu<local>;
  const auto weights = some_weights<net>();
  batch_generator<net> batch(weights, {.sequences = 3, .capacity = 50});
  const auto greedy = [](index count) { return continuation{.temperature = 0, .count = count, .stops = {}, .adjust = {}}; };
  const auto run = [&](index id) {
    std::vector<written_token> all;
    while (batch.size() > 0)
      for (const auto& w : batch.step())
        if (w.id == id) all.push_back(w);
    for (std::size_t i = 0; i + 1 < all.size(); ++i) CHECK(all[i].end == ending::none);
    return all;
  };
  const auto counted = run(*batch.join({1, 2, 3}, greedy(12)));
  REQUIRE(counted.size() == 12);
  CHECK(counted.back().end == ending::count);

  const auto full = run(*batch.join({1, 2, 3}, greedy(0)));
  REQUIRE(full.size() == 48);  // the last one is written, but not read
  CHECK(full.back().end == ending::full);

  const std::vector<token> stops{full[7].next, 22};
  auto until = greedy(0);
  until.stops = stops;
  const auto stopped = run(*batch.join({1, 2, 3}, until));
  const auto first = std::find_if(full.begin(), full.end(), [&](const auto& w) { return w.next == stops[0] || w.next == stops[1]; });
  REQUIRE(stopped.size() == static_cast<std::size_t>(first - full.begin()) + 1);
  CHECK(stopped.back().end == ending::stop);

  // A sequence that fails ends; the others go on.
  auto adjusted = greedy(0);
  adjusted.adjust = [](std::span<const token> text, std::span<float> logits) {
    if (text.size() == 6) throw std::runtime_error("no further");
    for (float& x : logits) x = -std::numeric_limits<float>::infinity();
    logits[4] = 0;
  };
  const auto fails = batch.join({1, 2, 3}, adjusted), goes_on = batch.join({1, 2, 3}, greedy(12));
  REQUIRE(fails);
  texts written;
  for (int n = 0; n < 3; ++n) step(batch, written);
  CHECK(written[*fails] == std::vector<token>(3, 4));
  CHECK_THROWS_AS(batch.step(), std::runtime_error);
  REQUIRE(batch.written().size() == 1);
  CHECK(batch.written()[0].id == *goes_on);
  written[*goes_on].push_back(batch.written()[0].next);
  CHECK(batch.size() == 1);
  while (batch.size() > 0) step(batch, written);
  REQUIRE(written[*goes_on].size() == 12);
  for (std::size_t i = 0; i < 12; ++i) CHECK(written[*goes_on][i] == counted[i].next);
}

TEST_CASE("what a batch_generator refuses", "[batch]") {
  using net = on_cpu<local>;
  const auto weights = some_weights<net>();
  using batch_type = batch_generator<net>;
  CHECK(fails_with([&] { return batch_type(weights, {.sequences = 0}).size(); }, "batch_generator", "0 sequences"));
  CHECK(fails_with([&] { return batch_type(weights, {.capacity = 801}).size(); }, "batch_generator", "801", "800"));
  batch_type batch(weights, {.sequences = 1, .capacity = 20, .prefixes = 1});
  CHECK(fails_with([&] { return batch.join(std::span<const token>()); }, "batch_generator.join", "empty"));
  CHECK(fails_with([&] { return batch.join(caching_tokens(21, 1)); }, "batch_generator.join", "21", "20"));
  CHECK(fails_with([&] { return batch.join({1, 23}); }, "prompt", "23"));
  CHECK(fails_with([&] { return batch.join({1}, {.temperature = -1}); }, "temperature"));
  CHECK(fails_with([&] { return batch.join({1}, {.count = -1}); }, "-1 tokens"));
  CHECK(fails_with([&] { return batch.join({1}, {.stops = caching_tokens(9, 1)}); }, "9 stop tokens", "8"));
  CHECK(fails_with([&] { return batch.hold(caching_tokens(20, 1)); }, "batch_generator.hold", "20", "19"));
  CHECK(fails_with([&] { return batch.join_after(0, {1}); }, "batch_generator.join_after", "no prefix 0"));
  CHECK(fails_with([&] { return batch.release(-1), 0; }, "batch_generator.release", "no prefix -1"));
  CHECK(fails_with([&] { return batch.leave(0), 0; }, "batch_generator.leave", "no sequence 0"));
  CHECK(batch.size() == 0);
  const auto held = batch.hold(caching_tokens(15, 1));
  REQUIRE(held);
  CHECK(fails_with([&] { return batch.join_after(*held, caching_tokens(6, 1)); }, "21", "20"));
  const auto id = batch.join({1, 2});
  REQUIRE(id);
  CHECK(!batch.join({1, 2}));
  CHECK(!batch.join_after(*held, {1}));
  CHECK(batch.step().size() == 1);
  CHECK(batch.text(*id).size() == 3);
  batch.leave(*id);
  CHECK(fails_with([&] { return batch.text(*id); }, "batch_generator.text", "no sequence"));
  CHECK(batch.step().empty());
  CHECK(batch.join_after(*held, {1}));
}

TEST_CASE("a copied sequence of a cache", "[batch]") {
  using net = on_cpu<pattern>;
  const auto weights = some_weights<net>();
  const auto ready = pack<float>(*weights);
  const auto text = caching_tokens(600, 1);
  net::cache cache(3);
  net::prefill(*ready, std::span(text).first(550), cache, 2);
  cache.truncate(520, 2);
  net::prefill(*ready, std::span(text).first(30), cache, 0);
  cache.copy(2, 0);
  CHECK(cache.length(0) == 520);
  CHECK(cache.least_length(0) == cache.least_length(2));
  const auto logits = net::prefill(*ready, std::span(text).subspan(520), cache, 2);
  const std::vector<float> expected(logits.begin(), logits.end());
  const auto found = net::prefill(*ready, std::span(text).subspan(520), cache, 0);
  CHECK(std::equal(found.begin(), found.end(), expected.begin()));
  CHECK(fails_with([&] { return cache.copy(0, 3), 0; }, "cache", "sequence 3"));
  // The first sequences alone: the others stay as they are.
  net::decode_first(*ready, std::vector<token>{1}, cache);
  CHECK(cache.length(0) == 601);
  CHECK(cache.length(1) == 0);
  CHECK(cache.length(2) == 600);
  CHECK(fails_with([&] { return net::decode_first(*ready, std::vector<token>(4, 1), cache); }, "decode_first", "4 tokens"));
  CHECK(fails_with([&] { return net::decode_first(*ready, std::span<const token>(), cache); }, "decode_first", "0 tokens"));
}

}  // namespace fathom::test
