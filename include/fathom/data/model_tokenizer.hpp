// What a model's files say about text: its tokenizer, the tokens that end an answer, its chat template.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe.hpp"
#include "fathom/data/gguf_bpe.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/model_files.hpp"

namespace fathom::data {

/// The tokenizer of a model: of a GGUF file's metadata, or of a folder's files. Fails when there is none.
[[nodiscard]] inline bpe read_bpe(const io::model_files& model) {
  if (model.gguf()) return read_bpe(*model.gguf());
  if (model.folder()) return bpe(*model.folder());
  fail(model.name(), ": is a safetensors file, which has no tokenizer");
}

/// The tokens at which a model stops to write, in ascending order: all that its files name as ends of a text or of a
/// turn (generation_config.json, config.json; eos, eot and eom of a GGUF file), and the tokenizer's.
[[nodiscard]] inline std::vector<token> end_tokens(const io::model_files& model, const bpe& tokenizer) {
  std::vector<token> ends;
  const auto add = [&](std::int64_t id) {
    if (id >= 0 && id < tokenizer.size()) ends.push_back(static_cast<token>(id));  // -1 means none
  };
  if (tokenizer.eos()) ends.push_back(*tokenizer.eos());
  if (const io::gguf_file* const file = model.gguf())
    for (const char* key : {"eos", "eot", "eom"}) add(file->integer(join("tokenizer.ggml.", key, "_token_id"), -1));
  if (const io::named_files* const files = model.folder())
    for (const char* name : {"generation_config.json", "config.json"}) {
      if (!files->has(name)) continue;
      const json all = io::detail::json_of(files->text(name), files->name_of(name));
      const json* const eos = all.is_object() ? all.find("eos_token_id") : nullptr;  // a number or a list of numbers
      const auto add_one = [&](const json& id) {
        if (id.is_number()) add(static_cast<std::int64_t>(std::clamp(id.as<double>(), -1.0, 2147483647.0)));
      };
      if (eos && eos->is_array())
        for (const json& id : eos->elements()) add_one(id);
      else if (eos)
        add_one(*eos);
    }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

/// The text of a model's chat template, in Jinja; empty if it has none.
[[nodiscard]] inline std::string chat_template(const io::model_files& model) {
  if (model.gguf()) return std::string(model.gguf()->text("tokenizer.chat_template", std::string_view()));
  const io::named_files* const files = model.folder();
  if (!files) return {};
  if (files->has("chat_template.jinja")) return files->text("chat_template.jinja");
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    if (!files->has(name)) continue;
    const json all = io::detail::json_of(files->text(name), files->name_of(name));
    const json* const found = all.is_object() ? all.find("chat_template") : nullptr;
    if (found && found->is_string()) return std::string(found->text());
    if (!found || !found->is_array()) continue;
    for (const json& one : found->elements())  // a list of templates by name
      if (one.is_object() && one["name"] == "default" && one["template"].is_string()) return std::string(one["template"].text());
  }
  return {};
}

}  // namespace fathom::data
