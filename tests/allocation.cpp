// Checks that nothing is allocated once weights, tape, cache and generator are made.
//
// Counts the calls of malloc, calloc, realloc, aligned_alloc, posix_memalign, memalign, valloc, pvalloc and mmap by
// any thread of this program, which defines these functions itself and forwards to glibc. operator new calls malloc, and is
// counted with it. The address sanitizer has its own allocator; its hook counts the same calls, except for mmap. glibc's internal
// memory, such as the stack of a new thread, is not counted either, so the number of threads is checked too.
//
// Counting starts before the very first call. With one thread, no parallel region has run before in this program. With
// two, one empty region has: in its first region the OpenMP runtime starts its threads and allocates their memory. Only that is
// excluded.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <new>
#include <span>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/data/batches.hpp>
#include <fathom/generate/batch_generator.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/adamw.hpp>

#include "catch.hpp"

#if !defined(__GLIBC__)
#error "this test counts allocations through glibc; write the counterpart for this C library"
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FATHOM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FATHOM_SANITIZED 1
#endif
#endif

namespace {
std::atomic<bool> counting{false};
std::atomic<long> allocations{0};
void count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

#if defined(FATHOM_SANITIZED)

// As in <sanitizer/allocator_interface.h>, which g++ does not ship.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, std::size_t),
                                                         void (*)(const volatile void*));
namespace {
[[maybe_unused]] const int hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { count(); }, [](const volatile void*) {});
constexpr bool counts_mmap = false;
}  // namespace

#else

namespace {
constexpr bool counts_mmap = true;
}
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* __libc_valloc(std::size_t);
void* __libc_pvalloc(std::size_t);

void* malloc(std::size_t size) noexcept {
  count();
  return __libc_malloc(size);
}
void* calloc(std::size_t number, std::size_t size) noexcept {
  count();
  return __libc_calloc(number, size);
}
void* realloc(void* block, std::size_t size) noexcept {
  count();
  return __libc_realloc(block, size);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept {
  count();
  *block = __libc_memalign(alignment, size);
  return *block ? 0 : ENOMEM;
}
void* valloc(std::size_t size) noexcept {
  count();
  return __libc_valloc(size);
}
void* pvalloc(std::size_t size) noexcept {
  count();
  return __libc_pvalloc(size);
}
void* mmap(void* address, std::size_t length, int protection, int flags, int file, off_t offset) noexcept {
  count();
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, file, offset));
}
void* mmap64(void* address, std::size_t length, int protection, int flags, int file, off64_t offset) noexcept {
  count();
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, file, offset));
}
}

#endif

namespace {

/// The number of allocations while f runs.
template <class F>
long allocations_of(const F& f) {
  allocations = 0;
  counting = true;
  f();
  counting = false;
  return allocations;
}

long threads_of_this_program() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

/// Counts the allocations of f with `threads` threads.
template <class F>
void check_allocates_nothing(int threads, const F& f) {
  if (threads > 1) fathom::backend::cpu<float>::executor{threads}.run([](const auto&) {});  // starts the threads
  const long threads_before = threads_of_this_program();
  CHECK(allocations_of(f) == 0);
  CHECK(threads_of_this_program() == threads_before);
}

constexpr fathom::config config{
    .vocab = 50, .context = 24, .width = 32, .depth = 3, .heads = 2, .shortcut = {.depths = {0, 2}}};
using net = fathom::model<config>;

fathom::owned<net::parameters> some_weights() {
  auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 1);
  return weights;
}
std::vector<fathom::token> some_tokens(std::size_t count) {
  fathom::random numbers(1, 2);
  std::vector<fathom::token> tokens(count);
  for (auto& t : tokens) t = static_cast<fathom::token>(numbers.below(net::vocab));
  return tokens;
}

/// Keeps the compiler from removing an unused allocation.
void use(void* block) { asm volatile("" : : "r"(block) : "memory"); }

}  // namespace

// This test is first: no parallel region has run yet.
TEST_CASE("decoding with one thread allocates nothing", "[allocation]") {
  const auto ready = fathom::pack<float>(*some_weights());
  const auto tokens = some_tokens(24);
  net::cache cache(1, 24, {1});
  check_allocates_nothing(1, [&] {
    net::prefill(*ready, std::span(tokens).first(3), cache);
    for (std::size_t i = 3; i < 24; ++i) net::decode(*ready, tokens[i], cache);
    cache.truncate(5);
    net::decode(*ready, tokens[5], cache);
  });
}

TEST_CASE("every kind of allocation is counted", "[allocation]") {
  void* block = nullptr;
  CHECK(allocations_of([] {}) == 0);
  CHECK(allocations_of([&] { use(block = std::malloc(10)); }) == 1);
  CHECK(allocations_of([&] { use(block = std::realloc(block, 10000)); }) == 1);
  std::free(block);
  CHECK(allocations_of([&] { use(block = std::calloc(10, 10)); }) == 1);
  std::free(block);
  CHECK(allocations_of([&] { use(block = std::aligned_alloc(64, 128)); }) == 1);
  std::free(block);
  CHECK(allocations_of([&] { REQUIRE(::posix_memalign(&block, 64, 128) == 0); }) == 1);
  std::free(block);
  CHECK(allocations_of([&] { use(block = ::operator new(10)); }) == 1);
  ::operator delete(block);
  CHECK(allocations_of([&] { use(block = ::operator new(10, std::align_val_t{64})); }) == 1);
  ::operator delete(block, std::align_val_t{64});
  CHECK(allocations_of([&] { const fathom::buffer memory(1000); }) == 1);
  const auto map = [&] { block = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); };
  CHECK(allocations_of(map) == (counts_mmap ? 1 : 0));
  ::munmap(block, 4096);
  // Also from another thread of a team.
  CHECK(allocations_of([&] {
          fathom::backend::cpu<float>::executor{2}.run([](const auto& on) {
            if (on.rank() == on.size() - 1) std::free(std::malloc(10));
          });
        }) >= 1);
}

