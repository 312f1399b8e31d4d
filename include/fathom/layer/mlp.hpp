// The position-wise feed-forward layer.
#pragma once

#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/linear.hpp"

namespace fathom::layers {

/// y = residual + GELU(x W1 + b1) W2 + b2.   x, y [rows, E]; hidden width F
template <index E, index F>
struct mlp {
  static constexpr index width = E;
  using fc = linear<E, F>;
  using projection = linear<F, E, initial::residual>;

  template <class S>
  struct parameters {
    typename fc::template parameters<S> c_fc;
    typename projection::template parameters<S> c_proj;
  };
  template <class Visitor, class Path, class... P>
  static constexpr void visit(const Visitor& f, const Path& at, P&... p) {
    fc::visit(f, at / "c_fc", p.c_fc...);
    projection::visit(f, at / "c_proj", p.c_proj...);
  }

  template <class T>
  struct tape {
    matrix<T> before;  // [rows, F], what GELU was applied to
    matrix<T> hidden;  // [rows, F], after GELU
    constexpr tape(arena& a, const extent& e) : before(a.take_spread<T>(e.rows(), F)), hidden(a.take_spread<T>(e.rows(), F)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dbefore;  // [rows, F]
    constexpr scratch(arena& a, const extent& e) : dbefore(a.take_spread<T>(e.rows(), F)) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent&, input<On> x, input<On> residual, output<On> y,
                      const tape<scalar<On>>& t) {
    fc::forward_gelu(on, p.c_fc, x, t.before, t.hidden);
    projection::forward_add(on, p.c_proj, t.hidden, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent&, input<On> x, input<On> dy, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.hidden, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dbefore, epilogue::gelu_gradient{t.before});
    fc::backward_parameters(on, x, s.dbefore, g.c_fc);
    fc::backward_input(on, p.c_fc, s.dbefore, dx);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return fc::flops(tokens) + projection::flops(tokens); }
  [[nodiscard]] static std::string describe() { return join("MLP, hidden ", F, ", GELU"); }
};

}  // namespace fathom::layers

namespace fathom {

/// The MLP as a part. Hidden = 0 means 4 E.
template <index Hidden = 0>
struct mlp {
  static constexpr auto options = fields(field<"hidden">(Hidden));
  template <class At>
  using bind = layers::mlp<At::width, Hidden == 0 ? 4 * At::width : Hidden>;
};

}  // namespace fathom
