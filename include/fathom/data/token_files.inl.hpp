// Implementation of token_files.hpp.
#pragma once

#include <glob.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/corpus.inl.hpp"
#include "fathom/data/files.inl.hpp"
#include "fathom/data/npy.hpp"
#include "fathom/data/token_bins.hpp"
#include "fathom/data/token_files.hpp"

namespace fathom::data {

namespace detail {
/// The files that a path of token_files stands for.
[[nodiscard, gnu::cold]] inline std::vector<std::filesystem::path> token_files_of(const std::filesystem::path& path) {
  static constexpr std::array<std::string_view, 2> endings{".bin", ".npy"};
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return files_below(path, endings).files;
  if (std::filesystem::exists(path, ignored) || path.native().find_first_of("*?[") == path.native().npos) return {path};
  glob_t found{};
  struct release {
    glob_t& found;
    ~release() { ::globfree(&found); }
  } const at_end{found};
  const int problem = ::glob(path.c_str(), GLOB_NOSORT, nullptr, &found);
  if (problem == GLOB_NOMATCH) fail(path.string(), ": there is no such file, and none matches it as a pattern");
  if (problem != 0) fail(path.string(), ": the files that match cannot be listed");
  std::vector<std::filesystem::path> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  std::sort(paths.begin(), paths.end(), [](const auto& a, const auto& b) { return a.native() < b.native(); });
  return paths;
}
}  // namespace detail

FATHOM_INLINE token_files::token_files(const std::filesystem::path& path, index vocab)
    : token_files(detail::token_files_of(path), vocab) {}
FATHOM_INLINE token_files::token_files(const std::vector<std::filesystem::path>& paths, index vocab) : vocab_(vocab) {
  detail::check_vocab(vocab);
  if (paths.empty()) fail("token_files: no files; expected at least one");
  for (const std::filesystem::path& path : paths) add(path);
}

FATHOM_INLINE void token_files::add(const std::filesystem::path& path) {
  const std::string ending = detail::ending_of(path);
  if (ending != ".bin" && ending != ".npy")
    fail(path.string(), ": cannot tell the format; expected a name that ends in .bin or .npy");
  auto mapped = std::make_unique<io::mapped_file>(path);
  const std::span<const std::byte> bytes = mapped->bytes();
  detail::stored_numbers numbers;
  if (ending == ".bin") {
    numbers = detail::numbers_of_bin(bytes, path.string());
  } else {
    const detail::npy_array array = detail::array_of_npy(bytes, path.string());
    if (array.is_column_major())
      fail(path.string(), ": is an array in column-major order (fortran_order); expected row-major order, in which tokens can be read in place");
    numbers = array.numbers;
  }
  if (numbers.size() > std::numeric_limits<index>::max() - size()) fail(path.string(), ": the files have more tokens than can be counted");
  // Windows are here and there. Reading ahead would fetch what nobody looks at.
  static_cast<void>(::madvise(const_cast<std::byte*>(bytes.data()), bytes.size(), MADV_RANDOM));
  const index end = size() + numbers.size();
  files_.push_back({std::move(mapped), numbers, end});
}

FATHOM_INLINE std::vector<std::filesystem::path> token_files::paths() const {
  std::vector<std::filesystem::path> all;
  for (const file& f : files_) all.emplace_back(f.mapped->name());
  return all;
}

FATHOM_INLINE void token_files::read(index first, std::span<token> to) const {
  if (first < 0 || first > size() || std::ssize(to) > size() - first)
    fail("token_files: tokens ", first, " to ", first, " + ", to.size(), "; expected some of ", size());
  auto at = std::upper_bound(files_.begin(), files_.end(), first, [](index position, const file& f) { return position < f.end; });
  for (; !to.empty(); ++at) {
    const index begin = at->end - at->numbers.size();
    const auto count = static_cast<std::size_t>(std::min(at->end - first, std::ssize(to)));
    at->numbers.read(first - begin, to.first(count), vocab_, at->mapped->name());
    to = to.subspan(count);
    first = at->end;
  }
}

}  // namespace fathom::data
