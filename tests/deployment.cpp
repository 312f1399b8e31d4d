// Deployment without file system, heap or system calls: weights from memory, packed while they are read; generator
// and cache in static storage; decoding without system calls.
//
// A kernel filter (seccomp) watches system calls in a child process: a forbidden call raises a signal, whose handler reports it.
// This process never runs a parallel region, because a child has none of its parent's threads.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/text_stream.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "small_chat_model.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::bf16;
using fathom::token;

// The config in deployment/story.json.
constexpr fathom::config config{
    .vocab = 256, .context = 32, .width = 32, .depth = 2, .heads = 2, .shortcut = {.depths = {1}, .hidden = 16}};
using net = fathom::model<config>;
using generator = fathom::generator<net, bf16>;
const fathom::generation options{.temperature = 0.8f, .top_k = 40, .seed = 7, .threads = 1};

// All in static storage: constructed before main, without weights yet.
net::packed<bf16> ready;
alignas(fathom::alignment) std::byte memory[generator::bytes];
alignas(fathom::alignment) std::byte cache_memory[net::cache_bytes(2, 20)];
generator writer(ready, memory, options);
net::cache cache(2, 20, cache_memory, {1});

fathom::owned<net::parameters> some_weights(std::uint64_t seed = 1) {
  auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, seed);
  for (auto& value : weights->embed.wte.span()) value *= 20;  // so that some tokens are likelier than others
  return weights;
}
/// The bytes of a file of these weights.
std::string file_of(const net::parameters& weights) {
  const temporary_folder folder;
  fathom::save(folder.path() / "weights.safetensors", weights);
  return folder.read("weights.safetensors");
}
std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string text_of(generator& from, const char* prompt, fathom::index count) {
  std::string text;
  from.write(prompt, count, [&](token t) {
    text += static_cast<char>(t);
    return true;
  });
  return text;
}

/// File descriptor to which the handler of SIGSYS reports the call.
int report = -1;

void leave(int status) { ::syscall(SYS_exit_group, status); }  // before _exit, the address sanitizer makes calls of its own
void say(const char* text) {
  if (::write(report, text, std::strlen(text)) < 0) leave(2);
}
void on_forbidden_call(int, siginfo_t* info, void*) {
  char text[40];
  std::snprintf(text, sizeof text, "system call %d", info->si_syscall);
  say(text);
  leave(1);
}

/// Restricts this process, with all its threads, to these system calls.
bool allow_only(const std::vector<unsigned>& calls) {
#if defined(__x86_64__)
  constexpr unsigned machine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
  constexpr unsigned machine = AUDIT_ARCH_AARCH64;
#else
#error "this test filters system calls; name the architecture of this machine"
#endif
  struct sigaction action {};
  action.sa_sigaction = on_forbidden_call;
  action.sa_flags = SA_SIGINFO;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return false;

  const auto statement = [](unsigned code, std::size_t value) {
    return sock_filter{static_cast<std::uint16_t>(code), 0, 0, static_cast<std::uint32_t>(value)};
  };
  const auto unless_equal = [](unsigned value, unsigned skip) {
    return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, static_cast<std::uint8_t>(skip), value};
  };
  std::vector<sock_filter> program{statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
                                   unless_equal(machine, static_cast<unsigned>(2 * calls.size() + 1)),
                                   statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const unsigned call : calls) {
    program.push_back(unless_equal(call, 1));
    program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  const sock_fprog filter{static_cast<std::uint16_t>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0;
}

/// Runs `before`, and then f with only the given system calls; returns "done", or the first forbidden call.
template <class Before, class F>
std::string under_filter(const std::vector<unsigned>& allowed, const Before& before, const F& f) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    report = ends[1];
    auto calls = allowed;
    calls.insert(calls.end(), {SYS_write, SYS_exit_group});  // of say() and leave()
    before();
    if (!allow_only(calls)) {
      say("the kernel takes no filter");
      leave(2);
    }
    f();
    say("done");
    leave(0);
  }
  ::close(ends[1]);
  std::string said;
  char text[64];
  for (ssize_t n; (n = ::read(ends[0], text, sizeof text)) > 0;) said.append(text, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) said += " (ended by signal " + std::to_string(WTERMSIG(status)) + ")";
  return said;
}

