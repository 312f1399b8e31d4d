// Helpers for tests of caches: models with windows, their weights, and the logits of a whole forward pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <fathom/model/model.hpp>

#include "some_weights.hpp"

namespace fathom::test {

// Windows of 5 and 70 positions, grouped queries, rotary positions, a whole context, and rows of sources: jointly with the own
// context, and alone. More than 384 + window positions are too many for their caches.
using caching_mlp = pre<"mlp", rms_norm<>, gated_mlp<16, silu>>;
using near = pre<"attn", rms_norm<>, attention<2, kv_heads<1>, window<5>, rotary<>>>;
using far = pre<"attn", rms_norm<>, attention<2, window<70>, rotary<>, no_bias>>;
using whole = pre<"attn", rms_norm<>, attention<2, rotary<>>>;
using jointly = pre<"attn", rms_norm<>, look_back_jointly<2, false, window<9>>, features<depths<0, 1>, identity_features>>;
using across = pre<"shortcut", rms_norm<>, look_back<2, initial::residual, window<33>>, features<depths<0, 1, 2>, identity_features>>;

inline constexpr index caching_vocab = 23, caching_context = 800;
template <class... Items>
using caching = architecture<sizes<caching_vocab, caching_context, 12>, embed<tokens>, body<Items...>, head<rms_norm<>, tied>>;
/// Local and global layers.
using pattern = caching<repeat<2, block<near, caching_mlp>, block<far, caching_mlp>, block<whole, caching_mlp>>>;
/// Only local ones, two of them with several rows for each position.
using looking_back = caching<block<near, caching_mlp>, block<jointly, caching_mlp>, block<far, across, caching_mlp>>;
/// Nothing but a window.
using local = caching<repeat<2, block<near, caching_mlp>>>;

inline std::vector<token> caching_tokens(std::size_t count, std::uint64_t seed) { return some_tokens(count, seed, caching_vocab); }

/// The logits [tokens, vocab] of a forward pass of the reference backend over some tokens.
template <class Architecture>
std::vector<double> logits_of(std::span<const token> tokens) {
  using oracle = transformer<Architecture, backend::reference<double>>;
  static const auto weights = some_weights<oracle>();
  typename oracle::tape tape(1, std::ssize(tokens));
  oracle::forward(*weights, {tokens, {}, 1, std::ssize(tokens)}, tape);
  return {tape.logits().begin(), tape.logits().end()};
}

/// The largest difference of the logits found after the token at `position` to those expected, over the largest of these.
template <class T>
double error_at(std::span<const double> expected, std::size_t position, std::span<const T> found) {
  double most = 0, largest = 0;
  for (std::size_t v = 0; v < static_cast<std::size_t>(caching_vocab); ++v) {
    const double x = expected[position * static_cast<std::size_t>(caching_vocab) + v];
    largest = std::max(largest, std::abs(x));
    if (const double d = std::abs(static_cast<double>(found[v]) - x); !(d <= most)) most = d;  // NaN is the largest
  }
  return most / largest;
}

}  // namespace fathom::test
