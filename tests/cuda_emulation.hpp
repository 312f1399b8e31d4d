// Runs the source of CUDA kernels on the CPU, so that they can be tested against backend::reference without a GPU.
// Any C++20 compiler compiles it, without the CUDA Toolkit. Include it before the .cuh files:
//
//   #include "cuda_emulation.hpp"                    // defines FATHOM_CUDA_EMULATION
//   #include <fathom/backend/cuda/attention.cuh>     // through fathom/backend/cuda/device.cuh
//
//   fathom::emulation::set_seed(7);                  // another order of threads and blocks; 0: in order
//   fathom::cuda::launch("name", {grid, block, shared_bytes}, stream, kernel<...>, arguments...);   // device.cuh
//
// Provided to kernels:
//   threadIdx, blockIdx, blockDim, gridDim, dim3, uint3, float2, float4, int2, int4, uint2, uint4, make_...
//   __global__, __device__, __host__, __forceinline__, __launch_bounds__      (nothing, or inline)
//   __syncthreads(), __syncthreads_count/and/or(p), __syncwarp(mask)
//   __shfl_sync, __shfl_xor_sync, __shfl_down_sync, __shfl_up_sync, __ballot_sync, __any_sync, __all_sync, __reduce_add_sync,
//   __reduce_max_sync, __reduce_min_sync
//   atomicAdd, atomicMax, atomicMin, atomicExch, atomicCAS, atomicOr, __threadfence(), __nanosleep(n)
//   __expf, __logf, rsqrtf, __fmaf_rn, __fdividef, __frcp_rn, __float_as_uint, __uint_as_float, __ldg, __popc, ...
// and device.cuh's own functions (matrix instructions, asynchronous copies, shared memory, named barriers), which call
// functions of the same names in fathom::emulation. Instead of `__shared__`, use FATHOM_CUDA_SHARED and dynamic_shared.
//
// Execution. Threads are fibers of one thread of the operating system, and run until they synchronise: at a barrier,
// an instruction of a warp, or an atomic operation. The seed determines the next thread, and the order of the
// blocks, which run one after the other (cooperative launches: all at once). With some seeds, a kernel that lacks a barrier
// then reads data too early: different bits, or NaN. Run with several seeds, and compare bits.
//   - Shared memory is NaN (all bits set) when a block starts. The address sanitizer guards its end.
//   - An asynchronous copy makes its destination NaN when it is issued, and reads its source when it is waited for.
//   - Errors, each a fathom::emulation::error that names kernel, block, thread and line: a barrier or an instruction of
//     a warp that not all of its threads reach, or from different lines; a thread that ends while others wait, or
//     before waiting for its copies; shared addresses outside of shared memory, or misaligned; deadlock.
// It cannot show races between threads that do not synchronise (compute-sanitizer does), timing, or the last bits
// of exp2 and of the hardware's sums.
#pragma once

#define FATHOM_CUDA_EMULATION 1

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define FATHOM_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FATHOM_EMULATION_ASAN 1
#endif
#endif
#if defined(FATHOM_EMULATION_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ---- CUDA's types ----------------------------------------------------------------------------------------------------

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}  // NOLINT: like CUDA's
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using cudaStream_t = struct CUstream_st*;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ [[gnu::noinline]]
#define __launch_bounds__(...)

inline uint3 threadIdx, blockIdx;  // of the running thread
inline dim3 blockDim, gridDim;

// ---- Fibers and their scheduler --------------------------------------------------------------------------------------

namespace fathom::emulation {

struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A source line: the location of the call, for functions that have it as their last parameter.
struct place {
  const char* file;
  int line;
  static constexpr place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
  [[nodiscard]] std::string text() const { return std::string(file) + ":" + std::to_string(line); }
  bool operator==(const place& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
};

struct asynchronous_copy {
  std::byte* to;
  const std::byte* from;
  std::size_t bytes, there;  // bytes after the first `there` become 0
};

struct block_state;
struct warp_state;

struct fiber {
  static constexpr std::size_t stack_bytes = std::size_t{1} << 18, guard_bytes = 4096;

