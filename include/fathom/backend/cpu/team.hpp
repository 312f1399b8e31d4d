// A team of threads that runs the same layers together: ranks, barrier, tasks, sums, and workspaces.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <new>
#include <span>
#include <thread>
#include <type_traits>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__GLIBC__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "fathom/backend/cpu/isa.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// What the ranks of a team share: a barrier that spins for a while and then yields its core (another thread may need
/// it), claims of tasks, and partial sums.
class meeting_point {
 public:
  /// Returns when all `size` ranks have arrived. The last to arrive calls f() before the others are released.
  template <class F>
  [[gnu::noinline]] void wait(int size, const F& f) {
    const unsigned turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      if (has_claims_.load(std::memory_order_relaxed)) {
        for (int r = 0; r < size && r < most_ranks; ++r)
          claimed_[static_cast<std::size_t>(r)].count.store(0, std::memory_order_relaxed);
        has_claims_.store(false, std::memory_order_relaxed);
      }
      f();
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
      if (spins < 4000)
        pause();
      else
        std::this_thread::yield();
  }

  static constexpr int most_ranks = 64;
  /// Makes the next barrier reset all claims; claim(owner) then counts through the tasks of rank `owner` from 0.
  void announce_claims() { has_claims_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] index claim(int owner) {
    return claimed_[static_cast<std::size_t>(owner)].count.fetch_add(1, std::memory_order_relaxed);
  }

  static constexpr index most_partials = 64;
  std::array<double, most_partials> partials{};
  std::array<const void*, static_cast<std::size_t>(most_ranks)> shown{};  // by each rank, to the others

 private:
  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
  }
  struct alignas(alignment) counter {
    std::atomic<index> count{0};
  };
  std::array<counter, static_cast<std::size_t>(most_ranks)> claimed_;
  alignas(alignment) std::atomic<bool> has_claims_{false};
  alignas(alignment) std::atomic<int> arrived_{0};
  alignas(alignment) std::atomic<unsigned> turn_{0};
};

/// The execution context: rank `rank()` of `size()` threads. Compute is the type of matrix products (float, double,
/// bf16), `scalar` the type of activations and weights.
template <class Compute, class Scalar>
class context {
 public:
  using scalar = Scalar;
  using compute = Compute;
  static constexpr index largest_head_width = 256;  // of attention: its workspace has room for no more

  /// `workspace`: this rank's own memory, aligned to fathom::alignment; may be empty.
  context(int rank, int size, meeting_point& meeting, std::span<std::byte> workspace = {})
      : rank_(rank), size_(size), meeting_(&meeting), workspace_(workspace) {}

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  /// Returns when all ranks have arrived; what they wrote before is then visible to all.
  void barrier() const {
    if (size_ > 1) meeting_->wait(size_, [] {});
    open_ = false;
  }

  /// Calls f(first, last) with this rank's share of [0, count). The next operation waits for all ranks; other code must
  /// call barrier() before it reads the results.
  template <class F>
  void share(index count, const F& f) const {
    settle();
    const index first = count * rank_ / size_, last = count * (rank_ + 1) / size_;
    if (first < last) f(first, last);
    open_ = true;
  }
  /// Calls f(0), ..., f(count - 1), shared among the ranks, and waits for all. A rank that has finished its share takes
  /// tasks of others, whose cores may be busy elsewhere. A task's result must not depend on which other tasks its rank
  /// runs, so that results do not depend on the number of threads.
  template <class F>
  void tasks(index count, const F& f) const {
    const auto call = [&f](index i) __attribute__((noinline)) { f(i); };  // one copy of f
    if (size_ == 1) {
      for (index i = 0; i < count; ++i) call(i);
    } else if (count == 1) {  // inside a barrier: one barrier, not one before and one after
      meeting_->wait(size_, [&] { call(0); });
      open_ = false;
    } else {
      settle();
      if (rank_ == 0) meeting_->announce_claims();
      for (int n = 0; n < size_; ++n) {
        const int owner = (rank_ + n) % size_;
        const index first = count * owner / size_, last = count * (owner + 1) / size_;
        if (size_ > meeting_point::most_ranks)  // no claims for so many ranks
          for (index i = first; n == 0 && i < last; ++i) call(i);
        else
          for (index i; (i = first + meeting_->claim(owner)) < last;) call(i);
      }
      barrier();
    }
  }
  /// In two steps: calls make(i, part) for this rank's share of i in [0, count), then, when all ranks are done,
  /// use(first, last, part_of) with its share of [0, users). Part is a room for numbers that the first step fills;
  /// part_of(i) is the one of i. Waits for all ranks.
  template <class Part, index Most, class Make, class Use>
  void share_parts(index count, const Make& make, index users, const Use& use) const {
    struct rooms {
      Part part[static_cast<std::size_t>(Most)];
    };
    settle();
    const int workers = std::min(size_, meeting_point::most_ranks);
    const auto begin_of = [&](int rank) { return count * rank / workers; };
    with_scratch<rooms>([&](rooms& mine) {
      if (rank_ < workers) {
        meeting_->shown[static_cast<std::size_t>(rank_)] = &mine;
        for (index i = begin_of(rank_); i < begin_of(rank_ + 1); ++i) make(i, mine.part[i - begin_of(rank_)]);
      }
      barrier();
      const index first = users * rank_ / size_, last = users * (rank_ + 1) / size_;
      if (first < last)
        use(first, last, [&](index i) -> const Part& {
          const int owner = static_cast<int>(((i + 1) * workers - 1) / count);
          return static_cast<const rooms*>(meeting_->shown[static_cast<std::size_t>(owner)])->part[i - begin_of(owner)];
        });
      barrier();  // others read this rank's parts
    });
  }
  /// f(0) + ... + f(count - 1), in that order whatever the number of threads; count is at most 64. The same for all
  /// ranks.
  template <class F>
  [[nodiscard]] double sum(index count, const F& f) const {
    tasks(count, [&](index i) { meeting_->partials[static_cast<std::size_t>(i)] = f(i); });
    double total = 0;
    for (index i = 0; i < count; ++i) total += meeting_->partials[static_cast<std::size_t>(i)];
    barrier();  // before the next partial sums are written
    return total;
  }

