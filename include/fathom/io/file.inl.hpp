// Implementation of file.hpp.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/vfs.h>
#endif

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/random.hpp"
#include "fathom/io/file.hpp"

namespace fathom::io {

// ---- File formats ---------------------------------------------------------------------------------------------------

namespace detail {
/// Whether text that starts like a pickle of protocols 2 to 5 also continues like one.
[[nodiscard, gnu::cold]] inline bool is_surely_pickle(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  if (text.size() < 12) return false;
  const std::string_view rest = text.substr(2);
  if (text[1] >= 4) return rest[0] == '\x95' && rest.substr(5, 4) == std::string_view("\0\0\0\0", 4);  // a frame of less than 4 GB
  if (rest.starts_with("\x8a\x0al\xfc\x9c\x46\xf9\x20")) return true;  // torch.save's magic number
  return rest[0] == 'c' ? std::all_of(rest.begin() + 1, rest.begin() + 6, is_letter)  // a module's name
                        : (rest[0] == '}' || rest[0] == ']' || rest[0] == '(') && rest.substr(1, 2) == std::string_view("q\0", 2);
}
}  // namespace detail

FATHOM_INLINE std::string what_begins_with(std::span<const std::byte> beginning, bool surely) {
  const std::string_view text(reinterpret_cast<const char*>(beginning.data()), beginning.size());
  using namespace std::literals;
  static constexpr std::pair<std::string_view, const char*> known[] = {
      {"version https://git-lfs"sv, "a Git LFS pointer, in place of the file that \"git lfs pull\" fetches"},
      {"version https://hawser"sv, "a Git LFS pointer, in place of the file that \"git lfs pull\" fetches"},
      {"PK\x03\x04"sv, "a zip archive, as torch.save and numpy.savez write them"},
      {"PK\x05\x06"sv, "an empty zip archive"},
      {"GGUF"sv, "a GGUF file"},
      {"ggml"sv, "a GGML file"},
      {"lmgg"sv, "a GGML file"},
      {"tjgg"sv, "a GGML file"},
      {"\x1f\x8b\x08\x00"sv, "compressed by gzip"},
      {"\x1f\x8b\x08\x08"sv, "compressed by gzip"},
      {"\x1f\x8b"sv, "compressed by gzip"},
      {"BZh"sv, "compressed by bzip2"},
      {"\xfd\x37zXZ"sv, "compressed by xz"},
      {"\x28\xb5\x2f\xfd"sv, "compressed by zstd"},
      {"7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
      {"Rar!"sv, "a rar archive"},
      {"\x93NUMPY"sv, "a numpy array (.npy)"},
      {"\x89HDF\r\n"sv, "an HDF5 file"},
      {"CDF\x01"sv, "a netCDF file"},
      {"PAR1"sv, "a Parquet file"},
      {"ARROW1"sv, "an Arrow file"},
      {"MThd"sv, "a MIDI file"},
      {"RIFF"sv, "a RIFF file, such as WAV"},
      {"fLaC"sv, "a FLAC file"},
      {"OggS"sv, "an Ogg file"},
      {"ID3"sv, "an MP3 file"},
      {"\x89PNG"sv, "a PNG picture"},
      {"\xff\xd8\xff"sv, "a JPEG picture"},
      {"GIF8"sv, "a GIF picture"},
      {"%PDF"sv, "a PDF file"},
      {"\x7f" "ELF"sv, "a program (ELF)"},
      {"SQLite format 3"sv, "an SQLite database"},
      {"\xff\xfe"sv, "text in UTF-16"},
      {"\xfe\xff"sv, "text in UTF-16"},
  };
  if (text.empty()) return "empty";
  for (const auto& [magic, what] : known)
    if (text.starts_with(magic) && (magic.size() >= 4 || !surely)) return what;
  // Python's pickle, protocols 2 to 5: byte 0x80, the protocol, then an opcode.
  if (text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5 && (!surely || detail::is_surely_pickle(text)))
    return "a pickle of Python's, as torch.save wrote them before version 1.6";
  if (text.size() > 262 && text.substr(257, 5) == "ustar") return "a tar archive";
  if (text.size() > 8 && text.substr(4, 4) == "TFL3") return "a TensorFlow Lite file";

  std::string_view visible = text.substr(text.starts_with("\xef\xbb\xbf") ? 3 : 0);
  visible.remove_prefix(std::min(visible.find_first_not_of(" \t\r\n"), visible.size()));
  std::string small(visible.substr(0, 16));
  for (char& letter : small)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  for (const char* tag : {"<!doctype html", "<html", "<head", "<body"})
    if (small.starts_with(tag)) return "an HTML page, as servers send in place of a file";
  if (small.starts_with("<?xml") || small.starts_with("<error")) return "XML, as servers send in place of a file";
  if (surely) return {};
  if (small.starts_with('{') || small.starts_with('[')) return "JSON, or the like";
  if (text.size() >= 16 && text.find_first_not_of('\0') == text.npos) return "nothing but zero bytes";
  return {};
}

// ---- Reading ---------------------------------------------------------------------------------------------------------

namespace detail {

FATHOM_INLINE bool descriptor::close() {
  const int fd = std::exchange(fd_, -1);
  return fd < 0 || ::close(fd) == 0;
}

/// The path for system calls. Fails on a path with a zero byte, which the system would cut short.
[[nodiscard, gnu::cold]] inline const char* system_path(const std::filesystem::path& path) {
  if (path.native().find('\0') != std::string::npos) fail("a path with a zero byte in it, which no file has: ", path.string());
  return path.c_str();
}

/// The kind of something that is not a regular file.
[[nodiscard, gnu::cold]] inline const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISBLK(mode)) return "a disk";
  return "a device";
}

}  // namespace detail

