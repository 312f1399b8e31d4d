// Models of today's families as `transformers` saves them (make_families.py): logits, loss, gradients and greedy tokens are its
// own. FATHOM_FAMILIES names another folder of such models.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"
#include "transformers_numbers.hpp"

namespace {

using fathom::config;
using fathom::index;
using fathom::token;

constexpr config llama_like(fathom::family family) {
  return {.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 20, .tied = false, .shortcut = {}, .family = family, .kv_heads = 2};
}
struct llama {
  static constexpr const char* name = "llama";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::llama);
    c.tied = true;
    c.rotary.base = 100'000;
    return c;
  }();
};
struct llama3 {
  static constexpr const char* name = "llama3";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::llama);
    c.head_width = 8;
    c.rotary = {.base = 500'000, .scaling = fathom::rotary_scaling::llama3, .factor = 4, .original = 64};
    return c;
  }();
};
struct linear {
  static constexpr const char* name = "linear";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::llama);
    c.rotary = {.scaling = fathom::rotary_scaling::linear, .factor = 4};
    return c;
  }();
};
struct yarn {
  static constexpr const char* name = "yarn";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::llama);
    c.head_width = 8;
    c.rotary = {.scaling = fathom::rotary_scaling::yarn, .factor = 4, .original = 64};
    return c;
  }();
};
struct mistral {
  static constexpr const char* name = "mistral";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::mistral);
    c.window = 16;
    return c;
  }();
};
struct qwen2 {
  static constexpr const char* name = "qwen2";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::qwen2);
    c.rotary.base = 1'000'000;
    return c;
  }();
};
struct qwen3 {
  static constexpr const char* name = "qwen3";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::qwen3);
    c.tied = true;
    c.head_width = 8;
    c.inverse_epsilon = 1'000'000;
    return c;
  }();
};
struct gpt_neox {
  static constexpr const char* name = "gpt_neox";
  static constexpr config c{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 2, .hidden = 20, .tied = false, .shortcut = {},
                            .family = fathom::family::gpt_neox, .rotary = {.width = 2}};
};
struct olmo2 {
  static constexpr const char* name = "olmo2";
  static constexpr config c = llama_like(fathom::family::olmo2);
};
struct gemma3 {
  static constexpr const char* name = "gemma3";
  static constexpr config c = [] {
    config c = llama_like(fathom::family::gemma3);
    c.depth = 5;
    c.tied = true;
    c.head_width = 8;
    c.window = 16;
    c.rotary = {.base = 1'000'000, .scaling = fathom::rotary_scaling::linear, .factor = 8};
    c.inverse_epsilon = 1'000'000;
    c.window_pattern = 3;
    c.score_width = 6;
    return c;
  }();
};

std::filesystem::path folder_of(const char* name) {
  const char* const other = std::getenv("FATHOM_FAMILIES");
  return std::filesystem::path(other ? other : FATHOM_TESTS "/families") / name;
}
/// The largest difference, as a fraction of the largest number expected.
template <class T>
double difference(std::span<const T> found, std::span<const float> expected) {
  REQUIRE(found.size() == expected.size());
  return distance_of(found, expected).relative();
}

