// Pre-tokenization: the interface of the rules that cut text into pieces, and the code points these rules look at. A
// tokenizer merges within pieces only. Each rule has a file of its own (gpt2_pieces.hpp).
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fathom/data/unicode.hpp"

namespace fathom::data::detail {

/// A rule that cuts text into pieces. bpe_rules.hpp selects one when a tokenizer is read.
struct piece_rule {
  std::size_t (*first)(std::string_view text);    // length in bytes of the first piece of a non-empty text
  std::span<const std::string_view> expressions;  // equivalent regular expressions, as tokenizer.json spells them
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

/// The first code point of a non-empty text. A byte that does not begin a well-formed sequence
/// (Unicode 16.0, table 3-7) is a symbol of its own, like U+FFFD.
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

}  // namespace fathom::data::detail
