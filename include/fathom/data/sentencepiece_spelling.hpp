// How the files of SentencePiece's tokenizers spell bytes and spaces.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "fathom/data/text_form.hpp"

namespace fathom::data::detail {

/// The byte that a spelling stands for, "<0x0A>"; nothing if it is no such spelling.
[[nodiscard]] inline std::optional<unsigned char> byte_of_spelling(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling.back() != '>') return std::nullopt;
  unsigned value = 0;
  for (const char digit : spelling.substr(3, 2)) {
    const bool is_digit = digit >= '0' && digit <= '9';
    if (!is_digit && !(digit >= 'A' && digit <= 'F')) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(is_digit ? digit - '0' : digit - 'A' + 10);
  }
  return static_cast<unsigned char>(value);
}

/// The spelling of a byte.
[[nodiscard]] inline std::string byte_spelling(std::size_t byte) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  return {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
}

/// What a token stands for.
[[nodiscard]] inline std::string text_of_spelling(std::string_view spelling) {
  if (const auto byte = byte_of_spelling(spelling)) return {static_cast<char>(*byte)};
  std::string text;
  append_with_spaces(text, spelling);
  return text;
}

}  // namespace fathom::data::detail