template <class Net>
void check_model(const std::filesystem::path& folder) {
  const fathom::io::safetensors_file expected(folder / "expected.safetensors");
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(folder, *weights);

  const auto tokens = tokens_in(expected, "tokens");  // [2, 40]
  std::vector<token> targets(tokens.size(), -1);      // the next token; transformers shifts labels
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
    if ((i + 1) % 40 != 0) targets[i] = tokens[i + 1];
  typename Net::tape tape(2, 40);
  Net::forward(*weights, {tokens, {}, 2, 40}, tape);
  CHECK(difference<typename Net::scalar>(tape.logits(), numbers_in(expected.at("logits"))) < 1e-5);

  auto gradients = fathom::make<typename Net::parameters>();
  Net::forward_backward(*weights, {tokens, targets, 2, 40}, tape, *gradients);
  CHECK(static_cast<double>(tape.loss()) == Approx(numbers_in(expected.at("loss"))[0]).epsilon(1e-5));

  // The gradients in our layout, by the code that reads weights.
  auto theirs = fathom::make<typename Net::parameters>();
  const stored_gradients stored(expected);
  fathom::io::read_any_layout(stored, *theirs, {fathom::missing::keep}, false);
  std::map<std::string, double> off;
  Net::visit(
      [&](std::string_view name, fathom::initial, const auto& mine, const auto& other) {
        if (name.starts_with("h.1.")) return;
        const std::vector<float> as_float(other.span().begin(), other.span().end());
        off[std::string(name)] = difference<typename Net::scalar>(mine.span(), as_float);
      },
      *gradients, *theirs);
  for (const auto& [name, by] : off) {
    INFO(name);
    CHECK(by < 2e-4);
  }
}

template <class Net>
void check_greedy(const std::filesystem::path& folder) {
  const fathom::io::safetensors_file expected(folder / "expected.safetensors");
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(folder, *weights);
  const auto tokens = tokens_in(expected, "greedy");  // [208], of which 8 are the prompt
  fathom::generator<Net> writer(*weights, {.temperature = 0, .seed = 1});
  std::vector<token> written(tokens.begin(), tokens.begin() + 8);
  writer.write(std::span(tokens).first(8), 200, [&](token t) {
    written.push_back(t);
    return true;
  });
  CHECK(written == tokens);
}

/// What save_transformers writes is what transformers wrote, bit for bit.
template <class Net>
void check_going_back(const std::filesystem::path& folder) {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(folder, *weights);
  const temporary_folder to;
  fathom::save_transformers(to.path() / "saved", *weights);
  const fathom::io::safetensors_file before(folder / "model.safetensors"), after(to.path() / "saved" / "model.safetensors");
  std::size_t compared = 0;
  for (const auto& [name, tensor] : after.tensors()) {
    INFO(name);
    REQUIRE(before.tensors().contains(name));
    CHECK(before.at(name).shape == tensor.shape);
    CHECK(before.at(name).bytes() == tensor.bytes());
    ++compared;
  }
  CHECK(compared == before.tensors().size());
  auto again = fathom::make<typename Net::parameters>();
  fathom::load(to.path() / "saved", *again);  // config.json says the same
  Net::visit([](std::string_view, fathom::initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); }, *weights,
             *again);
}

/// What save_gguf writes is read again as the same weights. Gemma's gains lose what adding 1 rounds.
template <class Net>
void check_gguf(const std::filesystem::path& folder) {
  auto weights = fathom::make<typename Net::parameters>(), again = fathom::make<typename Net::parameters>();
  fathom::load(folder, *weights);
  const temporary_folder to;
  const auto path = to.path() / "model";  // its first bytes say what it is
  constexpr config c = Net::architecture::family_configuration;
  if (c.score_width != 0 && c.score_width != c.head_width) {
    CHECK(fails_with([&] { return fathom::save_gguf(path, *weights), 0; }, "score_width: expected 8; found 6"));
    CHECK(!std::filesystem::exists(path));
    return;
  }
  fathom::save_gguf(path, *weights);
  fathom::load(path, *again);
  const double rounding = c.family == fathom::family::gemma3 ? 1e-6 : 0;
  Net::visit(
      [rounding](std::string_view name, fathom::initial, const auto& a, const auto& b) {
        INFO(name);
        CHECK(difference(std::span(b.span().data(), b.span().size()), std::span<const float>(a.span().data(), a.span().size())) <= rounding);
      },
      *weights, *again);
  fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::bf16});
  fathom::load(path, *again);
  Net::visit(
      [](std::string_view name, fathom::initial, const auto& a, const auto& b) {
        INFO(name);
        CHECK(difference(std::span(b.span().data(), b.span().size()), std::span<const float>(a.span().data(), a.span().size())) <= 1 / 256.0);
      },
      *weights, *again);
}

}  // namespace