  block_state* block = nullptr;
  warp_state* warp = nullptr;
  unsigned lane = 0;
  uint3 index{};
  bool finished = false;
  const char* waits_for = nullptr;
  place waits_at{"", 0};
  std::vector<std::vector<asynchronous_copy>> groups;  // committed, oldest first
  std::vector<asynchronous_copy> open;                 // not yet committed

  std::byte* stack = nullptr;
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  // the address sanitizer's
#if !defined(__x86_64__)
  ucontext_t context;
#endif

  fiber() {
    void* const memory = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, guard_bytes, PROT_NONE);
    stack = static_cast<std::byte*>(memory) + guard_bytes;
  }
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;
  ~fiber() { munmap(stack - guard_bytes, guard_bytes + stack_bytes); }
};

/// A joint instruction of a mask's lanes.
struct meeting {
  unsigned mask = 0, arrived = 0;
  const char* what = nullptr;
  place at{"", 0};
  const void* in[32];
  void* out[32];
};

struct warp_state {
  unsigned lanes = 0, finished = 0;  // existing lanes; finished lanes
  unsigned waiting = 0;              // meetings that some lanes have come to, and others not
  std::array<fiber*, 32> fibers{};
  std::array<meeting, 32> meetings;  // by the lowest lane of their mask
  std::vector<fiber*> ready;
};

struct barrier_state {
  unsigned expected = 0;
  place at{"", 0};
  unsigned arrived = 0;
  std::vector<fiber*> waiting;
  unsigned true_predicates = 0, result = 0;
};

struct release {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using memory_block = std::unique_ptr<std::byte, release>;

/// `bytes` bytes, all bits set: NaN as float and as bf16.
inline memory_block poisoned(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, std::max<std::size_t>(bytes, 1)) != 0) throw std::bad_alloc();
  std::memset(memory, 0xff, bytes);
  return memory_block(static_cast<std::byte*>(memory));
}

struct block_state {
  uint3 index{};
  unsigned finished = 0;
  unsigned waiting = 0;  // barriers that some threads have come to, and others not
  std::vector<warp_state> warps;
  std::array<barrier_state, 16> barriers;
  memory_block dynamic;  // shared memory
  std::size_t dynamic_bytes = 0;
  struct variable {
    const void* key;
    memory_block memory;
    std::size_t bytes;
  };
  std::vector<variable> variables;

  /// Makes the block, new or of a launch that ended well, ready for `threads` threads. What is waited at is as after any use.
  void begin(std::size_t threads, std::size_t shared_bytes) {
    finished = 0;
    warps.resize((threads + 31) / 32);
    for (warp_state& w : warps) {
      w.lanes = w.finished = 0;
      w.fibers.fill(nullptr);
    }
    dynamic_bytes = shared_bytes;
    dynamic = poisoned(shared_bytes);
  }
  /// Frees shared memory, so that the address sanitizer sees later uses.
  void end() {
    dynamic.reset();
    variables.clear();
  }
  [[nodiscard]] bool owns(const void* address, std::size_t bytes) const {
    const auto inside = [&](const std::byte* data, std::size_t size) {
      const auto first = reinterpret_cast<std::uintptr_t>(data), at = reinterpret_cast<std::uintptr_t>(address);
      return at >= first && at - first + bytes <= size;
    };
    if (inside(dynamic.get(), dynamic_bytes)) return true;
    return std::any_of(variables.begin(), variables.end(), [&](const variable& v) { return inside(v.memory.get(), v.bytes); });
  }
};

struct machine {
  std::uint64_t seed = 0, random_state = 0;
  const char* kernel = "";
  std::function<void()> body;
  std::function<void(std::function<void()>)> launches;  // receives each launch; empty: it runs at once (cuda_library.hpp)
  std::vector<std::unique_ptr<fiber>> pool;
  std::vector<std::unique_ptr<block_state>> blocks;  // alive
  std::vector<std::unique_ptr<block_state>> ended;   // to be used again: making one takes longer than most kernels
  std::vector<warp_state*> ready;                    // warps with runnable threads
  warp_state* current_warp = nullptr;
  fiber* current = nullptr;
  std::exception_ptr failure;
  void* stack_pointer = nullptr;  // of the scheduler
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_size = 0;
#if !defined(__x86_64__)
  ucontext_t context;
#endif

