// Models in GGUF files: what save_gguf writes is what is read; metadata that no config can express, or that is hostile, is one
// error. Whether llama.cpp computes the same with the files: bench/check_gguf.sh.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/error.hpp>
#include <fathom/data/gguf_bpe.hpp>
#include <fathom/io/gguf.hpp>
#include <fathom/io/gguf_models.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::config;
using fathom::index;
using fathom::io::gguf_file;
using fathom::io::gguf_metadata;
namespace ggml = fathom::ggml;

constexpr config small{.vocab = 33, .context = 16, .width = 32, .depth = 2, .heads = 2, .hidden = 40, .tied = true, .shortcut = {}};
using gpt2 = fathom::model<small>;

template <class Weights>
void expect_same(const Weights& a, const Weights& b) {
  Weights::model::visit(
      [](std::string_view name, fathom::initial, const auto& x, const auto& y) {
        INFO(name);
        CHECK(std::ranges::equal(x.span(), y.span()));
      },
      a, b);
}

/// A change of one entry of metadata, or a new entry.
void set(gguf_metadata& all, const std::string& key, fathom::io::gguf_value_to_write value) {
  for (auto& [name, old] : all)
    if (name == key) {
      old = std::move(value);
      return;
    }
  all.emplace_back(key, std::move(value));
}

/// The config in a file of this metadata and a table, or the problems.
std::string read(const config& of, const std::function<void(gguf_metadata&)>& change, config* to = nullptr) {
  const temporary_folder folder;
  gguf_metadata metadata = fathom::io::metadata_of(of, {});
  change(metadata);
  const std::vector<float> table(static_cast<std::size_t>(of.vocab * of.width));
  const auto path = folder.path() / "a.gguf";
  write_gguf(path, metadata, {{"token_embd.weight", ggml::type::f32, {of.width, of.vocab}, std::as_bytes(std::span(table))}});
  const gguf_file file(path);
  std::string problems;
  try {
    const config found = fathom::io::config_of_gguf(file, problems);
    if (to) *to = found;
  } catch (const fathom::error& error) {
    problems += error.what();
  }
  return problems;
}
config of(fathom::family family) {
  return fathom::normalized({.vocab = 33, .context = 16, .width = 32, .depth = 7, .heads = 2, .hidden = 40, .tied = true, .shortcut = {}, .family = family});
}

}  // namespace

TEST_CASE("a GPT-2 is written as GGUF and read again, bit for bit", "[io]") {
  const temporary_folder folder;
  auto weights = fathom::make<gpt2::parameters>(), again = fathom::make<gpt2::parameters>();
  fathom::initialize<gpt2>(*weights, 3);
  fathom::save_gguf(folder.path() / "model.gguf", *weights);
  fathom::load(folder.path() / "model.gguf", *again);
  expect_same(*weights, *again);
  std::filesystem::rename(folder.path() / "model.gguf", folder.path() / "model");  // its first bytes say what it is
  auto third = fathom::make<gpt2::parameters>();
  fathom::load(folder.path() / "model", *third);
  expect_same(*weights, *third);

  // Into a model with a shortcut, as from its other files.
  constexpr config c{.vocab = 33, .context = 16, .width = 32, .depth = 2, .heads = 2, .hidden = 40, .tied = true, .shortcut = {.depths = {1}}};
  auto with = fathom::make<fathom::model<c>::parameters>();
  CHECK(fails_with([&] { return fathom::load(folder.path() / "model", *with), 0; }, "shortcut.attn.c_q.weight: missing; expected"));
  fathom::load(folder.path() / "model", *with, {fathom::missing::keep});
  CHECK(std::ranges::equal(with->embed.wte.span(), weights->embed.wte.span()));
}

