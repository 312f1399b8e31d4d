// Definitions for files.hpp.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data::detail {

FATHOM_INLINE std::string ending_of(const std::filesystem::path& file) {
  std::string ending = file.extension().string();
  for (char& letter : ending)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return ending;
}

FATHOM_INLINE std::string but_is(std::span<const std::byte> bytes, bool surely) {
  const std::string what = io::what_begins_with(bytes.first(std::min<std::size_t>(bytes.size(), 512)), surely);
  return what.empty() ? what : join("; it is ", what);
}

/// Walks a folder as described at file_options.
class folder_walk {
 public:
  [[gnu::cold]] folder_walk(const std::filesystem::path& folder, std::span<const std::string_view> endings,
              const file_options& options)
      : endings_(endings), options_(options) {
    std::error_code error;  // an error of the folder itself is never skipped
    std::filesystem::directory_iterator(folder, error);
    if (error) fail(folder.string(), ": cannot be listed: ", error.message());
    // Follows links after everything else, so that files keep their own names.
    look_at(folder, false);
    while (!folders_.empty() || !links_.empty()) {
      if (!folders_.empty()) {
        const auto next = std::move(folders_.back());
        folders_.pop_back();
        list(next.first, next.second);
      } else {
        for (const auto& link : std::exchange(links_, {})) look_at(link, true);
      }
    }
  }

  [[nodiscard, gnu::cold]] folder_files result() && {
    std::map<identity, std::filesystem::path> names;
    std::set<std::filesystem::path> files;
    for (const bool linked : {false, true})
      for (const auto& [path, id] : linked ? linked_ : found_) {
        if (const auto [first, is_new] = names.emplace(id, path); is_new)
          files.insert(path);
        else
          leave_out(path, join("is the same file as ", first->second.string()));
      }
    folder_files all;
    all.files.assign(files.begin(), files.end());
    for (auto& [path, reason] : skipped_) all.skipped.push_back({path, std::move(reason)});
    return all;
  }

 private:
  using identity = std::pair<dev_t, ino_t>;

  [[gnu::cold]] void list(const std::filesystem::path& folder, bool linked) {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      std::error_code ignored;  // entries of unknown type are examined
      if (entry->path().filename().native().starts_with('.'))
        leave_out(entry->path(), "is hidden");
      else if (entry->is_symlink(ignored))
        links_.insert(entry->path());
      else
        look_at(entry->path(), linked);
    }
    if (error) damaged(folder, join("cannot be listed: ", error.message()));
  }

  [[gnu::cold]] void look_at(const std::filesystem::path& path, bool linked) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) {
      const int reason = errno;
      // A broken link may have pointed to a folder, unless its extension is that of another kind of file.
      if (!path.has_extension() || wanted(path))
        damaged(path, join("cannot be found: ", std::strerror(reason)));
      else
        leave_out(path, other_kind());
    } else if (S_ISDIR(status.st_mode)) {
      if (visited_.insert({status.st_dev, status.st_ino}).second)
        folders_.emplace_back(path, linked);
      else
        leave_out(path, "is a link to a folder that is read already");
    } else if (!wanted(path)) {
      leave_out(path, other_kind());
    } else if (!S_ISREG(status.st_mode)) {
      damaged(path, "is not a file, but a pipe, a socket or a device");
    } else if (status.st_size == 0) {
      leave_out(path, "is empty");
    } else {
      (linked ? linked_ : found_).emplace(path, identity{status.st_dev, status.st_ino});
    }
  }

  [[nodiscard]] bool wanted(const std::filesystem::path& path) const {
    return endings_.empty() || std::find(endings_.begin(), endings_.end(), ending_of(path)) != endings_.end();
  }
  [[nodiscard]] static std::string other_kind() { return "is of another kind, by its name"; }
  void leave_out(const std::filesystem::path& path, std::string reason) {
    skipped_.emplace(path, std::move(reason));
  }
  void damaged(const std::filesystem::path& path, const std::string& reason) {
    if (!options_.skip_damaged) fail(path.string(), ": ", reason);
    leave_out(path, reason);
  }

  std::span<const std::string_view> endings_;
  file_options options_;
  std::vector<std::pair<std::filesystem::path, bool>> folders_;  // to list, and whether a link led there
  std::set<std::filesystem::path> links_;                        // to follow
  std::set<identity> visited_;                                   // folders
  std::map<std::filesystem::path, identity> found_, linked_;
  std::multimap<std::filesystem::path, std::string> skipped_;    // and why
};

FATHOM_INLINE folder_files files_below(const std::filesystem::path& folder, std::span<const std::string_view> endings,
                                       const file_options& options) {
  folder_files found = folder_walk(folder, endings, options).result();
  if (!found.files.empty()) return found;
  std::string expected = endings.empty() ? "that are neither hidden nor empty" : "whose names end in ";
  for (const std::string_view ending : endings) expected += join(ending == endings.front() ? "" : ", ", ending);
  const auto& left_out = found.skipped;
  fail(folder.string(), ": has no files ", expected,
       left_out.empty() ? "" : join("; ", left_out.front().path.string(), " ", left_out.front().reason));
}

FATHOM_INLINE documents read_documents(folder_files files, const file_options& options, const char* nothing,
                                       const std::function<std::vector<token>(const std::filesystem::path&)>& read) {
  documents result;
  result.skipped = std::move(files.skipped);
  for (auto& path : files.files) {
    std::vector<token> tokens;
#if defined(__cpp_exceptions)
    try {
      tokens = read(path);
    } catch (const error& damage) {
      if (!options.skip_damaged) throw;
      std::string_view reason = damage.what();
      const std::string name = path.string() + ": ";
      if (reason.starts_with(name)) reason.remove_prefix(name.size());
      result.leave_out(std::move(path), std::string(reason));
      continue;
    }
#else
    static_cast<void>(options);
    tokens = read(path);
#endif
    if (tokens.empty()) {
      result.leave_out(std::move(path), nothing);
      continue;
    }
    result.tokens.push_back(std::move(tokens));
    result.paths.push_back(std::move(path));
  }
  return result;
}

FATHOM_INLINE corpus corpus_of(documents found, index vocab, const split& parts) {
  check_split(parts);
  const auto needed = std::size_t{1} + (parts.validation > 0) + (parts.test > 0);
  if (found.tokens.size() < needed && !found.skipped.empty())
    fail("only ", found.tokens.size(), " documents are left; expected at least ", needed, ", one for each part; ",
         found.skipped.size(), " were left out, such as ", found.skipped.front().path.string(), ": ",
         found.skipped.front().reason);
  corpus result =
      split_documents(std::vector<std::span<const token>>(found.tokens.begin(), found.tokens.end()), vocab, parts);
  result.set_skipped(std::move(found.skipped));
  return result;
}

}  // namespace fathom::data::detail