  std::uint64_t random() {  // splitmix64
    std::uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random() % n); }
};
inline machine the_machine;

/// Changes the order of threads and blocks in later launches.
inline void set_seed(std::uint64_t seed) { the_machine.seed = seed; }

[[noreturn]] inline void fail(const std::string& what, place at) {
  std::string where;
  if (const fiber* f = the_machine.current) {
    const auto triple = [](const uint3& i) {
      return std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z);
    };
    where = ": block " + triple(f->block->index) + ", thread " + triple(f->index);
  }
  throw error("emulation: " + std::string(the_machine.kernel) + where + ": " + what + " (" + at.text() + ")");
}

#if defined(__x86_64__)
/// Saves the call-preserved registers and the stack pointer in *from, and resumes at `to`.
[[gnu::naked, gnu::noinline, gnu::no_sanitize_address]] inline void switch_stacks(void** /*rdi*/, void* /*rsi*/) {
  asm("pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
      "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
      "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}
#endif

inline void leave(fiber& f, [[maybe_unused]] bool forever) {
#if defined(FATHOM_EMULATION_ASAN)
  __sanitizer_start_switch_fiber(forever ? nullptr : &f.fake_stack, the_machine.stack_bottom, the_machine.stack_size);
#endif
#if defined(__x86_64__)
  switch_stacks(&f.stack_pointer, the_machine.stack_pointer);
#else
  swapcontext(&f.context, &the_machine.context);
#endif
#if defined(FATHOM_EMULATION_ASAN)
  __sanitizer_finish_switch_fiber(f.fake_stack, &the_machine.stack_bottom, &the_machine.stack_size);
#endif
}
inline void enter(fiber& f) {
  the_machine.current = &f;
  threadIdx = f.index;
  blockIdx = f.block->index;
#if defined(FATHOM_EMULATION_ASAN)
  __sanitizer_start_switch_fiber(&the_machine.fake_stack, f.stack, fiber::stack_bytes);
#endif
#if defined(__x86_64__)
  switch_stacks(&the_machine.stack_pointer, f.stack_pointer);
#else
  swapcontext(&the_machine.context, &f.context);
#endif
#if defined(FATHOM_EMULATION_ASAN)
  __sanitizer_finish_switch_fiber(the_machine.fake_stack, nullptr, nullptr);
#endif
  the_machine.current = nullptr;
}

inline void make_ready(fiber& f) {
  f.waits_for = nullptr;
  if (f.warp->ready.empty()) the_machine.ready.push_back(f.warp);
  f.warp->ready.push_back(&f);
}
/// Runs other threads until one makes this thread ready.
inline void wait(const char* what, place at) {
  fiber& f = *the_machine.current;
  f.waits_for = what;
  f.waits_at = at;
  leave(f, false);
}
/// Lets others run, those of other warps first.
inline void yield() {
  machine& m = the_machine;
  make_ready(*m.current);
  const auto found = std::find(m.ready.begin(), m.ready.end(), m.current->warp);
  std::rotate(found, found + 1, m.ready.end());
  m.current_warp = nullptr;
  leave(*m.current, false);
}

[[noreturn]] inline void fiber_main() {
#if defined(FATHOM_EMULATION_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &the_machine.stack_bottom, &the_machine.stack_size);
#endif
  fiber& f = *the_machine.current;
  try {
    the_machine.body();
    if (!f.open.empty() || !f.groups.empty()) fail("the thread ends with copies that it has not waited for", place::here());
    if (f.block->waiting)
      for (const barrier_state& b : f.block->barriers)
        if (!b.waiting.empty() && b.expected == blockDim.x * blockDim.y * blockDim.z)
          fail("the thread ends while others wait at the barrier", b.at);
    if (f.warp->waiting)
      for (const meeting& m : f.warp->meetings)
        if (m.arrived && (m.mask >> f.lane & 1)) fail(std::string("the thread ends while its warp waits at ") + m.what, m.at);
  } catch (...) {
    if (!the_machine.failure) the_machine.failure = std::current_exception();
  }
  f.finished = true;
  f.warp->finished |= 1u << f.lane;
  ++f.block->finished;
  leave(f, true);
  std::abort();
}

inline void prepare(fiber& f) {
  f.finished = false;
  f.groups.clear();
  f.open.clear();
  f.fake_stack = nullptr;
#if defined(FATHOM_EMULATION_ASAN)
  // The last launch leaves frames behind: fiber_main's, or, if it failed, more. A new stack may lie where others were.
  auto* const last = f.stack_pointer ? static_cast<std::byte*>(f.stack_pointer) : f.stack;
  __asan_unpoison_memory_region(last, static_cast<std::size_t>(f.stack + fiber::stack_bytes - last));
#endif
#if defined(__x86_64__)
  auto* const top = reinterpret_cast<void**>(f.stack + fiber::stack_bytes);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(&fiber_main);  // the return address of switch_stacks, with the stack as after a call
  f.stack_pointer = top - 8;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = fiber::stack_bytes;
  f.context.uc_link = nullptr;
  makecontext(&f.context, reinterpret_cast<void (*)()>(&fiber_main), 0);
#endif
}

/// The next thread. In order: one warp as long as possible, lane after lane. With a seed: any lane of a warp; odd seeds
/// rarely leave the warp, so that it runs far ahead, and even seeds often.
inline fiber& next() {
  machine& m = the_machine;
  std::size_t w = 0;
  if (m.seed == 0) {
    const auto found = std::find(m.ready.begin(), m.ready.end(), m.current_warp);
    w = found == m.ready.end() ? 0 : static_cast<std::size_t>(found - m.ready.begin());
  } else {
    const auto found = std::find(m.ready.begin(), m.ready.end(), m.current_warp);
    const bool stay = found != m.ready.end() && m.below(m.seed % 2 ? 256 : 4) != 0;
    w = stay ? static_cast<std::size_t>(found - m.ready.begin()) : m.below(m.ready.size());
  }
  warp_state& warp = *m.ready[w];
  m.current_warp = &warp;
  const std::size_t i = m.seed == 0 ? 0 : m.below(warp.ready.size());
  fiber& f = *warp.ready[i];
  if (m.seed == 0) {
    warp.ready.erase(warp.ready.begin());
  } else {
    std::swap(warp.ready[i], warp.ready.back());
    warp.ready.pop_back();
  }
  if (warp.ready.empty()) m.ready.erase(m.ready.begin() + static_cast<std::ptrdiff_t>(w));
  return f;
}

/// Runs the blocks `first` to `last` of `order` at once.
inline void run_blocks(const std::vector<uint3>& order, std::size_t first, std::size_t last, std::size_t shared_bytes) {
  machine& m = the_machine;
  const std::size_t threads = std::size_t{blockDim.x} * blockDim.y * blockDim.z;
  while (m.pool.size() < threads * (last - first)) m.pool.push_back(std::make_unique<fiber>());
  m.blocks.clear();
  m.ready.clear();
  m.current_warp = nullptr;
  m.failure = nullptr;
  for (std::size_t b = first; b < last; ++b) {
    if (m.ended.empty()) m.ended.push_back(std::make_unique<block_state>());
    m.blocks.push_back(std::move(m.ended.back()));
    m.ended.pop_back();
    block_state& block = *m.blocks.back();
    block.index = order[b];
    block.begin(threads, shared_bytes);
    for (std::size_t t = 0; t < threads; ++t) {
      fiber& f = *m.pool[(b - first) * threads + t];
      f.block = &block;
      f.warp = &block.warps[t / 32];
      f.lane = static_cast<unsigned>(t % 32);
      f.warp->lanes |= 1u << f.lane;
      f.warp->fibers[f.lane] = &f;
      const auto at = static_cast<unsigned>(t);
      f.index = {at % blockDim.x, at / blockDim.x % blockDim.y, at / blockDim.x / blockDim.y};
      prepare(f);
      make_ready(f);
    }
  }
  for (std::size_t yields = 0; !m.ready.empty() && !m.failure; ++yields) {
    enter(next());
    if (yields > std::size_t{1'000'000'000}) fail("threads wait for each other for ever", place::here());
  }
  if (m.failure) std::rethrow_exception(m.failure);
  for (const auto& block : m.blocks)
    for (const warp_state& warp : block->warps)
      for (const fiber* f : warp.fibers)
        if (f && !f->finished) {
          m.current = const_cast<fiber*>(f);
          const std::string what = std::string("deadlock: the thread waits at ") + (f->waits_for ? f->waits_for : "nothing") +
                                   " for others that do not come";
          struct reset {
            ~reset() { the_machine.current = nullptr; }
          } nobody;
          fail(what, f->waits_at);
        }
  for (auto& block : m.blocks) {
    block->end();
    m.ended.push_back(std::move(block));
  }
  m.blocks.clear();
}

/// Runs body() as every thread of every block.
inline void run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative,
                std::function<void()> body) {
  machine& m = the_machine;
  m.kernel = kernel;
  m.body = std::move(body);
  m.random_state = m.seed;
  m.current = nullptr;
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) fail("a block has 1 to 1024 threads", place::here());
  if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535)
    fail("a grid has 1 to 2147483647 x 65535 x 65535 blocks", place::here());
  if (shared_bytes > 232448 - 1024) fail("a block has at most 227 KiB of shared memory", place::here());
  blockDim = block;
  gridDim = grid;
  std::vector<uint3> order;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) order.push_back({x, y, z});
  if (m.seed)
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[m.below(i)]);
  if (cooperative) {
    run_blocks(order, 0, order.size(), shared_bytes);
  } else {
    for (std::size_t i = 0; i < order.size(); ++i) run_blocks(order, i, i + 1, shared_bytes);
  }
}

