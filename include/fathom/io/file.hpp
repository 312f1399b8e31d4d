// Files: read by mapping them into memory, written so that a name never stands for half a file.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "fathom/core/error.hpp"

namespace fathom::io {

namespace detail {
/// An open file descriptor.
class descriptor {
 public:
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&&) = delete;
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  /// Closes, and says whether that worked.
  [[nodiscard]] bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};
}  // namespace detail

/// The bytes of a file, mapped read-only.
class mapped_file {
 public:
  mapped_file() = default;
  /// Fails when the file cannot be read.
  explicit mapped_file(const std::filesystem::path& path) {
    // Not to wait, if it is a pipe, for somebody who writes into it. For files that changes nothing.
    const detail::descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status{};
    if (file.get() < 0 || ::fstat(file.get(), &status) != 0)
      fail(path.string(), ": cannot be opened: ", std::strerror(errno));
    if (!S_ISREG(status.st_mode)) fail(path.string(), ": is not a file");
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    void* const block = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (block == MAP_FAILED) fail(path.string(), ": cannot be mapped into memory: ", std::strerror(errno));
    data_ = static_cast<const std::byte*>(block);
  }
  mapped_file(mapped_file&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&&) = delete;
  ~mapped_file() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A file that appears under its name all at once, when commit() is called: until then it is written beside it, under a
/// name of its own, which goes away again if commit() is never reached. What stood there before stays until then.
class atomic_file {
 public:
  /// Fails when no file can be made there.
  explicit atomic_file(std::filesystem::path path)
      : path_(std::move(path)), file_(open_temporary(temporary_)) {}
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() {
    if (!committed_) ::unlink(temporary_.c_str());
  }

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail(path_.string(), ": cannot be written: ", std::strerror(errno));
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  /// Brings everything to the disk, and then the file under its name.
  void commit() {
    if (::fsync(file_.get()) != 0 || !file_.close() || ::rename(temporary_.c_str(), path_.c_str()) != 0)
      fail(path_.string(), ": cannot be written: ", std::strerror(errno));
    committed_ = true;
    const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    const detail::descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.get() >= 0) static_cast<void>(::fsync(directory.get()));  // the name itself; not all systems can
  }

 private:
  /// A new file beside the path, under a name that nobody has.
  int open_temporary(std::string& name) const {
    for (int attempt = 0;; ++attempt) {
      name = join(path_.string(), ".partial-", static_cast<long>(::getpid()), "-", attempt);
      const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd >= 0) return fd;
      if (errno != EEXIST) fail(path_.string(), ": cannot be written: ", std::strerror(errno));
    }
  }

  std::filesystem::path path_;
  std::string temporary_;
  detail::descriptor file_;
  bool committed_ = false;
};

}  // namespace fathom::io
