// Models as others distribute them, on disk and in memory: config, weights, tokenizer; and configs as C++.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/data/model_tokenizer.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "small_chat_model.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::config;
using fathom::io::file_in_memory;
using fathom::io::model_files;

/// A folder's files in memory.
struct in_memory {
  std::vector<std::pair<std::string, std::string>> texts;
  explicit in_memory(const std::filesystem::path& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      texts.emplace_back(entry.path().filename().string(), small_chat::text_of(entry.path()));
  }
  [[nodiscard]] std::vector<file_in_memory> files() const {
    std::vector<file_in_memory> all;
    for (const auto& [name, text] : texts) all.push_back({name, std::as_bytes(std::span(text.data(), text.size()))});
    return all;
  }
};

template <class Net, class From>
auto loaded(const From& from) {
  auto weights = fathom::make<typename Net::parameters>();
  fathom::load(from, *weights);
  return weights;
}
template <class Weights>
bool same(const Weights& a, const Weights& b) {
  return std::memcmp(a.get(), b.get(), sizeof *a) == 0;
}

}  // namespace

// The text of each config is compiled, and must be what to_cpp prints of the config before it.
#define CHECK_CPP(given, ...)                            \
  do {                                                   \
    constexpr config compiled = __VA_ARGS__;             \
    CHECK(compiled == fathom::normalized(given));        \
    CHECK(fathom::io::to_cpp(given) == #__VA_ARGS__);    \
  } while (false)

TEST_CASE("a config as C++ compiles to the same config", "[model_files]") {
  constexpr config plain{.vocab = 256, .context = 128, .width = 64, .depth = 3, .heads = 4};
  CHECK_CPP(plain, fathom::config{.vocab = 256, .context = 128, .width = 64, .depth = 3, .heads = 4, .hidden = 256, .tied = true, .shortcut = {}, .family = fathom::family::gpt2, .kv_heads = 0, .head_width = 0, .window = 0, .rotary = {.base = 10000, .width = 0, .scaling = fathom::rotary_scaling::none, .factor = 1, .low_factor = 1, .high_factor = 4, .original = 0}, .inverse_epsilon = 100000, .window_pattern = 0, .local_base = 0, .score_width = 0});
  constexpr config shortcut{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .hidden = 50, .tied = false,
                            .shortcut = {.depths = {3, 0}, .features = fathom::feature_map::mlp, .hidden = 7,
                                         .placement = fathom::placement::replace_self_attention, .zero_init = true}};
  CHECK_CPP(shortcut, fathom::config{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .hidden = 50, .tied = false, .shortcut = {.depths = {0, 3}, .features = fathom::feature_map::mlp, .hidden = 7, .placement = fathom::placement::replace_self_attention, .zero_init = true}, .family = fathom::family::gpt2, .kv_heads = 0, .head_width = 0, .window = 0, .rotary = {.base = 10000, .width = 0, .scaling = fathom::rotary_scaling::none, .factor = 1, .low_factor = 1, .high_factor = 4, .original = 0}, .inverse_epsilon = 100000, .window_pattern = 0, .local_base = 0, .score_width = 0});
  constexpr config llama3{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 20, .tied = false, .shortcut = {},
                          .family = fathom::family::llama, .kv_heads = 2, .head_width = 8,
                          .rotary = {.base = 500'000, .scaling = fathom::rotary_scaling::llama3, .factor = 8, .low_factor = 2, .high_factor = 5, .original = 64},
                          .inverse_epsilon = 1'000'000};
  CHECK_CPP(llama3, fathom::config{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 20, .tied = false, .shortcut = {}, .family = fathom::family::llama, .kv_heads = 2, .head_width = 8, .window = 0, .rotary = {.base = 500000, .width = 8, .scaling = fathom::rotary_scaling::llama3, .factor = 8, .low_factor = 2, .high_factor = 5, .original = 64}, .inverse_epsilon = 1000000, .window_pattern = 0, .local_base = 0, .score_width = 0});
  constexpr config mistral{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .family = fathom::family::mistral, .window = 16};
  CHECK_CPP(mistral, fathom::config{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 64, .tied = true, .shortcut = {}, .family = fathom::family::mistral, .kv_heads = 4, .head_width = 4, .window = 16, .rotary = {.base = 10000, .width = 4, .scaling = fathom::rotary_scaling::none, .factor = 1, .low_factor = 1, .high_factor = 4, .original = 0}, .inverse_epsilon = 100000, .window_pattern = 0, .local_base = 0, .score_width = 0});
  constexpr config gemma3{.vocab = 61, .context = 256, .width = 16, .depth = 7, .heads = 4, .family = fathom::family::gemma3, .window = 16};
  CHECK_CPP(gemma3, fathom::config{.vocab = 61, .context = 256, .width = 16, .depth = 7, .heads = 4, .hidden = 64, .tied = true, .shortcut = {}, .family = fathom::family::gemma3, .kv_heads = 4, .head_width = 4, .window = 16, .rotary = {.base = 10000, .width = 4, .scaling = fathom::rotary_scaling::none, .factor = 1, .low_factor = 1, .high_factor = 4, .original = 0}, .inverse_epsilon = 100000, .window_pattern = 6, .local_base = 10000, .score_width = 4});
}

TEST_CASE("the config of a folder, of a GGUF file, of a saved file", "[model_files]") {
  const temporary_folder folder;
  small_chat::write_folder(folder.path() / "model");
  small_chat::write_gguf(folder.path() / "model.gguf", folder.path() / "model");
  CHECK(fathom::io::config_of(model_files(folder.path() / "model")) == fathom::normalized(small_chat::config));
  CHECK(fathom::io::config_of(model_files(folder.path() / "model.gguf")) == fathom::normalized(small_chat::config));
  std::filesystem::copy(folder.path() / "model.gguf", folder.path() / "blob");  // as download caches call files
  CHECK(fathom::io::config_of(model_files(folder.path() / "blob")) == fathom::normalized(small_chat::config));

  constexpr config with_shortcut{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .shortcut = {.depths = {1, 2}}};
  const auto weights = fathom::make<fathom::model<with_shortcut>::parameters>();
  fathom::save(folder.path() / "ours.safetensors", *weights);
  CHECK(fathom::io::config_of(model_files(folder.path() / "ours.safetensors")) == fathom::normalized(with_shortcut));
  const config gpt2 = fathom::io::config_of(model_files(FATHOM_GOLDEN "/transformers/tied"));
  CHECK(gpt2.family == fathom::family::gpt2);
  CHECK(gpt2.tied);

  const auto config_at = [](const std::filesystem::path& path) { return [path] { return fathom::io::config_of(model_files(path)); }; };
  CHECK(fails_with(config_at(folder.path() / "nothing"), "nothing: there is no such file or folder"));
  folder.write("text.bin", "text");
  CHECK(fails_with(config_at(folder.path() / "text.bin"), "text.bin: is no model; expected a GGUF file"));
  folder.write("text.gguf", "text");
  CHECK(fails_with(config_at(folder.path() / "text.gguf"), "text.gguf: is not a"));
  folder.write("other/config.json", R"({"model_type": "mamba"})");
  CHECK(fails_with(config_at(folder.path() / "other"), "config.json: is the config of no model that can be built:", "found \"mamba\""));
  std::filesystem::remove(folder.path() / "other/config.json");
  CHECK(fails_with(config_at(folder.path() / "other"), "other: has no config.json"));
  CHECK(fails_with(config_at(FATHOM_TESTS "/families/llama/model.safetensors"), "has no metadata entry fathom.config"));
}

TEST_CASE("weights and tokenizers are read from memory as from disk", "[model_files]") {
  using net = fathom::model<small_chat::config>;
  const temporary_folder folder;
  small_chat::write_folder(folder.path() / "model");
  small_chat::write_gguf(folder.path() / "model.gguf", folder.path() / "model");
  const auto expected = loaded<net>(folder.path() / "model");
  const in_memory folder_files(folder.path() / "model");
  const std::string gguf = small_chat::text_of(folder.path() / "model.gguf");
  const model_files on_disk[] = {model_files(folder.path() / "model"), model_files(folder.path() / "model.gguf")};
  const model_files held[] = {model_files(folder_files.files(), "the program"),
                              model_files({{"model.gguf", std::as_bytes(std::span(gguf))}}, "the program")};
  for (const model_files* const from : {&on_disk[0], &on_disk[1], &held[0], &held[1]}) {
    INFO(from->name() << (from->gguf() ? ", GGUF" : ", folder"));
    CHECK(same(loaded<net>(*from), expected));
    CHECK(fathom::io::config_of(*from) == fathom::normalized(small_chat::config));
    auto packed = fathom::make<net::packed<std::int8_t>>();
    fathom::load(*from, *packed);
    CHECK(same(packed, fathom::pack<std::int8_t>(*expected)));
    const auto tokenizer = fathom::data::read_bpe(*from);
    CHECK(tokenizer.size() == 563);
    CHECK(tokenizer.decode(tokenizer.encode("In the beginning, 12 naïve cats")) == "In the beginning, 12 naïve cats");
    CHECK(tokenizer.encode("<|im_end|>", fathom::data::special::as_tokens) == std::vector<fathom::token>{562});
    CHECK(fathom::data::end_tokens(*from, tokenizer) == std::vector<fathom::token>{560, 562});
    CHECK(fathom::data::chat_template(*from) == small_chat::chat_template);
  }
  constexpr config other = [] {
    config c = small_chat::config;
    c.kv_heads = 4;
    return c;
  }();
  for (const model_files& from : held)
    CHECK(fails_with([&] { return loaded<fathom::model<other>>(from); }, "the program: does not fit the model:",
                     "kv_heads: the model has 4, the file 2"));
  constexpr config gpt{.vocab = 576, .context = 256, .width = 32, .depth = 2, .heads = 4};
  CHECK(fails_with([&] { return loaded<fathom::model<gpt>>(held[1]); }, "the program: does not fit the model:", "family: the model has gpt2, the file qwen3"));
  CHECK(fails_with([&] { return loaded<fathom::model<gpt>>(held[0]); }, "the program: does not fit the model:", "model_type: expected \"gpt2\""));
}

TEST_CASE("all families and GPT-2, also in shards, from memory", "[model_files]") {
  for (const char* name : {"llama", "llama3", "yarn", "mistral", "qwen2", "gpt_neox", "olmo2", "gemma3"}) {
    INFO(name);
    const std::filesystem::path folder = std::filesystem::path(FATHOM_TESTS "/families") / name;
    const in_memory files(folder);
    const model_files held(files.files(), "the program");
    CHECK(fathom::io::config_of(held) == fathom::io::config_of(model_files(folder)));
  }
  constexpr config llama{.vocab = 61, .context = 256, .width = 16, .depth = 2, .heads = 4, .hidden = 20, .tied = true, .shortcut = {},
                         .family = fathom::family::llama, .kv_heads = 2, .rotary = {.base = 100'000}};
  const std::filesystem::path path = FATHOM_TESTS "/families/llama", shards = FATHOM_GOLDEN "/transformers/half_shards";
  const in_memory files(path);
  CHECK(same(loaded<fathom::model<llama>>(model_files(files.files(), "the program")), loaded<fathom::model<llama>>(path)));

  in_memory parts(shards);
  const fathom::io::safetensors_folder from_memory(fathom::io::named_files(parts.files(), "the program")), from_disk(shards);
  REQUIRE(from_memory.tensors().size() == from_disk.tensors().size());
  for (const auto& [name, tensor] : from_disk.tensors()) CHECK(from_memory.at(name).bytes() == tensor.bytes());
  std::erase_if(parts.texts, [](const auto& file) { return file.first == "model-00002-of-00005.safetensors"; });
  CHECK(fails_with([&] { return fathom::io::safetensors_folder(fathom::io::named_files(parts.files(), "the program")); },
                   "the program: has no file model-00002-of-00005.safetensors"));
}

TEST_CASE("the tokens that end an answer may be a number, a list, or missing", "[model_files]") {
  const temporary_folder folder;
  small_chat::write_folder(folder.path());
  const auto ends = [&] {
    const model_files files(folder.path());
    return fathom::data::end_tokens(files, fathom::data::read_bpe(files));
  };
  using tokens = std::vector<fathom::token>;
  folder.write("generation_config.json", R"({"eos_token_id": 561})");
  CHECK(ends() == tokens{561, 562});
  folder.write("generation_config.json", R"({"eos_token_id": [561, -1, 100000, 1e300, null, "x"]})");
  CHECK(ends() == tokens{561, 562});
  folder.write("generation_config.json", "[]");
  CHECK(ends() == tokens{562});
  std::filesystem::remove(folder.path() / "generation_config.json");
  CHECK(ends() == tokens{562});
  folder.write("generation_config.json", "no json");
  CHECK(fails_with(ends, "generation_config.json: is not JSON"));
}