// ---- Synchronisation -------------------------------------------------------------------------------------------------

/// Waits for `threads` threads at the block's barrier `id`; returns the number of those whose predicate was true.
inline unsigned barrier(unsigned id, unsigned threads, bool predicate, place at) {
  fiber& f = *the_machine.current;
  if (id >= 16) fail("barriers are numbered 0 to 15", at);
  if (threads == 0 || (threads % 32 != 0 && threads != blockDim.x * blockDim.y * blockDim.z))
    fail("a barrier is of whole warps", at);
  barrier_state& b = f.block->barriers[id];
  if (threads == blockDim.x * blockDim.y * blockDim.z && f.block->finished)
    fail("a barrier that not all threads come to: some have ended", at);
  if (b.arrived == 0) {
    ++f.block->waiting;
    b.expected = threads;
    b.at = at;
    b.true_predicates = 0;
  } else if (b.expected != threads || !(b.at == at)) {
    fail("a barrier that threads come to from different lines, the other is " + b.at.text(), at);
  }
  b.true_predicates += predicate;
  if (++b.arrived == b.expected) {
    b.arrived = 0;
    --f.block->waiting;
    b.result = b.true_predicates;
    const std::vector<fiber*> waiting = std::exchange(b.waiting, {});
    for (fiber* other : waiting) make_ready(*other);
    make_ready(f);  // the last thread gets no head start
    leave(f, false);
  } else {
    b.waiting.push_back(&f);
    wait("a barrier", at);
  }
  return b.result;
}

