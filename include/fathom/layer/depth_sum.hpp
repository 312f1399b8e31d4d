// A stage that replaces the residual stream by a sum over depths with one learned number for each. DenseFormer
// (dense_former.hpp), multiples of the embedding and backout (embedding_skip.hpp) are such sums.
//
// `Terms` says which depths a sum reads. Its `own` depth is that of the stream at this point: b at the beginning of
// block b, b + 1 at its end.
//
//   static constexpr bool has_own;                     whether the stream itself has a number
//   static constexpr bool at_end;                      of the block
//   static constexpr int most;                         the most other depths in any block of the run
//   static constexpr depth_set depths;                 all that are read
//   static constexpr int count(int own);               the other depths of one sum;
//   static constexpr int depth_of(int own, int n);     the n-th of them
//   static constexpr bool is_there(int own);           false: the stream stays as it is
//   static std::string describe();                     for the summary
#pragma once

#include <algorithm>
#include <string>

#include "fathom/core/depth_set.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/stage.hpp"

namespace fathom::layers {

/// A number that stands for a column [rows, 1] of equal ones.
template <class T>
[[nodiscard]] matrix<const T> in_every_row(const T* number, index rows) {
  return {number, rows, 1, 0};
}

/// y = (1 + own) x + sum over n of weight_n X_s(n).   x, y [rows, E]; own [1], weight [Terms::most], all 0 at the
/// start, so that a model begins as the one without this stage. X_s is the output of block s, X_0 the embedding. Blocks
/// of a run have as many numbers as the block with the most; those that a block does not use stay as they are.
template <fixed_string Name, index E, class Terms>
struct depth_sum {
  static_assert(Terms::depths.impossible == 0, "fathom: a sum over depths reads no depth above 63; see depth_set");
  static constexpr index width = E;
  static constexpr depth_set depths = Terms::depths;
  static constexpr bool has_own = Terms::has_own;
  static constexpr index most = std::max(Terms::most, 1);

  template <class S>
  struct parameters {
    typename S::template vector<1> own;
    typename S::template vector<most> weight;
  };
  template <class S>
    requires(!has_own)
  struct parameters<S> {
    typename S::template vector<most> weight;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    if constexpr (has_own) f(at / Name.view() / "own", initial::zero, p.own...);
    f(at / Name.view() / "weight", initial::zero, p.weight...);
  }
  template <class T>
  using tape = nothing;
  template <class T>
  using cache = nothing;
  template <class T>
  struct scratch {
    matrix<T> dots;  // [rows, most + 1], what each row adds to the gradient of each number; the last is own's
    constexpr scratch(arena& a, const extent& e) : dots(a.take<T>(e.rows(), most + 1)) {}
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<scratch<T>>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                      const nothing&) {
    const int own = own_depth(hidden);
    if (!Terms::is_there(own)) return copy(on, x, y);
    input<On> sum = x;
    if constexpr (has_own) {
      add_scaled(on, in_every_row(p.own.data(), e.rows()), x, x, y);
      sum = y;
    }
    for (int n = 0; n < Terms::count(own); ++n) {
      add_scaled(on, in_every_row(p.weight.data() + n, e.rows()), hidden.state(Terms::depth_of(own, n)), sum, y);
      sum = y;
    }
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const nothing& t, const nothing&) {
    forward(on, p, e, hidden, x, y, t);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d,
                       const nothing&, G& g, arena free) {
    const int own = own_depth(hidden), count = Terms::count(own);
    if (!Terms::is_there(own)) return;
    const scratch<scalar<On>> s(free, e);
    for (int n = 0; n < count; ++n) {
      const int depth = Terms::depth_of(own, n);
      row_dots(on, hidden.state(depth), d, s.dots.columns_from(n, 1));
      add_scaled(on, in_every_row(p.weight.data() + n, e.rows()), d, hidden.gradient(depth), hidden.gradient(depth));
    }
    if (count > 0) column_sums(on, s.dots.columns_from(0, count), g.weight.data());
    if constexpr (has_own) {
      const auto dots = s.dots.columns_from(most, 1);
      row_dots(on, x, d, dots);
      column_sums(on, dots, g.own.data());
      add_scaled(on, in_every_row(p.own.data(), e.rows()), d, d, d);
    }
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return 2.0 * (Terms::most + (has_own ? 1 : 0)) * static_cast<double>(E * tokens);
  }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    f(at / Name.view(), Terms::describe(), parameter_count_of<depth_sum>(), flops(tokens));
  }

 private:
  template <class Hidden>
  static int own_depth(const Hidden& hidden) {
    return hidden.block + (Terms::at_end ? 1 : 0);
  }
};

}  // namespace fathom::layers
