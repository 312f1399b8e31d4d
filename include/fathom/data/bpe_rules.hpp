// The rules that the files of a tokenizer ask for. Fails when bpe.hpp does not implement them.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/digit_pieces.hpp"
#include "fathom/data/gpt2_pieces.hpp"
#include "fathom/data/llama3_pieces.hpp"
#include "fathom/data/space_pieces.hpp"
#include "fathom/data/text_form.hpp"
#include "fathom/io/named_files.hpp"

namespace fathom::data {

/// What a tokenizer merges.
enum class bpe_kind {
  byte_level,    // the bytes of words and other pieces: GPT-2, Llama 3, Qwen 2, SmolLM2
  sentencepiece  // the characters of a text; those without a token become bytes: Llama 2, TinyLlama, Gemma
};

namespace detail {

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

/// The rules of a tokenizer, but for its merges.
struct bpe_rules {
  bpe_kind kind = bpe_kind::byte_level;
  const piece_rule* pieces = &gpt2_pieces;  // how text is cut
  text_form form;                           // which text is cut
  bool strips = false;                      // decoding removes a space from the beginning of a text
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

/// Whether a component, or a step of it, has a type.
[[nodiscard]] inline bool has_step(const json& component, const char* list, const char* type) {
  const auto steps = steps_of(component, list);
  return std::any_of(steps.begin(), steps.end(), [&](const json& step) { return step["type"] == type; });
}

/// The rules of a tokenizer.json that turns spaces into "▁" and characters without a token into bytes. Fails when it
/// has others, too.
[[nodiscard]] inline bpe_rules sentencepiece_rules(const std::string& file, const json& root) {
  const std::string space(spelled_space);
  bpe_rules rules;
  rules.kind = bpe_kind::sentencepiece;
  rules.pieces = &word_pieces;
  const auto replaces = [&](const json& step, const std::string& from, const std::string& to) {
    return step["type"] == "Replace" && step["pattern"]["String"] == from && step["content"] == to;
  };
  const auto& fallback = root["model"]["byte_fallback"];
  expect(fallback == true, file, "model.byte_fallback", fallback,
         "true, because characters without a token become bytes");
  const auto& ignore = root["model"]["ignore_merges"];
  expect(ignore != true, file, "model.ignore_merges", ignore, "false, as SentencePiece has it");
  for (const json& step : steps_of(root["normalizer"], "normalizers")) {
    const bool prepends = step["type"] == "Prepend" && step["prepend"] == space && !rules.form.space_before;
    expect(prepends || replaces(step, " ", space), file, "normalizer", step,
           "a \"Prepend\" of \"\u2581\" or a \"Replace\" of \" \" by \"\u2581\"");
    (prepends ? rules.form.space_before : rules.form.spaces) = true;
  }
  for (const json& step : steps_of(root["pre_tokenizer"], "pretokenizers")) {
    // A Split at spaces finds none, once they are replaced.
    if (rules.form.spaces && step["type"] == "Split" && step["pattern"]["String"] == " ") continue;
    const auto &scheme = step["prepend_scheme"], &split = step["split"], &prefix = step["add_prefix_space"];
    const bool always = scheme == "always" || (scheme.is_null() && prefix != false);
    expect(step["type"] == "Metaspace" && step["replacement"] == space &&
               (always || scheme == "first" || scheme == "never" || scheme.is_null()) &&
               (split.is_null() || split.is_boolean()),
           file, "pre_tokenizer", step, "null, or a \"Metaspace\" with \"\u2581\"");
    rules.form.spaces = true;
    rules.form.missing = always              ? text_form::missing_space::of_all
                         : scheme == "first" ? text_form::missing_space::of_text
                                             : text_form::missing_space::none;
    if (split != false) rules.pieces = &metaspace_pieces;
  }
  if (!rules.form.spaces)
    fail(file, ": neither normalizer nor pre_tokenizer turns \" \" into \"\u2581\"; expected one that does, as in all ",
         "tokenizers with byte_fallback, or \"ByteLevel\" as pre_tokenizer");
  bool spaces = false, bytes = false;
  for (const json& step : steps_of(root["decoder"], "decoders")) {
    const auto& type = step["type"];
    if (type == "Strip" && step["content"] == " " && step["start"] == 1 && step["stop"] == 0 && !rules.strips) {
      rules.strips = true;
    } else if (type == "ByteFallback") {
      bytes = true;
    } else if (replaces(step, space, " ")) {
      spaces = true;
    } else {
      expect(type == "Fuse", file, "decoder", step,
             "steps of the types \"Replace\", \"ByteFallback\", \"Fuse\" and \"Strip\", as Llama 2 has them");
    }
  }
  expect(spaces && bytes, file, "decoder", root["decoder"],
         "a \"Sequence\" with a \"Replace\" of \"\u2581\" by \" \" and a \"ByteFallback\"");
  return rules;
}

/// The rules of a tokenizer.json that turns bytes into characters.
[[nodiscard]] inline bpe_rules byte_level_rules(const std::string& file, const json& root) {
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

/// Returns the rules of a tokenizer.json. Fails when the file asks for an encoding that bpe does not implement.
/// Settings for batches (truncation, padding) do not affect encode(), nor do those for unknown tokens (unk_token,
/// fuse_unk): all bytes of UTF-8 are known.
[[nodiscard]] inline bpe_rules check_rules(const std::string& file, const json& root) {
  const auto& model = root["model"];
  const auto& type = model["type"];
  expect(type.is_null() || type == "BPE", file, "model.type", type, "\"BPE\"");  // old files have none
  const auto& dropout = model["dropout"];
  expect(dropout.is_null() || dropout == 0, file, "model.dropout", dropout, "null, for one result");
  for (const auto& [name, key] : {std::pair("model.continuing_subword_prefix", "continuing_subword_prefix"),
                                  std::pair("model.end_of_word_suffix", "end_of_word_suffix")}) {
    const auto& affix = model[key];
    expect(affix.is_null() || affix == "", file, name, affix, "null, as bpe has it");
  }
  const auto& ignore = model["ignore_merges"];
  expect(ignore.is_null() || ignore.is_boolean(), file, "model.ignore_merges", ignore, "true or false");

  const auto &normalizer = root["normalizer"], &pieces = root["pre_tokenizer"];
  const bool has_spaces = has_step(normalizer, "normalizers", "Prepend") ||
                          has_step(normalizer, "normalizers", "Replace") ||
                          has_step(pieces, "pretokenizers", "Metaspace") || model["byte_fallback"] == true;
  return has_spaces && !has_step(pieces, "pretokenizers", "ByteLevel") ? sentencepiece_rules(file, root)
                                                                       : byte_level_rules(file, root);
}

/// The rules of a class of tokenizers.
struct tokenizer_class {
  std::string_view name;  // without "Fast" at its end
  bpe_kind kind;
  std::span<const piece_rule* const> pieces;  // that byte-level ones may have; the first, without a tokenizer.json
  bool nfc;                                   // without a tokenizer.json
  bool needs_file;                            // has rules only with a tokenizer.json
};
inline constexpr const piece_rule* pieces_of_gpt2[] = {&gpt2_pieces, &digit_pieces};
inline constexpr const piece_rule* pieces_of_qwen2[] = {&qwen2_pieces};
/// Whisper has GPT-2's rules. So has RobertaTokenizer, except that its <mask> absorbs the space before it. SmolLM2 is
/// of GPT-2's class and has other pieces, by its tokenizer.json: it was trained with them, and version 4 of transformers and
/// llama.cpp read them; version 5 gives that class GPT-2's pieces.
inline constexpr tokenizer_class tokenizer_classes[] = {
    {"GPT2Tokenizer", bpe_kind::byte_level, pieces_of_gpt2, false, false},
    {"WhisperTokenizer", bpe_kind::byte_level, {pieces_of_gpt2, 1}, false, false},
    {"GPTNeoXTokenizer", bpe_kind::byte_level, {pieces_of_gpt2, 1}, false, true},
    {"Qwen2Tokenizer", bpe_kind::byte_level, pieces_of_qwen2, true, false},
    {"LlamaTokenizer", bpe_kind::sentencepiece, {}, false, true},
    {"CodeLlamaTokenizer", bpe_kind::sentencepiece, {}, false, true},
    {"GemmaTokenizer", bpe_kind::sentencepiece, {}, false, true},
};

/// The names of all classes.
[[nodiscard]] inline std::string known_classes() {
  std::string names;
  for (const tokenizer_class& known : tokenizer_classes)
    names += (names.empty() ? "\"" : ", \"") + std::string(known.name) + '"';
  return names;
}

/// Whether transformers reads a model's tokenizer.json as it is, whatever the class beside it says. OLMo 2's folders name
/// GPT2Tokenizer and have Llama 3's pieces; so have OLMo 3's and Granite's. AutoTokenizer of version 4 takes the pieces of
/// the file for that class, too; from 5 on, the class has GPT-2's alone, and AutoTokenizer leaves it aside for these models
/// ("TokenizersBackend" in models/auto/tokenization_auto.py of 5.24).
[[nodiscard]] inline bool reads_file_alone(const json& model) {
  for (const char* known : {"olmo2", "olmo3", "olmo_hybrid", "flex_olmo", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared"})
    if (model == known) return true;
  return false;
}
/// Whether AutoTokenizer reads a byte-level tokenizer.json as it is for a model, if the class beside it is Llama's, whose own
/// rules are SentencePiece's: folders made from Llama 3, of the families that bpe knows (the same file of transformers).
[[nodiscard]] inline bool reads_byte_level_llama(const json& model) {
  return model == "llama" || model == "mistral" || model == "qwen3";
}

/// Returns the class that a tokenizer_config.json, or else the config.json beside it, names; nullptr for none, and for
/// those that leave everything to tokenizer.json. Fails when bpe does not have its rules. `model` becomes the model_type of
/// config.json, null without one.
[[nodiscard]] inline const tokenizer_class* check_config(const io::named_files& files, const std::string& name, const json& config,
                                                         bool has_tokenizer, json& model) {
  if (!config.is_object() && !config.is_null())
    fail(name, ": is ", said(config), "; expected a JSON object, {\"tokenizer_class\": \"GPT2Tokenizer\", ...}");
  std::string found_in = name;
  json found = config["tokenizer_class"];
  if (files.has("config.json")) {
    const std::optional<json> read = json::parse(files.text("config.json"));
    if (read) model = (*read)["model_type"];
    if (found.is_null()) found_in = files.name_of("config.json");
    if (found.is_null() && read) found = (*read)["tokenizer_class"];
  }
  if (reads_file_alone(model)) {
    if (!has_tokenizer)
      fail(files.name_of("config.json"), ": model_type is ", said(model), ", and there is no tokenizer.json; expected one, which has ",
           "the rules of this model");
    return nullptr;
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
       "; expected one of those whose rules bpe has: ", known_classes());
}

/// Fails when a tokenizer_config.json asks for other rules than those that were read.
inline void check_options(const std::string& name, const json& config, const bpe_rules& rules) {
  for (const char* option : {"do_lower_case", "normalize"})
    if (const auto& value = config[option]; !value.is_null() && value != false)
      fail(name, ": ", option, " is ", said(value), "; expected false, because bpe encodes text as it is");
  const auto& space = config["add_prefix_space"];
  if (const bool adds = rules.form.adds_space(); !space.is_null() && space != adds)
    fail(name, ": add_prefix_space is ", said(space), "; expected ", adds ? "true" : "false",
         adds ? ", as tokenizer.json has it" : ", because bpe encodes text as it is");
}

/// Fails when a tokenizer.json has other rules than the class that is named beside it, unless it is known that the model's
/// text was cut by those of the file.
inline void check_class(const io::named_files& files, const tokenizer_class& named, const bpe_rules& rules, const json& model) {
  if (named.name == "LlamaTokenizer" && rules.kind == bpe_kind::byte_level && reads_byte_level_llama(model)) return;
  const bool fits = named.kind == bpe_kind::sentencepiece ||
                    std::find(named.pieces.begin(), named.pieces.end(), rules.pieces) != named.pieces.end();
  if (fits && named.kind == rules.kind) return;
  fail(files.name(), ": tokenizer.json has the pieces of ", rules.pieces->name,
       ", and the tokenizer_class beside it is ", in_quotes(named.name), "; expected those of ",
       named.pieces.empty() ? whole_pieces.name : named.pieces.front()->name);
}

}  // namespace detail

}  // namespace fathom::data
