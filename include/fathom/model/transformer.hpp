// The model, made of an architecture (architecture.hpp, gpt.hpp, or a user's own) and a backend: parameters, tape,
// cache; forward, backward, prefill, decode. layout.hpp has the tensors, tape.hpp training, cache.hpp decoding.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fathom/backend/backend.hpp"
#include "fathom/backend/cpu/isa.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/stack.hpp"
#include "fathom/model/batch.hpp"
#include "fathom/model/cache.hpp"
#include "fathom/model/layout.hpp"
#include "fathom/model/tape.hpp"

namespace fathom {

namespace backend {
inline namespace FATHOM_ISA {
template <class Compute>
struct cpu;  // backend/cpu.hpp
}
}  // namespace backend

/// An architecture has: vocab, context, width; embedding, body (a stack of blocks), head; whether the head is tied.
template <class Architecture, class Backend = backend::cpu<float>>
struct transformer {
  static_assert(check::tensor_names_are_distinct<repeated_name<Architecture>()>,
                "fathom: two tensors of this architecture have one name. A name that begins with '/' does not carry the number of "
                "its block, and so can be in one block only");

  using architecture = Architecture;
  using backend = Backend;
  using scalar = typename Backend::scalar;
  using executor = typename Backend::executor;
  using memory = memory_of<Backend>;  // where parameters, tapes and caches lie
  using embedding = typename Architecture::embedding;
  using body = typename Architecture::body;
  using head = typename Architecture::head;

  static constexpr index vocab = Architecture::vocab;      // V
  static constexpr index context = Architecture::context;  // most tokens of a sequence
  static constexpr index width = Architecture::width;      // E
  static constexpr int depth = body::depth;                // L
  static constexpr bool tied = Architecture::tied;

  /// The outputs of all blocks, and what their stages publish.
  using hidden_states = fathom::hidden_states<scalar, depth, typename body::published>;

  // ---- Parameters ---------------------------------------------------------------------------------------------------

  /// All tensors of the model over a storage: one contiguous block.
  template <class S>
  using layout = fathom::layout<Architecture, S>;

  /// Weights, gradients and moments are values of this one type. fathom::make<net::parameters>() owns one.
  struct parameters : layout<plain<scalar>> {
    using model = transformer;
    using memory = transformer::memory;
    /// The same numbers in the host's memory.
    struct on_host : layout<plain<scalar>> {
      using model = transformer;
    };
  };
  /// Read-only weights laid out for decoding with P = float, bf16, int8 or int4 (core/grouped.hpp) in the matrices:
  /// fathom::pack<P>(weights).
  template <class P>
  struct packed : layout<typename Backend::template packed<P>> {
    using model = transformer;
    using memory = transformer::memory;
    using number = P;
  };

  /// Calls f(name, initial, tensor...) for every tensor, in the order of memory. With several parameters, of the same
  /// or of different storages, f gets all tensors of a name at once. A tensor has data(), size, rank and shape.
  template <class F, class... P>
  static void visit(const F& f, P&... p) {
    visit_layout<Architecture>(f, path{}, p...);
  }
  /// The same without names: f(initial, tensor...).
  template <class F, class... P>
  static constexpr void visit_tensors(const F& f, P&... p) {
    visit_layout<Architecture>([&](const auto&, initial start, auto&... tensor) { f(start, tensor...); }, no_path{}, p...);
  }

  /// The shapes and roles of all tensors, without numbers.
  static constexpr const layout<shapes>& tensors = tensors_of<Architecture>;
  /// The number of parameters.
  static constexpr index parameter_count = parameter_count_in<Architecture>;
  /// Bytes of weights packed as P.
  template <class P>
  static constexpr std::size_t weight_bytes = sizeof(packed<P>);

  // ---- Costs --------------------------------------------------------------------------------------------------------

  /// Floating-point operations of forward for each token of a sequence of `tokens` tokens: those of matrix products and
  /// attention, as is usual in the field.
  [[nodiscard]] static constexpr double forward_flops_per_token(index tokens = context) {
    return (body::flops(tokens) + head::flops(tokens)) / static_cast<double>(tokens);
  }
  /// Of forward and backward. Counted as 3 times forward: recomputation in backward is not counted.
  [[nodiscard]] static constexpr double training_flops_per_token(index tokens = context) {
    return 3 * forward_flops_per_token(tokens);
  }

  // ---- Training -----------------------------------------------------------------------------------------------------

  /// Rows (tokens of the batch) that training passes through the head at a time, so that a large batch never has all of
  /// its logits at once. Fewer than 512 would slow its products: every chunk reads all of W, and reads and writes all
  /// of its gradient. With a small vocabulary, a chunk has 4M logits, or as many as suit the backend.
  static constexpr index head_rows = std::max<index>(512, backend_traits<Backend>::head_logits / vocab);
  /// Workspace bytes per thread, besides a tape. 0 for a backend that needs none.
  static constexpr std::size_t workspace_bytes = backend_traits<Backend>::workspace_bytes;

  using tape = training_tape<transformer>;

  /// Bytes of a tape for `sequences` sequences of `tokens` tokens, when it is made, without the workspaces of its
  /// threads (workspace_bytes each).
  [[nodiscard]] static constexpr std::size_t tape_bytes(index sequences, index tokens = context) {
    return bytes_of<tape_views<transformer>>(extent{sequences, tokens});
  }

  /// Runs the model over a batch. With targets, tape.loss() is then the loss; without, tape.logits() the logits.
  /// Fails on a batch that does not fit the tape, and on tokens outside of the vocabulary.
  static void forward(const parameters& p, const batch& b, tape& t) { training_pass<transformer>::forward(p, b, t); }

