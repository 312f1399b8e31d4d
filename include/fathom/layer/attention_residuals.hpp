// Attention residuals: in place of the sum of all earlier sublayers' outputs, a sublayer reads their average under a
// softmax over depths, with a learned query for each sublayer (Kimi Team, "Attention Residuals", arXiv 2603.15031).
// Over outputs ("full"), over sums of the outputs of several blocks ("block"), and added to the residual stream ("Delta
// Attention Residuals", Luo, Cai and Hu, arXiv 2605.18855).
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/depth_functors.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/depth_set.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/layer/depth_sum.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/stage.hpp"

namespace fathom::layers {

/// What a sublayer reads from n sources v_i [rows, E], for each row:
///
///   s_i = query . v_i / sqrt(mean(v_i^2) + 1e-5),   a = softmax(s)
///   y = sum over i of a_i v_i          without a gate
///   y = x + gate * (that sum)          with a gate
///
/// query [E] and gate [1] are 0 at the start: all sources weigh the same, and with a gate, y = x. The paper's RMS norm
/// of the keys has a gain; here it has none, because it would only multiply the query. `sources` has `count`, at(i) and
/// gradient(i), matrices [rows, E]; Most is the largest count.
template <index E, int Most, bool HasGate>
struct depth_softmax {
  static constexpr double epsilon = 1e-5;

  template <class S>
  struct parameters {
    typename S::template vector<E> query;
    typename S::template vector<1> gate;
  };
  template <class S>
    requires(!HasGate)
  struct parameters<S> {
    typename S::template vector<E> query;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    f(at / "query", initial::zero, p.query...);
    if constexpr (HasGate) f(at / "gate", initial::zero, p.gate...);
  }
  template <class T>
  struct tape {
    matrix<T> dots;     // [n, rows], query . v_i
    matrix<T> rstd;     // [n, rows], 1 / root mean square of v_i
    matrix<T> weights;  // [n, rows], a
    matrix<T> factors;  // [n, rows], gate * a; without a gate, empty
    constexpr tape(arena& a, const extent& e)
        : dots(a.take<T>(Most, e.rows())),
          rstd(a.take<T>(Most, e.rows())),
          weights(a.take<T>(Most, e.rows())),
          factors(a.take<T>(HasGate ? Most : 0, e.rows())) {}
  };
  template <class T>
  struct scratch {
    matrix<T> da;        // [n, rows]
    matrix<T> of_query;  // [n, rows], times the query: part of the gradient for v_i
    matrix<T> of_value;  // [n, rows], times v_i: the rest of it
    matrix<T> dgate;     // [n, 1]
    constexpr scratch(arena& a, const extent& e)
        : da(a.take<T>(Most, e.rows())),
          of_query(a.take<T>(Most, e.rows())),
          of_value(a.take<T>(Most, e.rows())),
          dgate(a.take<T>(Most, 1)) {}
  };

