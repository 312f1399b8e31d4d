// Text as tokens of sub-words: byte-level byte-pair encoding with the vocabularies and by the rules of GPT-2 (Radford
// et al., "Language Models are Unsupervised Multitask Learners", 2019; Sennrich, Haddow and Birch, arXiv 1508.07909).
//
// Text is cut into pieces, which are words with the space before them, or runs of digits, of punctuation or of white
// space. The bytes of a piece are its first symbols. Two symbols side by side that stand in the list of merges become
// one, the pair that comes first in the list before others, the leftmost of several, until no pair of the piece stands
// in the list.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/text.hpp"
#include "fathom/data/unicode.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// What encoding makes of the spelling of a special token, such as <|endoftext|>, within text.
enum class special {
  as_text,   // text like any other: what text of unknown origin says cannot end a document
  as_tokens  // the special token; the longest, where several begin at one place
};

namespace detail {
static_assert(std::endian::native == std::endian::little, "words of text are compared as numbers");

// ---- Pieces -----------------------------------------------------------------------------------------------------------

struct symbol {
  symbol_kind kind;
  std::size_t bytes;
};

/// The kinds of the code points that are one byte.
inline constexpr auto ascii_kinds = [] {
  std::array<symbol_kind, 128> kinds{};
  for (std::uint32_t code = 0; code < kinds.size(); ++code) kinds[code] = kind_of(code);
  return kinds;
}();

/// The code point at the beginning of a text that is not empty. A byte that does not begin a well-formed sequence
/// (Unicode 16.0, table 3-7) counts as a symbol of its own, as U+FFFD in its place would.
[[nodiscard]] inline symbol first_symbol(const char* text, const char* end) {
  const auto byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const auto follows = [&](int i, std::uint32_t low = 0x80, std::uint32_t high = 0xBF) {
    return i < end - text && byte(i) >= low && byte(i) <= high;
  };
  const auto bits = [&](int i, std::uint32_t mask, int shift) { return (byte(i) & mask) << shift; };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {ascii_kinds[first], 1};
  if (first >= 0xC2 && first <= 0xDF && follows(1)) return {kind_of(bits(0, 0x1F, 6) | bits(1, 0x3F, 0)), 2};
  if (first >= 0xE0 && first <= 0xEF && follows(1, first == 0xE0 ? 0xA0 : 0x80, first == 0xED ? 0x9F : 0xBF) &&
      follows(2))
    return {kind_of(bits(0, 0x0F, 12) | bits(1, 0x3F, 6) | bits(2, 0x3F, 0)), 3};
  if (first >= 0xF0 && first <= 0xF4 && follows(1, first == 0xF0 ? 0x90 : 0x80, first == 0xF4 ? 0x8F : 0xBF) &&
      follows(2) && follows(3))
    return {kind_of(bits(0, 0x07, 18) | bits(1, 0x3F, 12) | bits(2, 0x3F, 6) | bits(3, 0x3F, 0)), 4};
  return {symbol_kind::other, 1};
}

/// How many bytes the first piece of a text has that is not empty: what GPT-2's regular expression matches,
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
[[nodiscard]] inline std::size_t piece_length(std::string_view text) {
  const char *const begin = text.data(), *const end = begin + text.size();
  if (*begin == '\'' && text.size() > 1) {
    const char second = text[1], third = text.size() > 2 ? text[2] : '\0';
    if (second == 's' || second == 'd' || second == 'm' || second == 't') return 2;
    if ((second == 'l' && third == 'l') || ((second == 'v' || second == 'r') && third == 'e')) return 3;
  }
  // One space goes with what follows it, unless that is white space too.
  const char* at = begin + (*begin == ' ' && text.size() > 1);
  const symbol first = first_symbol(at, end);
  if (first.kind != symbol_kind::space) {
    for (at += first.bytes; at != end;) {
      const symbol next = first_symbol(at, end);
      if (next.kind != first.kind) break;
      at += next.bytes;
    }
    return static_cast<std::size_t>(at - begin);
  }
  // White space leaves its last symbol to what follows, unless it is the only one.
  const char* last = at = begin;
  while (at != end) {
    const symbol next = first_symbol(at, end);
    if (next.kind != symbol_kind::space) break;
    last = at;
    at += next.bytes;
  }
  return static_cast<std::size_t>((at == end || last == begin ? at : last) - begin);
}

// ---- Tables -----------------------------------------------------------------------------------------------------------

/// Up to eight bytes as a number.
[[nodiscard]] inline std::uint64_t load(const char* bytes, std::size_t count) {
  const auto byte = [&](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i; };
  if (count == 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, 8);
    return word;
  }
  if (count >= 4) {  // two words, which may overlap
    std::uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + count - 4, 4);
    return low | std::uint64_t{high} << 8 * (count - 4);
  }
  return count == 0 ? 0 : byte(0) | byte(count / 2) | byte(count - 1);
}

