// Implementation of transformers.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/conversion.inl.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/named_files.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/transformers.hpp"

namespace fathom::io {

// ---- How GPT-2's weights differ --------------------------------------------------------------------------------------

FATHOM_INLINE bool is_transformers_buffer(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

FATHOM_INLINE std::string tied_head_problem(std::string_view prefix, const stored_tensor& table, const stored_tensor& head) {
  bool is_same = table.type == head.type && table.shape == head.shape && table.byte_count() == head.byte_count();
  constexpr std::uint64_t most = 1u << 16;
  std::vector<std::byte> of_table(most), of_head(most);
  for (std::uint64_t at = 0; is_same && at < table.byte_count(); at += most) {
    const auto count = static_cast<std::size_t>(std::min(most, table.byte_count() - at));
    table.read(std::span(of_table).first(count), at);
    head.read(std::span(of_head).first(count), at);
    is_same = std::memcmp(of_table.data(), of_head.data(), count) == 0;
  }
  if (is_same) return {};
  return join("\n  ", prefix, transformers_head, ": differs from ", transformers_table, ", and the model's head is tied");
}

// ---- config.json -----------------------------------------------------------------------------------------------------

namespace detail {
/// The values of a key that agree with a normalized config; the first is the one to write.
[[nodiscard, gnu::cold]] inline json accepted_values(const transformers_key& key, const config& c) {
  if (key.flag) return json::array({c.*key.flag});
  if (!key.size) return *json::parse(key.accepted);
  const bool may_be_null = key.size == &config::hidden && c.hidden == 4 * c.width;
  return may_be_null ? json::array({nullptr, c.hidden}) : json::array({c.*key.size});
}

[[nodiscard, gnu::cold]] inline std::string transformers_differences(const config& given, const json& found) {
  if (!found.is_object()) return "\n  is not a JSON object";
  std::string text, members;
  bool expressible = true;
  for (const transformers_key& key : transformers_keys) {
    const json accepted = accepted_values(key, normalized(given)), standard = *json::parse(key.standard);
    const json* const there = found.find(key.name);
    const json& value = there ? *there : standard;
    const auto& all = accepted.elements();
    const bool agrees = std::find(all.begin(), all.end(), value) != all.end(), is_member = !key.member.empty();
    const bool is_size = value.is_unsigned() && value.as<std::uint64_t>() > 0 && value.as<std::uint64_t>() <= INT32_MAX;
    if (is_member && (is_size || value.is_boolean()))
      members += join(members.empty() ? "." : ", .", key.member, " = ", value.dump());
    else if (is_member ? !value.is_null() : !agrees)
      expressible = false;
    if (agrees) continue;
    text += join("\n  ", key.name, ": expected ", all[0].dump());
    if (is_member) text += join(", the model's ", key.member);
    text += join("; found ", there ? shown(value) : "nothing");
    if (!there && !value.is_null()) text += join(", which means ", value.dump());
    if (!is_member) text += ", which a fathom::config cannot express";
  }
  if (!text.empty() && expressible) text += join("\n  the config that fits it: fathom::config{", members, "}");
  return text;
}
}  // namespace detail

FATHOM_INLINE std::string transformers_differences(const config& given, std::string_view found) {
  return detail::transformers_differences(given, json::parse(found).value_or(json()));
}

FATHOM_INLINE void check_transformers_config(const config& given, const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  if (const auto text = detail::transformers_differences(given, detail::read_json(path)); !text.empty())
    fail(path.string(), ": does not fit the model:", text);
}

FATHOM_INLINE std::string to_transformers_json(const config& given, std::string_view type) {
  json all = json::object();
  all["architectures"].push_back("GPT2LMHeadModel");
  for (const detail::transformers_key& key : detail::transformers_keys)
    if (const json accepted = detail::accepted_values(key, normalized(given)); key.is_written && !accepted[0].is_null())
      all[key.name] = accepted[0];
  // GPT-2's token 50256 begins and ends texts. Other vocabularies lack such a token, so generation must not stop at it.
  for (const char* special : {"bos_token_id", "eos_token_id"}) all[special] = given.vocab == 50257 ? json(50256) : json();
  for (const char* dropout : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) all[dropout] = 0.0;
  all["dtype"] = type;
  return all.dump(2);
}

FATHOM_INLINE void write_transformers(const std::filesystem::path& folder, const model_numbers& weights, const config& of) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) fail(folder.string(), ": cannot be made: ", problem.message());
  tensors_to_write tensors;
  tensors.add(weights, transformers_prefix);
  for (tensor_to_write& tensor : tensors.tensors)
    if (tensor.name == join(transformers_prefix, transformers_head)) tensor.name = transformers_head;
  // Both files are complete before either gets its name.
  atomic_file file(folder / "config.json");
  file.write(to_transformers_json(of, weights.type == "F64" ? "float64" : "float32") + "\n");
  write_weights(folder / "model.safetensors", tensors, to_json(of));
  file.commit();
}

// ---- Folders ---------------------------------------------------------------------------------------------------------

FATHOM_INLINE safetensors_folder::safetensors_folder(const named_files& files) : stored_tensors(files.name()) {
  constexpr std::string_view single = "model.safetensors", index_file = "model.safetensors.index.json";
  // A dangling link counts as present.
  if (!files.lists(index_file) || files.lists(single)) {
    if (!files.lists(single))
      fail(path_, ": has neither model.safetensors nor model.safetensors.index.json",
           files.lists("pytorch_model.bin") ? "; save_pretrained of today's transformers writes it where pytorch_model.bin is now" : "");
    add(files, single);
    return;
  }
  const json read = detail::json_of(files.text(index_file), files.name_of(index_file));
  const json& map = std::as_const(read)["weight_map"];
  std::map<std::string, std::vector<std::string>> listed;  // shard -> its tensors
  bool is_good = map.is_object();
  if (is_good)
    for (const auto& [name, shard] : map.members()) {
      const std::string file = shard.is_string() ? shard.text() : "/";
      is_good &= std::filesystem::path(file).filename() == file;  // must be in this folder
      listed[file].push_back(name);
    }
  if (!is_good) fail(files.name_of(index_file), ": expected an object weight_map, of tensors' names and names of files beside it");
  for (const auto& [shard, names] : listed) {
    add(files, shard);
    for (const std::string& name : names)
      if (!files_.back().tensors().contains(name))
        fail(files_.back().path(), ": has no tensor ", name, "; ", files.name_of(index_file), " says that it has");
  }
}

FATHOM_INLINE void safetensors_folder::add(const named_files& files, std::string_view name) {
  if (files.is_in_memory())
    files_.emplace_back(files.bytes(name), files.name_of(name));
  else
    files_.emplace_back(files.path_of(name));
  const safetensors_file& added = files_.back();
  for (const auto& [tensor, stored] : added.tensors())
    if (const auto [other, is_new] = tensors_.emplace(tensor, stored); !is_new)
      fail(added.path(), ": has a tensor ", tensor, ", as ", other->second.path(), " has");
  metadata_.insert(added.metadata().begin(), added.metadata().end());
}

}  // namespace fathom::io
