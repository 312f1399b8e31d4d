// Softmax cross-entropy on the CPU.
#pragma once

#include <cmath>
#include <span>

#include "fathom/backend/cpu/elementwise.hpp"

namespace fathom::cpu {

/// losses [rows] = -log softmax(logits)[target], 0 where the target is -1; keeps lse [rows]
template <class C, class T>
void cross_entropy_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> logits,
                           std::span<const token> targets, std::type_identity_t<T>* losses,
                           std::type_identity_t<T>* lse) {
  detail::for_rows(on, logits.rows, [&](index i) {
    const auto row = array(logits.row(i), logits.columns);
    const T largest = row.maxCoeff();
    lse[i] = largest + std::log((row - largest).exp().sum());
    const token target = targets[static_cast<std::size_t>(i)];
    losses[i] = target < 0 ? T(0) : lse[i] - logits(i, target);
  });
}

/// logits become their gradient: scale (softmax(logits) - onehot(target)); 0 where the target is -1
template <class C, class T>
void cross_entropy_backward(const context<C, T>& on, matrix<std::type_identity_t<T>> logits,
                            std::span<const token> targets, const std::type_identity_t<T>* lse,
                            std::type_identity_t<T> scale) {
  detail::for_rows(on, logits.rows, [&](index i) {
    auto row = array(logits.row(i), logits.columns);
    const token target = targets[static_cast<std::size_t>(i)];
    if (target < 0) {
      row.setZero();
      return;
    }
    row = (row - lse[i]).exp() * scale;
    logits(i, target) -= scale;
  });
}

}  // namespace fathom::cpu
