// The last block's attention, against golden models: an independent PyTorch implementation computed their
// attention (golden/README.md), depth after depth, for joint after the block's own context.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace {

using fathom::attention_weights_map;
using fathom::config;
using fathom::feature_map;
using fathom::placement;
using fathom::token;

constexpr config base{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4};
constexpr config with(config c, fathom::shortcut s) {
  c.shortcut = s;
  return c;
}

struct after_mlp {
  static constexpr const char* name = "after_mlp";
  static constexpr config c{
      .vocab = 61, .context = 16, .width = 32, .depth = 5, .heads = 4, .shortcut = {.depths = {4, 2}}};
  static std::vector<std::string> sources() { return {"depth 2", "depth 4"}; }
};
struct after_mlp_embedding {
  static constexpr const char* name = "after_mlp_embedding";
  static constexpr config c = with(base, {.depths = {0, 1, 3}, .hidden = 64});
  static std::vector<std::string> sources() { return {"depth 0", "depth 1", "depth 3"}; }
};
struct replace_linear {
  static constexpr const char* name = "replace_linear";
  static constexpr config c = with(
      base,
      {.depths = fathom::all_depths, .features = feature_map::linear, .placement = placement::replace_self_attention});
  static std::vector<std::string> sources() { return {"depth 1", "depth 2", "depth 3"}; }
};
struct joint_identity {
  static constexpr const char* name = "joint_identity";
  static constexpr config c =
      with(base, {.depths = {1, 2}, .features = feature_map::identity, .placement = placement::joint});
  static std::vector<std::string> sources() { return {"context", "depth 1", "depth 2"}; }
};

template <class Golden, class Backend>
using net_of = fathom::model<Golden::c, Backend>;

template <class Net>
auto load(const char* name) {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(std::filesystem::path(FATHOM_GOLDEN) / name / "weights.safetensors", *weights);
  return weights;
}

struct expectation {
  std::vector<token> inputs;     // [B, T]
  std::vector<float> attention;  // [B, heads, T, sources * T]
  fathom::index sequences, tokens;
};

expectation expected_of(const char* name) {
  const fathom::io::safetensors_file file(std::filesystem::path(FATHOM_GOLDEN) / name / "expected.safetensors");
  const auto& inputs = file.at("inputs");
  const auto& attention = file.at("attention");
  REQUIRE(inputs.type == "I32");
  expectation e{std::vector<token>(static_cast<std::size_t>(inputs.size())),
                std::vector<float>(static_cast<std::size_t>(attention.size())), inputs.shape[0], inputs.shape[1]};
  inputs.read(std::as_writable_bytes(std::span(e.inputs)));
  fathom::io::copy_numbers(attention, e.attention.data());
  return e;
}

/// Checks that the weights of each head and query sum to 1, none is negative, and none is after the query.
void check_softmax(const attention_weights_map& map) {
  const auto sources = static_cast<fathom::index>(map.sources.size());
  double worst_sum = 0;
  bool in_range = true, causal = true;
  for (fathom::index head = 0; head < map.heads; ++head)
    for (fathom::index query = 0; query < map.queries; ++query) {
      double sum = 0;
      for (fathom::index source = 0; source < sources; ++source)
        for (fathom::index key = 0; key < map.keys; ++key) {
          const float weight = map(head, query, source, key);
          sum += static_cast<double>(weight);
          in_range = in_range && weight >= 0 && weight <= 1 + 1e-5f;  // rounded
          causal = causal && (key <= query || weight == 0);
        }
      worst_sum = std::max(worst_sum, std::abs(sum - 1));
    }
  CHECK(worst_sum < 1e-5);
  CHECK(in_range);
  CHECK(causal);
}

template <class Golden, class Backend>
void meets_golden_attention(double tolerance) {
  using net = net_of<Golden, Backend>;
  INFO("golden model " << Golden::name);
  const auto weights = load<net>(Golden::name);
  const expectation expected = expected_of(Golden::name);
  const fathom::index n = expected.tokens;
  for (fathom::index sequence = 0; sequence < expected.sequences; ++sequence) {
    const std::vector<token> tokens(expected.inputs.begin() + sequence * n,
                                    expected.inputs.begin() + (sequence + 1) * n);
    const auto map = fathom::attention_map<net>(*weights, tokens);
    CHECK(map.sources == Golden::sources());
    CHECK(map.tokens == tokens);
    CHECK(map.vocab == Golden::c.vocab);
    REQUIRE(map.heads == Golden::c.heads);
    REQUIRE(map.queries == n);
    REQUIRE(map.keys == n);
    const auto size = map.weights.size();
    REQUIRE(size * static_cast<std::size_t>(expected.sequences) == expected.attention.size());
    check_softmax(map);

    // [heads, queries, sources * keys] on both sides. NaN is the largest difference.
    double difference = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const float e = expected.attention[static_cast<std::size_t>(sequence) * size + i];
      const double d = std::abs(static_cast<double>(map.weights[i]) - static_cast<double>(e));
      if (!(d <= difference)) difference = d;
    }
    CHECK(difference < tolerance);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the attention map meets the golden attention", "[attention_map]", after_mlp, after_mlp_embedding,
                   replace_linear, joint_identity) {
  meets_golden_attention<TestType, fathom::backend::reference<double>>(1e-6);
}

