// Configs read from JSON, in a program and by the compiler: their meaning, and the errors for invalid ones.
#include <filesystem>
#include <string>
#include <string_view>

#include <fathom/io/config.hpp>

#include "../examples/tiny.hpp"
#include "catch.hpp"
#include "fails_with.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

using fathom::config;
using fathom::io::read_config;

namespace {

constexpr std::string_view ours =
    R"({"vocab": 61, "context": 16, "width": 32, "depth": 4, "heads": 4, "mlp_ratio": 4, "tied": true, "layer_norm_eps": 1e-05,
  "shortcut": {"depths": [1, 2], "features": "mlp", "hidden": 16, "placement": "joint"}})";
/// The output of save_pretrained for GPT-2.
constexpr std::string_view gpt2 = R"({
  "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
  "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
  "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_inner": null, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
  "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257
})";
constexpr config gpt2_config{.vocab = 50257, .context = 1024, .width = 768, .depth = 12, .heads = 12};

/// The config or the error that a text gives at compile time.
constexpr bool gives(std::string_view text, const config& expected) {
  const auto read = read_config(text);
  return read.problem.empty() && read.value == expected;
}
constexpr bool says(std::string_view text, std::string_view problem) { return read_config(text).problem.view() == problem; }

static_assert(gives(ours, {.vocab = 61,
                           .context = 16,
                           .width = 32,
                           .depth = 4,
                           .heads = 4,
                           .hidden = 128,
                           .shortcut = {.depths = {1, 2}, .hidden = 16, .placement = fathom::placement::joint}}));
static_assert(gives(R"({"vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "mlp_hidden": 7, "tied": false, "shortcut": null})",
                    {.vocab = 9, .context = 8, .width = 6, .depth = 1, .heads = 3, .hidden = 7, .tied = false}));
static_assert(gives(gpt2, gpt2_config));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 4.5})", "\"width\" is 4.5; expected a whole number, at least 1"));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "layer_norm_eps": 1e-6})",
                   "\"layer_norm_eps\" is 1e-6; expected 1e-05, the only one that there is"));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "layer_norm_eps": 0.000009999999999999999999999})",
                   "\"layer_norm_eps\" is 0.000009999999999999999999999; expected 1e-05, the only one that there is"));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 6, "depth": 2, "heads": 3, "shortcut": {"depths": [0, 2]}})",
                   "\"shortcut.depths\" is [0, 2]; expected every depth once, below 64 and below \"depth\", 2"));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 6, "depth": 2, "heads": 3, "shortcut": {"depths": [0, -1]}})",
                   "\"shortcut.depths.1\" is -1; expected a depth of at least 0"));
static_assert(says(R"({"vocab": 9, "bias": true})",
                   "\"bias\" is true; expected no such key, but only family, vocab, context, width, depth, heads, kv_heads, head_width, window, rotary, "
                   "inverse_epsilon, window_pattern, local_base, score_width, mlp_ratio, mlp_hidden, tied, layer_norm_eps, shortcut, residual"));
// Those of the other families.
static_assert(gives(R"({"family": "llama", "vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "mlp_hidden": 7})",
                    {.vocab = 9, .context = 8, .width = 6, .depth = 1, .heads = 3, .hidden = 7, .family = fathom::family::llama}));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "kv_heads": 1})",
                   "\"kv_heads\" is 1; expected a divisor of \"heads\", or 0 for as many; 0 in the family gpt2"));
static_assert(says(R"({"family": "llama", "vocab": 9, "context": 8, "width": 9, "depth": 1, "heads": 3})",
                   "\"head_width\" is not there; expected an even number, at most 256, or 0 for the width divided by \"heads\"; 0 in the family gpt2"));
static_assert(says(R"({"family": "llama", "vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "kv_heads": 2})",
                   "\"kv_heads\" is 2; expected a divisor of \"heads\", or 0 for as many; 0 in the family gpt2"));
