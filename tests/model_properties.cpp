// Properties of every model: causality, one type for equal configs, sizes and costs, initial values, errors, and
// results independent of the number of threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/adamw.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace fathom::test {
namespace {

constexpr config with(config c, shortcut s) {
  c.shortcut = s;
  return c;
}
constexpr config small{.vocab = 31, .context = 40, .width = 16, .depth = 3, .heads = 2, .hidden = 24};

struct gpt_kind {
  static constexpr config c = small;
};
struct after_kind {
  static constexpr config c = with(small, {.depths = {0, 2}, .hidden = 9});
};
struct replace_kind {
  static constexpr config c =
      with(small, {.depths = {1}, .features = feature_map::linear, .placement = placement::replace_self_attention});
};
struct joint_kind {
  static constexpr config c =
      with(small, {.depths = all_depths, .features = feature_map::identity, .placement = placement::joint});
};

std::vector<token> some_tokens(index count, index vocab, std::uint64_t seed) {
  random numbers(seed, stream_of("tokens"));
  std::vector<token> tokens(static_cast<std::size_t>(count));
  for (token& t : tokens) t = static_cast<token>(numbers.below(vocab));
  return tokens;
}

/// Weights large enough for every term to matter.
template <class Model>
owned<typename Model::parameters> some_weights(std::uint64_t seed = 5) {
  auto weights = make<typename Model::parameters>();
  Model::visit(
      [&](std::string_view name, initial start, auto& tensor) {
        random numbers(seed, stream_of(name));
        for (auto& w : tensor.span())
          w = static_cast<typename Model::scalar>((start == initial::one ? 1 : 0) + 0.2 * numbers.normal());
      },
      *weights);
  return weights;
}

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
template <class Parameters>
bool same_bits(const Parameters& a, const Parameters& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class Model>
void check_causality() {
  using T = typename Model::scalar;
  const auto weights = some_weights<Model>();
  constexpr index n = Model::context, v = Model::vocab;
  auto tokens = some_tokens(2 * n, v, 1);
  typename Model::tape tape(2);
  Model::forward(*weights, {tokens, {}, 2, n}, tape);
  const std::vector<T> before(tape.logits().begin(), tape.logits().end());
  for (const index changed : {index{0}, index{1}, index{17}, n / 2, n - 1}) {
    INFO("token " << changed << " of the second sequence changed");
    auto other = tokens;
    token& t = other[static_cast<std::size_t>(n + changed)];
    t = static_cast<token>((t + 1) % v);
    Model::forward(*weights, {other, {}, 2, n}, tape);
    const auto after = tape.logits();
    const auto unseen = static_cast<std::size_t>((n + changed) * v);
    CHECK(same_bits<T>(after.first(unseen), std::span(before).first(unseen)));
    for (index i = n + changed; i < 2 * n; ++i) {  // and everything after it sees the change
      const auto row = static_cast<std::size_t>(i * v);
      CHECK(!same_bits<T>(after.subspan(row, v), std::span(before).subspan(row, v)));
    }
  }
}

}  // namespace

// ---- Causality -------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a token changes no logits before it", "[model]", gpt_kind, after_kind, replace_kind, joint_kind) {
  SECTION("reference") { check_causality<model<TestType::c, backend::reference<double>>>(); }
  SECTION("cpu") { check_causality<model<TestType::c, backend::cpu<float>>>(); }
}

// ---- Configs and types -----------------------------------------------------------------------------------------------

