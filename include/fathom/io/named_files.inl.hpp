// Implementation of named_files.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "fathom/core/error.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/named_files.hpp"

namespace fathom::io {

FATHOM_INLINE bool named_files::has(std::string_view file) const {
  std::error_code error;
  if (!in_memory_) return std::filesystem::exists(path_ / file, error);
  return std::any_of(files_.begin(), files_.end(), [&](const file_in_memory& f) { return f.name == file; });
}

FATHOM_INLINE bool named_files::lists(std::string_view file) const {
  std::error_code error;
  return in_memory_ ? has(file) : std::filesystem::exists(std::filesystem::symlink_status(path_ / file, error));
}

FATHOM_INLINE std::string named_files::name_of(std::string_view file) const {
  return in_memory_ ? join(file, " of ", name_) : (path_ / file).string();
}

FATHOM_INLINE std::string named_files::text(std::string_view file) const {
  if (!in_memory_) return std::string(whole_file(path_ / file).text());
  const auto found = bytes(file);
  return {reinterpret_cast<const char*>(found.data()), found.size()};
}

FATHOM_INLINE std::span<const std::byte> named_files::bytes(std::string_view file) const {
  for (const file_in_memory& f : files_)
    if (f.name == file) return f.bytes;
  fail(name_, ": has no file ", file);
}

}  // namespace fathom::io