static_assert(says(R"({"family": "llama", "vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "rotary": {"base": 1}})",
                   "\"rotary.base\" is 1; expected a whole number above 1"));
static_assert(says(R"({"vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "rotary": {"base": 100}})",
                   "\"rotary\" is {\"base\": 100}; expected null, or an object with base, width, scaling, factor, low_factor, high_factor, original; "
                   "null in the family gpt2"));
static_assert(says(R"({"family": "bloom", "vocab": 9})",
                   "\"family\" is \"bloom\"; expected one of gpt2, llama, mistral, qwen2, qwen3, gpt_neox, olmo2, gemma3"));
static_assert(says(R"({"model_type": "gpt2", "activation_function": "gelu"})",
                   "\"activation_function\" is \"gelu\"; expected one of gelu_new, gelu_pytorch_tanh, gelu_fast"));
static_assert(says(R"({"vocab": )", "is not a JSON object") && says("[]", "is not a JSON object") && says("{}}", "is not a JSON object"));

/// A text with another value at a place, or, if the value is empty, without the key.
std::string with(std::string_view text, const std::string& place, std::string_view value) {
  fathom::json json = parsed(text);
  if (value.empty()) {
    const std::size_t slash = place.rfind('/');
    at(json, place.substr(0, slash)).erase(place.substr(slash + 1));
  } else {
    at(json, place) = parsed(value);
  }
  return json.dump();
}
std::string problem(const std::string& text) { return std::string(read_config(text).problem.view()); }

}  // namespace