TEST_CASE("a GGUF file of another model is an error that says how it differs", "[io]") {
  const temporary_folder folder;
  const auto path = folder.path() / "model.gguf";
  auto weights = fathom::make<gpt2::parameters>();
  fathom::save_gguf(path, *weights);
  constexpr config c{.vocab = 33, .context = 8, .width = 16, .depth = 3, .heads = 2, .hidden = 40, .tied = true, .shortcut = {}};
  auto other = fathom::make<fathom::model<c>::parameters>();
  CHECK(fails_with([&] { return fathom::load(path, *other), 0; }, "does not fit the model:", "width: the model has 16, the file 32",
                   "depth: the model has 3, the file 2"));
  constexpr config shorter{.vocab = 33, .context = 8, .width = 32, .depth = 2, .heads = 2, .hidden = 40, .tied = true, .shortcut = {}};
  auto few = fathom::make<fathom::model<shorter>::parameters>();
  CHECK(fails_with([&] { return fathom::load(path, *few), 0; }, "context: the model has 8, the file 16 learned positions"));
  constexpr config llama{.vocab = 33, .context = 16, .width = 32, .depth = 2, .heads = 2, .hidden = 40, .tied = true, .shortcut = {}, .family = fathom::family::llama};
  auto family = fathom::make<fathom::model<llama>::parameters>();
  CHECK(fails_with([&] { return fathom::load(path, *family), 0; }, "family: the model has llama, the file gpt2"));
  // What only begins as a GGUF file does is none.
  CHECK(fails_with([&] { return fathom::load(folder.write("cut", "GGUF\3"), *weights), 0; }, "is not a valid GGUF file"));
  CHECK(fails_with([&] { return fathom::load(folder.write("text.gguf", "hello"), *weights), 0; }, "is not a valid GGUF file"));
}

TEST_CASE("the metadata of every architecture comes back", "[io]") {
  using fathom::family;
  for (const family f : {family::gpt2, family::llama, family::mistral, family::qwen2, family::qwen3, family::gpt_neox, family::olmo2, family::gemma3}) {
    config c = of(f), found{};
    if (f == family::mistral || f == family::gemma3) c.window = 5;
    if (f == family::gemma3) c.window_pattern = 4;
    c = fathom::normalized(c);
    const std::string problems = read(c, [](gguf_metadata&) {}, &found);
    INFO(problems);
    CHECK(problems.empty());
    CHECK((found == c));
  }
}

TEST_CASE("patterns of windows in GGUF files are a number or a list", "[io]") {
  config c = of(fathom::family::gemma3);
  c.window = 5;
  const std::string key = "gemma3.attention.sliding_window_pattern";
  config found{};
  CHECK(read(c, [&](auto& m) { set(m, key, std::vector<bool>{true, true, false, true, true, false, true}); }, &found).empty());
  CHECK(found.window_pattern == 3);
  CHECK(read(c, [&](auto& m) { set(m, key, std::vector<bool>(7, true)); }, &found).empty());
  CHECK(found.window_pattern == 8);
  CHECK(read(c, [&](auto& m) { set(m, key, std::vector<bool>(7, false)); }, &found).empty());
  CHECK(found.window_pattern == 1);
  CHECK(read(c, [&](auto& m) { std::erase_if(m, [&](const auto& e) { return e.first == key; }); }, &found).empty());
  CHECK(found.window_pattern == 6);
  for (const auto& list : {std::vector<bool>{}, std::vector<bool>(6, true), std::vector<bool>{true, false, true, true, false, true, true}}) {
    const std::string problems = read(c, [&](auto& m) { set(m, key, list); });
    INFO(problems);
    CHECK(problems.find(key + ": expected false for every n-th of 7 blocks") != std::string::npos);
  }
}

TEST_CASE("a factor of rotary positions without a type is that of linear scaling, as in llama.cpp", "[io]") {
  const config c = of(fathom::family::llama);
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    config found{};
    INFO(key);
    CHECK(read(c, [&](auto& m) { set(m, key, 4.0f); }, &found).empty());
    CHECK(found.rotary.scaling == fathom::rotary_scaling::linear);
    CHECK(found.rotary.factor == 4);
    for (const float none : {0.0f, 1.0f}) {
      CHECK(read(c, [&](auto& m) { set(m, key, none); }, &found).empty());
      CHECK((found == c));
    }
    CHECK(read(c, [&](auto& m) { set(m, key, 2.5f); }).find(std::string(key) + ": expected a whole number") != std::string::npos);
    CHECK(read(c, [&](auto& m) { set(m, key, 4.0f), set(m, "llama.rope.scaling.type", "none"); }, &found).empty());
    CHECK((found == c));
  }
}

