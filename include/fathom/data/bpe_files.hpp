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
  std::size_t add(std::string_view key, const nlohmann::json& id) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<token>::max()})
      fail(files_.back(), ": the token ", in_quotes(key), " has the id ",
           id.is_structured() ? std::string("of a structure") : in_quotes(id.dump()), "; expected a number, 0 or more");
    return add(key, id.get<token>());
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

/// Takes a JSON object from tokens to ids, as its text is read: an object of JSON would keep no member twice.
class id_events final : public io::detail::json_events {
 public:
  using json = nlohmann::json;
  id_events(vocabulary_entries& to, std::string file, bool added) : to_(to), file_(std::move(file)), added_(added) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool found) override { return value(found); }
  bool number_integer(std::int64_t found) override { return value(found); }
  bool number_unsigned(std::uint64_t found) override { return value(found); }
  bool number_float(double found, const std::string&) override { return value(found); }
  bool string(std::string& found) override { return value(found); }
  bool binary(json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return std::exchange(inside_, true) ? value(json::object()) : true; }
  bool start_array(std::size_t) override { return value(json::array()); }
  bool end_object() override { return true; }
  bool end_array() override { return true; }
  bool key(std::string& name) override {
    key_ = name;
    any_ = true;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  /// Where the text was when it ended, for an error.
  [[nodiscard]] std::string place() const { return any_ ? ", after the token " + in_quotes(key_) : std::string(); }

 private:
  bool value(const json& found) {
    if (!inside_) fail(file_, ": expected a JSON object of tokens and their ids, {\"a\": 0, \"b\": 1, ...}");
    const std::size_t entry = to_.add(key_, found);  // fails when it is a structure: no other depth is reached
    if (added_ && !to_.added(entry)) to_.set_added(entry, {});
    return true;
  }

  vocabulary_entries& to_;
  std::string file_;
  bool added_;
  std::string key_;
  bool inside_ = false, any_ = false;
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
  /// How errors call a merge.
  [[nodiscard]] std::string place(std::size_t number) const {
    return join(merges_name, ": ", merges_unit, " ", number);
  }

 private:
  void read_ids(const source& file, bool added) {
    entries.begin_file(file.name);
    id_events events(entries, file.name, added);
    if (io::detail::read_json_text(file.text, events)) return;
    const std::string what = io::detail::but_what(file.text);
    fail(file.name, ": is not JSON", what.empty() ? events.place() : what);
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

/// Reads a folder.
[[nodiscard]] inline bpe_parts read_bpe(const std::filesystem::path& folder) {
  std::error_code error;
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name, error); };
  bpe_parts parts;
  if (has("vocab.json"))
    parts = read_bpe(folder / "vocab.json", folder / "merges.txt");
  else if (has("encoder.json"))
    parts = read_bpe(folder / "encoder.json", folder / "vocab.bpe");
  else
    fail(folder.string(), ": has neither vocab.json and merges.txt nor encoder.json and vocab.bpe");
  if (has("added_tokens.json")) {
    const auto path = folder / "added_tokens.json";
    const io::whole_file file(path);
    parts.read_added({path.string(), file.text()});
  }
  return parts;
}

}  // namespace fathom::data::detail
