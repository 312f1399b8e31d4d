// Definitions for text.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/text.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data::detail {

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

FATHOM_INLINE std::string_view plain_text(std::string_view bytes, const std::string& name) {
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

/// The tokens of a file of text. Fails when it cannot be read.
FATHOM_INLINE std::vector<token> read_text(const std::filesystem::path& path, const text_encoder& encode) {
  const io::whole_file file(path);
  const std::string name = path.string();
  return encode(plain_text(file.text(), name), name);
}
FATHOM_INLINE std::vector<token> read_text_not_empty(const std::filesystem::path& path, const text_encoder& encode) {
  auto tokens = read_text(path, encode);
  if (tokens.empty()) fail(path.string(), ": is empty; expected text");
  return tokens;
}

FATHOM_INLINE corpus encode_texts(const std::vector<std::filesystem::path>& paths, index vocab, const split& parts,
                                  const text_encoder& encode, const file_options& files) {
  const auto read = [&](const std::filesystem::path& path) { return read_text_not_empty(path, encode); };
  return corpus_of(read_documents({paths, {}}, files, "is empty", read), vocab, parts);
}
FATHOM_INLINE corpus encode_texts(const std::filesystem::path& path, index vocab, const split& parts,
                                  const text_encoder& encode, const file_options& files) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error))
    return corpus(read_text_not_empty(path, encode), vocab, parts, path.string());
  const auto read = [&](const std::filesystem::path& file) { return read_text(file, encode); };
  return corpus_of(read_documents(files_below(path, {}, files), files, "is empty", read), vocab, parts);
}

}  // namespace fathom::data::detail