  template <class On, class P, class Sources>
  static void forward(const On& on, const P& p, const extent& e, const Sources& sources, [[maybe_unused]] input<On> x,
                      output<On> y, const tape<scalar<On>>& t) {
    using T = scalar<On>;
    const index n = sources.count, rows = e.rows();
    if (n == 0) return copy(on, x, y);  // only with a gate
    const matrix<const T> query(p.query.data(), rows, E, 0);
    for (index i = 0; i < n; ++i) {
      const input<On> v = sources.at(i);
      row_dots(on, v, query, column(t.dots, i));
      row_dots(on, v, v, column(t.rstd, i));
    }
    const matrix<T> dots = t.dots.rows_from(0, n), rstd = t.rstd.rows_from(0, n), weights = t.weights.rows_from(0, n);
    elementwise(on, inverse_root_mean{static_cast<double>(E), epsilon}, std::array<matrix<T>, 1>{rstd},
                std::array<matrix<const T>, 1>{rstd});
    gate_forward(on, identity{}, dots, rstd, weights);  // the product
    softmax_forward(on, weights, weights);
    if constexpr (HasGate) {
      multiply_by_gate(on, p, weights, t.factors.rows_from(0, n));
      for (index i = 0; i < n; ++i) add_scaled(on, column(t.factors, i), sources.at(i), i == 0 ? x : input<On>(y), y);
    } else {
      zero(on, y);
      for (index i = 0; i < n; ++i) add_scaled(on, column(t.weights, i), sources.at(i), y, y);
    }
  }
  /// Adds to the sources' gradients, given dy. That for x is dy.
  template <class On, class P, class Sources, class G>
  static void backward(const On& on, const P& p, const extent& e, const Sources& sources, input<On> dy,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    using T = scalar<On>;
    const index n = sources.count, rows = e.rows();
    if (n == 0) return;
    const matrix<const T> query(p.query.data(), rows, E, 0);
    const matrix<T> da = s.da.rows_from(0, n), weights = t.weights.rows_from(0, n);
    for (index i = 0; i < n; ++i) row_dots(on, sources.at(i), dy, column(s.da, i));
    if constexpr (HasGate) {
      const matrix<T> dgate = s.dgate.rows_from(0, n), scaled = s.of_query.rows_from(0, n);
      row_dots(on, weights, da, dgate);
      column_sums(on, dgate, g.gate.data());
      multiply_by_gate(on, p, da, scaled);
      softmax_backward(on, weights, scaled, da);
    } else {
      softmax_backward(on, weights, da, da);
    }
    elementwise(on, normed_score_slopes{static_cast<double>(E)},
                std::array<matrix<T>, 2>{s.of_query.rows_from(0, n), s.of_value.rows_from(0, n)},
                std::array<matrix<const T>, 3>{da, t.rstd.rows_from(0, n), t.dots.rows_from(0, n)});
    for (index i = 0; i < n; ++i) {
      const input<On> v = sources.at(i);
      const output<On> dv = sources.gradient(i);
      add_scaled(on, column(HasGate ? t.factors : t.weights, i), dy, dv, dv);
      add_scaled(on, column(s.of_query, i), query, dv, dv);
      add_scaled(on, column(s.of_value, i), v, dv, dv);
      matmul_tn(on, column(s.of_query, i), v, matrix<T>(g.query.data(), 1, E));
    }
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return 6.0 * Most * static_cast<double>(E * tokens); }

 private:
  /// Row i of a matrix [n, rows] as a column.
  template <class T>
  static matrix<T> column(const matrix<T>& m, index i) {
    return {m.row(i), m.columns, 1};
  }
  template <class On, class P, class T>
  static void multiply_by_gate(const On& on, const P& p, const matrix<T>& x, const matrix<T>& y) {
    zero(on, y);
    add_scaled(on, in_every_row(p.gate.data(), x.rows), x, y, y);
  }
};

/// The outputs of sublayers that softmaxes over depths read, for models whose blocks have M sublayers each. Sublayer j
/// of block b publishes row (b, j): its output or, with groups of `Group` blocks, the sum of the outputs of its group
/// so far.
template <index E, int M, int Group>
struct sublayer_outputs {
  using slots = channel<"outputs", M * E>;

  /// The sources are the embedding and, without groups, the outputs of all sublayers before sublayer j of block b; with
  /// groups, the sums of all groups before and, if `with_part`, of b's own group so far. For the end of the body: b =
  /// L, j = 0.
  static constexpr int count(int b, int j, bool with_part) {
    if constexpr (Group == 0)
      return 1 + b * M + j;
    else
      return 1 + b / Group + (with_part && (b % Group != 0 || j > 0) ? 1 : 0);
  }
  /// The number b * M + j of source i, i > 0, of `count` sources.
  static constexpr int number_of(int i, int b, int j) {
    if constexpr (Group == 0)
      return i - 1;
    else
      return i <= b / Group ? i * Group * M - 1 : b * M + j - 1;
  }

  template <class Hidden>
  static auto output_at(const Hidden& hidden, int number) {
    return hidden.template published<slots>(number / M).columns_from(number % M * E, E);
  }
  template <class Hidden>
  static auto gradient_at(const Hidden& hidden, int number) {
    return hidden.template published_gradient<slots>(number / M).columns_from(number % M * E, E);
  }

