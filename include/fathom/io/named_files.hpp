// Files by their names: those of a folder, or some in memory, as in a program that contains a model.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"

namespace fathom::io {

/// A file in memory.
struct file_in_memory {
  std::string_view name;
  std::span<const std::byte> bytes;
};

/// The files of a folder, or files in memory, which must outlive this.
class named_files {
 public:
  explicit named_files(const std::filesystem::path& path) : path_(path), name_(path.string()) {}
  named_files(std::vector<file_in_memory> files, std::string name) : name_(std::move(name)), files_(std::move(files)), in_memory_(true) {}

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool is_in_memory() const { return in_memory_; }
  /// Whether there is a file of this name. On disk, a link to nothing is no file.
  [[nodiscard]] bool has(std::string_view file) const;
  /// The same, but a link to nothing counts: caches of downloads leave them behind when the file is deleted.
  [[nodiscard]] bool lists(std::string_view file) const;
  /// What errors call a file.
  [[nodiscard]] std::string name_of(std::string_view file) const;
  /// The contents of a file. Fails when it cannot be read.
  [[nodiscard]] std::string text(std::string_view file) const;
  /// The path of a file on disk.
  [[nodiscard]] std::filesystem::path path_of(std::string_view file) const { return path_ / file; }
  /// The bytes of a file in memory. Fails when there is none.
  [[nodiscard]] std::span<const std::byte> bytes(std::string_view file) const;

 private:
  std::filesystem::path path_;
  std::string name_;
  std::vector<file_in_memory> files_;
  bool in_memory_ = false;
};

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/named_files.inl.hpp"
#endif