/// Spreads the bits of a number; the upper ones are the better.
[[nodiscard]] inline std::uint64_t spread(std::uint64_t word) {
  word = (word ^ word >> 32) * 0x9E3779B97F4A7C15U;
  return word ^ word >> 29;
}

/// From strings to numbers: open addressing. The table knows strings of up to eight bytes; the others are asked for by
/// their numbers, `text(number)`, because somebody else keeps them.
class string_table {
 public:
  /// The number of a string, -1 when it is not there.
  template <class Text>
  [[nodiscard]] token find(std::string_view key, const Text& text) const {
    const std::uint64_t word = word_of(key);
    for (std::size_t i = home(word);; i = (i + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[i];
      if (s.number < 0 || (s.word == word && s.length == key.size() && (key.size() <= 8 || text(s.number) == key)))
        return s.number;
    }
  }
  /// For a string that is not there.
  void insert(std::string_view key, token number) {
    if (++used_ > slots_.size() / 2) {
      std::vector<slot> old(slots_.size() * 2);
      std::swap(old, slots_);
      --shift_;
      for (const slot& s : old)
        if (s.number >= 0) place(s);
    }
    place({word_of(key), key.size(), number});
  }

 private:
  struct slot {
    std::uint64_t word = 0;  // the bytes, or a hash of more than eight
    std::size_t length = 0;
    token number = -1;  // empty
  };
  [[nodiscard]] static std::uint64_t word_of(std::string_view key) {
    if (key.size() <= 8) return load(key.data(), key.size());
    // The last word may overlap the one before it.
    std::uint64_t word = load(key.data() + key.size() - 8, 8);
    for (std::size_t at = 0; at + 8 < key.size(); at += 8) word = spread(word) ^ load(key.data() + at, 8);
    return spread(word);
  }
  [[nodiscard]] std::size_t home(std::uint64_t word) const { return static_cast<std::size_t>(spread(word) >> shift_); }
  void place(const slot& s) {
    std::size_t i = home(s.word);
    while (slots_[i].number >= 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = s;
  }

  std::vector<slot> slots_ = std::vector<slot>(16);
  std::size_t used_ = 0;
  int shift_ = 60;  // 64 - log2 of the slots
};

inline constexpr std::uint32_t no_rank = std::numeric_limits<std::uint32_t>::max();

/// From pairs of tokens to their ranks, that is places in the list of merges: open addressing.
class pair_table {
 public:
  explicit pair_table(std::size_t pairs)
      : slots_(std::bit_ceil(std::max<std::size_t>(2 * pairs, 16))), shift_(64 - std::countr_zero(slots_.size())) {}

  /// The rank of a pair, no_rank when it has none.
  [[nodiscard]] std::uint32_t find(token left, token right) const { return slots_[slot_of(left, right)].rank; }
  /// For a pair that has none.
  void insert(token left, token right, std::uint32_t rank) {
    slots_[slot_of(left, right)] = {key_of(left, right), rank};
  }

 private:
  struct slot {
    std::uint64_t key = 0;
    std::uint32_t rank = no_rank;  // empty
  };
  [[nodiscard]] static std::uint64_t key_of(token left, token right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t slot_of(token left, token right) const {
    const std::uint64_t key = key_of(left, right);
    auto i = static_cast<std::size_t>(key * 0x9E3779B97F4A7C15U >> shift_);
    while (slots_[i].key != key && slots_[i].rank != no_rank) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<slot> slots_;
  int shift_;
};

// ---- Files ------------------------------------------------------------------------------------------------------------

/// A text to read, and what errors call it.
struct source {
  std::string name;
  std::string_view text;
};

[[nodiscard]] inline std::string_view text_of(const io::whole_file& file) {
  return file.text();
}

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

/// The entries of vocabularies: JSON objects from spellings to ids. Each is checked on its own, and no spelling is
/// there twice.
class vocabulary_entries {
 public:
  /// Adds the entries of a file. Fails when it is something else.
  void read(const source& file) {
    using event = nlohmann::json::parse_event_t;
    const auto watch = [&](int depth, event at, nlohmann::json& value) {
      if (depth == 0 && at != event::object_start && at != event::object_end)
        fail(file.name, ": expected a JSON object of tokens and their ids, {\"a\": 0, \"b\": 1, ...}");
      if (depth == 1 && at == event::key)
        add(file, value.get_ref<const std::string&>());
      else if (depth == 1 && at != event::object_end)
        set_id(file, value, at == event::value);
      return at != event::key;  // the parser need not keep anything
    };
    const bool is_json = !nlohmann::json::parse(file.text, watch, false).is_discarded();
    // The parser takes a zero byte for the end of the text, and so would not see what comes after it.
    if (!is_json || file.text.find('\0') != file.text.npos)
      fail(file.name, ": is not JSON",
           begins_.empty() ? "" : ", after the token " + in_quotes(spelling(begins_.size() - 1)));
  }
  [[nodiscard]] std::size_t size() const { return ids_.size(); }
  [[nodiscard]] token id(std::size_t entry) const { return ids_[entry]; }
  [[nodiscard]] std::string_view spelling(std::size_t entry) const {
    const std::size_t end = entry + 1 < begins_.size() ? begins_[entry + 1] : spellings_.size();
    return std::string_view(spellings_).substr(begins_[entry], end - begins_[entry]);
  }
  /// The entry of a spelling, -1 when there is none.
  [[nodiscard]] token find(std::string_view key) const {
    return table_.find(key, [this](token entry) { return spelling(static_cast<std::size_t>(entry)); });
  }

 private:
  void add(const source& file, std::string_view key) {
    if (key.empty()) fail(file.name, ": has a token without a single symbol, \"\"");
    if (find(key) >= 0) fail(file.name, ": has the token ", in_quotes(key), " twice");
    if (size() == std::size_t{1} << 24) fail(file.name, ": has more than ", size(), " tokens");
    table_.insert(key, static_cast<token>(size()));
    ids_.push_back(-1);
    begins_.push_back(spellings_.size());
    spellings_ += key;
  }
  void set_id(const source& file, const nlohmann::json& value, bool is_simple) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<token>::max()})
      fail(file.name, ": the token ", in_quotes(spelling(size() - 1)), " has the id ",
           is_simple ? in_quotes(value.dump()) : std::string("of a structure"), "; expected a number, 0 or more");
    ids_.back() = value.get<token>();
  }

  std::string spellings_;  // of all entries, one after the other
  std::vector<std::size_t> begins_;
  std::vector<token> ids_;
  string_table table_;
};

/// The files of a tokenizer, which stay mapped as long as this lives.
class bpe_files {
 public:
  bpe_files(const std::filesystem::path& vocab, const std::filesystem::path& merges)
      : vocab_path_(vocab.string()), merges_path_(merges.string()), vocab_(vocab), merges_(merges) {}
  explicit bpe_files(const std::filesystem::path& folder) : bpe_files(folder, names_in(folder)) {
    std::error_code error;
    if (const auto path = folder / "added_tokens.json"; std::filesystem::exists(path, error)) {
      added_path_ = path.string();
      added_.emplace(path);
    }
  }
  [[nodiscard]] source vocab() const { return {vocab_path_, text_of(vocab_)}; }
  [[nodiscard]] source merges() const { return {merges_path_, text_of(merges_)}; }
  [[nodiscard]] source added() const { return {added_path_, added_ ? text_of(*added_) : std::string_view()}; }

