// The pieces of Llama 3, and those of Qwen 2, which differ in digits only: words with the symbol before them, digits in
// groups, punctuation with the line ends behind it, white space up to the end of a line.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <string_view>

#include "fathom/data/bpe_pieces.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data::detail {

/// Length of an English contraction at the beginning of a text, in letters of either case; 0 if there is none. U+017F,
/// the long s, is an s without case.
[[nodiscard]] inline std::size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto small = [&](std::size_t i) {
    const char letter = i < text.size() ? text[i] : '\0';
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  };
  const char second = small(1), third = small(2);
  if (second == 's' || second == 't' || second == 'm' || second == 'd') return 2;
  if ((second == 'l' && third == 'l') || ((second == 'v' || second == 'r') && third == 'e')) return 3;
  return text.substr(1).starts_with("\u017F") ? 3 : 0;
}

/// Length in bytes of the first piece of a non-empty text: what Llama 3's regular expression matches,
///   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
///    ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// with as many digits in a group as `Digits` says.
template <int Digits>
[[nodiscard]] std::size_t llama3_piece(std::string_view text) {
  if (const std::size_t length = contraction(text); length > 0) return length;
  const char *const begin = text.data(), *const end = begin + text.size();
  const auto length_to = [&](const char* to) { return static_cast<std::size_t>(to - begin); };
  const auto is_line_end = [](char c) { return c == '\r' || c == '\n'; };
  const auto skip = [&](const char* at, symbol_kind kind) {
    while (at != end) {
      const symbol next = first_symbol(at, end);
      if (next.kind != kind) break;
      at += next.bytes;
    }
    return at;
  };
  const symbol first = first_symbol(begin, end);
  const char* const second = begin + first.bytes;
  if (first.kind == symbol_kind::letter) return length_to(skip(second, symbol_kind::letter));
  if (first.kind == symbol_kind::number) {
    const char* at = second;
    for (int count = 1; count < Digits && at != end; ++count) {
      const symbol next = first_symbol(at, end);
      if (next.kind != symbol_kind::number) break;
      at += next.bytes;
    }
    return length_to(at);
  }
  const symbol_kind then = second == end ? symbol_kind::space : first_symbol(second, end).kind;
  if (then == symbol_kind::letter && !is_line_end(*begin)) return length_to(skip(second, symbol_kind::letter));
  if (first.kind == symbol_kind::other || (*begin == ' ' && then == symbol_kind::other)) {
    const char* at = skip(second, symbol_kind::other);
    while (at != end && is_line_end(*at)) ++at;
    return length_to(at);
  }
  // White space: up to its last line end, or else all but its last symbol, which it leaves to the next piece.
  const char *at = begin, *last = begin, *line = begin;
  while (at != end) {
    const symbol next = first_symbol(at, end);
    if (next.kind != symbol_kind::space) break;
    last = at;
    if (is_line_end(*at)) line = at + 1;
    at += next.bytes;
  }
  return length_to(line != begin ? line : at == end || last == begin ? at : last);
}

inline constexpr std::string_view llama3_expressions[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
inline constexpr std::string_view qwen2_expressions[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

inline constexpr piece_rule llama3_pieces{llama3_piece<3>, llama3_expressions, "Llama 3"};
inline constexpr piece_rule qwen2_pieces{llama3_piece<1>, qwen2_expressions, "Qwen 2"};

}  // namespace fathom::data::detail
