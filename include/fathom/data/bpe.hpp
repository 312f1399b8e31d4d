// Sub-word tokens: byte-pair encoding with the vocabularies and rules of GPT-2 (Radford et al., "Language Models are
// Unsupervised Multitask Learners", 2019; Sennrich, Haddow and Birch, arXiv 1508.07909), of Llama 3, Qwen 2 and
// SmolLM2, which merge bytes, and of SentencePiece (Kudo and Richardson, arXiv 1808.06226), as Llama 2 and Gemma have
// it, which merges characters.
//
// A rule cuts text into pieces (bpe_pieces.hpp). The bytes or characters of a piece are its first symbols. Adjacent
// pairs of symbols on the list of merges become one symbol, pairs earlier on the list first, the leftmost of equal
// pairs first, until no pair is on the list (bpe_merges.hpp). Special tokens are found before text is cut
// (added_tokens.hpp).
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/added_tokens.hpp"
#include "fathom/data/bpe_entries.hpp"
#include "fathom/data/bpe_errors.hpp"
#include "fathom/data/bpe_files.hpp"
#include "fathom/data/bpe_merges.hpp"
#include "fathom/data/bpe_parts.hpp"
#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/bpe_rules.hpp"
#include "fathom/data/bpe_spelling.hpp"
#include "fathom/data/bpe_tables.hpp"
#include "fathom/data/bpe_vocabulary.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/gguf_tokenizer.hpp"
#include "fathom/data/space_pieces.hpp"
#include "fathom/data/text.hpp"
#include "fathom/data/text_ends.hpp"
#include "fathom/data/text_form.hpp"
#include "fathom/io/named_files.hpp"

namespace fathom::data {

/// A BPE tokenizer, of one of two kinds.
///
/// A byte-level one encodes every string of bytes if its vocabulary has all bytes, and every UTF-8 text otherwise;
/// decode(encode(x)) == x, or x in normalisation form C where the files ask for that, as Qwen 2's do. In malformed
/// UTF-8, each byte is a symbol that is neither letter, number nor white space.
///
/// One of SentencePiece's kind encodes every string of bytes, too. It takes U+2581 for a space, and may put a space
/// before a text, which decoding removes, and before what follows a special token, which decoding keeps.
///
/// Tokens are added at the ends of a text only with ends::marked. Threads may call const members concurrently. Encoding
/// allocates only room for the tokens, as long as no piece (a word, a run of white space) is longer than 64 bytes, and
/// no rule changes the text before it is cut.
class bpe {
 public:
  /// Reads a folder: its tokenizer.json, or else vocab.json and merges.txt, or encoder.json and vocab.bpe; and the
  /// added tokens of added_tokens.json and tokenizer_config.json, if present. tokenizer.json has the rules for pieces;
  /// without it, the tokenizer_class has them, GPT-2's if no file names one. Fails when a file asks for rules that are
  /// not implemented: another tokenizer_class, normalizer, pre_tokenizer and so on; and when the tokenizer_class is
  /// none of those that have the rules of tokenizer.json, unless the model in config.json is known to have them
  /// nevertheless, as OLMo 2's folders do (detail::reads_file_alone).
  explicit bpe(const std::filesystem::path& folder) : bpe(io::named_files(folder)) {}
  explicit bpe(const io::named_files& files) : bpe(detail::read_bpe(files)) {}
  /// Reads two files and ignores others beside them. `vocab` is a JSON object that maps tokens to their ids, 0 to
  /// size() - 1; `merges` has two tokens on each line, after an optional first line "#version: ...". Bytes are spelled
  /// as in GPT-2's files. Tokens that are neither a byte nor made by a line are special and stand for their spelling.
  /// If one of them would be a single piece of text, the end of `merges` is assumed to be missing; only
  /// added_tokens.json may have such tokens. Fails when a file cannot be read or is malformed, and if a byte that
  /// occurs in UTF-8 has no token.
  bpe(const std::filesystem::path& vocab, const std::filesystem::path& merges) : bpe(detail::read_bpe(vocab, merges)) {}
  /// The same from the contents of such files, which need not outlive the call.
  [[nodiscard]] static bpe from_memory(std::string_view vocab, std::string_view merges,
                                       std::string_view added_tokens = {}) {
    return bpe(detail::read_bpe({"vocab (in memory)", vocab}, {"merges (in memory)", merges},
                                {"added tokens (in memory)", added_tokens}));
  }
  /// The same from the contents of a tokenizer.json. Only tokens that it lists as added are special.
  [[nodiscard]] static bpe from_memory(std::string_view tokenizer) {
    detail::bpe_parts parts;
    parts.read_tokenizer({"tokenizer (in memory)", tokenizer});
    return bpe(parts);
  }

