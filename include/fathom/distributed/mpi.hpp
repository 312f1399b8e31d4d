// Groups of processes that MPI starts, on one machine or many:
//
//   #include <fathom/distributed/mpi.hpp>                 // link fathom::mpi, or what mpicxx links
//
//   fathom::trainer<net, fathom::adamw, fathom::distributed::mpi> trainer({.batch = 4, .micro_batches = 8});
//   trainer.fit(text.train(), text.validation());
//   if (trainer.group().rank() == 0) fathom::save("model.safetensors", trainer.weights());
//
// `mpirun -n 4 ./train` runs it on four ranks, `./train` on one. Any library of MPI 3 will do. It only moves bytes between two
// ranks at a time (train/group.hpp), so results do not depend on the library.
//
// Every wait looks out for trouble. An error on a rank, a rank that ends early, and one that does not answer for `patience`
// seconds end all ranks, with one message to standard error that names the rank, its host and the cause. If a rank is killed,
// mpirun ends the others and says so. During a run, SIGTERM, on any rank, ends all of them after the current step, with a
// checkpoint. One that comes after the last step is in the result of its rank, or, if it is too late for that, raised again.
#pragma once

// The C++ bindings of MPI 2, which MPI 3 has no more, would need a library of their own.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/train/group.hpp"

namespace fathom::distributed {

/// Which processes train together, and how long they wait for each other.
struct mpi_options {
  MPI_Comm communicator = MPI_COMM_NULL;  // whose ranks train together; MPI_COMM_NULL: all
  double patience = 600;                  // seconds to wait for another rank, without those in which this one is suspended; 0: for ever
};

namespace detail {
/// The last signal that asked this process to end.
inline volatile sig_atomic_t stop_signal = 0;
inline void note_signal(int number) { stop_signal = number; }

/// Starts MPI if the program has not, and then ends it when the program ends.
class mpi_library {
 public:
  static void start() { static const mpi_library library; }

  /// The communicators of groups whose ranks say farewell before this program ends.
  static std::vector<MPI_Comm>& communicators() {
    static std::vector<MPI_Comm> all;
    return all;
  }
  static constexpr int message = 1, farewell = 2, failure = 3;  // tags
  /// Whether the program is in a call of MPI, from which MPICH ends it when another rank fails.
  static inline bool is_busy = false;

  /// Tells all other ranks of a communicator something, which they may never hear.
  static void tell(MPI_Comm communicator, int tag) {
    int rank = 0, size = 1;
    MPI_Comm_rank(communicator, &rank);
    MPI_Comm_size(communicator, &size);
    for (int r = 0; r < size; ++r) {
      if (r == rank) continue;
      MPI_Request request;
      MPI_Isend(nullptr, 0, MPI_BYTE, r, tag, communicator, &request);
      MPI_Request_free(&request);
    }
  }

 private:
  mpi_library() {
    static_cast<void>(communicators());  // made before this, so destroyed after it
    int is_started = 0;
    MPI_Initialized(&is_started);
    if (is_started) return;
    int level = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS || level < MPI_THREAD_FUNNELED)
      fail("mpi: MPI could not be started for a program with threads (MPI_THREAD_FUNNELED)");
    is_ours_ = true;
  }
  ~mpi_library() {
    int is_ended = 0;
    if (!is_ours_ || is_busy || MPI_Finalized(&is_ended) != MPI_SUCCESS || is_ended) return;
    // A rank that still waits for this one in the middle of a run must not wait for ever.
    for (const MPI_Comm c : communicators()) tell(c, farewell);
    MPI_Finalize();
  }

  bool is_ours_ = false;
};
}  // namespace detail

/// The ranks of an MPI program as a group (train/group.hpp). Copies are cheap. All calls must come from the thread that made it.
class mpi {
  struct state;

 public:
  /// Messages on their way.
  class exchange {
   private:
    friend mpi;
    std::vector<MPI_Request> requests;
    std::vector<int> ranks;  // of each request
  };

  /// All ranks of the program.
  mpi() : mpi(world()) {}
  /// Starts MPI unless the program has. Every rank of the communicator must make the group.
  explicit mpi(const mpi_options& options) : state_(std::make_shared<state>(options)) {}

