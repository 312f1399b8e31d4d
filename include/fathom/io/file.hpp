// Files: reading detects files that shrink meanwhile; writing is atomic, so a name never refers to a partial file.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "fathom/core/compiled.hpp"

namespace fathom::io {

namespace detail {
/// An open file descriptor.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() { static_cast<void>(close()); }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  /// Closes the file. Returns whether that succeeded.
  [[nodiscard]] bool close();

 private:
  int fd_ = -1;
};

struct destination;
}  // namespace detail

/// The format of a file, judged by its first bytes, for error messages: "a Git LFS pointer, ...", "an HTML page". Empty
/// when unknown. With `surely`, only formats that raw numbers do not match by chance, for files that may hold any
/// numbers.
[[nodiscard]] std::string what_begins_with(std::span<const std::byte> beginning, bool surely = false);

class mapped_file;

/// Random access to the bytes of a file, or to bytes in memory. When the file is truncated, reading the lost bytes
/// fails. When it is replaced, as by atomic_file, this still reads the old file.
class input_file {
 public:
  /// Fails when the file cannot be opened, or is not a regular file but a folder, a pipe or a device.
  explicit input_file(const std::filesystem::path& path);
  /// Bytes in memory, which must outlive this. Errors call them `name`.
  input_file(std::span<const std::byte> bytes, std::string name)
      : name_(std::move(name)), memory_(bytes.data()), size_(bytes.size()) {}

  [[nodiscard]] const std::string& name() const { return name_; }
  /// The size in bytes when it was opened.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Reads to.size() bytes, starting at byte `at`. Fails when the file does not have them (any more).
  void read(std::uint64_t at, std::span<std::byte> to) const;

 private:
  friend class mapped_file;

  std::string name_;
  detail::descriptor file_;            // not open: the bytes are in memory
  const std::byte* memory_ = nullptr;
  std::uint64_t size_ = 0;
};

/// A file, read into memory as a whole. Later changes to the file do not affect the bytes.
class whole_file {
 public:
  whole_file() = default;
  /// Fails when the file cannot be read, or shrinks while it is read.
  explicit whole_file(const std::filesystem::path& path);
  [[nodiscard]] std::span<const std::byte> bytes() const { return {bytes_.get(), size_}; }
  [[nodiscard]] std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.get()), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_ = 0;
};

/// The bytes of a file without a copy of them: the system reads what is looked at, and may forget it again. Or bytes in
/// memory. When the file is replaced, as by atomic_file, these stay the old file's bytes. A file must not be truncated
/// while it is mapped: the system ends a program that looks at lost bytes (SIGBUS).
class mapped_file {
 public:
  /// Fails when the file cannot be opened or mapped, or is not a regular file.
  explicit mapped_file(const std::filesystem::path& path);
  /// Bytes in memory, which must outlive this. Errors call them `name`.
  mapped_file(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)), bytes_(bytes) {}
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::string name_;
  std::span<const std::byte> bytes_;
  bool is_mapped_ = false;
};

/// A file that appears under its name all at once, when commit() is called. Until then the data goes to NAME.partial-N
/// beside it, which is removed if commit() is never reached. commit() replaces an existing file: it follows symbolic
/// links and keeps the file's mode and owner.
///
/// Some files are written to instead of replaced. A file with several hard links, with an owner that cannot be kept, or
/// that the system refuses to replace is overwritten in place by commit(), while a complete copy lies beside
/// it as NAME.whole-N; the copy is removed at the end. Character devices, and pipes that have a reader, receive each
/// write() at once.
///
/// A killed process leaves its NAME.partial-N behind, which the next writer of the file removes. If it was already
/// overwriting in place, it leaves NAME.whole-N, which the next complete write removes. A file lock shows whether such
/// files are abandoned. Network file systems may hold locks on one machine only, so there the names contain the
/// machine, and only this machine's files are removed.
class atomic_file {
 public:
  /// Fails when the path cannot be written: no such folder, no permission, or it is a folder, a disk or a socket.
  explicit atomic_file(std::filesystem::path path);
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  /// Flushes everything to disk, then puts the file under its name.
  void commit();

 private:
  void replace();
  void write_through();
  [[noreturn]] void cannot_write() const;

  std::filesystem::path path_;   // as given
  detail::descriptor folder_;    // of the file, after following links; not open when the path is written to directly
  std::string name_;             // in the folder
  std::string temporary_;        // name of the partial file; empty when there is none
  std::string whole_;            // start of the name of the complete copy
  detail::descriptor file_;
  bool keeps_file_ = false;      // overwrite the existing file in place
};

/// Fails if an atomic_file of this path would, or if the disk has no room for so many bytes. Changes nothing.
void check_writable(const std::filesystem::path& path, std::uint64_t bytes = 1);

/// A file for logs: appends each write at once.
class appended_file {
 public:
  appended_file() = default;
  /// Replaces the file's contents by `beginning`, atomically; writes it to a device or a pipe. Fails when it cannot.
  appended_file(std::filesystem::path path, std::string_view beginning);
  [[nodiscard]] bool is_open() const { return file_.is_open(); }
  void write(std::string_view text);

 private:
  std::filesystem::path path_;
  detail::descriptor file_;
};

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/file.inl.hpp"
#endif