  /// A tokenizer of a GGUF file. Tokens of the types control and unknown are special; user defined ones are tokens in
  /// all text. Fails when the file names a model or pieces that are not implemented, or lacks something.
  [[nodiscard]] static bpe from_gguf(const gguf_tokenizer& metadata) {
    return bpe(detail::gguf_reader(metadata).read());
  }

  /// The tokenizer as a GGUF file describes it: from_gguf makes the same of it. Fails when it has rules that such files
  /// cannot name.
  [[nodiscard]] written_gguf_tokenizer to_gguf() const {
    const bool is_byte_level = kind_ == bpe_kind::byte_level;
    written_gguf_tokenizer all{.model = is_byte_level ? "gpt2" : "llama"};
    if (is_byte_level) {
      const auto* const named = std::find_if(std::begin(detail::gguf_names), std::end(detail::gguf_names), [&](const detail::gguf_pieces& p) {
        return p.pieces == pieces_ && p.nfc == form_.nfc && p.ignores_merges == ignores_merges_;
      });
      if (named == std::end(detail::gguf_names)) fail("bpe.to_gguf: GGUF files have no name for these pieces, ", pieces_->name, "'s");
      all.pre = named->name;
    } else {
      if (pieces_ == &detail::metaspace_pieces) fail("bpe.to_gguf: GGUF files cannot say that text is cut at spaces");
      all.pre = "default";
      all.adds_space = form_.adds_space();
    }
    if (!ends_.unknown.empty()) fail(ends_.unknown);
    all.bos = bos_, all.eos = eos_;
    all.adds_bos = bos_ && ends_.before == std::vector<token>{*bos_};
    all.adds_eos = eos_ && ends_.after == std::vector<token>{*eos_};
    if (all.adds_bos == ends_.before.empty() || all.adds_eos == ends_.after.empty())
      fail("bpe.to_gguf: GGUF files cannot say which tokens it puts around a text");
    std::vector<std::string> spelled;  // as in merges
    for (token t = 0; t < size(); ++t) {
      const std::string_view text = bytes_[t];
      const bool is_byte = !is_byte_level && text.size() == 1 && merges_.token_of(text.front()) == t;
      std::string& spelling = spelled.emplace_back();
      for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (is_byte_level)
          spelling += detail::spelling_of_byte(byte);
        else if (is_byte)
          spelling += detail::byte_spelling(byte);
        else if (c == ' ')
          spelling += detail::spelled_space;
        else
          spelling += c;
      }
      const bool is_unknown = special_[static_cast<std::size_t>(t)] && text == "<unk>";
      // Added tokens are written as they are spelled; some stand for their normalised form, with a space before it.
      const std::string_view after_space = text.substr(text.starts_with(' ') ? 1 : 0);
      std::string_view added = spelling;
      if (added_.find(text) == t) added = text;
      if (added_.find(after_space) == t) added = after_space;
      const bool is_added = added_.find(added) == t;
      all.token_type.push_back(is_unknown ? 2 : special_[static_cast<std::size_t>(t)] ? 3 : is_added ? 4 : is_byte ? 6 : 1);
      all.tokens.push_back(is_added ? std::string(added) : spelling);
      if (is_unknown) all.unknown = t;
    }
    const auto pairs = merges_.pairs();
    if (!is_byte_level) all.scores.assign(all.tokens.size(), 0.0f);
    for (std::size_t rank = pairs.size(); rank-- > 0;) {
      const auto made = static_cast<std::size_t>(merges_.made()[rank]);
      if (!is_byte_level) all.scores[made] = -static_cast<float>(rank) - 1;  // that of its first merge
    }
    if (is_byte_level)
      for (const auto& [left, right] : pairs) all.merges.push_back(join(spelled[static_cast<std::size_t>(left)], ' ', spelled[static_cast<std::size_t>(right)]));
    return all;
  }