TEST_CASE("equal architectures are one type, however they are written", "[model]") {
  constexpr auto of = [](shortcut s) { return with(small, s); };
  using backend::reference;
  // Without depths there is no shortcut, whatever else is set: the same type as GPT-2.
  STATIC_REQUIRE(std::is_same_v<model<small>, model<of({})>>);
  STATIC_REQUIRE(std::is_same_v<model<small>, model<of({.features = feature_map::linear,
                                                        .hidden = 7,
                                                        .placement = placement::joint,
                                                        .zero_init = true})>>);
  STATIC_REQUIRE(std::is_same_v<model<small>, model<small, backend::cpu<float>>>);
  // A set of depths has no order; all_depths are all but the embedding and the last block's.
  STATIC_REQUIRE(std::is_same_v<model<of({.depths = {2, 1}})>, model<of({.depths = {1, 2}})>>);
  STATIC_REQUIRE(std::is_same_v<model<of({.depths = all_depths})>, model<of({.depths = {1, 2}})>>);
  // Defaults may be explicit, and irrelevant settings do not count.
  STATIC_REQUIRE(std::is_same_v<model<of({.depths = {1}, .hidden = 0})>, model<of({.depths = {1}, .hidden = 16})>>);
  STATIC_REQUIRE(std::is_same_v<model<of({.depths = {1}, .features = feature_map::identity, .hidden = 5})>,
                                model<of({.depths = {1}, .features = feature_map::identity})>>);
  STATIC_REQUIRE(std::is_same_v<model<config{.vocab = 9, .context = 4, .width = 6, .depth = 1, .heads = 2}>,
                                model<config{.vocab = 9, .context = 4, .width = 6, .depth = 1, .heads = 2, .hidden = 24}>>);
  // Settings that do matter.
  STATIC_REQUIRE(!std::is_same_v<model<of({.depths = {1}})>, model<of({.depths = {2}})>>);
  STATIC_REQUIRE(!std::is_same_v<model<of({.depths = {1}})>, model<of({.depths = {1}, .hidden = 8})>>);
  STATIC_REQUIRE(!std::is_same_v<model<of({.depths = {0, 1, 2}})>, model<of({.depths = all_depths})>>);
  STATIC_REQUIRE(!std::is_same_v<model<of({.depths = {1}})>, model<of({.depths = {1}, .placement = placement::joint})>>);
  STATIC_REQUIRE(!std::is_same_v<model<small>, model<small, reference<float>>>);
}

TEST_CASE("sets of depths", "[model]") {
  constexpr depth_set some{63, 0, 5};
  STATIC_REQUIRE(some.count() == 3);
  STATIC_REQUIRE((some[0] == 0 && some[1] == 5 && some[2] == 63));
  STATIC_REQUIRE(some.largest() == 63);
  STATIC_REQUIRE((some.contains(63) && some.contains(0) && !some.contains(62) && !some.contains(64) && !some.contains(-1)));
  STATIC_REQUIRE((depth_set{}.empty() && !some.empty() && !depth_set{64}.empty()));
  // all_depths of the maximum number of blocks: bits 1 to 63.
  STATIC_REQUIRE(normalized(config{.depth = 64, .shortcut = {.depths = all_depths}}).shortcut.depths ==
                 depth_set::from_bits(~std::uint64_t{1}));
}

TEST_CASE("with zero_init the model starts as the plain one", "[model]") {
  using plain = model<small>;
  using net = model<with(small, {.depths = {0, 2}, .zero_init = true})>;
  auto weights = make<net::parameters>();
  auto plain_weights = make<plain::parameters>();
  initialize<net>(*weights, 3);
  initialize<plain>(*plain_weights, 3);
  const auto tokens = some_tokens(2 * 40, 31, 2);
  net::tape tape(2);
  plain::tape plain_tape(2);
  net::forward(*weights, {tokens, {}, 2, 40}, tape);
  plain::forward(*plain_weights, {tokens, {}, 2, 40}, plain_tape);
  CHECK(same_bits<float>(tape.logits(), plain_tape.logits()));
}

// ---- Sizes and costs -------------------------------------------------------------------------------------------------

