// Text as a picture shows it: marks for characters without a shape, names of tokens, numbers.
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

/// Text with visible marks for spaces, line breaks and tabs (they are in every Latin font), and with two hexadecimal
/// digits for every byte that is no character.
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

/// The tokens' names as they are drawn, at most 12 letters of each.
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

/// A number with as many digits as it takes: 0.05, 42.2.
[[nodiscard]] inline std::string digits(const char* format, double number) {
  char text[32];
  std::snprintf(text, sizeof text, format, number);
  return text;
}

}  // namespace fathom::viz::detail
