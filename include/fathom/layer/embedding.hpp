// From tokens and their positions to the first hidden state.
#pragma once

#include <cmath>
#include <span>
#include <string>

#include "fathom/backend/operations.hpp"
#include "fathom/core/tensor_view.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// x = wte[tokens].   wte [V, E], x [rows, E]
/// A tied table is also the output projection, and is stored as one.
template <index V, index E, bool Tied>
struct token_embedding {
  static constexpr index width = E;

  template <class S>
  struct parameters {
    typename S::template table<V, E> wte;
  };
  template <class S>
    requires Tied
  struct parameters<S> {
    typename S::template head<V, E> wte;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "wte" / "weight", initial::normal, p.wte...);
  }

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, std::span<const token> tokens, output<On> x) {
    embedding_forward(on, e, tokens, p.wte, x);
  }
  template <class On, class G>
  static void backward(const On& on, const extent& e, std::span<const token> tokens, input<On> dx, G& g) {
    if (is_trained(g.wte)) embedding_backward(on, e, tokens, dx, g.wte);
  }
  [[nodiscard]] static std::string describe() { return join(V, " tokens"); }
};

/// x = sqrt(E) wte[tokens], as in Gemma (arXiv 2403.08295). The factor is rounded to float, the type of the weights, as
/// Gemma3TextScaledWordEmbedding of `transformers` rounds it.
template <index V, index E, bool Tied>
struct scaled_token_embedding : token_embedding<V, E, Tied> {
  using table = token_embedding<V, E, Tied>;

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, std::span<const token> tokens, output<On> x) {
    table::forward(on, p, e, tokens, x);
    multiply(on, factor(), x);
  }
  /// dx becomes factor * dx.
  template <class On, class G>
  static void backward(const On& on, const extent& e, std::span<const token> tokens, output<On> dx, G& g) {
    multiply(on, factor(), dx);
    table::backward(on, e, tokens, dx, g);
  }
  [[nodiscard]] static std::string describe() { return table::describe() + " times sqrt(width)"; }

 private:
  [[nodiscard]] static double factor() { return static_cast<double>(std::sqrt(static_cast<float>(E))); }
};

/// x += wpe[positions]: learned absolute positions.   wpe [Context, E], x [rows, E]
template <index Context, index E>
struct learned_positions {
  template <class S>
  struct parameters {
    typename S::template table<Context, E> wpe;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "wpe" / "weight", initial::normal, p.wpe...);
  }

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, output<On> x) {
    positions_forward(on, e, p.wpe, x);
  }
  /// g += the gradient of wpe. dx is also the gradient of the x before the addition, unchanged.
  template <class On, class G>
  static void backward(const On& on, const extent& e, input<On> dx, G& g) {
    if (is_trained(g.wpe)) positions_backward(on, e, dx, g.wpe);
  }
  [[nodiscard]] static std::string describe() { return join(Context, " positions"); }
};

/// The token embedding plus the sum of the additions: x = wte[tokens], then x += ... for each. An addition is a layer
/// like learned_positions, with forward(on, p, e, x), backward(on, e, dx, g) and describe().
template <class Tokens, class... Additions>
struct sum_of_embeddings {
  template <class S>
  struct parameters : Tokens::template parameters<S>, Additions::template parameters<S>... {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    Tokens::visit(f, at, p...);
    (Additions::visit(f, at, p...), ...);
  }

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, std::span<const token> tokens, output<On> x) {
    Tokens::forward(on, p, e, tokens, x);
    (Additions::forward(on, p, e, x), ...);
  }
  /// dx may change.
  template <class On, class Matrix, class G>
  static void backward(const On& on, const extent& e, std::span<const token> tokens, const Matrix& dx, G& g) {
    (Additions::backward(on, e, dx, g), ...);
    Tokens::backward(on, e, tokens, dx, g);
  }
  static constexpr bool has_additions = sizeof...(Additions) > 0;  // such as learned positions
  [[nodiscard]] static std::string describe() {
    std::string text = Tokens::describe();
    ((text += " and " + Additions::describe()), ...);
    return join(text, " to ", Tokens::width);
  }
};

/// x = wte[tokens] + wpe[positions]
template <index V, index Context, index E, bool Tied>
using embedding = sum_of_embeddings<token_embedding<V, E, Tied>, learned_positions<Context, E>>;

}  // namespace fathom::layers

namespace fathom {

/// The token embedding, as a part of `embed`.
struct tokens {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::token_embedding<At::vocab, At::width, At::tied>;
};
/// The token embedding times the square root of the width (Gemma).
struct scaled_tokens {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::scaled_token_embedding<At::vocab, At::width, At::tied>;
};
/// Learned absolute positions, as a part of `embed`.
struct learned_positions {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::learned_positions<At::context, At::width>;
};

/// The embedding as a part: `tokens` or `scaled_tokens`, and the additions.
template <class Tokens, class... Additions>
struct embed {
  static constexpr auto options = fields(field<"parts">(parts_of<Tokens, Additions...>{}));
  template <class At>
  using bind = layers::sum_of_embeddings<typename Tokens::template bind<At>, typename Additions::template bind<At>...>;
};

}  // namespace fathom
