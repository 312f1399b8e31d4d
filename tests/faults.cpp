// Faults that are injected: processes killed while they write checkpoints, disks that are full after any byte, system calls that
// fail, are interrupted or do a part, memory that runs out at any allocation, files that change while they are read. Whatever
// happens, there is one error, nothing that was there is lost, and nothing leaks.
//
// This program defines the functions of the C library through which files and memory are reached, and forwards to the system. The
// environment says how much is tried (faults.sh): FATHOM_FAULTS_KILLS, and FATHOM_FAULTS_STRIDE, 1: every byte and every call.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/random.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/tokens.hpp>
#include <fathom/generate/batch_generator.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/io/packed_file.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

#if !defined(__linux__) || !defined(__GLIBC__)
#error "this test forwards to Linux; write the counterpart for this system"
#endif

// ---- System calls ----------------------------------------------------------------------------------------------------

namespace {

/// What happens to the calls for files of all threads, while it is set. Only one thread may make some then.
struct file_faults {
  long fails_at = 0;   // the n-th call, from 1; 0: none
  int error = 0;       // with this error; 0: it does half of what it should, if it moves bytes
  long room = -1;      // bytes that can be written before the disk is full; -1: any number
  bool torn = false;   // every call that moves bytes moves one to seven
  std::function<void(int)> before_read{};  // called with the descriptor before each
  long calls = 0;

  [[nodiscard]] bool fails() {
    if (++calls != fails_at || error == 0) return false;
    errno = error;
    return true;
  }
  [[nodiscard]] std::size_t part(std::size_t size) const {
    if (torn && size > 1) return 1 + static_cast<std::size_t>(calls) % std::min<std::size_t>(size, 7);
    return calls == fails_at && error == 0 && size > 1 ? size / 2 : size;
  }
};
file_faults* faults = nullptr;

template <class... T>
long forward(long number, T... arguments) {
  return ::syscall(number, arguments...);
}

ssize_t write_some(long number, int file, const void* from, std::size_t size, off_t at) {
  if (faults) {
    if (faults->fails()) return -1;
    size = faults->part(size);
    if (faults->room >= 0) {
      if (faults->room == 0 && size > 0) return errno = ENOSPC, -1;
      size = std::min(size, static_cast<std::size_t>(faults->room));
      faults->room -= static_cast<long>(size);
    }
  }
  return forward(number, file, from, size, at);
}
ssize_t read_some(long number, int file, void* to, std::size_t size, off_t at) {
  if (faults) {
    if (faults->before_read) {
      const auto change = std::exchange(faults->before_read, {});
      change(file);
      faults->before_read = change;
    }
    if (faults->fails()) return -1;
    size = faults->part(size);
  }
  return forward(number, file, to, size, at);
}

}  // namespace

extern "C" {
ssize_t write(int file, const void* from, std::size_t size) { return write_some(SYS_write, file, from, size, 0); }
ssize_t pwrite(int file, const void* from, std::size_t size, off_t at) { return write_some(SYS_pwrite64, file, from, size, at); }
ssize_t read(int file, void* to, std::size_t size) { return read_some(SYS_read, file, to, size, 0); }
ssize_t pread(int file, void* to, std::size_t size, off_t at) { return read_some(SYS_pread64, file, to, size, at); }
int fsync(int file) { return faults && faults->fails() ? -1 : static_cast<int>(forward(SYS_fsync, file)); }
int ftruncate(int file, off_t size) noexcept { return faults && faults->fails() ? -1 : static_cast<int>(forward(SYS_ftruncate, file, size)); }
int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  return faults && faults->fails() ? -1 : static_cast<int>(forward(SYS_renameat, from_folder, from, to_folder, to));
}
int fallocate(int file, int mode, off_t at, off_t size) {
  if (faults && faults->fails()) return -1;
  if (faults && faults->room >= 0) return 0;  // a system that cannot tell
  return static_cast<int>(forward(SYS_fallocate, file, mode, at, size));
}
int close(int file) {
  const int result = static_cast<int>(forward(SYS_close, file));  // Linux closes even when that fails
  return faults && faults->fails() ? -1 : result;
}
}

// ---- Memory ----------------------------------------------------------------------------------------------------------

