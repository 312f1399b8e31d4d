// The pieces of StarCoder and SmolLM2: digits are cut out one by one, and GPT-2's rule cuts what is between them.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <string_view>

#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/gpt2_pieces.hpp"

namespace fathom::data::detail {

/// Length in bytes of the first piece of a non-empty text.
[[nodiscard]] inline std::size_t digit_piece(std::string_view text) {
  const char *const begin = text.data(), *const end = begin + text.size();
  const symbol first = first_symbol(begin, end);
  if (first.kind == symbol_kind::number) return first.bytes;
  const bool before_more = *begin == ' ' && text.size() > 1;
  const symbol_kind kind = before_more ? first_symbol(begin + 1, end).kind : first.kind;
  if (kind == symbol_kind::number) return 1;                // a space stays alone
  if (kind != symbol_kind::space) return gpt2_piece(text);  // ends where the kind changes, thus before a digit
  // White space leaves its last symbol to the next piece, unless that is a digit.
  const char *at = begin, *last = begin;
  while (at != end) {
    const symbol next = first_symbol(at, end);
    if (next.kind == symbol_kind::number) return static_cast<std::size_t>(at - begin);
    if (next.kind != symbol_kind::space) break;
    last = at;
    at += next.bytes;
  }
  return static_cast<std::size_t>((at == end || last == begin ? at : last) - begin);
}

/// tokenizer.json spells them as a Digits before a ByteLevel.
inline constexpr piece_rule digit_pieces{digit_piece, {}, "SmolLM2"};

}  // namespace fathom::data::detail
