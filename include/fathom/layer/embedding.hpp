// Token and position embedding.
#pragma once

#include <span>

#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// x = wte[tokens] + wpe[positions].   wte [V, E], wpe [Context, E], x [rows, E]
/// A tied embedding is the output projection as well, and is stored so that it can be multiplied with.
template <index V, index Context, index E, bool Tied>
struct embedding {
  template <class S, bool IsHead>
  struct token_table {
    using type = typename S::template table<V, E>;
  };
  template <class S>
  struct token_table<S, true> {
    using type = typename S::template head<V, E>;
  };
  template <class S>
  struct parameters {
    typename token_table<S, Tied>::type wte;
    typename S::template table<Context, E> wpe;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "wte" / "weight", initial::normal, p.wte...);
    f(at / "wpe" / "weight", initial::normal, p.wpe...);
  }

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, std::span<const token> tokens, output<On> x) {
    embedding_forward(on, e, tokens, p.wte, p.wpe, x);
  }
  template <class On, class G>
  static void backward(const On& on, const extent& e, std::span<const token> tokens, input<On> dx, G& g) {
    embedding_backward(on, e, tokens, dx, g.wte, g.wpe);
  }
  [[nodiscard]] static std::string describe() { return join(V, " tokens and ", Context, " positions to ", E); }
};

}  // namespace fathom::layers

namespace fathom {

/// The tokens' table, and learned positions, as parts of `embed`.
struct tokens {
  static constexpr auto options = fields();
};
struct learned_positions {
  static constexpr auto options = fields();
};

/// The embedding as a part: what is added up for a token.
template <class... Parts>
struct embed {
  static constexpr auto options = fields(field<"parts">(parts_of<Parts...>{}));
  template <class At>
  using bind = layers::embedding<At::vocab, At::context, At::width, At::tied>;
};

}  // namespace fathom
