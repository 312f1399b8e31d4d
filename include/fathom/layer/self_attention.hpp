// Causal multi-head self-attention.
#pragma once

#include "fathom/backend/operations.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/linear.hpp"

namespace fathom::layers {

/// Keys and values kept for decoding: [sequences * capacity * Rows, 2 E], each row a key and then a value. `Rows` of them
/// belong to each position, and a position's lie side by side. Between rows lies a line of the processor's cache:
/// at a distance of 2 E numbers, which often is a power of two, the rows of one head would share few of its sets.
template <class T, index E, index Rows>
struct key_value_cache {
  matrix<T> kv;
  constexpr key_value_cache(arena& a, index sequences, index capacity)
      : kv(a.take<T>(sequences * capacity * Rows, 2 * E + line).columns_from(0, 2 * E)) {}
  static constexpr index line = static_cast<index>(alignment / sizeof(T));
};

/// y = residual + Attention(x): q, k, v = x W + b; softmax(q k^T / sqrt(d)) v per head, over the positions up to the
/// query's own; then the output projection (Vaswani et al., arXiv 1706.03762).   x, y [rows, E]; H heads, d = E / H
template <index E, index H>
struct self_attention {
  static constexpr index width = E;
  using qkv = linear<E, 3 * E>;
  using projection = linear<E, E, initial::residual>;

  template <class S>
  struct parameters {
    typename qkv::template parameters<S> c_attn;
    typename projection::template parameters<S> c_proj;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    qkv::visit(f, at / "c_attn", p.c_attn...);
    projection::visit(f, at / "c_proj", p.c_proj...);
  }

  template <class T>
  struct tape {
    matrix<T> qkv;  // [rows, 3 E]: queries, keys, values side by side
    matrix<T> out;  // [rows, E], all heads, before the projection
    T* lse;         // [rows, H]
    constexpr tape(arena& a, const extent& e)
        : qkv(a.take<T>(e.rows(), 3 * E)), out(a.take<T>(e.rows(), E)), lse(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dqkv;  // [rows, 3 E]
    matrix<T> dout;  // [rows, E]
    T* delta;        // [rows, H]
    constexpr scratch(arena& a, const extent& e)
        : dqkv(a.take<T>(e.rows(), 3 * E)), dout(a.take<T>(e.rows(), E)), delta(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  using cache = key_value_cache<T, E, 1>;

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, input<On> x, input<On> residual,
                      output<On> y, const tape<scalar<On>>& t) {
    check_head_width<On, E / H>();
    qkv::forward(on, p.c_attn, x, t.qkv);
    attention_forward(on, shape(e, e.tokens), third(t.qkv, 0), third(t.qkv, 1), third(t.qkv, 2), t.out, t.lse);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> dy, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.out, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dout);
    attention_backward(on, shape(e, e.tokens), third(t.qkv, 0), third(t.qkv, 1), third(t.qkv, 2), t.out, t.lse, s.dout,
                       s.delta, third(s.dqkv, 0), third(s.dqkv, 1), third(s.dqkv, 2));
    qkv::backward_parameters(on, x, s.dqkv, g.c_attn);
    qkv::backward_input(on, p.c_attn, s.dqkv, dx);
  }
  template <class On, class P>
  static void extend(const On& on, const P& p, const extent& e, input<On> x, input<On> residual,
                     output<On> y, const tape<scalar<On>>& t, const cache<scalar<On>>& c) {
    check_head_width<On, E / H>();
    qkv::forward(on, p.c_attn, x, t.qkv);
    attention_append(on, e, t.qkv.columns_from(E, 2 * E), c.kv, 1, 0);
    attention_forward(on, shape(e, e.capacity), third(t.qkv, 0), c.kv.columns_from(0, E), c.kv.columns_from(E, E), t.out,
                      nullptr);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return qkv::flops(tokens) + attention_flops(tokens) + projection::flops(tokens);
  }
  /// Scores and weighted sums: every query meets on average (tokens + 1) / 2 positions.
  [[nodiscard]] static constexpr double attention_flops(index tokens) {
    return 2.0 * E * static_cast<double>(tokens) * static_cast<double>(tokens + 1);
  }
  [[nodiscard]] static std::string describe() { return join("causal self-attention, ", H, " heads of ", E / H); }

 private:
  /// Queries (0), keys (1) or values (2).
  template <class T>
  static matrix<T> third(const matrix<T>& m, index n) {
    return m.columns_from(n * E, E);
  }
  static attention_shape shape(const extent& e, index memory_rows) {
    return {e.sequences, e.tokens, H, E / H, 1, memory_rows, e.starts, e.first};
  }
};

}  // namespace fathom::layers

namespace fathom {
using layers::self_attention;

/// Causal self-attention with so many heads, as a part.
template <index Heads, class... Options>
struct attention {
  static constexpr auto options = fields(field<"heads">(Heads));
  template <class At>
  using bind = layers::self_attention<At::width, Heads>;
};

}  // namespace fathom
