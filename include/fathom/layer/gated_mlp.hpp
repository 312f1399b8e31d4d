// The gated MLP (SwiGLU, GeGLU).
#pragma once

#include <string>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/linear.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// y = residual + (A(x W_gate) * (x W_up)) W_down, with biases if HasBias: SwiGLU if A is silu, GeGLU if A is a GELU
/// (Shazeer, arXiv 2002.05202).   x, y [rows, E]; hidden width F
template <index E, index F, contract::activation A = silu, bool HasBias = false>
struct gated_mlp {
  static constexpr index width = E;
  using gate = linear<E, F, initial::normal, HasBias>;
  using up = linear<E, F, initial::normal, HasBias>;
  using down = linear<F, E, initial::residual, HasBias>;

  template <class S>
  struct parameters {
    typename gate::template parameters<S> gate_proj;
    typename up::template parameters<S> up_proj;
    typename down::template parameters<S> down_proj;
  };
  template <class Visitor, class Path, class... P>
  static constexpr void visit(const Visitor& f, const Path& at, P&... p) {
    gate::visit(f, at / "gate_proj", p.gate_proj...);
    up::visit(f, at / "up_proj", p.up_proj...);
    down::visit(f, at / "down_proj", p.down_proj...);
  }

  template <class T>
  struct tape {
    matrix<T> a;       // [rows, F], x W_gate
    matrix<T> b;       // [rows, F], x W_up
    matrix<T> hidden;  // [rows, F], A(a) * b
    constexpr tape(arena& m, const extent& e)
        : a(m.take_spread<T>(e.rows(), F)), b(m.take_spread<T>(e.rows(), F)), hidden(m.take_spread<T>(e.rows(), F)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> da, db;  // [rows, F]
    constexpr scratch(arena& m, const extent& e) : da(m.take_spread<T>(e.rows(), F)), db(m.take_spread<T>(e.rows(), F)) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent&, input<On> x, input<On> residual, output<On> y,
                      const tape<scalar<On>>& t) {
    gate::forward(on, p.gate_proj, x, t.a);
    up::template forward_gated<A>(on, p.up_proj, x, t.a, t.b, t.hidden);
    down::forward_add(on, p.down_proj, t.hidden, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent&, input<On> x, input<On> dy, output<On> dx, const tape<scalar<On>>& t,
                       G& g, const scratch<scalar<On>>& s) {
    down::backward_parameters(on, t.hidden, dy, g.down_proj);
    down::backward_input(on, p.down_proj, dy, s.db, epilogue::gate_gradient{A{}, t.a, t.b, s.da});
    gate::backward_parameters(on, x, s.da, g.gate_proj);
    gate::backward_input(on, p.gate_proj, s.da, dx);
    up::backward_parameters(on, x, s.db, g.up_proj);
    up::backward_input(on, p.up_proj, s.db, dx, epilogue::add{dx});
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return gate::flops(tokens) + up::flops(tokens) + down::flops(tokens);
  }
  [[nodiscard]] static std::string describe() {
    return join("gated MLP, hidden ", F, ", ", name_of_part<A>(), HasBias ? ", with biases" : "");
  }
};

}  // namespace fathom::layers

namespace fathom {

/// The gated MLP as a part. Hidden = 0 means 4 E.
template <index Hidden = 0, class Activation = silu, bool HasBias = false>
struct gated_mlp {
  static constexpr auto options =
      fields(field<"hidden">(Hidden), field<"activation">(named_type<Activation>{}), field<"bias">(HasBias));

 private:
  template <class At>
  struct bound {
    static constexpr index hidden = Hidden == 0 ? 4 * At::width : Hidden;
    using type = layers::gated_mlp<At::width, hidden, detail::checked_activation<Activation>, HasBias>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
