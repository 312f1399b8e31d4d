// Checkpoints in the layout of `transformers`: a folder with config.json, and model.safetensors or shards of it
// (huggingface.co/docs/transformers, GPT2Config and "Sharded checkpoints").
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "fathom/core/error.hpp"
#include "fathom/io/config.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/config.hpp"

namespace fathom::io {

namespace detail {
/// A key of GPT2Config that decides what is computed. What only training, generation or the memory of their model asks for
/// is not listed, nor is reorder_and_upcast_attn: it orders the same products in another way.
struct transformers_key {
  const char* name;
  nlohmann::json standard;               // what it means where a file does not have it
  std::vector<nlohmann::json> accepted;  // by the config; the first is the one to write
  const char* member;                    // of fathom::config; null when a config cannot express anything else
};

/// The keys for a config, which is normalized. Its shortcut plays no part: there is none in GPT-2.
[[nodiscard]] inline std::vector<transformers_key> transformers_keys(const config& c) {
  const bool usual = c.hidden == 4 * c.width;  // then null means the same
  return {{"model_type", nullptr, {"gpt2"}, nullptr},
          {"vocab_size", 50257, {c.vocab}, "vocab"},
          {"n_positions", 1024, {c.context}, "context"},
          {"n_embd", 768, {c.width}, "width"},
          {"n_layer", 12, {c.depth}, "depth"},
          {"n_head", 12, {c.heads}, "heads"},
          {"n_inner", nullptr, {usual ? nlohmann::json() : nlohmann::json(c.hidden), c.hidden}, "hidden"},
          {"tie_word_embeddings", true, {c.tied}, "tied"},
          {"layer_norm_epsilon", 1e-5, {1e-5}, nullptr},
          {"activation_function", "gelu_new", {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"}, nullptr},  // all the tanh form
          {"scale_attn_weights", true, {true}, nullptr},
          {"scale_attn_by_inverse_layer_idx", false, {false}, nullptr},
          {"add_cross_attention", false, {false}, nullptr},
          {"quantization_config", nullptr, {nullptr}, nullptr}};
}
}  // namespace detail

/// What a config.json of `transformers` says otherwise than a config, one line for every key, empty when they agree; and
/// after these the config that it stands for, when there is one.
[[nodiscard]] inline std::string transformers_differences(const config& given, const nlohmann::json& found) {
  if (!found.is_object()) return "\n  is not a JSON object";
  std::string text, members;
  bool expressible = true;
  for (const auto& key : detail::transformers_keys(normalized(given))) {
    const bool present = found.contains(key.name);
    const nlohmann::json& value = present ? found[key.name] : key.standard;  // not copied: it may be deeply nested
    const bool agrees = std::find(key.accepted.begin(), key.accepted.end(), value) != key.accepted.end();
    const std::int64_t count = value.is_number_integer() ? value.get<std::int64_t>() : 0;
    const bool number = count > 0 && count <= INT32_MAX;
    if (key.member && (number || value.is_boolean()))
      members += join(members.empty() ? "." : ", .", key.member, " = ", value.dump());
    else if (key.member ? !value.is_null() : !agrees)
      expressible = false;
    if (agrees) continue;
    text += join("\n  ", key.name, ": expected ", key.accepted.front().dump());
    if (key.member) text += join(", the model's ", key.member);
    text += join("; found ", present ? detail::shown(value) : "nothing");
    if (!present && !value.is_null()) text += join(", which means ", value.dump());
    if (!key.member) text += ", which a fathom::config cannot express";
  }
  if (!text.empty() && expressible) text += join("\n  the config that fits it: fathom::config{", members, "}");
  return text;
}

/// The config.json that `transformers` makes a GPT2LMHeadModel of. type is that of the weights, "float32".
[[nodiscard]] inline nlohmann::json to_transformers_json(const config& given, std::string_view type) {
  nlohmann::json json{{"architectures", {"GPT2LMHeadModel"}}};
  for (const auto& key : detail::transformers_keys(normalized(given)))
    if (!key.accepted.front().is_null()) json[key.name] = key.accepted.front();
  // GPT-2's 50256 begins and ends texts; another vocabulary has no such token, and generation must not stop at one.
  for (const char* special : {"bos_token_id", "eos_token_id"})
    json[special] = given.vocab == 50257 ? nlohmann::json(50256) : nlohmann::json();
  for (const char* dropout : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) json[dropout] = 0.0;
  json["dtype"] = type;
  return json;
}

/// A file of JSON. Fails when it cannot be read or is not JSON.
[[nodiscard]] inline nlohmann::json read_json(const std::filesystem::path& path) {
  const mapped_file file(path);
  auto json = parse_json({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  if (json.is_discarded()) fail(path.string(), ": is not JSON");
  return json;
}

/// The tensors of a folder, as those of one file: of its model.safetensors, or of the shards that
/// model.safetensors.index.json lists. `transformers` too looks for them in this order.
class safetensors_folder {
 public:
  /// Fails when there is neither, or a file is not valid, or the shards do not hold what the index says.
  explicit safetensors_folder(const std::filesystem::path& folder) : path_(folder.string()) {
    const auto single = folder / "model.safetensors", index_file = folder / "model.safetensors.index.json";
    std::error_code ignored;
    if (!std::filesystem::exists(index_file, ignored) || std::filesystem::exists(single, ignored)) {
      if (!std::filesystem::exists(single, ignored))
        fail(path_, ": has neither model.safetensors nor model.safetensors.index.json",
             std::filesystem::exists(folder / "pytorch_model.bin", ignored)
                 ? "; save_pretrained of today's transformers writes it where pytorch_model.bin is now"
                 : "");
      add(single);
      return;
    }
    const auto json = read_json(index_file);
    const nlohmann::json none;
    const nlohmann::json& map = json.is_object() && json.contains("weight_map") ? json["weight_map"] : none;
    const auto is_name = [](const nlohmann::json& shard) {  // of a file in this very folder
      return shard.is_string() && std::filesystem::path(shard.get<std::string>()).filename() == shard.get<std::string>();
    };
    if (!map.is_object() || !std::all_of(map.begin(), map.end(), is_name))
      fail(index_file.string(), ": expected an object weight_map, of tensors' names and names of files beside it");
    std::map<std::string, std::size_t> expected;  // tensors in each shard
    for (const auto& [name, shard] : map.items()) ++expected[shard.get<std::string>()];
    for (const auto& [shard, count] : expected) {
      add(folder / shard);
      const auto& found = shards_.back().tensors();
      for (const auto& [name, tensor] : found)
        if (const auto entry = map.find(name); entry == map.end() || *entry != shard)
          fail(shards_.back().path(), ": has a tensor ", name, ", which ", index_file.string(), " does not say");
      if (found.size() != count)
        fail(shards_.back().path(), ": has ", found.size(), " tensors; ", index_file.string(), " says ", count);
    }
  }

  [[nodiscard]] const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }
  /// Of all files; where they have the same entry, of the first.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void add(const std::filesystem::path& file) {
    shards_.emplace_back(file);
    tensors_.insert(shards_.back().tensors().begin(), shards_.back().tensors().end());
    metadata_.insert(shards_.back().metadata().begin(), shards_.back().metadata().end());
  }

  std::string path_;
  std::list<safetensors_file> shards_;
  std::map<std::string, stored_tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

}  // namespace fathom::io