 private:
  using names = std::pair<const char*, const char*>;
  bpe_files(const std::filesystem::path& folder, const names& files)
      : bpe_files(folder / files.first, folder / files.second) {}
  [[nodiscard]] static names names_in(const std::filesystem::path& folder) {
    std::error_code error;
    for (const names& files : {names{"vocab.json", "merges.txt"}, names{"encoder.json", "vocab.bpe"}})
      if (std::filesystem::exists(folder / files.first, error)) return files;
    fail(folder.string(), ": has neither vocab.json and merges.txt nor encoder.json and vocab.bpe",
         std::filesystem::exists(folder / "tokenizer.json", error)
             ? "; of its tokenizer.json, Tokenizer.from_file(...).model.save(folder) in Python's tokenizers makes the "
               "first two"
             : "");
  }

  std::string vocab_path_, merges_path_, added_path_;
  io::whole_file vocab_, merges_;
  std::optional<io::whole_file> added_;
};
}  // namespace detail

/// A byte-level BPE tokenizer. Every string of bytes can be encoded, and decode(encode(x)) == x; of UTF-8 that is not
/// well-formed, each byte counts as a symbol that is neither letter, number nor white space.
///
/// Members that are const may be called by many threads at once. Encoding allocates nothing but room for the tokens, as
/// long as no piece (a word, a run of white space) is longer than 64 bytes.
class bpe {
 public:
  /// Reads vocab.json and merges.txt, or encoder.json and vocab.bpe, of a folder; and added_tokens.json, if there.
  explicit bpe(const std::filesystem::path& folder) : bpe(detail::bpe_files(folder)) {}
  /// `vocab` is a JSON object from tokens to their numbers, which must be 0 to size() - 1; `merges` has two tokens on
  /// each line, after a first line "#version: ..." if there. Bytes are spelled as GPT-2's files do. Tokens that are
  /// neither a byte nor made by a line are special, and mean their spelling itself. If one of them would be a single
  /// piece of text, the end of `merges` is taken to be missing; only added_tokens.json may have such. Fails when a file
  /// cannot be read or is not so, and when one of the 256 bytes has no token.
  bpe(const std::filesystem::path& vocab, const std::filesystem::path& merges)
      : bpe(detail::bpe_files(vocab, merges)) {}
  /// The same from the contents of such files. They need not outlive the call.
  [[nodiscard]] static bpe from_memory(std::string_view vocab, std::string_view merges,
                                       std::string_view added_tokens = {}) {
    return bpe({"vocab (in memory)", vocab}, {"merges (in memory)", merges},
               {"added tokens (in memory)", added_tokens});
  }