/// All steps of decoding.
void decode_everything(net::cache& c) {
  const token prompt[] = {1, 2, 3, 4, 5}, next[] = {6, 7};
  net::prefill(ready, prompt, c, 0);
  net::prefill(ready, prompt, c, 1);
  for (int i = 0; i < 10; ++i) net::decode(ready, next, c);
  c.truncate(3);
  net::decode(ready, next, c);
}

const auto nothing = [] {};

}  // namespace

TEST_CASE("weights are read from memory, right into their packed form", "[deployment]") {
  const auto weights = some_weights();
  const std::string file = file_of(*weights);
  for (const std::size_t shift : {0u, 1u, 2u, 3u}) {  // any alignment
    const std::string shifted = std::string(shift, ' ') + file;
    const fathom::io::safetensors_file in_memory(bytes_of(shifted).subspan(shift), "the program");
    const auto packed = fathom::make<net::packed<bf16>>();
    fathom::load(in_memory, *packed);
    const auto expected = fathom::pack<bf16>(*weights);
    CHECK(std::memcmp(packed.get(), expected.get(), sizeof *packed) == 0);
    const auto plain = fathom::make<net::parameters>();
    fathom::load(in_memory, *plain);
    CHECK(std::memcmp(plain.get(), weights.get(), sizeof *plain) == 0);
  }
}

TEST_CASE("weights in memory that are no file or do not fit are refused, and nothing is written", "[deployment]") {
  const std::string file = file_of(*some_weights());
  const auto packed = fathom::make<net::packed<std::int8_t>>();
  std::memset(static_cast<void*>(packed.get()), 42, sizeof *packed);
  const auto before = std::vector<char>(reinterpret_cast<char*>(packed.get()), reinterpret_cast<char*>(packed.get() + 1));
  const auto loads = [&](const std::string& bytes) {
    const fathom::io::safetensors_file from(bytes_of(bytes), "the program");
    fathom::load(from, *packed);
    return true;
  };
  CHECK(fails_with([&] { return loads(""); }, "the program", "is not a valid safetensors file", "0 bytes"));
  CHECK(fails_with([&] { return loads(file.substr(0, file.size() - 1)); }, "the program", "is not a valid safetensors file"));
  std::string renamed = file;
  renamed.replace(renamed.find("h.1.ln_2.bias"), 13, "h.1.ln_2.bios");
  CHECK(fails_with([&] { return loads(renamed); }, "the program", "h.1.ln_2.bias: missing; expected F32, F64, BF16 or F16 [32]",
                   "h.1.ln_2.bios: not part of the model"));
  CHECK(std::memcmp(packed.get(), before.data(), before.size()) == 0);
  CHECK(loads(file));
}

TEST_CASE("a generator and a cache in static storage", "[deployment]") {
  const auto weights = some_weights();
  const std::string file = file_of(*weights);
  fathom::load(fathom::io::safetensors_file(bytes_of(file), "the program"), ready);
  generator owning(*weights, options);
  const std::string text = text_of(owning, "In the beginning", 100);  // past the context, too
  CHECK(text_of(writer, "In the beginning", 100) == text);
  CHECK(text_of(writer, "In the beginning", 100) != text);  // the seed has gone on

  net::cache owned(2, 20, {1});
  const token prompt[] = {10, 20, 30}, next[] = {40, 50};
  for (const fathom::index s : {0, 1}) {
    net::prefill(ready, prompt, owned, s);
    net::prefill(ready, prompt, cache, s);
  }
  const auto expected = net::decode(ready, next, owned), found = net::decode(ready, next, cache);
  CHECK(std::memcmp(expected.data(), found.data(), expected.size_bytes()) == 0);
}

TEST_CASE("a generator and a sampler say what is wrong with memory", "[deployment]") {
  const std::span<std::byte> all(memory), less = all.first(all.size() - 1), odd = all.subspan(8);
  const std::string needed = std::to_string(generator::bytes);
  CHECK(fails_with([&] { return generator(ready, less); }, "generator: ", std::to_string(less.size()), needed));
  CHECK(fails_with([&] { return generator(ready, odd); }, "generator: ", "at a multiple of 64"));
  CHECK(fails_with([&] { return generator(ready, {}); }, "generator: 0 bytes of memory; expected at least " + needed));
  CHECK(fails_with([&] { return fathom::sampler(256, {}, all.first(100)); }, "sampler: 100 bytes",
                   std::to_string(fathom::sampler::bytes(256))));
}

