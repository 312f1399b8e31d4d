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
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_files.hpp"
#include "fathom/data/bpe_tables.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/text.hpp"
#include "fathom/data/unicode.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// What encoding makes of the spelling of a special token, such as <|endoftext|>, within text. (Added tokens of which a
/// file says that they are not special are tokens in all text.)
enum class special {
  as_text,   // text like any other: what text of unknown origin says cannot end a document
  as_tokens  // the special token; the longest, where several begin at one place
};

namespace detail {
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
}  // namespace detail

/// A byte-level BPE tokenizer. Every string of bytes can be encoded, if the vocabulary has all of them, and every text
/// in UTF-8 if it has not; decode(encode(x)) == x. Of UTF-8 that is not well-formed, each byte counts as a symbol that
/// is neither letter, number nor white space. No tokens are added at the ends of a text.
///
/// Members that are const may be called by many threads at once. Encoding allocates nothing but room for the tokens, as
/// long as no piece (a word, a run of white space) is longer than 64 bytes.
class bpe {
 public:
  /// Reads a folder: its tokenizer.json, or else vocab.json and merges.txt, or encoder.json and vocab.bpe; and what
  /// added_tokens.json and tokenizer_config.json say of added tokens, if there. Fails when one of the files says that
  /// text is encoded by other rules than GPT-2's: another tokenizer_class, a normalizer, another pre_tokenizer and so
  /// on.
  explicit bpe(const std::filesystem::path& folder) : bpe(detail::read_bpe(folder)) {}
  /// Two files, whatever lies beside them. `vocab` is a JSON object from tokens to their numbers, which must be 0 to
  /// size() - 1; `merges` has two tokens on each line, after a first line "#version: ..." if there. Bytes are spelled
  /// as GPT-2's files do. Tokens that are neither a byte nor made by a line are special, and mean their spelling
  /// itself. If one of them would be a single piece of text, the end of `merges` is taken to be missing; only
  /// added_tokens.json may have such. Fails when a file cannot be read or is not so, and when one of the bytes that
  /// UTF-8 has is no token.
  bpe(const std::filesystem::path& vocab, const std::filesystem::path& merges) : bpe(detail::read_bpe(vocab, merges)) {}
  /// The same from the contents of such files. They need not outlive the call.
  [[nodiscard]] static bpe from_memory(std::string_view vocab, std::string_view merges,
                                       std::string_view added_tokens = {}) {
    return bpe(detail::read_bpe({"vocab (in memory)", vocab}, {"merges (in memory)", merges},
                                {"added tokens (in memory)", added_tokens}));
  }

