// A tape or a cache has a session of its backend, which hides where memory is. The session runs their work, stages
// tokens, and reads losses and logits. On the host, staging and reading are the identity; a device session copies,
// records and replays.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <type_traits>

#include "fathom/backend/backend.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The common base of both kinds of session: an executor whose threads have workspaces in one block of memory.
template <class Backend>
class session_base {
 public:
  using executor = typename Backend::executor;
  using scalar = typename Backend::scalar;
  /// The type of sums of losses: double, or the scalar if that is not a floating-point type.
  using loss_type = std::conditional_t<std::is_floating_point_v<scalar>, double, scalar>;

  [[nodiscard]] const executor& where() const { return where_; }
  /// Runs f(context) on every rank.
  template <class F>
  void run(const F& f) const {
    where_.run(f);
  }

  /// Workspace bytes of all threads, `each` bytes a thread. Fails on an invalid number of threads.
  [[nodiscard]] static std::size_t bytes_of_workspaces(const executor& where, std::size_t each) {
    if constexpr (requires { where.size(); })
      return static_cast<std::size_t>(where.size()) * each;
    else
      return 0;
  }

 protected:
  session_base(const executor& where, std::span<std::byte> workspaces, std::size_t each) : where_(working_in(where, workspaces, each)) {}

 private:
  static executor working_in(const executor& where, std::span<std::byte> block, std::size_t each) {
    static_cast<void>(bytes_of_workspaces(where, each));
    if constexpr (requires { where.working_in(block, each); })
      return where.working_in(block, each);
    else
      return where;
  }
  executor where_;
};

/// The session of a backend that computes in host memory.
template <class Backend>
class host_session : public session_base<Backend> {
 public:
  using base = session_base<Backend>;
  using typename base::executor, typename base::loss_type, typename base::scalar;

  /// Each thread gets `each` bytes of the workspaces, until they run out.
  host_session(const executor& where, std::span<std::byte> workspaces, std::size_t each) : base(where, workspaces, each) {}

  /// Runs f(context), whose work depends only on `key` and on the contents of memory.
  template <class F>
  void replay(std::initializer_list<std::uint64_t>, const F& f) {
    this->run(f);
  }
  template <class F>
  void replay_token(std::initializer_list<std::uint64_t>, const F& f) {
    this->run(f);
  }

  /// How many tokens or sums need room in the backend's memory, to stage that many: none.
  [[nodiscard]] static constexpr index staged(index) { return 0; }
  /// The tokens where the backend reads them; the room given has staged(tokens.size()) tokens.
  [[nodiscard]] std::span<const token> stage(std::span<const token> tokens, token*) const { return tokens; }
  /// Numbers in the backend's memory, as the host reads them.
  template <class T>
  [[nodiscard]] std::span<const T> read(const T* from, index count) const {
    return {from, static_cast<std::size_t>(count)};
  }
  /// Leaves the sum of `count` losses for read_sum; `total` has staged(1) numbers.
  template <class On>
  void add_up(const On&, const scalar*, index, double*) const {}
  [[nodiscard]] loss_type read_sum(const scalar* losses, index count, const double*) const {
    loss_type sum = 0;
    for (index i = 0; i < count; ++i) sum += loss_type(losses[i]);
    return sum;
  }

  /// Where the host counts: the numbers that a cache has for the lengths of its sequences. In the cache itself.
  [[nodiscard]] index* count_in(index* lengths, token*, index, index) { return lengths; }
  /// Puts the next tokens, and the lengths before them, where the backend reads them. No tokens: those it has sampled.
  [[nodiscard]] std::span<const token> stage_next(std::span<const token> tokens, index*, token*, index) { return tokens; }
  /// How much of a cache of `bytes` bytes may be in host memory: all.
  [[nodiscard]] static constexpr std::size_t bytes_on_host(std::size_t bytes) { return bytes; }
};

/// The session of a backend with device memory, which the host never accesses directly.
template <class Backend>
class device_session : public session_base<Backend> {
 public:
  using base = session_base<Backend>;
  using typename base::executor, typename base::loss_type, typename base::scalar;
  using memory = memory_of<Backend>;

  device_session(const executor& where, std::span<std::byte> workspaces, std::size_t each) : base(where, workspaces, each) {}

  template <class F>
  void replay(std::initializer_list<std::uint64_t> key, const F& f) {
    work_.run(this->where(), key, f);
  }
  template <class F>
  void replay_token(std::initializer_list<std::uint64_t> key, const F& f) {
    token_work_.run(this->where(), key, f);
  }

  [[nodiscard]] static constexpr index staged(index count) { return count; }
  [[nodiscard]] std::span<const token> stage(std::span<const token> tokens, token* room) const {
    this->where().upload(room, tokens.data(), tokens.size_bytes());
    return {room, tokens.size()};
  }
  [[nodiscard]] std::span<const scalar> read(const scalar* from, index count) const { return read_(from, count); }
  template <class On>
  void add_up(const On& on, const scalar* losses, index count, double* total) const {
    sum(on, losses, count, total);
  }
  [[nodiscard]] loss_type read_sum(const scalar*, index, const double* total) const {
    loss_type sum = 0;
    memory::copy(&sum, total, sizeof sum);
    return sum;
  }

  /// The host counts in memory of its own, where `rows` tokens follow the lengths, as they do on the device.
  [[nodiscard]] index* count_in(index* lengths, token* tokens, index count, index rows) {
    arena a;
    static_cast<void>(a.take<index>(count));
    static_cast<void>(a.take<token>(rows));
    counts_ = buffer(a.used());
    tokens_at_ = reinterpret_cast<std::uintptr_t>(tokens) - reinterpret_cast<std::uintptr_t>(lengths);
    return reinterpret_cast<index*>(counts_.bytes().data());
  }
  /// Uploads tokens and lengths in one copy.
  [[nodiscard]] std::span<const token> stage_next(std::span<const token> tokens, index* lengths, token* room, index rows) {
    if (!tokens.empty()) {
      std::byte* const both = counts_.bytes().data();
      std::copy_n(tokens.data(), tokens.size(), reinterpret_cast<token*>(both + tokens_at_));
      this->where().upload(lengths, both, tokens_at_ + tokens.size_bytes());
    }
    return {room, static_cast<std::size_t>(rows)};
  }
  [[nodiscard]] static constexpr std::size_t bytes_on_host(std::size_t) { return 0; }

 private:
  typename backend_traits<Backend>::recording work_;
  typename backend_traits<Backend>::token_recording token_work_;
  mutable reader<memory, scalar> read_;
  buffer counts_;
  std::size_t tokens_at_ = 0;
};

/// The session of a backend.
template <class Backend>
using session = std::conditional_t<backend_traits<Backend>::is_on_host, host_session<Backend>, device_session<Backend>>;

}  // namespace fathom
