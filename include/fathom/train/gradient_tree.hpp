// Adds the gradients of micro-batches, in the order of micro_batches.hpp.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "fathom/backend/backend.hpp"
#include "fathom/backend/operations.hpp"
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

/// Owns the blocks that hold the gradients of right halves until they are added: for a node of n micro-batches log2(n), rounded up.
template <class Model>
class gradient_tree {
  using parameters = trained_of<Model>;  // gradients of what the model trains
  using scalar = typename Model::scalar;
  static constexpr auto size = static_cast<index>(sizeof(parameters) / sizeof(scalar));

 public:
  /// Leaves the sum of a node's gradients in `to`, which must be zero, and returns that of its losses. run(micro_batch, gradients)
  /// adds the gradients of a micro-batch to zeros, and returns its loss.
  template <class Executor, class Run>
  double add_up(const Executor& where, const tree_node& node, parameters& to, const Run& run) {
    if (node.size() == 1) return run(node.first, to);
    double loss = add_up(where, node.left(), to, run);
    if (free_.empty()) free_.push_back(make<parameters>());
    owned<parameters> right = std::move(free_.back());
    free_.pop_back();
    loss += add_up(where, node.right(), *right, run);
    scalar *const from = reinterpret_cast<scalar*>(right.get()), *const sum = reinterpret_cast<scalar*>(&to);
    where.run([&](const auto& on) {
      add_numbers(on, from, sum, size);
      zero_numbers(on, from, size);
    });
    free_.push_back(std::move(right));
    return loss;
  }

 private:
  std::vector<owned<parameters>> free_;
};

}  // namespace fathom::detail
