// Where a stage reads from, beyond the stream that flows into it: any earlier depth.
//
// A residual source turns the hidden states X_0 ... of the depths below into rows that a stage reads: `rows_per_token`
// rows for every token, [rows * rows_per_token, E], a token's side by side. The paper's shortcut is one source
// (feature_memory.hpp), a learned sum of earlier outputs would be another. A source sees one token at a time, so that it
// needs no cache while decoding. A new source is one file with these members:
//
//   static constexpr index rows_per_token;
//   static constexpr depth_set depths;            the depths that it reads
//   template <class S> struct parameters;  visit(f, at, p...)      as a layer's (layer.hpp)
//   template <class T> struct tape;  struct scratch                as a layer's
//   static void forward(on, p, e, hidden, memory, tape);           fills memory from hidden.state(depth)
//   static void backward(on, p, e, hidden, dmemory, tape, g, scratch);   hidden.gradient(depth) += ..., g += ...
//   static constexpr double flops(index tokens);  static std::string describe();
#pragma once

#include "fathom/core/depth_set.hpp"
#include "fathom/layer/hidden_states.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom {

namespace layers {
/// The source of a stage that reads nothing but its own input.
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
}  // namespace layers

}  // namespace fathom