TEMPLATE_TEST_CASE("the attention map of the cpu backend meets the golden attention", "[attention_map]",
                   after_mlp_embedding, joint_identity) {
  meets_golden_attention<TestType, fathom::backend::cpu<float>>(1e-4);
}

TEST_CASE("what a query attends to does not depend on later tokens", "[attention_map]") {
  using net = net_of<joint_identity, fathom::backend::reference<double>>;
  const auto weights = load<net>(joint_identity::name);
  const std::vector<token> tokens{7, 60, 0, 3, 3, 41, 12, 9, 5, 22, 58, 1, 30, 7};
  const auto whole = fathom::attention_map<net>(*weights, tokens);
  for (const std::size_t length : {1u, 2u, 5u, 13u}) {
    const auto part = fathom::attention_map<net>(*weights, std::span(tokens).first(length));
    REQUIRE(part.queries == static_cast<fathom::index>(length));
    REQUIRE(part.keys == static_cast<fathom::index>(length));
    check_softmax(part);
    double difference = 0;
    for (fathom::index head = 0; head < part.heads; ++head)
      for (fathom::index query = 0; query < part.queries; ++query)
        for (fathom::index source = 0; source < 3; ++source)
          for (fathom::index key = 0; key < part.keys; ++key)
            difference = std::max(difference, std::abs(static_cast<double>(part(head, query, source, key)) -
                                                       static_cast<double>(whole(head, query, source, key))));
    CHECK(difference < 1e-7);
  }
}

TEST_CASE("shares say how much attention a source gets", "[attention_map]") {
  // 2 heads, 2 tokens, 2 sources, in sixteenths.
  attention_weights_map map{.heads = 2,
                            .queries = 2,
                            .sources = {"context", "depth 1"},
                            .keys = 2,
                            .tokens = {1, 0},
                            .vocab = 2,
                            .weights = {4, 0, 12, 0, 1, 2, 5, 8, 16, 0, 0, 0, 3, 4, 9, 0}};
  for (float& weight : map.weights) weight /= 16;
  CHECK(map.share(0, 0, 0) == 0.25);
  CHECK(map.share(0, 1, 0) == 3. / 16);
  CHECK(map.share(0, 1, 1) == 13. / 16);
  CHECK(map.share(1, 0, 1) == 0);
  CHECK(map.share(1, 1, 0) == 7. / 16);
  CHECK(map.share(0) == (4 + 3 + 16 + 7) / 64.);
  CHECK(map.share(1) == (12 + 13 + 0 + 9) / 64.);
}

TEST_CASE("tokens that do not fit the model have no attention map", "[attention_map]") {
  using net = net_of<joint_identity, fathom::backend::reference<double>>;
  const auto weights = load<net>(joint_identity::name);
  const auto map_of = [&](std::vector<token> tokens) {
    return [&weights, tokens] { return fathom::attention_map<net>(*weights, tokens); };
  };
  CHECK(fails_with(map_of({}), "attention_map: 0 tokens", "1 to 16"));
  CHECK(fails_with(map_of(std::vector<token>(17, 1)), "attention_map: 17 tokens", "1 to 16"));
  CHECK(fails_with(map_of({1, 61}), "61"));
  CHECK(fails_with(map_of({-1}), "-1"));
}

// ---- Self-attention: against transformers (make_attention.py) -----------------------------------------------------------------