TEMPLATE_TEST_CASE("models of transformers compute the same here", "[families]", llama, llama3, linear, yarn, mistral, qwen2, qwen3, gpt_neox,
                   olmo2, gemma3) {
  const auto folder = folder_of(TestType::name);
  SECTION("logits, loss and gradients, on the cpu backend") { check_model<fathom::model<TestType::c>>(folder); }
  SECTION("and on the reference backend, in double") {
    check_model<fathom::model<TestType::c, fathom::backend::reference<double>>>(folder);
  }
  SECTION("are written as transformers writes them") { check_going_back<fathom::model<TestType::c>>(folder); }
  SECTION("are written as GGUF") { check_gguf<fathom::model<TestType::c>>(folder); }
  SECTION("200 greedy tokens, decoded one by one") { check_greedy<fathom::model<TestType::c>>(folder); }
}

TEST_CASE("a config.json that does not fit, or that no config can express, is one error with all its keys", "[families]") {
  const auto folder = folder_of("llama");
  const temporary_folder other;
  std::filesystem::copy_file(folder / "model.safetensors", other.path() / "model.safetensors");
  std::ifstream file(folder / "config.json");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto with = [&](std::initializer_list<std::pair<const char*, const char*>> changes) {
    std::string changed = text;
    for (const auto& [from, to] : changes) {
      const std::size_t at = changed.find(from);
      REQUIRE(at != std::string::npos);
      changed.replace(at, std::strlen(from), to);
    }
    other.write("config.json", changed);
  };
  using net = fathom::model<llama::c>;
  auto weights = fathom::make<net::parameters>();
  const auto says = [&](std::initializer_list<const char*> all) {
    for (const char* part : all) {
      INFO(part);
      CHECK(fails_with([&] { return fathom::load(other.path(), *weights), 0; }, part));
    }
  };
  with({{"\"hidden_size\": 16", "\"hidden_size\": 32"}, {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4"}});
  says({"does not fit the model", "width: the model has 16, the file 32", "kv_heads: the model has 2, the file 4"});
  with({{"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\""},
        {"\"mlp_bias\": false", "\"mlp_bias\": true"},
        {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 3e-05"},
        {"\"rope_type\": \"default\"", "\"rope_type\": \"longrope\""}});
  says({"hidden_act: expected \"silu\"", "found \"gelu\"", "mlp_bias: expected false", "rms_norm_eps: expected 1 / a whole number", "found 3e-05",
        "rope_parameters.rope_type: expected default, linear, llama3 or yarn; found \"longrope\""});
  with({{"\"model_type\": \"llama\"", "\"model_type\": \"mamba\""}});
  says({"model_type: expected one of llama, mistral, qwen2, qwen3, gpt_neox, olmo2, gemma3_text, gpt2; found \"mamba\""});
  with({{"\"rope_type\": \"default\"", "\"rope_type\": \"linear\", \"factor\": 1e300"}});
  says({"rope_parameters.factor: expected a whole number, at least 1"});
  other.write("config.json", "[]");
  says({"is not a JSON object"});
  // A shorter context than the file's is the program's choice, a longer one is not.
  with({{"\"max_position_embeddings\": 256", "\"max_position_embeddings\": 512"}});
  fathom::load(other.path(), *weights);
  with({{"\"max_position_embeddings\": 256", "\"max_position_embeddings\": 128"}});
  says({"context: the model has 256, the file at most 128"});
}

namespace {
template <fathom::placement Placement>
struct llama_with_shortcut {
  static constexpr config c = [] {
    config c = llama::c;
    c.shortcut = {.depths = {0, 1}, .placement = Placement, .zero_init = Placement != fathom::placement::joint};
    return c;
  }();
};
}  // namespace

TEST_CASE("families have shortcuts, into which plain checkpoints load", "[families]") {
  const auto folder = folder_of("llama");
  using plain = fathom::model<llama::c>;
  using net = fathom::model<llama_with_shortcut<fathom::placement::after_self_attention>::c>;
  using joint = fathom::model<llama_with_shortcut<fathom::placement::joint>::c>;
  auto weights = fathom::make<net::parameters>();
  CHECK(fails_with([&] { return fathom::load(folder, *weights), 0; }, "does not fit the model:", "shortcut.ln.weight: missing; expected F32",
                   "shortcut.features.1.c_fc.weight: missing", "shortcut.attn.c_kv.weight: missing"));
  // With zero_init the model is the plain one at the start, bit for bit.
  fathom::initialize<net>(*weights, 1);
  fathom::load(folder, *weights, {fathom::missing::keep});
  auto base = fathom::make<plain::parameters>();
  fathom::load(folder, *base);
  std::vector<token> tokens;
  for (int i = 0; i < 20; ++i) tokens.push_back(i * 7 % 61);
  net::tape with(1, 20);
  plain::tape without(1, 20);
  net::forward(*weights, {tokens, {}, 1, 20}, with);
  plain::forward(*base, {tokens, {}, 1, 20}, without);
  CHECK(std::ranges::equal(with.logits(), without.logits()));

  // Our own files hold all of it, and decoding agrees with forward.
  auto other = fathom::make<joint::parameters>(), again = fathom::make<joint::parameters>();
  fathom::initialize<joint>(*other, 2);
  fathom::load(folder, *other, {fathom::missing::keep});
  const temporary_folder to;
  fathom::save(to.path() / "joint.safetensors", *other);
  fathom::load(to.path() / "joint.safetensors", *again);
  joint::tape tape(1, 20);
  joint::forward(*again, {tokens, {}, 1, 20}, tape);
  joint::cache cache(1, 20);
  joint::prefill(*again, std::span(tokens).first(12), cache);
  std::span<const float> logits;
  for (std::size_t i = 12; i < 20; ++i) logits = joint::decode(*again, tokens[i], cache);
  const auto last = tape.logits().last(61);
  CHECK(difference(logits, std::vector<float>(last.begin(), last.end())) < 1e-5);
  CHECK(fails_with([&] { return fathom::load(to.path() / "joint.safetensors", *base), 0; }, "does not fit the model"));
}

TEST_CASE("missing keys mean what transformers takes for them", "[families]") {
  const auto read = [](const std::string& keys) {
    std::string problems;
    const config c = fathom::io::config_of_transformers("{\"model_type\": " + keys + "}", problems);
    INFO(keys << problems);
    CHECK(problems.empty());
    return c;
  };
  // The defaults of the configuration classes in transformers 5.24. Null has a meaning of its own.
  const config mistral = read("\"mistral\""), qwen3 = read("\"qwen3\""), olmo2 = read("\"olmo2\""), llama = read("\"llama\"");
  CHECK((mistral.kv_heads == 8 && mistral.window == 4096 && mistral.hidden == 14336 && mistral.context == 131072));
  CHECK((read(R"("mistral", "sliding_window": null, "num_key_value_heads": null)").window == 0));
  CHECK((read(R"("mistral", "num_key_value_heads": null)").kv_heads == 32));
  CHECK((qwen3.kv_heads == 32 && qwen3.head_width == 128 && qwen3.vocab == 151936 && qwen3.inverse_epsilon == 1'000'000));
  CHECK((read("\"qwen2\"").head_width == 128 && read("\"qwen2\"").hidden == 22016));
  CHECK((olmo2.kv_heads == 32 && olmo2.vocab == 50304 && olmo2.inverse_epsilon == 100'000));
  CHECK((llama.kv_heads == 32 && llama.vocab == 32000 && llama.hidden == 11008));
  // rope_scaling counts where there is rope_parameters, too, and may have a base; the context is that of pretraining.
  const config scaled = read(R"("llama", "max_position_embeddings": 64, "rope_theta": 777, "rope_parameters": {"rope_type": "default", "rope_theta": 5},
                                "rope_scaling": {"type": "yarn", "factor": 4, "rope_theta": 500})");
  CHECK((scaled.rotary.base == 500 && scaled.rotary.scaling == fathom::rotary_scaling::yarn && scaled.rotary.original == 64));
  CHECK(read(R"("gpt_neox", "rope_theta": 777, "rotary_emb_base": 500)").rotary.base == 500);
  std::string problems;
  static_cast<void>(fathom::io::config_of_transformers(R"({"model_type": "llama", "rope_parameters": {"partial_rotary_factor": 0.5}})", problems));
  CHECK(problems.find("rope_parameters.partial_rotary_factor: expected 1.0, the only value that a fathom::config can express; found 0.5") != std::string::npos);
}

namespace {
// Found by make_families.py --random.
struct mistral_without_window {
  static constexpr config c = [] {
    config c = llama_like(fathom::family::mistral);
    c.inverse_epsilon = 100'000'000;  // 1e-8 in float is nearer to 1 / 100,000,001
    return c;
  }();
};
}  // namespace

TEST_CASE("a mistral without a window and a small epsilon come back from a GGUF file", "[families]") {
  using net = fathom::model<mistral_without_window::c>;
  auto weights = fathom::make<net::parameters>(), again = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 1);
  const temporary_folder to;
  fathom::save_gguf(to.path() / "model.gguf", *weights);
  fathom::load(to.path() / "model.gguf", *again);
  net::visit([](std::string_view, fathom::initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); }, *weights, *again);
}

TEST_CASE("YaRN's ramp falls where its end is before its beginning, as in transformers", "[families]") {
  // inv_freq of transformers 5.24's _compute_yarn_parameters: head_dim 4, rope_theta 2, factor 3, original 1024.
  using positions = fathom::layers::rotary<2, fathom::yarn_scaling<std::ratio<3>, 1024>>;
  const auto& angles = positions::angles<4>();
  CHECK(angles.frequencies[0] == Approx(0.3333333432674408).epsilon(1e-6));
  CHECK(angles.frequencies[1] == Approx(0.2357022762298584).epsilon(1e-6));
}

TEST_CASE("a part of a head that no head has is an error", "[families]") {
  for (const char* part : {"1e300", "-1", "0", "1.5"}) {
    std::string problems;
    static_cast<void>(fathom::io::config_of_transformers(
        std::string(R"({"model_type": "gpt_neox", "hidden_size": 16, "num_attention_heads": 2, "rotary_pct": )") + part + "}", problems));
    INFO(part << problems);
    CHECK(problems.find("partial_rotary_factor: expected a number above 0, at most 1; found ") != std::string::npos);
  }
}

TEST_CASE("the patterns of Gemma 3's windows are read, and a list that fits none is an error", "[families]") {
  using fathom::io::config_of_transformers;
  const auto list = [](int depth, int pattern) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += std::string(i == 0 ? "" : ", ") + ((i + 1) % pattern == 0 ? "\"full_attention\"" : "\"sliding_attention\"");
    return "[" + text + "]";
  };
  for (const int depth : {18, 26, 34, 48, 62}) {  // Gemma 3's
    std::string problems;
    const std::string start = R"({"model_type": "gemma3_text", "num_hidden_layers": )" + std::to_string(depth);
    const config listed = config_of_transformers(start + ", \"layer_types\": " + list(depth, 6) + "}", problems);
    const config numbered = config_of_transformers(start + ", \"sliding_window_pattern\": 6}", problems);
    CHECK((problems.empty() && listed == numbered && listed.window_pattern == 6 && listed.depth == depth));
  }
  const auto says = [](const std::string& keys, const char* expected) {
    std::string problems;
    static_cast<void>(config_of_transformers(R"({"model_type": "gemma3_text", "num_hidden_layers": 4, )" + keys + "}", problems));
    INFO(keys << problems);
    CHECK(problems.find(expected) != std::string::npos);
  };
  constexpr const char* types = "layer_types: expected sliding_attention and full_attention for 4 blocks";
  for (const std::string& bad : {list(3, 2), list(5, 6), std::string("[]"), std::string("{}"), std::string("[1, 2, 3, 4]"),
                                 std::string(R"(["full_attention", "sliding_attention", "full_attention", "full_attention"])"),
                                 std::string(R"(["sliding_attention", "full_attention", "sliding_attention", "linear_attention"])")})
    says("\"layer_types\": " + bad, types);
  says(R"("rms_norm_eps": 0)", "rms_norm_eps: expected 1 / a whole number");
  says(R"("sliding_window_pattern": 0)", "sliding_window_pattern: expected a whole number, at least 1; found 0");
  says(R"("query_pre_attn_scalar": 0.5)", "query_pre_attn_scalar: expected a whole number");
  says(R"("final_logit_softcapping": 30.0)", "final_logit_softcapping: expected null; found 30");
  says(R"("use_bidirectional_attention": true)", "use_bidirectional_attention: expected false");
  says(R"("rope_parameters": {"full_attention": 3})", "rope_parameters.full_attention: expected an object; found 3");
  says(R"("rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2}})", "rope_parameters.sliding_attention.rope_type: expected default");
  says(R"("rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 0.5}})", "rope_parameters.full_attention.factor: expected a whole number");
}