  /// The same from the contents of a tokenizer.json, in which only the tokens that are listed there as added are
  /// special.
  [[nodiscard]] static bpe from_memory(std::string_view tokenizer) {
    detail::bpe_parts parts;
    parts.read_tokenizer({"tokenizer (in memory)", tokenizer});
    return bpe(parts);
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
    check(text, "bpe.encode");
    encode_added(0, text, tokens, spelled);
  }
  /// Fails when a text, which the error calls `name`, has a byte without a token: some vocabularies lack those that are
  /// part of no text in UTF-8.
  void check(std::string_view text, std::string_view name) const {
    if (!lacks_bytes_) return;
    const auto missing = std::find_if(text.begin(), text.end(), [&](char byte) { return token_of(byte) < 0; });
    if (missing != text.end())
      fail(name, ": the byte ", static_cast<int>(static_cast<unsigned char>(*missing)), " at position ",
           missing - text.begin(), " has no token in the vocabulary; expected UTF-8, which never has it");
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

  /// The special or added token that is spelled so. Fails when there is none.
  [[nodiscard]] token special_token(std::string_view spelling) const {
    for (const added_tokens& among : added_)
      if (const auto found = among.tree.longest_at(spelling, 0); found.length == spelling.size() && found.number >= 0)
        return found.number;
    fail("bpe: ", detail::in_quotes(spelling), " is no special token of the vocabulary");
  }

 private:
  struct speller {
    const bpe& of;
    [[nodiscard]] std::string_view operator()(token t) const { return of.bytes(t); }
  };
  static constexpr std::size_t short_piece = 64;  // bytes; below, looking at all pairs again is faster than a queue

  explicit bpe(const detail::bpe_parts& parts) : ranks_(parts.merges.size()) {
    const auto& entries = parts.entries;
    const auto by_id = order(entries);
    rank(parts);

    // The bytes of all tokens. A token that is neither a byte nor made by a merge means its spelling itself.
    const auto spelling = [&](std::size_t id) { return entries.spelling(by_id[id]); };
    std::vector<bool> made(by_id.size());
    std::vector<bool> whole(by_id.size());  // of those and of what pieces are without merges
    for (const token t : merged_) made[static_cast<std::size_t>(t)] = true;
    byte_tokens_.fill(-1);
    for (std::size_t id = 0; id < by_id.size(); ++id) {
      const auto spelled = detail::bytes_of_spelling(spelling(id));
      const bool added = entries.added(by_id[id]).has_value();
      if (spelled && spelled->size() == 1 && entries.is_in_vocabulary(by_id[id])) {
        made[id] = true;
        byte_tokens_[static_cast<unsigned char>(spelled->front())] = static_cast<token>(id);
      }
      if (!made[id] && !added && !parts.lists_added && spelled && !spelled->empty() &&
          detail::piece_length(*spelled) == spelled->size())
        fail(parts.merges_name, ": no ", parts.merges_unit, " makes the token ", detail::in_quotes(spelling(id)),
             ", number ", id, " of ", parts.vocab_name,
             ", and it is no special one, which would be of several pieces, as <|endoftext|> is; is the end missing?");
      whole[id] =
          made[id] || (parts.ignores_merges && entries.is_in_vocabulary(by_id[id]) && spelled && !spelled->empty());
      if (whole[id] && added && spelled != spelling(id))
        fail(entries.file(by_id[id]), ": the token ", detail::in_quotes(spelling(id)),
             " stands for text as an added token, and for other bytes as one of ", parts.vocab_name,
             "; expected one or the other");
      const bool spells_bytes = whole[id] || (parts.lists_added && !added);
      bytes_ += spells_bytes && spelled ? *spelled : spelling(id);
      ends_.push_back(bytes_.size());
    }
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (byte_tokens_[byte] >= 0) continue;
      if (!detail::never_in_utf8(byte))
        fail(parts.vocab_name, ": has no token for the byte ", byte, ", ",
             detail::in_quotes(detail::spelling_of_byte(byte)),
             "; expected tokens for all of 0 to 255, but those that UTF-8 never has");
      lacks_bytes_ = true;
    }
    for (const auto& merge : parts.merges)
      for (const std::size_t half : {merge.left, merge.right})
        if (!made[static_cast<std::size_t>(entries.id(half))])
          fail(parts.place(merge.number), ": the token ", detail::in_quotes(entries.spelling(half)),
               " is neither a byte nor made by any ", parts.merges_unit);

    // What pieces can be looked up as a whole: the tokens that merging makes of their own bytes.
    std::vector<token> tokens;
    for (token t = 0; t < size(); ++t) {
      const auto id = static_cast<std::size_t>(t);
      const std::string_view text = bytes(t);
      const auto& added = entries.added(by_id[id]);
      if (!text.empty() && (added || (!made[id] && !parts.lists_added)))
        add(text, t, added.value_or(detail::added_token()));
      if (!whole[id]) continue;
      tokens.clear();
      if (!parts.ignores_merges) merge(text, tokens);
      if (parts.ignores_merges || tokens.size() == 1) {
        pieces_.insert(text, t);
        longest_piece_ = std::max(longest_piece_, text.size());
      }
    }
  }

  /// The entries in the order of their numbers.
  [[nodiscard]] static std::vector<std::size_t> order(const detail::vocabulary_entries& entries) {
    std::vector<std::size_t> by_id(entries.size(), detail::vocabulary_entries::none);
    for (std::size_t entry = 0; entry < entries.size(); ++entry) {
      const auto id = static_cast<std::size_t>(entries.id(entry));
      if (id >= by_id.size())
        fail(entries.file(entry), ": the token ", detail::in_quotes(entries.spelling(entry)), " has the id ", id,
             "; expected ids from 0 to ", by_id.size() - 1, ", because there are ", by_id.size(), " tokens");
      if (by_id[id] != detail::vocabulary_entries::none)
        fail(entries.file(entry), ": the tokens ", detail::in_quotes(entries.spelling(by_id[id])), " and ",
             detail::in_quotes(entries.spelling(entry)), " have the same id, ", id);
      by_id[id] = entry;
    }
    return by_id;
  }

