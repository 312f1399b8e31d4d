// The text of tokens that come one by one, in whole characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fathom/core/types.hpp"
#include "fathom/data/added_tokens.hpp"
#include "fathom/data/bpe.hpp"
#include "fathom/data/utf8.hpp"

namespace fathom::data {

/// Decodes tokens one by one, as a generator writes them. A token may begin or end within a character: the stream keeps
/// what is not whole yet. What it gives is well-formed UTF-8: bytes that belong to no character become U+FFFD, one for
/// each sequence that is cut short, and one for each other byte.
///
///   text_stream stream(tokenizer, text_stream::behind_a_prompt);
///   writer.write(tokenizer.encode(prompt), 200, [&](token t) { std::cout << stream.push(t) << std::flush; });
///   std::cout << stream.finish();
class text_stream {
 public:
  /// Where the first token stands. At the beginning of a text, a space that the tokenizer puts there is removed.
  enum position { at_the_beginning, behind_a_prompt };

  /// The tokenizer must outlive the stream.
  explicit text_stream(const bpe& tokenizer, position first = at_the_beginning, specials shown = specials::left_out)
      : tokenizer_(&tokenizer), shown_(shown), removes_space_(first == at_the_beginning && tokenizer.removes_space()) {}
  explicit text_stream(const bpe&&, position = {}, specials = {}) = delete;  // would dangle

  /// The characters that a token completes; none, if it ends within its first one. The text is valid until the next
  /// call. Fails when the token is not in the vocabulary.
  [[nodiscard]] std::string_view push(token t) {
    std::string_view bytes = tokenizer_->bytes(t);
    if (shown_ == specials::left_out && tokenizer_->is_special(t)) bytes = {};
    if (removes_space_ && !bytes.empty()) {
      removes_space_ = false;
      if (bytes.front() == ' ') bytes.remove_prefix(1);
    }
    rest_ += bytes;
    return take(false);
  }
  /// Ends the text: what is left of it, U+FFFD for a character that has no end. The stream can then begin another text.
  [[nodiscard]] std::string_view finish() {
    removes_space_ = tokenizer_->removes_space();
    return take(true);
  }

 private:
  /// Takes the characters from the rest.
  [[nodiscard]] std::string_view take(bool all) {
    text_.clear();
    const char *at = rest_.data(), *const end = at + rest_.size();
    while (at != end) {
      const detail::code_point next = detail::first_code_point(at, end);
      if (next.code != detail::malformed) {
        text_.append(at, next.bytes);
        at += next.bytes;
        continue;
      }
      const std::size_t begun = detail::begun_code_point(at, end);
      if (!all && begun == static_cast<std::size_t>(end - at)) break;  // may go on
      text_ += "\uFFFD";
      at += begun == 0 ? 1 : begun;
    }
    rest_.erase(0, static_cast<std::size_t>(at - rest_.data()));
    return text_;
  }

  const bpe* tokenizer_;
  specials shown_;
  bool removes_space_;
  std::string rest_, text_;
};

}  // namespace fathom::data
