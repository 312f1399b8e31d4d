// The files of a run: errors in writing them are reported before the run; existing files are written through links; a run only
// resumes from a matching checkpoint, with more steps on request; the log stays one log, whatever happens.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/data/corpus.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "file_contents.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
using fathom::token;
using fathom::training;

constexpr fathom::config tiny{.vocab = 7, .context = 8, .width = 8, .depth = 1, .heads = 2};
using net = fathom::model<tiny, fathom::backend::reference<float>>;
using in_double = fathom::model<tiny, fathom::backend::reference<double>>;

std::vector<token> some_tokens(fathom::index count) {
  fathom::random numbers(5, 0);
  std::vector<token> tokens(static_cast<std::size_t>(count));
  for (token& t : tokens) t = static_cast<token>(numbers.below(7));
  return tokens;
}

template <class Parameters>
std::string bytes_of(const Parameters& weights) {
  return {reinterpret_cast<const char*>(&weights), sizeof weights};
}
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}
std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream stream(line + ",");
  for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
  return cells;
}
std::vector<std::string> listing(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

training run_in(const temporary_folder& folder) {
  return {.batch = 2,
          .steps = 12,
          .rate = 1e-2f,
          .seed = 7,
          .checkpoint = folder.path() / "run.safetensors",
          .resume = true,
          .log = folder.path() / "run.csv",
          .progress = false};
}
/// Trains up to and with a step, and returns the weights.
template <class Model = net>
std::string train_until(training options, fathom::index last) {
  options.observer = [=](const fathom::progress& p) { return p.step != last; };
  fathom::trainer<Model> trainer(options);
  trainer.fit(some_tokens(100));
  return bytes_of(trainer.weights());
}

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

}  // namespace

// ---- Where files cannot be written -----------------------------------------------------------------------------------

TEST_CASE("a checkpoint or a log that cannot be written is known before the first step", "[train]") {
  const temporary_folder folder;
  REQUIRE(::chmod(folder.path().c_str(), 0777) == 0);
  folder.write("closed/run.csv", "what was there");
  fs::create_directory(folder.path() / "folder");
  folder.write("file", "text");
  REQUIRE(::chmod((folder.path() / "closed").c_str(), 0555) == 0);
  int steps = 0;
  const auto refuses = [&](const fs::path& path, const char* reason) {
    const auto before = listing(folder.path());
    bool all = true;
    for (const auto which : {&training::checkpoint, &training::log}) {
      training options{.batch = 1, .steps = 2, .progress = false, .observer = [&](const auto&) { ++steps; }};
      options.*which = folder.path() / path;
      fathom::trainer<net> trainer(options);
      const std::string weights = bytes_of(trainer.weights());
      all = all && fails_with([&] { return trainer.fit(some_tokens(20)); }, (folder.path() / path).string(), "cannot be written", reason);
      all = all && bytes_of(trainer.weights()) == weights && listing(folder.path()) == before;
      // The other file is not touched either, because files are checked first.
      options.*(which == &training::log ? &training::checkpoint : &training::log) = folder.path() / "other";
      all = all && fails_with([&] { return fathom::trainer<net>(options).fit(some_tokens(20)); }, "cannot be written");
      all = all && listing(folder.path()) == before;
    }
    return all;
  };
  CHECK(refuses("none/run", "No such file or directory"));
  CHECK(refuses("folder", "it is a folder"));
  CHECK(refuses("file/run", "Not a directory"));
  CHECK(refuses(std::string(256, 'n'), "File name too long"));
  fs::create_symlink("none/file", folder.path() / "dangling");
  CHECK(refuses("dangling", "No such file or directory"));
  if (fs::exists("/proc/self/status")) {
    CHECK(refuses("/proc/self/status", ""));
    CHECK(refuses("/proc/run", ""));
  }
  if (fs::exists("/dev/full")) CHECK(refuses("/dev/full", "No space left on device"));
  {
    const as_nobody nobody;
    CHECK(refuses("closed/new", "Permission denied"));
    CHECK(refuses("closed/run.csv", "Permission denied"));
  }
  CHECK(steps == 0);
  CHECK(folder.read("closed/run.csv") == "what was there");
  CHECK(fs::is_empty(folder.path() / "folder"));
  REQUIRE(::chmod((folder.path() / "closed").c_str(), 0755) == 0);

  training both = run_in(folder);
  both.log = folder.path() / "folder" / ".." / "run.safetensors";
  CHECK(fails_with([&] { return fathom::trainer<net>(both).fit(some_tokens(20)); }, "is both checkpoint and log"));
  folder.write("run.safetensors", "");
  fs::create_symlink("run.safetensors", folder.path() / "link");
  both.log = folder.path() / "link";
  CHECK(fails_with([&] { return fathom::trainer<net>(both).fit(some_tokens(20)); }, "is both checkpoint and log"));
}

