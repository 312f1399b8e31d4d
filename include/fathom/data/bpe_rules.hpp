// The rules that the files of a tokenizer ask for. Fails when bpe.hpp does not implement them.
#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/digit_pieces.hpp"
#include "fathom/data/gpt2_pieces.hpp"
#include "fathom/data/llama3_pieces.hpp"
#include "fathom/data/text_form.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data::detail {

/// All rules for pieces that a regular expression names. Add new ones here.
inline constexpr const piece_rule* piece_rules[] = {&gpt2_pieces, &llama3_pieces, &qwen2_pieces};

/// The rule with a regular expression; nullptr if there is none.
[[nodiscard]] inline const piece_rule* find_rule(const json& expression) {
  if (!expression.is_string()) return nullptr;
  for (const piece_rule* rule : piece_rules)
    for (const std::string_view known : rule->expressions)
      if (expression.text() == known) return rule;
  return nullptr;
}

/// What a tokenizer does with text before it merges.
struct bpe_rules {
  const piece_rule* pieces = &gpt2_pieces;
  text_form form;
};

/// Fails when a component of a file is not what it must be.
inline void expect(bool holds, const std::string& file, const char* name, const json& value, const char* expected) {
  if (!holds) fail(file, ": ", name, " is ", said(value), "; expected ", expected);
}

/// The steps of a component: those of a Sequence, or the component itself; none if it is null.
[[nodiscard]] inline std::span<const json> steps_of(const json& component, const char* list) {
  if (component.is_null()) return {};
  const auto& steps = component[list];
  if (component["type"] == "Sequence" && steps.is_array()) return steps.elements();
  return {&component, 1};
}

/// The pieces that byte-level pre-tokenizers make: ByteLevel makes GPT-2's itself, or a Split or Digits before it makes
/// others. Fails for all else.
[[nodiscard]] inline const piece_rule& byte_level_pieces(const std::string& file, const json& whole) {
  const auto steps = steps_of(whole, "pretokenizers");
  const json none;
  const json& bytes = steps.empty() ? none : steps.back();
  const auto& own = bytes["use_regex"];
  const bool own_pieces = own.is_null() || own == true;
  const piece_rule* pieces = nullptr;
  if (steps.size() == 1 && own_pieces) pieces = &gpt2_pieces;
  if (steps.size() == 2 && steps[0]["type"] == "Split" && own == false) {
    const auto& invert = steps[0]["invert"];
    const auto& expression = steps[0]["pattern"]["Regex"];
    pieces = find_rule(expression);
    if (pieces == nullptr && expression.is_string())
      fail(file, ": pre_tokenizer is a Split by ", in_quotes(expression.text()),
           ", a regular expression that bpe has no ", "scanner for; expected that of GPT-2, Llama 3 or Qwen 2");
    if (steps[0]["behavior"] != "Isolated" || !(invert.is_null() || invert == false)) pieces = nullptr;
  }
  if (steps.size() == 2 && steps[0]["type"] == "Digits" && steps[0]["individual_digits"] == true && own_pieces)
    pieces = &digit_pieces;
  if (bytes["type"] != "ByteLevel" || pieces == nullptr)
    fail(file, ": pre_tokenizer is ", said(whole), bytes["type"] == "ByteLevel" ? ", with other pieces" : "",
         "; expected \"ByteLevel\" with \"use_regex\": true, which makes GPT-2's pieces, or one behind a Split or "
         "Digits ",
         "as Llama 3, Qwen 2 and SmolLM2 have them");
  const auto& space = bytes["add_prefix_space"];
  expect(space == false, file, "pre_tokenizer.add_prefix_space", space, "false, because bpe encodes text as it is");
  return *pieces;
}

/// Returns the rules of a tokenizer.json. Fails when the file asks for an encoding that bpe does not implement.
/// Settings for batches (truncation, padding) do not affect encode(), nor do those for unknown tokens (unk_token,
/// fuse_unk, byte_fallback): all bytes of UTF-8 are known.
[[nodiscard]] inline bpe_rules check_rules(const std::string& file, const json& root) {
  const auto& model = root["model"];
  const auto& type = model["type"];
  expect(type.is_null() || type == "BPE", file, "model.type", type, "\"BPE\"");  // old files have none
  const auto& dropout = model["dropout"];
  expect(dropout.is_null() || dropout == 0, file, "model.dropout", dropout, "null, for one result");
  for (const auto& [name, key] : {std::pair("model.continuing_subword_prefix", "continuing_subword_prefix"),
                                  std::pair("model.end_of_word_suffix", "end_of_word_suffix")}) {
    const auto& affix = model[key];
    expect(affix.is_null() || affix == "", file, name, affix, "null, as byte-level BPE has it");
  }
  const auto& ignore = model["ignore_merges"];
  expect(ignore.is_null() || ignore.is_boolean(), file, "model.ignore_merges", ignore, "true or false");

  bpe_rules rules;
  for (const json& step : steps_of(root["normalizer"], "normalizers")) {
    expect(step["type"] == "NFC", file, "normalizer", step,
           "null, because byte-level bpe encodes text as it is, or the type \"NFC\"");
    rules.form.nfc = true;
  }
  const auto& decoder = root["decoder"];
  expect(decoder.is_null() || decoder["type"] == "ByteLevel", file, "decoder", decoder, "the type \"ByteLevel\"");
  rules.pieces = &byte_level_pieces(file, root["pre_tokenizer"]);
  return rules;
}

