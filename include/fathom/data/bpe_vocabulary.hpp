// The meaning of the tokens in files: their bytes and the merges that make them. Checks that nothing is missing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/bpe_entries.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_merges.hpp"
#include "fathom/data/bpe_parts.hpp"
#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/bpe_spelling.hpp"
#include "fathom/data/sentencepiece_spelling.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data::detail {

/// The bytes of all tokens.
class token_bytes {
 public:
  void push_back(std::string_view bytes) {
    bytes_ += bytes;
    ends_.push_back(bytes_.size());
  }
  [[nodiscard]] index size() const { return std::ssize(ends_); }
  /// The bytes of a token in [0, size()).
  [[nodiscard]] std::string_view operator[](token t) const {
    const auto i = static_cast<std::size_t>(t);
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string bytes_;              // of all tokens, concatenated
  std::vector<std::size_t> ends_;  // [size()], where the bytes of each token end
};

/// The tokens of files, by id. Fails when the files contradict each other, or if tokens or merges are missing.
struct bpe_vocabulary {
  token_bytes bytes;
  bpe_merges merges;
  bool joins_words = false;          // a merge joins a space to the end of a word
  bool lacks_bytes = false;          // not all single bytes are tokens
  std::vector<std::size_t> entries;  // [size], the entry of each id
  std::vector<bool> made;            // [size], single bytes and results of merges
  std::vector<bool> whole;           // [size], those, and tokens that pieces become without merges

  explicit bpe_vocabulary(const bpe_parts& parts)
      : merges(parts.merges.size(), parts.rules.kind == bpe_kind::sentencepiece),
        entries(order(parts.entries)),
        made(entries.size()),
        whole(entries.size()) {
    add_merges(parts);
    if (parts.rules.kind == bpe_kind::sentencepiece) {
      for (std::size_t id = 0; id < entries.size(); ++id) add_spelled(parts, id);
      check_spelled_bytes(parts);
    } else {
      for (std::size_t id = 0; id < entries.size(); ++id) add_token(parts, id);
      check_bytes(parts);
      if (!parts.ignores_merges) check_halves(parts);  // with it, a half may be a token of whole pieces only
    }
  }

 private:
  /// The entries in the order of their ids.
  [[nodiscard]] static std::vector<std::size_t> order(const vocabulary_entries& entries) {
    std::vector<std::size_t> by_id(entries.size(), vocabulary_entries::none);
    for (std::size_t entry = 0; entry < entries.size(); ++entry) {
      const auto id = static_cast<std::size_t>(entries.id(entry));
      if (id >= by_id.size())
        fail(entries.file(entry), ": the token ", in_quotes(entries.spelling(entry)), " has the id ", id,
             "; expected ids from 0 to ", by_id.size() - 1, ", because there are ", by_id.size(), " tokens");
      if (by_id[id] != vocabulary_entries::none)
        fail(entries.file(entry), ": the tokens ", in_quotes(entries.spelling(by_id[id])), " and ",
             in_quotes(entries.spelling(entry)), " have the same id, ", id);
      by_id[id] = entry;
    }
    return by_id;
  }

  void add_merges(const bpe_parts& parts) {
    const auto& spelled = parts.entries;
    for (const auto& merge : parts.merges) {
      const token result = spelled.id(merge.made);
      joins_words = joins_words || (spelled.spelling(merge.right).starts_with(spelled_space) &&
                                    !spelled.spelling(merge.left).ends_with(spelled_space));
      if (!merges.add(spelled.id(merge.left), spelled.id(merge.right), result))
        fail(parts.place(merge.number), ": ",
             in_quotes(join(spelled.spelling(merge.left), ' ', spelled.spelling(merge.right))), " is there already");
      made[static_cast<std::size_t>(result)] = true;
    }
  }

