// Text in pages: displayable characters, running text, HTML.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/viz/utf8.hpp"

namespace fathom::viz::detail {

/// Whether a character is invisible or changes the direction of text.
[[nodiscard]] constexpr bool is_invisible(std::uint32_t c) {
  return c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

/// Removes the first character from bytes and returns it in displayable form: unchanged, as \xff if the byte is invalid
/// or a control character, or as \u{202e} if the character is invisible.
[[nodiscard]] inline std::string take_character(std::string_view& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  const std::size_t length = character_length(bytes);
  const std::string_view character = bytes.substr(0, std::max<std::size_t>(length, 1));
  bytes.remove_prefix(character.size());
  if (length == 0) {
    const auto byte = static_cast<unsigned char>(character[0]);
    if (byte == '\n' || byte == '\t') return std::string(character);
    return {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
  }
  std::uint32_t number = code_point(character);
  if (!is_invisible(number)) return std::string(character);
  std::string hexadecimal;
  for (; number > 0; number >>= 4) hexadecimal.insert(hexadecimal.begin(), digits[number & 15]);
  return join("\\u{", hexadecimal, "}");
}

/// Bytes as displayable characters.
[[nodiscard]] inline std::string characters(std::string_view bytes) {
  std::string result;
  while (!bytes.empty()) result += take_character(bytes);
  return result;
}

/// The running text at each token. A character that spans several tokens belongs to the first.
[[nodiscard]] inline std::vector<std::string> running_text(std::span<const std::string> tokens) {
  std::string whole;
  std::vector<std::size_t> ends;
  for (const std::string& token : tokens) ends.push_back((whole += token).size());
  std::vector<std::string> result(tokens.size());
  std::size_t token = 0;
  for (std::string_view rest = whole; !rest.empty();) {
    while (ends[token] <= whole.size() - rest.size()) ++token;
    result[token] += take_character(rest);
  }
  return result;
}

/// Escapes text for an HTML element.
[[nodiscard]] inline std::string html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else
      result += c;
  }
  return result;
}

}  // namespace fathom::viz::detail