TEST_CASE("the filter reports a system call", "[deployment]") {
  CHECK(under_filter({}, nothing, nothing) == "done");
  CHECK(under_filter({}, nothing, [] { ::syscall(SYS_getpid); }) == "system call " + std::to_string(SYS_getpid));
  CHECK(under_filter({SYS_getpid}, nothing, [] { ::syscall(SYS_getpid); }) == "done");
  // Also in another thread.
  CHECK(under_filter({SYS_futex, SYS_sched_yield}, [] { fathom::backend::cpu<float>::executor{2}.run([](const auto&) {}); },
                     [] {
                       fathom::backend::cpu<float>::executor{2}.run([](const auto& on) {
                         if (on.rank() == on.size() - 1) ::syscall(SYS_getpid);
                       });
                     }) == "system call " + std::to_string(SYS_getpid));
}

TEST_CASE("decoding with one thread makes no system call", "[deployment]") {
  const auto pages = [] {  // touched: a missing page needs no system call, but huge pages are requested by one
    std::memset(memory, 0, sizeof memory);
    std::memset(cache_memory, 0, sizeof cache_memory);
  };
  CHECK(under_filter({}, pages, [] { decode_everything(cache); }) == "done");
  CHECK(under_filter({}, pages, [] {
          writer.write("In the beginning", 100, [](token) { return true; });
        }) == "done");
  // Even with a generator constructed under the filter.
  CHECK(under_filter({}, nothing, [] {
          generator(ready, memory, options).write("In the beginning", 100, [](token) { return true; });
        }) == "done");
}

TEST_CASE("decoding with two threads makes no system calls but futex and sched_yield", "[deployment]") {
  CHECK(under_filter({SYS_futex, SYS_sched_yield}, [] { fathom::backend::cpu<float>::executor{2}.run([](const auto&) {}); },
                     [] {
                       net::cache both(2, 20, cache_memory, {2});
                       decode_everything(both);
                     }) == "done");
}

