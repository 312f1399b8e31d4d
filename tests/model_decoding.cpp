// Decoding: prefill and decode must give the logits of a forward pass over the whole sequence, whatever was read, truncated
// or refused before, and for every packed form of the weights.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace fathom::test {
namespace {

constexpr index vocab = 31, context = 80;
constexpr config small{.vocab = vocab, .context = context, .width = 20, .depth = 3, .heads = 2, .hidden = 24};
constexpr config with(config c, shortcut s, bool tied = true) {
  c.shortcut = s;
  c.tied = tied;
  return c;
}
struct gpt_kind {
  static constexpr config c = small;
};
struct after_kind {
  static constexpr config c = with(small, {.depths = {0, 2}, .hidden = 9}, false);
};
struct replace_kind {
  static constexpr config c =
      with(small, {.depths = {1}, .features = feature_map::linear, .placement = placement::replace_self_attention});
};
struct joint_kind {
  static constexpr config c =
      with(small, {.depths = all_depths, .features = feature_map::identity, .placement = placement::joint});
};
/// One block, which only attends to the embedding.
struct one_block {
  static constexpr config c{.vocab = vocab,
                            .context = context,
                            .width = 20,
                            .depth = 1,
                            .heads = 4,
                            .shortcut = {.depths = {0}, .placement = placement::replace_self_attention}};
};

std::vector<token> some_tokens(std::size_t count, std::uint64_t seed) {
  random numbers(seed, stream_of("tokens"));
  std::vector<token> tokens(count);
  for (token& t : tokens) t = static_cast<token>(numbers.below(vocab));
  return tokens;
}

template <class Model>
owned<typename Model::parameters> some_weights() {
  auto weights = make<typename Model::parameters>();
  Model::visit(
      [&](std::string_view name, initial start, auto& tensor) {
        random numbers(5, stream_of(name));
        for (auto& w : tensor.span())
          w = static_cast<typename Model::scalar>((start == initial::one ? 1 : 0) + 0.2 * numbers.normal());
      },
      *weights);
  return weights;
}

/// The logits of a forward pass over sequences, for comparison.
template <class Model>
class forward_pass {
 public:
  using T = typename Model::scalar;

  /// `rounding`: the additional permitted error of decoding, as a fraction of the largest logit.
  forward_pass(const typename Model::parameters& weights, std::vector<std::vector<token>> sequences, double rounding = 0)
      : sequences_(std::move(sequences)), rounding_(rounding) {
    for (const auto& tokens : sequences_) {
      typename Model::tape tape(1);
      Model::forward(weights, {tokens, {}, 1, std::ssize(tokens)}, tape);
      logits_.emplace_back(tape.logits().begin(), tape.logits().end());
      for (const T logit : logits_.back()) largest_ = std::max(largest_, std::abs(static_cast<double>(logit)));
    }
  }
  [[nodiscard]] std::span<const token> tokens(std::size_t sequence) const { return sequences_[sequence]; }

  /// Checks the logits that follow a sequence's token at `position`. They differ from the forward pass by a dozen
  /// products with sums in another order: each adds about sqrt(width) eps.
  void check(std::size_t sequence, std::size_t position, std::span<const T> found) const {
    REQUIRE(found.size() == vocab);
    double difference = 0;
    for (std::size_t v = 0; v < vocab; ++v)
      if (const double d = std::abs(static_cast<double>(found[v] - logits_[sequence][position * vocab + v])); !(d <= difference))
        difference = d;  // NaN is the largest
    INFO("sequence " << sequence << ", position " << position << ": logits differ by " << difference << ", the largest is "
                     << largest_);
    CHECK(difference <= (200 * static_cast<double>(std::numeric_limits<T>::epsilon()) + rounding_) * largest_);
  }

