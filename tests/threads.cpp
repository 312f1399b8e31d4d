// Threads: small stacks, forked processes, and the requested number of threads.
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/adamw.hpp>

#include "catch.hpp"
#include "fails_with.hpp"

namespace fathom::test {
namespace {

constexpr config c{.vocab = 61, .context = 64, .width = 64, .depth = 3, .heads = 2, .shortcut = {.depths = {1, 2}}};
using net = model<c>;

std::vector<token> tokens(index count) {
  std::vector<token> t(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < t.size(); ++i) t[i] = static_cast<token>(i * 7 % 61);
  return t;
}

/// Runs f on a thread with a stack of this many bytes.
void on_a_stack_of(std::size_t bytes, std::function<void()> f) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, &attributes, [](void* work) -> void* {
            (*static_cast<std::function<void()>*>(work))();
            return nullptr;
          }, &f) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

/// The weights after a few training steps.
owned<net::parameters> train(int threads, int steps) {
  auto weights = make<net::parameters>(), gradients = make<net::parameters>();
  initialize<net>(*weights, 1);
  net::tape tape(4, 32, {threads});
  adamw<net> optimizer({}, {threads});
  const auto text = tokens(4 * 32 + 1);
  const batch b{std::span(text).first(128), std::span(text).last(128), 4, 32};
  for (int i = 0; i < steps; ++i) {
    net::forward_backward(*weights, b, tape, *gradients);
    optimizer.step(*weights, *gradients);
  }
  return weights;
}

}  // namespace

TEST_CASE("decoding and training run on a thread with a stack of 256 KiB", "[threads]") {
  auto weights = make<net::parameters>();
  initialize<net>(*weights, 1);
  const auto prompt = tokens(12);
  const auto written = [&](const std::function<void(std::function<void()>)>& where) {
    std::vector<std::vector<token>> all;
    where([&] {
      const auto write = [&](auto&& writer) {
        all.emplace_back();
        writer.write(prompt, 40, [&](token t) { all.back().push_back(t); });
      };
      for (const int threads : {1, 2}) {
        write(generator<net>(*weights, {.seed = 1, .threads = threads}));
        write(generator<net, bf16>(*weights, {.seed = 1, .threads = threads}));
        write(generator<net, std::int8_t>(*weights, {.seed = 1, .threads = threads}));
      }
      const auto packed = pack<float>(*weights);
      const buffer memory(generator<net>::bytes);  // the caller's
      write(generator<net>(*packed, memory.bytes(), {.seed = 1, .threads = 1}));
    });
    return all;
  };
  const auto here = written([](const auto& f) { f(); });
  CHECK(here == written([](auto f) { on_a_stack_of(256 * 1024, f); }));

  owned<net::parameters> trained;
  on_a_stack_of(256 * 1024, [&] { trained = train(1, 2); });
  CHECK(std::memcmp(trained.get(), train(1, 2).get(), sizeof(net::parameters)) == 0);
  on_a_stack_of(256 * 1024, [&] { trained = train(2, 2); });
  CHECK(std::memcmp(trained.get(), train(1, 2).get(), sizeof(net::parameters)) == 0);
}

// g++'s OpenMP would wait forever for threads that a forked process lacks.
TEST_CASE("training goes on in a forked process", "[threads]") {
  const auto expected = train(2, 3);  // starts the threads before the fork
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(60);
    const auto found = train(2, 3);
    ::_exit(std::memcmp(found.get(), expected.get(), sizeof(net::parameters)) == 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a negative number of threads is an error", "[threads]") {
  auto weights = make<net::parameters>();
  const char* const expected = "; expected 1 or more, or 0 for as many as OpenMP would use";
  CHECK(fails_with([] { return net::tape(1, 8, {-3}); }, "threads = -3", expected));
  CHECK(fails_with([] { return net::cache(1, 8, {-3}); }, "threads = -3", expected));
  CHECK(fails_with([&] { return generator<net>(*weights, {.threads = -1}); }, "threads = -1", expected));
  CHECK(fails_with([&] { return adamw<net>({}, {-2}).step(*weights, *weights); }, "threads = -2", expected));
  const buffer memory(net::cache_bytes(1, 8));
  CHECK(fails_with([&] { return net::cache(1, 8, memory.bytes(), {-3}); }, "threads = -3", expected));
  CHECK(fails_with([] { backend::cpu<float>::executor{-3}.run([](const auto&) {}); }, "threads = -3", expected));

  // The reference backend always has one thread, but it also refuses invalid numbers.
  using oracle = model<config{.vocab = 5, .context = 8, .width = 4, .depth = 1, .heads = 1}, backend::reference<float>>;
  auto small = make<oracle::parameters>();
  CHECK(fails_with([] { return oracle::tape(1, 8, {-3}); }, "threads = -3", expected));
  CHECK(fails_with([] { return oracle::cache(1, 8, {-3}); }, "threads = -3", expected));
  CHECK(fails_with([&] { return generator<oracle>(*small, {.threads = -1}); }, "threads = -1", expected));
  CHECK(fails_with([&] { return adamw<oracle>({}, {-2}).step(*small, *small); }, "threads = -2", expected));
  CHECK(fails_with([] { backend::reference<float>::executor{-3}.run([](const auto&) {}); }, "threads = -3", expected));
  CHECK(generator<oracle>(*small, {.threads = 7}).write({1}, 3, [](token) {}) == 3);
}

}  // namespace fathom::test