/// The lanes of `mask` contribute their values; the last to arrive computes the results of all: compute(lanes, in, out).
template <class In, class Out, class F>
Out meet(const char* what, unsigned mask, const In& in, const F& compute, place at) {
  fiber& f = *the_machine.current;
  if (!(mask >> f.lane & 1)) fail(std::string(what) + " by a thread that is not in its mask", at);
  if (mask & ~f.warp->lanes) fail(std::string(what) + " with a mask of threads that do not exist", at);
  meeting& m = f.warp->meetings[static_cast<std::size_t>(std::countr_zero(mask))];
  if (m.arrived == 0) {
    ++f.warp->waiting;
    m.mask = mask;
    m.what = what;
    m.at = at;
  } else if (m.mask != mask || (m.what != what && std::strcmp(m.what, what) != 0) || !(m.at == at)) {
    fail(std::string(what) + " while other threads of the warp are at " + m.what + " " + m.at.text(), at);
  }
  if (mask & f.warp->finished) fail(std::string(what) + " by a warp of which threads have ended", at);
  Out out{};
  m.in[f.lane] = &in;
  m.out[f.lane] = &out;
  m.arrived |= 1u << f.lane;
  if (m.arrived != mask) {
    wait(what, at);
    return out;
  }
  std::array<const In*, 32> ins{};
  std::array<Out*, 32> outs{};
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) {
      ins[lane] = static_cast<const In*>(m.in[lane]);
      outs[lane] = static_cast<Out*>(m.out[lane]);
    }
  m.arrived = 0;
  --f.warp->waiting;
  compute(ins, outs);
  for (unsigned lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) && lane != f.lane) make_ready(*f.warp->fibers[lane]);
  return out;
}