  /// Fills ranks_ and merged_.
  void rank(const detail::bpe_parts& parts) {
    const auto& entries = parts.entries;
    for (const auto& merge : parts.merges) {
      const token left = entries.id(merge.left), right = entries.id(merge.right);
      if (ranks_.find(left, right) != detail::no_rank)
        fail(parts.place(merge.number), ": ",
             detail::in_quotes(join(entries.spelling(merge.left), ' ', entries.spelling(merge.right))),
             " is there already");
      ranks_.insert(left, right, static_cast<std::uint32_t>(merged_.size()));
      merged_.push_back(entries.id(merge.made));
    }
  }

  /// Added tokens, to be found in texts.
  struct added_tokens {
    detail::prefix_tree tree;
    bool any_in_all_text = false;  // that are not special
  };
  void add(std::string_view text, token t, const detail::added_token& how) {
    added_tokens& to = added_[how.normalized];
    to.tree.insert(text, t);
    if (how.special) return;
    to.any_in_all_text = true;
    in_all_text_.push_back(t);  // in order: so they are added
  }
  /// Encodes a text with the added tokens of added_, from an element of it on, each within what those before leave.
  void encode_added(std::size_t first, std::string_view text, std::vector<token>& tokens, special spelled) const {
    if (first == added_.size()) return encode_text(text, tokens);
    const added_tokens& among = added_[first];
    std::size_t begin = 0, end = 0;
    if (spelled == special::as_tokens || among.any_in_all_text)
      for (auto found = among.tree.find(text, 0); found.number >= 0; found = among.tree.find(text, end)) {
        end = found.at + found.length;
        if (spelled == special::as_text && !std::binary_search(in_all_text_.begin(), in_all_text_.end(), found.number))
          continue;  // a special one is text, in which no other is looked for
        encode_added(first + 1, text.substr(begin, found.at - begin), tokens, spelled);
        tokens.push_back(found.number);
        begin = end;
      }
    encode_added(first + 1, text.substr(begin), tokens, spelled);
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
  std::array<token, 256> byte_tokens_;  // the tokens of single bytes, -1 where there is none
  bool lacks_bytes_ = false;
  detail::pair_table ranks_;           // of pairs of tokens
  std::vector<token> merged_;          // by rank: what the pair becomes
  detail::string_table pieces_;        // the tokens that their bytes become, as pieces
  std::size_t longest_piece_ = 0;      // in it
  std::array<added_tokens, 2> added_;  // special tokens too; those to look for first, and the others
  std::vector<token> in_all_text_;     // of them, those that are not special
};

namespace detail {
/// The encoder of read_texts.
[[nodiscard]] inline auto subwords_of(const bpe& tokenizer) {
  return [&tokenizer](std::string_view text, const std::string& name) {
    tokenizer.check(text, name);  // with the name of the file
    return tokenizer.encode(text);
  };
}
}  // namespace detail

/// The sub-words of a text file. The end of the file is held back. Of a folder, every file below it is a document
/// (file_options in files.hpp says which are left out), and whole documents are held back (split_documents in
/// corpus.hpp).
[[nodiscard]] inline corpus subwords(const std::filesystem::path& path, const bpe& tokenizer, const split& parts = {},
                                     const file_options& files = {}) {
  return detail::read_texts(path, tokenizer.size(), parts, detail::subwords_of(tokenizer), files);
}
/// The sub-words of several text files. Each is a document, and whole documents are held back.
[[nodiscard]] inline corpus subwords(const std::vector<std::filesystem::path>& paths, const bpe& tokenizer,
                                     const split& parts = {}, const file_options& files = {}) {
  return detail::read_texts(paths, tokenizer.size(), parts, detail::subwords_of(tokenizer), files);
}

}  // namespace fathom::data