/// The rules of a class of tokenizers.
struct tokenizer_class {
  std::string_view name;                      // without "Fast" at its end
  std::span<const piece_rule* const> pieces;  // that a tokenizer.json may have; the first, without one
  bool nfc;                                   // without a tokenizer.json
  bool needs_file;                            // has rules only with a tokenizer.json
};
inline constexpr const piece_rule* pieces_of_gpt2[] = {&gpt2_pieces, &digit_pieces};
inline constexpr const piece_rule* pieces_of_qwen2[] = {&qwen2_pieces};
/// Whisper has GPT-2's rules. So has RobertaTokenizer, except that its <mask> absorbs the space before it. SmolLM2 is
/// of GPT-2's class and has other pieces, by its tokenizer.json.
inline constexpr tokenizer_class tokenizer_classes[] = {
    {"GPT2Tokenizer", pieces_of_gpt2, false, false},
    {"WhisperTokenizer", {pieces_of_gpt2, 1}, false, false},
    {"GPTNeoXTokenizer", {pieces_of_gpt2, 1}, false, true},
    {"Qwen2Tokenizer", pieces_of_qwen2, true, false},
};

/// Returns the class that a tokenizer_config.json, or else the config.json beside it, names; nullptr for none, and for
/// those that leave everything to tokenizer.json. Fails when bpe does not have its rules.
[[nodiscard]] inline const tokenizer_class* check_config(const std::filesystem::path& folder, const std::string& name,
                                                         const json& config, bool has_tokenizer) {
  if (!config.is_object() && !config.is_null())
    fail(name, ": is ", said(config), "; expected a JSON object, {\"tokenizer_class\": \"GPT2Tokenizer\", ...}");
  for (const char* option : {"add_prefix_space", "do_lower_case", "normalize"})
    if (const auto& value = config[option]; !value.is_null() && value != false)
      fail(name, ": ", option, " is ", said(value), "; expected false, because bpe encodes text as it is");
  std::string found_in = name;
  json found = config["tokenizer_class"], model;
  std::error_code error;
  if (const auto path = folder / "config.json"; found.is_null() && std::filesystem::is_regular_file(path, error)) {
    const std::optional<json> read = json::parse(io::whole_file(path).text());
    found_in = path.string();
    if (read) found = (*read)["tokenizer_class"], model = (*read)["model_type"];
  }
  if (found.is_null() && !has_tokenizer && model.is_string()) {  // a model stands for the class of its tokenizer
    const std::string_view of = model.text();
    if (of.starts_with("qwen2") || of.starts_with("qwen3")) {
      found = "Qwen2Tokenizer";
    } else if (of != "gpt2" && of != "gpt_neo" && of != "gptj" && of != "whisper") {
      fail(found_in, ": model_type is ", said(model),
           ", no file names a tokenizer_class, and there is no tokenizer.json; ",
           "expected one of them, because the model does not tell the rules of its tokenizer");
    }
  }
  if (found.is_null()) return nullptr;
  const bool by_file = found == "PreTrainedTokenizerFast" || found == "TokenizersBackend";
  if (by_file && has_tokenizer) return nullptr;
  if (found.is_string())
    for (const tokenizer_class& known : tokenizer_classes)
      if (found == std::string(known.name) || found == std::string(known.name) + "Fast") {
        if (known.needs_file && !has_tokenizer)
          fail(found_in, ": tokenizer_class is ", said(found),
               " and there is no tokenizer.json; expected one, which has ", "the rules of this class");
        return &known;
      }
  fail(found_in, ": tokenizer_class is ", said(found), by_file ? " and there is no tokenizer.json" : "",
       "; expected \"GPT2Tokenizer\", \"WhisperTokenizer\", \"GPTNeoXTokenizer\" or \"Qwen2Tokenizer\", whose rules "
       "bpe has");
}

/// Fails when a tokenizer.json has other rules than the class that is named beside it.
inline void check_class(const std::filesystem::path& folder, const tokenizer_class& named, const bpe_rules& rules) {
  if (std::find(named.pieces.begin(), named.pieces.end(), rules.pieces) != named.pieces.end()) return;
  fail(folder.string(), ": tokenizer.json has the pieces of ", rules.pieces->name,
       ", and the tokenizer_class beside it is ", in_quotes(named.name), "; expected those of ",
       named.pieces.front()->name);
}

}  // namespace fathom::data::detail