/// Every lane gets the value of the lane from(lane, its argument).
template <class T, class F>
T shuffle(const char* what, unsigned mask, T value, int argument, const F& from, place at) {
  struct given {
    T value;
    int argument;
  };
  return meet<given, T>(
      what, mask, given{value, argument},
      [&](const auto& in, auto& out) {
        for (int lane = 0; lane < 32; ++lane) {
          if (!out[static_cast<std::size_t>(lane)]) continue;
          const int source = from(lane, in[static_cast<std::size_t>(lane)]->argument);
          if (source < 0 || source > 31 || !in[static_cast<std::size_t>(source)])
            fail(std::string(what) + " from a lane that takes no part: " + std::to_string(source), at);
          *out[static_cast<std::size_t>(lane)] = in[static_cast<std::size_t>(source)]->value;
        }
      },
      at);
}
template <class T, class F>
T reduce(const char* what, unsigned mask, T value, const F& combine, place at) {
  return meet<T, T>(
      what, mask, value,
      [&](const auto& in, auto& out) {
        T total{};
        bool first = true;
        for (const T* x : in)
          if (x) total = std::exchange(first, false) ? *x : combine(total, *x);
        for (T* x : out)
          if (x) *x = total;
      },
      at);
}

// ---- device.cuh's functions ------------------------------------------------------------------------------------------

/// The block's own variable of this type and tag: T [N].
template <class T, std::size_t N, class Tag>
T* static_shared(Tag) {
  static const char key = 0;
  auto& variables = the_machine.current->block->variables;
  for (const auto& v : variables)
    if (v.key == &key) return reinterpret_cast<T*>(v.memory.get());
  variables.push_back({&key, poisoned(sizeof(T) * N), sizeof(T) * N});
  return reinterpret_cast<T*>(variables.back().memory.get());
}
[[nodiscard]] inline std::byte* dynamic_shared() { return the_machine.current->block->dynamic.get(); }

inline void check_shared(const char* what, const void* address, std::size_t bytes, place at) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0)
    fail(std::string(what) + ": a shared address that is no multiple of " + std::to_string(bytes), at);
  if (!the_machine.current->block->owns(address, bytes)) fail(std::string(what) + ": not in shared memory", at);
}

/// cp.async: the first `there` of `bytes` bytes, the rest 0.
inline void copy_async(void* to, const void* from, std::size_t bytes, std::size_t there, place at) {
  check_shared("cp.async", to, bytes, at);
  if (there && reinterpret_cast<std::uintptr_t>(from) % bytes != 0)
    fail("cp.async: a global address that is no multiple of " + std::to_string(bytes), at);
  std::memset(to, 0xff, bytes);
  the_machine.current->open.push_back({static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes, there});
}
inline void commit_copies() {
  fiber& f = *the_machine.current;
  f.groups.push_back(std::exchange(f.open, {}));
}
inline void wait_copies(std::size_t but) {
  fiber& f = *the_machine.current;
  const std::size_t count = f.groups.size() > but ? f.groups.size() - but : 0;
  for (std::size_t g = 0; g < count; ++g)
    for (const auto& c : f.groups[g]) {
      if (c.there) std::memcpy(c.to, c.from, c.there);
      std::memset(c.to + c.there, 0, c.bytes - c.there);
    }
  f.groups.erase(f.groups.begin(), f.groups.begin() + static_cast<std::ptrdiff_t>(count));
}

[[nodiscard]] inline float bf16_half(std::uint32_t word, unsigned half) {
  return std::bit_cast<float>(half ? word & 0xffff0000u : word << 16);
}

/// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: d [16, 8] += a [16, 16] b [16, 8]. Fragments as in the PTX ISA's section
/// "Matrix Fragments for mma.m16n8k16 with floating point type"; with group = lane / 4, member = lane % 4:
///   a[r], halves h:  row group + (r % 2 ? 8 : 0),  column 2 member + h + (r / 2 ? 8 : 0)
///   b[r], halves h:  row 2 member + h + 8 r,       column group
///   d[r]:            row group + (r / 2 ? 8 : 0),  column 2 member + r % 2
inline void mma(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], place at) {
  struct operands {
    std::uint32_t a[4], b[2];
    float c[4];
  };
  struct result {
    float d[4];
  };
  const operands mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {d[0], d[1], d[2], d[3]}};
  const result r = meet<operands, result>(
      "mma", 0xffffffffu, mine,
      [](const auto& in, auto& out) {
        float left[16][16], right[16][8], sum[16][8];
        for (unsigned lane = 0; lane < 32; ++lane) {
          const unsigned group = lane / 4, member = lane % 4;
          for (unsigned i = 0; i < 4; ++i)
            for (unsigned h = 0; h < 2; ++h)
              left[group + (i % 2 ? 8 : 0)][2 * member + h + (i / 2 ? 8 : 0)] = bf16_half(in[lane]->a[i], h);
          for (unsigned i = 0; i < 2; ++i)
            for (unsigned h = 0; h < 2; ++h) right[2 * member + h + 8 * i][group] = bf16_half(in[lane]->b[i], h);
          for (unsigned i = 0; i < 4; ++i) sum[group + (i / 2 ? 8 : 0)][2 * member + i % 2] = in[lane]->c[i];
        }
        for (unsigned i = 0; i < 16; ++i)
          for (unsigned k = 0; k < 16; ++k)
            for (unsigned j = 0; j < 8; ++j) sum[i][j] += left[i][k] * right[k][j];
        for (unsigned lane = 0; lane < 32; ++lane)
          for (unsigned i = 0; i < 4; ++i)
            out[lane]->d[i] = sum[lane / 4 + (i / 2 ? 8 : 0)][2 * (lane % 4) + i % 2];
      },
      at);
  for (int i = 0; i < 4; ++i) d[i] = r.d[i];
}

/// ldmatrix.sync.aligned.m8n8.x4(.trans).shared.b16: four matrices of 8 rows of 8 halves (16 bytes); lane l passes the
/// address of row l % 8 of matrix l / 8. Lane l gets in r[i] elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of matrix i;
/// transposed, of column l / 4 (PTX ISA, "ldmatrix").
inline void load_matrices(std::uint32_t (&r)[4], const void* row, bool transposed, place at) {
  check_shared("ldmatrix", row, 16, at);
  struct result {
    std::uint32_t r[4];
  };
  const result got = meet<const void*, result>(
      transposed ? "ldmatrix.trans" : "ldmatrix", 0xffffffffu, row,
      [&](const auto& in, auto& out) {
        for (unsigned i = 0; i < 4; ++i) {
          std::uint16_t matrix[8][8];
          for (unsigned n = 0; n < 8; ++n) std::memcpy(matrix[n], *in[8 * i + n], 16);
          for (unsigned lane = 0; lane < 32; ++lane) {
            const unsigned line = lane / 4, element = 2 * (lane % 4);
            const std::uint32_t low = transposed ? matrix[element][line] : matrix[line][element];
            const std::uint32_t high = transposed ? matrix[element + 1][line] : matrix[line][element + 1];
            out[lane]->r[i] = low | high << 16;
          }
        }
      },
      at);
  for (int i = 0; i < 4; ++i) r[i] = got.r[i];
}

template <class... P, class... A>
void launch(const char* operation, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative, void (*kernel)(P...),
            A... arguments) {  // by value: the launch may run later; arrays decay to pointers
  const auto go = [=] { run(operation, grid, block, shared_bytes, cooperative, [=] { kernel(P(arguments)...); }); };
  if (the_machine.launches)
    the_machine.launches(go);
  else
    go();
}

}  // namespace fathom::emulation

// ---- CUDA's functions ------------------------------------------------------------------------------------------------

