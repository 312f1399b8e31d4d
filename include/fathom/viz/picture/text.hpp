// Text in pictures: marks for whitespace, token names, numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/labels.hpp"
#include "fathom/viz/utf8.hpp"

namespace fathom::viz::detail {

inline constexpr std::string_view space_mark = "\u00b7", line_mark = "\u00b6", tab_mark = "\u00bb", cut_mark = "\u2026";

/// Replaces spaces, line breaks and tabs with visible marks, which every Latin font has, and each invalid or control
/// byte with two hexadecimal digits.
[[nodiscard]] inline std::string visible(std::string_view text, std::string_view space = space_mark) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (text[0] == ' ') {
      result += space;
    } else if (text[0] == '\n') {
      result += line_mark;
    } else if (text[0] == '\t') {
      result += tab_mark;
    } else if (length > 0) {
      result += text.substr(0, length);
    } else {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(static_cast<unsigned char>(text[0])));
      result += digits;
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

/// Token names as drawn, at most 12 characters each.
[[nodiscard]] inline std::vector<std::string> names(const attention_weights_map& map, const labels& name) {
  constexpr index most = 12;
  std::vector<std::string> result;
  for (const token t : map.tokens) {
    std::string text = visible(name(t, map.vocab));
    if (letters(text) > most) {
      std::string_view cut = text;
      while (letters(cut) >= most) cut = without_last(cut);
      text = join(cut, cut_mark);
    }
    result.push_back(std::move(text));
  }
  return result;
}

/// A number as text, in a printf format for double.
[[nodiscard]] inline std::string digits(const char* format, double number) {
  char text[32];
  std::snprintf(text, sizeof text, format, number);
  return text;
}

}  // namespace fathom::viz::detail
