// What transformers.hpp declares.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/transformers.hpp"

namespace fathom::io {

namespace detail {
/// A key of GPT2Config that decides what is computed. What only training, generation or the memory of their model asks for
/// is not listed, nor is reorder_and_upcast_attn: it orders the same products in another way.
struct transformers_key {
  const char* name;
  const char* standard;  // what it means where a file does not have it, as JSON
  std::string accepted;  // by the config: an array of JSON, whose first value is the one to write
  const char* member;    // of fathom::config; null when a config cannot express anything else
};

/// Calls f for the keys of a config, which is normalized. Its shortcut plays no part: there is none in GPT-2.
template <class F>
void for_transformers_keys(const config& c, const F& f) {
  const bool usual = c.hidden == 4 * c.width;  // then null means the same
  const auto one = [](int number) { return join('[', number, ']'); };
  const transformers_key keys[] = {
      {"model_type", "null", "[\"gpt2\"]", nullptr},
      {"vocab_size", "50257", one(c.vocab), "vocab"},
      {"n_positions", "1024", one(c.context), "context"},
      {"n_embd", "768", one(c.width), "width"},
      {"n_layer", "12", one(c.depth), "depth"},
      {"n_head", "12", one(c.heads), "heads"},
      {"n_inner", "null", join(usual ? "[null," : "[", c.hidden, ']'), "hidden"},
      {"tie_word_embeddings", "true", c.tied ? "[true]" : "[false]", "tied"},
      {"layer_norm_epsilon", "1e-5", "[1e-5]", nullptr},
      {"activation_function", "\"gelu_new\"", "[\"gelu_new\",\"gelu_pytorch_tanh\",\"gelu_fast\"]", nullptr},  // all the tanh form
      {"scale_attn_weights", "true", "[true]", nullptr},
      {"scale_attn_by_inverse_layer_idx", "false", "[false]", nullptr},
      {"add_cross_attention", "false", "[false]", nullptr},
      {"quantization_config", "null", "[null]", nullptr}};
  for (const transformers_key& key : keys) f(key, parse_json(key.standard), parse_json(key.accepted));
}

[[nodiscard]] inline std::string transformers_differences(const config& given, const nlohmann::json& found) {
  if (!found.is_object()) return "\n  is not a JSON object";
  std::string text, members;
  bool expressible = true;
  for_transformers_keys(normalized(given), [&](const auto& key, const nlohmann::json& standard, const nlohmann::json& accepted) {
    const bool present = found.contains(key.name);
    const nlohmann::json& value = present ? found[key.name] : standard;
    const bool agrees = std::find(accepted.begin(), accepted.end(), value) != accepted.end();
    const std::int64_t count = value.is_number_integer() ? value.get<std::int64_t>() : 0;
    const bool number = count > 0 && count <= INT32_MAX;
    if (key.member && (number || value.is_boolean()))
      members += join(members.empty() ? "." : ", .", key.member, " = ", value.dump());
    else if (key.member ? !value.is_null() : !agrees)
      expressible = false;
    if (agrees) return;
    text += join("\n  ", key.name, ": expected ", accepted[0].dump());
    if (key.member) text += join(", the model's ", key.member);
    text += join("; found ", present ? shown(value) : "nothing");
    if (!present && !value.is_null()) text += join(", which means ", value.dump());
    if (!key.member) text += ", which a fathom::config cannot express";
  });
  if (!text.empty() && expressible) text += join("\n  the config that fits it: fathom::config{", members, "}");
  return text;
}
}  // namespace detail

FATHOM_INLINE std::string transformers_differences(const config& given, std::string_view found) {
  return detail::transformers_differences(given, detail::parse_json(found));
}

FATHOM_INLINE void check_transformers_config(const config& given, const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  if (const auto text = detail::transformers_differences(given, detail::read_json(path)); !text.empty())
    fail(path.string(), ": does not fit the model:", text);
}

FATHOM_INLINE std::string to_transformers_json(const config& given, std::string_view type) {
  auto json = nlohmann::json::object();
  json["architectures"].push_back("GPT2LMHeadModel");
  detail::for_transformers_keys(normalized(given), [&](const auto& key, const nlohmann::json&, const nlohmann::json& accepted) {
    if (!accepted[0].is_null()) json[key.name] = accepted[0];
  });
  // GPT-2's 50256 begins and ends texts; another vocabulary has no such token, and generation must not stop at one.
  for (const char* special : {"bos_token_id", "eos_token_id"})
    json[special] = given.vocab == 50257 ? nlohmann::json(50256) : nlohmann::json();
  for (const char* dropout : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) json[dropout] = 0.0;
  json["dtype"] = type;
  return json.dump(2);
}

FATHOM_INLINE safetensors_folder::safetensors_folder(const std::filesystem::path& folder) : stored_tensors(folder.string()) {
  const auto single = folder / "model.safetensors", index_file = folder / "model.safetensors.index.json";
  std::error_code ignored;
  // A link that leads nowhere is there: caches of downloads have such when what they link to is gone.
  const auto is_there = [&](const std::filesystem::path& file) {
    return std::filesystem::exists(std::filesystem::symlink_status(file, ignored));
  };
  if (!is_there(index_file) || is_there(single)) {
    if (!is_there(single))
      fail(path_, ": has neither model.safetensors nor model.safetensors.index.json",
           is_there(folder / "pytorch_model.bin")
               ? "; save_pretrained of today's transformers writes it where pytorch_model.bin is now"
               : "");
    add(single);
    return;
  }
  const auto json = detail::read_json(index_file);
  const nlohmann::json none;
  const nlohmann::json& map = json.is_object() && json.contains("weight_map") ? json["weight_map"] : none;
  std::map<std::string, std::vector<std::string>> listed;  // tensors of each shard
  bool is_good = map.is_object();
  if (is_good)
    for (const auto& [name, shard] : map.items()) {
      const std::string file = shard.is_string() ? shard.get_ref<const std::string&>() : "/";
      is_good &= std::filesystem::path(file).filename() == file;  // in this very folder
      listed[file].push_back(name);
    }
  if (!is_good) fail(index_file.string(), ": expected an object weight_map, of tensors' names and names of files beside it");
  for (const auto& [shard, names] : listed) {
    add(folder / shard);
    for (const std::string& name : names)
      if (!files_.back().tensors().contains(name))
        fail(files_.back().path(), ": has no tensor ", name, "; ", index_file.string(), " says that it has");
  }
}

FATHOM_INLINE void safetensors_folder::add(const std::filesystem::path& file) {
  const safetensors_file& added = files_.emplace_back(file);
  for (const auto& [name, tensor] : added.tensors())
    if (const auto [other, is_new] = tensors_.emplace(name, tensor); !is_new)
      fail(added.path(), ": has a tensor ", name, ", as ", other->second.file->name(), " has");
  metadata_.insert(added.metadata().begin(), added.metadata().end());
}

}  // namespace fathom::io
