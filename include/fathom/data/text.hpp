// Text files as tokens: bytes or letters.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// The 27 symbols of text8 (Mahoney, "About the test data", mattmahoney.net/dc/textdata.html): 0 is the space, 1 to 26
/// are a to z.
struct characters {
  static constexpr index vocab = 27;

  /// Text normalised as in text8: capitals become small letters, a digit becomes its English word with a space on each
  /// side, and then each run of other bytes, including non-ASCII UTF-8, becomes one space. Normalised text does not
  /// change.
  [[nodiscard]] static std::vector<token> encode(std::string_view text) {
    constexpr std::array<std::string_view, 10> words{"zero", "one", "two",   "three", "four",
                                                     "five", "six", "seven", "eight", "nine"};
    std::vector<token> tokens;
    tokens.reserve(text.size());
    const auto space = [&] {
      if (tokens.empty() || tokens.back() != 0) tokens.push_back(0);
    };
    for (const char byte : text) {
      if (byte >= 'a' && byte <= 'z') {
        tokens.push_back(byte - 'a' + 1);
      } else if (byte >= 'A' && byte <= 'Z') {
        tokens.push_back(byte - 'A' + 1);
      } else {
        space();
        if (byte < '0' || byte > '9') continue;
        for (const char letter : words[static_cast<std::size_t>(byte - '0')]) tokens.push_back(letter - 'a' + 1);
        space();
      }
    }
    return tokens;
  }
  /// Fails when a token is not one of the 27.
  [[nodiscard]] static std::string decode(std::span<const token> tokens) {
    check_tokens(tokens, 0, vocab, "characters::decode");
    std::string text;
    text.reserve(tokens.size());
    for (const token symbol : tokens) text += symbol == 0 ? ' ' : static_cast<char>('a' + symbol - 1);
    return text;
  }
};

namespace detail {
/// The text of a file: its bytes without a UTF-8 byte order mark. All readers of text use this. Fails on UTF-16 and
/// UTF-32, whose bytes a model should not learn, and on Git LFS pointers. Text is recognised as UTF-16 or UTF-32 by a
/// byte order mark and wide_text::is_likely, or without a mark by wide_text::is_certain; binary data is neither.
[[nodiscard]] std::string_view plain_text(std::string_view bytes, const std::string& name);

[[nodiscard]] inline std::vector<token> encode_bytes(std::string_view text) {
  std::vector<token> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(), [](char byte) { return static_cast<unsigned char>(byte); });
  return tokens;
}

/// Text to tokens; also given the name of the file, for errors of its own.
using text_encoder = std::function<std::vector<token>(std::string_view text, const std::string& name)>;
template <class Encode>
[[nodiscard]] text_encoder text_encoder_of(const Encode& encode) {
  return [&encode](std::string_view text, [[maybe_unused]] const std::string& name) -> std::vector<token> {
    if constexpr (std::is_invocable_v<const Encode&, std::string_view, const std::string&>)
      return encode(text, name);
    else
      return encode(text);
  };
}

/// A corpus of files, each of which is a document.
[[nodiscard]] corpus encode_texts(const std::vector<std::filesystem::path>& paths, index vocab, const split& parts,
                                  const text_encoder& encode, const file_options& files);
/// A corpus of one file, or of all the files below a folder.
[[nodiscard]] corpus encode_texts(const std::filesystem::path& path, index vocab, const split& parts,
                                  const text_encoder& encode, const file_options& files);

/// Either of them, with any function of a text, or of a text and the name of its file.
template <class Paths, class Encode>
[[nodiscard]] corpus read_texts(const Paths& paths, index vocab, const split& parts, const Encode& encode,
                                const file_options& files = {}) {
  return encode_texts(paths, vocab, parts, text_encoder_of(encode), files);
}
}  // namespace detail

/// The bytes of a text file as tokens; the end of the file is held out. In a folder, every file below it is a document
/// (file_options in files.hpp lists the exceptions), and whole documents are held out (split_documents in corpus.hpp).
///
/// Any bytes are accepted, text in any encoding and binary data, with three exceptions: a UTF-8 byte order mark is
/// skipped; UTF-16 and UTF-32 are errors (see detail::plain_text; binary data mistaken for them can be passed as
/// corpus(tokens, 256)); and so is a Git LFS pointer.
[[nodiscard]] inline corpus bytes(const std::filesystem::path& path, const split& parts = {},
                                  const file_options& files = {}) {
  return detail::read_texts(path, 256, parts, detail::encode_bytes, files);
}
/// The bytes of several text files. Each is a document, and whole documents are held out.
[[nodiscard]] inline corpus bytes(const std::vector<std::filesystem::path>& paths, const split& parts = {},
                                  const file_options& files = {}) {
  return detail::read_texts(paths, 256, parts, detail::encode_bytes, files);
}

/// The file text8, or any other text file or folder of texts, in the symbols of `characters`; otherwise like bytes().
[[nodiscard]] inline corpus text8(const std::filesystem::path& path, const split& parts = {},
                                  const file_options& files = {}) {
  return detail::read_texts(path, characters::vocab, parts, characters::encode, files);
}

}  // namespace fathom::data

#if !defined(FATHOM_KERNELS)
#include "fathom/data/text.inl.hpp"
#endif
