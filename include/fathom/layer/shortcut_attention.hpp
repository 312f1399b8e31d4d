// The cross-attention of the layerwise attention shortcut: a query looks at features of earlier depths, at its own and
// at all earlier positions (Verma and Pilanci, arXiv 2409.10870).
#pragma once

#include "fathom/backend/operations.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/linear.hpp"
#include "fathom/layer/self_attention.hpp"

namespace fathom::layers {

/// y = residual + Cross(x, memory):  q = x W_q + b_q;  k, v = memory W_kv + b_kv;  softmax(q k^T / sqrt(d)) v over the
/// rows of memory that belong to the query's own and to earlier positions, all in one softmax; output projection.
///   x, y [rows, E];  memory [rows * D, E], D rows for every position;  H heads, d = E / H
template <index E, index H, index D, initial Output = initial::residual>
struct shortcut_attention {
  static constexpr index width = E;
  static constexpr index source_rows = D;  // rows of memory for each token
  using query = linear<E, E>;
  using key_value = linear<E, 2 * E>;
  using projection = linear<E, E, Output>;
  static constexpr index heads = H;
  static constexpr index key_rows = D;      // rows of keys and values for each token

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
    matrix<T> q;    // [rows, E]
    matrix<T> kv;   // [rows * D, 2 E]: keys and values side by side
    matrix<T> out;  // [rows, E], all heads, before the projection
    T* lse;         // [rows, H]
    constexpr tape(arena& a, const extent& e)
        : q(a.take<T>(e.rows(), E)),
          kv(a.take<T>(e.rows() * D, 2 * E)),
          out(a.take<T>(e.rows(), E)),
          lse(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dq;    // [rows, E]
    matrix<T> dkv;   // [rows * D, 2 E]
    matrix<T> dout;  // [rows, E]
    T* delta;        // [rows, H]
    constexpr scratch(arena& a, const extent& e)
        : dq(a.take<T>(e.rows(), E)),
          dkv(a.take<T>(e.rows() * D, 2 * E)),
          dout(a.take<T>(e.rows(), E)),
          delta(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  using cache = key_value_cache<T, E, D>;

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                      output<On> y, const tape<scalar<On>>& t) {
    check_head_width<On, E / H>();
    query::forward(on, p.c_q, x, t.q);
    key_value::forward(on, p.c_kv, memory, t.kv);
    attention_forward(on, shape(e, e.tokens), t.q, keys(t.kv), values(t.kv), t.out, t.lse);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> dy,
                       output<On> dx, output<On> dmemory, const tape<scalar<On>>& t, G& g,
                       const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.out, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dout);
    attention_backward(on, shape(e, e.tokens), t.q, keys(t.kv), values(t.kv), t.out, t.lse, s.dout, s.delta, s.dq,
                       keys(s.dkv), values(s.dkv));
    query::backward_parameters(on, x, s.dq, g.c_q);
    query::backward_input(on, p.c_q, s.dq, dx);
    key_value::backward_parameters(on, memory, s.dkv, g.c_kv);
    key_value::backward_input(on, p.c_kv, s.dkv, dmemory);
  }
  template <class On, class P>
  static void extend(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                     output<On> y, const tape<scalar<On>>& t, const cache<scalar<On>>& c) {
    check_head_width<On, E / H>();
    query::forward(on, p.c_q, x, t.q);
    key_value::forward(on, p.c_kv, memory, t.kv);
    for (index n = 0; n < D; ++n) attention_append(on, e, t.kv.every(D, n), c.kv, D, n);
    attention_forward(on, shape(e, e.capacity), t.q, keys(c.kv), values(c.kv), t.out, nullptr);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  /// The softmax of a forward pass, weights [sequences * H * tokens, tokens * D], columns as the rows of memory.
  template <class On>
  static void weights(const On& on, const extent& e, const tape<scalar<On>>& t, output<On> w) {
    attention_weights(on, shape(e, e.tokens), t.q, keys(t.kv), t.lse, w);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return query::flops(tokens) + key_value::flops(tokens * D) + D * self_attention<E, H>::attention_flops(tokens) +
           projection::flops(tokens);
  }
  [[nodiscard]] static std::string describe() {
    return join("shortcut attention, ", H, " heads of ", E / H, " over ", D, D == 1 ? " depth" : " depths");
  }

 private:
  template <class T>
  static matrix<T> keys(const matrix<T>& kv) {
    return kv.columns_from(0, E);
  }
  template <class T>
  static matrix<T> values(const matrix<T>& kv) {
    return kv.columns_from(E, E);
  }
  static attention_shape shape(const extent& e, index positions) {
    return {e.sequences, e.tokens, H, E / H, D, positions * D, e.starts, e.first};
  }
};

}  // namespace fathom::layers

namespace fathom {
using layers::shortcut_attention;

/// The paper's cross-attention to a source's rows, with so many heads, as a part: pre<"shortcut", layer_norm<>, look_back<4>,
/// features<...>>. `Output`: how its projection begins, initial::residual or initial::zero.
template <index Heads, initial Output = initial::residual>
struct look_back {
  static constexpr auto tensor_name = fixed_string("attn");
  static constexpr auto options = fields(field<"heads">(Heads));
  template <class At>
  using bind = layers::shortcut_attention<At::width, Heads, At::source_rows, Output>;
};

}  // namespace fathom
