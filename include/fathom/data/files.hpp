// The files of a data set: what lies below a folder, by the ends of the names, and how all of it becomes documents. One
// file that cannot be read fails the whole folder, or is left out and listed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"

namespace fathom::data {

/// How the files of a folder, or of a list, are read.
///
/// Of a folder, all files below it are, in the order of their names; linked files and folders are followed, and what
/// can be reached in several ways (links, hard ones too) is read once. Left out are hidden files and folders, empty
/// files, and, where the reader says what names it reads, files with others; corpus::skipped() lists them. Anything
/// else that cannot be read is an error: damaged files, broken links, folders that may not be listed, pipes and
/// devices.
struct file_options {
  /// Such errors do not end the reading: what they are about is left out, and corpus::skipped() has it with the error.
  /// (Without exceptions, -fno-exceptions, a damaged file ends the program all the same.) A file that is named by
  /// itself, not in a folder or a list, is always read whole.
  bool skip_damaged = false;
};

namespace detail {

/// The end of a file's name in small letters: ".wav".
[[nodiscard]] std::string ending_of(const std::filesystem::path& file);

/// For an error, where something else was expected: "; it is " and what bytes are, if they tell (io/file.hpp).
[[nodiscard]] std::string but_is(std::span<const std::byte> bytes, bool surely = false);

struct folder_files {
  std::vector<std::filesystem::path> files;  // in the order of their names
  std::vector<skipped_file> skipped;
};

/// The files below a folder whose names end in one of these (".wav"; small letters stand for capitals, too), or all of
/// them if there are none. Fails when there is no such file.
[[nodiscard]] folder_files files_below(const std::filesystem::path& folder, std::span<const std::string_view> endings = {},
                                       const file_options& options = {});

/// Documents read from files, and what was left out.
struct documents {
  std::vector<std::vector<token>> tokens;
  std::vector<std::filesystem::path> paths;  // [documents]
  std::vector<skipped_file> skipped;

  void leave_out(std::filesystem::path path, std::string reason) {
    skipped.push_back({std::move(path), std::move(reason)});
  }
};

/// Calls read(path) for every file, and gathers the tokens; files without any are left out, because of `nothing`.
[[nodiscard]] documents read_documents(folder_files files, const file_options& options, const char* nothing,
                                       const std::function<std::vector<token>(const std::filesystem::path&)>& read);

/// The corpus of documents, of which whole ones are held back.
[[nodiscard]] corpus corpus_of(documents found, index vocab, const split& parts);

}  // namespace detail

}  // namespace fathom::data

#if !defined(FATHOM_KERNELS)
#include "fathom/data/files.inl.hpp"
#endif
