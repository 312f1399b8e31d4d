// Softmax cross-entropy on the CPU: definitions for cross_entropy.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <type_traits>

#include "fathom/backend/cpu/cross_entropy.hpp"
#include "fathom/backend/cpu/elementwise.inl.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
/// e^x for x <= 0; x is a vector or a scalar
template <class T, class V>
[[gnu::always_inline]] inline V exp_of(const V& x) {
  if constexpr (std::is_same_v<V, T>)
    return std::exp(x);
  else
    return exp_of_nonpositive<T>(x);
}

/// The largest of n numbers
template <class T>
inline T largest_of(const T* x, index n) {
  constexpr index W = lanes<T>;
  T most = x[0];
  index j = 0;
  if (n >= 4 * W) {
    vec<T> chains[4];
    unroll<4>([&](auto u) __attribute__((always_inline)) { chains[u] = vec<T>(most); });
    for (; j + 4 * W <= n; j += 4 * W)
      unroll<4>([&](auto u) __attribute__((always_inline)) {
        chains[u] = xsimd::max(chains[u], vec<T>::load_unaligned(x + j + static_cast<index>(u) * W));
      });
    alignas(alignment) T lane[W];
    xsimd::max(xsimd::max(chains[0], chains[1]), xsimd::max(chains[2], chains[3])).store_aligned(lane);
    for (const T value : lane) most = std::max(most, value);
  }
  for (; j < n; ++j) most = std::max(most, x[j]);
  return most;
}
}  // namespace detail

template <class C, class T>
void cross_entropy_forward(const context<C, T>& on, matrix<const std::type_identity_t<T>> logits,
                           std::span<const token> targets, std::type_identity_t<T>* losses,
                           std::type_identity_t<T>* lse) {
  detail::for_rows(on, logits.rows, [&](index i) {
    const T* const row = logits.row(i);
    const T largest = detail::largest_of(row, logits.columns);
    const T sum = detail::sums_of<T, 1>(logits.columns, [=]<class V>(V, index j) __attribute__((always_inline)) {
      return std::array{detail::exp_of<T>(V(epilogue::load<V>(row + j) - V(largest)))};
    })[0];
    lse[i] = largest + std::log(sum);
    const token target = targets[static_cast<std::size_t>(i)];
    losses[i] = target < 0 ? T(0) : lse[i] - logits(i, target);
  });
}

template <class C, class T>
void cross_entropy_backward(const context<C, T>& on, matrix<std::type_identity_t<T>> logits,
                            std::span<const token> targets, const std::type_identity_t<T>* lse,
                            std::type_identity_t<T> scale, double cap) {
  detail::for_rows(on, logits.rows, [&](index i) {
    T* const row = logits.row(i);
    const token target = targets[static_cast<std::size_t>(i)];
    if (target < 0) {
      std::fill_n(row, logits.columns, T(0));
      return;
    }
    const T offset = lse[i];
    if (cap > 0) {
      const T inverse = static_cast<T>(1 / cap), of_cap = logits(i, target) * inverse;
      detail::for_lanes<T>(logits.columns, [=]<class V>(V, index j) __attribute__((always_inline)) {
        const V logit = epilogue::load<V>(row + j), u = logit * V(inverse);
        epilogue::store(row + j, V(detail::exp_of<T>(V(logit - V(offset))) * V(scale) * (V(1) - u * u)));
      });
      logits(i, target) -= scale * (T(1) - of_cap * of_cap);
      return;
    }
    detail::for_lanes<T>(logits.columns, [=]<class V>(V, index j) __attribute__((always_inline)) {
      epilogue::store(row + j, V(detail::exp_of<T>(V(epilogue::load<V>(row + j) - V(offset))) * V(scale)));
    });
    logits(i, target) -= scale;
  });
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
