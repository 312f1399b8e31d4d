// The interface of layers. A layer is an empty type with static functions over views. It is written once, in terms of
// the primitive operations of backend/operations.hpp, and runs on every backend. Layers hold no state and never
// allocate. A new layer is one file, here or in your own program.
//
// A layer of a block (self_attention, mlp, ... ; see stage.hpp) has these members. `on` is the execution context, T its
// scalar, e the extent of the pass, x [e.rows(), E] the input, and y [e.rows(), E] the new residual stream.
//
//   static constexpr index width;                 E
//   template <class S> struct parameters;         its tensors, over a storage (core/storage.hpp)
//   static constexpr void visit(f, at, p...);     calls f(at / "weight", initial::..., p.weight...) for each tensor of
//                                                 any number of parameters of this layer, in lockstep
//   template <class T> struct tape;               tape(arena&, extent): what forward saves for backward
//   template <class T> struct scratch;            scratch(arena&, extent): temporary memory of backward
//   template <class T> struct cache;              cache(arena&, sequences, capacity): state of earlier tokens, for
//                                                 decoding; only if the layer looks at earlier tokens. Here T is the
//                                                 scalar, or what a cache rounds keys and values to: bf16 or int8.
//                                                 Its copy<Memory>(sequence_copy) is needed only where sequences are
//                                                 copied (cache.copy, batch_generator)
//
//   static void forward(on, p, e, x, residual, y, tape);       y = residual + layer(x)
//   static void backward(on, p, e, x, dy, dx, tape, g, scratch);   dx = gradient with respect to x; g += gradient of p
//   static void extend(on, p, e, x, residual, y, tape, cache);  forward for the tokens after those in the cache;
//                                                              only if the layer looks at earlier tokens
//
//   static constexpr double flops(index tokens);  floating-point operations of forward for a sequence of that many tokens
//   static constexpr index least_length(index length, index capacity);   the fewest tokens, besides 0, to which a cache that
//                                                 has held `length` tokens can be truncated; default: 0
//   static std::string describe();                a line for the summary; default: its part's (part.hpp)
//
// A layer that also attends to a residual source (residual_source.hpp) has `source_rows`, the number of rows per token.
// It takes these rows, `memory` [e.rows() * source_rows, E], after x, and their gradient, `dmemory`, after dx.
#pragma once

#include <concepts>
#include <string>

#include "fathom/backend/backend.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// The scalar type of a context, and the views that a layer reads and writes.
template <class On>
using scalar = typename On::scalar;
template <class On>
using input = matrix<const scalar<On>>;
template <class On>
using output = matrix<scalar<On>>;

/// The number of parameters of a layer, a source, a stage or a model.
template <class Layer>
[[nodiscard]] constexpr index parameter_count_of() {
  constexpr typename Layer::template parameters<shapes> tensors{};
  index count = 0;
  Layer::visit([&](const auto&, initial, const auto& tensor) { count += tensor.size; }, no_path{}, tensors);
  return count;
}

/// The fewest tokens, besides 0, to which the cache of a layer, a stage or a body can be truncated.
template <class Part>
[[nodiscard]] constexpr index least_length_of([[maybe_unused]] index length, [[maybe_unused]] index capacity) {
  if constexpr (requires { Part::least_length(length, capacity); })
    return Part::least_length(length, capacity);
  else
    return 0;
}

/// What is copied in a cache of sequences of up to `capacity` tokens: sequence `from`, to the place of sequence `to`.
struct sequence_copy {
  index from, to;
  index length;   // the tokens that it holds,
  index reached;  // and held before it was truncated
  index capacity;
};

/// An empty tape, scratch or cache.
struct nothing {
  template <class... Arguments>
  constexpr explicit nothing(Arguments&&...) {}
  template <class Memory>
  void copy(const sequence_copy&) const {}
  char unused = 0;  // without a member, g++ warns that the object is uninitialized
};

namespace contract {

/// A context for checking signatures; no operation accepts it.
struct any_context {
  using scalar = float;
};
/// A visitor for checking visit.
struct any_visitor {
  template <class... A>
  constexpr void operator()(const A&...) const {}
};

/// The common members of layers, sources and stages: parameters and their visitor, a tape, scratch.
template <class L>
concept has_parameters = requires(typename L::template parameters<plain<float>>& p, const no_path& at) {
  L::visit(any_visitor{}, at, p);
};
template <class L>
concept has_tape = std::constructible_from<typename L::template tape<float>, arena&, const extent&>;
template <class L>
concept has_scratch = std::constructible_from<typename L::template scratch<float>, arena&, const extent&>;
template <class L>
concept has_flops = requires(index tokens) {
  { L::flops(tokens) } -> std::convertible_to<double>;
};
/// Whether L has forward and backward of a layer without a source.
template <class L>
concept runs_alone = requires(const any_context& on, const typename L::template parameters<plain<float>>& p,
                              typename L::template parameters<plain<float>>& g, const extent& e, matrix<const float> x, matrix<float> y,
                              const typename L::template tape<float>& t, const typename L::template scratch<float>& s) {
  L::forward(on, p, e, x, x, y, t);
  L::backward(on, p, e, x, x, y, t, g, s);
};
/// Whether L has forward and backward of a layer that attends to a source.
template <class L>
concept runs_with_source = requires(const any_context& on, const typename L::template parameters<plain<float>>& p,
                                    typename L::template parameters<plain<float>>& g, const extent& e, matrix<const float> x,
                                    matrix<float> y, const typename L::template tape<float>& t,
                                    const typename L::template scratch<float>& s) {
  L::forward(on, p, e, x, x, x, y, t);
  L::backward(on, p, e, x, x, x, y, y, t, g, s);
};

/// A layer of a block, as described at the top of this file.
template <class L>
concept layer = requires {
  { L::width } -> std::convertible_to<index>;
} && has_parameters<L> && has_tape<L> && has_scratch<L> && has_flops<L> && (runs_alone<L> || runs_with_source<L>);

}  // namespace contract

namespace layers {
/// y = residual: replaces an invalid layer after its error, to prevent follow-up errors.
template <index E>
struct no_layer {
  static constexpr index width = E;
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = nothing;
  template <class T>
  using scratch = nothing;
  template <class On, class P>
  static void forward(const On& on, const P&, const extent&, input<On>, input<On> residual, output<On> y, const nothing&) {
    copy(on, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P&, const extent&, input<On>, input<On>, output<On> dx, const nothing&, G&, const nothing&) {
    zero(on, dx);
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() { return "nothing"; }
};
}  // namespace layers
}  // namespace fathom
