// Groups: the processes that train one model together. A trainer takes one as its last parameter,
//
//   fathom::trainer<net, fathom::adamw, fathom::distributed::mpi> trainer({.batch = 4, .micro_batches = 8});
//
// and every rank of the group runs the same program. Without one, a process is alone, which costs nothing.
//
// A group moves bytes and computes nothing: all sums are added by the trainer, in an order of its own (micro_batches.hpp), so
// that results do not depend on how a library reduces, nor on the number of ranks. contract::group lists what it has; everything
// else here is made of that.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Bytes for another rank. They must stay as they are until the exchange has ended.
struct outgoing {
  int rank;
  std::span<const std::byte> bytes;
};
/// Room for bytes from another rank, exactly as many as it sends.
struct incoming {
  int rank;
  std::span<std::byte> bytes;
};

namespace contract {
/// What a trainer requires of a group. A copy stands for the same group.
///
///   rank(), size()        this process, from 0, and how many there are
///   host(rank)            where a rank runs, for messages
///   start(in, out)        starts to send and to receive, and returns the exchange. Messages between two ranks arrive in the order
///                         in which they were sent. Every rank must expect what others send it
///   wait(exchange)        until all of its messages have been sent and received
///   stop_signal()         the signal that has asked this process to end, between begin_run() and end_run(); 0: none. One that it
///                         has not returned by then must not be lost
///   fail(text, rank)      ends all ranks, with one message: `text`, about a rank. Does not return
template <class G>
concept group = std::copy_constructible<G> && std::default_initializable<G> && requires { typename G::exchange; } &&
                requires(const G& g, std::span<const incoming> in, std::span<const outgoing> out, typename G::exchange& e,
                         const std::string& text) {
  { g.rank() } -> std::convertible_to<int>;
  { g.size() } -> std::convertible_to<int>;
  { g.host(0) } -> std::convertible_to<std::string>;
  { g.start(in, out) } -> std::same_as<typename G::exchange>;
  g.wait(e);
  g.begin_run();
  g.end_run();
  { g.stop_signal() } -> std::convertible_to<int>;
  g.fail(text, 0);
};
}  // namespace contract

/// The group of a process that is alone: the default. Trainers leave out everything that is for groups.
struct lone {
  struct exchange {};
  [[nodiscard]] static constexpr int rank() { return 0; }
  [[nodiscard]] static constexpr int size() { return 1; }
  [[nodiscard]] static std::string host(int) { return "this one"; }
  static exchange start(std::span<const incoming>, std::span<const outgoing>) { return {}; }
  static void wait(exchange&) {}
  static void begin_run() {}
  static void end_run() {}
  [[nodiscard]] static constexpr int stop_signal() { return 0; }
  [[noreturn]] static void fail(const std::string& text, int) { fathom::fail(text); }
};
static_assert(contract::group<lone>);

namespace detail {

/// Every rank's numbers, one rank after the other. All ranks know how many each has.
template <class T, class Group>
[[nodiscard]] std::vector<T> all_gather(const Group& group, std::span<const T> mine, std::span<const index> counts) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::size_t total = 0;
  for (const index count : counts) total += static_cast<std::size_t>(count);
  std::vector<T> all(total);
  std::vector<incoming> in;
  std::vector<outgoing> out;
  std::size_t at = 0;
  for (int r = 0; r < group.size(); ++r) {
    const std::span<T> room(all.data() + at, static_cast<std::size_t>(counts[static_cast<std::size_t>(r)]));
    at += room.size();
    if (r == group.rank()) {
      if (!room.empty()) std::memcpy(room.data(), mine.data(), room.size_bytes());
    } else {
      if (!room.empty()) in.push_back({r, std::as_writable_bytes(room)});
      if (!mine.empty()) out.push_back({r, std::as_bytes(mine)});
    }
  }
  auto exchange = group.start(in, out);
  group.wait(exchange);
  return all;
}
/// The same for as many numbers from each.
template <class T, class Group>
[[nodiscard]] std::vector<T> all_gather(const Group& group, std::span<const T> mine) {
  const std::vector<index> counts(static_cast<std::size_t>(group.size()), std::ssize(mine));
  return all_gather<T>(group, mine, counts);
}
/// Every rank's text.
template <class Group>
[[nodiscard]] std::vector<std::string> all_gather(const Group& group, const std::string& mine) {
  const index length = std::ssize(mine);
  const std::vector<index> lengths = all_gather<index>(group, std::span(&length, 1));
  const std::vector<char> letters = all_gather<char>(group, std::span<const char>(mine), lengths);
  std::vector<std::string> texts;
  auto at = letters.begin();
  for (const index n : lengths) texts.emplace_back(at, at + n), at += n;
  return texts;
}

/// The bytes of the first rank, on all ranks.
template <class Group>
void broadcast(const Group& group, std::span<std::byte> bytes) {
  std::vector<incoming> in;
  std::vector<outgoing> out;
  if (group.rank() == 0)
    for (int r = 1; r < group.size(); ++r) out.push_back({r, bytes});
  else
    in.push_back({0, bytes});
  auto exchange = group.start(in, out);
  group.wait(exchange);
}
/// The text of the first rank, on all ranks.
template <class Group>
[[nodiscard]] std::string broadcast(const Group& group, std::string text) {
  index length = std::ssize(text);
  broadcast(group, std::as_writable_bytes(std::span(&length, 1)));
  text.resize(static_cast<std::size_t>(length));
  broadcast(group, std::as_writable_bytes(std::span(text)));
  return text;
}

/// Calls f(). If it fails and other ranks wait for this one, ends all of them, as none can go on without it.
template <class Group, class F>
decltype(auto) together(const Group& group, const F& f) {
#if defined(__cpp_exceptions)
  if constexpr (!std::is_same_v<Group, lone>) {
    if (group.size() > 1) try {
        return f();
      } catch (const std::exception& e) {
        group.fail(e.what(), group.rank());
        std::abort();
      }
  }
#endif
  return f();
}

}  // namespace detail

}  // namespace fathom