  /// The number of tokens, special ones among them.
  [[nodiscard]] index size() const { return std::ssize(ends_); }

  /// The tokens of a text.
  [[nodiscard]] std::vector<token> encode(std::string_view text, special spelled = special::as_text) const {
    std::vector<token> tokens;
    encode(text, tokens, spelled);
    return tokens;
  }
  /// Appends the tokens of a text: at most one for each byte.
  void encode(std::string_view text, std::vector<token>& tokens, special spelled = special::as_text) const {
    if (spelled == special::as_tokens)
      while (const auto found = find_special(text)) {
        encode_text(text.substr(0, found->first), tokens);
        tokens.push_back(found->second);
        text.remove_prefix(found->first + bytes(found->second).size());
      }
    encode_text(text, tokens);
  }

  /// The text of tokens. What a model wrote need not be well-formed UTF-8. Fails when a token is not in [0, size()).
  [[nodiscard]] std::string decode(std::span<const token> tokens) const {
    std::string text;
    for (const token t : tokens) text += bytes(t);
    return text;
  }
  /// The bytes of a token, which may begin or end within a symbol of UTF-8. Fails when it is not in [0, size()).
  [[nodiscard]] std::string_view bytes(token t) const& {
    if (t < 0 || t >= size()) fail("bpe: token ", t, " is outside of the vocabulary, 0 to ", size() - 1);
    const auto i = static_cast<std::size_t>(t);
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }
  void bytes(token) const&& = delete;  // of a temporary tokenizer they would lie nowhere

  /// The special token that is spelled so. Fails when there is none.
  [[nodiscard]] token special_token(std::string_view spelling) const {
    const token found = specials_.find(spelling, speller{*this});
    if (found < 0) fail("bpe: ", detail::in_quotes(spelling), " is no special token of the vocabulary");
    return found;
  }

