// What a tokenizer makes of text before it looks for pieces in it.
#pragma once

#include <string>
#include <string_view>

#include "fathom/data/nfc.hpp"

namespace fathom::data::detail {

/// The form of text that a tokenizer encodes.
struct text_form {
  bool nfc = false;  // letters and marks are one code point where there is one

  /// A text in this form: the text itself, or the buffer, which is overwritten.
  [[nodiscard]] std::string_view of(std::string_view text, std::string& buffer) const {
    return nfc ? normalize_nfc(text, buffer) : text;
  }
};

}  // namespace fathom::data::detail