TEST_CASE("hostile metadata is an error that names the key", "[io]") {
  using fathom::family;
  const auto says = [](const config& c, const std::string& key, const fathom::io::gguf_value_to_write& value, const std::string& what) {
    const std::string problems = read(c, [&](auto& m) { set(m, key, value); });
    INFO(key << ": " << problems);
    CHECK(problems.find(key) != std::string::npos);
    CHECK(problems.find(what) != std::string::npos);
  };
  const std::int64_t least = std::numeric_limits<std::int64_t>::min();
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinite = std::numeric_limits<float>::infinity();
  for (const family f : {family::gpt2, family::llama, family::qwen2, family::qwen3, family::gpt_neox, family::olmo2, family::gemma3}) {
    config c = of(f);
    if (f == family::gemma3) c.window = 5;
    const std::string a = fathom::io::gguf_architecture(f) + ".";
    for (const char* size : {"context_length", "embedding_length", "block_count", "attention.head_count", "feed_forward_length"}) {
      for (const std::int64_t n : {least, std::int64_t{-1}, std::int64_t{0}, std::int64_t{1} << 31})
        says(c, a + size, n, "expected a whole number, at least 1; found " + std::to_string(n));
      says(c, a + size, "many", "expected an integer");
    }
    const std::string epsilon = a + (f == family::gpt2 || f == family::gpt_neox ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon");
    for (const float e : {0.0f, -1e-5f, nan, infinite, 3e-5f, 1e30f}) says(c, epsilon, e, "expected 1");
    if (f == family::gpt2) continue;
    for (const float base : {nan, infinite, -infinite, 0.0f, 1.0f, 2.5f, 1e30f}) says(c, a + "rope.freq_base", base, "expected a whole number, at least 2");
    says(c, a + "rope.scaling.type", "longrope", "expected none, linear or yarn; found longrope");
    says(c, a + "rope.dimension_count", std::int64_t{-2}, "expected a whole number, at least 1");
    says(c, a + "attention.sliding_window", std::int64_t{-2}, "expected a whole number, at least 0");
    says(c, a + "expert_count", std::uint32_t{8}, "no mixture of experts");
    for (const char* other : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor",
                              "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_log_multiplier",
                              "attention.clamp_kqv"})
      for (const float n : {0.5f, nan}) says(c, a + other, n, "the only value that a fathom::config can express");
    says(c, a + "attention.causal", false, "expected true; found false");
    says(c, a + "attention.value_length", std::uint32_t{8}, "expected 16, that of keys; found 8");
    const std::string linear = read(c, [&](auto& m) { set(m, a + "rope.scaling.type", "linear"), set(m, a + "rope.scaling.factor", nan); });
    CHECK(linear.find("rope.scaling.factor: expected a whole number, at least 1") != std::string::npos);
  }
  config gemma = of(family::gemma3);
  gemma.window = 5;
  says(gemma, "gemma3.attention.sliding_window_pattern", std::int64_t{0}, "expected a whole number, at least 1");
  says(gemma, "gemma3.attention.sliding_window_pattern", std::vector<std::string>{"a"}, "expected an array of");
  says(gemma, "gemma3.final_logit_softcapping", 30.0f, "expected 0; found 30");
  says(gemma, "gemma3.rope.freq_base_swa", 0.5f, "expected a whole number, at least 2");
  says(of(family::gpt_neox), "gptneox.use_parallel_residual", false, "expected true; found false");
  says(of(family::olmo2), "olmo2.attention.sliding_window", std::uint32_t{8}, "expected 0; found 8");
  says(of(family::llama), "general.architecture", "mamba", "expected one of llama, qwen2, qwen3, gemma3, gpt2, gptneox, olmo2; found mamba");
}