namespace {
std::atomic<long> fails_at{0};     // the n-th allocation; 0: none
std::atomic<long> allocations{0};  // since it was set
std::atomic<long> held{0};         // blocks of operator new that were not deleted

[[nodiscard]] bool runs_out() {
  const long n = fails_at.load(std::memory_order_relaxed);
  return n > 0 && allocations.fetch_add(1, std::memory_order_relaxed) + 1 == n;
}
void* block(std::size_t size, std::size_t alignment) noexcept {
  if (runs_out()) return nullptr;
  void* made = nullptr;
  if (::posix_memalign(&made, std::max(alignment, sizeof(void*)), std::max<std::size_t>(size, 1)) != 0) return nullptr;
  held.fetch_add(1, std::memory_order_relaxed);
  return made;
}
void* block_or_throw(std::size_t size, std::size_t alignment) {
  void* const made = block(size, alignment);
  if (!made) throw std::bad_alloc();
  return made;
}
void release(void* made) noexcept {
  if (made) held.fetch_sub(1, std::memory_order_relaxed);
  std::free(made);
}
constexpr std::size_t usual = alignof(std::max_align_t);
}  // namespace

void* operator new(std::size_t size) { return block_or_throw(size, usual); }
void* operator new[](std::size_t size) { return block_or_throw(size, usual); }
void* operator new(std::size_t size, std::align_val_t a) { return block_or_throw(size, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t size, std::align_val_t a) { return block_or_throw(size, static_cast<std::size_t>(a)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return block(size, usual); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return block(size, usual); }
void operator delete(void* made) noexcept { release(made); }
void operator delete[](void* made) noexcept { release(made); }
void operator delete(void* made, std::size_t) noexcept { release(made); }
void operator delete[](void* made, std::size_t) noexcept { release(made); }
void operator delete(void* made, std::align_val_t) noexcept { release(made); }
void operator delete[](void* made, std::align_val_t) noexcept { release(made); }
void operator delete(void* made, std::size_t, std::align_val_t) noexcept { release(made); }
void operator delete[](void* made, std::size_t, std::align_val_t) noexcept { release(made); }
void operator delete(void* made, const std::nothrow_t&) noexcept { release(made); }
void operator delete[](void* made, const std::nothrow_t&) noexcept { release(made); }
/// Where fathom's own memory comes from (core/memory.hpp).
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  void* made = nullptr;
  return runs_out() || ::posix_memalign(&made, alignment, size) != 0 ? nullptr : made;
}

// ---- What is tried ---------------------------------------------------------------------------------------------------

namespace {

namespace fs = std::filesystem;
using fathom::token;
using fathom::training;

long number_from(const char* variable, long standard) {
  const char* const text = std::getenv(variable);
  return text ? std::max(1L, std::atol(text)) : standard;
}

constexpr fathom::config tiny{.vocab = 7, .context = 8, .width = 8, .depth = 1, .heads = 2};
using net = fathom::model<tiny>;

std::vector<token> some_tokens(fathom::index count) {
  fathom::random numbers(5, 0);
  std::vector<token> tokens(static_cast<std::size_t>(count));
  for (token& t : tokens) t = static_cast<token>(numbers.below(7));
  return tokens;
}
auto some_weights(std::uint64_t seed = 1) {
  auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, seed);
  return weights;
}
std::string bytes_of(const net::parameters& weights) { return {reinterpret_cast<const char*>(&weights), sizeof weights}; }
std::vector<std::string> listing(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}
training run_in(const fs::path& folder) {
  return {.batch = 2, .steps = 6, .rate = 1e-2f, .seed = 7, .checkpoint = folder / "run.safetensors", .checkpoint_every = 1, .resume = true,
          .log = folder / "run.csv", .progress = false, .threads = 1};
}
void train(const training& options) {
  fathom::trainer<net> trainer(options);
  trainer.fit(some_tokens(100));
}

/// Files that are written: all of fathom's own formats, into a folder that has the same files of other weights.
struct written {
  const char* name;
  void (*write)(const fs::path& path, const net::parameters& weights);
};
constexpr written formats[] = {
    {"a.safetensors", [](const fs::path& path, const net::parameters& weights) { fathom::save(path, weights); }},
    {"a.int8.safetensors", [](const fs::path& path, const net::parameters& weights) { fathom::save<std::int8_t>(path, weights); }},
    {"a.packed", [](const fs::path& path, const net::parameters& weights) { fathom::save_packed(path, fathom::pack<fathom::int4>(weights)); }},
    {"a.gguf", [](const fs::path& path, const net::parameters& weights) { fathom::save_gguf(path, weights); }},
    {"a.npy", [](const fs::path& path, const net::parameters& weights) {
       std::vector<token> numbers;
       for (const float x : weights.embed.wte.span()) numbers.push_back(static_cast<token>(x * 10000));
       fathom::data::write_npy(path, numbers);
     }}};

/// Writes each format with faults that `next` sets, which returns false when there are no more; whatever fails must leave what was
/// there. Returns how often writing failed.
long write_with(const std::function<bool(long round, file_faults& set)>& next) {
  const temporary_folder folder;
  const auto before = some_weights(1), after = some_weights(2);
  long failures = 0;
  for (const written& format : formats) {
    const fs::path path = folder.path() / format.name;
    format.write(path, *after);
    const std::string expected = folder.read(format.name);
    format.write(path, *before);
    const std::string old = folder.read(format.name);
    REQUIRE(old != expected);
    for (long round = 0;; ++round) {
      file_faults set;
      if (!next(round, set)) break;
      bool failed = false, is_clear = true;
      faults = &set;
      try {
        format.write(path, *after);
      } catch (const fathom::error& error) {
        failed = true;
        is_clear = std::string_view(error.what()).find(path.native()) != std::string_view::npos;
      }
      faults = nullptr;
      const std::string now = folder.read(format.name);
      INFO(format.name << ", round " << round << ", call " << set.fails_at << " of " << set.calls << ", error " << set.error << ", room " << set.room);
      CHECK(is_clear);
      // A call that fails after the file was put under its name may be reported; then all of it is there.
      CHECK(((failed && now == old) || now == expected));
      CHECK(listing(folder.path()).size() == static_cast<std::size_t>(&format - formats + 1));
      failures += failed;
      if (now != old) format.write(path, *before);
      if (set.fails_at > set.calls) break;
    }
  }
  return failures;
}

}  // namespace

