// The files of bpe.hpp: what vocabularies, lists of merges and the folders around them say.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_tables.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom::data::detail {

/// A text to read, and what errors call it.
struct source {
  std::string name;
  std::string_view text;
};

/// What a file says, for an error: its beginning, without control characters.
[[nodiscard]] inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t most = 40;
  std::size_t length = std::min(text.size(), most);
  while (length < text.size() && length > 0 && (text[length] & 0xC0) == 0x80) --length;  // no half symbols
  std::string shown = "\"";
  for (const char symbol : text.substr(0, length))
    shown += static_cast<unsigned char>(symbol) < 32 || symbol == 127 ? '?' : symbol;
  return shown + (length < text.size() ? "...\"" : "\"");
}

/// What a value of a file is, for an error.
[[nodiscard]] inline std::string said(const json& value) {
  if (const auto& type = value["type"]; type.is_string())
    return "of the type " + in_quotes(type.text());
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  return value.is_string() ? in_quotes(value.text()) : value.dump();
}

/// How files spell bytes: printable ones of Latin-1 as themselves, the others in order as U+0100, U+0101, ...
inline constexpr auto byte_spellings = [] {
  std::array<std::uint32_t, 256> codes{};
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    codes[byte] = printable ? byte : next++;
  }
  return codes;
}();

/// The bytes that a file spells so; none when a symbol of it stands for no byte. All codes are below U+0800.
[[nodiscard]] inline std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  constexpr auto bytes = [] {
    std::array<std::int16_t, 256 + 68> table{};
    table.fill(-1);
    for (std::size_t byte = 0; byte < 256; ++byte) table[byte_spellings[byte]] = static_cast<std::int16_t>(byte);
    return table;
  }();
  std::string result;
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    std::size_t code = static_cast<unsigned char>(spelling[i]);
    if (code >= 0xC0 && code < 0xE0 && i + 1 < spelling.size())
      code = (code & 0x1F) << 6 | (static_cast<unsigned char>(spelling[++i]) & 0x3F);
    else if (code >= 0x80)
      return std::nullopt;
    if (code >= bytes.size() || bytes[code] < 0) return std::nullopt;
    result += static_cast<char>(bytes[code]);
  }
  return result;
}

/// How files spell a byte.
[[nodiscard]] inline std::string spelling_of_byte(std::size_t byte) {
  const std::uint32_t code = byte_spellings[byte];
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Whether a byte is part of no text in UTF-8.
[[nodiscard]] constexpr bool never_in_utf8(std::size_t byte) { return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5; }

/// What a file says of a token that was added to a vocabulary.
struct added_token {
  bool special = true;      // else it is a token in all text
  bool normalized = false;  // then those that are not are looked for first
};

/// The tokens that files have, each with its id. No spelling is there twice.
class vocabulary_entries {
 public:
  static constexpr auto none = std::numeric_limits<std::size_t>::max();

  /// What is added from now on is of this file.
  void begin_file(std::string name) { files_.push_back(std::move(name)); }
  /// Adds a token and returns its entry, which may be there already. Fails when that has another id.
  std::size_t add(std::string_view key, token id) {
    const std::size_t there = find(key);
    if (there == none) {
      const std::size_t entry = size();
      if (entry == std::size_t{1} << 24) fail(files_.back(), ": has more than ", entry, " tokens");
      table_.insert(key, static_cast<token>(entry));
      entries_.push_back({spellings_.size(), id, files_.size() - 1, std::nullopt});
      spellings_ += key;
      return entry;
    }
    if (this->id(there) != id && file(there) == files_.back())
      fail(files_.back(), ": has the token ", in_quotes(key), " twice, with the ids ", this->id(there), " and ", id);
    if (this->id(there) != id)
      fail(files_.back(), ": the token ", in_quotes(key), " has the id ", id, "; expected ", this->id(there), " as in ",
           file(there));
    return there;
  }
  /// The same with an id as JSON has it. Fails when it is none.
  std::size_t add(std::string_view key, const json& id) {
    if (!id.is_unsigned() || id.as<std::uint64_t>() > std::uint64_t{std::numeric_limits<token>::max()})
      fail(files_.back(), ": the token ", in_quotes(key), " has the id ",
           id.is_structured() ? std::string("of a structure") : in_quotes(id.dump()), "; expected a number, 0 or more");
    return add(key, id.as<token>());
  }
  /// Says that an entry was added to the vocabulary.
  void set_added(std::size_t entry, const added_token& how) { entries_[entry].added = how; }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] token id(std::size_t entry) const { return entries_[entry].id; }
  [[nodiscard]] std::string_view spelling(std::size_t entry) const {
    const std::size_t begin = entries_[entry].begin;
    const std::size_t end = entry + 1 < size() ? entries_[entry + 1].begin : spellings_.size();
    return std::string_view(spellings_).substr(begin, end - begin);
  }
  /// The file that has an entry, the first of several.
  [[nodiscard]] const std::string& file(std::size_t entry) const { return files_[entries_[entry].file]; }
  /// Whether it is an entry of the first file, the vocabulary.
  [[nodiscard]] bool is_in_vocabulary(std::size_t entry) const { return entries_[entry].file == 0; }
  [[nodiscard]] const std::optional<added_token>& added(std::size_t entry) const { return entries_[entry].added; }
  /// The entry of a spelling, `none` when there is none.
  [[nodiscard]] std::size_t find(std::string_view key) const {
    const token entry = table_.find(key, [this](token e) { return spelling(static_cast<std::size_t>(e)); });
    return entry < 0 ? none : static_cast<std::size_t>(entry);
  }

 private:
  struct entry_of_token {
    std::size_t begin;  // in spellings_
    token id;
    std::size_t file;
    std::optional<added_token> added;
  };
  std::string spellings_;  // of all entries, one after the other
  std::vector<entry_of_token> entries_;
  std::vector<std::string> files_;
  string_table table_;
};