TEST_CASE("what llama.cpp cannot express is refused, and nothing is written", "[io]") {
  config gemma = of(fathom::family::gemma3);
  gemma.window = 5, gemma.score_width = 7;
  CHECK(fails_with([&] { return fathom::io::metadata_of(gemma, {}); }, "save_gguf: llama.cpp's gemma3 cannot express the model:",
                   "score_width: expected 16; found 7"));
  config qwen = of(fathom::family::qwen3);
  qwen.rotary.scaling = fathom::rotary_scaling::llama3;
  CHECK(fails_with([&] { return fathom::io::metadata_of(qwen, {}); }, "rotary.scaling: llama3 is known to its architecture llama only"));

  const temporary_folder folder;
  auto weights = fathom::make<gpt2::parameters>();
  const auto path = folder.path() / "model.gguf";
  fathom::gguf_options options;
  options.tokenizer = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"}}};
  CHECK(fails_with([&] { return fathom::save_gguf(path, *weights, options), 0; }, "the tokenizer has 2 tokens; expected 33, the model's vocab"));
  weights->embed.wte.span()[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(fails_with([&] { return fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::q8_0}), 0; },
                   "save_gguf: token_embd.weight has nan; as Q8_0, all numbers must be finite"));
  weights->embed.wte.span()[5] = 8.5e6f;  // its scale would be infinite in F16
  CHECK(fails_with([&] { return fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::q8_0}), 0; },
                   "save_gguf: token_embd.weight has 8.5e+06; as Q8_0, all numbers must be finite, and at most 8.319"));
  CHECK(!std::filesystem::exists(path));
  for (float& number : weights->embed.wte.span()) number = 0;
  weights->embed.wte.span()[5] = 1e-40f;  // the inverse of its scale would be infinite
  fathom::save_gguf(path, *weights, {.type = fathom::gguf_numbers::q8_0});
  const fathom::io::gguf_file saved(path);
  std::vector<float> numbers(static_cast<std::size_t>(saved.tensor("token_embd.weight").size()), 1);
  fathom::io::copy_numbers(saved.tensor("token_embd.weight"), numbers.data());
  CHECK(std::all_of(numbers.begin(), numbers.end(), [](float x) { return x == 0; }));
}

TEST_CASE("Q8_0 is rounded as llama.cpp's package rounds it", "[io]") {
  // gguf.quants.quantize of these numbers, gguf 0.19.
  constexpr std::uint8_t expected[] = {
      233, 40,  129, 7,  170, 18,  211, 29,  252, 225, 37,  236, 78,  247, 119, 2,  154, 13, 195, 25,  236, 36,  20,
      231, 61,  243, 102, 254, 137, 9,  178, 20,  219, 31,  132, 2,   4,   227, 45, 238, 86, 249, 127, 4,   162, 16,
      203, 27,  244, 222, 29, 234, 70,  245, 111, 0,   145, 11,  186, 22,  227, 34, 12,  229, 53, 240, 94,  252};
  std::vector<float> numbers;
  for (int i = 0; i < 64; ++i)
    numbers.push_back(static_cast<float>((i * 37 % 64 - 31) / 7.0 * (i % 2 == 1 ? 0.3 : 1.1)) * (i < 32 ? 1.0f : 1e-3f));
  const temporary_folder folder;
  auto weights = fathom::make<gpt2::parameters>();  // all zero
  std::ranges::copy(numbers, weights->embed.wte.span().begin());
  fathom::save_gguf(folder.path() / "a.gguf", *weights, {.type = fathom::gguf_numbers::q8_0});
  const gguf_file file(folder.path() / "a.gguf");
  const auto& table = file.tensor("token_embd.weight");
  CHECK(table.describe() == "Q8_0 [32, 33]");
  CHECK(std::ranges::equal(table.bytes.first(sizeof expected), std::as_bytes(std::span(expected))));
  CHECK(std::ranges::all_of(table.bytes.subspan(sizeof expected), [](std::byte b) { return b == std::byte{0}; }));
  CHECK(file.tensor("blk.0.ffn_down.weight").describe() == "F32 [40, 32]");  // rows of 40 numbers are no whole blocks
  CHECK(file.tensor("position_embd.weight").describe() == "F32 [32, 16]");
}

TEST_CASE("a Gemma 3 is written as GGUF, its gains plus 1, and read again", "[io]") {
  constexpr config c{.vocab = 33, .context = 16, .width = 32, .depth = 3, .heads = 2, .hidden = 40, .tied = true, .shortcut = {},
                     .family = fathom::family::gemma3, .kv_heads = 1, .head_width = 8, .window = 5, .window_pattern = 2};
  using gemma3 = fathom::model<c>;
  auto weights = fathom::make<gemma3::parameters>(), again = fathom::make<gemma3::parameters>();
  fathom::initialize<gemma3>(*weights, 1);
  gemma3::visit(
      [](std::string_view, fathom::initial, auto& tensor) {
        if (tensor.rank == 1)
          for (float& gain : tensor.span()) gain = 0.25f * static_cast<float>(&gain - tensor.data() + 1) / 8;  // exact, plus 1 as well
      },
      *weights);
  const temporary_folder folder;
  const auto path = folder.path() / "model.gguf";
  fathom::save_gguf(path, *weights);
  fathom::load(path, *again);
  expect_same(*weights, *again);
  const gguf_file file(path);
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.1.post_attention_norm", "blk.1.ffn_norm", "blk.2.post_ffw_norm", "blk.2.attn_q_norm",
                           "blk.2.attn_k_norm"}) {
    const auto& tensor = file.tensor(std::string(norm) + ".weight");
    std::vector<float> gains(static_cast<std::size_t>(tensor.size()));
    copy_numbers(tensor, gains.data());
    INFO(norm);
    for (std::size_t i = 0; i < gains.size(); ++i) CHECK(gains[i] == 1 + 0.25f * static_cast<float>(i + 1) / 8);
  }
}