TEST_CASE("a config.json that is none is told by the key, what is there and what was expected", "[io]") {
  struct mistake {
    const char *place, *value, *says;
  };
  const char* const size = "; expected a whole number, at least 1";
  for (const char* key : {"vocab", "context", "width", "depth", "heads"}) {
    const std::string place = std::string("/") + key, name = std::string("\"") + key + "\" is ";
    CHECK(problem(with(ours, place, "")) == name + "not there" + size);
    for (const char* value : {"0", "-4", "\"4\"", "null", "4.5", "12345678901", "true", "[4]", "1e1"})
      CHECK(problem(with(ours, place, value)) == name + parsed(value).dump() + size);
  }
  const mistake of_ours[] = {
      {"/heads", "5", "\"heads\" is 5; expected a divisor of the width, 32"},
      {"/tied", "1", "\"tied\" is 1; expected true or false"},
      {"/mlp_ratio", "0", "\"mlp_ratio\" is 0; expected a whole number, at least 1, and so that mlp_ratio * width is an int"},
      {"/mlp_ratio", "99999999", "\"mlp_ratio\" is 99999999; expected a whole number, at least 1, and so that mlp_ratio * width is an int"},
      {"/mlp_hidden", "-1", "\"mlp_hidden\" is -1; expected a whole number, at least 1"},
      {"/layer_norm_eps", "1e-06", "\"layer_norm_eps\" is 1e-06; expected 1e-05, the only one that there is"},
      {"/shortcut", "\"mlp\"", "\"shortcut\" is \"mlp\"; expected null, or an object with depths and options"},
      {"/shortcut/gates", "3", "\"shortcut.gates\" is 3; expected no such key, but only depths, features, hidden, placement, zero_init, "
                              "blocks, source, unit_features, head_norms, depth_bias, gate, slopes, rotary, exit"},
      {"/shortcut/gate", "3", "\"shortcut.gate\" is 3; expected one of none, head, head_and_depth"},
      {"/shortcut/blocks", "9", "\"shortcut.blocks\" is 9; expected 1 to \"depth\", the number of the last blocks, of which the first has a depth "
                              "at its input or below"},
      {"/shortcut/blocks", "0", "\"shortcut.blocks\" is 0; expected a whole number, at least 1: the number of the last blocks that look back"},
      {"/shortcut/rotary", "1", "\"shortcut.rotary\" is 1; expected a whole number above 1, for heads of an even width of at most 256, or 0"},
      {"/shortcut/depth_bias", "1", "\"shortcut.depth_bias\" is 1; expected true or false"},
      {"/shortcut/depths", "", "\"shortcut.depths\" is not there; expected an array of depths"},
      {"/shortcut/depths", "2", "\"shortcut.depths\" is 2; expected an array of depths"},
      {"/shortcut/depths", "[4]", "\"shortcut.depths\" is [4]; expected every depth once, below 64 and below \"depth\", 4"},
      {"/shortcut/depths", "[1,1]", "\"shortcut.depths\" is [1,1]; expected every depth once, below 64 and below \"depth\", 4"},
      {"/shortcut/depths", "[1,2.5]", "\"shortcut.depths.1\" is 2.5; expected a depth of at least 0"},
      {"/shortcut/features", "\"rbf\"", "\"shortcut.features\" is \"rbf\"; expected one of identity, linear, mlp"},
      {"/shortcut/hidden", "0", "\"shortcut.hidden\" is 0; expected a whole number, at least 1"},
      {"/shortcut/placement", "1",
       "\"shortcut.placement\" is 1; expected one of after_self_attention, replace_self_attention, joint, before_self_attention, own_values"},
      {"/shortcut/source", "\"all\"", "\"shortcut.source\" is \"all\"; expected one of outputs, differences, own_input, values, tokens"},
      {"/shortcut/source", "\"values\"", "\"shortcut.source\" is \"values\"; expected values only with the placement own_values and depths above "
                                      "0, and not in gemma3, whose blocks differ"},
      {"/shortcut/zero_init", "true", "\"shortcut.zero_init\" is true; expected false, for the placements joint and own_values, which have no "
                                      "shortcut.attn.c_proj"}};
  for (const auto& [place, value, says_it] : of_ours) CHECK(problem(with(ours, place, value)) == says_it);
  const mistake of_gpt2[] = {
      {"/model_type", "\"llama\"", "\"model_type\" is \"llama\"; expected one of gpt2"},
      {"/activation_function", "\"gelu\"",
       "\"activation_function\" is \"gelu\"; expected one of gelu_new, gelu_pytorch_tanh, gelu_fast"},
      {"/layer_norm_epsilon", "1e-06", "\"layer_norm_epsilon\" is 1e-06; expected 1e-05, the only one that there is"},
      {"/scale_attn_weights", "false", "\"scale_attn_weights\" is false; expected true; there is no model for the other"},
      {"/scale_attn_by_inverse_layer_idx", "true",
       "\"scale_attn_by_inverse_layer_idx\" is true; expected false; there is no model for the other"},
      {"/add_cross_attention", "true", "\"add_cross_attention\" is true; expected false; there is no model for the other"},
      {"/is_encoder_decoder", "true", "\"is_encoder_decoder\" is true; expected false; there is no model for the other"},
      {"/quantization_config", "{\"bits\":8}",
       "\"quantization_config\" is {\"bits\":8}; expected null; there is no model for the other"},
      {"/tie_word_embeddings", "0", "\"tie_word_embeddings\" is 0; expected true or false"},
      {"/n_head", "7", "\"n_head\" is 7; expected a divisor of the width, 768"},
      {"/n_inner", "-1", "\"n_inner\" is -1; expected a whole number, at least 1"},
      {"/n_layer", "0", "\"n_layer\" is 0; expected a whole number, at least 1"}};
  for (const auto& [place, value, says_it] : of_gpt2) CHECK(problem(with(gpt2, place, value)) == says_it);

  for (const char* text : {"", "{", "[]", "1", "null", "{} {}", "{\"vocab\": \xFF}", "{\"vocab\": 1, }"})
    CHECK(problem(text) == "is not a JSON object");
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  CHECK(problem("{\"vocab\": " + deep + "}") == "is not a JSON object");
  // Long values are shown in part, on one line, without half characters.
  std::string lines = "[\n\t";
  while (lines.size() < 58) lines += ' ';
  CHECK(problem("{\"vocab\": " + lines + "\"\u4e16\"]}") ==
        "\"vocab\" is [  " + std::string(55, ' ') + "\"..." + std::string(size));
}