  template <class Hidden>
  struct sources {
    const Hidden& hidden;
    int b, j;
    index count;
    [[nodiscard]] auto at(index i) const {
      const auto embedding = hidden.state(0);
      return i == 0 ? embedding : decltype(embedding)(output_at(hidden, number_of(static_cast<int>(i), b, j)));
    }
    [[nodiscard]] auto gradient(index i) const {
      return i == 0 ? hidden.gradient(0) : gradient_at(hidden, number_of(static_cast<int>(i), b, j));
    }
  };
};

/// A sublayer f (`Inner`: a pre-, post- or sandwich-normed one, or two in parallel) that reads a softmax over depths, h:
///
///   without IsDelta:  y = f(h)       h: depth_softmax of the sources (2603.15031)
///   with IsDelta:     y = x + f(h)   h: x + gate * depth_softmax of the sources; h = x in the first sublayer
///                                    (2605.18855; its gate from 0, the option learnable_alpha of the authors' code,
///                                    https://github.com/wdlctc/delta-attention-residuals-code; without, the gate is 1)
///
/// The sources are those of sublayer_outputs, with the group's own part unless IsDelta. Without IsDelta, the stream
/// between stages is what the sublayer publishes, not what later ones read, and attention_residual_end gives the head
/// its input. Sublayer J of M in blocks First to Last.
template <class Inner, fixed_string Name, int J, int M, int Group, bool IsDelta, int First, int Last>
struct attention_residual {
  using inner_stage = Inner;
  static constexpr index width = Inner::width;
  using outputs = sublayer_outputs<width, M, Group>;
  using published = joined_channels<channels_of<Inner>, channels<typename outputs::slots>>;
  static constexpr int count(int b) { return IsDelta && b == 0 && J == 0 ? 0 : outputs::count(b, J, !IsDelta); }
  static constexpr int most = [] {
    int found = 0;
    for (int b = First; b <= Last; ++b) found = std::max(found, count(b));
    return std::max(found, 1);
  }();
  static constexpr int start_of_group(int b) {
    if constexpr (Group == 0)
      return b;
    else
      return b / Group * Group;
  }
  static constexpr depth_set depths = [] {
    depth_set all = depth_set::only(0) | Inner::depths;
    for (int b = First; b <= Last && IsDelta && Group > 0; ++b) {
      const depth_set one = depth_set::only(start_of_group(b));
      all.bits |= one.bits;
      if (one.impossible != 0) all.impossible = one.impossible;
    }
    return all;
  }();
  static_assert(depths.impossible == 0,
                "fathom: attention residuals with groups read no depth above 63; see depth_set");
  using mix = depth_softmax<width, most, IsDelta>;
  static constexpr bool is_normed_after = Inner::is_normed_after;

  template <class S>
  struct parameters {
    typename mix::template parameters<S> depth;
    typename Inner::template parameters<S> inner;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    mix::visit(f, at / Name.view() / "depth", p.depth...);
    Inner::visit(f, at, p.inner...);
  }
  template <class T>
  struct tape {
    typename mix::template tape<T> depth;
    matrix<T> h;      // [rows, E]
    matrix<T> zeros;  // [rows, E], if the sublayer has a norm after it, else empty
    typename Inner::template tape<T> inner;
    constexpr tape(arena& a, const extent& e)
        : depth(a, e),
          h(a.take<T>(e.rows(), width)),
          zeros(a.take<T>(is_normed_after ? e.rows() : 0, width)),
          inner(a, e) {}
  };
  template <class T>
  using cache = typename Inner::template cache<T>;
  template <class T>
  struct scratch {
    matrix<T> dh;  // [rows, E]
    typename mix::template scratch<T> depth;
    constexpr scratch(arena& a, const extent& e) : dh(a.take<T>(e.rows(), width)), depth(a, e) {}
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<scratch<T>>(e) + Inner::template scratch_bytes<T>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                      const tape<scalar<On>>& t) {
    run(on, p, e, hidden, x, y, t,
        [&](input<On> onto, output<On> to) { Inner::forward_onto(on, p.inner, e, hidden, t.h, onto, to, t.inner); });
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const tape<scalar<On>>& t, const Cache& c) {
    run(on, p, e, hidden, x, y, t,
        [&](input<On> onto, output<On> to) { Inner::extend_onto(on, p.inner, e, hidden, t.h, onto, to, t.inner, c); });
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    const scratch<scalar<On>> s(free, e);
    const int b = hidden.block;
    const output<On> down = outputs::gradient_at(hidden, b * M + J);
    add(on, d, down);
    if constexpr (IsDelta && Group > 0) add(on, d, hidden.gradient(start_of_group(b)));
    if constexpr (!IsDelta || Group > 0) zero(on, d);
    if (has_part(b)) add(on, down, outputs::gradient_at(hidden, b * M + J - 1));
    zero(on, s.dh);
    Inner::backward_onto(on, p.inner, e, hidden, t.h, down, s.dh, t.inner, g.inner, free);
    if constexpr (IsDelta) add(on, s.dh, d);
    mix::backward(on, p.depth, e, sources_of(hidden), s.dh, t.depth, g.depth, s.depth);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return Inner::flops(tokens) + mix::flops(tokens); }
  [[nodiscard]] static constexpr index least_length(index length, index capacity) {
    return least_length_of<Inner>(length, capacity);
  }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    f(at / Name.view() / "depth",
      join(IsDelta ? "the stream and a softmax over " : "softmax over ", Group == 0 ? "" : "sums of ",
           Group == 0 ? "outputs" : "outputs of groups of ", Group == 0 ? std::string() : join(Group, " blocks"), ", ",
           most, " at most"),
      parameter_count_of<mix>(), mix::flops(tokens));
    Inner::describe(f, at, tokens);
  }