FATHOM_INLINE input_file::input_file(const std::filesystem::path& path)
    // O_NONBLOCK: opening a pipe must not wait for a writer. Regular files ignore it.
    : name_(path.string()), file_(::open(detail::system_path(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
  struct stat status{};
  if (!file_.is_open() || ::fstat(file_.get(), &status) != 0) fail(name_, ": cannot be opened: ", std::strerror(errno));
  if (!S_ISREG(status.st_mode)) fail(name_, ": is not a file, but ", detail::kind_of(status.st_mode));
  size_ = static_cast<std::uint64_t>(status.st_size);
}

FATHOM_INLINE void input_file::read(std::uint64_t at, std::span<std::byte> to) const {
  if (at > size_ || to.size() > size_ - at)
    fail(name_, ": has ", size_, " bytes; expected ", to.size(), " from byte ", at, " on");
  if (!file_.is_open()) {
    if (!to.empty()) std::memcpy(to.data(), memory_ + at, to.size());
    return;
  }
  while (!to.empty()) {
    const ssize_t n = ::pread(file_.get(), to.data(), std::min(to.size(), std::size_t{1} << 30), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(name_, ": cannot be read: ", std::strerror(errno));
    if (n == 0) fail(name_, ": has become shorter while it was read: it had ", size_, " bytes, and ends at byte ", at, " now");
    to = to.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
}

FATHOM_INLINE whole_file::whole_file(const std::filesystem::path& path) {
  const input_file file(path);
  if (file.size() > PTRDIFF_MAX) fail(file.name(), ": has ", file.size(), " bytes, more than memory can have");
  size_ = static_cast<std::size_t>(file.size());
  bytes_.reset(new (std::nothrow) std::byte[size_]);
  if (!bytes_) fail(file.name(), ": out of memory: ", size_, " bytes");
  file.read(0, {bytes_.get(), size_});
}

FATHOM_INLINE mapped_file::mapped_file(const std::filesystem::path& path) {
  const input_file file(path);
  name_ = file.name();
  if (file.size() > PTRDIFF_MAX) fail(name_, ": has ", file.size(), " bytes, more than memory can have");
  if (file.size() == 0) return;  // the system maps no empty files
  const auto size = static_cast<std::size_t>(file.size());
  const void* const bytes = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.file_.get(), 0);
  if (bytes == MAP_FAILED) fail(name_, ": cannot be mapped into memory: ", std::strerror(errno));
  bytes_ = {static_cast<const std::byte*>(bytes), size};
  is_mapped_ = true;
}
FATHOM_INLINE mapped_file::~mapped_file() {
  if (is_mapped_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

// ---- Writing ---------------------------------------------------------------------------------------------------------

namespace detail {

[[noreturn, gnu::cold]] inline void cannot_write(const std::filesystem::path& path, const char* why) {
  fail(path.string(), ": cannot be written: ", why);
}
[[noreturn, gnu::cold]] inline void cannot_write(const std::filesystem::path& path) { cannot_write(path, std::strerror(errno)); }

/// Writes all bytes or fails. A pipe without a reader is an error, too, and never raises SIGPIPE.
[[gnu::cold]] inline void write_all(int file, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  sigset_t broken_pipe, before;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken_pipe, &before);
  int problem = 0;
  while (!bytes.empty() && problem == 0) {
    const ssize_t n = ::write(file, bytes.data(), std::min(bytes.size(), std::size_t{1} << 30));
    if (n > 0)
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    else if (n == 0 || errno != EINTR)
      problem = n == 0 ? EIO : errno;
  }
  if (problem == EPIPE) {  // this write raised the pending signal
    const timespec at_once{};
    while (::sigtimedwait(&broken_pipe, nullptr, &at_once) < 0 && errno == EINTR) {
    }
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (problem != 0) cannot_write(path, std::strerror(problem));
}

/// Looks up a name in a folder without following links. Returns false when nothing is there.
[[nodiscard, gnu::cold]] inline bool look_at(const descriptor& folder, const std::string& name, struct stat& status) {
  return ::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

/// Where a path leads after following all links.
struct destination {
  descriptor folder;  // not open: write to the path directly, do not replace it
  std::string name;   // in the folder, not a link
  bool exists = false;
  struct stat status{};  // of the existing file
};

/// Whether a link lies in /proc (as /dev/stdout leads to one): such links refer to open files, not to names.
[[nodiscard, gnu::cold]] inline bool is_of_proc([[maybe_unused]] const std::filesystem::path& link) {
#if defined(__linux__)
  struct statfs system{};
  return ::statfs(link.has_parent_path() ? link.parent_path().c_str() : ".", &system) == 0 && system.f_type == 0x9fa0;
#else
  return false;
#endif
}

/// Resolves a path. Fails when no file can be written there.
[[nodiscard, gnu::cold]] inline destination destination_of(const std::filesystem::path& path) {
  destination to;
  to.exists = ::stat(system_path(path), &to.status) == 0;
  if (!to.exists && errno != ENOENT) cannot_write(path);
  if (to.exists) {
    if (S_ISDIR(to.status.st_mode)) cannot_write(path, "it is a folder");
    if (S_ISBLK(to.status.st_mode)) cannot_write(path, "it is a disk; expected a file");
    if (S_ISSOCK(to.status.st_mode)) cannot_write(path, "it is a socket; expected a file");
    if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) cannot_write(path);
    if (!S_ISREG(to.status.st_mode)) return to;
  }
  std::filesystem::path at = path;
  for (int links = 0;; ++links) {
    struct stat status{};
    if (::lstat(at.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) break;
    if (is_of_proc(at)) return to;
    char next[PATH_MAX];
    const ssize_t length = ::readlink(at.c_str(), next, sizeof next);
    if (length < 0) cannot_write(path);
    if (links == 40) cannot_write(path, std::strerror(ELOOP));
    at = at.parent_path() / std::string_view(next, static_cast<std::size_t>(length));
  }
  to.name = at.filename().string();
  if (to.name.empty() || to.name == "." || to.name == "..") cannot_write(path, to.exists ? "it is a folder" : "it has no name");
  const std::filesystem::path folder = at.has_parent_path() ? at.parent_path() : ".";
  to.folder = descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
#if defined(O_PATH)
  if (!to.folder.is_open() && errno == EACCES)  // a folder that may be written but not listed
    to.folder = descriptor(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
#endif
  if (!to.folder.is_open()) cannot_write(path);
  to.exists = look_at(to.folder, to.name, to.status);
  if (!to.exists && errno != ENOENT) cannot_write(path);
  if (to.exists && !S_ISREG(to.status.st_mode)) cannot_write(path, "what is there has changed meanwhile");
  return to;
}

/// Whether file locks in a folder hold against everyone with access: whether it lies on a disk or in the memory of this
/// machine, not on a network.
[[nodiscard, gnu::cold]] inline bool is_local([[maybe_unused]] const descriptor& folder) {
#if defined(__linux__)
  struct statfs system{};
  if (::fstatfs(folder.get(), &system) != 0) return false;
  // ext, XFS, btrfs, F2FS, bcachefs, ZFS, tmpfs, ramfs, overlayfs; from the kernel's magic.h and their own sources.
  static constexpr unsigned long known[] = {0xef53,     0x58465342, 0x9123683e, 0xf2f52010, 0xca451a4e,
                                            0x2fc12fc1, 0x01021994, 0x858458f6, 0x794c7630};
  return std::find(std::begin(known), std::end(known), static_cast<unsigned long>(system.f_type) & 0xfffffffful) != std::end(known);
#else
  return false;
#endif
}

/// A hash of a name in hexadecimal ("1f0c" for 4 digits), which keeps shortened names distinct.
[[nodiscard, gnu::cold]] inline std::string digest(std::string_view name, int digits) {
  std::string text;
  for (std::uint64_t hash = stream_of(name); digits > 0; --digits, hash >>= 4) text += "0123456789abcdef"[hash & 15u];
  return text;
}

/// NAME.KIND-, to be followed by a number. It is cut to the folder's limit for names, and contains the machine where
/// locks hold on one machine only.
[[nodiscard, gnu::cold]] inline std::string name_beside(const destination& to, const char* kind) {
  std::string ending = join('.', kind, '-');
  if (!is_local(to.folder)) {
    char machine[256] = {};
    static_cast<void>(::gethostname(machine, sizeof machine - 1));
    ending += digest(machine, 8) + "-";
  }
  constexpr std::size_t digits = 10;  // of the number, at most
  const long limit = ::fpathconf(to.folder.get(), _PC_NAME_MAX);
  const std::size_t most = limit > 0 ? static_cast<std::size_t>(limit) : 255;
  if (to.name.size() + ending.size() + digits <= most) return to.name + ending;
  ending = join('~', digest(to.name, 16), ending);  // g++ 12 warns of a string put before another
  std::size_t length = most - std::min(most, ending.size() + digits);
  while (length > 0 && (static_cast<unsigned char>(to.name[length]) & 0xc0u) == 0x80) --length;  // keep UTF-8 whole
  return to.name.substr(0, length) + ending;
}

/// Whether two results of stat are of one file.
[[nodiscard]] inline bool is_same(const struct stat& a, const struct stat& b) { return a.st_ino == b.st_ino && a.st_dev == b.st_dev; }

/// Removes a file if its writer is gone: a writer holds a lock on it, which ends with the process. Returns whether the
/// file is gone.
[[nodiscard, gnu::cold]] inline bool remove_abandoned(const descriptor& folder, const std::string& name) {
  const descriptor file(::openat(folder.get(), name.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.is_open()) return errno == ENOENT;
  struct stat opened{}, named{};
  if (::fstat(file.get(), &opened) != 0 || !S_ISREG(opened.st_mode) || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return false;
  if (!look_at(folder, name, named)) return errno == ENOENT;
  return is_same(opened, named) && ::unlinkat(folder.get(), name.c_str(), 0) == 0;
}

/// Does the same for all names `start` + number, starting at `first`. Concurrent writers leave gaps in the numbers, so
/// it stops only after 16 free numbers in a row.
[[gnu::cold]] inline void remove_abandoned(const descriptor& folder, const std::string& start, int first) {
  for (int number = first, free = 0; free < 16; ++number) {
    const std::string name = start + std::to_string(number);
    struct stat status{};
    free = look_at(folder, name, status) ? 0 : free + 1;
    if (free == 0) static_cast<void>(remove_abandoned(folder, name));
  }
}

/// A name in a folder that is removed again, unless it is kept: also when memory runs out.
struct new_name {
  const descriptor& folder;
  const std::string& name;
  bool is_kept = false;
  ~new_name() {
    if (!is_kept) ::unlinkat(folder.get(), name.c_str(), 0);
  }
};

/// Creates a new, locked file beside another, under an unused name. Removes files that dead processes left there.
[[nodiscard, gnu::cold]] inline descriptor open_beside(const destination& to, const std::filesystem::path& path, std::string& name) {
  const std::string start = name_beside(to, "partial");
  for (int number = 0, taken = 0;;) {
    name = start + std::to_string(number);
    // A replacement must not be readable by others before it has the mode of the file that it replaces.
    const mode_t mode = to.exists ? 0600 : 0666;
    descriptor file(::openat(to.folder.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!file.is_open()) {
      if (errno != EEXIST) cannot_write(path);
      if (!remove_abandoned(to.folder, name)) ++number;
      continue;
    }
    new_name made{to.folder, name};
    while (::flock(file.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
    // Another process may have removed it as abandoned before it was locked.
    struct stat own{};
    if (::fstat(file.get(), &own) != 0 || own.st_nlink > 0 || ++taken == 100) {
      remove_abandoned(to.folder, start, number + 1);
      made.is_kept = true;
      return file;
    }
    made.is_kept = true;  // it is gone, and its name may be another's
  }
}

/// Whether the disk has room for so many bytes of a file, which are then reserved; true where the system cannot tell.
/// Unless the file may grow, its size stays the same.
[[nodiscard, gnu::cold]] inline bool has_room([[maybe_unused]] const descriptor& file, [[maybe_unused]] std::uint64_t bytes,
                                   [[maybe_unused]] bool may_grow) {
#if defined(__linux__)
  const auto most = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  const auto length = static_cast<off_t>(std::clamp<std::uint64_t>(bytes, 1, most));
  while (::fallocate(file.get(), may_grow ? 0 : FALLOC_FL_KEEP_SIZE, 0, length) != 0) {
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return false;
    if (errno != EINTR) break;
  }
#endif
  return true;
}

/// Opens a path that is written to directly: a device, a pipe, or an open file in /proc.
[[nodiscard, gnu::cold]] inline descriptor open_stream(const destination& to, const std::filesystem::path& path) {
  const bool is_pipe = S_ISFIFO(to.status.st_mode);
  descriptor file(::open(path.c_str(), O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC | (is_pipe ? O_NONBLOCK : 0)));
  if (!file.is_open()) cannot_write(path, is_pipe && errno == ENXIO ? "it is a pipe that nobody reads" : std::strerror(errno));
  if (is_pipe && ::fcntl(file.get(), F_SETFL, O_WRONLY | O_APPEND) != 0) cannot_write(path);
  // A full device (/dev/full) reports that even for a write of no bytes.
  if (S_ISCHR(to.status.st_mode) && ::write(file.get(), "", 0) < 0 && errno == ENOSPC) cannot_write(path);
  return file;
}

/// Flushes a file to disk, if it is on one. Returns whether that succeeded.
[[nodiscard, gnu::cold]] inline bool to_disk(int file) {
  return ::fsync(file) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS;
}

}  // namespace detail

FATHOM_INLINE void atomic_file::cannot_write() const { detail::cannot_write(path_); }

FATHOM_INLINE atomic_file::atomic_file(std::filesystem::path path) : path_(std::move(path)) {
  detail::destination to = detail::destination_of(path_);
  if (!to.folder.is_open()) {
    file_ = detail::open_stream(to, path_);
    return;
  }
  whole_ = detail::name_beside(to, "whole");
  file_ = detail::open_beside(to, path_, temporary_);  // from here on, nothing allocates: the destructor removes the file
  folder_ = std::move(to.folder);
  name_ = std::move(to.name);
  if (!to.exists) return;
  keeps_file_ = to.status.st_nlink > 1;
  struct stat own{};
  const bool is_owner = ::fstat(file_.get(), &own) == 0 && own.st_uid == to.status.st_uid && own.st_gid == to.status.st_gid;
  if (!is_owner && ::fchown(file_.get(), to.status.st_uid, to.status.st_gid) != 0) keeps_file_ = true;
  if (::fchmod(file_.get(), to.status.st_mode & 07777) != 0) keeps_file_ = true;
}

FATHOM_INLINE atomic_file::~atomic_file() {
  if (!temporary_.empty()) ::unlinkat(folder_.get(), temporary_.c_str(), 0);
}

FATHOM_INLINE void atomic_file::write(std::span<const std::byte> bytes) { detail::write_all(file_.get(), bytes, path_); }

FATHOM_INLINE void atomic_file::commit() {
  if (!detail::to_disk(file_.get())) cannot_write();
  if (!folder_.is_open()) {
    if (!file_.close()) cannot_write();
    return;
  }
  keeps_file_ ? write_through() : replace();
  detail::remove_abandoned(folder_, whole_, 0);  // left by interrupted writes in place
  static_cast<void>(::fsync(folder_.get()));  // flushes the name itself, where the system can
}

FATHOM_INLINE void atomic_file::replace() {
  if (::renameat(folder_.get(), temporary_.c_str(), folder_.get(), name_.c_str()) == 0) {
    temporary_.clear();
    if (!file_.close()) cannot_write();
    return;
  }
  // A mount point, or another user's file in a folder like /tmp, may be writable but not replaceable.
  struct stat there{};
  if ((errno != EBUSY && errno != EPERM && errno != EACCES) || !detail::look_at(folder_, name_, there)) cannot_write();
  write_through();
}

FATHOM_INLINE void atomic_file::write_through() {
  const detail::descriptor to(::openat(folder_.get(), name_.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat whole{};
  if (!to.is_open() || ::fstat(file_.get(), &whole) != 0) cannot_write();
  // Reserve the space first, so that a full disk fails before anything is overwritten.
  if (!detail::has_room(to, static_cast<std::uint64_t>(whole.st_size), false)) cannot_write();
  // From here on the copy must survive if this process is killed: it may be the only complete one. So rename it to
  // NAME.whole-N.
  const std::string partial = std::exchange(temporary_, {});
  std::string complete;
  for (int number = 0;; ++number) {
    complete = whole_ + std::to_string(number);
    if (::linkat(folder_.get(), partial.c_str(), folder_.get(), complete.c_str(), 0) == 0) {
      ::unlinkat(folder_.get(), partial.c_str(), 0);
      break;
    }
    if (errno != EEXIST) {
      complete = partial;
      break;
    }
  }
  std::vector<std::byte> piece(std::size_t{1} << 20);
  for (off_t at = 0; at < whole.st_size;) {
    ssize_t n = ::pread(file_.get(), piece.data(), piece.size(), at), written = 0;
    for (ssize_t m; n > 0 && written < n; written += m) {
      m = ::pwrite(to.get(), piece.data() + written, static_cast<std::size_t>(n - written), at + written);
      if (m < 0 && errno == EINTR) m = 0;
      if (m < 0) break;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || written < n)
      fail(path_.string(), ": cannot be written to its end: ", std::strerror(errno), "; all of it is in ", complete, ", beside it");
    at += n;
  }
  if (::ftruncate(to.get(), whole.st_size) != 0 || !detail::to_disk(to.get()))
    fail(path_.string(), ": cannot be written to its end: ", std::strerror(errno), "; all of it is in ", complete, ", beside it");
  ::unlinkat(folder_.get(), complete.c_str(), 0);
}

FATHOM_INLINE void check_writable(const std::filesystem::path& path, std::uint64_t bytes) {
  const detail::destination to = detail::destination_of(path);
  if (!to.folder.is_open()) {
    if (S_ISCHR(to.status.st_mode)) static_cast<void>(detail::open_stream(to, path));
    return;
  }
  std::string temporary;
  const detail::descriptor file = detail::open_beside(to, path, temporary);
  const int problem = detail::has_room(file, bytes, true) ? 0 : errno;
  ::unlinkat(to.folder.get(), temporary.c_str(), 0);
  if (problem != 0) detail::cannot_write(path, std::strerror(problem));
}

FATHOM_INLINE appended_file::appended_file(std::filesystem::path path, std::string_view beginning) : path_(std::move(path)) {
  if (const detail::destination to = detail::destination_of(path_); !to.folder.is_open()) {
    file_ = detail::open_stream(to, path_);
    write(beginning);
    return;
  }
  atomic_file file(path_);
  file.write(beginning);
  file.commit();
  file_ = detail::descriptor(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file_.is_open()) detail::cannot_write(path_);
}

FATHOM_INLINE void appended_file::write(std::string_view text) {
  detail::write_all(file_.get(), std::as_bytes(std::span(text.data(), text.size())), path_);
}

}  // namespace fathom::io
