// From tokens and their positions to the first hidden state.
#pragma once

#include <span>
#include <string>

#include "fathom/layer/layer.hpp"

namespace fathom::layers {

/// x = wte[tokens].   wte [V, E], x [rows, E]
/// A tied table is the output projection as well, and is stored so that it can be multiplied with.
template <index V, index E, bool Tied>
struct token_embedding {
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
    embedding_backward(on, e, tokens, dx, g.wte);
  }
  [[nodiscard]] static std::string describe() { return join(V, " tokens to ", E); }
};

/// x += wpe[positions], a learned row for every position.   wpe [Context, E], x [rows, E]
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
  /// What was added to x has the gradient dx, and x keeps it.
  template <class On, class G>
  static void backward(const On& on, const extent& e, input<On> dx, G& g) {
    positions_backward(on, e, dx, g.wpe);
  }
  [[nodiscard]] static std::string describe() { return join(Context, " positions to ", E); }
};

/// x = wte[tokens] + wpe[positions]
template <index V, index Context, index E, bool Tied>
struct embedding {
  using tokens_part = token_embedding<V, E, Tied>;
  using positions_part = learned_positions<Context, E>;

  template <class S>
  struct parameters : tokens_part::template parameters<S>, positions_part::template parameters<S> {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    tokens_part::visit(f, at, p...);
    positions_part::visit(f, at, p...);
  }

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, std::span<const token> tokens, output<On> x) {
    tokens_part::forward(on, p, e, tokens, x);
    positions_part::forward(on, p, e, x);
  }
  template <class On, class G>
  static void backward(const On& on, const extent& e, std::span<const token> tokens, input<On> dx, G& g) {
    tokens_part::backward(on, e, tokens, dx, g);
    positions_part::backward(on, e, dx, g);
  }
  [[nodiscard]] static std::string describe() { return join(V, " tokens and ", Context, " positions to ", E); }
};

}  // namespace fathom::layers