// Run by deployment/run.cmake, which builds examples/story with these weights: the weights, and the expected output.
TEST_CASE("a checkpoint for story", "[.][story]") {
  const std::string folder = std::getenv("FATHOM_STORY") ? std::getenv("FATHOM_STORY") : "";
  REQUIRE_FALSE(folder.empty());
  const auto file = folder + "/weights.safetensors";
  fathom::save(file, *some_weights());
  const auto weights = fathom::make<net::parameters>();
  fathom::load(file, *weights);
  generator from(*weights, options);
  std::ofstream(folder + "/expected.txt", std::ios::binary) << "In the beginning" << text_of(from, "In the beginning", 100) << '\n';
}
// The same with a tokenizer, as in deployment/story_subwords.json: the model has room for more tokens than the tokenizer has.
TEST_CASE("a checkpoint for story with sub-words", "[.][story]") {
  constexpr fathom::config subwords{.vocab = 640, .context = 32, .width = 32, .depth = 1, .heads = 2};
  using subwords_net = fathom::model<subwords>;
  const std::string folder = std::getenv("FATHOM_STORY") ? std::getenv("FATHOM_STORY") : "";
  REQUIRE_FALSE(folder.empty());
  const auto weights = fathom::make<subwords_net::parameters>();
  fathom::initialize<subwords_net>(*weights, 1);
  for (auto& value : weights->embed.wte.span()) value *= 20;
  fathom::save(folder + "/subwords.safetensors", *weights);

  const fathom::data::bpe tokenizer(FATHOM_GOLDEN "/bpe/small");
  fathom::generator<subwords_net, bf16> from(*weights, options);
  std::string text = "In the beginning";
  from.write(tokenizer.encode(text), 100, [&](token t) {
    if (t >= tokenizer.size()) return true;
    if (tokenizer.bytes(t) == "<|endoftext|>") return false;
    text += tokenizer.bytes(t);
    return true;
  });
  std::ofstream(folder + "/subwords.txt", std::ios::binary) << text << '\n';
}
// Run by deployment/run.cmake, which builds deployment/models with these files: a folder, a GGUF file, and what programs with them
// write, for each type.
TEST_CASE("models as others distribute them", "[.][models]") {
  const std::filesystem::path folder = std::getenv("FATHOM_STORY") ? std::getenv("FATHOM_STORY") : "";
  REQUIRE_FALSE(folder.empty());
  small_chat::write_folder(folder / "model");
  small_chat::write_gguf(folder / "model.gguf", folder / "model");
  const fathom::data::bpe tokenizer(folder / "model");
  const auto expect = [&]<fathom::index Context, class Number>(const char* file, fathom::index count = 60) {
    constexpr fathom::config of = [] {
      fathom::config c = small_chat::config;
      c.context = Context;
      return c;
    }();
    using limited = fathom::model<of>;
    const auto weights = fathom::make<typename limited::parameters>();
    fathom::load(folder / "model", *weights);
    fathom::generator<limited, Number> from(*weights, {.temperature = 0, .threads = 1, .ids = tokenizer.size()});
    std::string text = std::to_string(Context) + ": ";
    from.write(tokenizer.encode("In the beginning"), count, [&](token t) {
      text += tokenizer.bytes(t);
      return true;
    });
    std::ofstream(folder / file, std::ios::binary) << text << (count == 60 ? "\n" : "");
  };
  expect.operator()<100, std::int8_t>("folder_in.txt");
  expect.operator()<256, float>("gguf_in.txt");
  expect.operator()<256, bf16>("gguf_beside.txt");
  expect.operator()<256, fathom::int4>("gguf_int4_begins.txt", 8);
}
// Run by deployment/run.cmake, which builds examples/story with such a folder: what it writes.
TEST_CASE("a model as others distribute it for story", "[.][story]") {
  const std::filesystem::path folder = std::getenv("FATHOM_STORY") ? std::getenv("FATHOM_STORY") : "";
  REQUIRE_FALSE(folder.empty());
  small_chat::write_folder(folder / "model", 4);
  const fathom::data::bpe tokenizer(folder / "model");
  constexpr fathom::config of = [] {
    fathom::config c = small_chat::config;
    c.context = 200;
    return c;
  }();
  using limited = fathom::model<of>;
  const auto weights = fathom::make<typename limited::parameters>();
  fathom::load(folder / "model", *weights);
  fathom::generation drawn = options;
  drawn.ids = tokenizer.size();
  fathom::generator<limited, std::int8_t> from(*weights, drawn);
  std::string text = "In the beginning";
  fathom::data::text_stream stream(tokenizer, fathom::data::text_stream::behind_a_prompt);
  from.write(tokenizer.encode(text), 100, [&](token t) {
    if (t == 560 || t == 562) return false;  // as generation_config.json says
    text += stream.push(t);
    return true;
  });
  text += stream.finish();
  std::ofstream(folder / "model.txt", std::ios::binary) << text << '\n';
}

// Run by convert.cmake: weights of models that examples/convert knows, and what it must write.
TEST_CASE("weights for convert", "[.][convert]") {
  const std::filesystem::path folder = std::getenv("FATHOM_CONVERTED") ? std::getenv("FATHOM_CONVERTED") : "";
  REQUIRE_FALSE(folder.empty());
  std::filesystem::create_directories(folder);
  const auto write = [&]<class Net>(const char* name) {
    const auto weights = fathom::make<typename Net::parameters>();
    fathom::initialize<Net>(*weights, 5);
    const auto file = [&](const char* type) { return folder / (std::string(name) + "." + type + ".safetensors"); };
    fathom::save(file("f32"), *weights);
    fathom::save<bf16>(file("bf16"), *weights);
    fathom::save<std::int8_t>(file("int8"), *weights);
    fathom::save<fathom::int4>(file("int4"), *weights);
  };
  constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4};
  constexpr fathom::config shortcut{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .hidden = 256,
                                    .shortcut = {.depths = {2, 4}}, .family = fathom::family::llama};  // examples/tiny.hpp
  write.operator()<fathom::model<tiny>>("tiny");
  write.operator()<fathom::model<shortcut>>("shortcut");
  constexpr fathom::config other{.vocab = 16, .context = 8, .width = 8, .depth = 1, .heads = 1};
  const auto weights = fathom::make<fathom::model<other>::parameters>();
  fathom::save(folder / "other.safetensors", *weights);
}