 private:
  struct speller {
    const bpe& of;
    [[nodiscard]] std::string_view operator()(token t) const { return of.bytes(t); }
  };
  static constexpr std::size_t short_piece = 64;  // bytes; below, looking at all pairs again is faster than a queue

  explicit bpe(const detail::bpe_files& files) : bpe(files.vocab(), files.merges(), files.added()) {}
  bpe(const detail::source& vocab, const detail::source& merges, const detail::source& added)
      : ranks_(static_cast<std::size_t>(std::count(merges.text.begin(), merges.text.end(), '\n')) + 1) {
    detail::vocabulary_entries entries;
    entries.read(vocab);
    const std::size_t first_added = entries.size();
    if (!added.text.empty()) entries.read(added);
    const auto file_of = [&](std::size_t entry) { return entry < first_added ? vocab.name : added.name; };
    const auto by_id = order(entries, file_of);

    // The bytes of all tokens. A token that is neither a byte nor made by a merge means its spelling itself.
    const auto spelling = [&](std::size_t id) { return entries.spelling(by_id[id]); };
    const auto lines = read_merges(merges, entries);
    std::vector<bool> made(by_id.size());
    for (const token whole : merged_) made[static_cast<std::size_t>(whole)] = true;
    byte_tokens_.fill(-1);
    for (std::size_t id = 0; id < by_id.size(); ++id) {
      const auto spelled = detail::bytes_of_spelling(spelling(id));
      if (spelled && spelled->size() == 1) {
        made[id] = true;
        byte_tokens_[static_cast<unsigned char>(spelled->front())] = static_cast<token>(id);
      }
      if (!made[id] && by_id[id] < first_added && spelled && detail::piece_length(*spelled) == spelled->size())
        fail(merges.name, ": no line makes the token ", detail::in_quotes(spelling(id)), ", number ", id, " of ",
             vocab.name,
             ", and it is no special one, which would be of several pieces, as <|endoftext|> is; is the end missing?");
      bytes_ += made[id] && spelled ? *spelled : spelling(id);
      ends_.push_back(bytes_.size());
    }
    for (std::size_t byte = 0; byte < 256; ++byte)
      if (byte_tokens_[byte] < 0)
        fail(vocab.name, ": has no token for the byte ", byte, ", ", detail::in_quotes(detail::spelling_of_byte(byte)),
             "; expected tokens for all of 0 to 255");
    for (const line& l : lines)
      for (const token half : {l.left, l.right})
        if (!made[static_cast<std::size_t>(half)])
          fail(merges.name, ": line ", l.number, ": the token ",
               detail::in_quotes(spelling(static_cast<std::size_t>(half))), " is neither a byte nor made by any line");

    // What pieces can be looked up as a whole: the tokens that merging makes of their own bytes.
    std::vector<token> tokens;
    for (token t = 0; t < size(); ++t) {
      const std::string_view text = bytes(t);
      if (!made[static_cast<std::size_t>(t)]) {
        add_special(text, t);
        continue;
      }
      tokens.clear();
      merge(text, tokens);
      if (tokens.size() == 1) {
        pieces_.insert(text, t);
        longest_piece_ = std::max(longest_piece_, text.size());
      }
    }
  }

  /// The entries in the order of their numbers.
  template <class FileOf>
  [[nodiscard]] static std::vector<std::size_t> order(const detail::vocabulary_entries& entries,
                                                      const FileOf& file_of) {
    constexpr auto none = std::numeric_limits<std::size_t>::max();
    std::vector<std::size_t> by_id(entries.size(), none);
    for (std::size_t entry = 0; entry < entries.size(); ++entry) {
      const auto id = static_cast<std::size_t>(entries.id(entry));
      if (id >= by_id.size())
        fail(file_of(entry), ": the token ", detail::in_quotes(entries.spelling(entry)), " has the id ", id,
             "; expected ids from 0 to ", by_id.size() - 1, ", because there are ", by_id.size(), " tokens");
      if (by_id[id] != none)
        fail(file_of(entry), ": the tokens ", detail::in_quotes(entries.spelling(by_id[id])), " and ",
             detail::in_quotes(entries.spelling(entry)), " have the same id, ", id);
      by_id[id] = entry;
    }
    return by_id;
  }