  [[nodiscard]] int rank() const { return state_->rank; }
  [[nodiscard]] int size() const { return state_->size; }
  [[nodiscard]] const std::string& host(int rank) const { return state_->hosts[static_cast<std::size_t>(rank)]; }

  exchange start(std::span<const incoming> in, std::span<const outgoing> out) const {
    exchange e;
    for (const incoming& message : in)
      each_part(message.bytes, [&](std::byte* bytes, int count) {
        check(MPI_Irecv(bytes, count, MPI_BYTE, message.rank, detail::mpi_library::message, state_->communicator, &e.requests.emplace_back()));
        e.ranks.push_back(message.rank);
      });
    for (const outgoing& message : out)
      each_part(message.bytes, [&](const std::byte* bytes, int count) {
        check(MPI_Isend(bytes, count, MPI_BYTE, message.rank, detail::mpi_library::message, state_->communicator, &e.requests.emplace_back()));
        e.ranks.push_back(message.rank);
      });
    return e;
  }
  void wait(exchange& e) const {
    const busy now;
    // Seconds, of which at most one between two looks: others could not answer either while all were suspended, as schedulers do.
    double waited = 0;
    double left = 0;  // until when to wait for a rank that has ended
    int who = -1;     // that rank, of which something is still expected
    auto last = clock::now();
    for (long turn = 1;; ++turn) {
      int done = 0;
      check(MPI_Testall(static_cast<int>(e.requests.size()), e.requests.data(), &done, MPI_STATUSES_IGNORE));
      if (done) break;
      if (turn % 64 != 0) continue;
      waited += std::min(1.0, std::chrono::duration<double>(clock::now() - last).count());
      last = clock::now();
      // Other ranks, or threads of this one, may need the processor.
      if (waited < 0.002)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      if (turn % 1024 == 0) {
        if (heard(detail::mpi_library::failure) >= 0) end_silently();
        // A rank that has done its part may end while others have not: only one that still owes something is missed.
        if (who < 0 || !is_open(e, who)) {
          who = first_ended(e);
          left = waited + 2;
        }
      }
      if (who >= 0 && waited > left && is_open(e, who)) fail("its program has ended while other ranks were in a run", who);
      if (state_->patience > 0 && waited > state_->patience)
        fail(join("has not answered rank ", rank(), " on ", host(rank()), " for ", state_->patience, " seconds"), first_open(e));
    }
    e.requests.clear();
    e.ranks.clear();
  }

  /// Between the two, SIGTERM is only noted. One that nobody has asked about since then is raised again after the run.
  void begin_run() const {
    detail::stop_signal = 0;
    state_->told = 0;
    struct sigaction note = {};
    note.sa_handler = &detail::note_signal;
    note.sa_flags = SA_RESTART;
    ::sigaction(SIGTERM, &note, &state_->before);
  }
  void end_run() const {
    ::sigaction(SIGTERM, &state_->before, nullptr);
    if (const int number = detail::stop_signal; number != state_->told) ::raise(number);
  }
  [[nodiscard]] int stop_signal() const { return state_->told = detail::stop_signal; }

