// Text files as tokens: a byte or a letter each.
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// The 27 symbols of text8 (Mahoney, "About the test data", mattmahoney.net/dc/textdata.html): 0 is the space, 1 to 26
/// are a to z.
struct characters {
  static constexpr index vocab = 27;

  /// Plain text as text8 has it: capitals become small letters, a digit becomes its English word with a space on each
  /// side, and then every run of bytes that are not letters, those of UTF-8 beyond ASCII among them, becomes one space.
  /// Text that is so already stays as it is.
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
[[nodiscard]] inline std::vector<token> encode_bytes(std::string_view text) {
  std::vector<token> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(), [](char byte) { return static_cast<unsigned char>(byte); });
  return tokens;
}

/// The tokens of a file. Fails when it cannot be read, and when it is empty.
template <class Encode>
[[nodiscard]] std::vector<token> read_text(const std::filesystem::path& path, const Encode& encode) {
  const io::whole_file file(path);
  if (file.bytes().empty()) fail(path.string(), ": is empty; expected text");
  return encode(file.text());
}

/// The files below a folder that are neither hidden nor empty, in the order of their names.
[[nodiscard]] inline std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename().native().starts_with('.')) {
      entry.disable_recursion_pending();
      continue;
    }
    std::error_code ignored;  // what cannot be read fails when it is read
    if (entry->is_regular_file(ignored) && entry->file_size(ignored) > 0) files.push_back(*entry);
  }
  if (error) fail(folder.string(), ": cannot be listed: ", error.message());
  if (files.empty()) fail(folder.string(), ": has no files that are neither hidden nor empty");
  std::sort(files.begin(), files.end());
  return files;
}

/// A corpus of files, each of which is a document.
template <class Encode>
[[nodiscard]] corpus read_texts(const std::vector<std::filesystem::path>& paths, index vocab, const split& parts,
                                const Encode& encode) {
  std::vector<std::vector<token>> documents;
  for (const auto& path : paths) documents.push_back(read_text(path, encode));
  return split_documents(std::vector<std::span<const token>>(documents.begin(), documents.end()), vocab, parts);
}

/// A corpus of one file, or of all the files below a folder.
template <class Encode>
[[nodiscard]] corpus read_texts(const std::filesystem::path& path, index vocab, const split& parts,
                                const Encode& encode) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return read_texts(files_below(path), vocab, parts, encode);
  return corpus(read_text(path, encode), vocab, parts, path.string());
}
}  // namespace detail

/// The bytes of a text file, each a token. The end of the file is held back. Of a folder, every file below it that is
/// neither hidden nor empty is a document, and whole documents are held back (split_documents in corpus.hpp).
[[nodiscard]] inline corpus bytes(const std::filesystem::path& path, const split& parts = {}) {
  return detail::read_texts(path, 256, parts, detail::encode_bytes);
}
/// The bytes of several text files. Each is a document, and whole documents are held back.
[[nodiscard]] inline corpus bytes(const std::vector<std::filesystem::path>& paths, const split& parts = {}) {
  return detail::read_texts(paths, 256, parts, detail::encode_bytes);
}

/// The file text8, or any other plain text or folder of texts, in the symbols of `characters`; else as bytes().
[[nodiscard]] inline corpus text8(const std::filesystem::path& path, const split& parts = {}) {
  return detail::read_texts(path, characters::vocab, parts, characters::encode);
}

}  // namespace fathom::data
