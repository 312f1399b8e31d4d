// From the last hidden state to logits.
#pragma once

#include <cstdint>
#include <ratio>

#include "fathom/backend/epilogue.hpp"
#include "fathom/core/tensor_view.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/layer_norm.hpp"

namespace fathom::layers {

/// logits = Norm_f(x) W^T.   x [rows, E], W [V, E], logits [rows, V]. If tied, W is the token embedding, which the
/// caller passes as `wte`; otherwise lm_head.weight. A tape or scratch also works for fewer rows than it has.
/// With a SoftCap, a std::ratio: logits = cap tanh(Norm_f(x) W^T / cap) (Gemma 2, arXiv 2408.00118, section 2).
template <index V, index E, bool Tied, class Norm = layer_norm<E>, class SoftCap = std::ratio<0>>
struct output_head {
  /// The bound of the logits; 0: none. The loss passes its gradient through the cap (cross_entropy.hpp), so that
  /// `backward` here begins with the gradient for what the cap bounds.
  static constexpr double soft_cap = static_cast<double>(SoftCap::num) / static_cast<double>(SoftCap::den);
  static_assert(soft_cap >= 0, "fathom::output_head: a soft cap must be positive");

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
    if constexpr (soft_cap > 0)
      matmul_nt(on, normed, table(p, wte), logits, epilogue::soft_cap<scalar<On>>{static_cast<scalar<On>>(soft_cap)});
    else
      matmul_nt(on, normed, table(p, wte), logits, epilogue::none{});
  }
  /// dx = the gradient with respect to x, given that of the product
  template <class On, class P, class W, class G, class GW>
  static void backward(const On& on, const P& p, const W& wte, input<On> x, input<On> dlogits, output<On> dx,
                       const tape<scalar<On>>& t, G& g, GW& gwte, const scratch<scalar<On>>& s) {
    const matrix<scalar<On>> dnormed = s.dnormed.rows_from(0, x.rows);
    add_weight_gradient(on, dlogits, t.normed.rows_from(0, x.rows), table(g, gwte));
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
    return join(norm, ", logits of ", V, " tokens", Tied ? ", tied to wte" : "") + (soft_cap > 0 ? join(", softly capped at ", soft_cap) : "");
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

/// The head shares the matrix of the token embedding.
struct tied {
  static constexpr bool value = true;
};
/// The head has a matrix of its own.
struct untied {
  static constexpr bool value = false;
};

namespace check {
template <std::intmax_t cap, std::intmax_t per>
inline constexpr bool soft_cap_is_positive = cap > 0 && per > 0;
}
/// An option of the head: logits between -cap and cap, cap tanh(logits / cap) (Gemma 2, arXiv 2408.00118, section 2, has
/// 30). The cap is Cap / Per.
template <std::intmax_t Cap, std::intmax_t Per = 1>
struct soft_cap {
  static_assert(check::soft_cap_is_positive<Cap, Per>, "fathom::soft_cap: a soft cap must be positive");
  static constexpr auto option = field<"soft_cap">(static_cast<double>(Cap) / static_cast<double>(Per));
  template <class Options>
  struct of : Options {
    using soft_cap = std::ratio<Cap, Per>;
  };
};

namespace layers {
/// Options of the head, as a type.
struct head_options {
  using soft_cap = std::ratio<0>;
};
}  // namespace layers

/// The output head as a part: a norm, then the logits: head<rms_norm<>, tied, soft_cap<30>>.
template <class Norm, class Tying = tied, class... Options>
struct head {
  static constexpr bool is_tied = Tying::value;
  static constexpr auto options = fields(field<"norm">(part_of<Norm>{}), field<"tied">(is_tied), Options::option...);
  template <class At>
  using bind = layers::output_head<At::vocab, At::width, is_tied, typename Norm::template bind<At>,
                                   typename detail::changed_options<layers::head_options, Options...>::type::soft_cap>;
};

}  // namespace fathom
