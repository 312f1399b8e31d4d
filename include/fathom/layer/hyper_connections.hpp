// Hyper-connections: n residual streams in place of one, with learned weights by which sublayers read, mix and write
// them (Zhu et al., "Hyper-Connections", arXiv 2409.19606), static or computed by each token.
#pragma once

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
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/linear.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/stage.hpp"

namespace fathom::layers {

/// The streams of a model whose blocks have M sublayers each: sublayer j of block b publishes N streams [rows, E], side
/// by side. The first sublayer reads N copies of the embedding.
template <index E, int M, int N>
struct residual_streams {
  using slots = channel<"streams", M * N * E>;

  /// Stream i as sublayer `number` = b * M + j leaves it; -1: before the first.
  template <class Hidden>
  static auto at(const Hidden& hidden, int number, int i) {
    const auto embedding = hidden.state(0);
    if (number < 0) return embedding;
    return decltype(embedding)(hidden.template published<slots>(number / M).columns_from((number % M * N + i) * E, E));
  }
  template <class Hidden>
  static auto slot(const Hidden& hidden, int number, int i) {
    return hidden.template published<slots>(number / M).columns_from((number % M * N + i) * E, E);
  }
  template <class Hidden>
  static auto gradient(const Hidden& hidden, int number, int i) {
    if (number < 0) return hidden.gradient(0);
    return hidden.template published_gradient<slots>(number / M).columns_from((number % M * N + i) * E, E);
  }
};

/// A sublayer f (`Inner`) between N streams H_i [rows, E], number k = b M + j of the model (appendix J):
///
///   h    = H_{k mod N} + sum over i of a_i0 H_i              the sublayer's input
///   o    = f(h)
///   H'_m = H_m + sum over i of a_im H_i + (1 + b_m) o        m = 1..N
///
///   static:   a_im = alpha_im,   b_m = beta_m
///   dynamic:  a_im = alpha_im + alpha_scale tanh(LN(H_i) W)_m / 100           for each token; W [E, N + 2]
///             b_m  = beta_m + beta_scale tanh(LN(H_m) W)_{N+1} / 100
///
/// alpha [N (N + 1)] (row i has a_i0, a_i1, ..., a_iN), beta [N] and W are 0 at the start, the scales 1. The paper's
/// matrices are these and the constants that stand beside them: A_m = e_{k mod N}, A_r = I, B = 1; its scales start at
/// 0.01. So all streams begin equal, and their sum, which the head reads, as N times the stream of the model without:
/// the same up to the epsilon of the head's norm. Stage output y = o; later sublayers read the streams.
template <class Inner, fixed_string Name, int J, int M, int N, bool IsDynamic>
struct hyper_connection {
  using inner_stage = Inner;
  static constexpr index width = Inner::width;
  static constexpr depth_set depths = depth_set::only(0) | Inner::depths;
  using streams = residual_streams<width, M, N>;
  using published = joined_channels<channels_of<Inner>, channels<typename streams::slots>>;
  static constexpr bool is_normed_after = Inner::is_normed_after;
  using norm_layer = layer_norm<width>;
  using fc = linear<width, N + 2, initial::zero, false>;
  static constexpr index numbers = N * (N + 1);  // of alpha

  template <class S>
  struct parameters {
    typename S::template vector<numbers> alpha;
    typename S::template vector<N> beta;
    typename S::template vector<1> alpha_scale, beta_scale;
    typename norm_layer::template parameters<S> norm;
    typename fc::template parameters<S> c_fc;
    typename Inner::template parameters<S> inner;
  };
  template <class S>
    requires(!IsDynamic)
  struct parameters<S> {
    typename S::template vector<numbers> alpha;
    typename S::template vector<N> beta;
    typename Inner::template parameters<S> inner;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    visit_own(f, at, p...);
    Inner::visit(f, at, p.inner...);
  }