  struct line {
    std::size_t number;
    token left, right;
  };
  /// Fills ranks_ and merged_.
  [[nodiscard]] std::vector<line> read_merges(const detail::source& file, const detail::vocabulary_entries& entries) {
    std::vector<line> lines;
    std::string both;
    std::size_t number = 0;
    for (std::string_view rest = file.text; !rest.empty();) {
      const std::size_t length = std::min(rest.find('\n'), rest.size());
      std::string_view text = rest.substr(0, length);
      rest.remove_prefix(std::min(length + 1, rest.size()));
      ++number;
      if (text.ends_with('\r')) text.remove_suffix(1);
      if (number == 1 && text.starts_with("#version")) continue;
      if (text.empty() && rest.empty()) break;

      const std::size_t space = text.find(' ');
      if (space == std::string_view::npos || space == 0 || space + 1 == text.size() ||
          text.find(' ', space + 1) != text.npos)
        fail(file.name, ": line ", number, ": ", detail::in_quotes(text),
             "; expected two tokens with one space between them");
      const auto id_of = [&](std::string_view spelling) {
        const token entry = entries.find(spelling);
        if (entry < 0)
          fail(file.name, ": line ", number, ": the vocabulary has no token ", detail::in_quotes(spelling));
        return entries.id(static_cast<std::size_t>(entry));
      };
      const token left = id_of(text.substr(0, space)), right = id_of(text.substr(space + 1));
      if (ranks_.find(left, right) != detail::no_rank)
        fail(file.name, ": line ", number, ": ", detail::in_quotes(text), " is there already");
      both.assign(text.substr(0, space)).append(text.substr(space + 1));
      ranks_.insert(left, right, static_cast<std::uint32_t>(merged_.size()));
      merged_.push_back(id_of(both));
      lines.push_back({number, left, right});
    }
    return lines;
  }

  void add_special(std::string_view text, token t) {
    specials_.insert(text, t);
    special_begins_[static_cast<unsigned char>(text.front())] = true;
    special_lengths_.push_back(text.size());
    std::sort(special_lengths_.begin(), special_lengths_.end(), std::greater<>());
    special_lengths_.erase(std::unique(special_lengths_.begin(), special_lengths_.end()), special_lengths_.end());
  }
  /// Where the first special token of a text begins, and which it is.
  [[nodiscard]] std::optional<std::pair<std::size_t, token>> find_special(std::string_view text) const {
    if (special_lengths_.empty()) return std::nullopt;
    for (std::size_t at = 0; at < text.size(); ++at)
      if (special_begins_[static_cast<unsigned char>(text[at])])
        for (const std::size_t length : special_lengths_)
          if (length <= text.size() - at)
            if (const token found = specials_.find(text.substr(at, length), speller{*this}); found >= 0)
              return std::pair(at, found);
    return std::nullopt;
  }

