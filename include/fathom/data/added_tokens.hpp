// Special and other added tokens, found in text by their spelling before the rest is cut into pieces.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/data/bpe_entries.hpp"
#include "fathom/data/bpe_tables.hpp"

namespace fathom::data {

/// How encoding treats the spelling of a special token, such as <|endoftext|>, within text. (Added tokens that a file
/// declares not special are tokens in all text.)
enum class special {
  as_text,   // as ordinary text: untrusted text cannot end a document
  as_tokens  // as the special token; the longest one, if several begin at the same place
};
/// How decoding treats special tokens.
enum class specials {
  spelled,  // as their spelling
  left_out
};

namespace detail {
class added_tokens {
 public:
  /// Adds a token with a non-empty spelling, and with what text must have for it: the spelling, or its normalised form.
  /// Tokens must come in increasing order.
  void add(std::string_view spelling, std::string_view text, token t, const added_token& how) {
    spellings_.insert(spelling, t);
    if (text.empty()) return;
    group& to = groups_[how.normalized];
    to.tree.insert(text, t);
    if (how.special) return;
    to.any_in_all_text = true;
    in_all_text_.push_back(t);
  }
  /// The token with a spelling; -1 if there is none.
  [[nodiscard]] token find(std::string_view spelling) const {
    const auto found = spellings_.longest_at(spelling, 0);
    return found.length == spelling.size() ? found.number : -1;
  }
  /// Appends the tokens of a text. Calls normalize(text, buffer) for the text between tokens that are not normalized,
  /// and encode_text(text, tokens, begins) for the text between all of them; `begins` says whether it begins the whole
  /// text.
  template <class Normalize, class Encode>
  void encode(std::string_view text, std::vector<token>& tokens, special spelled, const Normalize& normalize,
              const Encode& encode_text) const {
    std::string buffer;
    encode_between(groups_[0], text, tokens, spelled, [&](std::string_view section, auto& to) {
      if (section.empty()) return;
      const std::string_view normal = normalize(section, buffer);
      encode_between(groups_[1], normal, to, spelled, [&](std::string_view plain, auto& at) {
        encode_text(plain, at, section.data() == text.data() && plain.data() == normal.data());
      });
    });
  }

 private:
  struct group {
    prefix_tree tree;
    bool any_in_all_text = false;  // any tokens that are not special
  };

  /// Encodes the tokens of a group, and calls encode_text(text, tokens) for the text between them.
  template <class Encode>
  void encode_between(const group& among, std::string_view text, std::vector<token>& tokens, special spelled,
                      const Encode& encode_text) const {
    std::size_t begin = 0, end = 0;
    if (spelled == special::as_tokens || among.any_in_all_text)
      for (auto found = among.tree.find(text, 0); found.number >= 0; found = among.tree.find(text, end)) {
        end = found.at + found.length;
        if (spelled == special::as_text && !std::binary_search(in_all_text_.begin(), in_all_text_.end(), found.number))
          continue;  // a special token is plain text; no other token is searched for inside it
        encode_text(text.substr(begin, found.at - begin), tokens);
        tokens.push_back(found.number);
        begin = end;
      }
    encode_text(text.substr(begin), tokens);
  }

  std::array<group, 2> groups_;     // not normalized, which are searched for first, and normalized
  prefix_tree spellings_;           // of all tokens
  std::vector<token> in_all_text_;  // the tokens that are not special, sorted
};
}  // namespace detail

}  // namespace fathom::data
