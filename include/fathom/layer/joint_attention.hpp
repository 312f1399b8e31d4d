// Self-attention whose one softmax also runs over features of earlier depths: the shortcut's `joint` placement.
#pragma once

#include "fathom/backend/operations.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/linear.hpp"
#include "fathom/layer/self_attention.hpp"

namespace fathom::layers {

/// y = residual + Joint(x, memory): queries, keys and values of the block's own context come from its c_attn, further
/// keys and values from the features (shortcut.attn.c_kv); one softmax over both; the block's output projection.
///   x, y [rows, E];  memory [rows * D, E];  H heads
/// Every position owns D + 1 rows of keys and values, its own context first: the visible set is a prefix here too.
template <index E, index H, index D>
struct joint_attention {
  static constexpr index width = E;
  static constexpr index source_rows = D;  // rows of memory for each token
  using qkv = linear<E, 3 * E>;
  using key_value = linear<E, 2 * E>;
  using projection = linear<E, E, initial::residual>;
  static constexpr index heads = H;
  static constexpr index key_rows = D + 1;  // rows of keys and values for each token, its own context's first

  template <class S>
  struct parameters {
    typename qkv::template parameters<S> c_attn;
    typename projection::template parameters<S> c_proj;
    typename key_value::template parameters<S> c_kv;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    qkv::visit(f, at / "c_attn", p.c_attn...);
    projection::visit(f, at / "c_proj", p.c_proj...);
    key_value::visit(f, at / "/shortcut.attn.c_kv", p.c_kv...);
  }

  template <class T>
  struct tape {
    matrix<T> qkv;  // [rows, 3 E]
    matrix<T> kv;   // [rows * (D + 1), 2 E]: of each position, its own key and value, then those of its features
    matrix<T> out;  // [rows, E]
    T* lse;         // [rows, H]
    constexpr tape(arena& a, const extent& e)
        : qkv(a.take<T>(e.rows(), 3 * E)),
          kv(a.take<T>(e.rows() * (D + 1), 2 * E)),
          out(a.take<T>(e.rows(), E)),
          lse(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dqkv;  // [rows, 3 E]
    matrix<T> dkv;   // [rows * (D + 1), 2 E]
    matrix<T> dout;  // [rows, E]
    T* delta;        // [rows, H]
    constexpr scratch(arena& a, const extent& e)
        : dqkv(a.take<T>(e.rows(), 3 * E)),
          dkv(a.take<T>(e.rows() * (D + 1), 2 * E)),
          dout(a.take<T>(e.rows(), E)),
          delta(a.take<T>(e.rows() * H)) {}
  };
  template <class T>
  using cache = key_value_cache<T, E, D + 1>;

  template <class On, class P>
  static void forward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                      output<On> y, const tape<scalar<On>>& t) {
    check_head_width<On, E / H>();
    project(on, p, x, memory, t);
    attention_forward(on, shape(e, e.tokens), queries(t.qkv), keys(t.kv), values(t.kv), t.out, t.lse);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> dy,
                       output<On> dx, output<On> dmemory, const tape<scalar<On>>& t, G& g,
                       const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.out, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dout);
    attention_backward(on, shape(e, e.tokens), queries(t.qkv), keys(t.kv), values(t.kv), t.out, t.lse, s.dout, s.delta,
                       queries(s.dqkv), keys(s.dkv), values(s.dkv));
    copy(on, slot(s.dkv, 0), s.dqkv.columns_from(E, 2 * E));
    qkv::backward_parameters(on, x, s.dqkv, g.c_attn);
    qkv::backward_input(on, p.c_attn, s.dqkv, dx);
    for (index n = 0; n < D; ++n) {
      key_value::backward_parameters(on, memory.every(D, n), slot(s.dkv, n + 1), g.c_kv);
      key_value::backward_input(on, p.c_kv, slot(s.dkv, n + 1), dmemory.every(D, n));
    }
  }
  template <class On, class P>
  static void extend(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                     output<On> y, const tape<scalar<On>>& t, const cache<scalar<On>>& c) {
    check_head_width<On, E / H>();
    project(on, p, x, memory, t);
    for (index n = 0; n <= D; ++n) attention_append(on, e, slot(t.kv, n), c.kv, D + 1, n);
    attention_forward(on, shape(e, e.capacity), queries(t.qkv), keys(c.kv), values(c.kv), t.out, nullptr);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  /// The softmax of a forward pass, weights [sequences * H * tokens, tokens * (D + 1)], columns as the rows of kv.
  template <class On>
  static void weights(const On& on, const extent& e, const tape<scalar<On>>& t, output<On> w) {
    attention_weights(on, shape(e, e.tokens), queries(t.qkv), keys(t.kv), t.lse, w);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return qkv::flops(tokens) + key_value::flops(tokens * D) +
           (D + 1) * self_attention<E, H>::attention_flops(tokens) + projection::flops(tokens);
  }
  [[nodiscard]] static std::string describe() {
    return join("joint attention, ", H, " heads of ", E / H, " over context and ", D, D == 1 ? " depth" : " depths");
  }

 private:
  /// Queries, and the keys and values of context and features, into the tape.
  template <class On, class P>
  static void project(const On& on, const P& p, input<On> x, input<On> memory, const tape<scalar<On>>& t) {
    qkv::forward(on, p.c_attn, x, t.qkv);
    copy(on, t.qkv.columns_from(E, 2 * E), slot(t.kv, 0));
    for (index n = 0; n < D; ++n) key_value::forward(on, p.c_kv, memory.every(D, n), slot(t.kv, n + 1));
  }
  /// Of every position's D + 1 rows the n-th: [rows, 2 E].
  template <class T>
  static matrix<T> slot(const matrix<T>& kv, index n) {
    return kv.every(D + 1, n);
  }
  template <class T>
  static matrix<T> queries(const matrix<T>& m) {
    return m.columns_from(0, E);
  }
  template <class T>
  static matrix<T> keys(const matrix<T>& kv) {
    return kv.columns_from(0, E);
  }
  template <class T>
  static matrix<T> values(const matrix<T>& kv) {
    return kv.columns_from(E, E);
  }
  static attention_shape shape(const extent& e, index positions) {
    return {e.sequences, e.tokens, H, E / H, D + 1, positions * (D + 1), e.starts, e.first};
  }
};

}  // namespace fathom::layers

namespace fathom {
using layers::joint_attention;

/// Self-attention whose softmax also runs over a source's rows, as a part; it stands in place of `attention`.
template <index Heads>
struct look_back_jointly {
  static constexpr auto source_name = fixed_string("/shortcut.features");
  static constexpr auto options = fields(field<"heads">(Heads));
  template <class At>
  using bind = layers::joint_attention<At::width, Heads, At::source_rows>;
};

}  // namespace fathom
