// How to extend fathom without changing it: custom residual sources, a custom layer, and a model of them.
//
// They use the primitive operations of backend/operations.hpp, and so run on every backend. See layer/layer.hpp,
// layer/residual_source.hpp and layer/part.hpp for the members that they must have. custom_layer.cpp tests this file.
#pragma once

#include <algorithm>
#include <string>

#include <fathom/backend/epilogue.hpp>
#include <fathom/backend/operations.hpp>
#include <fathom/core/arena.hpp>
#include <fathom/core/error.hpp>
#include <fathom/core/fields.hpp>
#include <fathom/core/matrix.hpp>
#include <fathom/core/storage.hpp>
#include <fathom/layer/layer_norm.hpp>
#include <fathom/layer/linear.hpp>
#include <fathom/layer/mlp.hpp>
#include <fathom/layer/residual_source.hpp>
#include <fathom/layer/self_attention.hpp>
#include <fathom/layer/stage.hpp>
#include <fathom/model/architecture.hpp>
#include <fathom/model/edit.hpp>
#include <fathom/model/transformer.hpp>

namespace custom {

using fathom::depth_set;
using fathom::extent;
using fathom::index;
using fathom::initial;
using fathom::input;
using fathom::output;
using fathom::scalar;

/// A residual source: X_b + the sum over the depths s < b of weight_s X_s, where b is its block, with one learned number for
/// each depth (after Pagliardini et al., "DenseFormer", arXiv 2402.02622). With `fathom::read` the block continues from the sum.
/// The numbers start at 0, so the model starts as the one without. Blocks of a run all have as many as the last one uses.
template <index E, int LastBlock>
struct weighted_sum_source {
  static constexpr index rows_per_token = 1;
  static constexpr depth_set depths = depth_set::up_to(LastBlock);

  template <class S>
  struct parameters {
    typename S::template vector<std::max(LastBlock, 1)> weight;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "weight", initial::zero, p.weight...);
  }
  template <class T>
  using tape = fathom::nothing;
  template <class T>
  using scratch = fathom::nothing;

  // A number times a matrix is also a product: the matrix as one column, times a 1 x 1 matrix.
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> y, const fathom::nothing&) {
    copy(on, hidden.state(hidden.block), y);
    for (int s = 0; s < hidden.block; ++s)
      matmul(on, column(hidden.state(s)), input<On>(p.weight.data() + s, 1, 1), column(y), fathom::epilogue::add{column(y)});
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent&, const Hidden& hidden, output<On> dy, const fathom::nothing&,
                       G& g, const fathom::nothing&) {
    add(on, dy, hidden.gradient(hidden.block));
    for (int s = 0; s < hidden.block; ++s) {
      const output<On> dx = column(hidden.gradient(s));
      matmul_tn(on, column(hidden.state(s)), column(dy), output<On>(g.weight.data() + s, 1, 1));
      matmul(on, column(dy), input<On>(p.weight.data() + s, 1, 1), dx, fathom::epilogue::add{dx});
    }
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return 2.0 * LastBlock * static_cast<double>(E * tokens); }
  [[nodiscard]] static std::string describe() { return "weighted sum of the depths below"; }

 private:
  /// A matrix without gaps between its rows, as one column.
  template <class T>
  static fathom::matrix<T> column(const fathom::matrix<T>& m) {
    return {m.data, m.rows * m.columns, 1};
  }
};
/// The same, as a part: read<"mix", weighted_sum>.
struct weighted_sum {
  static constexpr auto options = fathom::fields();
  template <class At>
  using bind = weighted_sum_source<At::width, At::last_block>;
};

/// A residual source: the states of all depths below a block, its own input the last, b + 1 rows for each token in block b.
template <index E, int LastBlock>
struct states_below_source {
  static constexpr index rows_per_token = LastBlock + 1;
  static constexpr index rows_at(int block) { return block + 1; }
  static constexpr depth_set depths = depth_set::up_to(LastBlock);

  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = fathom::nothing;
  template <class T>
  using scratch = fathom::nothing;

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const extent&, const Hidden& hidden, output<On> memory, const fathom::nothing&) {
    for (int s = 0; s <= hidden.block; ++s) copy(on, hidden.state(s), memory.every(hidden.block + 1, s));
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const extent&, const Hidden& hidden, output<On> dmemory, const fathom::nothing&, G&,
                       const fathom::nothing&) {
    for (int s = 0; s <= hidden.block; ++s) add(on, dmemory.every(hidden.block + 1, s), hidden.gradient(s));
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() { return "states of all depths below"; }
};
struct states_below {
  static constexpr auto options = fathom::fields();
  template <class At>
  using bind = states_below_source<At::width, At::last_block>;
};

