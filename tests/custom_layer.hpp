// How to extend fathom without touching a file of it: a residual source and a layer of one's own, and a model of them.
//
// Both are written over the primitive operations of backend/operations.hpp, and so run on every backend. What their members
// must be is said in layer/layer.hpp and layer/residual_source.hpp. custom_layer.cpp tests what is written here.
#pragma once

#include <cstdint>
#include <string>

#include <fathom/backend/epilogue.hpp>
#include <fathom/backend/operations.hpp>
#include <fathom/core/arena.hpp>
#include <fathom/core/error.hpp>
#include <fathom/core/matrix.hpp>
#include <fathom/core/storage.hpp>
#include <fathom/layer/block.hpp>
#include <fathom/layer/embedding.hpp>
#include <fathom/layer/feature_map.hpp>
#include <fathom/layer/feature_memory.hpp>
#include <fathom/layer/layer_norm.hpp>
#include <fathom/layer/linear.hpp>
#include <fathom/layer/mlp.hpp>
#include <fathom/layer/output_head.hpp>
#include <fathom/layer/residual_source.hpp>
#include <fathom/layer/self_attention.hpp>
#include <fathom/layer/stack.hpp>
#include <fathom/layer/stage.hpp>
#include <fathom/model/transformer.hpp>

namespace custom {

using fathom::depth_set;
using fathom::extent;
using fathom::index;
using fathom::initial;
using fathom::input;
using fathom::output;
using fathom::scalar;

/// A residual source: X_Current + the sum over the depths s in Earlier of weight_s X_s, one learned number for each depth
/// (after Pagliardini et al., "DenseFormer", arXiv 2402.02622). With `fathom::layers::read` the stream goes on from there. The
/// numbers begin at 0: the model then begins as the one without.
template <index E, depth_set Earlier, int Current>
struct weighted_sum {
  static constexpr index rows_per_token = 1;
  static constexpr depth_set depths = depth_set::from_bits(Earlier.bits | std::uint64_t{1} << Current);

  template <class S>
  struct parameters {
    typename S::template vector<Earlier.count()> weight;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "weight", initial::zero, p.weight...);
  }
  template <class T>
  using tape = fathom::nothing;
  template <class T>
  using scratch = fathom::nothing;

  // A number times a matrix is a product too: the matrix as one column, times a matrix of one by one.
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> y, const fathom::nothing&) {
    copy(on, hidden.state(Current), y);
    for (int n = 0; n < Earlier.count(); ++n)
      matmul(on, column(hidden.state(Earlier[n])), input<On>(p.weight.data() + n, 1, 1), column(y),
             fathom::epilogue::add{column(y)});
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> dy, const fathom::nothing&,
                       G& g, const fathom::nothing&) {
    add(on, dy, hidden.gradient(Current));
    for (int n = 0; n < Earlier.count(); ++n) {
      const output<On> dx = column(hidden.gradient(Earlier[n]));
      matmul_tn(on, column(hidden.state(Earlier[n])), column(dy), output<On>(g.weight.data() + n, 1, 1));
      matmul(on, column(dy), input<On>(p.weight.data() + n, 1, 1), dx, fathom::epilogue::add{dx});
    }
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return 2.0 * Earlier.count() * static_cast<double>(E * tokens);
  }
  [[nodiscard]] static std::string describe() { return fathom::join("weighted sum of ", depths.count(), " depths"); }

 private:
  /// A matrix whose rows lie without gaps, as one column.
  template <class T>
  static fathom::matrix<T> column(const fathom::matrix<T>& m) {
    return {m.data, m.rows * m.columns, 1};
  }
};

/// A layer: attention over depth. A token looks at the D rows that a source has for it, and at no other token: to the
/// attention operation, every token is a sequence of one query (after ElNokrashy et al., "Depth-Wise Attention", arXiv
/// 2209.15168). So it needs no cache while decoding, and has no `extend`. The projection begins at 0.
///   x, y [rows, E];  memory [rows * D, E];  H heads
template <index E, index H, index D>
struct depth_attention {
  static constexpr index width = E;
  static constexpr index source_rows = D;
  using query = fathom::linear<E, E>;
  using key_value = fathom::linear<E, 2 * E>;
  using projection = fathom::linear<E, E, initial::zero>;