TEST_CASE("a disk without room for a checkpoint is known before the first step", "[train]") {
  const temporary_folder folder;
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{2 * sizeof(net::parameters), limit.rlim_max};  // like a full disk
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  int steps = 0;
  training options = run_in(folder);
  options.observer = [&](const auto&) { ++steps; };
  const bool refused = fails_with([&] { fathom::trainer<net>(options).fit(some_tokens(20)); }, "run.safetensors: cannot be written: File too large");
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  ::signal(SIGXFSZ, handler);
  CHECK(refused);
  CHECK(steps == 0);
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a run that is killed again and again leaves nothing behind", "[train]") {
  const temporary_folder folder;
  training options = run_in(folder);
  options.checkpoint_every = 1;
  const temporary_folder whole_folder;
  const std::string expected = train_until(run_in(whole_folder), -1);
  for (fathom::index last = 1; last <= 8; ++last) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // killed while writing its checkpoint
      train_until(options, last);
      fathom::io::atomic_file file(options.checkpoint);
      file.write("half");
      ::raise(SIGKILL);
    }
    int how = 0;
    REQUIRE(::waitpid(child, &how, 0) == child);
    REQUIRE((WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL));
    CHECK(listing(folder.path()).size() == 3);
  }
  CHECK((train_until(options, -1) == expected));
  CHECK(listing(folder.path()) == std::vector<std::string>{"run.csv", "run.safetensors"});
  CHECK(folder.read("run.safetensors") == whole_folder.read("run.safetensors"));
}

