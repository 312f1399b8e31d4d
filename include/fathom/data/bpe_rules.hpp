// The rules that the files of a tokenizer ask for. Fails when bpe.hpp does not implement them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/gpt2_pieces.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data::detail {

/// All rules for pieces. Add new ones here.
inline constexpr const piece_rule* piece_rules[] = {&gpt2_pieces};

/// The rule with a regular expression; nullptr if there is none.
[[nodiscard]] inline const piece_rule* find_rule(const json& expression) {
  if (!expression.is_string()) return nullptr;
  for (const piece_rule* rule : piece_rules)
    for (const std::string_view known : rule->expressions)
      if (expression.text() == known) return rule;
  return nullptr;
}

/// Returns the rule for pieces of a tokenizer.json. Fails when the file asks for an encoding that bpe does not
/// implement. Settings for the ends of texts and for batches (post_processor, truncation, padding) do not affect
/// encode(), nor do those for unknown tokens (unk_token, fuse_unk, byte_fallback): all bytes of UTF-8 are known.
[[nodiscard]] inline const piece_rule& check_rules(const std::string& file, const json& root) {
  const auto& model = root["model"];
  const auto expect = [&](bool holds, const char* name, const json& value, const char* expected) {
    if (!holds) fail(file, ": ", name, " is ", said(value), "; expected ", expected);
  };
  const auto& type = model["type"];
  expect(type.is_null() || type == "BPE", "model.type", type, "\"BPE\"");  // old files have none
  const auto& dropout = model["dropout"];
  expect(dropout.is_null() || dropout == 0, "model.dropout", dropout, "null, for one result");
  for (const auto& [name, key] : {std::pair("model.continuing_subword_prefix", "continuing_subword_prefix"),
                                  std::pair("model.end_of_word_suffix", "end_of_word_suffix")}) {
    const auto& affix = model[key];
    expect(affix.is_null() || affix == "", name, affix, "null, as byte-level BPE has it");
  }
  const auto& ignore = model["ignore_merges"];
  expect(ignore.is_null() || ignore.is_boolean(), "model.ignore_merges", ignore, "true or false");
  const auto& normalizer = root["normalizer"];
  const auto& normalizers = normalizer["normalizers"];
  expect(normalizer.is_null() || (normalizers.is_array() && normalizers.size() == 0), "normalizer", normalizer,
         "null, because bpe encodes text as it is");
  const auto& decoder = root["decoder"];
  expect(decoder.is_null() || decoder["type"] == "ByteLevel", "decoder", decoder, "the type \"ByteLevel\"");

  // ByteLevel makes GPT-2's pieces itself; or a Split before it makes the pieces.
  const auto& whole = root["pre_tokenizer"];
  const auto& steps = whole["pretokenizers"];
  const bool sequence = whole["type"] == "Sequence" && steps.is_array() && steps.size() > 0;
  const auto& bytes = sequence ? steps.elements().back() : whole;
  const auto& own = bytes["use_regex"];
  const bool splits = sequence && steps.size() == 2;
  const json& split = splits ? steps[0] : json();
  const auto& invert = split["invert"];
  const piece_rule* const pieces = splits ? find_rule(split["pattern"]["Regex"]) : &gpt2_pieces;
  const bool fits = splits ? own == false && split["type"] == "Split" && pieces != nullptr &&
                                 split["behavior"] == "Isolated" && (invert.is_null() || invert == false)
                           : (!sequence || steps.size() == 1) && (own.is_null() || own == true);
  if (bytes["type"] != "ByteLevel" || !fits)
    fail(file, ": pre_tokenizer is ", said(whole), bytes["type"] == "ByteLevel" ? ", with other pieces" : "",
         "; expected \"ByteLevel\" with \"use_regex\": true, which makes GPT-2's pieces");
  const auto& space = bytes["add_prefix_space"];
  expect(space == false, "pre_tokenizer.add_prefix_space", space, "false, because bpe encodes text as it is");
  return *pieces;
}

/// Fails when a tokenizer_config.json, or else the config.json beside it, asks for rules other than GPT-2's.
inline void check_config(const std::filesystem::path& folder, const std::string& name, const json& config,
                         bool has_tokenizer) {
  if (!config.is_object() && !config.is_null())
    fail(name, ": is ", said(config), "; expected a JSON object, {\"tokenizer_class\": \"GPT2Tokenizer\", ...}");
  std::string found_in = name;
  json found = config["tokenizer_class"];
  std::error_code error;
  if (const auto path = folder / "config.json"; found.is_null() && std::filesystem::is_regular_file(path, error)) {
    const std::optional<json> read = json::parse(io::whole_file(path).text());
    found_in = path.string();
    if (read) found = (*read)["tokenizer_class"];
  }
  // Whisper has the same rules. So has RobertaTokenizer, except that its <mask> absorbs the space before it.
  const auto is = [&](const char* of) { return found == of || found == of + std::string("Fast"); };
  // With these classes, tokenizer.json has the rules.
  const bool by_file = found == "PreTrainedTokenizerFast" || found == "TokenizersBackend";
  if (!found.is_null() && !is("GPT2Tokenizer") && !is("WhisperTokenizer") && !(by_file && has_tokenizer))
    fail(found_in, ": tokenizer_class is ", said(found), by_file ? " and there is no tokenizer.json" : "",
         "; expected \"GPT2Tokenizer\", whose rules bpe has, or \"WhisperTokenizer\", whose rules are the same");
  for (const char* option : {"add_prefix_space", "do_lower_case", "normalize"})
    if (const auto& value = config[option]; !value.is_null() && value != false)
      fail(name, ": ", option, " is ", said(value), "; expected false, because bpe encodes text as it is");
}

}  // namespace fathom::data::detail
