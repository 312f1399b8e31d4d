// Files: read without trust that they stay as they are, written so that a name never stands for half a file.
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
  /// Closes, and says whether that worked.
  [[nodiscard]] bool close();

 private:
  int fd_ = -1;
};

struct destination;
}  // namespace detail

/// What a file is, by the bytes that it begins with: "a Git LFS pointer, ...", "an HTML page". Empty when they tell nothing.
/// For errors, where something else was expected. `surely`: only what no numbers begin with by chance, for files that could be
/// any numbers.
[[nodiscard]] std::string what_begins_with(std::span<const std::byte> beginning, bool surely = false);

/// Bytes to read from at any place: of a file, or in memory. A file that becomes shorter is an error when what is gone is
/// read; one that is replaced by another of its name, as atomic_file does it, stays what it was.
class input_file {
 public:
  /// Fails when the file cannot be opened, and when it is none, but a folder, a pipe or a device.
  explicit input_file(const std::filesystem::path& path);
  /// Bytes in memory, which must outlive this. Errors call them `name`.
  input_file(std::span<const std::byte> bytes, std::string name)
      : name_(std::move(name)), memory_(bytes.data()), size_(bytes.size()) {}

  [[nodiscard]] const std::string& name() const { return name_; }
  /// When it was opened.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Reads to.size() bytes from byte `at` on. Fails when they are not there, or no longer.
  void read(std::uint64_t at, std::span<std::byte> to) const;

 private:
  std::string name_;
  detail::descriptor file_;            // or
  const std::byte* memory_ = nullptr;  // where the bytes are in memory
  std::uint64_t size_ = 0;
};

/// A file, read into memory as a whole: whatever happens to it then, the bytes stay.
class whole_file {
 public:
  whole_file() = default;
  /// Fails when it cannot be read, or becomes shorter meanwhile.
  explicit whole_file(const std::filesystem::path& path);
  [[nodiscard]] std::span<const std::byte> bytes() const { return {bytes_.get(), size_}; }
  [[nodiscard]] std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.get()), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_ = 0;
};

/// A file that appears under its name all at once, when commit() is called: until then it is written beside it, as
/// NAME.partial-N, which goes away again if commit() is never reached. What stood there before stays until then, and what it
/// was is kept: the name's links are followed, its mode and owner stay.
///
/// Where replacing it would be a loss, it is written to instead. A file of several names (hard links), of an owner that
/// cannot be kept, or that the system does not let go: in place, by commit(), once all of it lies beside it as
/// NAME.whole-N, which goes away when that is done. Character devices and pipes that somebody reads: as write() comes.
///
/// A process that is killed leaves its NAME.partial-N behind, and the next one to write the file removes it; or, where that was
/// written to already, its NAME.whole-N, which goes away when the file is next written to its end. A lock tells that they are
/// nobody's; on file systems of networks, where a lock may hold on one machine only, just those of its own
/// machine are asked, whose names say so.
class atomic_file {
 public:
  /// Fails when no file can be written there: no such folder, no permission, a folder, a disk, a socket.
  explicit atomic_file(std::filesystem::path path);
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  /// Brings everything to the disk, and then the file under its name.
  void commit();

 private:
  void replace();
  void write_through();
  [[noreturn]] void cannot_write() const;

  std::filesystem::path path_;   // as given
  detail::descriptor folder_;    // that the file lies in, when all links are followed; none when it is written to directly
  std::string name_;             // there
  std::string temporary_;        // beside it; empty when there is none, or no longer
  std::string whole_;            // how the name beside it begins that it gets when it is complete
  detail::descriptor file_;
  bool keeps_file_ = false;      // write through what is there
};

/// Fails as an atomic_file of this path would, also where there is no room for so many bytes, and changes nothing.
void check_writable(const std::filesystem::path& path, std::uint64_t bytes = 1);

/// A file that grows by what is written, each time at once: for logs.
class appended_file {
 public:
  appended_file() = default;
  /// Makes `beginning` its contents (as an atomic_file; to a device or a pipe it is written). Fails when that cannot be.
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
