// The code points of a text in UTF-8.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <cstdint>
#include <string>

namespace fathom::data::detail {

/// What stands for a byte outside of well-formed UTF-8, in place of a code.
inline constexpr std::uint32_t malformed = 0xFFFFFFFF;

/// A code point of a text.
struct code_point {
  std::uint32_t code;
  std::size_t bytes;
};

/// The first code point of a non-empty text. A byte that does not begin a well-formed sequence (Unicode 16.0, table
/// 3-7) is a symbol of its own, `malformed`.
[[nodiscard]] inline code_point first_code_point(const char* text, const char* end) {
  const auto byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const auto follows = [&](int i, std::uint32_t low = 0x80, std::uint32_t high = 0xBF) {
    return i < end - text && byte(i) >= low && byte(i) <= high;
  };
  const auto bits = [&](int i, std::uint32_t mask, int shift) { return (byte(i) & mask) << shift; };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first >= 0xC2 && first <= 0xDF && follows(1)) return {bits(0, 0x1F, 6) | bits(1, 0x3F, 0), 2};
  if (first >= 0xE0 && first <= 0xEF && follows(1, first == 0xE0 ? 0xA0 : 0x80, first == 0xED ? 0x9F : 0xBF) &&
      follows(2))
    return {bits(0, 0x0F, 12) | bits(1, 0x3F, 6) | bits(2, 0x3F, 0), 3};
  if (first >= 0xF0 && first <= 0xF4 && follows(1, first == 0xF0 ? 0x90 : 0x80, first == 0xF4 ? 0x8F : 0xBF) &&
      follows(2) && follows(3))
    return {bits(0, 0x07, 18) | bits(1, 0x3F, 12) | bits(2, 0x3F, 6) | bits(3, 0x3F, 0), 4};
  return {malformed, 1};
}

/// The length of the longest beginning of a well-formed sequence of several bytes, without its last, at a position of a
/// text that has no such sequence; 0 if there is none.
[[nodiscard]] inline std::size_t begun_code_point(const char* text, const char* end) {
  const auto byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(0);
  if (first < 0xC2 || first > 0xF4) return 0;
  if (first < 0xE0 || end - text < 2) return 1;
  const std::uint32_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const std::uint32_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 1;
  return first >= 0xF0 && end - text > 2 && byte(2) >= 0x80 && byte(2) <= 0xBF ? 3 : 2;
}

/// Appends a code point.
inline void append_utf8(std::string& text, std::uint32_t code) {
  const auto rest = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    rest(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    rest(6), rest(0);
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    rest(12), rest(6), rest(0);
  }
}

}  // namespace fathom::data::detail