TEST_CASE("a config.json of either kind is a config", "[io]") {
  const auto read = [](const std::string& text) {
    const auto found = read_config(text);
    INFO(text);
    REQUIRE(found.problem.view() == "");
    return found.value;
  };
  // Written configs can be read; the order and spelling of keys do not matter, and the last of duplicate keys wins.
  for (const config& c : {config{.vocab = 9, .context = 8, .width = 6, .depth = 1, .heads = 3, .hidden = 7, .tied = false},
                          config{.vocab = 50257, .context = 1024, .width = 768, .depth = 12, .heads = 12, .shortcut = {.depths = {0, 11}}},
                          config{.vocab = 3, .context = 2, .width = 4, .depth = 64, .heads = 1,
                                 .shortcut = {.depths = fathom::all_depths, .features = fathom::feature_map::linear,
                                              .placement = fathom::placement::replace_self_attention}},
                          config{.vocab = 9, .context = 8, .width = 6, .depth = 3, .heads = 3, .hidden = 7, .tied = false, .shortcut = {.depths = {1}},
                                 .family = fathom::family::llama, .kv_heads = 1, .head_width = 4,
                                 .rotary = {.base = 500, .scaling = fathom::rotary_scaling::llama3, .factor = 8, .low_factor = 2, .high_factor = 5,
                                            .original = 4}},
                          config{.vocab = 9, .context = 8, .width = 6, .depth = 3, .heads = 1, .family = fathom::family::mistral, .window = 3},
                          config{.vocab = 9, .context = 8, .width = 12, .depth = 3, .heads = 3, .family = fathom::family::gpt_neox, .rotary = {.width = 2}},
                          config{.vocab = 9, .context = 8, .width = 6, .depth = 3, .heads = 3, .family = fathom::family::gemma3, .window = 3,
                                 .inverse_epsilon = 1'000'000, .window_pattern = 2, .local_base = 77, .score_width = 5}})
    CHECK(normalized(read(fathom::io::to_json(c))) == normalized(c));
  CHECK(read(R"({"heads": 3, "vocab": 1, "width": 6, "\u0063ontext": 8, "depth": 2, "vocab": 9, "batch": 3, "adamw": {"lr": [1]},
                 "shortcut": {"placement": "after_\u0073elf_attention", "zero_init": true, "depths": [1]}})") ==
        config{.vocab = 9, .context = 8, .width = 6, .depth = 2, .heads = 3, .hidden = 24, .shortcut = {.depths = {1}, .zero_init = true}});
  CHECK(read(R"({"vocab": 9, "context": 8, "width": 6, "depth": 1, "heads": 3, "mlp_ratio": null, "tied": null, "shortcut": {"depths": []}})") ==
        config{.vocab = 9, .context = 8, .width = 6, .depth = 1, .heads = 3, .hidden = 24});

  config other = gpt2_config;
  other.hidden = 100;
  other.tied = false;
  CHECK(read(with(with(with(std::string(gpt2), "/n_inner", "100"), "/tie_word_embeddings", "false"), "/activation_function",
                  "\"gelu_pytorch_tanh\"")) == other);
  CHECK(read(R"({"model_type": "gpt2"})") == gpt2_config);
  CHECK(read(R"({"n_embd": 768, "model_type": null, "n_head": null, "scale_attn_weights": null})") == gpt2_config);
}

TEST_CASE("examples/story is of the model that the quickstart trains", "[io]") {
  CHECK(normalized(fathom::load_config(std::filesystem::path(FATHOM_TESTS) / "../examples/story/config.json")) == normalized(tiny));
}

