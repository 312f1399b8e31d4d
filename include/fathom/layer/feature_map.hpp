// The three feature maps of the shortcut, from a selected depth to features (../README.md, "Shortcut"). Their norm, LN, may be
// another one.
//
// Each reads X [rows, E] and writes F [rows, E]; F may be every D-th row of a larger matrix. backward adds to dX.
#pragma once

#include <string>

#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/linear.hpp"

namespace fathom::layers {

/// F = LN(X)
template <index E, class Norm = layer_norm<E>>
struct identity_features {
  template <class S>
  struct parameters {
    typename Norm::template parameters<S> ln;
  };
  template <class V, class Path, class... P>
  static constexpr void visit(const V& f, const Path& at, P&... p) {
    Norm::visit(f, at / "ln", p.ln...);
  }
  template <class T>
  struct tape {
    typename Norm::template tape<T> ln;
    constexpr tape(arena& a, const extent& e) : ln(a, e) {}
  };
  template <class T>
  using scratch = nothing;

  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> features, const tape<scalar<On>>& t) {
    Norm::forward(on, p.ln, x, features, t.ln);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, input<On> x, input<On> dfeatures, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const nothing&) {
    Norm::backward(on, p.ln, x, dfeatures, dx, t.ln, g.ln);
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() { return "LN"; }
};

/// F = LN(X) W + b
template <index E, class Norm = layer_norm<E>>
struct linear_features {
  using projection = linear<E, E>;

  template <class S>
  struct parameters {
    typename Norm::template parameters<S> ln;
    typename projection::template parameters<S> c_proj;
  };
  template <class V, class Path, class... P>
  static constexpr void visit(const V& f, const Path& at, P&... p) {
    Norm::visit(f, at / "ln", p.ln...);
    projection::visit(f, at / "c_proj", p.c_proj...);
  }
  template <class T>
  struct tape {
    typename Norm::template tape<T> ln;
    matrix<T> normed;  // [rows, E]
    constexpr tape(arena& a, const extent& e) : ln(a, e), normed(a.take<T>(e.rows(), E)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dnormed;  // [rows, E]
    constexpr scratch(arena& a, const extent& e) : dnormed(a.take<T>(e.rows(), E)) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> features, const tape<scalar<On>>& t) {
    Norm::forward(on, p.ln, x, t.normed, t.ln);
    projection::forward(on, p.c_proj, t.normed, features);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, input<On> x, input<On> dfeatures, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.normed, dfeatures, g.c_proj);
    projection::backward_input(on, p.c_proj, dfeatures, s.dnormed);
    Norm::backward(on, p.ln, x, s.dnormed, dx, t.ln, g.ln);
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return projection::flops(tokens); }
  [[nodiscard]] static std::string describe() { return "LN, linear"; }
};

/// F = GELU(LN(X) W1 + b1) W2 + b2, hidden width F
template <index E, index F, class Norm = layer_norm<E>>
struct mlp_features {
  using fc = linear<E, F>;
  using projection = linear<F, E>;

