// What the ranks of a group do together in a step: they exchange gradients and weights, in shards of the parameter block.
//
// A reduction library adds in an order that depends on the number of ranks, on the sizes and on the network. Here every rank
// sends, of each node of the tree that it has computed (micro_batches.hpp), the numbers of each shard to the shard's owner, who
// adds them in the order of the tree. Each rank sends (ranks - 1) / ranks of the block's bytes for each of its nodes: as many as the
// best reduce-scatter if it has one, which it has if both numbers are powers of two.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/batches.hpp"
#include "fathom/data/token_source.hpp"
#include "fathom/io/file.hpp"
#include "fathom/train/evaluate.hpp"
#include "fathom/train/gradient_tree.hpp"
#include "fathom/train/group.hpp"
#include "fathom/train/micro_batches.hpp"
#include "fathom/train/sharding.hpp"

namespace fathom::detail {

/// Adds the seconds of its life to a sum.
class stop_watch {
 public:
  explicit stop_watch(double& seconds) : seconds_(seconds) {}
  stop_watch(const stop_watch&) = delete;
  stop_watch& operator=(const stop_watch&) = delete;
  ~stop_watch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// A hash of bytes, as a text.
[[nodiscard]] inline std::string hash_of(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, of words of 8 bytes, whose upper bits are mixed into the lower ones
  for (std::size_t at = 0; at < bytes.size(); at += sizeof hash) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  }
  return join(hash);
}
/// A hash of the running program's file, where the system says which that is.
[[nodiscard]] inline std::string program_hash() {
  const std::filesystem::path self = "/proc/self/exe";
  std::error_code problem;
  if (!std::filesystem::is_regular_file(self, problem)) return "unknown";
  return hash_of(io::mapped_file(self).bytes());
}

/// The exchanges of a trainer. Owns the room for what arrives.
template <class Model, class Group>
class data_parallel {
  using parameters = typename Model::parameters;
  using scalar = typename Model::scalar;
  static constexpr auto size = static_cast<index>(sizeof(parameters) / sizeof(scalar));
  static constexpr index most = message_numbers;