/// All that the files of a tokenizer say.
struct bpe_parts {
  vocabulary_entries entries;
  struct merge {
    std::size_t number;             // in its file
    std::size_t left, right, made;  // entries
  };
  std::vector<merge> merges;
  std::string vocab_name, merges_name;  // of the files
  const char* merges_unit = "line";     // of what the merges' numbers are
  bool lists_added = false;             // tokens that are not among them are no special ones, whatever they are made of
  bool ignores_merges = false;          // for pieces that are tokens

  /// Reads a JSON object from tokens to ids.
  void read_vocab(const source& file) {
    vocab_name = file.name;
    read_ids(file, false);
  }
  /// The same of added tokens.
  void read_added(const source& file) { read_ids(file, true); }
  /// Reads lines of two tokens, after the vocabulary.
  void read_merges(const source& file) {
    merges_name = file.name;
    merges.reserve(static_cast<std::size_t>(std::count(file.text.begin(), file.text.end(), '\n')) + 1);
    std::size_t number = 0;
    for (std::string_view rest = file.text; !rest.empty();) {
      const std::size_t length = std::min(rest.find('\n'), rest.size());
      std::string_view text = rest.substr(0, length);
      rest.remove_prefix(std::min(length + 1, rest.size()));
      ++number;
      if (text.ends_with('\r')) text.remove_suffix(1);
      if (number == 1 && text.starts_with("#version")) continue;
      if (text.empty() && rest.empty()) break;
      add_merge(number, text);
    }
  }
  /// Reads a tokenizer.json. Fails when its rules are not those of GPT-2.
  void read_tokenizer(const source& file) {
    const std::optional<json> read = json::parse(file.text);
    if (!read) fail(file.name, ": is not JSON", io::detail::but_what(file.text));
    const json& root = *read;
    const auto& model = root["model"];
    if (!model.is_object())
      fail(file.name, ": has no object \"model\"; expected one of the type \"BPE\", as tokenizers writes it");
    check_rules(file.name, root);

    vocab_name = merges_name = file.name;
    merges_unit = "merge";
    lists_added = true;
    ignores_merges = model["ignore_merges"] == true;
    const auto &vocab = model["vocab"], &pairs = model["merges"], &added = root["added_tokens"];
    if (!vocab.is_object()) fail(file.name, ": model.vocab is ", said(vocab), "; expected an object of tokens and ids");
    entries.begin_file(file.name);
    for (const auto& [key, id] : vocab.members()) static_cast<void>(entries.add(key, id));
    if (!pairs.is_array()) fail(file.name, ": model.merges is ", said(pairs), "; expected a list");
    merges.reserve(pairs.size());
    for (const json& pair : pairs.elements()) {
      const std::size_t number = merges.size() + 1;
      const auto half = [&](std::size_t i) -> std::string_view {
        return pair[i].is_string() ? std::string_view(pair[i].text()) : "";
      };
      if (pair.is_string())
        add_merge(number, pair.text());
      else if (pair.is_array() && pair.size() == 2 && !half(0).empty() && !half(1).empty())
        add_merge(number, half(0), half(1));
      else
        fail(place(number), ": is ", said(pair), "; expected \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]");
    }
    if (added.is_null()) return;
    if (!added.is_array()) fail(file.name, ": added_tokens is ", said(added), "; expected a list");
    entries.begin_file(file.name);
    for (const json& one : added.elements()) add_described(file.name, one, one["id"]);
  }
  /// Reads what a tokenizer_config.json or special_tokens_map.json says of added tokens.
  void read_config(const std::string& name, const json& config) {
    entries.begin_file(name);
    if (const auto& added = config["added_tokens_decoder"]; added.is_object())
      for (const auto& [key, described] : added.members()) add_described(name, described, json::parse(key).value_or(json(key)));
    // The tokens that have a role are special ones.
    for (const auto& [key, value] : config.members()) {
      if (key.ends_with("_token")) set_special(name, value);
      if (value.is_array() && key.ends_with("_special_tokens"))
        for (const json& one : value.elements()) set_special(name, one);
    }
  }
  /// How errors call a merge.
  [[nodiscard]] std::string place(std::size_t number) const {
    return join(merges_name, ": ", merges_unit, " ", number);
  }