  /// What it merges.
  [[nodiscard]] bpe_kind kind() const { return kind_; }
  /// The number of tokens, including special ones.
  [[nodiscard]] index size() const { return bytes_.size(); }

  /// The tokens of a text.
  [[nodiscard]] std::vector<token> encode(std::string_view text, special spelled = special::as_text,
                                          ends around = ends::bare) const {
    std::vector<token> tokens;
    encode(text, tokens, spelled, around);
    return tokens;
  }
  /// Appends the tokens of a text: at most one for each byte of the text in the tokenizer's form, and those around it.
  void encode(std::string_view text, std::vector<token>& tokens, special spelled = special::as_text,
              ends around = ends::bare) const {
    if (!leaves_out_) check(text, "bpe.encode");
    if (around == ends::marked && !ends_.unknown.empty()) fail(ends_.unknown);
    if (around == ends::marked) tokens.insert(tokens.end(), ends_.before.begin(), ends_.before.end());
    added_.encode(
        text, tokens, spelled, [this](std::string_view plain, std::string& buffer) { return form_.of(plain, buffer); },
        [this](std::string_view plain, auto& to, bool begins) { encode_section(plain, to, begins); });
    if (around == ends::marked) tokens.insert(tokens.end(), ends_.after.begin(), ends_.after.end());
  }
  /// Fails when a text, which errors call `name`, has a byte without a token. Some vocabularies lack the bytes that
  /// occur in no UTF-8 text, and those of some control characters.
  void check(std::string_view text, std::string_view name) const {
    if (!lacks_bytes_) return;
    const auto missing = std::find_if(text.begin(), text.end(), [&](char byte) { return merges_.token_of(byte) < 0; });
    if (missing != text.end())
      fail(name, ": the byte ", static_cast<int>(static_cast<unsigned char>(*missing)), " at position ",
           missing - text.begin(), " has no token in the vocabulary; expected ",
           detail::never_in_utf8(static_cast<unsigned char>(*missing)) ? "UTF-8, which never has it"
                                                                       : "text without it");
  }