 private:
  /// Whether an earlier sublayer of the group has published a sum.
  static bool has_part(int b) { return Group > 0 && (b != start_of_group(b) || J > 0); }
  template <class Hidden>
  static auto sources_of(const Hidden& hidden) {
    return typename outputs::template sources<Hidden>{hidden, hidden.block, J, count(hidden.block)};
  }
  /// sublayer(onto, to): to = onto + f(h)
  template <class On, class P, class Hidden, class Run>
  static void run(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                  const tape<scalar<On>>& t, const Run& sublayer) {
    const int b = hidden.block;
    mix::forward(on, p.depth, e, sources_of(hidden), x, t.h, t.depth);
    const output<On> to = outputs::output_at(hidden, b * M + J);
    if (has_part(b)) {
      sublayer(outputs::output_at(hidden, b * M + J - 1), to);
    } else if constexpr (is_normed_after) {
      zero(on, t.zeros);
      sublayer(t.zeros, to);
    } else {
      zero(on, to);
      sublayer(to, to);
    }
    copy(on, to, y);
    if constexpr (IsDelta) add(on, Group == 0 ? x : hidden.state(start_of_group(b)), y);
  }
};

/// y = depth_softmax of all sources: the input of the head (2603.15031). The last stage of the last block, number Depth
/// - 1.
template <index E, int M, int Group, int Depth>
struct attention_residual_end {
  static constexpr index width = E;
  static constexpr depth_set depths{0};
  using outputs = sublayer_outputs<E, M, Group>;
  using published = channels<typename outputs::slots>;
  using mix = depth_softmax<E, outputs::count(Depth, 0, true), false>;

  template <class S>
  using parameters = typename mix::template parameters<S>;
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    mix::visit(f, at / "/depth_out", p...);
  }
  template <class T>
  using tape = typename mix::template tape<T>;
  template <class T>
  using cache = nothing;
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<typename mix::template scratch<T>>(e);
  }
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                      const tape<scalar<On>>& t) {
    mix::forward(on, p, e, sources_of(hidden), x, y, t);
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const tape<scalar<On>>& t, const nothing&) {
    forward(on, p, e, hidden, x, y, t);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    const typename mix::template scratch<scalar<On>> s(free, e);
    mix::backward(on, p, e, sources_of(hidden), d, t, g, s);
    zero(on, d);
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return mix::flops(tokens); }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    f(at / "/depth_out", join("softmax over depths, ", outputs::count(Depth, 0, true)), parameter_count_of<mix>(),
      flops(tokens));
  }

 private:
  template <class Hidden>
  static auto sources_of(const Hidden& hidden) {
    return typename outputs::template sources<Hidden>{hidden, Depth, 0, outputs::count(Depth, 0, true)};
  }
};

}  // namespace fathom::layers

namespace fathom {

/// A sublayer that reads a softmax over depths: the J-th of M in its block. Group 0: over outputs; n: over sums of the
/// outputs of n blocks. `attention_residuals` (model/residual_forms.hpp) puts every sublayer of a model into one.
template <class Stage, int J, int M, int Group = 0, bool IsDelta = false>
struct over_depths {
  static constexpr std::string_view stage_name = Stage::stage_name;
  static constexpr auto options =
      fields(field<"stage">(part_of<Stage>{}), field<"group">(Group), field<"delta">(IsDelta));

 private:
  template <class At>
  struct bound {
    using type = layers::attention_residual<typename Stage::template bind<At>, detail::name_from_stage<Stage>(), J, M, Group, IsDelta,
                                            At::first_block, At::last_block>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};
/// The softmax over depths that the head reads, at the end of the last block.
template <int M, int Group = 0>
struct depths_out {
  static constexpr std::string_view stage_name = "depths_out";
  static constexpr auto options = fields(field<"group">(Group));
  template <class At>
  using bind = layers::attention_residual_end<At::width, M, Group, At::depth>;
};

}  // namespace fathom