 private:
  void read_ids(const source& file, bool added) {
    entries.begin_file(file.name);
    std::optional<std::string> key;  // that came last
    json_reader at(file.text);  // no memory for deep nesting: there is none, but in what is refused
    for (bool is_inside = false; at.next() < json_event::end;) {
      if (at.last() == json_event::key) {
        key = at.string();
      } else if (at.last() == json_event::begin_object && !is_inside) {
        is_inside = true;
      } else if (at.last() != json_event::end_object) {
        if (!is_inside) fail(file.name, ": expected a JSON object of tokens and their ids, {\"a\": 0, \"b\": 1, ...}");
        const std::size_t entry = entries.add(*key, json(at));  // fails when it is a structure: no other depth is reached
        if (added && !entries.added(entry)) entries.set_added(entry, {});
      }
    }
    if (at.last() == json_event::end) return;
    const std::string what = io::detail::but_what(file.text);
    fail(file.name, ": is not JSON", !what.empty() ? what : key ? ", after the token " + in_quotes(*key) : std::string());
  }

  void add_merge(std::size_t number, std::string_view text) {
    const std::size_t space = text.find(' ');
    if (space == text.npos || space == 0 || space + 1 == text.size() || text.find(' ', space + 1) != text.npos)
      fail(place(number), ": ", in_quotes(text), "; expected two tokens with one space between them");
    add_merge(number, text.substr(0, space), text.substr(space + 1));
  }
  void add_merge(std::size_t number, std::string_view left, std::string_view right) {
    const auto find = [&](std::string_view spelling) {
      const std::size_t entry = entries.find(spelling);
      if (entry == vocabulary_entries::none) fail(place(number), ": the vocabulary has no token ", in_quotes(spelling));
      return entry;
    };
    both_.assign(left).append(right);
    merges.push_back({number, find(left), find(right), find(both_)});
  }

  /// Adds a token with its description, as tokenizers writes it.
  void add_described(const std::string& file, const json& described, const json& id) {
    const auto& content = described["content"];
    if (!content.is_string()) fail(file, ": an added token is ", said(described), "; expected one with \"content\"");
    const std::size_t entry = entries.add(content.text(), id);
    entries.set_added(entry, how(file, described));
  }
  /// For a token by its spelling, or with a description.
  void set_special(const std::string& file, const json& value) {
    const auto& content = value.is_object() ? value["content"] : value;
    if (!content.is_string()) return;
    const std::size_t entry = entries.find(content.text());
    if (entry != vocabulary_entries::none && !entries.added(entry)) entries.set_added(entry, how(file, value));
  }
  [[nodiscard]] static added_token how(const std::string& file, const json& described) {
    const auto flag = [&](const char* name, bool standard) {
      const auto& value = described[name];
      if (value.is_null()) return standard;
      if (!value.is_boolean())
        fail(file, ": \"", name, "\" of the token ", said(described["content"]), " is ", said(value),
             "; expected true or false");
      return value.as<bool>();
    };
    for (const char* rule : {"single_word", "lstrip", "rstrip"})
      if (flag(rule, false))
        fail(file, ": \"", rule, "\" of the token ", said(described["content"]),
             " is true; expected false, because bpe finds tokens whatever is beside them, and keeps that");
    const bool special = flag("special", true);
    return {special, flag("normalized", !special)};
  }