  void encode_text(std::string_view text, std::vector<token>& tokens) const {
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, detail::piece_length(text));
      text.remove_prefix(piece.size());
      const token whole = piece.size() <= longest_piece_ ? pieces_.find(piece, speller{*this}) : -1;
      if (whole >= 0)
        tokens.push_back(whole);
      else
        merge(piece, tokens);
    }
  }

  /// Appends the tokens of a piece.
  void merge(std::string_view piece, std::vector<token>& tokens) const {
    if (piece.size() <= short_piece)
      merge_short(piece, tokens);
    else
      merge_long(piece, tokens);
  }

  [[nodiscard]] token token_of(char byte) const { return byte_tokens_[static_cast<unsigned char>(byte)]; }

  void merge_short(std::string_view piece, std::vector<token>& tokens) const {
    std::array<token, short_piece> symbols;
    std::array<std::uint32_t, short_piece> ranks;  // ranks[i]: of symbols i and i + 1
    std::size_t count = piece.size();
    for (std::size_t i = 0; i < count; ++i) symbols[i] = token_of(piece[i]);
    for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = ranks_.find(symbols[i], symbols[i + 1]);
    while (count > 1) {
      const auto best =
          static_cast<std::size_t>(std::min_element(ranks.begin(), ranks.begin() + count - 1) - ranks.begin());
      if (ranks[best] == detail::no_rank) break;
      symbols[best] = merged_[ranks[best]];
      std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
      --count;
      if (best + 1 < count) {
        std::copy(ranks.begin() + best + 2, ranks.begin() + count, ranks.begin() + best + 1);
        ranks[best] = ranks_.find(symbols[best], symbols[best + 1]);
      }
      if (best > 0) ranks[best - 1] = ranks_.find(symbols[best - 1], symbols[best]);
    }
    tokens.insert(tokens.end(), symbols.begin(), symbols.begin() + count);
  }

  /// The same in n log n: a queue of pairs, by rank and then place.
  void merge_long(std::string_view piece, std::vector<token>& tokens) const {
    constexpr auto none = std::numeric_limits<std::uint32_t>::max();
    if (piece.size() >= none) fail("bpe.encode: a piece of ", piece.size(), " bytes; expected less than ", none);
    const auto count = static_cast<std::uint32_t>(piece.size());
    struct node {
      token symbol;
      std::uint32_t rank;  // of this symbol and the next
      std::uint32_t previous, next;
    };
    std::vector<node> nodes(count);
    const auto rank = [&](std::uint32_t i) {
      return nodes[i].next == none ? detail::no_rank : ranks_.find(nodes[i].symbol, nodes[nodes[i].next].symbol);
    };
    for (std::uint32_t i = 0; i < count; ++i)
      nodes[i] = {token_of(piece[i]), 0, i == 0 ? none : i - 1, i + 1 == count ? none : i + 1};
    std::vector<std::uint64_t> pairs;  // the rank above the place of the left symbol
    const auto look = [&](std::uint32_t i) {
      nodes[i].rank = rank(i);
      return std::uint64_t{nodes[i].rank} << 32 | i;
    };
    for (std::uint32_t i = 0; i < count; ++i)
      if (const auto pair = look(i); nodes[i].rank != detail::no_rank) pairs.push_back(pair);
    std::priority_queue queue(std::greater<>(), std::move(pairs));
    while (!queue.empty()) {
      const auto i = static_cast<std::uint32_t>(queue.top());
      const auto of = static_cast<std::uint32_t>(queue.top() >> 32);
      queue.pop();
      node& left = nodes[i];
      if (left.rank != of) continue;  // one of the two has become part of another symbol
      left.symbol = merged_[of];
      nodes[left.next].rank = detail::no_rank;
      left.next = nodes[left.next].next;
      if (left.next != none) nodes[left.next].previous = i;
      for (const std::uint32_t at : {left.previous, i})
        if (at != none)
          if (const auto pair = look(at); nodes[at].rank != detail::no_rank) queue.push(pair);
    }
    for (std::uint32_t i = 0; i != none; i = nodes[i].next) tokens.push_back(nodes[i].symbol);
  }

  std::string bytes_;                   // of all tokens, one after the other
  std::vector<std::size_t> ends_;       // [size()], where those of a token end
  std::array<token, 256> byte_tokens_;  // the tokens of single bytes
  detail::pair_table ranks_;            // of pairs of tokens
  std::vector<token> merged_;           // by rank: what the pair becomes
  detail::string_table pieces_;         // the tokens that their bytes become, as pieces
  std::size_t longest_piece_ = 0;       // in it
  detail::string_table specials_;
  std::array<bool, 256> special_begins_{};    // by the first byte
  std::vector<std::size_t> special_lengths_;  // the longest first
};

/// The sub-words of a text file. The end of the file is held back. Of a folder, every file below it that is neither
/// hidden nor empty is a document, and whole documents are held back (split_documents in corpus.hpp).
[[nodiscard]] inline corpus subwords(const std::filesystem::path& path, const bpe& tokenizer, const split& parts = {}) {
  return detail::read_texts(path, tokenizer.size(), parts,
                            [&](std::string_view text) { return tokenizer.encode(text); });
}
/// The sub-words of several text files. Each is a document, and whole documents are held back.
[[nodiscard]] inline corpus subwords(const std::vector<std::filesystem::path>& paths, const bpe& tokenizer,
                                     const split& parts = {}) {
  return detail::read_texts(paths, tokenizer.size(), parts,
                            [&](std::string_view text) { return tokenizer.encode(text); });
}

}  // namespace fathom::data
