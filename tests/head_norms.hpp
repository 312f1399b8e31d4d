// A layer of a program's own that norms heads, and then whole rows, in place: what norms of queries and keys need of the
// operations. For the tests of RMS norm on every backend.
#pragma once

#include <fathom/core/storage.hpp>
#include <fathom/layer/layer.hpp>
#include <fathom/layer/linear.hpp>
#include <fathom/layer/part.hpp>

namespace fathom::test {

/// y = residual + n(h(x)) W + b: h norms each of H heads of a row of x, with one gain for all; n norms the whole row, with a
/// gain of 1 + weight. Both work in place, so that backward makes h(x) again.   x, y [rows, E]
template <index E, index H>
struct head_norms_layer {
  static constexpr index width = E;
  static constexpr double eps = 1e-3;
  using projection = linear<E, E, initial::residual>;

  template <class S>
  struct parameters {
    typename S::template vector<E / H> heads;
    typename S::template vector<E> rows;
    typename projection::template parameters<S> c_proj;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "heads", initial::one, p.heads...);
    f(at / "rows", initial::zero, p.rows...);
    projection::visit(f, at / "c_proj", p.c_proj...);
  }
  template <class T>
  struct tape {
    matrix<T> normed;            // [rows, E]
    T *of_heads, *of_rows;       // [rows, H], [rows]: 1 / root mean square
    constexpr tape(arena& a, const extent& e)
        : normed(a.take<T>(e.rows(), E)), of_heads(a.take<T>(e.rows() * H)), of_rows(a.take<T>(e.rows())) {}
  };
  template <class T>
  struct scratch {
    matrix<T> heads, d;  // [rows, E]: h(x), a gradient
    constexpr scratch(arena& a, const extent& e) : heads(a.take<T>(e.rows(), E)), d(a.take<T>(e.rows(), E)) {}
  };
  template <class On, class P>
  static void forward(const On& on, const P& p, const extent&, input<On> x, input<On> residual, output<On> y,
                      const tape<scalar<On>>& t) {
    copy(on, x, t.normed);
    rms_norm_forward(on, t.normed, p.heads.data(), t.normed, t.of_heads, eps, 0, H);
    rms_norm_forward(on, t.normed, p.rows.data(), t.normed, t.of_rows, eps, 1);
    projection::forward_add(on, p.c_proj, t.normed, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent&, input<On> x, input<On> dy, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.normed, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.d);
    rms_norm_forward(on, x, p.heads.data(), s.heads, t.of_heads, eps, 0, H);
    rms_norm_backward(on, s.heads, p.rows.data(), t.of_rows, s.d, s.d, g.rows.data(), 1, 1, false);
    rms_norm_backward(on, x, p.heads.data(), t.of_heads, s.d, dx, g.heads.data(), 0, H, false);
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return projection::flops(tokens); }
};

template <int Heads>
struct head_norms {
  static constexpr auto options = fields(field<"heads">(Heads));
  template <class At>
  using bind = head_norms_layer<At::width, Heads>;
};

}  // namespace fathom::test
