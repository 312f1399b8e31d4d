// What a tokenizer makes of text before it looks for pieces in it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fathom/data/nfc.hpp"

namespace fathom::data::detail {

/// How SentencePiece's tokenizers spell a space in their files: U+2581.
inline constexpr std::string_view spelled_space = "\u2581";

/// Appends a text with spaces in place of their spelling.
inline void append_with_spaces(std::string& to, std::string_view text) {
  for (;;) {
    const std::size_t at = text.find(spelled_space);
    if (at == text.npos) break;
    to.append(text.substr(0, at)) += ' ';
    text.remove_prefix(at + spelled_space.size());
  }
  to += text;
}

/// The form of text that a tokenizer encodes.
struct text_form {
  bool nfc = false;  // letters and marks are one code point where there is one
  bool spaces =
      false;  // a space and its spelling are the same: files have the latter, and text in this form the former
  bool space_before = false;  // texts between added tokens get a space before them
  enum class missing_space {
    none,
    of_text,
    of_all
  } missing = missing_space::none;  // the same, if they begin with none

  /// A non-empty text between added tokens in this form: the text itself, or the buffer, which is overwritten.
  [[nodiscard]] std::string_view of(std::string_view text, std::string& buffer) const {
    if (nfc) return normalize_nfc(text, buffer);
    if (!space_before && (!spaces || text.find(spelled_space) == text.npos)) return text;
    buffer = space_before ? " " : "";
    append_with_spaces(buffer, text);
    return buffer;
  }
  /// Whether a text in this form, which begins a text or comes behind an added token, lacks the space before it.
  [[nodiscard]] bool lacks_space(std::string_view text, bool begins) const {
    return (missing == missing_space::of_all || (missing == missing_space::of_text && begins)) &&
           !text.starts_with(' ');
  }
  /// Whether anything gets a space before it.
  [[nodiscard]] bool adds_space() const { return space_before || missing != missing_space::none; }
};

}  // namespace fathom::data::detail