  /// Prints a message about a rank, and ends all ranks.
  [[noreturn]] void fail(const std::string& text, int about) const {
    const busy now;
    ::signal(SIGTERM, SIG_DFL);
    // Several ranks may fail at once. Then the lowest one speaks for all, and the others hear of it while they wait.
    const auto turn = clock::now() + std::chrono::milliseconds(rank() == 0 ? 0 : (about == rank() ? 500 : 2000) + 200 * std::min(rank(), 10));
    while (clock::now() < turn) {
      if (heard(detail::mpi_library::failure) >= 0) end_silently();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    detail::mpi_library::tell(state_->communicator, detail::mpi_library::failure);
    std::fflush(stdout);
    std::fprintf(stderr, "fathom: rank %d of %d, on %s: %s\n", about, size(), host(about).c_str(), text.c_str());
    std::fflush(stderr);
    for (int i = 0; i < 10; ++i) {  // until the others have heard
      static_cast<void>(heard(detail::mpi_library::failure));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    MPI_Abort(state_->communicator, 1);
    std::_Exit(1);
  }

 private:
  using clock = std::chrono::steady_clock;

  struct busy {
    busy() { detail::mpi_library::is_busy = true; }
    busy(const busy&) = delete;
    busy& operator=(const busy&) = delete;
    ~busy() { detail::mpi_library::is_busy = false; }
  };
  /// The rank that has told something; -1: none.
  [[nodiscard]] int heard(int tag, int from = MPI_ANY_SOURCE) const {
    int is_there = 0;
    MPI_Status status;
    MPI_Iprobe(from, tag, state_->communicator, &is_there, &status);
    return is_there ? status.MPI_SOURCE : -1;
  }
  /// Another rank has said why all end, and ends them.
  [[noreturn]] static void end_silently() {
    ::signal(SIGTERM, SIG_DFL);
    std::this_thread::sleep_for(std::chrono::seconds(3));
    std::_Exit(1);
  }

  static const mpi& world() {
    static const mpi all(mpi_options{});
    return all;
  }

  struct state {
    MPI_Comm communicator = MPI_COMM_NULL;
    int rank = 0, size = 1;
    double patience;
    std::vector<std::string> hosts;
    struct sigaction before = {};
    int told = 0;  // the signal of this run that stop_signal() has returned

    explicit state(const mpi_options& options) : patience(options.patience) {
      detail::mpi_library::start();
      const MPI_Comm of = options.communicator == MPI_COMM_NULL ? MPI_COMM_WORLD : options.communicator;
      if (MPI_Comm_dup(of, &communicator) != MPI_SUCCESS) fathom::fail("mpi: the communicator cannot be used");
      MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
      MPI_Comm_rank(communicator, &rank);
      MPI_Comm_size(communicator, &size);
      std::array<char, MPI_MAX_PROCESSOR_NAME + 1> name{};
      int length = 0;
      MPI_Get_processor_name(name.data(), &length);
      std::vector<char> names(name.size() * static_cast<std::size_t>(size));
      MPI_Allgather(name.data(), static_cast<int>(name.size()), MPI_CHAR, names.data(), static_cast<int>(name.size()), MPI_CHAR, communicator);
      for (int r = 0; r < size; ++r) hosts.emplace_back(names.data() + name.size() * static_cast<std::size_t>(r));
      detail::mpi_library::communicators().push_back(communicator);
    }
    // The communicator stays, for the farewell; freeing it would have all ranks wait for each other.
    state(const state&) = delete;
    state& operator=(const state&) = delete;
  };

  /// Calls f(bytes, count) for parts that MPI can count.
  template <class Byte, class F>
  static void each_part(std::span<Byte> bytes, const F& f) {
    constexpr std::size_t most = std::size_t{1} << 30;
    for (std::size_t at = 0; at < bytes.size(); at += most) f(bytes.data() + at, static_cast<int>(std::min(most, bytes.size() - at)));
  }
  void check(int code) const {
    if (code == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    fail(std::string("MPI reports: ") + text.data(), rank());
  }
  /// Whether a request is not complete. One that is becomes MPI_REQUEST_NULL, which always is.
  static bool is_open(MPI_Request& request) {
    int done = 0;
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    return !done;
  }
  /// Whether a request of a rank is not complete.
  [[nodiscard]] static bool is_open(exchange& e, int rank) {
    for (std::size_t i = 0; i < e.requests.size(); ++i)
      if (e.ranks[i] == rank && is_open(e.requests[i])) return true;
    return false;
  }
  /// The rank of a request that is not complete.
  [[nodiscard]] int first_open(exchange& e) const {
    for (std::size_t i = 0; i < e.requests.size(); ++i)
      if (is_open(e.requests[i])) return e.ranks[i];
    return rank();
  }
  /// A rank that has said farewell, although a request of it is not complete; -1: none.
  [[nodiscard]] int first_ended(exchange& e) const {
    for (std::size_t i = 0; i < e.requests.size(); ++i)
      if (is_open(e.requests[i]) && heard(detail::mpi_library::farewell, e.ranks[i]) >= 0) return e.ranks[i];
    return -1;
  }

  std::shared_ptr<state> state_;
};
static_assert(contract::group<mpi>);

}  // namespace fathom::distributed
