// Small models with random weights, a tokenizer and a chat template, as others distribute models: a folder of `transformers`,
// and the same as a GGUF file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/json.hpp>
#include <fathom/io/file.hpp>
#include <fathom/io/gguf.hpp>
#include <fathom/io/safetensors.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

namespace small_chat {

/// With room for more tokens than the tokenizer's 563. A GGUF file of the architecture qwen3 has its rows in the order of
/// `transformers`.
inline constexpr fathom::config config{.vocab = 576, .context = 256, .width = 32, .depth = 2, .heads = 4, .hidden = 48, .tied = false,
                                       .shortcut = {}, .family = fathom::family::qwen3, .kv_heads = 2, .head_width = 8};
inline constexpr const char* chat_template =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe brief<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

inline std::string text_of(const std::filesystem::path& path) { return std::string(fathom::io::whole_file(path).text()); }
inline void write(const std::filesystem::path& path, std::string_view text) { std::ofstream(path, std::ios::binary) << text; }

/// A folder of `transformers`; <|im_end|>, 562, and <|endoftext|>, 560, end an answer.
inline void write_folder(const std::filesystem::path& folder, std::uint64_t seed = 1) {
  using net = fathom::model<config>;
  const auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, seed);
  net::visit(
      [](std::string_view name, fathom::initial, auto& tensor) {  // so that tokens depend on those before them
        if (name.find("ln_") == std::string_view::npos && name.find("norm") == std::string_view::npos)
          for (float& number : tensor.span()) number *= 20;
      },
      *weights);
  fathom::save_transformers(folder, *weights);
  write(folder / "tokenizer.json", text_of(FATHOM_GOLDEN "/tokenizers/smollm2/tokenizer.json"));
  fathom::json settings = fathom::json::object();
  settings["tokenizer_class"] = "GPT2Tokenizer";
  settings["eos_token"] = "<|im_end|>";
  settings["chat_template"] = chat_template;
  write(folder / "tokenizer_config.json", settings.dump());
  write(folder / "generation_config.json", R"({"eos_token_id": [562, 560]})");
}

/// The model of such a folder as a GGUF file.
inline void write_gguf(const std::filesystem::path& path, const std::filesystem::path& folder) {
  using namespace fathom::io;
  const fathom::json tokenizer = *fathom::json::parse(text_of(folder / "tokenizer.json"));
  std::map<int, std::string> by_id;
  std::map<int, std::int32_t> types;
  for (const auto& [token, id] : tokenizer["model"]["vocab"].members()) by_id[id.as<int>()] = token, types[id.as<int>()] = 1;
  for (const fathom::json& added : tokenizer["added_tokens"].elements()) {
    by_id[added["id"].as<int>()] = added["content"].text();
    types[added["id"].as<int>()] = added["special"].as<bool>() ? 3 : 4;
  }
  std::vector<std::string> tokens, merges;
  std::vector<std::int32_t> token_types;
  for (const auto& [id, token] : by_id) tokens.push_back(token), token_types.push_back(types[id]);
  for (const fathom::json& merge : tokenizer["model"]["merges"].elements())
    merges.push_back(merge.is_string() ? merge.text() : merge[0].text() + " " + merge[1].text());
  const auto size = [](int number) { return static_cast<std::uint32_t>(number); };
  const gguf_metadata metadata{{"general.architecture", "qwen3"},
                               {"qwen3.context_length", size(config.context)},
                               {"qwen3.embedding_length", size(config.width)},
                               {"qwen3.block_count", size(config.depth)},
                               {"qwen3.attention.head_count", size(config.heads)},
                               {"qwen3.attention.head_count_kv", size(config.kv_heads)},
                               {"qwen3.attention.key_length", size(config.head_width)},
                               {"qwen3.attention.value_length", size(config.head_width)},
                               {"qwen3.feed_forward_length", size(config.hidden)},
                               {"qwen3.attention.layer_norm_rms_epsilon", 1e-5f},
                               {"qwen3.rope.freq_base", 10000.0f},
                               {"tokenizer.ggml.model", "gpt2"},
                               {"tokenizer.ggml.pre", "smollm"},
                               {"tokenizer.ggml.tokens", tokens},
                               {"tokenizer.ggml.token_type", token_types},
                               {"tokenizer.ggml.merges", merges},
                               {"tokenizer.ggml.eos_token_id", std::uint32_t{562}},
                               {"tokenizer.ggml.eot_token_id", std::uint32_t{560}},
                               {"tokenizer.chat_template", chat_template}};
  const std::pair<std::string_view, std::string_view> names[] = {
      {"model.embed_tokens", "token_embd"},   {"lm_head", "output"},
        {"model.norm", "output_norm"},          {"input_layernorm", "attn_norm"},
      {"post_attention_layernorm", "ffn_norm"}, {"self_attn.q_proj", "attn_q"},       {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},         {"self_attn.o_proj", "attn_output"},    {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},    {"mlp.gate_proj", "ffn_gate"},          {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},          {"model.layers", "blk"}};
  const safetensors_file file(folder / "model.safetensors");
  std::vector<gguf_tensor_to_write> tensors;
  std::vector<std::vector<std::byte>> numbers;
  numbers.reserve(file.tensors().size());
  for (const auto& [theirs, tensor] : file.tensors()) {
    std::string name = theirs;
    for (const auto& [from, to] : names)
      if (const std::size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
    numbers.push_back(tensor.bytes());
    tensors.push_back({name, fathom::ggml::type::f32, {tensor.shape.rbegin(), tensor.shape.rend()}, numbers.back()});
  }
  fathom::io::write_gguf(path, metadata, tensors);
}

}  // namespace small_chat