  template <class S>
  struct parameters {
    typename query::template parameters<S> c_q;
    typename key_value::template parameters<S> c_kv;
    typename projection::template parameters<S> c_proj;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    query::visit(f, at / "c_q", p.c_q...);
    key_value::visit(f, at / "c_kv", p.c_kv...);
    projection::visit(f, at / "c_proj", p.c_proj...);
  }

  template <class T>
  struct tape {
    fathom::matrix<T> q;    // [rows, E]
    fathom::matrix<T> kv;   // [rows * D, 2 E]
    fathom::matrix<T> out;  // [rows, E]
    T* lse;                 // [rows, H]
    constexpr tape(fathom::arena& a, const extent& e)
        : q(a.take<T>(e.rows(), E)),
          kv(a.take<T>(e.rows() * D, 2 * E)),
          out(a.take<T>(e.rows(), E)),
          lse(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  struct scratch {
    fathom::matrix<T> dq;    // [rows, E]
    fathom::matrix<T> dkv;   // [rows * D, 2 E]
    fathom::matrix<T> dout;  // [rows, E]
    T* delta;                // [rows, H]
    constexpr scratch(fathom::arena& a, const extent& e)
        : dq(a.take<T>(e.rows(), E)),
          dkv(a.take<T>(e.rows() * D, 2 * E)),
          dout(a.take<T>(e.rows(), E)),
          delta(a.take<T>(e.rows() * H)) {}
  };

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                      output<On> y, const tape<scalar<On>>& t) {
    fathom::check_head_width<On, E / H>();
    query::forward(on, p.c_q, x, t.q);
    key_value::forward(on, p.c_kv, memory, t.kv);
    attention_forward(on, shape(e), t.q, t.kv.columns_from(0, E), t.kv.columns_from(E, E), t.out, t.lse);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> dy,
                       output<On> dx, output<On> dmemory, const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.out, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dout);
    attention_backward(on, shape(e), t.q, t.kv.columns_from(0, E), t.kv.columns_from(E, E), t.out, t.lse, s.dout, s.delta,
                       s.dq, s.dkv.columns_from(0, E), s.dkv.columns_from(E, E));
    query::backward_parameters(on, x, s.dq, g.c_q);
    query::backward_input(on, p.c_q, s.dq, dx);
    key_value::backward_parameters(on, memory, s.dkv, g.c_kv);
    key_value::backward_input(on, p.c_kv, s.dkv, dmemory);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return query::flops(tokens) + key_value::flops(tokens * D) + 4.0 * E * static_cast<double>(D * tokens) +
           projection::flops(tokens);
  }
  [[nodiscard]] static std::string describe() { return fathom::join("attention over ", D, " depths"); }

 private:
  static fathom::attention_shape shape(const extent& e) { return {e.rows(), 1, H, E / H, D, D}; }
};

/// A model of them: two blocks as in GPT-2, and a last one that goes on from a weighted sum of all depths before it and has
/// a sublayer for attention over depths 0, 1 and 2. fathom::transformer<architecture, backend> is the model's type.
struct architecture {
  static constexpr index vocab = 19, context = 70, width = 12;
  static constexpr bool tied = true;

  using norm = fathom::layers::layer_norm<width>;
  using attention = fathom::layers::sublayer<"ln_1", norm, "attn", fathom::self_attention<width, 2>>;
  using feed_forward = fathom::layers::sublayer<"ln_2", norm, "mlp", fathom::layers::mlp<width, 20>>;
  using mix = fathom::layers::read<"mix", width, weighted_sum<width, depth_set{0, 1}, 2>>;
  using features = fathom::layers::feature_memory<width, depth_set{0, 1, 2}, fathom::layers::identity_features<width>>;
  using over_depth = fathom::layers::sublayer<"ln_depth", norm, "depth", depth_attention<width, 3, 3>, "depth.features", features>;

  using embedding = fathom::layers::embedding<vocab, context, width, tied>;
  using body = fathom::layers::stack<fathom::layers::repeat<fathom::layers::block<attention, feed_forward>, 2>,
                             fathom::layers::repeat<fathom::layers::block<mix, attention, over_depth, feed_forward>, 1>>;
  using head = fathom::layers::output_head<vocab, width, tied>;
};

}  // namespace custom
