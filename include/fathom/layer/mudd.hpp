// Dynamic dense connections: after a block, a sum over all depths with weights that each token computes (Xiao, Meng, Li
// and Yuan, "MUDDFormer", arXiv 2502.12170). Of its four ways into a block, queries, keys, values and residual, this is
// the residual one.
#pragma once

#include <string>
#include <string_view>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/core/depth_set.hpp"
#include "fathom/core/error.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/linear.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/rms_norm.hpp"
#include "fathom/layer/stage.hpp"

namespace fathom::layers {

/// y = X_i + sum over n in [0, i] of a_n X_{i - n},   a = GELU(RMS(X_i) W1) W2 + b,   one row a for each token.
///
///   X_i = x [rows, E]   the stream: i = b at the beginning of block b, b + 1 at its end
///   X_s [rows, E]       the output of block s; X_0 is the embedding
///   W1 [E, K], W2 [K, K], b [K]   K = 1 + the largest i of the run, the paper's hidden width with one way
///
/// The paper's bias is 1 for X_i itself, here 1 + b_0. W2 and b are 0 at the start, so that a model begins as the one
/// without. Blocks with fewer depths do not use the last columns of W2. GELU is the exact one. The norm has a gain,
/// which the authors' code (https://github.com/Caiyun-AI/MUDDFormer) has in one of its variants only.
template <fixed_string Name, index E, int Last, bool AtEnd>
struct dynamic_depth_sum {
  static constexpr index width = E;
  static constexpr int most = Last + (AtEnd ? 1 : 0) + 1;  // K
  static constexpr depth_set depths = depth_set::up_to(most - 2);
  static_assert(most >= 2, "fathom::dynamic_average: the first block has nothing below it to average at its beginning");
  static_assert(depths.impossible == 0, "fathom: a sum over depths reads no depth above 63; see depth_set");
  using norm_layer = rms_norm<E>;
  using fc = linear<E, most, initial::normal, false>;
  using projection = linear<most, most, initial::zero>;

  template <class S>
  struct parameters {
    typename norm_layer::template parameters<S> norm;
    typename fc::template parameters<S> c_fc;
    typename projection::template parameters<S> c_proj;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    norm_layer::visit(f, at / Name.view() / "ln", p.norm...);
    fc::visit(f, at / Name.view() / "c_fc", p.c_fc...);
    projection::visit(f, at / Name.view() / "c_proj", p.c_proj...);
  }
  template <class T>
  struct tape {
    typename norm_layer::template tape<T> norm;
    matrix<T> normed;          // [rows, E]
    matrix<T> before, hidden;  // [rows, K], before and after GELU
    matrix<T> weights;         // [rows, K]
    constexpr tape(arena& a, const extent& e)
        : norm(a, e),
          normed(a.take<T>(e.rows(), E)),
          before(a.take<T>(e.rows(), most)),
          hidden(a.take<T>(e.rows(), most)),
          weights(a.take<T>(e.rows(), most)) {}
  };
  template <class T>
  using cache = nothing;
  template <class T>
  struct scratch {
    matrix<T> dweights, dbefore;  // [rows, K]
    matrix<T> dnormed;            // [rows, E]
    constexpr scratch(arena& a, const extent& e)
        : dweights(a.take<T>(e.rows(), most)), dbefore(a.take<T>(e.rows(), most)), dnormed(a.take<T>(e.rows(), E)) {}
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<scratch<T>>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent&, const Hidden& hidden, input<On> x, output<On> y,
                      const tape<scalar<On>>& t) {
    norm_layer::forward(on, p.norm, x, t.normed, t.norm);
    fc::template forward_activated<gelu_erf>(on, p.c_fc, t.normed, t.before, t.hidden);
    projection::forward(on, p.c_proj, t.hidden, t.weights);
    add_scaled(on, t.weights.columns_from(0, 1), x, x, y);
    const int own = own_depth(hidden);
    for (int n = 1; n <= own; ++n) add_scaled(on, t.weights.columns_from(n, 1), hidden.state(own - n), y, y);
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const tape<scalar<On>>& t, const nothing&) {
    forward(on, p, e, hidden, x, y, t);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    const scratch<scalar<On>> s(free, e);
    const int own = own_depth(hidden);
    zero(on, s.dweights);
    row_dots(on, x, d, s.dweights.columns_from(0, 1));
    for (int n = 1; n <= own; ++n) {
      row_dots(on, hidden.state(own - n), d, s.dweights.columns_from(n, 1));
      add_scaled(on, t.weights.columns_from(n, 1), d, hidden.gradient(own - n), hidden.gradient(own - n));
    }
    add_scaled(on, t.weights.columns_from(0, 1), d, d, d);
    projection::backward_parameters(on, t.hidden, s.dweights, g.c_proj);
    projection::backward_input(on, p.c_proj, s.dweights, s.dbefore,
                               epilogue::activation_gradient{gelu_erf{}, t.before});
    fc::backward_parameters(on, t.normed, s.dbefore, g.c_fc);
    fc::backward_input(on, p.c_fc, s.dbefore, s.dnormed);
    norm_layer::backward(on, p.norm, x, s.dnormed, d, t.norm, g.norm);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return fc::flops(tokens) + projection::flops(tokens) + 2.0 * most * static_cast<double>(E * tokens);
  }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    f(at / Name.view(), join("sum of up to ", most, " depths, weighted by each token"),
      parameter_count_of<dynamic_depth_sum>(), flops(tokens));
  }

 private:
  template <class Hidden>
  static int own_depth(const Hidden& hidden) {
    return hidden.block + (AtEnd ? 1 : 0);
  }
};

}  // namespace fathom::layers

namespace fathom {

/// The residual way of MUDD after block i, as a stage at the beginning of block i + 1 or, with AtEnd, at the end of
/// block i. `mudd_former` (model/residual_forms.hpp) inserts the stages of a whole model.
template <bool AtEnd = false>
struct dynamic_average {
  static constexpr std::string_view stage_name = AtEnd ? "mudd_out" : "mudd";
  static constexpr auto options = fields(field<"at_end">(AtEnd));

 private:
  static consteval auto tensors_name() {
    if constexpr (AtEnd)
      return fixed_string("mudd_out");
    else
      return fixed_string("mudd");
  }
  template <class At>
  struct bound {
    using type = layers::dynamic_depth_sum<tensors_name(), At::width, At::last_block, AtEnd>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};

}  // namespace fathom
