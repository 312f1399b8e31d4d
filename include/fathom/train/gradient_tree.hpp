// Adds the gradients of micro-batches, in the order of micro_batches.hpp.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "fathom/backend/backend.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/trained.hpp"
#include "fathom/train/micro_batches.hpp"
#include "fathom/train/muon.hpp"  // combine_numbers

namespace fathom::detail {

/// y += x, of `count` numbers; y is x + y rounded once, on every backend.
template <class On, class T>
void add_numbers(const On& on, T* x, T* y, index count) {
  if (count > 0) update(on, combine_numbers<T>{T(1), T(1)}, count, y, x);
}
template <class On, class T>
void zero_numbers(const On& on, T* numbers, index count) {
  if (count > 0) zero(on, matrix<T>(numbers, 1, count));
}

/// Rounds numbers to bf16.
template <class T>
[[nodiscard]] T bf16_of(T number) {
  return static_cast<T>(static_cast<float>(bf16(static_cast<float>(number))));
}
template <class On, class T>
void round_numbers(const On& on, T* numbers, index count) {
  on.barrier();
  const index first = count * on.rank() / on.size(), last = count * (on.rank() + 1) / on.size();
  for (index i = first; i < last; ++i) numbers[i] = bf16_of(numbers[i]);
  on.barrier();
}

/// Owns the blocks that hold the gradients of right halves until they are added: for a node of n micro-batches log2(n), rounded up.
template <class Model>
class gradient_tree {
  using parameters = trained_of<Model>;  // gradients of what the model trains
  using scalar = typename Model::scalar;
  static constexpr auto size = static_cast<index>(sizeof(parameters) / sizeof(scalar));
  static constexpr bool is_on_host = backend_traits<typename Model::backend>::is_on_host;

 public:
  /// Leaves the sum of a node's gradients in `to`, which must be zero, and returns that of its losses. run(micro_batch, gradients)
  /// adds the gradients of a micro-batch to zeros, and returns its loss. rounds(node): whether a node's are rounded to bf16.
  template <class Executor, class Run, class Rounds>
  double add_up(const Executor& where, const tree_node& node, parameters& to, const Run& run, const Rounds& rounds) {
    if (node.size() == 1) {
      const double loss = run(node.first, to);
      if constexpr (is_on_host)
        if (rounds(node)) where.run([&](const auto& on) { round_numbers(on, reinterpret_cast<scalar*>(&to), size); });
      return loss;
    }
    double loss = add_up(where, node.left(), to, run, rounds);
    if (free_.empty()) free_.push_back(make<parameters>());
    owned<parameters> right = std::move(free_.back());
    free_.pop_back();
    loss += add_up(where, node.right(), *right, run, rounds);
    scalar *const from = reinterpret_cast<scalar*>(right.get()), *const sum = reinterpret_cast<scalar*>(&to);
    where.run([&](const auto& on) {
      add_numbers(on, from, sum, size);
      zero_numbers(on, from, size);
      if constexpr (is_on_host)
        if (rounds(node)) round_numbers(on, sum, size);
    });
    free_.push_back(std::move(right));
    return loss;
  }

 private:
  std::vector<owned<parameters>> free_;
};

}  // namespace fathom::detail
