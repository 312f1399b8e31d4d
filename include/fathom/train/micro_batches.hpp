// The order in which the gradients of a step's micro-batches are added: a binary tree that depends on their number alone.
//
// A node of the tree is a run of micro-batches [first, last), and its value the sum of theirs. A node of one is a leaf. Any other
// one is the sum of two nodes, the left of which has the largest power of two of micro-batches below its own number. So of six:
//
//   ((0 + 1) + (2 + 3)) + (4 + 5)
//
// A rank that has a run of micro-batches computes the largest nodes within its run: one, if the number of micro-batches is a
// power of two times the number of ranks, else a few. The rest of the tree is added where a sum is needed. Every addition has
// the same operands whatever the number of ranks, and so the same result. If gradients are rounded to bf16, those of every node
// are, but for the sum of all, which never travels: so any node may travel as bf16, and the result is still the same.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "fathom/core/types.hpp"

namespace fathom::detail {

/// The numbers of a message with gradients: while some travel, the ones before are added.
inline constexpr index message_numbers = index{1} << 18;

/// A node of the tree: micro-batches [first, last).
struct tree_node {
  index first, last;
  [[nodiscard]] constexpr index size() const { return last - first; }
  /// Where its right half begins. For nodes of at least two.
  [[nodiscard]] constexpr index middle() const {
    return first + static_cast<index>(std::bit_floor(static_cast<std::size_t>(size() - 1)));
  }
  [[nodiscard]] constexpr tree_node left() const { return {first, middle()}; }
  [[nodiscard]] constexpr tree_node right() const { return {middle(), last}; }
  constexpr bool operator==(const tree_node&) const = default;
};

/// Appends the largest nodes below `node` that make up the micro-batches of `run`, in order.
inline void add_nodes(tree_node node, tree_node run, std::vector<tree_node>& nodes) {
  if (node.last <= run.first || run.last <= node.first) return;
  if (run.first <= node.first && node.last <= run.last) {
    nodes.push_back(node);
    return;
  }
  add_nodes(node.left(), run, nodes);
  add_nodes(node.right(), run, nodes);
}

/// The most blocks of gradients that a rank has at a time: one for each of its nodes, and one for each level below the largest.
[[nodiscard]] constexpr index gradient_blocks(int ranks, index micro_batches) {
  const index most = (micro_batches + ranks - 1) / ranks;  // of a rank
  const auto levels = static_cast<index>(std::bit_width(static_cast<std::size_t>(most - 1)));
  const bool is_one_node = micro_batches % ranks == 0 && (ranks == 1 || (std::has_single_bit(static_cast<std::size_t>(micro_batches)) &&
                                                                         std::has_single_bit(static_cast<std::size_t>(ranks))));
  return levels + (is_one_node ? 1 : 2 * levels + 1);
}
/// The most bytes of the two buffers for gradients that arrive, from numbers of `number` bytes, for a shard of `shard` bytes.
[[nodiscard]] constexpr std::size_t arriving_bytes(int ranks, index micro_batches, std::size_t shard, std::size_t number) {
  if (ranks == 1) return 0;
  const auto nodes = static_cast<std::size_t>(std::min(micro_batches, ranks * gradient_blocks(ranks, micro_batches)));
  const std::size_t round = static_cast<std::size_t>(message_numbers) * number;
  return 2 * nodes * std::min(shard, round);
}

/// The most bytes of the two buffers for bf16 gradients that leave, for a shard of `shard` numbers.
[[nodiscard]] constexpr std::size_t leaving_bytes(int ranks, index micro_batches, index shard) {
  if (ranks == 1) return 0;
  const auto copies = static_cast<std::size_t>(std::min(micro_batches, gradient_blocks(ranks, micro_batches))) * static_cast<std::size_t>(ranks - 1);
  return 2 * copies * static_cast<std::size_t>(std::min(shard, message_numbers)) * 2;
}

/// How a group shares out the micro-batches of a step.
class micro_batch_plan {
 public:
  /// An addition of the value of node `from` to that of node `to`, both as numbers in nodes().
  struct addition {
    std::size_t to, from;
  };

  /// For at least as many micro-batches as ranks.
  micro_batch_plan(index micro_batches, int ranks) : all_{0, micro_batches} {
    for (int r = 0; r < ranks; ++r) {
      first_.push_back(nodes_.size());
      add_nodes(all_, {micro_batches * r / ranks, micro_batches * (r + 1) / ranks}, nodes_);
    }
    first_.push_back(nodes_.size());
    std::size_t next = 0;
    add_up(all_, next);
  }
  /// The nodes that ranks compute, in order.
  [[nodiscard]] std::span<const tree_node> nodes() const { return nodes_; }
  /// The number in nodes() of a rank's first one; that of the rank after the last is their number.
  [[nodiscard]] std::size_t first_of(int rank) const { return first_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] index count_of(int rank) const { return static_cast<index>(first_of(rank + 1) - first_of(rank)); }
  /// The additions that leave the sum of all in the first node.
  [[nodiscard]] std::span<const addition> additions() const { return additions_; }
  /// The sum of all, of one number for each node.
  [[nodiscard]] double sum(std::span<const double> of_nodes) const {
    std::vector<double> sums(of_nodes.begin(), of_nodes.end());
    for (const addition& a : additions_) sums[a.to] += sums[a.from];
    return sums[0];
  }

 private:
  std::size_t add_up(tree_node node, std::size_t& next) {
    if (nodes_[next] == node) return next++;
    const std::size_t left = add_up(node.left(), next), right = add_up(node.right(), next);
    additions_.push_back({left, right});
    return left;
  }

  tree_node all_;
  std::vector<tree_node> nodes_;
  std::vector<std::size_t> first_;
  std::vector<addition> additions_;
};

}  // namespace fathom::detail
