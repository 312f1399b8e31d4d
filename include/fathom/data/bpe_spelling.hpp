// How GPT-2's files spell bytes.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom::data::detail {

/// The code points of bytes: printable Latin-1 bytes stand for themselves, the others are U+0100, U+0101, ... in order.
inline constexpr auto byte_spellings = [] {
  std::array<std::uint32_t, 256> codes{};
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    codes[byte] = printable ? byte : next++;
  }
  return codes;
}();

/// The bytes of a spelling; nothing if a symbol of it stands for no byte. All code points are below U+0800.
[[nodiscard]] inline std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  constexpr auto bytes = [] {
    std::array<std::int16_t, 256 + 68> table{};
    table.fill(-1);
    for (std::size_t byte = 0; byte < 256; ++byte) table[byte_spellings[byte]] = static_cast<std::int16_t>(byte);
    return table;
  }();
  std::string result;
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    std::size_t code = static_cast<unsigned char>(spelling[i]);
    if (code >= 0xC0 && code < 0xE0 && i + 1 < spelling.size())
      code = (code & 0x1F) << 6 | (static_cast<unsigned char>(spelling[++i]) & 0x3F);
    else if (code >= 0x80)
      return std::nullopt;
    if (code >= bytes.size() || bytes[code] < 0) return std::nullopt;
    result += static_cast<char>(bytes[code]);
  }
  return result;
}

/// The spelling of a byte.
[[nodiscard]] inline std::string spelling_of_byte(std::size_t byte) {
  const std::uint32_t code = byte_spellings[byte];
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Whether a byte occurs in no UTF-8 text.
[[nodiscard]] constexpr bool never_in_utf8(std::size_t byte) { return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5; }

/// Whether a vocabulary may lack a byte that is then left out: one of a control character, or of code points that are
/// not assigned and never were, U+40000 to U+BFFFF.
[[nodiscard]] constexpr bool may_lack(std::size_t byte) {
  const bool control = (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F;
  return control || byte == 0xF1 || byte == 0xF2 || never_in_utf8(byte);
}

}  // namespace fathom::data::detail
