// Files: writing follows links, keeps a file's attributes and is atomic, whatever exists at the path; files that
// change while they are read.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fathom/io/file.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
using fathom::io::atomic_file;

void write(const fs::path& path, std::string_view text) {
  atomic_file file(path);
  file.write(text);
  file.commit();
}
/// Whether a file cannot be written for this reason, according to both atomic_file and check_writable.
bool refuses(const fs::path& path, const std::string& reason) {
  return fails_with([&] { return atomic_file(path); }, path.string() + ": cannot be written: ", reason) &&
         fails_with([&] { fathom::io::check_writable(path); }, path.string() + ": cannot be written: ", reason);
}

/// The names in a folder.
std::vector<std::string> listing(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}
struct stat status_of(const fs::path& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}
mode_t mode_of(const fs::path& path) { return status_of(path).st_mode & 07777; }

/// During its lifetime, a process of root, who may do everything, runs as nobody.
class as_nobody {
 public:
  as_nobody() : was_root_(::geteuid() == 0) {
    if (was_root_) REQUIRE(::seteuid(65534) == 0);
  }
  as_nobody(const as_nobody&) = delete;
  as_nobody& operator=(const as_nobody&) = delete;
  ~as_nobody() {
    if (was_root_) static_cast<void>(::seteuid(0));
  }

 private:
  bool was_root_;
};

/// Another process starts to write a file, and is killed.
void write_and_be_killed(const fs::path& path) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    atomic_file file(path);
    file.write("half");
    ::raise(SIGKILL);
  }
  int how = 0;
  REQUIRE(::waitpid(child, &how, 0) == child);
  REQUIRE((WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL));
}

}  // namespace

// ---- Writing to existing paths --------------------------------------------------------------------------------------

TEST_CASE("links are followed, and stay", "[file]") {
  const temporary_folder folder;
  fs::create_directory(folder.path() / "far");
  const auto link = [&](const char* name, const fs::path& to) { fs::create_symlink(to, folder.path() / name); };
  SECTION("to a file") {
    folder.write("far/file", "old");
    link("link", "far/file");
  }
  SECTION("to a file, by its whole path") {
    folder.write("far/file", "old");
    link("link", folder.path() / "far" / "file");
  }
  SECTION("to nothing") { link("link", "far/file"); }
  SECTION("over other links, in other folders") {
    fs::create_directory(folder.path() / "near");
    link("link", "near/second");
    link("near/second", "../third");
    link("third", "way/file");
    link("way", "far");
  }
  write(folder.path() / "link", "new");
  CHECK(folder.read("far/file") == "new");
  CHECK(fs::is_symlink(folder.path() / "link"));
  CHECK_FALSE(fs::is_symlink(folder.path() / "far" / "file"));
  CHECK(listing(folder.path() / "far") == std::vector<std::string>{"file"});
  write(folder.path() / "link", "newer");
  CHECK(folder.read("link") == "newer");
}

TEST_CASE("links that lead to no file", "[file]") {
  const temporary_folder folder;
  fs::create_symlink("b", folder.path() / "a");
  fs::create_symlink("a", folder.path() / "b");
  CHECK(refuses(folder.path() / "a", "Too many levels of symbolic links"));
  fs::create_directory(folder.path() / "folder");
  fs::create_symlink("folder", folder.path() / "c");
  CHECK(refuses(folder.path() / "c", "it is a folder"));
  fs::create_symlink("none/file", folder.path() / "d");
  CHECK(refuses(folder.path() / "d", "No such file or directory"));
  CHECK(listing(folder.path()) == std::vector<std::string>{"a", "b", "c", "d", "folder"});
  CHECK(fs::is_empty(folder.path() / "folder"));
}

