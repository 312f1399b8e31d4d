// The pieces of SentencePiece's tokenizers, whose text has a space where files spell "▁".
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "fathom/data/bpe_pieces.hpp"

namespace fathom::data::detail {

/// A text as a whole.
inline constexpr piece_rule whole_pieces{[](std::string_view text) { return text.size(); }, {}, "SentencePiece"};

/// The length of spaces and what follows them, up to the next space. Merges are the same in these pieces as in the
/// whole text, if no merge joins a space to the end of a word.
[[nodiscard]] inline std::size_t word_piece(std::string_view text) {
  const std::size_t word = std::min(text.find_first_not_of(' '), text.size());
  return std::min(text.find(' ', word), text.size());
}
inline constexpr piece_rule word_pieces{word_piece, {}, "SentencePiece"};

/// The same with every space in a piece of its own, as a Metaspace that splits makes them.
[[nodiscard]] inline std::size_t metaspace_piece(std::string_view text) {
  return std::min(text.find(' ', 1), text.size());
}
inline constexpr piece_rule metaspace_pieces{metaspace_piece, {}, "SentencePiece"};

}  // namespace fathom::data::detail