  /// A token that is neither a byte nor made by a merge stands for its spelling.
  void add_token(const bpe_parts& parts, std::size_t id) {
    const std::size_t entry = entries[id];
    const std::string_view spelling = parts.entries.spelling(entry);
    const auto spelled = bytes_of_spelling(spelling);
    const bool added = parts.entries.added(entry).has_value();
    const bool in_vocabulary = parts.entries.is_in_vocabulary(entry);
    if (spelled && spelled->size() == 1 && in_vocabulary) {
      made[id] = true;
      merges.set_byte(static_cast<unsigned char>(spelled->front()), static_cast<token>(id));
    }
    if (!made[id] && !added && !parts.lists_added && spelled && !spelled->empty() &&
        parts.rules.pieces->first(*spelled) == spelled->size())
      fail(parts.merges_name, ": no ", parts.merges_unit, " makes the token ", in_quotes(spelling), ", number ", id,
           " of ", parts.vocab_name,
           ", and it is no special one, which would be of several pieces, as <|endoftext|> is; is the end missing?");
    whole[id] = made[id] || (parts.ignores_merges && in_vocabulary && spelled && !spelled->empty());
    if (whole[id] && added && spelled != spelling)
      fail(parts.entries.file(entry), ": the token ", in_quotes(spelling),
           " stands for text as an added token, and for other bytes as one of ", parts.vocab_name,
           "; expected one or the other");
    const bool spells_bytes = whole[id] || (parts.lists_added && !added);
    if (spells_bytes && spelled)
      bytes.push_back(*spelled);
    else
      bytes.push_back(normal(parts, entry, std::string(spelling)));
  }

  /// The same where tokens are characters, with a spelling for spaces, or spell a byte.
  void add_spelled(const bpe_parts& parts, std::size_t id) {
    const std::size_t entry = entries[id];
    const std::string_view spelling = parts.entries.spelling(entry);
    const std::string text = text_of_spelling(spelling);
    bytes.push_back(normal(parts, entry, text));
    if (!parts.entries.is_in_vocabulary(entry) || text.empty()) return;
    if (const auto byte = byte_of_spelling(spelling)) {
      merges.set_byte(*byte, static_cast<token>(id));
      return;
    }
    if (spelling.find(' ') != spelling.npos) return;  // no text has it
    if (first_code_point(text.data(), text.data() + text.size()).bytes == text.size()) {
      merges.set_character(text, static_cast<token>(id));
      made[id] = true;
    }
    whole[id] = made[id] && bytes[static_cast<token>(id)] == text;
  }
  /// The text of a token: in the tokenizer's form, if it is an added one that is found in such text.
  [[nodiscard]] static std::string normal(const bpe_parts& parts, std::size_t entry, std::string text) {
    const auto& added = parts.entries.added(entry);
    if (!added || !added->normalized || text.empty()) return text;
    std::string buffer;
    return std::string(parts.rules.form.of(text, buffer));
  }

  void check_spelled_bytes(const bpe_parts& parts) const {
    for (std::size_t byte = 0; byte < 256; ++byte)
      if (merges.token_of(static_cast<char>(byte)) < 0)
        fail(parts.vocab_name, ": has no token for the byte ", byte, ", ", in_quotes(byte_spelling(byte)),
             "; expected tokens for all of 0 to 255, as byte_fallback needs them");
  }

  void check_bytes(const bpe_parts& parts) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (merges.token_of(static_cast<char>(byte)) >= 0) continue;
      if (parts.lists_added ? !may_lack(byte) : !never_in_utf8(byte))
        fail(parts.vocab_name, ": has no token for the byte ", byte, ", ", in_quotes(spelling_of_byte(byte)),
             "; expected tokens for all of 0 to 255, but those that UTF-8 never has",
             parts.lists_added ? " and control characters" : "");
      if (parts.has_unknown)
        fail(parts.vocab_name, ": has no token for the byte ", byte, ", ", in_quotes(spelling_of_byte(byte)),
             ", and model.unk_token; expected null, with which such bytes are left out");
      lacks_bytes = true;
    }
  }

  void check_halves(const bpe_parts& parts) const {
    for (const auto& merge : parts.merges)
      for (const std::size_t half : {merge.left, merge.right})
        if (!made[static_cast<std::size_t>(parts.entries.id(half))])
          fail(parts.place(merge.number), ": the token ", in_quotes(parts.entries.spelling(half)),
               " is neither a byte nor made by any ", parts.merges_unit);
  }
};

}  // namespace fathom::data::detail