 public:
  /// Adds the gradients of all ranks. `mine` has the blocks of this rank's nodes. Leaves the sum of this rank's shard in the first
  /// block, and zeros in everything else. With `rounds`, those of all nodes but the last are bf16, and travel as such. Adds the
  /// seconds in which it waits to `waited`.
  template <class Executor>
  void add_up(const Group& group, const micro_batch_plan& plan, std::span<const shard> shards, const Executor& where,
              std::span<parameters* const> mine, bool rounds, double& waited) {
    const int ranks = group.size(), rank = group.rank();
    const shard& own = shards[static_cast<std::size_t>(rank)];
    const std::size_t nodes = plan.nodes().size(), first_own = plan.first_of(rank);
    // The part of a shard that travels in a turn, [begin, end) in the block.
    const auto part = [&](int r, index turn) {
      const shard& s = shards[static_cast<std::size_t>(r)];
      const index begin = std::min(s.first + turn * most, s.last);
      return std::pair(begin, std::min(begin + most, s.last));
    };
    index turns = 0, largest = 0;  // of any shard: messages, and numbers of one
    for (const shard& s : shards) turns = std::max(turns, (s.size() + most - 1) / most), largest = std::max(largest, std::min(most, s.size()));
    if (ranks == 1) turns = 0;
    if (turns > 0 && arriving_[0].bytes().empty())
      for (buffer& b : arriving_) b = buffer(nodes * static_cast<std::size_t>(std::min(most, own.size())) * sizeof(scalar));
    if (turns > 0 && rounds && leaving_[0].bytes().empty())
      for (buffer& b : leaving_) b = buffer(mine.size() * static_cast<std::size_t>(ranks - 1) * static_cast<std::size_t>(largest) * sizeof(bf16));
    const auto is_own = [&](std::size_t node) { return node >= first_own && node < first_own + mine.size(); };
    const auto place_of = [&](index turn, std::size_t node) {  // where a node's part of the own shard is
      if (is_own(node)) return numbers(*mine[node - first_own]) + part(rank, turn).first;
      return reinterpret_cast<scalar*>(arriving_[static_cast<std::size_t>(turn % 2)].bytes().data()) +
             static_cast<index>(node) * std::min(most, own.size());
    };
    const auto start = [&](index turn) {
      std::vector<incoming> in;
      std::vector<outgoing> out;
      std::span<std::byte> room = leaving_[static_cast<std::size_t>(turn % 2)].bytes();
      for (int r = 0; r < ranks; ++r) {
        if (r == rank) continue;
        if (const auto [begin, end] = part(rank, turn); begin < end)
          for (std::size_t n = plan.first_of(r); n < plan.first_of(r + 1); ++n) {
            const std::span<scalar> place(place_of(turn, n), static_cast<std::size_t>(end - begin));
            in.push_back({r, rounds ? end_of(place) : std::as_writable_bytes(place)});
          }
        if (const auto [begin, end] = part(r, turn); begin < end)
          for (parameters* const block : mine) {
            const std::span<const scalar> some(numbers(*block) + begin, static_cast<std::size_t>(end - begin));
            if (rounds) {
              to_bf16(some, room);
              out.push_back({r, room.first(some.size() * sizeof(bf16))});
              room = room.subspan(some.size() * sizeof(bf16));
            } else {
              out.push_back({r, std::as_bytes(some)});
            }
          }
      }
      return group.start(in, out);
    };
    typename Group::exchange now, next;
    if (turns > 0) now = start(0);
    for (index turn = 0; turn < turns; ++turn) {
      if (turn + 1 < turns) next = start(turn + 1);
      {
        const stop_watch watch(waited);
        group.wait(now);
      }
      const auto [begin, end] = part(rank, turn);
      if (begin < end) {
        if (rounds)
          for (std::size_t n = 0; n < nodes; ++n)
            if (!is_own(n)) from_bf16({place_of(turn, n), static_cast<std::size_t>(end - begin)});
        where.run([&, first = begin, count = end - begin](const auto& on) {
          for (const auto& addition : plan.additions()) {
            add_numbers(on, place_of(turn, addition.from), place_of(turn, addition.to), count);
            if (rounds && &addition != &plan.additions().back()) round_numbers(on, place_of(turn, addition.to), count);
          }
          scalar *const sum = place_of(turn, 0), *const to = numbers(*mine[0]) + first;
          if (sum != to) copy(on, matrix<const scalar>(sum, 1, count), matrix<scalar>(to, 1, count));
        });
      }
      now = std::move(next);
    }
    where.run([&](const auto& on) {
      scalar* const all = numbers(*mine[0]);
      if (ranks > 1) {
        zero_numbers(on, all, own.first);
        zero_numbers(on, all + own.last, size - own.last);
      }
      for (parameters* const block : mine.subspan(1)) zero_numbers(on, numbers(*block), size);
    });
  }

  /// Every rank gets the numbers of the shards of all others.
  static void gather(const Group& group, std::span<const shard> shards, parameters& block) {
    std::vector<incoming> in;
    std::vector<outgoing> out;
    const shard& own = shards[static_cast<std::size_t>(group.rank())];
    for (int r = 0; r < group.size(); ++r) {
      if (r == group.rank()) continue;
      if (const shard& s = shards[static_cast<std::size_t>(r)]; s.size() > 0) in.push_back({r, bytes_of(block, s)});
      if (own.size() > 0) out.push_back({r, bytes_of(block, own)});
    }
    auto exchange = group.start(in, out);
    group.wait(exchange);
  }
  /// The first rank gets the shards of all in `block`; other ranks have none.
  static void gather_on_first(const Group& group, std::span<const shard> shards, std::span<const std::byte> mine, parameters* block) {
    std::vector<incoming> in;
    std::vector<outgoing> out;
    if (group.rank() == 0) {
      if (!mine.empty()) std::memcpy(bytes_of(*block, shards[0]).data(), mine.data(), mine.size());
      for (int r = 1; r < group.size(); ++r)
        if (const shard& s = shards[static_cast<std::size_t>(r)]; s.size() > 0) in.push_back({r, bytes_of(*block, s)});
    } else if (!mine.empty()) {
      out.push_back({0, mine});
    }
    auto exchange = group.start(in, out);
    group.wait(exchange);
  }
  /// Every rank gets its shard of `block`, which only the first one has.
  static void scatter_from_first(const Group& group, std::span<const shard> shards, parameters* block, std::span<std::byte> mine) {
    std::vector<incoming> in;
    std::vector<outgoing> out;
    if (group.rank() == 0) {
      if (!mine.empty()) std::memcpy(mine.data(), bytes_of(*block, shards[0]).data(), mine.size());
      for (int r = 1; r < group.size(); ++r)
        if (const shard& s = shards[static_cast<std::size_t>(r)]; s.size() > 0) out.push_back({r, bytes_of(*block, s)});
    } else if (!mine.empty()) {
      in.push_back({0, mine});
    }
    auto exchange = group.start(in, out);
    group.wait(exchange);
  }