TEST_CASE("load_config names the file", "[io]") {
  const temporary_folder folder;
  CHECK(fathom::load_config(folder.write("config.json", std::string(gpt2))) == gpt2_config);
  CHECK(fails_with([&] { return fathom::load_config(folder.write("bad.json", with(ours, "/heads", "5"))); },
                   "bad.json: \"heads\" is 5; expected a divisor of the width, 32"));
  CHECK(fails_with([&] { return fathom::load_config(folder.write("page.json", "<html>")); },
                   "page.json: is not a JSON object, but an HTML page"));
  CHECK(fails_with([&] { return fathom::load_config(folder.path() / "none.json"); }, "none.json: cannot be opened"));
}

TEST_CASE("problems_of says at run time why no model of a config compiles", "[io]") {
  using fathom::family;
  using fathom::rotary_scaling;
  using fathom::io::problems_of;
  CHECK(problems_of(gpt2_config).empty());
  const auto changed = [](family of, const auto& change) {
    config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .family = of};
    change(c);
    return problems_of(c);
  };
  for (const family of : {fathom::family::llama, family::mistral, family::qwen2, family::qwen3, family::gpt_neox, family::olmo2, family::gemma3})
    CHECK(changed(of, [](config&) {}).empty());
  const family llama = fathom::family::llama;
  CHECK(changed(family::gpt2, [](config& c) { c.heads = 5; }) == "\n  heads: expected a divisor of the width, 32; found 5");
  CHECK(changed(llama, [](config& c) { c.vocab = 0, c.depth = -1; }) == "\n  vocab: expected a number above 0; found 0\n  depth: expected a number above 0; found -1");
  CHECK(changed(llama, [](config& c) { c.kv_heads = 3; }) == "\n  kv_heads: expected a divisor of heads, 4; found 3");
  CHECK(changed(llama, [](config& c) { c.head_width = 7, c.rotary.width = 6; }) ==
        "\n  head_width: expected an even number of at most 256, for rotary positions; found 7");
  CHECK(changed(llama, [](config& c) { c.head_width = 512, c.rotary.width = 6; }).starts_with("\n  head_width: "));
  CHECK(changed(fathom::family::gpt_neox, [](config& c) { c.rotary.width = 1; }) ==
        "\n  rotary.width: expected an even number of at most head_width, 8; found 1");
  CHECK(changed(llama, [](config& c) { c.rotary = {.base = 1}; }).starts_with("\n  rotary.base: "));
  CHECK(changed(llama, [](config& c) { c.rotary = {.scaling = rotary_scaling::yarn, .factor = 4}; }).starts_with("\n  rotary.original: "));
  CHECK(changed(llama, [](config& c) { c.rotary = {.scaling = rotary_scaling::llama3, .factor = 4, .low_factor = 4, .high_factor = 4, .original = 16}; })
            .starts_with("\n  rotary.low_factor: expected a number below high_factor, 4; found 4"));
  CHECK(changed(fathom::family::gemma3, [](config& c) { c.local_base = 1; }).starts_with("\n  local_base: "));
  CHECK(changed(llama, [](config& c) { c.shortcut.depths = {4}; }).starts_with("\n  shortcut.depths: "));
  // The rules of a shortcut, one broken at a time: with a member, what it is, and what was expected; and the same from JSON.
  using fathom::placement;
  using fathom::shortcut_source;
  struct mistake {
    const char *member, *found, *says;
    fathom::family of;
    void (*make)(config&);
  };
  const mistake mistakes[] = {
      {"depths", "64", "depths of 0 to 63", llama, [](config& c) { c.shortcut.depths = {1, 64}; }},
      {"depths", "1 twice", "every depth once", llama, [](config& c) { c.shortcut.depths = {1, 1}; }},
      {"depths", "4", "below the number of blocks", llama, [](config& c) { c.shortcut.depths = {1, 4}; }},
      {"depths", "all_depths", "2 to 64 blocks", llama, [](config& c) { c.shortcut.depths = fathom::all_depths, c.depth = 65; }},
      {"hidden", "-1", "a number above 0", llama, [](config& c) { c.shortcut.hidden = -1; }},
      {"zero_init", "true", "no shortcut.attn.c_proj", llama, [](config& c) { c.shortcut.zero_init = true, c.shortcut.placement = placement::joint; }},
      {"zero_init", "true", "no shortcut.attn.c_proj", llama, [](config& c) { c.shortcut.zero_init = true, c.shortcut.placement = placement::own_values; }},
      {"blocks", "5", "1 to \"depth\"", llama, [](config& c) { c.shortcut.blocks = 5; }},
      {"blocks", "0", "1 to \"depth\"", llama, [](config& c) { c.shortcut.blocks = 0; }},
      {"blocks", "4", "has a depth at its input or below", llama, [](config& c) { c.shortcut.blocks = fathom::all_blocks; }},
      {"rotary", "1", "above 1", family::gpt2, [](config& c) { c.shortcut.rotary = 1; }},
      {"rotary", "100", "heads of an even width", family::gpt2, [](config& c) { c.shortcut.rotary = 100, c.width = 36; }},
      {"blocks", "2", "in gemma3, whose blocks differ", family::gemma3, [](config& c) { c.shortcut.placement = placement::joint, c.shortcut.blocks = 2; }},
      {"source", "values", "the placement own_values", llama, [](config& c) { c.shortcut.source = shortcut_source::values; }},
      {"source", "values", "depths above 0", llama,
       [](config& c) { c.shortcut = {.depths = {0, 1}, .placement = placement::own_values, .source = shortcut_source::values}; }},
      {"source", "values", "not in gemma3", family::gemma3,
       [](config& c) { c.shortcut.placement = placement::own_values, c.shortcut.source = shortcut_source::values; }},
      {"source", "values", "at most as wide as the model", llama,
       [](config& c) { c.shortcut.placement = placement::own_values, c.shortcut.source = shortcut_source::values, c.head_width = 16; }},
      {"source", "tokens", "depth 0 alone", llama,
       [](config& c) { c.shortcut.placement = placement::own_values, c.shortcut.source = shortcut_source::tokens; }},
      {"source", "tokens", "the placement own_values", llama, [](config& c) { c.shortcut = {.depths = {0}, .source = shortcut_source::tokens}; }},
      {"source", "own_input", "at most 64 blocks", llama, [](config& c) { c.shortcut.source = shortcut_source::own_input, c.depth = 65; }},
      {"depth_bias", "true", "depths have no scores", llama,
       [](config& c) { c.shortcut.placement = placement::own_values, c.shortcut.depth_bias = true; }},
      {"head_norms", "true", "queries and keys have other norms", family::olmo2,
       [](config& c) { c.shortcut.placement = placement::own_values, c.shortcut.head_norms = true; }}};
  for (const mistake& m : mistakes) {
    config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .shortcut = {.depths = {1}}, .family = m.of};
    m.make(c);
    const std::string problems = problems_of(c), found = std::string("; found ") + m.found;
    INFO(problems);
    CHECK(problems.starts_with(std::string("\n  shortcut.") + m.member + ": expected "));
    CHECK(problems.find(m.says) != std::string::npos);
    CHECK(problems.ends_with(found));
    CHECK(problems.find('\n', 1) == std::string::npos);  // one sentence
    // zero_init is not written, and some depths cannot be.
    if (std::string_view(m.member) == "depths" || std::string_view(m.member) == "zero_init") continue;
    INFO(fathom::io::to_json(c));
    CHECK(problem(fathom::io::to_json(c)).starts_with(std::string("\"shortcut.") + m.member + "\" is "));
  }
  CHECK(changed(llama, [](config& c) { c.width = c.hidden = c.depth = 2'000'000'000, c.head_width = 8; }).find("10^12 parameters") != std::string::npos);
}