TEST_CASE("the mode of a file stays, and a new one has that of the umask", "[file]") {
  const temporary_folder folder;
  for (const mode_t mode : {0600u, 0640u, 0664u, 0755u, 0200u}) {
    INFO("mode " << std::oct << mode);
    const auto path = folder.write("file", "old");
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    {
      atomic_file file(path);
      for (const auto& name : listing(folder.path())) CHECK(mode_of(folder.path() / name) == mode);  // on the way, too
      file.write("new");
      file.commit();
    }
    CHECK(mode_of(path) == mode);
    REQUIRE(::chmod(path.c_str(), 0600) == 0);
    CHECK(folder.read("file") == "new");
    fs::remove(path);
  }
  const mode_t before = ::umask(0);
  for (const mode_t mask : {0022u, 0077u, 0002u, 0000u}) {
    ::umask(mask);
    write(folder.path() / "new", "");
    CHECK(mode_of(folder.path() / "new") == (0666 & ~mask));
    fs::remove(folder.path() / "new");
  }
  ::umask(before);
}

TEST_CASE("the owner of a file stays", "[file]") {
  if (::geteuid() != 0) return;  // only root can create other users' files
  const temporary_folder folder;
  const mode_t folder_mode = GENERATE(0777u, 01777u);  // in one like /tmp users may not replace others' files
  REQUIRE(::chmod(folder.path().c_str(), folder_mode) == 0);
  const auto path = folder.write("file", "old");
  SECTION("written by the administrator") {
    REQUIRE(::chown(path.c_str(), 65534, 1234) == 0);
    write(path, "new");
    CHECK(status_of(path).st_uid == 65534);
    CHECK(status_of(path).st_gid == 1234);
  }
  SECTION("written by somebody who may write it, but not give it away") {
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
    const auto before = status_of(path);
    {
      const as_nobody nobody;
      write(path, "a new text");
      write(path, "new");  // shorter
    }
    CHECK(status_of(path).st_uid == 0);
    CHECK(status_of(path).st_ino == before.st_ino);
    CHECK(mode_of(path) == 0666);
  }
  SECTION("written by somebody who may replace it, but not write it") {
    REQUIRE(::chmod(path.c_str(), 0644) == 0);
    const as_nobody nobody;
    CHECK(refuses(path, "Permission denied"));
    CHECK(folder.read("file") == "old");
    return;
  }
  CHECK(folder.read("file") == "new");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("all names of a file show what is written to one", "[file]") {
  const temporary_folder folder;
  const auto path = folder.write("file", "the old text");
  fs::create_hard_link(path, folder.path() / "other");
  fs::create_symlink("other", folder.path() / "link");
  const auto before = status_of(path);
  const std::string large(3'000'000, 'x');
  for (const std::string& text : {std::string("a new text, longer than the old one"), std::string("short"), large, std::string()}) {
    write(folder.path() / "link", text);
    CHECK((folder.read("file") == text));
    CHECK((folder.read("other") == text));
    CHECK(status_of(path).st_ino == before.st_ino);
    CHECK(status_of(path).st_nlink == 2);
  }
  {
    atomic_file given_up(path);
    given_up.write("half");
  }
  CHECK(folder.read("file").empty());
  CHECK(listing(folder.path()) == std::vector<std::string>{"file", "link", "other"});
}

TEST_CASE("devices are written to", "[file]") {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  REQUIRE(::grantpt(terminal) == 0);
  REQUIRE(::unlockpt(terminal) == 0);
  const fs::path path = ::ptsname(terminal);
  const int other_end = ::open(path.c_str(), O_RDWR | O_NOCTTY);  // stays open, whoever closes the other end
  REQUIRE(other_end >= 0);
  const auto before = status_of(path);
  const temporary_folder folder;
  fs::create_symlink(path, folder.path() / "link");
  fathom::io::check_writable(folder.path() / "link");
  write(folder.path() / "link", "hello");
  fathom::io::appended_file log(path, "a log, ");
  log.write("a line");
  std::string text;
  while (text.size() < 18) {  // arrives asynchronously
    char some[100];
    const ssize_t n = ::read(terminal, some, sizeof some);
    REQUIRE(n > 0);
    text.append(some, static_cast<std::size_t>(n));
  }
  CHECK(text == "helloa log, a line");
  CHECK(S_ISCHR(status_of(path).st_mode));
  CHECK(status_of(path).st_ino == before.st_ino);
  CHECK(fs::is_symlink(folder.path() / "link"));
  ::close(other_end);
  ::close(terminal);
}

TEST_CASE("devices that have no end or no room", "[file]") {
  const auto before = status_of("/dev/null");
  write("/dev/null", "text");
  fathom::io::check_writable("/dev/null", 1'000'000'000'000'000);
  fathom::io::appended_file("/dev/null", "text").write("more");
  CHECK(S_ISCHR(status_of("/dev/null").st_mode));
  CHECK(status_of("/dev/null").st_ino == before.st_ino);
  CHECK(mode_of("/dev/null") == (before.st_mode & 07777));
  if (!fs::exists("/dev/full")) return;
  const temporary_folder folder;
  fs::create_symlink("/dev/full", folder.path() / "link");
  for (const fs::path& path : {fs::path("/dev/full"), folder.path() / "link"}) {
    CHECK(refuses(path, "No space left on device"));
    CHECK(fails_with([&] { return fathom::io::appended_file(path, "text"); }, path.string(), "No space left on device"));
  }
  CHECK(S_ISCHR(status_of("/dev/full").st_mode));
}

TEST_CASE("a disk without room is known before anything is written", "[file]") {
  const temporary_folder folder;
  const auto path = folder.write("file", "old");
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, limit.rlim_max};  // like a full disk
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const bool fits = !fails_with([&] { fathom::io::check_writable(path, 1000); });
  const bool refused = fails_with([&] { fathom::io::check_writable(path, 1001); }, path.string() + ": cannot be written: File too large");
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  ::signal(SIGXFSZ, handler);
  CHECK(fits);
  CHECK(refused);
  CHECK(folder.read("file") == "old");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("pipes are written to when somebody reads", "[file]") {
  const temporary_folder folder;
  const auto path = folder.path() / "pipe";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(fails_with([&] { return atomic_file(path); }, path.string(), "cannot be written: it is a pipe that nobody reads"));
  fathom::io::check_writable(path);  // no reader is needed yet

  const std::string sent(1'000'000, 'x');
  const int reading = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reading >= 0);
  REQUIRE(::fcntl(reading, F_SETFL, 0) == 0);
  std::string received;
  std::thread reader([&] {
    char some[4096];
    while (received.size() < sent.size()) {  // empty until the writer writes
      const ssize_t n = ::read(reading, some, sizeof some);
      if (n < 0) break;
      received.append(some, static_cast<std::size_t>(n));
    }
  });
  write(path, sent);
  reader.join();
  CHECK((received == sent));
  CHECK(S_ISFIFO(status_of(path).st_mode));

  // No signal kills the writer when the reader leaves.
  atomic_file file(path);
  file.write("still there");
  ::close(reading);
  CHECK(fails_with([&] { file.write("gone"); }, path.string(), "cannot be written: Broken pipe"));
  CHECK(listing(folder.path()) == std::vector<std::string>{"pipe"});
}

TEST_CASE("what is no place for a file stays what it is", "[file]") {
  const temporary_folder folder;
  fs::create_directory(folder.path() / "folder");
  for (const char* name : {"folder", "folder/", "folder/.", "folder/..", ".", "folder//"})
    CHECK(refuses(folder.path() / name, "it is a folder"));
  CHECK(refuses(folder.path() / "none" / "file", "No such file"));
  CHECK(refuses(folder.path() / "new/", "it has no name"));
  CHECK(refuses("", "it has no name"));
  folder.write("file", "text");
  CHECK(refuses(folder.path() / "file" / "file", "Not a directory"));
  CHECK(refuses(folder.path() / "file/", "Not a directory"));

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = folder.path() / "socket";
  REQUIRE(name.size() < sizeof address.sun_path);
  std::strcpy(address.sun_path, name.c_str());
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  CHECK(refuses(name, "it is a socket"));
  ::close(socket);
  CHECK(S_ISSOCK(status_of(name).st_mode));
  CHECK(folder.read("file") == "text");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file", "folder", "socket"});
  CHECK(fs::is_empty(folder.path() / "folder"));
}

TEST_CASE("a folder that nothing can be made in", "[file]") {
  const temporary_folder folder;
  folder.write("closed/file", "text");
  REQUIRE(::chmod((folder.path() / "closed").c_str(), 0555) == 0);
  REQUIRE(::chmod((folder.path() / "closed" / "file").c_str(), 0666) == 0);
  fs::create_directory(folder.path() / "box");  // writable and searchable, but not readable
  REQUIRE(::chmod((folder.path() / "box").c_str(), 0333) == 0);
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
  {
    const as_nobody nobody;
    CHECK(refuses(folder.path() / "closed" / "new", "Permission denied"));
    CHECK(refuses(folder.path() / "closed" / "file", "Permission denied"));
    write(folder.path() / "box" / "file", "new");
  }
  REQUIRE(::chmod((folder.path() / "box").c_str(), 0755) == 0);
  CHECK(folder.read("closed/file") == "text");
  CHECK(listing(folder.path() / "closed") == std::vector<std::string>{"file"});
  CHECK(folder.read("box/file") == "new");
  REQUIRE(::chmod((folder.path() / "closed").c_str(), 0755) == 0);
}

TEST_CASE("open files that have a name only in /proc are written to", "[file]") {
  if (!fs::exists("/proc/self/fd")) return;
  const temporary_folder folder;
  const auto path = folder.write("file", "before, ");
  const int open = ::open(path.c_str(), O_RDWR);
  REQUIRE(open >= 0);
  const auto before = status_of(path);
  const fs::path name = "/proc/self/fd/" + std::to_string(open);  // like the target of /dev/stdout
  write(name, "after");
  CHECK(folder.read("file") == "before, after");
  CHECK(status_of(path).st_ino == before.st_ino);
  fs::remove(path);
  write(name, ", and gone");
  char text[100] = {};
  REQUIRE(::pread(open, text, sizeof text, 0) > 0);
  CHECK(std::string_view(text) == "before, after, and gone");
  ::close(open);
  CHECK(listing(folder.path()).empty());
}

// ---- Names ----------------------------------------------------------------------------------------------------------

TEST_CASE("any name that a file can have can be written", "[file]") {
  const temporary_folder folder;
  for (const std::size_t length : {1u, 200u, 240u, 248u, 249u, 250u, 254u, 255u}) {
    INFO("a name of " << length << " bytes");
    const std::string name(length, 'n');
    write(folder.path() / name, "text");
    CHECK(folder.read(name) == "text");
    fs::create_hard_link(folder.path() / name, folder.path() / "other");  // is written in place
    write(folder.path() / name, "other text");
    CHECK(folder.read("other") == "other text");
    fs::remove(folder.path() / "other");
    CHECK(listing(folder.path()) == std::vector<std::string>{name});
    fs::remove(folder.path() / name);
  }
  std::string letters;
  while (letters.size() + 3 <= 255) letters += "\xe2\x82\xac";  // a euro sign each
  for (const std::string start : {"", "a", "aa"}) {
    const std::string name = (start + letters).substr(0, 255 - (255 - start.size()) % 3);
    write(folder.path() / name, "text");
    CHECK(folder.read(name) == "text");
  }
  CHECK(refuses(folder.path() / std::string(256, 'n'), "File name too long"));
  CHECK(listing(folder.path()).size() == 3);

  // Two long names with a common beginning do not conflict.
  const std::string one = std::string(254, 'n') + '1', two = std::string(254, 'n') + '2';
  atomic_file first(folder.path() / one), second(folder.path() / two);
  first.write("first");
  second.write("second");
  CHECK(listing(folder.path()).size() == 5);
  second.commit();
  first.commit();
  CHECK(folder.read(one) == "first");
  CHECK(folder.read(two) == "second");
}

TEST_CASE("what killed processes leave behind goes with the next file, what others write stays", "[file]") {
  const temporary_folder folder;
  const auto path = folder.path() / "file";
  for (int kill = 0; kill < 10; ++kill) write_and_be_killed(path);
  CHECK(listing(folder.path()).size() == 1);
  write(path, "whole");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file"});

  // A process that is still writing is recognised by its lock, whatever its number.
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    atomic_file file(path);
    file.write("of the other process");
    static_cast<void>(::write(ready[1], "x", 1));
    ::pause();
  }
  char signal = 0;
  REQUIRE(::read(ready[0], &signal, 1) == 1);
  const auto others = listing(folder.path());
  REQUIRE(others.size() == 2);
  write_and_be_killed(path);
  CHECK(listing(folder.path()).size() == 3);
  write(path, "whole again");
  CHECK(listing(folder.path()) == others);
  fathom::io::check_writable(path);
  CHECK(listing(folder.path()) == others);
  // Other files with names of this kind are neither followed nor removed, whatever they are.
  const auto partial = *std::find_if(others.begin(), others.end(), [](const auto& name) { return name != "file"; });
  REQUIRE(partial.ends_with("0"));
  const std::string next = partial.substr(0, partial.size() - 1) + "1", after = partial.substr(0, partial.size() - 1) + "2";
  folder.write("victim", "untouched");
  fs::create_symlink("victim", folder.path() / next);
  fs::create_directory(folder.path() / after);
  write(path, "a third time");
  CHECK(folder.read("victim") == "untouched");
  CHECK(fs::is_symlink(folder.path() / next));
  CHECK(fs::is_directory(folder.path() / after));

  REQUIRE(::kill(child, SIGKILL) == 0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  write(path, "the end");
  CHECK(folder.read("file") == "the end");
  CHECK_FALSE(fs::exists(folder.path() / partial));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("what killed processes leave behind goes under all numbers", "[file]") {
  const temporary_folder folder;
  const auto path = folder.path() / "file";
  // Three wrote at once, and the one with the lowest number survived.
  auto first = std::make_unique<atomic_file>(path);
  for (int kill = 0; kill < 3; ++kill) write_and_be_killed(path);
  const auto second = std::make_unique<atomic_file>(path);
  write_and_be_killed(path);
  REQUIRE(listing(folder.path()).size() == 3);
  first = nullptr;
  REQUIRE(listing(folder.path()).size() == 2);
  write(path, "whole");
  const auto left = listing(folder.path());
  REQUIRE(left.size() == 2);
  CHECK(left[0] == "file");
  CHECK(left[1].ends_with("1"));  // of the second, which is still writing
}

TEST_CASE("what was whole when a process was killed goes when the file is written to its end", "[file]") {
  const temporary_folder folder;
  const auto path = folder.write("file", "old");
  fs::create_hard_link(path, folder.path() / "other");
  // Left by processes that are killed while they write in place.
  std::string start;
  {
    atomic_file file(path);
    for (const auto& name : listing(folder.path()))
      if (name.starts_with("file.partial-")) start = "file.whole-" + name.substr(13, name.size() - 14);
  }
  REQUIRE_FALSE(start.empty());
  for (const int number : {0, 1, 4}) folder.write(start + std::to_string(number), "what was to be written");
  // Of a process that is still writing, and holds a lock.
  const int writing = ::open((folder.path() / (start + "2")).c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(::flock(writing, LOCK_EX) == 0);
  {
    atomic_file given_up(path);
    given_up.write("half");
  }
  CHECK(listing(folder.path()).size() == 6);
  write(path, "new");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file", start + "2", "other"});
  ::close(writing);
  fs::remove(folder.path() / "other");  // then it is replaced
  write(path, "newer");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file"});
  CHECK(folder.read("file") == "newer");
}

TEST_CASE("many threads write one file", "[file]") {
  const temporary_folder folder;
  const auto path = folder.path() / "file";
  std::vector<std::thread> threads;
  std::vector<std::string> errors(6);
  for (std::size_t t = 0; t < errors.size(); ++t)
    threads.emplace_back([&, t] {
      try {
        for (int i = 0; i < 30; ++i) write(path, std::string(100'000, static_cast<char>('a' + t)));
      } catch (const fathom::error& error) {
        errors[t] = error.what();
      }
    });
  for (auto& thread : threads) thread.join();
  for (const auto& error : errors) CHECK(error.empty());
  const std::string text = folder.read("file");
  CHECK(text.size() == 100'000);
  CHECK(text.find_first_not_of(text[0]) == text.npos);
  CHECK(listing(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("an appended file begins anew and grows line by line", "[file]") {
  const temporary_folder folder;
  folder.write("far", "old");
  fs::create_symlink("far", folder.path() / "log");
  fathom::io::appended_file log(folder.path() / "log", "head\n");
  CHECK(folder.read("far") == "head\n");
  log.write("one\n");
  log.write("two\n");
  CHECK(folder.read("far") == "head\none\ntwo\n");
  CHECK(fs::is_symlink(folder.path() / "log"));
  CHECK(listing(folder.path()) == std::vector<std::string>{"far", "log"});
  CHECK_FALSE(fathom::io::appended_file().is_open());
}

// ---- Reading --------------------------------------------------------------------------------------------------------

TEST_CASE("a file that becomes shorter while it is read is an error", "[file]") {
  const temporary_folder folder;
  const auto path = folder.write("file", std::string(100'000, 'x'));
  const fathom::io::input_file file(path);
  const fathom::io::whole_file whole(path);
  std::vector<std::byte> some(10);
  fs::resize_file(path, 50'000);
  file.read(49'990, some);
  CHECK(some[9] == std::byte{'x'});
  CHECK(fails_with([&] { file.read(49'991, some); }, path.string(), "has become shorter while it was read", "100000",
                   "ends at byte 50000 now"));
  CHECK((whole.text() == std::string(100'000, 'x')));
  // Data appended later is not part of it.
  std::ofstream(path, std::ios::app) << std::string(100'000, 'y');
  CHECK(file.size() == 100'000);
  CHECK(fails_with([&] { file.read(99'991, some); }, path.string(), "has 100000 bytes"));
  fs::resize_file(path, 50'000);
  // Reads beyond its original end fail.
  CHECK(fails_with([&] { file.read(99'991, some); }, path.string(), "has 100000 bytes"));
  CHECK(fails_with([&] { file.read(~std::uint64_t{0}, some); }, path.string(), "has 100000 bytes"));

  // A replaced file keeps its contents for the reader.
  const fathom::io::input_file before(path);
  const fathom::io::mapped_file mapped(path);
  write(path, "new");
  before.read(0, some);
  CHECK(some[0] == std::byte{'x'});
  CHECK(mapped.name() == path.string());
  CHECK((mapped.bytes().size() == 50'000 && mapped.bytes().back() == std::byte{'x'}));
}

TEST_CASE("what is no file cannot be read", "[file]") {
  const temporary_folder folder;
  const auto cannot = [&](const fs::path& path, const char* what) {
    return fails_with([&] { return fathom::io::whole_file(path); }, path.string(), what) &&
           fails_with([&] { return fathom::io::input_file(path); }, path.string(), what) &&
           fails_with([&] { return fathom::io::mapped_file(path).bytes().size(); }, path.string(), what);
  };
  CHECK(cannot(folder.path(), "is not a file, but a folder"));
  CHECK(cannot(folder.path() / "none", "cannot be opened: No such file"));
  REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
  CHECK(cannot(folder.path() / "pipe", "is not a file, but a pipe"));
  CHECK(cannot("/dev/null", "is not a file, but a device"));
  const fathom::io::whole_file empty(folder.write("empty", ""));
  CHECK(empty.bytes().empty());
  CHECK(fathom::io::whole_file().text().empty());
  CHECK(fathom::io::mapped_file(folder.path() / "empty").bytes().empty());
  const std::string text = "in memory";
  const fathom::io::input_file memory(std::as_bytes(std::span(text)), "the memory");
  std::vector<std::byte> some(6);
  memory.read(3, some);
  CHECK(std::memcmp(some.data(), "memory", 6) == 0);
  CHECK(fails_with([&] { memory.read(4, some); }, "the memory: has 9 bytes; expected 6 from byte 4 on"));
}

TEST_CASE("a path with a zero byte is not that of another file", "[file]") {
  const temporary_folder folder;
  folder.write("file", "text");
  const fs::path path = (folder.path() / "file").native() + std::string("\0more", 5);
  CHECK(fails_with([&] { return fathom::io::input_file(path); }, "a path with a zero byte in it"));
  CHECK(fails_with([&] { return atomic_file(path); }, "a path with a zero byte in it"));
  CHECK(fails_with([&] { fathom::io::check_writable(path); }, "a path with a zero byte in it"));
  CHECK(folder.read("file") == "text");
  CHECK(listing(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("files are known by how they begin", "[file]") {
  const auto is = [](std::string_view bytes) { return fathom::io::what_begins_with(std::as_bytes(std::span(bytes))); };
  using namespace std::literals;
  CHECK(is("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n").starts_with("a Git LFS pointer"));
  for (const auto page : {"<!DOCTYPE html>\n<html>", "  \n<html lang=\"en\">", "<HTML>", "\xef\xbb\xbf<!doctype HTML>"})
    CHECK(is(page).starts_with("an HTML page"));
  CHECK(is("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>").starts_with("XML"));
  CHECK(is("PK\x03\x04\x00\x00\x08\x08"sv).starts_with("a zip archive"));
  CHECK(is("GGUF\x03\x00\x00\x00"sv) == "a GGUF file");
  CHECK(is("\x1f\x8b\x08\x00\x00\x00\x00\x00"sv) == "compressed by gzip");
  CHECK(is("\x28\xb5\x2f\xfd\x04"sv) == "compressed by zstd");
  CHECK(is("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9"sv).starts_with("a pickle"));
  CHECK(is("\x93NUMPY\x01\x00"sv) == "a numpy array (.npy)");
  CHECK(is("\x89HDF\r\n\x1a\n") == "an HDF5 file");
  CHECK(is("\xff\xfe{\x00"sv) == "text in UTF-16");
  CHECK(is("{\"a\": 1}").starts_with("JSON"));
  CHECK(is(std::string(257, 'a') + "ustar\0"s) == "a tar archive");
  CHECK(is(std::string(100, '\0')) == "nothing but zero bytes");
  CHECK(is("") == "empty");
  // In files of arbitrary numbers, only unmistakable signatures count.
  const auto is_surely = [](std::string_view bytes) { return fathom::io::what_begins_with(std::as_bytes(std::span(bytes)), true); };
  for (const auto sure : {"version https://git-lfs"sv, "<html>"sv, "PK\x03\x04"sv, "GGUF"sv, "\x1f\x8b\x08\x00"sv,
                          "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8"sv, "\x80\x02}q\0(X\x05\0\0\0w"sv, "\x80\x03" "cnumpy.core\n"sv,
                          "\x80\x04\x95\x10\0\0\0\0\0\0\0}"sv})
    CHECK(is_surely(sure) == is(sure));
  for (const auto not_sure : {"{}"sv, "[1, 2]"sv, "\xff\xfe"sv, "BZh9"sv, "ID3\x04"sv, "\x1f\x8b\x08\x01"sv, "\x80\x02\x8a\x0a"sv,
                              "\x80\x03}r\0(X\x05\0\0\0w"sv, "\x80\x04\x95\x10\0\0\0\0\x01\0\0}"sv, "\x80\x02" "c12345678910"sv,
                              "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv}) {
    CHECK_FALSE(is(not_sure).empty());
    CHECK(is_surely(not_sure).empty());
  }
  for (const auto other : {"hello"sv, "\x80"sv, "\x80\x09\x00"sv, "P"sv, "<"sv, "<a>"sv, "\xff"sv, "\x00"sv, "version 2"sv})
    CHECK(is(other).empty());
}