  /// g += scale * the gradient of tape.loss(), for the batch of the last forward. If the batch has more than head_rows
  /// tokens, forward has left only the logits of the last head_rows or fewer, and backward recomputes the others. Below
  /// `lowest`, nothing is added to g (lowest_stage_with, layout.hpp).
  static void backward(const parameters& p, const batch& b, tape& t, parameters& g, double scale = 1, const lowest_stage& lowest = {}) {
    training_pass<transformer>::backward(p, b, t, g, scale, lowest);
  }

  /// Forward and backward at once, for a batch with targets: sets tape.loss(), and g += scale * its gradient. Bitwise
  /// the same as forward and backward, but faster for a batch of more than head_rows tokens, because logits are
  /// computed once.
  static void forward_backward(const parameters& p, const batch& b, tape& t, parameters& g, double scale = 1,
                               const lowest_stage& lowest = {}) {
    training_pass<transformer>::forward_backward(p, b, t, g, scale, lowest);
  }

  // ---- Decoding -----------------------------------------------------------------------------------------------------

  /// The tokens of a prompt that are read at a time: each block reads all weights once.
  static constexpr index prefill_block = std::min(context, most_tokens_at_once);
  /// Workspace bytes per thread of a cache.
  static constexpr std::size_t decoding_workspace_bytes = backend_traits<Backend>::decoding_workspace_bytes;

  using cache = decoding_cache<transformer>;
  /// A cache that holds keys and values rounded to T: fathom::bf16 or std::int8_t. It is used in the same way.
  template <class T>
  using cache_of = decoding_cache<transformer, T>;

  /// Bytes of a cache, with a workspace for one thread. Layers with a window hold the positions that it reaches, and
  /// some hundred more.
  template <class T = scalar>
  [[nodiscard]] static constexpr std::size_t cache_bytes(index sequences = 1, index capacity = context) {
    return bytes_of<cache_views<transformer, T>>(sequences, capacity);
  }

  /// Reads a prompt, in blocks, after what the sequence already holds. Returns the logits [vocab] that follow its last
  /// token; they stay until the next call. Fails, with nothing changed, when the prompt is empty, does not fit or has a
  /// token outside of the vocabulary. W is packed<P>, or parameters.
  template <class W, class T>
  static std::span<const scalar> prefill(const W& weights, std::span<const token> prompt, cache_of<T>& c, index sequence = 0) {
    return decoding<transformer>::prefill(weights, prompt, c, sequence);
  }

  /// Reads one further token of each sequence, and returns the logits that follow, [sequences, vocab]; they stay until
  /// the next call. Fails, with nothing changed, when a sequence is full or a token outside of the vocabulary.
  template <class W, class T>
  static std::span<const scalar> decode(const W& weights, std::span<const token> next, cache_of<T>& c) {
    return decoding<transformer>::decode(weights, next, c);
  }
  template <class W, class T>
  static std::span<const scalar> decode(const W& weights, token next, cache_of<T>& c) {
    return decode(weights, std::span<const token>(&next, 1), c);
  }

  /// The same for the first sequences of the cache only, one token each: [next.size(), vocab].
  template <class W, class T>
  static std::span<const scalar> decode_first(const W& weights, std::span<const token> next, cache_of<T>& c) {
    return decoding<transformer>::decode_first(weights, next, c);
  }

  // The same for a cache of one sequence, on a backend that samples where the logits are: `draw`, the backend's
  // drawing, draws the next token, and the host does not wait.

  /// Reads a prompt, and starts to draw the token that follows.
  template <class W, class T, class Drawing>
  static void prefill_and_draw(const W& weights, std::span<const token> prompt, cache_of<T>& c, Drawing& draw) {
    decoding<transformer>::prefill_and_draw(weights, prompt, c, draw);
  }
  /// Reads the last drawn token, known to the host or not, and starts to draw the one that follows.
  template <class W, class T, class Drawing>
  static void decode_and_draw(const W& weights, cache_of<T>& c, Drawing& draw) {
    decoding<transformer>::decode_and_draw(weights, c, draw);
  }
};

template <class Architecture, class Backend>
  requires(!contract::backend<Backend>)
struct transformer<Architecture, Backend> {
  static_assert(contract::backend<Backend>,
                "fathom: this backend lacks a member or an operation, or has one of another type: see backend/backend.hpp");
};

/// Packs weights for decoding into `to`.
template <class Parameters, class Packed>
void pack_into(const Parameters& weights, Packed& to) {
  using model = typename Parameters::model;
  model::visit_tensors(
      [](initial, const auto& from, auto& tensor) {
        model::backend::template pack_tensor<typename Packed::number>(from, tensor);
      },
      weights, to);
}

/// Returns weights packed for decoding, with P = float, bf16, int8, int4, symmetric_int4 or grouped_int8 in the matrices.
/// `weights` are a model's parameters, or what owns them.
template <class P, class Weights>
[[nodiscard]] auto pack(const Weights& weights) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::pack: expected weights: *weights, weights or trainer.weights()");
    return nullptr;
  } else {
    using model = typename detail::weights_of<const Weights>::model;
    constexpr bool is_possible = check::weights_are_packed_as_float_bf16_int8_int4_or_the_scalar<P, typename model::scalar>;
    static_assert(is_possible, "fathom::pack: weights are packed as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4, "
                               "grouped_int8 or the scalar of the model");
    auto ready = make<typename model::template packed<std::conditional_t<is_possible, P, typename model::scalar>>>();
    if constexpr (is_possible) pack_into(detail::weights_in(weights, "pack"), *ready);
    return ready;
  }
}

}  // namespace fathom