  /// The text of tokens, which may be malformed UTF-8. Fails when a token is not in [0, size()).
  [[nodiscard]] std::string decode(std::span<const token> tokens, specials shown = specials::spelled) const {
    std::string text;
    for (const token t : tokens) {
      const std::string_view part = bytes(t);
      if (shown == specials::spelled || !is_special(t)) text += part;
    }
    if (strips_ && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }
  /// The bytes of a token, which may begin or end within a UTF-8 sequence. Fails when it is not in [0, size()).
  [[nodiscard]] std::string_view bytes(token t) const& {
    if (t < 0 || t >= size()) fail("bpe: token ", t, " is outside of the vocabulary, 0 to ", size() - 1);
    return bytes_[t];
  }
  void bytes(token) const&& = delete;  // would dangle

  /// Whether decoding removes a space from the beginning of a text, because encoding puts one there.
  [[nodiscard]] bool removes_space() const { return strips_; }
  /// Whether a token is special, and no part of text. Fails when it is not in [0, size()).
  [[nodiscard]] bool is_special(token t) const {
    static_cast<void>(bytes(t));  // checks
    return special_[static_cast<std::size_t>(t)];
  }
  /// The token that begins texts, and the one that ends them; nothing if no file says so.
  [[nodiscard]] std::optional<token> bos() const { return bos_; }
  [[nodiscard]] std::optional<token> eos() const { return eos_; }
  /// The special or added token with a spelling. Fails when there is none.
  [[nodiscard]] token special_token(std::string_view spelling) const {
    const token found = added_.find(spelling);
    if (found < 0) fail("bpe: ", detail::in_quotes(spelling), " is no special token of the vocabulary");
    return found;
  }

 private:
  explicit bpe(const detail::bpe_parts& parts) : bpe(parts, detail::bpe_vocabulary(parts)) {}
  bpe(const detail::bpe_parts& parts, detail::bpe_vocabulary&& vocabulary)
      : kind_(parts.rules.kind),
        strips_(parts.rules.strips),
        pieces_(parts.rules.pieces),
        form_(parts.rules.form),
        ends_(parts.ends),
        bos_(parts.bos),
        eos_(parts.eos),
        special_(vocabulary.entries.size()),
        bytes_(std::move(vocabulary.bytes)),
        merges_(std::move(vocabulary.merges)),
        lacks_bytes_(vocabulary.lacks_bytes),
        leaves_out_(parts.lists_added),
        ignores_merges_(parts.ignores_merges) {
    if (pieces_ == &detail::word_pieces && vocabulary.joins_words) pieces_ = &detail::whole_pieces;
    for (token t = 0; t < size(); ++t) {
      const auto id = static_cast<std::size_t>(t);
      add_special(parts, vocabulary, t);
      if (vocabulary.whole[id]) add_whole(parts, t);
    }
  }

  /// Adds a token to those that are searched for in text before it is cut, if it is one of them.
  void add_special(const detail::bpe_parts& parts, const detail::bpe_vocabulary& vocabulary, token t) {
    const auto id = static_cast<std::size_t>(t);
    const auto& added = parts.entries.added(vocabulary.entries[id]);
    if (!added && (vocabulary.made[id] || parts.lists_added)) return;
    const std::string_view spelling = parts.entries.spelling(vocabulary.entries[id]);
    if (spelling.empty()) return;
    const auto how = added.value_or(detail::added_token());
    added_.add(spelling, how.normalized ? bytes_[t] : spelling, t, how);
    special_[id] = how.special;
  }
  /// Adds a token to those that pieces become as a whole, unless merging makes others of its bytes.
  void add_whole(const detail::bpe_parts& parts, token t) {
    const std::string_view text = bytes_[t];
    if (!parts.ignores_merges) {
      std::vector<token> tokens;
      merges_.append(text, tokens);
      if (tokens.size() != 1 || tokens.front() != t) return;
    }
    whole_.insert(text, t);
    longest_whole_ = std::max(longest_whole_, text.size());
  }

  /// Appends the tokens of a text between added tokens, with the space that it may need before it.
  void encode_section(std::string_view text, std::vector<token>& tokens, bool begins) const {
    if (text.empty() || !form_.lacks_space(text, begins)) return encode_plain(text, tokens);
    std::string spaced = " ";
    spaced += text;
    encode_plain(spaced, tokens);
  }
  /// Appends the tokens of a text without added tokens.
  void encode_plain(std::string_view text, std::vector<token>& tokens) const {
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, pieces_->first(text));
      text.remove_prefix(piece.size());
      const token whole =
          piece.size() <= longest_whole_ ? whole_.find(piece, [this](token t) { return bytes_[t]; }) : -1;
      if (whole >= 0)
        tokens.push_back(whole);
      else
        merges_.append(piece, tokens);
    }
  }

  bpe_kind kind_;
  bool strips_;                       // decoding removes a space from the beginning of a text
  const detail::piece_rule* pieces_;  // static
  detail::text_form form_;
  detail::text_ends ends_;
  std::optional<token> bos_, eos_;
  std::vector<bool> special_;  // [size()]
  detail::token_bytes bytes_;
  detail::bpe_merges merges_;
  bool lacks_bytes_;            // not all bytes have a token
  bool leaves_out_;             // encoding leaves out those bytes
  bool ignores_merges_;         // for pieces that are tokens
  detail::string_table whole_;  // the tokens that pieces become as a whole, by their bytes
  std::size_t longest_whole_ = 0;
  detail::added_tokens added_;
};

namespace detail {
/// The encoder for read_texts.
[[nodiscard]] inline auto subwords_of(const bpe& tokenizer) {
  return [&tokenizer](std::string_view text, const std::string& name) {
    tokenizer.check(text, name);  // so that errors name the file
    return tokenizer.encode(text);
  };
}
}  // namespace detail

/// The sub-words of a text file, the end of which is held out. In a folder, every file below it is a document
/// (file_options in files.hpp lists the exceptions), and whole documents are held out (split_documents in corpus.hpp).
[[nodiscard]] inline corpus subwords(const std::filesystem::path& path, const bpe& tokenizer, const split& parts = {},
                                     const file_options& files = {}) {
  return detail::read_texts(path, tokenizer.size(), parts, detail::subwords_of(tokenizer), files);
}
/// The sub-words of several text files. Each is a document, and whole documents are held out.
[[nodiscard]] inline corpus subwords(const std::vector<std::filesystem::path>& paths, const bpe& tokenizer,
                                     const split& parts = {}, const file_options& files = {}) {
  return detail::read_texts(paths, tokenizer.size(), parts, detail::subwords_of(tokenizer), files);
}

}  // namespace fathom::data
