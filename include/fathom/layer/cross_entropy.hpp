// The loss: softmax cross-entropy.
#pragma once

#include <span>

#include "fathom/layer/layer.hpp"

namespace fathom::layers {

/// losses = -log softmax(logits)[target] in nats for every row; 0 where the target is -1.
/// logits [rows, V], losses [rows]
struct cross_entropy {
  template <class T>
  struct tape {
    T* lse;  // [rows], log of the sum of exp(logits)
    constexpr tape(arena& a, const extent& e) : lse(a.take<T>(e.rows())) {}
  };
  template <class On>
  static void forward(const On& on, input<On> logits, std::span<const token> targets, scalar<On>* losses,
                      const tape<scalar<On>>& t) {
    cross_entropy_forward(on, logits, targets, losses, t.lse);
  }
  /// Replaces the logits by the gradient of scale * (sum of losses) with respect to them; of logits with a soft cap
  /// (output_head.hpp), with respect to what it bounds.
  template <class On>
  static void backward(const On& on, output<On> logits, std::span<const token> targets, scalar<On> scale,
                       const tape<scalar<On>>& t, double soft_cap = 0) {
    cross_entropy_backward(on, logits, targets, t.lse, scale, soft_cap);
  }
};
/// The soft cap of a head's logits; 0: none.
template <class Head>
[[nodiscard]] consteval double soft_cap_of() {
  if constexpr (requires { Head::soft_cap; })
    return Head::soft_cap;
  else
    return 0;
}

}  // namespace fathom::layers
