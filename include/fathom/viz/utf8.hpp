// UTF-8: length, code point and boundaries of characters.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fathom/core/types.hpp"

namespace fathom::viz::detail {

/// The length in bytes of the first UTF-8 character of text; 0 if it is invalid or a control character.
[[nodiscard]] inline std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i, unsigned from = 0x80, unsigned to = 0xbf) {
    return byte(i) >= from && byte(i) <= to;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  // The limits of the second byte exclude control characters, surrogates, code points above U+10FFFF, and overlong
  // encodings.
  if (first >= 0xc2 && first <= 0xdf) return follows(1, first == 0xc2 ? 0xa0 : 0x80) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef)
    return follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  if (first >= 0xf0 && first <= 0xf4)
    return follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3) ? 4 : 0;
  return 0;
}

/// The code point of a valid UTF-8 sequence.
[[nodiscard]] inline std::uint32_t code_point(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(character[i])); };
  std::uint32_t result = character.size() == 1 ? byte(0) : byte(0) & (0x7fu >> character.size());
  for (std::size_t i = 1; i < character.size(); ++i) result = result << 6 | (byte(i) & 0x3f);
  return result;
}

[[nodiscard]] constexpr bool begins_letter(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

/// The number of characters in valid UTF-8.
[[nodiscard]] inline index letters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), begins_letter);
}

/// Text without its last character.
[[nodiscard]] inline std::string_view without_last(std::string_view text) {
  while (!text.empty() && !begins_letter(text.back())) text.remove_suffix(1);
  if (!text.empty()) text.remove_suffix(1);
  return text;
}

}  // namespace fathom::viz::detail