  template <class T>
  struct tape {
    matrix<T> h, o;   // [rows, E]
    matrix<T> zeros;  // [rows, E], if the sublayer has a norm after it, else empty
    // For dynamic ones; else empty:
    matrix<T> normed;   // [N * rows, E], LN(H_i), stream after stream
    matrix<T> bounded;  // [N * rows, N + 2], tanh(LN(H_i) W) / 100
    matrix<T> a;        // [N * rows, N + 2], a_i0 to a_iN, b_i
    T *mean, *rstd;     // [N * rows]
    typename Inner::template tape<T> inner;
    constexpr tape(arena& m, const extent& e)
        : h(m.take<T>(e.rows(), width)),
          o(m.take<T>(e.rows(), width)),
          zeros(m.take<T>(is_normed_after ? e.rows() : 0, width)),
          normed(m.take<T>(dynamic_rows(e), width)),
          bounded(m.take<T>(dynamic_rows(e), N + 2)),
          a(m.take<T>(dynamic_rows(e), N + 2)),
          mean(m.take<T>(dynamic_rows(e))),
          rstd(m.take<T>(dynamic_rows(e))),
          inner(m, e) {}
  };
  template <class T>
  using cache = typename Inner::template cache<T>;
  template <class T>
  struct scratch {
    matrix<T> dh, d_o;  // [rows, E]
    matrix<T> da;       // [N * rows, N + 2]
    // For dynamic ones; else empty:
    matrix<T> dot;      // [N * rows, 1]
    matrix<T> dnormed;  // [rows, E]
    constexpr scratch(arena& m, const extent& e)
        : dh(m.take<T>(e.rows(), width)),
          d_o(m.take<T>(e.rows(), width)),
          da(m.take<T>(N * e.rows(), N + 2)),
          dot(m.take<T>(dynamic_rows(e), 1)),
          dnormed(m.take<T>(IsDynamic ? e.rows() : 0, width)) {}
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<scratch<T>>(e) + Inner::template scratch_bytes<T>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> y,
                      const tape<scalar<On>>& t) {
    run(on, p, e, hidden, y, t,
        [&](input<On> onto, output<On> to) { Inner::forward_onto(on, p.inner, e, hidden, t.h, onto, to, t.inner); });
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> y,
                     const tape<scalar<On>>& t, const Cache& c) {
    run(on, p, e, hidden, y, t,
        [&](input<On> onto, output<On> to) { Inner::extend_onto(on, p.inner, e, hidden, t.h, onto, to, t.inner, c); });
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    using T = scalar<On>;
    const scratch<T> s(free, e);
    const int k = number(hidden);
    const index rows = e.rows();
    const auto below = [&](int i) { return streams::at(hidden, k - 1, i); };
    const auto dbelow = [&](int i) { return streams::gradient(hidden, k - 1, i); };
    const auto dabove = [&](int m) { return streams::gradient(hidden, k, m); };
    const auto da = [&](int i, int m) { return s.da.rows_from(i * rows, rows).columns_from(m, 1); };
    // the sublayer
    copy(on, d, s.d_o);
    zero(on, d);
    for (int m = 0; m < N; ++m) {
      add(on, dabove(m), s.d_o);
      add_scaled(on, b_of(p, t, rows, m), dabove(m), s.d_o, s.d_o);
      row_dots(on, dabove(m), t.o, da(m, N + 1));
    }
    zero(on, s.dh);
    Inner::backward_onto(on, p.inner, e, hidden, t.h, s.d_o, s.dh, t.inner, g.inner, free);
    // the streams
    for (int i = 0; i < N; ++i) {
      row_dots(on, below(i), s.dh, da(i, 0));
      add_scaled(on, a_of(p, t, rows, i, 0), s.dh, dbelow(i), dbelow(i));
      add(on, dabove(i), dbelow(i));
      for (int m = 0; m < N; ++m) {
        row_dots(on, below(i), dabove(m), da(i, m + 1));
        add_scaled(on, a_of(p, t, rows, i, m + 1), dabove(m), dbelow(i), dbelow(i));
      }
    }
    add(on, s.dh, dbelow(k % N));
    // the weights
    for (int i = 0; i < N; ++i) {
      const matrix<T> of_stream = s.da.rows_from(i * rows, rows);
      column_sums(on, of_stream.columns_from(0, N + 1), g.alpha.data() + i * (N + 1));
      column_sums(on, of_stream.columns_from(N + 1, 1), g.beta.data() + i);
    }
    if constexpr (IsDynamic) {
      row_dots(on, s.da.columns_from(0, N + 1), t.bounded.columns_from(0, N + 1), s.dot);
      column_sums(on, s.dot, g.alpha_scale.data());
      row_dots(on, s.da.columns_from(N + 1, 1), t.bounded.columns_from(N + 1, 1), s.dot);
      column_sums(on, s.dot, g.beta_scale.data());
      // da becomes the gradient for LN(H) W: times the scale, times (1 - tanh^2) / 100
      scale(on, p, s.da, t.a);  // a is no longer needed
      elementwise(on, small_tanh_slope{}, std::array<matrix<T>, 1>{s.da},
                  std::array<matrix<const T>, 2>{t.a, t.bounded});
      fc::backward_parameters(on, t.normed, s.da, g.c_fc);
      for (int i = 0; i < N; ++i) {
        fc::backward_input(on, p.c_fc, s.da.rows_from(i * rows, rows), s.dnormed);
        layer_norm_backward(on, below(i), p.norm.weight.data(), t.mean + i * rows, t.rstd + i * rows, s.dnormed,
                            dbelow(i), g.norm.weight.data(), g.norm.bias.data());
      }
    }
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return Inner::flops(tokens) + own_flops(tokens); }
  [[nodiscard]] static constexpr index least_length(index length, index capacity) {
    return least_length_of<Inner>(length, capacity);
  }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    f(at / Name.view() / "streams", join(IsDynamic ? "dynamic" : "static", " hyper-connection of ", N, " streams"),
      parameter_count_of<hyper_connection>() - parameter_count_of<Inner>(), own_flops(tokens));
    Inner::describe(f, at, tokens);
  }

