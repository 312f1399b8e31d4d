// Special and other added tokens, found in text by their spelling before the rest is cut into pieces.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
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

namespace detail {
class added_tokens {
 public:
  /// Adds a token with a non-empty spelling. Tokens must come in increasing order.
  void add(std::string_view spelling, token t, const added_token& how) {
    group& to = groups_[how.normalized];
    to.tree.insert(spelling, t);
    if (how.special) return;
    to.any_in_all_text = true;
    in_all_text_.push_back(t);
  }
  /// The token with a spelling; -1 if there is none.
  [[nodiscard]] token find(std::string_view spelling) const {
    for (const group& among : groups_)
      if (const auto found = among.tree.longest_at(spelling, 0); found.length == spelling.size() && found.number >= 0)
        return found.number;
    return -1;
  }
  /// Appends the tokens of a text. Calls encode_text(text, tokens) for the text between added tokens.
  template <class Encode>
  void encode(std::string_view text, std::vector<token>& tokens, special spelled, const Encode& encode_text) const {
    encode_from(0, text, tokens, spelled, encode_text);
  }

 private:
  struct group {
    prefix_tree tree;
    bool any_in_all_text = false;  // any tokens that are not special
  };

  /// Encodes with the groups from index `first` on, each within the text that the groups before it leave.
  template <class Encode>
  void encode_from(std::size_t first, std::string_view text, std::vector<token>& tokens, special spelled,
                   const Encode& encode_text) const {
    if (first == groups_.size()) return encode_text(text, tokens);
    const group& among = groups_[first];
    std::size_t begin = 0, end = 0;
    if (spelled == special::as_tokens || among.any_in_all_text)
      for (auto found = among.tree.find(text, 0); found.number >= 0; found = among.tree.find(text, end)) {
        end = found.at + found.length;
        if (spelled == special::as_text && !std::binary_search(in_all_text_.begin(), in_all_text_.end(), found.number))
          continue;  // a special token is plain text; no other token is searched for inside it
        encode_from(first + 1, text.substr(begin, found.at - begin), tokens, spelled, encode_text);
        tokens.push_back(found.number);
        begin = end;
      }
    encode_from(first + 1, text.substr(begin), tokens, spelled, encode_text);
  }

  std::array<group, 2> groups_;     // not normalized, which are searched for first, and normalized
  std::vector<token> in_all_text_;  // the tokens that are not special, sorted
};
}  // namespace detail

}  // namespace fathom::data