TEST_CASE("a model with room for more tokens than its tokenizer has is written with unused ones", "[io]") {
  using namespace fathom::data;
  for (const char* name : {"qwen2", "llama2"}) {
    const bpe tokenizer(std::filesystem::path(FATHOM_GOLDEN) / "tokenizers" / name);
    constexpr config c{.vocab = 600, .context = 4, .width = 8, .depth = 1, .heads = 1, .hidden = 8, .tied = true, .shortcut = {}, .family = fathom::family::qwen2};
    auto weights = fathom::make<fathom::model<c>::parameters>();
    const temporary_folder folder;
    const auto path = folder.path() / "a.gguf";
    REQUIRE(tokenizer.size() < c.vocab);
    CHECK(fails_with([&] { return fathom::save_gguf(path, *weights, {.tokenizer = gguf_metadata_of(tokenizer)}), 0; }, "expected 600, the model's vocab"));
    fathom::save_gguf(path, *weights, {.tokenizer = gguf_metadata_of(tokenizer, c.vocab)});
    const gguf_file file(path);
    CHECK(file.texts("tokenizer.ggml.tokens").back() == "[PAD599]");
    CHECK(file.integers("tokenizer.ggml.token_type").back() == 5);  // unused
    const bpe again = read_bpe(file);
    CHECK(again.size() == c.vocab);
    for (const std::string text : {"The river is wide", "[PAD599]", "It'S 2031 é", "川は\n"}) CHECK(again.encode(text) == tokenizer.encode(text));
    fathom::load(path, *weights);
  }
}

TEST_CASE("tokenizers are written as metadata of GGUF files", "[io]") {
  const std::filesystem::path golden = std::filesystem::path(FATHOM_GOLDEN) / "tokenizers";
  using namespace fathom::data;
  for (const char* name : {"llama3", "smollm2", "qwen2", "llama2", "gemma"}) {
    const temporary_folder folder;
    const bpe tokenizer(golden / name);
    fathom::io::write_gguf(folder.path() / "a.gguf", gguf_metadata_of(tokenizer), {});
    const gguf_file file(folder.path() / "a.gguf");
    const bpe again = read_bpe(file);
    REQUIRE(again.size() == tokenizer.size());
    for (fathom::token t = 0; t < again.size(); ++t) {
      INFO(name << " " << t << " " << tokenizer.bytes(t));
      if (tokenizer.bytes(t) != " [INST]") CHECK(again.bytes(t) == tokenizer.bytes(t));  // below
      CHECK(again.is_special(t) == tokenizer.is_special(t));
    }
    CHECK((again.bos() == tokenizer.bos() && again.eos() == tokenizer.eos()));
    // An added token that is looked for in normalised text, which GGUF cannot say.
    const fathom::token normalised = std::string_view(name) == "llama2" ? tokenizer.special_token("[INST]") : std::string_view(name) == "qwen2" ? 565 : -1;
    std::ifstream lines(golden / "expected.txt");
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const std::size_t at = line.find(':');
      std::string text;  // in hexadecimal
      for (std::size_t i = at + 1; at != line.npos && i + 1 < line.size() && line[i] != ':'; i += 2)
        text += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
      const auto tokens = tokenizer.encode(text);
      if (std::ranges::find(tokens, normalised) != tokens.end()) continue;
      for (const special how : {special::as_text, special::as_tokens}) {
        INFO(name << ": " << text);
        CHECK(again.encode(text, how, ends::marked) == tokenizer.encode(text, how, ends::marked));
      }
    }
    CHECK(count > 250);
    CHECK(fathom::io::tokenizer_in(file).size() == file.metadata().size());
  }
}
