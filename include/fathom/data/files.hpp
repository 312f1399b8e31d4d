// The files of a data set: finds those below a folder by their extensions and makes documents of them. A file that
// cannot be read fails the whole folder, or is skipped and listed.
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
/// In a folder, all files below it are read, in the order of their names. Linked files and folders are followed; a file
/// reachable in several ways (also by hard links) is read once. Skipped are hidden files and folders, empty files, and
/// files without the extensions of the reader, if it has any; corpus::skipped() lists them. Anything else that cannot
/// be read is an error: damaged files, broken links, folders that may not be listed, pipes and devices.
struct file_options {
  /// Skips files with such errors; corpus::skipped() lists them with the error. (Without exceptions, -fno-exceptions, a
  /// damaged file still ends the program.) Does not apply to a file given by its own path, rather than in a folder or a
  /// list.
  bool skip_damaged = false;
};

namespace detail {

/// The extension of a file in lower case: ".wav".
[[nodiscard]] std::string ending_of(const std::filesystem::path& file);

/// For errors about unexpected contents: "; it is " and what the bytes are, if they can be identified (io/file.hpp).
[[nodiscard]] std::string but_is(std::span<const std::byte> bytes, bool surely = false);

struct folder_files {
  std::vector<std::filesystem::path> files;  // in the order of their names
  std::vector<skipped_file> skipped;
};

/// The files below a folder with one of these extensions (".wav"; case is ignored), or all files if there are no
/// extensions. Fails when there is no such file.
[[nodiscard]] folder_files files_below(const std::filesystem::path& folder, std::span<const std::string_view> endings = {},
                                       const file_options& options = {});

/// Documents read from files, and the skipped files.
struct documents {
  std::vector<std::vector<token>> tokens;
  std::vector<std::filesystem::path> paths;  // [documents]
  std::vector<skipped_file> skipped;

  void leave_out(std::filesystem::path path, std::string reason) {
    skipped.push_back({std::move(path), std::move(reason)});
  }
};

/// Calls read(path) for every file and collects the tokens. Skips files without tokens, with the reason `nothing`.
[[nodiscard]] documents read_documents(folder_files files, const file_options& options, const char* nothing,
                                       const std::function<std::vector<token>(const std::filesystem::path&)>& read);

/// The corpus of documents; whole documents are held out.
[[nodiscard]] corpus corpus_of(documents found, index vocab, const split& parts);

}  // namespace detail

}  // namespace fathom::data

#if !defined(FATHOM_KERNELS)
#include "fathom/data/files.inl.hpp"
#endif
