// The summary of models of today's families, line by line.
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/summary.hpp>

#include "catch.hpp"

namespace {

using fathom::config;
using fathom::family;

constexpr config of(family f) {
  return {.vocab = 1000, .context = 256, .width = 64, .depth = 2, .heads = 4, .hidden = 96, .tied = true, .shortcut = {}, .family = f, .kv_heads = 2};
}
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c != '\n')
      lines.back() += c;
    else
      lines.emplace_back();
  }
  return lines;
}
/// The lines, which are of one width, but the last one.
template <config C>
std::vector<std::string> lines() {
  const auto all = lines_of(fathom::summary<fathom::model<C>>());
  for (std::size_t i = 0; i + 2 < all.size(); ++i) CHECK(all[i].size() == all[0].size());
  return all;
}
std::string what(const std::string& line) {  // without numbers
  const std::string text = line.substr(19);
  return text.substr(0, text.find("  "));
}

}  // namespace

TEST_CASE("the summary of a family names norms, positions and heads", "[summary]") {
  const auto llama = lines<of(family::llama)>();
  REQUIRE(llama.size() == 12);
  CHECK(llama[2].starts_with("wte                1000 tokens to 64   "));
  CHECK(llama[2].ends_with("      64,000            0"));
  CHECK(llama[3].starts_with("h.0.attn           RMS norm, causal self-attention, 4 heads of 16, 2 of keys and values, rotary "));
  CHECK(llama[4].starts_with("h.0.mlp            RMS norm, gated MLP, hidden 96, silu   "));
  CHECK(llama[5].starts_with("h.1.attn "));
  CHECK(llama[7].starts_with("ln_f, logits       RMS norm, logits of 1000 tokens, tied to wte "));
  CHECK(llama[9].starts_with("total "));

  constexpr config scaled = [] {
    config c = of(family::llama);
    c.rotary = {.scaling = fathom::rotary_scaling::llama3, .factor = 8, .original = 64};
    return c;
  }();
  CHECK(what(lines<scaled>()[3]) == "RMS norm, causal self-attention, 4 heads of 16, 2 of keys and values, rotary, llama3 x8");
  constexpr config windowed = [] {
    config c = of(family::mistral);
    c.window = 32;
    return c;
  }();
  CHECK(what(lines<windowed>()[3]) == "RMS norm, causal self-attention, 4 heads of 16, 2 of keys and values, a window of 32, rotary");
  CHECK(what(lines<of(family::qwen3)>()[3]) ==
        "RMS norm, causal self-attention, 4 heads of 16, 2 of keys and values, rotary, norms of each head");
  const auto qwen2 = lines<of(family::qwen2)>();
  CHECK(what(qwen2[3]) == "RMS norm, causal self-attention, 4 heads of 16, 2 of keys and values, rotary");
  CHECK(qwen2[3].find("  12,480 ") != std::string::npos);  // 64 + 64 * 128 + 128 biases + 64 * 64
  constexpr config of_gemma3 = [] {  // windows in blocks 0 and 1, and scores over another root than the heads'
    config c = of(family::gemma3);
    c.depth = 3;
    c.window = 32;
    c.window_pattern = 3;
    c.score_width = 8;
    return c;
  }();
  const auto gemma3 = lines<of_gemma3>();
  CHECK(what(gemma3[2]) == "1000 tokens times sqrt(width) to 64");
  const std::string before = "RMS norm, causal self-attention, 4 heads of 16, 2 of keys and values, ", after = "rotary, norms of each head, RMS norm";
  CHECK(what(gemma3[3]) == before + "a window of 32, " + after);
  CHECK(gemma3[3].find("  12,448 ") != std::string::npos);  // 64 + 64 * 128 + 2 * 16 + 64 * 64 + 64
  CHECK(what(gemma3[4]) == "RMS norm, gated MLP, hidden 96, gelu_tanh, RMS norm");
  CHECK(what(gemma3[5]) == before + "a window of 32, " + after);
  CHECK(what(gemma3[7]) == before + after);
  const auto olmo2 = lines<of(family::olmo2)>();
  CHECK(what(olmo2[3]) == "causal self-attention, 4 heads of 16, 2 of keys and values, rotary, norms of queries and keys, RMS norm");
  CHECK(what(olmo2[4]) == "gated MLP, hidden 96, silu, RMS norm");
  constexpr config neox{.vocab = 1000, .context = 256, .width = 64, .depth = 2, .heads = 4, .hidden = 96, .tied = false, .shortcut = {},
                        .family = family::gpt_neox, .rotary = {.width = 4}};
  CHECK(what(lines<neox>()[3]) == "causal self-attention, 4 heads of 16, rotary of 4");
  CHECK(what(lines<neox>()[4]) == "MLP, hidden 96, gelu_erf");
}

TEST_CASE("the summary of GPT-2", "[summary]") {
  constexpr config gpt2{.vocab = 256, .context = 128, .width = 64, .depth = 2, .heads = 4, .shortcut = {.depths = {1}}};
  const auto all = lines<gpt2>();
  CHECK(all[0] == "layer              what it is                                                   parameters   FLOP/token");
  CHECK(all[1] == std::string(103, '-'));
  CHECK(all[2] == "wte, wpe           256 tokens and 128 positions to 64                               24,576            0");
  CHECK(what(all[3]) == "causal self-attention, 4 heads of 16");
}