TEST_CASE("shards of a family's folder are read as one file", "[families]") {
  const auto folder = folder_of("gemma3");
  const fathom::io::safetensors_file file(folder / "model.safetensors");
  const temporary_folder other;
  std::filesystem::copy_file(folder / "config.json", other.path() / "config.json");
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<fathom::io::tensor_to_write> shards[2];
  std::string map;
  std::size_t n = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto& held = bytes[name] = tensor.bytes();
    const std::size_t shard = n++ % 2;  // pieces of one of our tensors lie in different shards
    shards[shard].push_back({name, tensor.type, tensor.shape, held});
    map += (map.empty() ? "\"" : ", \"") + name + "\": \"" + std::to_string(shard) + ".safetensors\"";
  }
  for (const std::size_t shard : {0u, 1u}) fathom::io::write_safetensors(other.path() / (std::to_string(shard) + ".safetensors"), shards[shard], {});
  other.write("model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  using net = fathom::model<gemma3::c>;
  auto weights = fathom::make<net::parameters>(), again = fathom::make<net::parameters>();
  fathom::load(folder, *weights);
  fathom::load(other.path(), *again);
  net::visit([](std::string_view, fathom::initial, const auto& a, const auto& b) { CHECK(std::ranges::equal(a.span(), b.span())); }, *weights, *again);
}

TEST_CASE("a tied checkpoint may hold its table twice, but not two tables", "[families]") {
  const fathom::io::safetensors_file file(folder_of("llama") / "model.safetensors");
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<fathom::io::tensor_to_write> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto& held = bytes[name] = tensor.bytes();
    tensors.push_back({name, tensor.type, tensor.shape, held});
  }
  auto head = bytes["model.embed_tokens.weight"];
  tensors.push_back({"lm_head.weight", "F32", file.at("model.embed_tokens.weight").shape, head});
  const temporary_folder folder;
  using net = fathom::model<llama::c>;
  auto weights = fathom::make<net::parameters>();
  fathom::io::write_safetensors(folder.path() / "same.safetensors", tensors, {});
  fathom::load(folder.path() / "same.safetensors", *weights);
  head[5] ^= std::byte{1};
  fathom::io::write_safetensors(folder.path() / "other.safetensors", tensors, {});
  CHECK(fails_with([&] { return fathom::load(folder.path() / "other.safetensors", *weights), 0; },
                   "lm_head.weight: differs from model.embed_tokens.weight, and the model's head is tied"));
}