  template <class S>
  struct parameters {
    typename Norm::template parameters<S> ln;
    typename fc::template parameters<S> c_fc;
    typename projection::template parameters<S> c_proj;
  };
  template <class V, class Path, class... P>
  static constexpr void visit(const V& f, const Path& at, P&... p) {
    Norm::visit(f, at / "ln", p.ln...);
    fc::visit(f, at / "c_fc", p.c_fc...);
    projection::visit(f, at / "c_proj", p.c_proj...);
  }
  template <class T>
  struct tape {
    typename Norm::template tape<T> ln;
    matrix<T> normed;  // [rows, E]
    matrix<T> before;  // [rows, F], before GELU
    matrix<T> hidden;  // [rows, F], after GELU
    constexpr tape(arena& a, const extent& e)
        : ln(a, e),
          normed(a.take<T>(e.rows(), E)),
          before(a.take_spread<T>(e.rows(), F)),
          hidden(a.take_spread<T>(e.rows(), F)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dbefore;  // [rows, F]
    matrix<T> dnormed;  // [rows, E]
    constexpr scratch(arena& a, const extent& e)
        : dbefore(a.take_spread<T>(e.rows(), F)), dnormed(a.take<T>(e.rows(), E)) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> features, const tape<scalar<On>>& t) {
    Norm::forward(on, p.ln, x, t.normed, t.ln);
    fc::template forward_activated<gelu_tanh>(on, p.c_fc, t.normed, t.before, t.hidden);
    projection::forward(on, p.c_proj, t.hidden, features);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, input<On> x, input<On> dfeatures, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.hidden, dfeatures, g.c_proj);
    projection::backward_input(on, p.c_proj, dfeatures, s.dbefore, epilogue::activation_gradient{gelu_tanh{}, t.before});
    fc::backward_parameters(on, t.normed, s.dbefore, g.c_fc);
    fc::backward_input(on, p.c_fc, s.dbefore, s.dnormed);
    Norm::backward(on, p.ln, x, s.dnormed, dx, t.ln, g.ln);
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return fc::flops(tokens) + projection::flops(tokens); }
  [[nodiscard]] static std::string describe() { return join("LN, MLP of hidden width ", F); }
};

/// F = Norm(Map(X)): features of unit scale, whatever the map's weights.
template <index E, class Map, class Norm>
struct unit_features {
  template <class S>
  struct parameters {
    typename Map::template parameters<S> map;
    typename Norm::template parameters<S> ln_post;
  };
  template <class V, class Path, class... P>
  static constexpr void visit(const V& f, const Path& at, P&... p) {
    Map::visit(f, at, p.map...);
    Norm::visit(f, at / "ln_post", p.ln_post...);
  }
  template <class T>
  struct tape {
    typename Map::template tape<T> map;
    matrix<T> mapped;  // [rows, E], before the norm
    typename Norm::template tape<T> ln_post;
    constexpr tape(arena& a, const extent& e) : map(a, e), mapped(a.take<T>(e.rows(), E)), ln_post(a, e) {}
  };
  template <class T>
  struct scratch {
    typename Map::template scratch<T> map;
    matrix<T> dmapped;  // [rows, E]
    constexpr scratch(arena& a, const extent& e) : map(a, e), dmapped(a.take<T>(e.rows(), E)) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, input<On> x, output<On> features, const tape<scalar<On>>& t) {
    Map::forward(on, p.map, x, t.mapped, t.map);
    Norm::forward(on, p.ln_post, t.mapped, features, t.ln_post);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, input<On> x, input<On> dfeatures, output<On> dx, const tape<scalar<On>>& t, G& g,
                       const scratch<scalar<On>>& s) {
    zero(on, s.dmapped);
    Norm::backward(on, p.ln_post, t.mapped, dfeatures, s.dmapped, t.ln_post, g.ln_post);
    Map::backward(on, p.map, x, s.dmapped, dx, t.map, g.map, s.map);
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return Map::flops(tokens); }
  [[nodiscard]] static std::string describe() { return Map::describe() + ", normed"; }
};

}  // namespace fathom::layers

namespace fathom {

// The feature maps as parts of `features` (feature_memory.hpp).

/// The norm of the depth.
struct identity_features {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::identity_features<At::width>;
  template <class At, class Norm>
  using bind_with = layers::identity_features<At::width, Norm>;
};
/// A linear map of the norm of the depth.
struct linear_features {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::linear_features<At::width>;
  template <class At, class Norm>
  using bind_with = layers::linear_features<At::width, Norm>;
};
/// An MLP of the norm of the depth.
/// Hidden = 0 means E.
template <index Hidden = 0>
struct mlp_features {
  static constexpr auto options = fields(field<"hidden">(Hidden));
  template <class At>
  using bind = layers::mlp_features<At::width, Hidden == 0 ? At::width : Hidden>;
  template <class At, class Norm>
  using bind_with = layers::mlp_features<At::width, Hidden == 0 ? At::width : Hidden, Norm>;
};
/// One of them with another norm: normed_features<rms_norm<>, mlp_features<>>.
template <class Norm, class Map>
struct normed_features {
  static constexpr auto options = fields(field<"norm">(part_of<Norm>{}), field<"map">(part_of<Map>{}));
  template <class At>
  using bind = typename Map::template bind_with<At, typename Norm::template bind<At>>;
};

/// Features of unit scale: a map's result, normed once more. The tensors of this norm are `ln_post.*`.
template <class Norm, class Map>
struct unit_features {
  static constexpr auto options = fields(field<"norm">(part_of<Norm>{}), field<"map">(part_of<Map>{}));
  template <class At>
  using bind = layers::unit_features<At::width, typename Map::template bind<At>, typename Norm::template bind<At>>;
};

}  // namespace fathom