TEST_CASE("parameters, bytes and operations are constants", "[model]") {
  constexpr config tiny{
      .vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .shortcut = {.depths = {2, 4}}};
  using net = model<tiny>;
  // Embedding, six blocks of 12 E^2 + 13 E, ln_f; ln, two feature maps, query, keys and values, projection.
  constexpr index E = 128, square = E * E + E;
  STATIC_REQUIRE(net::parameter_count == (256 + 128) * E + 6 * (12 * E * E + 13 * E) + 2 * E +  //
                                             2 * E + 2 * (2 * E + 2 * square) + square + 2 * square + square);
  STATIC_REQUIRE(net::parameter_count == 1'371'904);
  STATIC_REQUIRE(sizeof(net::parameters) == 4 * 1'371'904);
  // GPT-2 has 124,439,808 parameters, as transformers counts them.
  STATIC_REQUIRE(model<config{.vocab = 50257, .context = 1024, .width = 768, .depth = 12, .heads = 12}>::parameter_count ==
                 124'439'808);
  // Untied, the projection counts too. With replace_self_attention the last block has no ln_1 and attn.
  constexpr index small_block = 2 * 2 * 16 + (16 + 1) * 48 + (16 + 1) * 16 + (16 + 1) * 24 + (24 + 1) * 16;
  constexpr index small_body = (31 + 40) * 16 + 3 * small_block + 2 * 16;
  constexpr config untied{.vocab = 31, .context = 40, .width = 16, .depth = 3, .heads = 2, .hidden = 24, .tied = false};
  STATIC_REQUIRE(model<small>::parameter_count == small_body);
  STATIC_REQUIRE(model<untied>::parameter_count == small_body + 31 * 16);
  STATIC_REQUIRE(model<replace_kind::c>::parameter_count ==
                 small_body - 2 * 16 - 17 * 48 - 17 * 16 + 2 * 16 + (2 * 16 + 17 * 16) + 17 * 16 + 17 * 32 + 17 * 16);
  STATIC_REQUIRE(model<joint_kind::c>::parameter_count == small_body + 2 * (2 * 16) + 17 * 32);

  // 12,032 of the numbers are biases and gains. int8 has a scale and a sum for each of the 7,936 columns and the 256 tokens,
  // and positions in bf16.
  STATIC_REQUIRE(net::weight_bytes<float> == 4 * 1'371'904);
  STATIC_REQUIRE(net::weight_bytes<bf16> == 2 * (1'371'904 - 12'032) + 4 * 12'032);
  STATIC_REQUIRE(net::weight_bytes<std::int8_t> ==
                 (1'371'904 - 12'032 - 128 * 128) + 2 * 128 * 128 + 4 * 12'032 + 8 * (7'936 + 256));
  STATIC_REQUIRE(net::weight_bytes<bf16> < 3'000'000);

  // For each token of 128, twice the multiplications. A query sees 64.5 positions on average, at a cost of 2 E each.
  constexpr double attention = 2 * 2 * 128 * 64.5;
  constexpr double block = 2 * (3 * E * E + E * E + 2 * 4 * E * E) + attention;
  constexpr double shortcut = 2 * (2 * 2 * E * E + E * E + 2 * 2 * E * E + E * E) + 2 * attention;
  STATIC_REQUIRE(net::forward_flops_per_token(128) == 6 * block + shortcut + 2 * 256 * E);
  STATIC_REQUIRE(net::forward_flops_per_token(128) == 3'016'704);
  STATIC_REQUIRE(net::training_flops_per_token(128) == 3 * 3'016'704);
  // A single token only sees itself.
  STATIC_REQUIRE(net::forward_flops_per_token(1) == 3'016'704 - 8 * attention * (1 - 1 / 64.5));

  // A cache has a key and a value for every position, for six blocks and two depths; and working memory.
  STATIC_REQUIRE(net::cache_bytes(3, 128) > 3 * 128 * 8 * 2 * 128 * 4);
  STATIC_REQUIRE(net::cache_bytes(3, 128) - net::cache_bytes(3, 64) == 3 * 64 * 8 * (2 * 128 * 4 + 64));  // a line between rows
  STATIC_REQUIRE(net::tape_bytes(8, 128) > 8 * 128 * 256 * 4);
  // For a large batch and vocabulary, a tape does not hold all logits.
  using wide = model<config{.vocab = 50257, .context = 1024, .width = 64, .depth = 1, .heads = 1}>;
  STATIC_REQUIRE(wide::tape_bytes(16, 1024) < std::size_t{16} * 1024 * 50257 * 4 / 10);
}

// ---- Initial values --------------------------------------------------------------------------------------------------

TEST_CASE("initial values have their distributions", "[model]") {
  constexpr config c{.vocab = 200, .context = 50, .width = 32, .depth = 8, .heads = 4, .tied = false,
                     .shortcut = {.depths = {1, 4}}};
  using net = model<c, backend::reference<double>>;
  auto weights = make<net::parameters>();
  initialize<net>(*weights, 11);
  int tensors = 0;
  net::visit(
      [&](std::string_view name, initial, const auto& tensor) {
        INFO(name);
        ++tensors;
        double sum = 0, squares = 0;
        for (const double w : tensor.span()) {
          sum += w;
          squares += w * w;
        }
        const double n = static_cast<double>(tensor.size), mean = sum / n, deviation = std::sqrt(squares / n);
        const bool gain = tensor.rank == 1 && name.ends_with(".weight");
        if (tensor.rank == 1) {
          for (const double w : tensor.span()) CHECK(w == (gain ? 1 : 0));
          return;
        }
        // 0.02, and 0.02 / sqrt(2 * 8) where a projection writes to the residual stream; five standard errors.
        const bool residual = name.ends_with("attn.c_proj.weight") || name.ends_with("mlp.c_proj.weight");
        const double expected = residual ? 0.005 : 0.02;
        CHECK(std::abs(mean) < 5 * expected / std::sqrt(n));
        CHECK(std::abs(deviation - expected) < 5 * expected / std::sqrt(2 * n));
      },
      *weights);
  // wte, wpe, 8 blocks of 12, ln_f, lm_head; shortcut: ln, 2 * (ln, c_fc, c_proj), c_q, c_kv, c_proj.
  CHECK(tensors == 2 + 8 * 12 + 2 + 1 + 2 + 2 * 6 + 6);
}

TEST_CASE("zero_init zeroes the shortcut's projection and nothing else", "[model]") {
  using net = model<with(small, {.depths = {1}, .zero_init = true})>;
  auto weights = make<net::parameters>();
  initialize<net>(*weights, 1);
  net::visit(
      [](std::string_view name, initial, const auto& tensor) {
        INFO(name);
        const bool zero = std::all_of(tensor.span().begin(), tensor.span().end(), [](float w) { return w == 0; });
        CHECK(zero == (name.ends_with(".bias") || name == "shortcut.attn.c_proj.weight"));
      },
      *weights);
}

TEST_CASE("two models with one seed agree in the tensors that they share", "[model]") {
  using plain = model<small>;
  using net = model<after_kind::c, backend::cpu<double>>;
  auto plain_weights = make<plain::parameters>();
  auto weights = make<net::parameters>(), again = make<net::parameters>(), other = make<net::parameters>();
  initialize<plain>(*plain_weights, 3);
  initialize<net>(*weights, 3);
  initialize<net>(*again, 3);
  initialize<net>(*other, 4);
  CHECK(same_bits(*weights, *again));

  std::map<std::string, std::vector<double>> found;
  net::visit(
      [&](std::string_view name, initial start, const auto& w, const auto& o) {
        found[std::string(name)].assign(w.span().begin(), w.span().end());
        if (start == initial::normal || start == initial::residual) {
          INFO(name);
          CHECK(!same_bits<double>(w.span(), o.span()));
        }
      },
      *weights, *other);
  plain::visit(
      [&](std::string_view name, initial, const auto& w) {
        INFO(name);
        REQUIRE(found.contains(std::string(name)));
        const auto& numbers = found[std::string(name)];
        CHECK(std::equal(w.span().begin(), w.span().end(), numbers.begin(), numbers.end(),
                         [](float a, double b) { return a == static_cast<float>(b); }));
      },
      *plain_weights);
  // No two tensors draw the same numbers.
  std::map<double, std::string> first;
  for (const auto& [name, numbers] : found)
    if (numbers[0] != 0 && numbers[0] != 1) {
      INFO(name << " and " << first[numbers[0]]);
      CHECK(first[numbers[0]].empty());
      first[numbers[0]] = name;
    }
}

// ---- Threads ---------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("training is bitwise the same on any number of threads", "[model]", backend::cpu<float>,
                   backend::cpu<bf16>) {
  // Large enough that every operation has several tasks (576 rows, at least 96 columns, tensors of more than 4096 numbers)
  // and that the head processes the rows in two chunks.
  constexpr config c{.vocab = 8200, .context = 96, .width = 96, .depth = 2, .heads = 4, .shortcut = {.depths = {0, 1}}};
  using net = model<c, TestType>;
  STATIC_REQUIRE(net::head_rows == 512);
  const auto inputs = some_tokens(6 * 96, 8200, 1), targets = some_tokens(6 * 96, 8200, 2);
  const batch b{inputs, targets, 6, 96};
  std::vector<owned<typename net::parameters>> weights, gradients;
  std::vector<std::vector<float>> logits, losses;
  std::vector<double> norms;
  for (const int threads : {1, 2, 3}) {
    weights.push_back(some_weights<net>());
    gradients.push_back(make<typename net::parameters>());
    typename net::tape tape(6, 96, {threads});
    adamw<net> optimizer({}, {threads});
    auto g = make<typename net::parameters>();
    net::forward(*weights.back(), {inputs, {}, 6, 96}, tape);
    logits.emplace_back(tape.logits().begin(), tape.logits().end());
    for (int step = 0; step < 2; ++step) {
      net::forward(*weights.back(), b, tape);
      net::backward(*weights.back(), b, tape, *g);
      if (step == 0) std::memcpy(static_cast<void*>(gradients.back().get()), g.get(), sizeof *g);
      norms.push_back(optimizer.step(*weights.back(), *g));
    }
    losses.emplace_back(tape.losses().begin(), tape.losses().end());
  }
  for (std::size_t other : {1u, 2u}) {
    INFO(other + 1 << " threads");
    CHECK(same_bits<float>(logits[other], logits[0]));
    CHECK(same_bits(*gradients[other], *gradients[0]));
    CHECK(norms[2 * other] == norms[0]);
    CHECK(norms[2 * other + 1] == norms[1]);
    CHECK(same_bits<float>(losses[other], losses[0]));
    CHECK(same_bits(*weights[other], *weights[0]));
  }
}

// ---- Batches that the head processes in several chunks -----------------------------------------------------------------

/// A batch of three sequences, whose 780 rows the head processes 512 first, gives the same as its sequences one by one.
template <class Backend>
void check_turns(double tolerance) {
  constexpr config c{.vocab = 8200, .context = 260, .width = 8, .depth = 1, .heads = 2, .hidden = 8};
  using net = model<c, Backend>;
  using T = typename net::scalar;
  constexpr index n = 260, v = 8200;
  STATIC_REQUIRE(net::head_rows == 512);
  const auto weights = some_weights<net>();
  const auto inputs = some_tokens(3 * n, v, 1);
  auto targets = some_tokens(3 * n, v, 2);
  for (std::size_t i = 0; i < targets.size(); ++i)
    if (i % 7 == 0 || (i > 300 && i < 400)) targets[i] = -1;  // the sequences count differently

  // One by one.
  const auto counted = static_cast<double>(std::count_if(targets.begin(), targets.end(), [](token t) { return t >= 0; }));
  const auto expected = make<typename net::parameters>();
  std::vector<T> logits, losses;
  double loss = 0;
  typename net::tape one(1);
  for (std::size_t s = 0; s < 3; ++s) {
    const batch b{std::span(inputs).subspan(s * n, n), std::span(targets).subspan(s * n, n), 1, n};
    net::forward(*weights, {b.inputs, {}, 1, n}, one);
    logits.insert(logits.end(), one.logits().begin(), one.logits().end());
    net::forward(*weights, b, one);
    const double share = static_cast<double>(one.counted()) / counted;
    loss += share * static_cast<double>(one.loss());
    losses.insert(losses.end(), one.losses().begin(), one.losses().end());
    net::backward(*weights, b, one, *expected, 0.5 * share);
  }

  // Side by side.
  const batch all{inputs, targets, 3, n};
  typename net::tape tape(3);
  const auto check_losses = [&] {
    CHECK(static_cast<double>(tape.loss()) == Approx(loss).epsilon(tolerance));
    CHECK(same_bits<T>(tape.losses(), losses));
  };
  const auto found = make<typename net::parameters>(), both = make<typename net::parameters>();
  net::forward(*weights, all, tape);
  check_losses();
  net::backward(*weights, all, tape, *found, 0.5);
  check_losses();
  net::forward(*weights, {inputs, {}, 3, n}, tape);
  CHECK(same_bits<T>(tape.logits(), logits));
  net::forward_backward(*weights, all, tape, *both, 0.5);
  check_losses();
  CHECK(same_bits(*both, *found));
  net::visit(
      [&](std::string_view name, initial, const auto& a, const auto& b) {
        double difference = 0, largest = 0;
        for (index i = 0; i < a.size; ++i) {
          difference = std::max(difference, std::abs(static_cast<double>(a.data()[i] - b.data()[i])));
          largest = std::max(largest, std::abs(static_cast<double>(b.data()[i])));
        }
        INFO("gradient of " << name << ": off by " << difference << ", the largest is " << largest);
        CHECK(difference <= tolerance * largest);
      },
      *found, *expected);
}

TEST_CASE("a batch that the head takes in turns is as good as its sequences", "[model]") {
  check_turns<backend::reference<double>>(1e-12);
  check_turns<backend::cpu<float>>(1e-5);
}

// ---- Errors ----------------------------------------------------------------------------------------------------------

TEST_CASE("a tape takes the batches that fit it, in any shape", "[model]") {
  using net = model<after_kind::c, backend::reference<double>>;
  const auto weights = some_weights<net>();
  const auto inputs = some_tokens(16, 31, 1), targets = some_tokens(16, 31, 2);
  net::tape tape(2, 8);
  for (const auto& [sequences, tokens] : {std::pair<index, index>{2, 8}, {4, 4}, {1, 16}, {16, 1}, {1, 3}, {2, 8}}) {
    INFO(sequences << " sequences of " << tokens << " tokens");
    const auto count = static_cast<std::size_t>(sequences * tokens);
    const batch b{std::span(inputs).first(count), std::span(targets).first(count), sequences, tokens};
    net::tape own(sequences, tokens);
    net::forward(*weights, {b.inputs, {}, sequences, tokens}, tape);
    net::forward(*weights, {b.inputs, {}, sequences, tokens}, own);
    CHECK(same_bits<double>(tape.logits(), own.logits()));
    net::forward(*weights, b, tape);
    net::forward(*weights, b, own);
    CHECK(tape.loss() == own.loss());
    CHECK(tape.losses().size() == count);
    auto gradients = make<net::parameters>(), expected = make<net::parameters>();
    net::backward(*weights, b, tape, *gradients);
    net::backward(*weights, b, own, *expected);
    CHECK(same_bits(*gradients, *expected));
  }
}

TEST_CASE("batches that do not fit are errors", "[model]") {
  using net = model<small, backend::reference<double>>;
  const auto weights = some_weights<net>();
  auto gradients = make<net::parameters>();
  std::vector<token> inputs = some_tokens(16, 31, 1), targets = some_tokens(16, 31, 2);
  net::tape tape(2, 8);
  const auto forward = [&](const batch& b) {
    net::forward(*weights, b, tape);
    return 0;
  };
  const auto backward = [&](const batch& b) {
    net::backward(*weights, b, tape, *gradients);
    return 0;
  };

  CHECK(fails_with([&] { return net::tape(0, 8); }, "tape", "0 sequences"));
  CHECK(fails_with([&] { return net::tape(2, 0); }, "tape", "0 tokens"));
  CHECK(fails_with([&] { return net::tape(1, 41); }, "tape", "41", "40"));
  CHECK(fails_with([&] { return tape.logits().size(); }, "tape.logits", "forward"));
  CHECK(fails_with([&] { return tape.loss(); }, "tape.loss", "targets"));
  CHECK(fails_with([&] { return backward({inputs, targets, 2, 8}); }, "backward", "forward"));

  // Shapes.
  CHECK(fails_with([&] { return forward({inputs, {}, 2, 7}); }, "forward", "16 inputs", "14"));
  CHECK(fails_with([&] { return forward({inputs, std::span(targets).first(15), 2, 8}); }, "16 inputs", "15 targets"));
  CHECK(fails_with([&] { return forward({{}, {}, 0, 8}); }, "forward", "0 sequences"));
  CHECK(fails_with([&] { return forward({{}, {}, 2, 0}); }, "forward", "0 tokens"));
  CHECK(fails_with([&] { return forward({inputs, {}, -2, -8}); }, "forward", "-2 sequences"));
  const auto more = some_tokens(41, 31, 1);
  CHECK(fails_with([&] { return forward({std::span(more).first(18), {}, 2, 9}); }, "2 sequences of 9 tokens", "made for"));
  net::tape wide(2);
  CHECK(fails_with([&] { return net::forward(*weights, {more, {}, 1, 41}, wide), 0; }, "41 tokens", "40"));

  // Tokens: what, which, where.
  for (const token wrong : {31, -1, 1000}) {
    auto tokens = inputs;
    tokens[11] = wrong;
    CHECK(fails_with([&] { return forward({tokens, {}, 2, 8}); }, "inputs", "token " + std::to_string(wrong), "position 11",
                     "30"));
  }
  for (const token wrong : {31, -2}) {
    auto tokens = targets;
    tokens[5] = wrong;
    CHECK(fails_with([&] { return forward({inputs, tokens, 2, 8}); }, "targets", "token " + std::to_string(wrong),
                     "position 5"));
  }

  // The order of calls.
  forward({inputs, {}, 2, 8});
  CHECK(tape.logits().size() == 16 * 31);
  CHECK(fails_with([&] { return tape.loss(); }, "tape.loss", "targets"));
  CHECK(fails_with([&] { return tape.losses().size(); }, "tape.losses", "targets"));
  CHECK(fails_with([&] { return backward({inputs, targets, 2, 8}); }, "backward", "targets"));
  forward({inputs, targets, 2, 8});
  CHECK(fails_with([&] { return tape.logits().size(); }, "tape.logits", "without targets"));
  CHECK(fails_with([&] { return backward({inputs, targets, 4, 4}); }, "backward", "this batch"));
  backward({inputs, targets, 2, 8});
  CHECK(fails_with([&] { return tape.logits().size(); }, "tape.logits", "without targets"));
  CHECK(fails_with([&] { return backward({inputs, targets, 2, 8}); }, "backward", "once"));
  CHECK(std::isfinite(tape.loss()));
  const auto both = [&](const batch& b) {
    net::forward_backward(*weights, b, tape, *gradients);
    return 0;
  };
  CHECK(fails_with([&] { return both({inputs, {}, 2, 8}); }, "forward_backward", "without targets"));
  both({inputs, targets, 2, 8});
  CHECK(fails_with([&] { return backward({inputs, targets, 2, 8}); }, "backward", "once"));

  // A refused batch leaves the last pass unchanged.
  forward({inputs, targets, 2, 8});
  const double loss = tape.loss();
  inputs[0] = 31;
  CHECK(fails_with([&] { return forward({inputs, targets, 2, 8}); }, "token 31"));
  CHECK(fails_with([&] { return both({inputs, targets, 2, 8}); }, "token 31"));
  CHECK(tape.loss() == loss);
  inputs[0] = 30;
  CHECK(backward({inputs, targets, 2, 8}) == 0);
}

}  // namespace fathom::test