 private:
  std::vector<std::vector<token>> sequences_;
  std::vector<std::vector<T>> logits_;
  double largest_ = 0, rounding_;
};

/// decode for every sequence: the token at each one's `positions`, whose logits are then checked.
template <class Model, class Weights>
void decode_and_check(const Weights& weights, const forward_pass<Model>& expected, std::span<const std::size_t> positions,
                      typename Model::cache& cache) {
  std::vector<token> next;
  for (std::size_t s = 0; s < positions.size(); ++s) next.push_back(expected.tokens(s)[positions[s]]);
  const auto logits = Model::decode(weights, next, cache);
  REQUIRE(logits.size() == positions.size() * vocab);
  for (std::size_t s = 0; s < positions.size(); ++s) {
    expected.check(s, positions[s], logits.subspan(s * vocab, vocab));
    CHECK(cache.length(static_cast<index>(s)) == static_cast<index>(positions[s]) + 1);
  }
}

template <class Model>
void check_decoding() {
  using T = typename Model::scalar;
  const auto weights = some_weights<Model>();
  const auto ready = pack<T>(*weights);
  const forward_pass<Model> expected(*weights, {some_tokens(80, 1), some_tokens(80, 2), some_tokens(80, 3)});

  SECTION("one token at a time") {
    typename Model::cache cache;
    for (std::size_t i = 0; i < 80; ++i) expected.check(0, i, Model::decode(*ready, expected.tokens(0)[i], cache));
  }
  SECTION("a prompt, and on") {
    typename Model::cache cache(1);
    expected.check(0, 69, Model::prefill(*ready, expected.tokens(0).first(70), cache));
    for (std::size_t i = 70; i < 80; ++i) expected.check(0, i, Model::decode(*ready, expected.tokens(0)[i], cache));
  }
  SECTION("prompts in parts") {
    typename Model::cache cache(1);
    for (const auto& [first, count] : {std::pair<std::size_t, std::size_t>{0, 1}, {1, 3}, {4, 66}, {70, 2}, {72, 8}})
      expected.check(0, first + count - 1, Model::prefill(*ready, expected.tokens(0).subspan(first, count), cache));
    CHECK(cache.length() == 80);
  }
  SECTION("with the weights as they are") {
    typename Model::cache cache(1);
    expected.check(0, 65, Model::prefill(*weights, expected.tokens(0).first(66), cache));
    expected.check(0, 66, Model::decode(*weights, expected.tokens(0)[66], cache));
  }
  SECTION("several sequences of different lengths, in memory of the caller's") {
    // Room for 72 tokens only. The memory is full of NaN: nothing may be read before it is written.
    const std::size_t bytes = Model::cache_bytes(3, 72);
    const buffer memory(bytes);
    std::memset(memory.bytes().data(), 0xff, bytes);
    typename Model::cache cache(3, 72, memory.bytes());
    CHECK(cache.sequences() == 3);
    CHECK(cache.capacity() == 72);
    std::array<std::size_t, 3> at = {5, 66, 30};
    for (const std::size_t s : {2u, 0u, 1u}) {
      CHECK(cache.length(static_cast<index>(s)) == 0);
      expected.check(s, at[s] - 1,
                     Model::prefill(*ready, expected.tokens(s).first(at[s]), cache, static_cast<index>(s)));
    }
    for (int i = 0; i < 6; ++i) {
      decode_and_check<Model>(*ready, expected, at, cache);
      for (auto& position : at) ++position;
    }
    CHECK(cache.length(1) == 72);
    CHECK(fails_with([&] { return Model::decode(*ready, some_tokens(3, 1), cache); }, "decode", "sequence 1", "72"));

    // One is truncated and continues with another's tokens; the others are unchanged.
    cache.truncate(10, 1);
    CHECK(cache.length(0) == 11);
    CHECK(cache.length(1) == 10);
    auto mixed = some_tokens(80, 2);
    const auto tail = some_tokens(80, 4);
    std::copy(tail.begin() + 10, tail.end(), mixed.begin() + 10);
    const forward_pass<Model> on(*weights, {some_tokens(80, 1), mixed, some_tokens(80, 3)});
    expected.check(0, 12, Model::prefill(*ready, expected.tokens(0).subspan(11, 2), cache, 0));
    at = {13, 10, 36};
    for (int i = 0; i < 5; ++i) {
      decode_and_check<Model>(*ready, on, at, cache);
      for (auto& position : at) ++position;
    }

    // All longer ones are truncated to 12 tokens.
    cache.truncate(12);
    for (const index s : {0, 1, 2}) CHECK(cache.length(s) == 12);
    cache.truncate(50);
    for (const index s : {0, 1, 2}) CHECK(cache.length(s) == 12);
    decode_and_check<Model>(*ready, on, std::array<std::size_t, 3>{12, 12, 12}, cache);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the reference backend decodes as it reads", "[model]", gpt_kind, after_kind, replace_kind, joint_kind,
                   one_block) {
  check_decoding<model<TestType::c, backend::reference<double>>>();
}
TEMPLATE_TEST_CASE("the cpu backend decodes as it reads", "[model]", gpt_kind, after_kind, replace_kind, joint_kind,
                   one_block) {
  check_decoding<model<TestType::c, backend::cpu<float>>>();
}

TEST_CASE("prompts longer than the blocks of 256 tokens that they are read in", "[model]") {
  constexpr config c{.vocab = vocab, .context = 600, .width = 12, .depth = 2, .heads = 2, .shortcut = {.depths = {0, 1}}};
  using net = model<c>;
  const auto weights = some_weights<net>();
  const auto ready = pack<float>(*weights);
  const forward_pass<net> expected(*weights, {some_tokens(600, 1)});
  net::cache cache;
  expected.check(0, 529, net::prefill(*ready, expected.tokens(0).first(530), cache));
  for (std::size_t i = 530; i < 535; ++i) expected.check(0, i, net::decode(*ready, expected.tokens(0)[i], cache));
  cache.truncate(100);
  expected.check(0, 355, net::prefill(*ready, expected.tokens(0).subspan(100, 256), cache));
  expected.check(0, 599, net::prefill(*ready, expected.tokens(0).subspan(356), cache));
}

TEST_CASE("what a cache refuses leaves it as it was", "[model]") {
  using net = model<after_kind::c, backend::reference<double>>;
  const auto weights = some_weights<net>();
  const forward_pass<net> expected(*weights, {some_tokens(80, 1)});
  net::cache cache(1, 40);
  net::prefill(*weights, expected.tokens(0).first(30), cache);

  const auto prefill = [&](std::vector<token> prompt, index sequence = 0) {
    return [&, prompt, sequence] { return net::prefill(*weights, prompt, cache, sequence).size(); };
  };
  CHECK(fails_with(prefill(some_tokens(11, 1)), "prefill", "11 tokens", "30", "40"));
  CHECK(fails_with(prefill({}), "prefill", "empty"));
  CHECK(fails_with(prefill({1, 2, 31}), "prefill", "token 31", "position 2"));
  CHECK(fails_with(prefill({1, -1}), "token -1", "position 1"));
  CHECK(fails_with(prefill({1}, 1), "sequence 1"));
  CHECK(fails_with(prefill({1}, -1), "sequence -1"));
  CHECK(fails_with([&] { return net::decode(*weights, 31, cache).size(); }, "decode", "token 31"));
  CHECK(fails_with([&] { return net::decode(*weights, some_tokens(2, 1), cache).size(); }, "decode", "2 tokens"));
  CHECK(fails_with([&] { return net::decode(*weights, std::span<const token>(), cache).size(); }, "decode", "0 tokens"));
  CHECK(fails_with([&] { return cache.truncate(-1), 0; }, "truncate", "-1"));
  CHECK(fails_with([&] { return cache.truncate(-1, 0), 0; }, "truncate", "-1"));
  CHECK(fails_with([&] { return cache.truncate(1, 1), 0; }, "sequence 1"));
  CHECK(fails_with([&] { return cache.length(1); }, "sequence 1"));
  CHECK(cache.length() == 30);
  for (std::size_t i = 30; i < 40; ++i) expected.check(0, i, net::decode(*weights, expected.tokens(0)[i], cache));
  CHECK(fails_with([&] { return net::decode(*weights, 1, cache).size(); }, "decode", "sequence 0", "40"));
  CHECK(fails_with(prefill({1}), "prefill", "1 tokens after the 40"));
  CHECK(cache.length() == 40);
}

TEST_CASE("a cache says what is wrong with its size or memory", "[model]") {
  using net = model<after_kind::c, backend::reference<double>>;
  CHECK(fails_with([] { return net::cache(0).length(); }, "cache", "0 sequences"));
  CHECK(fails_with([] { return net::cache(1, 81).length(); }, "cache", "81", "80"));
  CHECK(fails_with([] { return net::cache(1, 0).length(); }, "cache", "0 tokens"));
  const std::size_t bytes = net::cache_bytes(2, 10);
  const buffer memory(bytes + alignment);
  const auto needed = std::to_string(bytes);
  CHECK(fails_with([&] { return net::cache(2, 10, memory.bytes().first(bytes - 1)).length(); }, "cache", needed));
  CHECK(fails_with([&] { return net::cache(2, 10, memory.bytes().subspan(8, bytes)).length(); }, "multiple of 64"));
  CHECK(net::cache(2, 10, memory.bytes().subspan(alignment, bytes)).length(1) == 0);
}

TEST_CASE("decoding is bitwise the same on any number of threads", "[model]") {
  constexpr config c{.vocab = 100, .context = 200, .width = 96, .depth = 2, .heads = 4, .shortcut = {.depths = {0, 1}}};
  using net = model<c>;
  const auto weights = some_weights<net>();
  const auto ready = pack<bf16>(*weights);
  std::vector<std::vector<float>> found;
  for (const int threads : {1, 2, 3}) {
    net::cache cache(2, 200, {threads});
    found.emplace_back();
    const auto keep = [&](std::span<const float> logits) { found.back().insert(found.back().end(), logits.begin(), logits.end()); };
    keep(net::prefill(*ready, some_tokens(170, 1), cache, 0));
    keep(net::prefill(*ready, some_tokens(65, 2), cache, 1));
    for (int i = 0; i < 5; ++i) keep(net::decode(*ready, some_tokens(2, static_cast<std::uint64_t>(3 + i)), cache));
  }
  for (const std::size_t other : {1u, 2u}) {
    INFO(other + 1 << " threads");
    REQUIRE(found[other].size() == found[0].size());
    CHECK(std::memcmp(found[other].data(), found[0].data(), found[0].size() * sizeof(float)) == 0);
  }
}

// ---- Packed weights --------------------------------------------------------------------------------------------------

namespace {

/// 8 significant bits, to nearest and ties to even.
float nearest_bf16(float x) {
  if (x == 0) return x;
  const int exponent = std::ilogb(x) - 7;
  return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
}

/// The weights rounded as by packing as P, and stored as float. bf16: all but biases and gains. int8: each column of a
/// matrix in steps of its largest magnitude / 127, and likewise each token of the output table; other tables in bf16.
template <class P, class Model>
void round_as_packed(typename Model::parameters& weights) {
  Model::visit(
      [](std::string_view name, initial, auto& tensor) {
        if constexpr (std::remove_cvref_t<decltype(tensor)>::rank == 2) {
          const auto w = tensor.view();
          const bool is_head = name == (Model::tied ? "wte.weight" : "lm_head.weight");
          const bool is_table = !is_head && (name == "wte.weight" || name == "wpe.weight");
          if (std::is_same_v<P, bf16> || (std::is_same_v<P, std::int8_t> && is_table)) {
            for (float& x : tensor.span()) x = nearest_bf16(x);
          } else if (std::is_same_v<P, std::int8_t>) {
            const index groups = is_head ? w.rows : w.columns, size = is_head ? w.columns : w.rows;
            for (index g = 0; g < groups; ++g) {
              const auto at = [&](index i) -> float& { return is_head ? w(g, i) : w(i, g); };
              float largest = 0;
              for (index i = 0; i < size; ++i) largest = std::max(largest, std::abs(at(i)));
              const double step = static_cast<double>(largest) / 127;
              for (index i = 0; i < size; ++i)
                at(i) = static_cast<float>(std::nearbyint(static_cast<double>(at(i)) / step) * step);
            }
          }
        }
      },
      weights);
}

template <class Kind, class P>
struct packed_as {
  using kind = Kind;
  using type = P;
};

}  // namespace

TEMPLATE_TEST_CASE("packed weights are the rounded ones", "[model]", (packed_as<gpt_kind, float>),
                   (packed_as<gpt_kind, bf16>), (packed_as<gpt_kind, std::int8_t>), (packed_as<after_kind, bf16>),
                   (packed_as<after_kind, std::int8_t>), (packed_as<joint_kind, bf16>), (packed_as<joint_kind, std::int8_t>)) {
  // Decoding with packed weights equals a forward pass with weights rounded beforehand.
  using net = model<TestType::kind::c>;
  using P = typename TestType::type;
  const auto weights = some_weights<net>();
  const auto ready = pack<P>(*weights);
  auto rounded = some_weights<net>();
  round_as_packed<P, net>(*rounded);
  // With int8, the other operand of every product may be rounded, by 2^-16 of its row's largest.
  const double rounding = std::is_same_v<P, std::int8_t> ? 8 * 0x1p-16 : 0;
  const forward_pass<net> expected(*rounded, {some_tokens(80, 1), some_tokens(80, 2)}, rounding);
  typename net::cache cache(2);
  expected.check(0, 69, net::prefill(*ready, expected.tokens(0).first(70), cache, 0));
  expected.check(1, 2, net::prefill(*ready, expected.tokens(1).first(3), cache, 1));
  std::array<std::size_t, 2> at = {70, 3};
  for (int i = 0; i < 10; ++i) {
    decode_and_check<net>(*ready, expected, at, cache);
    for (auto& position : at) ++position;
  }
}

TEST_CASE("the reference backend rounds to bf16 when it packs", "[model]") {
  using net = model<joint_kind::c, backend::reference<float>>;
  const auto weights = some_weights<net>();
  const auto ready = pack<bf16>(*weights);
  auto rounded = some_weights<net>();
  round_as_packed<bf16, net>(*rounded);
  const forward_pass<net> expected(*rounded, {some_tokens(80, 1)});
  net::cache cache(1);
  expected.check(0, 69, net::prefill(*ready, expected.tokens(0).first(70), cache));
  expected.check(0, 70, net::decode(*ready, expected.tokens(0)[70], cache));
}

}  // namespace fathom::test