TEST_CASE("decoding allocates nothing", "[allocation]") {
  const int threads = GENERATE(1, 2);
  CAPTURE(threads);
  const auto weights = some_weights();
  const auto tokens = some_tokens(24);
  const auto check = [&](const auto& ready) {
    net::cache cache(2, 24, {threads});
    check_allocates_nothing(threads, [&] {
      net::prefill(*ready, std::span(tokens).first(3), cache, 0);
      net::prefill(*ready, std::span(tokens).first(20), cache, 1);
      const fathom::token next[] = {1, 2};
      for (int i = 0; i < 4; ++i) net::decode(*ready, next, cache);
      cache.truncate(1, 1);
      for (int i = 0; i < 4; ++i) net::decode(*ready, next, cache);
    });
  };
  check(fathom::pack<float>(*weights));
  check(fathom::pack<fathom::bf16>(*weights));
  check(fathom::pack<std::int8_t>(*weights));
}

TEST_CASE("a generator allocates nothing while it writes, past the context too", "[allocation]") {
  const int threads = GENERATE(1, 2);
  CAPTURE(threads);
  const auto weights = some_weights();
  const auto prompt = some_tokens(30);
  for (const float temperature : {0.0f, 0.8f}) {
    fathom::generator<net, fathom::bf16> writer(
        *weights, {.temperature = temperature, .top_k = 20, .top_p = 0.9f, .seed = 1, .threads = threads});
    fathom::index written = 0, again = 0;
    check_allocates_nothing(threads, [&] {
      written = writer.write(prompt, 500, [](fathom::token) { return true; });  // slides some forty times
      again = writer.write(std::span(prompt).first(1), 100, [](fathom::token t) { return t >= 0; });
    });
    CHECK(written == 500);
    CHECK(again == 100);
  }
}

TEST_CASE("many sequences allocate nothing after construction", "[allocation]") {
  const int threads = GENERATE(1, 2);
  CAPTURE(threads);
  const auto weights = some_weights();
  const auto prompt = some_tokens(20);
  fathom::batch_generator<net, std::int8_t, fathom::bf16> batch(weights, {.sequences = 3, .prefixes = 1, .threads = threads});
  fathom::index written = 0;
  check_allocates_nothing(threads, [&] {
    const auto prefix = batch.hold(std::span(prompt).first(5));
    for (int n = 0; n < 60; ++n) {
      batch.join(std::span(prompt).first(static_cast<std::size_t>(1 + n % 20)), {.top_k = 20, .count = 7});
      if (const auto id = batch.join_after(*prefix, {1, 2}); id && n % 5 == 0) batch.leave(*id);
      written += std::ssize(batch.step());
    }
    batch.release(*prefix);
  });
  CHECK(written > 60);
}

TEST_CASE("a generator over packed weights and memory of the caller's allocates nothing at all", "[allocation]") {
  using generator = fathom::generator<net, std::int8_t>;
  static net::packed<std::int8_t> ready;
  alignas(fathom::alignment) static std::byte memory[generator::bytes];
  const auto weights = some_weights();
  net::visit_tensors([](auto, const auto& from, auto& to) { net::backend::pack_tensor<std::int8_t>(from, to); }, *weights, ready);
  const auto prompt = some_tokens(30);
  fathom::index written = 0;
  check_allocates_nothing(1, [&] {
    generator writer(ready, memory, {.top_k = 20, .seed = 1, .threads = 1});
    written = writer.write(prompt, 100, [](fathom::token) { return true; });
  });
  CHECK(written == 100);
}

TEST_CASE("training steps allocate nothing", "[allocation]") {
  const int threads = GENERATE(1, 2);
  CAPTURE(threads);
  const auto weights = some_weights();
  const auto gradients = fathom::make<net::parameters>();
  const auto tokens = some_tokens(1000);
  net::tape tape(4, 24, {threads});
  fathom::adamw<net> optimizer({}, {threads});
  fathom::data::windows windows(tokens, {.batch = 4, .tokens = 24, .steps = 10, .seed = 1});
  double loss = 0;
  check_allocates_nothing(threads, [&] {
    for (fathom::index step = 0; step < 10; ++step) {
      const fathom::batch& batch = windows.at(step);
      net::forward(*weights, batch, tape);
      net::backward(*weights, batch, tape, *gradients);
      net::forward_backward(*weights, batch, tape, *gradients);
      net::forward(*weights, {batch.inputs, {}, 4, 24}, tape);
      net::forward(*weights, batch, tape);
      optimizer.step(*weights, *gradients);
      loss = tape.loss();
    }
  });
  CHECK(loss > 0);
}
