// The position-wise feed-forward layer.
#pragma once

#include <string>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/linear.hpp"

namespace fathom::layers {

/// y = residual + A(x W1 + b1) W2 + b2.   x, y [rows, E]; hidden width F; A an activation (backend/activation.hpp)
template <index E, index F, contract::activation A = gelu_tanh, bool HasBias = true>
struct mlp {
  static constexpr index width = E;
  using fc = linear<E, F, initial::normal, HasBias>;
  using projection = linear<F, E, initial::residual, HasBias>;

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
    matrix<T> before;  // [rows, F], before the activation
    matrix<T> hidden;  // [rows, F], after it
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
    fc::template forward_activated<A>(on, p.c_fc, x, t.before, t.hidden);
    projection::forward_add(on, p.c_proj, t.hidden, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent&, input<On> x, input<On> dy, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.hidden, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dbefore, epilogue::activation_gradient{A{}, t.before});
    fc::backward_parameters(on, x, s.dbefore, g.c_fc);
    fc::backward_input(on, p.c_fc, s.dbefore, dx);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return fc::flops(tokens) + projection::flops(tokens); }
  [[nodiscard]] static std::string describe() { return join("MLP, hidden ", F, std::is_same_v<A, gelu_tanh> ? std::string(", GELU") : join(", ", name_of_part<A>())); }
};

}  // namespace fathom::layers

namespace fathom {

/// The MLP as a part. Hidden = 0 means 4 E.
template <index Hidden = 0, class Activation = gelu_tanh, bool HasBias = true>
struct mlp {
  static constexpr auto options = [] {
    if constexpr (std::is_same_v<Activation, gelu_tanh> && HasBias)
      return fields(field<"hidden">(Hidden));
    else
      return fields(field<"hidden">(Hidden), field<"activation">(named_type<Activation>{}), field<"bias">(HasBias));
  }();

 private:
  template <class At>
  struct bound {
    static constexpr index hidden = Hidden == 0 ? 4 * At::width : Hidden;
    using type = layers::mlp<At::width, hidden, detail::checked_activation<Activation>, HasBias>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