 private:
  static constexpr index dynamic_rows(const extent& e) { return IsDynamic ? N * e.rows() : 0; }
  static constexpr double own_flops(index tokens) {
    return (IsDynamic ? N * fc::flops(tokens) : 0) + 2.0 * N * (N + 2) * static_cast<double>(width * tokens);
  }
  template <class Hidden>
  static int number(const Hidden& hidden) {
    return hidden.block * M + J;
  }
  template <class F, class Path, class... P>
  static constexpr void visit_own(const F& f, const Path& at, P&... p) {
    const auto to = at / Name.view() / "streams";
    f(to / "alpha", initial::zero, p.alpha...);
    f(to / "beta", initial::zero, p.beta...);
    if constexpr (IsDynamic) {
      f(to / "alpha_scale", initial::one, p.alpha_scale...);
      f(to / "beta_scale", initial::one, p.beta_scale...);
      norm_layer::visit(f, to / "ln", p.norm...);
      fc::visit(f, to / "c_fc", p.c_fc...);
    }
  }
  /// a_im and b_m of every row, as columns.
  template <class P, class T>
  static matrix<const T> a_of(const P& p, const tape<T>& t, index rows, int i, int m) {
    if constexpr (IsDynamic)
      return t.a.rows_from(i * rows, rows).columns_from(m, 1);
    else
      return in_every_row(p.alpha.data() + i * (N + 1) + m, rows);
  }
  template <class P, class T>
  static matrix<const T> b_of(const P& p, const tape<T>& t, index rows, int m) {
    if constexpr (IsDynamic)
      return t.a.rows_from(m * rows, rows).columns_from(N + 1, 1);
    else
      return in_every_row(p.beta.data() + m, rows);
  }
  /// y = x times alpha_scale, or beta_scale in the last column.   x, y [N * rows, N + 2]
  template <class On, class P>
  static void scale(const On& on, const P& p, input<On> x, output<On> y) {
    zero(on, y);
    const output<On> alphas = y.columns_from(0, N + 1), betas = y.columns_from(N + 1, 1);
    add_scaled(on, in_every_row(p.alpha_scale.data(), x.rows), x.columns_from(0, N + 1), alphas, alphas);
    add_scaled(on, in_every_row(p.beta_scale.data(), x.rows), x.columns_from(N + 1, 1), betas, betas);
  }
  template <class On, class P, class Hidden>
  static void weigh([[maybe_unused]] const On& on, [[maybe_unused]] const P& p, [[maybe_unused]] index rows,
                    [[maybe_unused]] const Hidden& hidden, [[maybe_unused]] const tape<scalar<On>>& t) {
    if constexpr (IsDynamic) {
      using T = scalar<On>;
      for (int i = 0; i < N; ++i)
        layer_norm_forward(on, streams::at(hidden, number(hidden) - 1, i), p.norm.weight.data(), p.norm.bias.data(),
                           t.normed.rows_from(i * rows, rows), t.mean + i * rows, t.rstd + i * rows,
                           norm_layer::epsilon);
      fc::forward(on, p.c_fc, t.normed, t.bounded);
      activation_forward(on, tanh_activation{}, t.bounded, t.bounded);
      multiply(on, 0.01, t.bounded);
      scale(on, p, t.bounded, t.a);
      for (int i = 0; i < N; ++i) {
        const matrix<T> a = t.a.rows_from(i * rows, rows);
        add(on, matrix<const T>(p.alpha.data() + i * (N + 1), rows, N + 1, 0), a.columns_from(0, N + 1));
        add(on, in_every_row(p.beta.data() + i, rows), a.columns_from(N + 1, 1));
      }
    }
  }
  /// sublayer(onto, to): to = onto + f(h)
  template <class On, class P, class Hidden, class Run>
  static void run(const On& on, const P& p, const extent& e, const Hidden& hidden, output<On> y,
                  const tape<scalar<On>>& t, const Run& sublayer) {
    const int k = number(hidden);
    const index rows = e.rows();
    const auto below = [&](int i) { return streams::at(hidden, k - 1, i); };
    weigh(on, p, rows, hidden, t);
    for (int i = 0; i < N; ++i)
      add_scaled(on, a_of(p, t, rows, i, 0), below(i), i == 0 ? below(k % N) : input<On>(t.h), t.h);
    if constexpr (is_normed_after) {
      zero(on, t.zeros);
      sublayer(t.zeros, t.o);
    } else {
      zero(on, t.o);
      sublayer(t.o, t.o);
    }
    copy(on, t.o, y);
    for (int m = 0; m < N; ++m) {
      const output<On> to = streams::slot(hidden, k, m);
      add_scaled(on, b_of(p, t, rows, m), t.o, below(m), to);
      add(on, t.o, to);
      for (int i = 0; i < N; ++i) add_scaled(on, a_of(p, t, rows, i, m + 1), below(i), to, to);
    }
  }
};

