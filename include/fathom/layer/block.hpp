// A block: a sequence of stages.
#pragma once

#include <algorithm>
#include <type_traits>

#include "fathom/layer/stage.hpp"

namespace fathom::detail {
/// Calls f(stage, tape, number of the block), or f(stage, tape) if f takes no number.
template <class F, class Stage, class T>
void call_with_stage(const F& f, const Stage& stage, const T& t, int number) {
  if constexpr (std::is_invocable_v<const F&, const Stage&, const T&, int>)
    f(stage, t, number);
  else
    f(stage, t);
}
}  // namespace fathom::detail

namespace fathom::layers {

/// A block of one stage is that stage; a block of several is its first stage, followed by a block of the rest. A block
/// is itself a stage.
template <class... Stages>
struct block;

template <class Only>
struct block<Only> : Only {
  template <class F, class Path, class P>
  static constexpr void visit_stages(const F& f, const Path& at, int stage, P& p) {
    Only::visit([&](const auto& name, initial, auto&) { f(stage, name); }, at, p);
  }
  template <class On, class P, class Hidden, class G>
  static void backward_from(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d, const auto& t,
                            G& g, arena free, int) {
    Only::backward(on, p, e, hidden, x, d, t, g, free);
  }
  /// Calls f(stage type, tape) for every stage, or f(stage type, tape, number of the block) if it takes that.
  template <class F, class T>
  static void each(const F& f, const T& t, int number = 0) {
    detail::call_with_stage(f, Only{}, t, number);
  }
};

template <class First, class... Rest>
struct block<First, Rest...> {
  using rest_type = block<Rest...>;
  static constexpr index width = First::width;
  static constexpr depth_set depths = First::depths | rest_type::depths;
  using published = joined_channels<channels_of<First>, channels_of<rest_type>>;

  template <class S>
  struct parameters {
    typename First::template parameters<S> first;
    typename rest_type::template parameters<S> rest;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    First::visit(f, at, p.first...);
    rest_type::visit(f, at, p.rest...);
  }

  /// Calls f(stage, name) for every tensor. The first stage has the number `stage`.
  template <class F, class Path, class P>
  static constexpr void visit_stages(const F& f, const Path& at, int stage, P& p) {
    First::visit([&](const auto& name, initial, auto&) { f(stage, name); }, at, p.first);
    rest_type::visit_stages(f, at, stage + 1, p.rest);
  }

  template <class T>
  struct tape {
    typename First::template tape<T> first;
    matrix<T> stream;  // [rows, E], the residual stream after the first stage
    typename rest_type::template tape<T> rest;
    constexpr tape(arena& a, const extent& e) : first(a, e), stream(a.take<T>(e.rows(), width)), rest(a, e) {}
  };
  template <class T>
  struct cache {
    typename First::template cache<T> first;
    typename rest_type::template cache<T> rest;
    constexpr cache(arena& a, index sequences, index capacity)
        : first(a, sequences, capacity), rest(a, sequences, capacity) {}
    template <class Memory>
    void copy(const sequence_copy& s) const {
      first.template copy<Memory>(s);
      rest.template copy<Memory>(s);
    }
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return std::max(First::template scratch_bytes<T>(e), rest_type::template scratch_bytes<T>(e));
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                      const tape<scalar<On>>& t) {
    First::forward(on, p.first, e, hidden, x, t.stream, t.first);
    rest_type::forward(on, p.rest, e, hidden, t.stream, y, t.rest);
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const tape<scalar<On>>& t, const Cache& c) {
    First::extend(on, p.first, e, hidden, x, t.stream, t.first, c.first);
    rest_type::extend(on, p.rest, e, hidden, t.stream, y, t.rest, c.rest);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    backward_from(on, p, e, hidden, x, d, t, g, free, 0);
  }
  /// The same without the first `lowest` stages.
  template <class On, class P, class Hidden, class G>
  static void backward_from(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d,
                            const tape<scalar<On>>& t, G& g, arena free, int lowest) {
    rest_type::backward_from(on, p.rest, e, hidden, t.stream, d, t.rest, g.rest, free, lowest - 1);
    if (lowest <= 0) First::backward(on, p.first, e, hidden, x, d, t.first, g.first, free);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return First::flops(tokens) + rest_type::flops(tokens); }
  [[nodiscard]] static constexpr index least_length(index length, index capacity) {
    return std::max(least_length_of<First>(length, capacity), least_length_of<rest_type>(length, capacity));
  }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    First::describe(f, at, tokens);
    rest_type::describe(f, at, tokens);
  }
  template <class F, class T>
  static void each(const F& f, const T& t, int number = 0) {
    detail::call_with_stage(f, First{}, t.first, number);
    rest_type::each(f, t.rest, number);
  }
};

}  // namespace fathom::layers