  /// Calls f(scratch) with an uninitialised Scratch: in this rank's workspace, or on the stack if that is too small.
  /// Calls must not nest.
  template <class Scratch, class F>
  void with_scratch(const F& f) const {
    static_assert(std::is_trivially_destructible_v<Scratch>);
    const auto call = [&f](Scratch& scratch) __attribute__((noinline)) { f(scratch); };  // one copy of f
    if (sizeof(Scratch) <= workspace_.size())
      call(*::new (workspace_.data()) Scratch);
    else
      on_stack<Scratch>(call);
  }

 private:
  template <class Scratch, class F>
  [[gnu::noinline]] static void on_stack(const F& f) {
    Scratch scratch;
    f(scratch);
  }
  /// Waits for all ranks, if the last operation did not.
  void settle() const {
    if (open_) barrier();
  }

  int rank_, size_;
  meeting_point* meeting_;
  std::span<std::byte> workspace_;
  mutable bool open_ = false;  // the same on every rank: all call the same operations
};

/// Bytes of a workspace large enough for every operation on numbers of type T, and for every operation of decoding.
template <class T>
inline constexpr std::size_t workspace_bytes = 192 * 1024 * sizeof(T);
template <class T>
inline constexpr std::size_t decoding_workspace_bytes = 104 * 1024 * sizeof(T);

/// A block of workspaces, one for each rank until they run out.
struct workspaces {
  std::span<std::byte> block{};
  std::size_t each = 0;  // bytes, a multiple of fathom::alignment

  [[nodiscard]] std::span<std::byte> of(int rank) const {
    const std::size_t first = static_cast<std::size_t>(rank) * each;
    return first + each <= block.size() ? block.subspan(first, each) : std::span<std::byte>();
  }
};

/// Whether this process was forked after it ran parallel regions: GNU OpenMP then waits for threads that do not exist,
/// so everything runs on one thread, with the same results.
#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && (defined(__GLIBC__) || defined(__APPLE__))
inline std::atomic<bool> has_started_threads{false}, is_forked{false};
inline const int watches_forks = pthread_atfork(nullptr, nullptr, [] { is_forked = has_started_threads.load(); });
#else
inline std::atomic<bool> has_started_threads{false};
inline constexpr bool is_forked = false;
#endif

/// The size of a team for which `threads` are requested; 0: OpenMP's default (OMP_NUM_THREADS).
[[nodiscard]] inline int team_size(int threads) {
  check_threads(threads);
#if defined(_OPENMP)
  if (!is_forked) return threads > 0 ? threads : omp_get_max_threads();
#endif
  return 1;
}

#if defined(_OPENMP)
/// Runs f(context) on every thread of one parallel region. A separate function, because clang makes every function that
/// contains a region call the OpenMP runtime, which allocates, even if the region is not reached.
template <class Context, class F>
void run_in_parallel(int threads, const workspaces& memory, const F& f) {
  has_started_threads.store(true, std::memory_order_relaxed);
  meeting_point meeting;
  // OpenMP may provide fewer threads than requested, and says how many only inside the region.
#pragma omp parallel num_threads(threads)
  f(Context(omp_get_thread_num(), omp_get_num_threads(), meeting, memory.of(omp_get_thread_num())));
}
#endif

/// Runs f(context) on every thread of a team (team_size).
template <class Context, class F>
void run(int threads, const workspaces& memory, const F& f) {
  threads = team_size(threads);
#if defined(_OPENMP)
  if (threads > 1) {
    run_in_parallel<Context>(threads, memory, f);
    return;
  }
#endif
  meeting_point alone;
  f(Context(0, 1, alone, memory.of(0)));
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