namespace {

constexpr config family_config(fathom::family family) {
  return {.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 20, .tied = false, .shortcut = {}, .family = family, .kv_heads = 2};
}
constexpr config family_llama = [] {
  config c = family_config(fathom::family::llama);
  c.tied = true;
  c.rotary.base = 100'000;
  return c;
}();
constexpr config family_mistral = [] {
  config c = family_config(fathom::family::mistral);
  c.window = 16;
  return c;
}();
constexpr config family_qwen3 = [] {
  config c = family_config(fathom::family::qwen3);
  c.tied = true;
  c.head_width = 8;
  c.inverse_epsilon = 1'000'000;
  return c;
}();
constexpr config family_qwen2 = [] {
  config c = family_config(fathom::family::qwen2);
  c.rotary.base = 1'000'000;
  return c;
}();
constexpr config family_gemma3 = [] {  // windows in two blocks of three, and scores over another root than the heads'
  config c = family_config(fathom::family::gemma3);
  c.tied = true;
  c.depth = 5;
  c.head_width = 8;
  c.inverse_epsilon = 1'000'000;
  c.window = 16;
  c.window_pattern = 3;
  c.score_width = 6;
  c.rotary = {.base = 1'000'000, .scaling = fathom::rotary_scaling::linear, .factor = 8};
  return c;
}();
constexpr config family_gpt_neox{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 2, .hidden = 20, .tied = false, .shortcut = {},
                                 .family = fathom::family::gpt_neox, .rotary = {.width = 2}};
constexpr config untied_gpt2{.vocab = 61, .context = 224, .width = 24, .depth = 3, .heads = 3, .hidden = 40, .tied = false};

template <class Net>
void meets_transformers(const char* name, const std::filesystem::path& folder, double tolerance) {
  INFO(name);
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(folder, *weights);
  const fathom::io::safetensors_file golden(FATHOM_GOLDEN "/attention.safetensors");
  const auto& stored = golden.at(std::string(name) + ".attention");  // [blocks, heads, queries, keys]
  std::vector<float> expected(static_cast<std::size_t>(stored.size()));
  fathom::io::copy_numbers(stored, expected.data());
  const auto& input = golden.at(std::string(name) + ".tokens");
  std::vector<token> tokens(static_cast<std::size_t>(input.size()));
  input.read(std::as_writable_bytes(std::span(tokens)));
  REQUIRE(stored.shape == std::vector<fathom::index>{Net::depth, stored.shape[1], std::ssize(tokens), std::ssize(tokens)});
  for (int block = 0; block < Net::depth; ++block) {
    const auto map = fathom::attention_map<Net>(*weights, tokens, {.block = block});
    CHECK(map.sources == std::vector<std::string>{"block " + std::to_string(block)});
    REQUIRE(map.heads == stored.shape[1]);
    check_softmax(map);
    double difference = 0;
    for (std::size_t i = 0; i < map.weights.size(); ++i) {
      const float e = expected[static_cast<std::size_t>(block) * map.weights.size() + i];
      const double d = std::abs(static_cast<double>(map.weights[i]) - static_cast<double>(e));
      if (!(d <= difference)) difference = d;
    }
    INFO("block " << block);
    CHECK(difference < tolerance);
    const auto one = map.one_head(1);
    CHECK(one.heads == 1);
    bool is_same = true;
    for (fathom::index query = 0; query < map.queries; ++query)
      for (fathom::index key = 0; key < map.keys; ++key) is_same = is_same && one(0, query, 0, key) == map(1, query, 0, key);
    CHECK(is_same);
  }
}

}  // namespace

TEST_CASE("self-attention of every block is what transformers computes", "[attention_map]") {
  const std::filesystem::path families = FATHOM_TESTS "/families", gpt2 = FATHOM_GOLDEN "/transformers/untied_inner";
  using fathom::backend::cpu;
  using fathom::backend::reference;
  meets_transformers<fathom::model<family_llama, reference<double>>>("llama", families / "llama", 1e-6);
  meets_transformers<fathom::model<family_llama>>("llama", families / "llama", 1e-5);
  meets_transformers<fathom::model<family_mistral>>("mistral", families / "mistral", 1e-5);
  meets_transformers<fathom::model<family_qwen3>>("qwen3", families / "qwen3", 1e-5);
  meets_transformers<fathom::model<family_gpt_neox>>("gpt_neox", families / "gpt_neox", 1e-5);  // two sublayers side by side
  meets_transformers<fathom::model<family_config(fathom::family::olmo2)>>("olmo2", families / "olmo2", 1e-5);
  meets_transformers<fathom::model<family_qwen2>>("qwen2", families / "qwen2", 1e-5);
  meets_transformers<fathom::model<family_gemma3>>("gemma3", families / "gemma3", 1e-5);
  meets_transformers<fathom::model<untied_gpt2>>("gpt2", gpt2, 1e-5);
}

TEST_CASE("self-attention beside shortcuts", "[attention_map]") {
  using joint = net_of<joint_identity, fathom::backend::cpu<float>>;
  using after = net_of<after_mlp, fathom::backend::cpu<float>>;
  using replaced = net_of<replace_linear, fathom::backend::cpu<float>>;
  const std::vector<token> tokens{7, 60, 0, 3, 3, 41};
  const auto of_joint = load<joint>(joint_identity::name);
  // The last block's softmax is the shortcut's; the others have their own.
  CHECK(fathom::attention_map<joint>(*of_joint, tokens, {.block = 3}).weights == fathom::attention_map<joint>(*of_joint, tokens).weights);
  CHECK(fathom::attention_map<joint>(*of_joint, tokens, {.block = 3}).sources == joint_identity::sources());
  check_softmax(fathom::attention_map<joint>(*of_joint, tokens, {.block = 0}));
  const auto of_after = load<after>(after_mlp::name);
  const auto last = fathom::attention_map<after>(*of_after, tokens, {.block = 4});
  CHECK(last.sources == std::vector<std::string>{"block 4"});
  check_softmax(last);
  const auto of_replaced = load<replaced>(replace_linear::name);
  CHECK(fails_with([&] { return fathom::attention_map<replaced>(*of_replaced, tokens, {.block = 3}); },
                   "attention_map: block 3 of 4 has no self-attention; expected one of 0, 1, 2"));
  CHECK(fails_with([&] { return fathom::attention_map<after>(*of_after, tokens, {.block = 5}); }, "block 5 of 5 has no self-attention"));
  CHECK(fails_with([&] { return fathom::attention_map<after>(*of_after, {}, {.block = 0}); }, "attention_map: 0 tokens", "1 to 16"));
  CHECK(fails_with([&] { return last.one_head(4); }, "attention_map: head 4 of 4; expected 0 to 3"));
}
