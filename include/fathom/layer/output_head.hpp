// From the last hidden state to logits.
#pragma once

#include "fathom/backend/epilogue.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/layer_norm.hpp"

namespace fathom::layers {

/// logits = Norm_f(x) W^T.   x [rows, E], W [V, E], logits [rows, V]. If tied, W is the token embedding, which the
/// caller passes as `wte`; otherwise lm_head.weight. A tape or scratch also works for fewer rows than it has.
template <index V, index E, bool Tied, class Norm = layer_norm<E>>
struct output_head {
  template <class S>
  struct parameters {
    typename Norm::template parameters<S> ln_f;
    typename S::template head<V, E> lm_head;
  };
  template <class S>
    requires Tied
  struct parameters<S> {
    typename Norm::template parameters<S> ln_f;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    Norm::visit(f, at / "ln_f", p.ln_f...);
    if constexpr (!Tied) f(at / "lm_head" / "weight", initial::normal, p.lm_head...);
  }

  template <class T>
  struct tape {
    typename Norm::template tape<T> ln_f;
    matrix<T> normed;  // [rows, E]
    constexpr tape(arena& a, const extent& e) : ln_f(a, e), normed(a.take<T>(e.rows(), E)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dnormed;  // [rows, E]
    constexpr scratch(arena& a, const extent& e) : dnormed(a.take<T>(e.rows(), E)) {}
  };

  template <class On, class P, class W>
  static void forward(const On& on, const P& p, const W& wte, input<On> x, output<On> logits,
                      const tape<scalar<On>>& t) {
    const matrix<scalar<On>> normed = t.normed.rows_from(0, x.rows);
    Norm::forward(on, p.ln_f, x, normed, t.ln_f);
    matmul_nt(on, normed, table(p, wte), logits, epilogue::none{});
  }
  /// dx = the gradient with respect to x
  template <class On, class P, class W, class G, class GW>
  static void backward(const On& on, const P& p, const W& wte, input<On> x, input<On> dlogits, output<On> dx,
                       const tape<scalar<On>>& t, G& g, GW& gwte, const scratch<scalar<On>>& s) {
    const matrix<scalar<On>> dnormed = s.dnormed.rows_from(0, x.rows);
    matmul_tn(on, dlogits, t.normed.rows_from(0, x.rows), table(g, gwte).view());
    matmul(on, dlogits, table(p, wte), dnormed, epilogue::none{});
    zero(on, dx);
    Norm::backward(on, p.ln_f, x, dnormed, dx, t.ln_f, g.ln_f);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return 2.0 * static_cast<double>(V) * static_cast<double>(E) * static_cast<double>(tokens);
  }
  [[nodiscard]] static std::string describe() {
    std::string norm = "LN";
    if constexpr (requires { Norm::describe(); }) norm = Norm::describe();
    return join(norm, ", logits of ", V, " tokens", Tied ? ", tied to wte" : "");
  }

 private:
  template <class P, class W>
  static auto& table(P& p, W& wte) {
    if constexpr (Tied)
      return wte;
    else
      return p.lm_head;
  }
};

}  // namespace fathom::layers

namespace fathom {

/// Whether the head shares the matrix of the token embedding.
struct tied {
  static constexpr bool value = true;
};
struct untied {
  static constexpr bool value = false;
};

/// The output head as a part: a norm, then the logits.
template <class Norm, class Tying = tied>
struct head {
  static constexpr bool is_tied = Tying::value;
  static constexpr auto options = fields(field<"norm">(part_of<Norm>{}), field<"tied">(is_tied));
  template <class At>
  using bind = layers::output_head<At::vocab, At::width, is_tied, typename Norm::template bind<At>>;
};

}  // namespace fathom