/// A residual source: the embedding, followed by the rows that stages of the blocks below have published in a channel, b rows
/// for each token in block b.
template <fathom::fixed_string Name, index E, int LastBlock>
struct published_below_source {
  using channel = fathom::channel<Name, E>;
  static constexpr index rows_per_token = LastBlock + 1;
  static constexpr index rows_at(int block) { return block + 1; }
  static constexpr depth_set depths{0};

  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = fathom::nothing;
  template <class T>
  using scratch = fathom::nothing;

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const extent&, const Hidden& hidden, output<On> memory, const fathom::nothing&) {
    copy(on, hidden.state(0), memory.every(hidden.block + 1, 0));
    for (int b = 0; b < hidden.block; ++b) copy(on, hidden.template published<channel>(b), memory.every(hidden.block + 1, b + 1));
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const extent&, const Hidden& hidden, output<On> dmemory, const fathom::nothing&, G&,
                       const fathom::nothing&) {
    add(on, dmemory.every(hidden.block + 1, 0), hidden.gradient(0));
    for (int b = 0; b < hidden.block; ++b)
      add(on, dmemory.every(hidden.block + 1, b + 1), hidden.template published_gradient<channel>(b));
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static std::string describe() { return fathom::join("what blocks below published as ", Name.view()); }
};
template <fathom::fixed_string Name>
struct published_below {
  static constexpr auto options = fathom::fields(fathom::field<"channel">(static_cast<const char*>(Name.text)));
  template <class At>
  using bind = published_below_source<Name, At::width, At::last_block>;
};

/// A layer: attention over depth. A token attends to the source's rows for it, at most D, and to no other token: to the
/// attention operation, every token is a sequence of one query (after ElNokrashy et al., "Depth-Wise Attention", arXiv
/// 2209.15168). So it needs no cache for decoding, and has no `extend`. The projection starts at 0.
///   x, y [rows, E];  memory [rows * D, E];  H heads
template <index E, index H, index D>
struct depth_attention_layer {
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
    const auto kv = t.kv.rows_from(0, memory.rows);
    key_value::forward(on, p.c_kv, memory, kv);
    attention_forward(on, shape(e, memory), t.q, kv.columns_from(0, E), kv.columns_from(E, E), t.out, t.lse);
    projection::forward_add(on, p.c_proj, t.out, residual, y);
  }
  template <class On, class P, class G>
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> dy,
                       output<On> dx, output<On> dmemory, const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    projection::backward_parameters(on, t.out, dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dout);
    const auto kv = t.kv.rows_from(0, memory.rows), dkv = s.dkv.rows_from(0, memory.rows);
    attention_backward(on, shape(e, memory), t.q, kv.columns_from(0, E), kv.columns_from(E, E), t.out, t.lse, s.dout, s.delta, s.dq,
                       dkv.columns_from(0, E), dkv.columns_from(E, E));
    query::backward_parameters(on, x, s.dq, g.c_q);
    query::backward_input(on, p.c_q, s.dq, dx);
    key_value::backward_parameters(on, memory, dkv, g.c_kv);
    key_value::backward_input(on, p.c_kv, dkv, dmemory);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return query::flops(tokens) + key_value::flops(tokens * D) + 4.0 * E * static_cast<double>(D * tokens) +
           projection::flops(tokens);
  }
  [[nodiscard]] static std::string describe() { return fathom::join("attention over ", D, " depths at most"); }

 private:
  static fathom::attention_shape shape(const extent& e, const auto& memory) {
    const index rows = memory.rows / e.rows();
    return {e.rows(), 1, H, E / H, rows, rows};
  }
};
template <index Heads>
struct depth_attention {
  static constexpr auto options = fathom::fields(fathom::field<"heads">(Heads));
  template <class At>
  using bind = depth_attention_layer<At::width, Heads, At::source_rows>;
};

/// A model of them: every block starts from a weighted sum of all depths before it, and has a sublayer for attention over all
/// depths below; the last two blocks also read the states between the sublayers of earlier blocks, and the values of their
/// attention.
/// fathom::transformer<architecture, backend> is the model's type.
using plain = fathom::architecture<
    fathom::sizes<19, 70, 12>, fathom::embed<fathom::tokens, fathom::learned_positions>,
    fathom::body<fathom::repeat<4, fathom::block<fathom::pre<"attn", fathom::layer_norm<>, fathom::attention<2, fathom::publish_values<"values">>>,
                                                 fathom::pre<"mlp", fathom::layer_norm<>, fathom::mlp<20>>>>>,
    fathom::head<fathom::layer_norm<>, fathom::tied>>;

using over_depth = fathom::pre<"depth", fathom::layer_norm<>, depth_attention<3>, states_below>;
using over_values = fathom::pre<"of_values", fathom::layer_norm<>, depth_attention<2>, published_below<"values">>;
using over_middle = fathom::pre<"middle", fathom::layer_norm<>, depth_attention<2>, published_below<"middle">>;
using architecture = fathom::edit<
    fathom::edit<plain, fathom::every_block, fathom::insert_first<fathom::read<"mix", weighted_sum>>,
                 fathom::insert_after<"attn", over_depth, fathom::publish<"middle">>>,
    fathom::last_blocks<2>, fathom::insert_before<"mlp", over_middle>, fathom::insert_last<over_values>>;

}  // namespace custom
