// Residual sources: what a stage reads besides its input stream, from any earlier depth.
//
// A residual source turns outputs of earlier blocks and rows that stages publish (hidden_states.hpp) into rows that a
// stage of the block reads: [rows * rows per token, E], with the rows of a token side by side. The paper's shortcut is
// one source (feature_memory.hpp); another is a learned sum of earlier outputs. A source treats each token separately,
// so decoding needs no cache for it. It learns the number of its block at run time, from hidden.block, so that all
// blocks of a run can share one type. A new source is one file with these members:
//
//   static constexpr index rows_per_token;        the rows per token; if it varies between blocks, the largest number
//   static constexpr index rows_at(int block);    the rows per token in a block; only if it varies
//   static constexpr depth_set depths;            the depths that it reads in any of its blocks
//   template <class S> struct parameters;  visit(f, at, p...)      as a layer's (layer.hpp)
//   template <class T> struct tape;  struct scratch                as a layer's
//   static void forward(on, p, e, hidden, memory, tape);           fills memory [e.rows() * rows per token, E] from
//                                                                  hidden.state(depth), hidden.published<channel>(block), hidden.tokens()
//   static void backward(on, p, e, hidden, dmemory, tape, g, scratch);   hidden.gradient(depth) += ..., g += ...
//   static constexpr double flops(index tokens);  static std::string describe();   as a layer's
//   static std::string name_of_row(int n);        what the n-th row of a token is of, in maps of attention: "depth 2"; only
//                                                 if it is not simply that of its n-th depth
#pragma once

#include <concepts>
#include <string>

#include "fathom/core/depth_set.hpp"
#include "fathom/layer/hidden_states.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom {

/// The rows per token of a source in a block.
template <class Source>
[[nodiscard]] constexpr index rows_per_token_at(int block) {
  if constexpr (requires { Source::rows_at(block); })
    return Source::rows_at(block);
  else
    return Source::rows_per_token;
}

namespace contract {

/// The hidden states for checking signatures.
using any_hidden = below<hidden_states<float, 1>>;

template <class S>
concept source_runs = requires(const any_context& on, const typename S::template parameters<plain<float>>& p,
                               typename S::template parameters<plain<float>>& g, const extent& e, const any_hidden& hidden,
                               matrix<float> memory, const typename S::template tape<float>& t,
                               const typename S::template scratch<float>& s) {
  S::forward(on, p, e, hidden, memory, t);
  S::backward(on, p, e, hidden, memory, t, g, s);
};

/// A residual source, as described at the top of this file.
template <class S>
concept residual_source = requires {
  { S::rows_per_token } -> std::convertible_to<index>;
  { S::depths } -> std::convertible_to<depth_set>;
} && has_parameters<S> && has_tape<S> && has_scratch<S> && has_flops<S> && source_runs<S>;

}  // namespace contract

namespace layers {
/// The source of a stage that reads only its input.
struct no_source {
  static constexpr index rows_per_token = 0;
  static constexpr depth_set depths{};
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = nothing;
  template <class T>
  using scratch = nothing;
  [[nodiscard]] static constexpr double flops(index) { return 0; }
};

/// One row of zeros per token: replaces an invalid source after its error, to prevent follow-up errors.
template <index E>
struct no_rows : no_source {
  static constexpr index rows_per_token = 1;
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const extent&, const Hidden&, output<On> memory, const nothing&) {
    zero(on, memory);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On&, const P&, const extent&, const Hidden&, output<On>, const nothing&, G&, const nothing&) {}
  [[nodiscard]] static std::string describe() { return "nothing"; }
};
}  // namespace layers

}  // namespace fathom