// ---- Files -----------------------------------------------------------------------------------------------------------

TEST_CASE("a run that is killed at any time goes on from its last checkpoint", "[faults]") {
  const long kills = number_from("FATHOM_FAULTS_KILLS", 40);
  const temporary_folder folder, whole;
  training options = run_in(folder.path());
  options.steps = 60;
  training undisturbed = options;
  undisturbed.checkpoint = whole.path() / "run.safetensors";
  undisturbed.log = whole.path() / "run.csv";
  undisturbed.checkpoint_every = 0;
  train(undisturbed);
  const std::string expected = whole.read("run.safetensors");
  const auto begin = std::chrono::steady_clock::now();
  train(options);
  const auto takes = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  for (const auto& name : listing(folder.path())) fs::remove(folder.path() / name);
  fathom::random numbers(11, 0);
  long last = 0, ended = 0, resumed = 0;
  for (long kill = 0; kill < kills; ++kill) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        train(options);
      } catch (...) {
        ::_exit(3);
      }
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(numbers.below(std::min<fathom::index>(takes / 2 + 1, 900'000))));  // not a time limit: any is right
    ::kill(child, SIGKILL);
    int how = 0;
    REQUIRE(::waitpid(child, &how, 0) == child);
    const bool killed = WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL;
    REQUIRE((killed || (WIFEXITED(how) && WEXITSTATUS(how) == 0)));
    // The checkpoint is whole, of a step that is not before the last one; at most one half file lies beside it.
    if (fs::exists(options.checkpoint)) {
      auto weights = some_weights();
      fathom::load(options.checkpoint, *weights);
      const fathom::io::safetensors_file file(options.checkpoint);
      const auto state = fathom::json::parse(file.metadata().at("fathom.training"));
      REQUIRE(state.has_value());
      const long step = (*state)["step"].as<long>();
      CHECK(step >= last);
      resumed += step > last && last > 0;
      last = step;
    }
    CHECK(listing(folder.path()).size() <= 4);
    if (last == options.steps) {
      ++ended;
      CHECK((folder.read("run.safetensors") == expected));
      for (const auto& name : listing(folder.path())) fs::remove(folder.path() / name);
      last = 0;
    }
  }
  train(options);
  CHECK((folder.read("run.safetensors") == expected));
  CHECK(listing(folder.path()) == std::vector<std::string>{"run.csv", "run.safetensors"});
  WARN(kills << " kills, " << ended << " runs ended, " << resumed << " went on with a later step");
}

TEST_CASE("a disk that is full after any byte leaves what was there", "[faults]") {
  const long stride = number_from("FATHOM_FAULTS_STRIDE", 97);
  long rounds = 0;
  const long failures = write_with([&](long round, file_faults& set) {
    set.room = round * stride;
    ++rounds;
    return set.room < 12000;  // more than the largest of the files
  });
  CHECK(failures > 0);
  CHECK(failures < rounds);
  WARN(rounds << " writes, " << failures << " onto a full disk");
}

namespace {
/// A small file system in memory, while it lives.
struct small_disk {
  fs::path path;
  bool is_there;
  explicit small_disk(const fs::path& where) : path(where) {
    fs::create_directory(path);
    is_there = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=64k") == 0;
  }
  small_disk(const small_disk&) = delete;
  small_disk& operator=(const small_disk&) = delete;
  ~small_disk() {
    if (is_there) ::umount2(path.c_str(), MNT_DETACH);
  }
};
}  // namespace

// Also a CTest entry of its own, which is listed as skipped where tmpfs cannot be mounted.
TEST_CASE("a full file system leaves what was there", "[faults][full-disk]") {
  const temporary_folder folder;
  const small_disk mounted(folder.path() / "disk");
  const fs::path& disk = mounted.path;
  if (!mounted.is_there) {
    std::printf("skipped: tmpfs cannot be mounted: %s\n", std::strerror(errno));
    return;
  }
  const auto weights = some_weights();
  fathom::save(disk / "a.safetensors", *weights);
  const std::string expected = folder.read("disk/a.safetensors");
  std::string filling(4096, 'x');
  int failures = 0;
  for (int page = 0; page < 16; ++page) {  // less and less room
    std::ofstream(disk / ("filling" + std::to_string(page)), std::ios::binary) << filling << std::flush;
    failures += fails_with([&] { fathom::save(disk / "a.safetensors", *weights); return 0; }, "a.safetensors", "No space left on device");
    CHECK(folder.read("disk/a.safetensors") == expected);
  }
  CHECK(failures > 0);
  CHECK(fails_with([&] { train(run_in(disk)); return 0; }, "No space left on device"));
  CHECK(folder.read("disk/a.safetensors") == expected);
  for (const auto& name : listing(disk)) CHECK((name == "a.safetensors" || name.starts_with("filling")));
}

TEST_CASE("a system call that fails leaves what was there, or all that is new", "[faults]") {
  for (const int error : {EIO, ENOSPC, EDQUOT, EINTR, EAGAIN}) {
    INFO("error " << std::strerror(error));
    const long failures = write_with([&](long round, file_faults& set) {
      set.fails_at = round + 1;
      set.error = error;
      return true;
    });
    CHECK(failures > 0);
  }
}

TEST_CASE("calls that move a part of the bytes, or are interrupted, change nothing", "[faults]") {
  CHECK(write_with([](long round, file_faults& set) {
          set.fails_at = round + 1;  // half of the bytes
          return true;
        }) == 0);
  CHECK(write_with([](long round, file_faults& set) {
          set.torn = true;
          return round < 1;
        }) == 0);
  // Reading.
  const temporary_folder folder;
  const auto weights = some_weights();
  auto read = some_weights(2);
  fathom::save(folder.path() / "a.safetensors", *weights);
  file_faults set;
  set.torn = true;
  faults = &set;
  fathom::load(folder.path() / "a.safetensors", *read);
  faults = nullptr;
  CHECK((bytes_of(*read) == bytes_of(*weights)));
}

TEST_CASE("a file that cannot be read to its end is an error, and weights stay as they were", "[faults]") {
  const temporary_folder folder;
  const auto weights = some_weights();
  fathom::save(folder.path() / "a.safetensors", *weights);
  fathom::save_gguf(folder.path() / "a.gguf", *weights);
  fathom::save_transformers(folder.path() / "model", *weights);
  train(run_in(folder.path()));
  fathom::data::write_bin(folder.path() / "a.bin", some_tokens(100));
  training longer = run_in(folder.path());
  longer.steps = 6;
  auto into = some_weights(2);
  const std::string before = bytes_of(*into), checkpoint = folder.read("run.safetensors");
  const std::pair<const char*, std::function<void()>> readers[] = {
      {"a.safetensors", [&] { fathom::load(folder.path() / "a.safetensors", *into); }},
      {"a.gguf", [&] { fathom::load(folder.path() / "a.gguf", *into); }},
      {"model", [&] { fathom::load(folder.path() / "model", *into); }},
      {"run", [&] { train(longer); }},
      {"a.bin", [&] { static_cast<void>(fathom::data::tokens(folder.path() / "a.bin", 7)); }}};
  for (const auto& [name, reader] : readers)
    for (const int error : {EIO, EINTR}) {
      long failures = 0;
      for (long call = 1;; ++call) {
        INFO(name << ", call " << call << ", error " << error);
        file_faults set;
        set.fails_at = call;
        set.error = error;
        faults = &set;
        bool failed = false;
        try {
          reader();
        } catch (const fathom::error&) {
          failed = true;
        }
        faults = nullptr;
        failures += failed;
        // A disk that fails in the middle of the numbers may have changed some of them (io/weights.hpp).
        CHECK((folder.read("run.safetensors") == checkpoint));
        std::memcpy(static_cast<void*>(into.get()), before.data(), before.size());
        if (call >= set.calls) break;
      }
      INFO(name);
      if (error == EIO && name != std::string_view("a.gguf")) CHECK(failures > 0);  // that one is mapped
    }
}

TEST_CASE("a file that changes while it is read is read or refused", "[faults]") {
  const temporary_folder folder;
  const auto weights = some_weights();
  const auto path = folder.path() / "a.safetensors";
  fathom::save(path, *weights);
  const std::string valid = folder.read("a.safetensors");
  auto into = some_weights(2);
  fathom::random numbers(3, 0);
  int read = 0, refused = 0;
  for (int round = 0; round < 300; ++round) {
    folder.write("a.safetensors", valid);
    long at = numbers.below(40), count = 0;
    file_faults set;
    set.before_read = [&](int) {
      if (count++ != at % 20) return;
      const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
      std::string other(64, static_cast<char>(numbers.below(256)));
      if (at < 20)
        static_cast<void>(::ftruncate(file, static_cast<off_t>(numbers.below(static_cast<fathom::index>(valid.size())))));
      else
        static_cast<void>(::pwrite(file, other.data(), other.size(), static_cast<off_t>(numbers.below(static_cast<fathom::index>(valid.size())))));
      ::close(file);
    };
    faults = &set;
    try {
      fathom::load(path, *into);
      ++read;
    } catch (const fathom::error& error) {
      ++refused;
      CHECK(std::string_view(error.what()).find("a.safetensors") != std::string_view::npos);
    }
    faults = nullptr;
  }
  CHECK(read > 0);
  CHECK(refused > 0);
}

TEST_CASE("signals change nothing in a run", "[faults]") {
  const temporary_folder folder, whole;
  training options = run_in(folder.path()), undisturbed = run_in(whole.path());
  options.steps = undisturbed.steps = 100;
  train(undisturbed);
  static std::atomic<long> signals{0};
  struct sigaction handler{}, before{};
  handler.sa_handler = [](int) { signals.fetch_add(1, std::memory_order_relaxed); };  // without SA_RESTART: calls are interrupted
  REQUIRE(::sigaction(SIGALRM, &handler, &before) == 0);
  const itimerval often{{0, 500}, {0, 500}}, never{};
  REQUIRE(::setitimer(ITIMER_REAL, &often, nullptr) == 0);
  train(options);
  REQUIRE(::setitimer(ITIMER_REAL, &never, nullptr) == 0);
  REQUIRE(::sigaction(SIGALRM, &before, nullptr) == 0);
  CHECK(signals > 0);
  CHECK((folder.read("run.safetensors") == whole.read("run.safetensors")));
}

// ---- Memory ----------------------------------------------------------------------------------------------------------

TEST_CASE("memory that runs out at any allocation is an error, and nothing leaks", "[faults]") {
  const long stride = number_from("FATHOM_FAULTS_STRIDE", 7);
  const temporary_folder folder;
  const auto weights = some_weights();
  fathom::save(folder.path() / "a.safetensors", *weights);
  fathom::save<fathom::int4>(folder.path() / "a.int4.safetensors", *weights);
  fathom::save_gguf(folder.path() / "a.gguf", *weights);
  fathom::save_transformers(folder.path() / "model", *weights);
  const std::vector<token> tokens = some_tokens(100);
  training options = run_in(folder.path());
  options.steps = 2;
  options.threads = 2;
  const std::pair<const char*, std::function<void()>> all[] = {
      {"make", [&] { static_cast<void>(some_weights()); }},
      {"load", [&] { fathom::load(folder.path() / "a.safetensors", *some_weights()); }},
      {"load GGUF", [&] { fathom::load(folder.path() / "a.gguf", *some_weights()); }},
      {"load a folder", [&] { fathom::load(folder.path() / "model", *some_weights()); }},
      {"load packed", [&] { fathom::load(folder.path() / "a.int4.safetensors", *fathom::make<net::packed<fathom::int4>>()); }},
      {"save", [&] { fathom::save(folder.path() / "b.safetensors", *weights); }},
      {"save packed", [&] { fathom::save_packed(folder.path() / "b.packed", fathom::pack<fathom::int4>(*weights)); }},
      {"save GGUF", [&] { fathom::save_gguf(folder.path() / "b.gguf", *weights); }},
      {"train", [&] {
         fathom::trainer<net> trainer(options);
         trainer.fit(tokens, std::span(tokens).first(20));
       }},
      {"generate", [&] {
         fathom::generator<net, std::int8_t> writer(*weights, {.top_k = 3, .threads = 2});
         fathom::index sum = 0;
         writer.write({1, 2, 3}, 20, [&](token t) { sum += t; });
         CHECK(sum > 0);
       }},
      {"tokenizer", [&] {
         static_cast<void>(fathom::data::bpe(fs::path(FATHOM_GOLDEN "/tokenizers/smollm2")).encode("In the beginning, 12 cats <|im_end|>"));
       }}};
  for (const auto& [name, act] : all) {
    const auto again = [&] {
      for (const std::string& file : listing(folder.path()))
        if (file.starts_with("run.") || file.starts_with("b.")) fs::remove(folder.path() / file);
    };
    act();  // what is made once for the whole program
    again();
    allocations = 0;
    fails_at = std::numeric_limits<long>::max();
    act();
    fails_at = 0;
    const long total = allocations;
    long failures = 0;
    const long step = name == std::string_view("tokenizer") ? std::max(stride, total / 400) : stride;
    for (long n = 1; n <= total; n += n < 60 ? 1 : step) {
      again();
      const long before = held;
      bool failed = false;
      std::string unexpected;
      allocations = 0;
      fails_at = n;
      try {
        act();
        fails_at = 0;
      } catch (const fathom::error&) {
        fails_at = 0;
        failed = true;
      } catch (const std::bad_alloc&) {
        fails_at = 0;
        failed = true;
      } catch (const std::exception& other) {
        fails_at = 0;
        unexpected = other.what();
      }
      failures += failed;
      const long left = held - before - (unexpected.empty() ? 0 : 1);
      INFO(name << ", allocation " << n << " of " << total);
      CHECK(unexpected.empty());
      CHECK(left <= 0);
      // What could be written is whole, what could not leaves no trace.
      if (fs::exists(folder.path() / "run.safetensors")) fathom::load(folder.path() / "run.safetensors", *some_weights());
      if (fs::exists(folder.path() / "b.safetensors")) fathom::load(folder.path() / "b.safetensors", *some_weights());
      for (const std::string& file : listing(folder.path())) CHECK(file.find(".partial-") == std::string::npos);
    }
    INFO(name);
    CHECK(failures > 0);
    WARN(name << ": " << total << " allocations, " << failures << " errors");
  }
}