  /// The same as fathom::evaluate, bitwise: rank r runs batches r, r + ranks, ...
  static double evaluate(const Group& group, const parameters& weights, const data::token_source& tokens, typename Model::tape& tape,
                         index batch, index length, index most_batches) {
    data::consecutive batches(tokens, batch, length);
    const index count = most_batches > 0 ? std::min(most_batches, batches.size()) : batches.size();
    struct result {
      double loss;
      index counted;
    };
    std::vector<result> mine;
    std::vector<index> counts(static_cast<std::size_t>(group.size()));
    for (index n = 0; n < count; ++n) {
      ++counts[static_cast<std::size_t>(n % group.size())];
      if (n % group.size() != group.rank()) continue;
      Model::forward(weights, batches.at(n), tape);
      mine.push_back({static_cast<double>(tape.loss()), tape.counted()});
    }
    const std::vector<result> all = all_gather<result>(group, mine, counts);
    std::vector<std::size_t> at(counts.size());  // of each rank's next result
    for (std::size_t r = 1; r < at.size(); ++r) at[r] = at[r - 1] + static_cast<std::size_t>(counts[r - 1]);
    mean_loss mean;
    for (index n = 0; n < count; ++n) {
      const result& one = all[at[static_cast<std::size_t>(n % group.size())]++];
      mean.add(one.loss, one.counted);
    }
    return mean.mean();
  }

 private:
  static scalar* numbers(parameters& block) { return reinterpret_cast<scalar*>(&block); }
  static std::span<std::byte> bytes_of(parameters& block, const shard& s) {
    return std::as_writable_bytes(std::span(numbers(block) + s.first, static_cast<std::size_t>(s.size())));
  }

  // Numbers that arrive as bf16 do so at the end of their place, from where they are widened in order.
  static std::span<std::byte> end_of(std::span<scalar> place) { return std::as_writable_bytes(place).last(place.size() * sizeof(bf16)); }
  static void from_bf16(std::span<scalar> place) {
    const std::byte* from = end_of(place).data();
    for (scalar& number : place) {
      bf16 rounded;
      std::memcpy(&rounded, from, sizeof rounded);
      number = static_cast<scalar>(static_cast<float>(rounded));
      from += sizeof rounded;
    }
  }
  static void to_bf16(std::span<const scalar> numbers, std::span<std::byte> room) {
    std::byte* to = room.data();
    for (const scalar number : numbers) {
      const bf16 rounded(static_cast<float>(number));
      std::memcpy(to, &rounded, sizeof rounded);
      to += sizeof rounded;
    }
  }

  std::array<buffer, 2> arriving_;  // [nodes of all ranks, most], for two turns
  std::array<buffer, 2> leaving_;   // bf16 [other ranks, nodes of this one, most], for two turns; none if gradients are not rounded
};
/// For a process that is alone, which exchanges nothing.
template <class Model>
class data_parallel<Model, lone> {};

}  // namespace fathom::detail