inline void __syncthreads(fathom::emulation::place at = fathom::emulation::place::here()) {
  fathom::emulation::barrier(0, blockDim.x * blockDim.y * blockDim.z, false, at);
}
inline int __syncthreads_count(int p, fathom::emulation::place at = fathom::emulation::place::here()) {
  return static_cast<int>(fathom::emulation::barrier(0, blockDim.x * blockDim.y * blockDim.z, p != 0, at));
}
inline int __syncthreads_or(int p, fathom::emulation::place at = fathom::emulation::place::here()) {
  return __syncthreads_count(p, at) != 0;
}
inline int __syncthreads_and(int p, fathom::emulation::place at = fathom::emulation::place::here()) {
  return __syncthreads_count(p, at) == static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, fathom::emulation::place at = fathom::emulation::place::here()) {
  fathom::emulation::meet<char, char>("__syncwarp", mask, 0, [](const auto&, auto&) {}, at);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              fathom::emulation::place at = fathom::emulation::place::here()) {
  const auto from = [=](int lane, int n) { return lane / width * width + n % width; };
  return fathom::emulation::shuffle("__shfl_sync", mask, value, source, from, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  fathom::emulation::place at = fathom::emulation::place::here()) {
  // If the source is in a later group of `width` lanes, a lane reads itself.
  const auto from = [=](int lane, int b) { return (lane ^ b) < (lane / width + 1) * width ? lane ^ b : lane; };
  return fathom::emulation::shuffle("__shfl_xor_sync", mask, value, bits, from, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   fathom::emulation::place at = fathom::emulation::place::here()) {
  const auto from = [=](int lane, int n) { return lane % width + n < width ? lane + n : lane; };
  return fathom::emulation::shuffle("__shfl_down_sync", mask, value, static_cast<int>(by), from, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 fathom::emulation::place at = fathom::emulation::place::here()) {
  const auto from = [=](int lane, int n) { return lane % width >= n ? lane - n : lane; };
  return fathom::emulation::shuffle("__shfl_up_sync", mask, value, static_cast<int>(by), from, at);
}
inline unsigned __ballot_sync(unsigned mask, int p, fathom::emulation::place at = fathom::emulation::place::here()) {
  const unsigned bit = p ? 1u << fathom::emulation::the_machine.current->lane : 0;
  return fathom::emulation::reduce("__ballot_sync", mask, bit, std::bit_or<unsigned>(), at);
}
inline int __any_sync(unsigned mask, int p, fathom::emulation::place at = fathom::emulation::place::here()) {
  return __ballot_sync(mask, p, at) != 0;
}
inline int __all_sync(unsigned mask, int p, fathom::emulation::place at = fathom::emulation::place::here()) {
  return __ballot_sync(mask, p, at) == mask;
}
template <class T>
T __reduce_add_sync(unsigned mask, T value, fathom::emulation::place at = fathom::emulation::place::here()) {
  static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
  return fathom::emulation::reduce("__reduce_add_sync", mask, value, std::plus<T>(), at);
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, fathom::emulation::place at = fathom::emulation::place::here()) {
  static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
  return fathom::emulation::reduce("__reduce_max_sync", mask, value, [](T a, T b) { return std::max(a, b); }, at);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, fathom::emulation::place at = fathom::emulation::place::here()) {
  static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
  return fathom::emulation::reduce("__reduce_min_sync", mask, value, [](T a, T b) { return std::min(a, b); }, at);
}

// Other threads may run before each of them, so that operations on one address come in any order.
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  fathom::emulation::yield();
  return std::exchange(*at, *at + value);
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  fathom::emulation::yield();
  return std::exchange(*at, std::max(*at, value));
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  fathom::emulation::yield();
  return std::exchange(*at, std::min(*at, value));
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  fathom::emulation::yield();
  return std::exchange(*at, value);
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  fathom::emulation::yield();
  return *at == expected ? std::exchange(*at, value) : *at;
}
inline unsigned atomicOr(unsigned* at, unsigned value) {
  fathom::emulation::yield();
  return std::exchange(*at, *at | value);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) { fathom::emulation::yield(); }

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1 / std::sqrt(x); }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>((std::uint64_t{x} * y) >> 32); }
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, std::type_identity_t<T> value) {
  *p = value;
}
