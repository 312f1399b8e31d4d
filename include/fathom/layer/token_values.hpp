// Value embeddings: a learned embedding of the token, as a residual source whose rows are values of attention.
#pragma once

#include <string>

#include "fathom/backend/operations.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/tensor_view.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/residual_source.hpp"

namespace fathom::layers {

/// Row t of the memory [rows, E] begins with the K numbers table[token t]; the rest of the row is 0.   table [V, K]
/// Added to the values of a self-attention by a gate for each head, they are the value embeddings of modded-nanogpt
/// (https://github.com/KellerJordan/modded-nanogpt, record of 2024-12-04 by @KoszarskyB: an embedding of its own for every block,
/// mixed into its values; gates for each head since the record of 2025-12-29). There, mixing starts at a half and gates are
/// sigmoids of the stream; here gates are numbers, from 0.
template <index V, index E, index K>
struct token_values {
  static_assert(K <= E, "fathom::token_values: the values of all heads are wider than the model");
  static constexpr index rows_per_token = 1;
  static constexpr depth_set depths{};  // it reads tokens
  template <class S>
  struct parameters {
    typename S::template table<V, K> token;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "token" / "weight", initial::normal, p.token...);
  }
  template <class T>
  using tape = nothing;
  template <class T>
  using scratch = nothing;

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, output<On> memory, const nothing&) {
    if constexpr (K < E) zero(on, memory.columns_from(K, E - K));
    embedding_forward(on, e, hidden.tokens(), p.token, memory.columns_from(0, K));
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const extent& e, const Hidden& hidden, output<On> dmemory, const nothing&, G& g, const nothing&) {
    if (is_trained(g.token)) embedding_backward(on, e, hidden.tokens(), dmemory.columns_from(0, K), g.token);
  }

  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() { return join("values of ", V, " tokens"); }
};

}  // namespace fathom::layers

namespace fathom {

/// The same as a part, of self-attentions with `Values` numbers of values for each token (key-value heads times their width; 0: as
/// many as the model is wide): pre<"attn", layer_norm<>, look_back_in_values<4, false, true, head_gates>, token_values<>>.
template <index Values = 0>
struct token_values {
  static constexpr auto options = fields(field<"values">(Values));
  template <class At>
  using bind = layers::token_values<At::vocab, At::width, Values == 0 ? At::width : Values>;
};

}  // namespace fathom