  /// Fails unless a tokenizer.json encodes as GPT-2 does. What is about the ends of texts and about batches
  /// (post_processor, truncation, padding) is no matter of encode(), nor are unknown tokens (unk_token, fuse_unk,
  /// byte_fallback): all bytes of UTF-8 are known.
  static void check_rules(const std::string& file, const json& root) {
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

    // GPT-2's pieces, which ByteLevel makes itself, or a Split before it.
    const auto& whole = root["pre_tokenizer"];
    const auto& steps = whole["pretokenizers"];
    const bool sequence = whole["type"] == "Sequence" && steps.is_array() && steps.size() > 0;
    const auto& bytes = sequence ? steps.elements().back() : whole;
    const auto& own = bytes["use_regex"];
    const bool splits = sequence && steps.size() == 2;
    const json& split = splits ? steps[0] : json();
    const auto& invert = split["invert"];
    const bool fits = splits ? own == false && split["type"] == "Split" &&
                                   is_gpt2_pieces(split["pattern"]["Regex"]) &&
                                   split["behavior"] == "Isolated" && (invert.is_null() || invert == false)
                             : (!sequence || steps.size() == 1) && (own.is_null() || own == true);
    if (bytes["type"] != "ByteLevel" || !fits)
      fail(file, ": pre_tokenizer is ", said(whole), bytes["type"] == "ByteLevel" ? ", with other pieces" : "",
           "; expected \"ByteLevel\" with \"use_regex\": true, which makes GPT-2's pieces");
    const auto& space = bytes["add_prefix_space"];
    expect(space == false, "pre_tokenizer.add_prefix_space", space, "false, because bpe encodes text as it is");
  }
  /// Whether a regular expression is that of GPT-2, as its authors or as tiktoken writes it.
  [[nodiscard]] static bool is_gpt2_pieces(const json& expression) {
    const std::string rest = R"(| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    return expression == "'s|'t|'re|'ve|'m|'ll|'d" + rest || expression == "'(?:[sdmt]|ll|ve|re)" + rest;
  }

  std::string both_;
};

/// Reads the files of a vocabulary and of its merges.
[[nodiscard]] inline bpe_parts read_bpe(const source& vocab, const source& merges, const source& added = {}) {
  bpe_parts parts;
  parts.read_vocab(vocab);
  parts.read_merges(merges);
  if (!added.text.empty()) parts.read_added(added);
  return parts;
}
[[nodiscard]] inline bpe_parts read_bpe(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  const io::whole_file vocab_file(vocab), merges_file(merges);
  return read_bpe(source{vocab.string(), vocab_file.text()}, {merges.string(), merges_file.text()});
}

/// Fails when a tokenizer_config.json, or else the config.json beside it, says that a folder is not for GPT-2's rules.
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
  // Whisper's rules are the same. RobertaTokenizer's are, but for its <mask>, which takes the space before it along.
  const auto is = [&](const char* of) { return found == of || found == of + std::string("Fast"); };
  const bool by_file = found == "PreTrainedTokenizerFast" || found == "TokenizersBackend";  // all is in tokenizer.json
  if (!found.is_null() && !is("GPT2Tokenizer") && !is("WhisperTokenizer") && !(by_file && has_tokenizer))
    fail(found_in, ": tokenizer_class is ", said(found), by_file ? " and there is no tokenizer.json" : "",
         "; expected \"GPT2Tokenizer\", whose rules bpe has, or \"WhisperTokenizer\", whose rules are the same");
  for (const char* option : {"add_prefix_space", "do_lower_case", "normalize"})
    if (const auto& value = config[option]; !value.is_null() && value != false)
      fail(name, ": ", option, " is ", said(value), "; expected false, because bpe encodes text as it is");
}

/// Reads a folder.
[[nodiscard]] inline bpe_parts read_bpe(const std::filesystem::path& folder) {
  std::error_code error;
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name, error); };
  const auto config_path = folder / "tokenizer_config.json";
  const json config = has("tokenizer_config.json") ? io::detail::read_json(config_path) : json();
  check_config(folder, config_path.string(), config, has("tokenizer.json"));

  bpe_parts parts;
  const auto read = [&](const char* name, void (bpe_parts::*what)(const source&)) {
    const auto path = folder / name;
    const io::whole_file file(path);
    (parts.*what)({path.string(), file.text()});
  };
  const auto read_both = [&](const char* vocab, const char* merges) {
    read(vocab, &bpe_parts::read_vocab);
    read(merges, &bpe_parts::read_merges);
  };
  if (has("tokenizer.json"))
    read("tokenizer.json", &bpe_parts::read_tokenizer);
  else if (has("vocab.json"))
    read_both("vocab.json", "merges.txt");
  else if (has("encoder.json"))
    read_both("encoder.json", "vocab.bpe");
  else
    fail(folder.string(),
         ": has neither tokenizer.json, nor vocab.json and merges.txt, nor encoder.json and vocab.bpe");
  if (has("added_tokens.json")) read("added_tokens.json", &bpe_parts::read_added);
  if (config.is_object()) parts.read_config(config_path.string(), config);
  if (has("special_tokens_map.json")) {
    const auto path = folder / "special_tokens_map.json";
    if (const auto map = io::detail::read_json(path); map.is_object()) parts.read_config(path.string(), map);
  }
  return parts;
}

}  // namespace fathom::data::detail
