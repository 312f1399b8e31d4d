// How errors about the files of a tokenizer quote them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "fathom/core/json.hpp"

namespace fathom::data::detail {

/// The beginning of a text, in quotes and without control characters.
[[nodiscard]] inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t most = 40;
  std::size_t length = std::min(text.size(), most);
  while (length < text.size() && length > 0 && (text[length] & 0xC0) == 0x80) --length;  // cut no symbol in two
  std::string shown = "\"";
  for (const char symbol : text.substr(0, length))
    shown += static_cast<unsigned char>(symbol) < 32 || symbol == 127 ? '?' : symbol;
  return shown + (length < text.size() ? "...\"" : "\"");
}

/// A short description of a value.
[[nodiscard]] inline std::string said(const json& value) {
  if (const auto& type = value["type"]; type.is_string()) return "of the type " + in_quotes(type.text());
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  return value.is_string() ? in_quotes(value.text()) : value.dump();
}

}  // namespace fathom::data::detail