TEST_CASE("checkpoints and logs are written through what is there", "[train]") {
  const temporary_folder folder;
  fs::create_directory(folder.path() / "far");
  fs::create_symlink("far/checkpoint", folder.path() / "run.safetensors");  // whose target does not exist yet
  const auto log = folder.write("run.csv", "another log");
  REQUIRE(::chmod(log.c_str(), 0600) == 0);
  fs::create_hard_link(log, folder.path() / "far" / "log");
  training options = run_in(folder);
  options.checkpoint_every = 4;
  train_until(options, 5);
  const std::string weights = train_until(options, -1);
  CHECK(fs::is_symlink(folder.path() / "run.safetensors"));
  CHECK(listing(folder.path()) == std::vector<std::string>{"far", "run.csv", "run.safetensors"});
  CHECK(listing(folder.path() / "far") == std::vector<std::string>{"checkpoint", "log"});
  CHECK(lines_of(folder.read("far/log")).size() == 13);
  CHECK(folder.read("far/log") == folder.read("run.csv"));
  struct stat status {};
  REQUIRE(::stat(log.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  CHECK(status.st_nlink == 2);
  auto loaded = fathom::make<net::parameters>();
  fathom::load(folder.path() / "far" / "checkpoint", loaded);
  CHECK((bytes_of(*loaded) == weights));
}

// ---- Resuming --------------------------------------------------------------------------------------------------------

TEST_CASE("a run goes on only in the arithmetic that it began in", "[train]") {
  STATIC_REQUIRE(fathom::detail::compute_name<net>() == "float");
  STATIC_REQUIRE(fathom::detail::compute_name<in_double>() == "double");
  STATIC_REQUIRE(fathom::detail::compute_name<fathom::model<tiny, fathom::backend::cpu<float>>>() == "float");
  STATIC_REQUIRE(fathom::detail::compute_name<fathom::model<tiny, fathom::backend::cpu<double>>>() == "double");
  STATIC_REQUIRE(fathom::detail::compute_name<fathom::model<tiny, fathom::backend::cpu<fathom::bf16>>>() == "bf16");

  const temporary_folder whole_folder, folder;
  const std::string expected = train_until(run_in(whole_folder), -1);
  train_until(run_in(folder), 5);
  const contents valid(folder.read("run.safetensors"));
  fathom::json state = parsed(valid.metadata.at("fathom.training"));
  CHECK(state["compute"] == "float");
  const auto write = [&](const contents& c) { folder.write("run.safetensors", c.file()); };
  const auto refuses = [&](const auto& message) {
    const std::string before = folder.read("run.safetensors");
    return fails_with([&] { train_until(run_in(folder), -1); }, "run.safetensors: is the checkpoint of another run", message) &&
           folder.read("run.safetensors") == before;
  };
  contents c = valid;
  for (const char* other : {"bf16", "double"}) {
    state["compute"] = other;
    c.metadata["fathom.training"] = state.dump();
    write(c);
    CHECK(refuses("compute: expected \"float\", found \"" + std::string(other) + "\""));
  }
  // Another scalar under the same name is refused, too.
  state["compute"] = "float";
  c.metadata["fathom.training"] = state.dump();
  for (const char* name : {"wte.weight", "adamw.first.ln_f.bias", "adamw.second.wpe.weight"}) {
    contents converted = c;
    auto& tensor = converted.tensors.at(name);
    std::string wide(tensor.bytes.size() * 2, 0);
    for (std::size_t i = 0; i < tensor.bytes.size() / 4; ++i) {
      float number;
      std::memcpy(&number, tensor.bytes.data() + 4 * i, 4);
      const double same = static_cast<double>(number);
      std::memcpy(wide.data() + 8 * i, &same, 8);
    }
    tensor = {"F64", tensor.shape, wide};
    write(converted);
    CHECK(refuses(std::string(name) + ": expected F32, found F64"));
  }
  write(valid);
  CHECK(fails_with([&] { train_until<in_double>(run_in(folder), -1); }, "compute: expected \"double\", found \"float\""));

  // Older files lack this key.
  state.erase("compute");
  c = valid;
  c.metadata["fathom.training"] = state.dump();
  write(c);
  CHECK((train_until(run_in(folder), -1) == expected));
  CHECK((folder.read("run.safetensors") == whole_folder.read("run.safetensors")));
}

TEST_CASE("a run goes on for more steps than it was planned for when that is wanted", "[train]") {
  const temporary_folder folder;
  training options = run_in(folder);
  const fathom::index stop = GENERATE(5, 12);
  const bool default_warmup = GENERATE(false, true);
  options.warmup = default_warmup ? -1 : 3;
  options.steps = 40;  // its default warm-up is 2
  training longer = options;
  longer.steps = 100;  // and this one's is 5
  train_until(options, stop);
  const std::string before = folder.read("run.safetensors");
  CHECK(fails_with([&] { train_until(longer, -1); }, "steps: expected 100, found 40", "for more steps than it was planned for, set extend"));
  CHECK((folder.read("run.safetensors") == before));

  longer.extend = true;
  std::vector<double> rates;
  const auto run = [&](fathom::index last) {
    rates.clear();
    longer.observer = [&](const fathom::progress& p) {
      rates.push_back(p.rate);
      CHECK(p.steps == 100);
      return p.step != last;
    };
    fathom::trainer<net> trainer(longer);
    trainer.fit(some_tokens(100));
    return bytes_of(trainer.weights());
  };
  run(60);
  const fathom::warmup_cosine schedule{static_cast<double>(options.rate), static_cast<double>(options.rate / 10),
                                       default_warmup ? 2 : 3, 100};
  REQUIRE(std::ssize(rates) == 60 - stop);
  for (std::size_t i = 0; i < rates.size(); ++i) CHECK(rates[i] == schedule(stop + static_cast<fathom::index>(i)));
  CHECK(lines_of(folder.read("run.csv")).size() == 61);
  // It is now a run of 100 steps, which may be interrupted like any other.
  const fathom::json state = parsed(contents(folder.read("run.safetensors")).metadata.at("fathom.training"));
  CHECK(state["steps"] == 100);
  CHECK(state["step"] == 60);
  CHECK(state["warmup"] == (default_warmup ? 2 : 3));
  const std::string weights = run(-1);
  CHECK(rates.size() == 40);
  CHECK((run(-1) == weights));
  CHECK(rates.empty());

  // Fewer steps are refused, and so is any other difference.
  training fewer = longer;
  fewer.steps = 99;
  CHECK(fails_with([&] { train_until(fewer, -1); }, "steps: expected 99, found 100"));
  fewer = longer;
  fewer.steps = 101;
  fewer.seed = 8;
  fewer.warmup = 4;
  CHECK(fails_with([&] { train_until(fewer, -1); }, "seed: expected 8, found 7", "warmup: expected 4, found"));
}

TEST_CASE("a checkpoint that cannot be looked at is an error, and not a new run", "[train]") {
  const temporary_folder folder;
  REQUIRE(::chmod(folder.path().c_str(), 0777) == 0);
  train_until(run_in(folder), 5);
  const std::string before = folder.read("run.safetensors");
  const training options = run_in(folder);
  REQUIRE(::chmod(options.log.c_str(), 0666) == 0);
  REQUIRE(::chmod(options.checkpoint.c_str(), 0222) == 0);  // writable, not readable
  {
    const as_nobody nobody;
    CHECK(fails_with([&] { train_until(options, -1); }, "run.safetensors: cannot be opened: Permission denied"));
  }
  REQUIRE(::chmod(options.checkpoint.c_str(), 0644) == 0);
  CHECK((folder.read("run.safetensors") == before));
  CHECK(lines_of(folder.read("run.csv")).size() == 6);
}

// ---- The log ---------------------------------------------------------------------------------------------------------

TEST_CASE("the log goes on with the lines that are its own", "[train]") {
  const temporary_folder folder;
  training options = run_in(folder);
  options.checkpoint_every = 6;
  train_until(options, 7);
  const auto before = lines_of(folder.read("run.csv"));
  REQUIRE(before.size() == 8);
  std::string spoilt;
  fathom::index kept = 7;
  SECTION("as it was left") { spoilt = folder.read("run.csv"); }
  SECTION("torn") {
    for (std::size_t i = 0; i < 7; ++i) spoilt += before[i] + "\n";
    spoilt += before[7].substr(0, before[7].size() / 2);
    kept = 6;
  }
  SECTION("torn where it looks whole") {
    for (std::size_t i = 0; i < 7; ++i) spoilt += before[i] + "\n";
    spoilt += before[7];  // without the end of the line, so possibly truncated
    kept = 6;
  }
  SECTION("with lines of something else") {
    spoilt = "a header\n" + before[0] + "\n\n";
    for (std::size_t i = 1; i < before.size(); ++i)
      spoilt += before[i] + "\n" + before[0] + "\n# a comment\n" + before[i] + ",1\n" + before[i].substr(2) + "\nnan" + before[i] + "\n";
    spoilt += "1,2,3,4,5,6,7\n-3,1,,1,1,1,1\n9,1,,1,1,1,1\n7.5,1,,1,1,1,1\n7,x,,1,1,1,1\n";
  }
  SECTION("of later steps, which will be taken again") {
    spoilt = folder.read("run.csv") + "8,1,,1,1,1,1\n9,1,,1,1,1,1\n";
  }
  SECTION("gone") { kept = 0; }
  SECTION("something else altogether") {
    spoilt = std::string("\x89PNG\r\n\x1a\n\0\0", 10);
    kept = 0;
  }
  if (!spoilt.empty()) folder.write("run.csv", spoilt);
  if (spoilt.empty()) fs::remove(options.log);
  train_until(options, -1);
  const auto after = lines_of(folder.read("run.csv"));
  REQUIRE(std::ssize(after) == 1 + kept + 5);
  CHECK(after[0] == "step,loss,validation,rate,gradient_norm,tokens,seconds");
  for (std::size_t i = 1; i <= static_cast<std::size_t>(kept); ++i) CHECK(after[i] == before[i]);
  double seconds = 0;
  for (std::size_t i = 1; i < after.size(); ++i) {
    const auto cells = cells_of(after[i]);
    REQUIRE(cells.size() == 7);
    const auto step = static_cast<fathom::index>(i) + (static_cast<fathom::index>(i) > kept ? 7 - kept : 0);
    CHECK(cells[0] == std::to_string(step));
    CHECK(cells[5] == std::to_string(step * 2 * 8));
    CHECK(std::stod(cells[6]) >= seconds);  // one clock across interruptions
    seconds = std::stod(cells[6]);
  }
  CHECK(folder.read("run.csv").ends_with("\n"));
}

TEST_CASE("the log is the same in every language", "[train]") {
  const temporary_folder folder;
  training options = run_in(folder);
  const std::string before = std::setlocale(LC_ALL, nullptr);
  bool is_there = false;  // a locale that writes 0,5
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8"})
    is_there = is_there || std::setlocale(LC_ALL, name) != nullptr;
  train_until(options, 5);
  const auto lines = lines_of(folder.read("run.csv"));
  train_until(options, -1);
  std::setlocale(LC_ALL, before.c_str());
  const auto after = lines_of(folder.read("run.csv"));
  REQUIRE(after.size() == 13);
  for (std::size_t i = 1; i < after.size(); ++i) {
    INFO((is_there ? "a point or a comma: " : "without another locale: ") << after[i]);
    if (i < lines.size()) CHECK(after[i] == lines[i]);
    const auto cells = cells_of(after[i]);
    REQUIRE(cells.size() == 7);
    for (const std::size_t cell : {1u, 6u}) CHECK(cells[cell].find('.') != std::string::npos);
    CHECK(cells[2].empty());
  }
}

TEST_CASE("the seconds of a log are those of the whole run", "[train]") {
  const temporary_folder folder;
  training options = run_in(folder);
  train_until(options, 5);
  // Pretend that the steps so far took an hour.
  auto lines = lines_of(folder.read("run.csv"));
  lines.back().replace(lines.back().rfind(',') + 1, std::string::npos, "3600.000");
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  folder.write("run.csv", text);
  train_until(options, -1);
  lines = lines_of(folder.read("run.csv"));
  REQUIRE(lines.size() == 13);
  CHECK(cells_of(lines[5])[6] == "3600.000");
  for (std::size_t i = 6; i < lines.size(); ++i) {
    CHECK(std::stod(cells_of(lines[i])[6]) >= 3600);
    CHECK(std::stod(cells_of(lines[i])[6]) < 7200);
  }
}

// ---- Observers -------------------------------------------------------------------------------------------------------

TEST_CASE("an observer need not return anything, and a corpus brings both of its parts", "[train]") {
  std::vector<fathom::index> seen;
  training options{.batch = 1, .steps = 3, .progress = false};
  options.observer = [&](const fathom::progress& p) { seen.push_back(p.step); };
  const fathom::data::corpus corpus(some_tokens(60), 7);
  fathom::trainer<net> trainer(options), parts(options);
  const auto result = trainer.fit(corpus);
  CHECK(seen == std::vector<fathom::index>{1, 2, 3});
  const auto expected = parts.fit(corpus.train(), corpus.validation());
  CHECK((bytes_of(trainer.weights()) == bytes_of(parts.weights())));
  CHECK(result.validation_nll == expected.validation_nll);
  CHECK_FALSE(std::isnan(result.validation_nll));

  struct counter {  // with its own state
    int left = 2;
    bool operator()(const fathom::progress&) { return --left > 0; }
  };
  options.observer = counter();
  CHECK(fathom::trainer<net>(options).fit(corpus).steps == 2);
  const fathom::step_observer nobody;
  CHECK_FALSE(nobody);
  CHECK(nobody({}));
}

TEST_CASE("weights are copied by fathom::copy", "[train]") {
  fathom::trainer<net> trainer({.batch = 1, .steps = 2, .progress = false});
  const auto best = fathom::copy(trainer.weights());
  const std::string before = bytes_of(trainer.weights());
  trainer.fit(some_tokens(20));
  CHECK((bytes_of(trainer.weights()) != before));
  CHECK((bytes_of(*best) == before));
  fathom::copy(best, trainer.weights());
  CHECK((bytes_of(trainer.weights()) == before));
  fathom::copy(trainer.weights(), trainer.weights());
  CHECK((bytes_of(trainer.weights()) == before));
  const auto packed = fathom::pack<fathom::bf16>(*best), same = fathom::copy(packed);
  CHECK((bytes_of(*same) == bytes_of(*packed)));
  CHECK(same.get() != packed.get());
  const fathom::owned<net::parameters> nothing;
  CHECK(fails_with([&] { static_cast<void>(fathom::copy(nothing)); }, "copy: a pointer to nothing"));
  CHECK(fails_with([&] { fathom::copy(best, nothing); }, "copy: a pointer to nothing"));
  net::tape tape(1, 8);
  const auto tokens = some_tokens(20);
  CHECK(fathom::evaluate<net>(best, tokens, tape, 1) == fathom::evaluate<net>(*best, tokens, tape, 1));
}
