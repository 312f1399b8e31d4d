// GPT-2's pre-tokenization: words with the space before them, and runs of digits, of punctuation or of white space.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <string_view>

#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/unicode.hpp"

namespace fathom::data::detail {

/// Length in bytes of the first piece of a non-empty text: what GPT-2's regular expression matches,
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
[[nodiscard]] inline std::size_t gpt2_piece(std::string_view text) {
  const char *const begin = text.data(), *const end = begin + text.size();
  if (*begin == '\'' && text.size() > 1) {
    const char second = text[1], third = text.size() > 2 ? text[2] : '\0';
    if (second == 's' || second == 'd' || second == 'm' || second == 't') return 2;
    if ((second == 'l' && third == 'l') || ((second == 'v' || second == 'r') && third == 'e')) return 3;
  }
  // A space joins what follows it, unless that is white space too.
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
  // White space leaves its last symbol to the next piece, unless it has only one.
  const char* last = at = begin;
  while (at != end) {
    const symbol next = first_symbol(at, end);
    if (next.kind != symbol_kind::space) break;
    last = at;
    at += next.bytes;
  }
  return static_cast<std::size_t>((at == end || last == begin ? at : last) - begin);
}

/// The regular expression, as its authors write it and as tiktoken does.
inline constexpr std::string_view gpt2_expressions[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};

inline constexpr piece_rule gpt2_pieces{gpt2_piece, gpt2_expressions, "GPT-2"};

}  // namespace fathom::data::detail
