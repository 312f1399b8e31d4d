// Pre-tokenization: the interface of the rules that cut text into pieces, and the code points these rules look at. A
// tokenizer merges within pieces only. Each rule has a file of its own (gpt2_pieces.hpp,
// digit_pieces.hpp, llama3_pieces.hpp).
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fathom/data/unicode.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data::detail {

/// A rule that cuts text into pieces. bpe_rules.hpp selects one when a tokenizer is read.
struct piece_rule {
  std::size_t (*first)(std::string_view text);    // length in bytes of the first piece of a non-empty text
  std::span<const std::string_view> expressions;  // equivalent regular expressions, as tokenizer.json spells them
  std::string_view name;                          // whose pieces they are, for errors
};

/// A code point of a text.
struct symbol {
  symbol_kind kind;
  std::size_t bytes;
};

/// Kinds of the one-byte code points.
inline constexpr auto ascii_kinds = [] {
  std::array<symbol_kind, 128> kinds{};
  for (std::uint32_t code = 0; code < kinds.size(); ++code) kinds[code] = kind_of(code);
  return kinds;
}();

/// The first code point of a non-empty text. A byte outside of well-formed sequences is a symbol of its own, like
/// U+FFFD.
[[nodiscard]] inline symbol first_symbol(const char* text, const char* end) {
  if (const auto first = static_cast<unsigned char>(*text); first < 0x80) return {ascii_kinds[first], 1};
  const code_point first = first_code_point(text, end);
  return {kind_of(first.code), first.bytes};
}

}  // namespace fathom::data::detail
