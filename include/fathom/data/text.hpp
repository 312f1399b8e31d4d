// Text files as tokens: bytes or letters.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/io/file.hpp"
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
/// Whether the first 64 KiB of a file are text in units of 16 or 32 bits.
class wide_text {
 public:
  wide_text(std::string_view bytes, std::size_t unit_bytes, bool big_endian) {
    const auto unit = [&](std::size_t i) {
      std::uint32_t value = 0;
      for (std::size_t n = 0; n < unit_bytes; ++n) {
        const std::size_t at = i * unit_bytes + (big_endian ? n : unit_bytes - 1 - n);
        value = value << 8 | static_cast<unsigned char>(bytes[at]);
      }
      return value;
    };
    const auto is_low_surrogate = [](std::uint32_t u) { return u >= 0xdc00 && u < 0xe000; };
    units_ = std::min(bytes.size(), std::size_t{1} << 16) / unit_bytes;
    for (std::size_t i = 0; i < units_ && is_characters_; ++i) {
      const std::uint32_t u = unit(i);
      if (unit_bytes == 2 && u >= 0xd800 && u < 0xdc00 && (i + 1 == units_ || is_low_surrogate(unit(i + 1)))) {
        ++i;  // a pair; the last one may be cut short
        continue;
      }
      is_characters_ =
          u < 0xd800 || (u >= 0xe000 && u < 0x110000 && (u & 0xfffe) != 0xfffe && (u < 0xfdd0 || u > 0xfdef));
      ascii_ += u < 0x80;
      controls_ += (u < 0x20 && (u < '\t' || u > '\r')) || u == 0x7f;  // except white space
    }
  }
  /// Whether it may be text, given other evidence: all units are characters (surrogates in pairs), and at most an
  /// eighth are NUL and other control characters.
  [[nodiscard]] bool is_likely() const { return is_characters_ && 8 * controls_ <= units_; }
  /// Whether it is text, without other evidence: there are at least 8 units, all are characters that occur in text, and
  /// at least an eighth are ASCII, where all bytes but one are 0. Binary data rarely looks like that.
  [[nodiscard]] bool is_certain() const {
    return is_characters_ && controls_ == 0 && units_ >= 8 && 8 * ascii_ >= units_;
  }

 private:
  std::size_t units_ = 0, ascii_ = 0, controls_ = 0;
  bool is_characters_ = true;
};

/// The text of a file: its bytes without a UTF-8 byte order mark. All readers of text use this. Fails on UTF-16 and
/// UTF-32, whose bytes a model should not learn, and on Git LFS pointers. Text is recognised as UTF-16 or UTF-32 by a
/// byte order mark and wide_text::is_likely, or without a mark by wide_text::is_certain; binary data is neither.
[[nodiscard]] inline std::string_view plain_text(std::string_view bytes, const std::string& name) {
  using namespace std::string_view_literals;
  if (bytes.starts_with("version https://git-lfs.github.com/spec/"))
    fail(name, ": is not text", but_is(std::as_bytes(std::span(bytes))));
  if (bytes.starts_with("\xef\xbb\xbf"sv)) return bytes.substr(3);
  struct encoding {
    const char* name;
    std::string_view mark;
    std::size_t unit_bytes;
    bool big_endian;
  };
  constexpr encoding encodings[] = {{"UTF-32LE", "\xff\xfe\0\0"sv, 4, false},
                                    {"UTF-32BE", "\0\0\xfe\xff"sv, 4, true},
                                    {"UTF-16LE", "\xff\xfe"sv, 2, false},
                                    {"UTF-16BE", "\xfe\xff"sv, 2, true}};
  for (const encoding& e : encodings) {
    const bool marked = bytes.starts_with(e.mark);
    const wide_text found(marked ? bytes.substr(e.mark.size()) : bytes, e.unit_bytes, e.big_endian);
    if (marked ? found.is_likely() : found.is_certain())
      fail(name, ": is text in ", e.name, "; expected UTF-8, which \"iconv -f ", e.name, " -t UTF-8\" makes of it");
  }
  return bytes;
}

[[nodiscard]] inline std::vector<token> encode_bytes(std::string_view text) {
  std::vector<token> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(), [](char byte) { return static_cast<unsigned char>(byte); });
  return tokens;
}

/// The tokens of a text file. Fails when it cannot be read. Encoders that report errors also get the name of the file.
template <class Encode>
[[nodiscard]] std::vector<token> read_text(const std::filesystem::path& path, const Encode& encode) {
  const io::whole_file file(path);
  const std::string name = path.string();
  if constexpr (std::is_invocable_v<const Encode&, std::string_view, const std::string&>)
    return encode(plain_text(file.text(), name), name);
  else
    return encode(plain_text(file.text(), name));
}
template <class Encode>
[[nodiscard]] std::vector<token> read_text_not_empty(const std::filesystem::path& path, const Encode& encode) {
  auto tokens = read_text(path, encode);
  if (tokens.empty()) fail(path.string(), ": is empty; expected text");
  return tokens;
}

/// A corpus of files; each is a document.
template <class Encode>
[[nodiscard]] corpus read_texts(const std::vector<std::filesystem::path>& paths, index vocab, const split& parts,
                                const Encode& encode, const file_options& files = {}) {
  const auto read = [&](const std::filesystem::path& path) { return read_text_not_empty(path, encode); };
  return corpus_of(read_documents({paths, {}}, files, "is empty", read), vocab, parts);
}

/// A corpus of one file, or of all files below a folder.
template <class Encode>
[[nodiscard]] corpus read_texts(const std::filesystem::path& path, index vocab, const split& parts,
                                const Encode& encode, const file_options& files = {}) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error))
    return corpus(read_text_not_empty(path, encode), vocab, parts, path.string());
  const auto read = [&](const std::filesystem::path& file) { return read_text(file, encode); };
  return corpus_of(read_documents(files_below(path, {}, files), files, "is empty", read), vocab, parts);
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