/// y = the sum of the streams: the input of the head. The last stage of the last block, number Depth - 1.
template <index E, int M, int N, int Depth>
struct join_streams {
  static constexpr index width = E;
  static constexpr depth_set depths{0};
  using streams = residual_streams<E, M, N>;
  using published = channels<typename streams::slots>;

  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class T>
  using tape = nothing;
  template <class T>
  using cache = nothing;
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent&) {
    return 0;
  }
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const extent&, const Hidden& hidden, input<On>, output<On> y,
                      const nothing&) {
    copy(on, streams::at(hidden, Depth * M - 1, 0), y);
    for (int i = 1; i < N; ++i) add(on, streams::at(hidden, Depth * M - 1, i), y);
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const nothing& t, const nothing&) {
    forward(on, p, e, hidden, x, y, t);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const extent&, const Hidden& hidden, input<On>, output<On> d,
                       const nothing&, G&, arena) {
    for (int i = 0; i < N; ++i) add(on, d, streams::gradient(hidden, Depth * M - 1, i));
    zero(on, d);
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  template <class F>
  static void describe(const F& f, const path& at, index) {
    f(at / "/streams_out", join("sum of ", N, " streams"), index{0}, 0.0);
  }
};

}  // namespace fathom::layers

namespace fathom {

namespace check {
template <int streams>
inline constexpr bool streams_is_positive = streams > 0;
}  // namespace check

/// A sublayer between N residual streams: the J-th of M in its block. `hyper_connections` (model/residual_forms.hpp)
/// puts every sublayer of a model into one.
template <class Stage, int J, int M, int N, bool IsDynamic = true>
struct between_streams {
  static_assert(check::streams_is_positive<N>, "fathom::between_streams: the number of streams must be positive");
  static constexpr std::string_view stage_name = Stage::stage_name;
  static constexpr auto options =
      fields(field<"stage">(part_of<Stage>{}), field<"streams">(N), field<"dynamic">(IsDynamic));

 private:
  template <class At>
  struct bound {
    using type = layers::hyper_connection<typename Stage::template bind<At>, detail::name_from_stage<Stage>(), J, M, N, IsDynamic>;
  };

 public:
  template <class At>
  using bind = typename bound<At>::type;
};
/// The sum of the streams, at the end of the last block.
template <int M, int N>
struct streams_out {
  static constexpr std::string_view stage_name = "streams_out";
  static constexpr auto options = fields(field<"streams">(N));
  template <class At>
  using bind = layers::join_streams<At::width, M, N, At::depth>;
};

}  // namespace fathom
