// Stages, the steps of a block. A stage transforms the residual stream [rows, E], and may look back at earlier depths
// through a residual source.
//
//   static constexpr index width;                E
//   static constexpr depth_set depths;           the depths that it looks back at
//   template <class S> struct parameters;  visit(f, at, p...);  template <class T> struct tape, cache;   as a layer's
//                                                T of a cache: the scalar, or what keys and values are rounded to
//   static constexpr std::size_t scratch_bytes<T>(extent);
//   static void forward(on, p, e, hidden, x, y, tape);          y = the stream after the stage; hidden: the block's
//                                                               number and the states below it (hidden_states.hpp)
//   static void extend(on, p, e, hidden, x, y, tape, cache);    forward for decoding
//   static void backward(on, p, e, hidden, x, d, tape, g, arena);   d: gradient for y on entry, for x on return
//   static constexpr double flops(index tokens);
//   static constexpr index least_length(index length, index capacity);   as a layer's; default: 0
//   static void describe(f, at, tokens);         calls f(path, text, parameters, flops) for each line of the summary
//
// A stage may publish rows for later stages and blocks: `using published = channels<channel<NAME, W>, ...>`. Then
// forward and extend fill hidden.published<channel>(hidden.block), and backward adds the contribution of
// hidden.published_gradient<channel>(hidden.block).
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "fathom/core/error.hpp"
#include "fathom/core/name.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/norm.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/residual_source.hpp"

namespace fathom::contract {

template <class S>
concept stage_runs = requires(const any_context& on, const typename S::template parameters<plain<float>>& p,
                              typename S::template parameters<plain<float>>& g, const extent& e, const any_hidden& hidden,
                              matrix<const float> x, matrix<float> y, const typename S::template tape<float>& t,
                              const typename S::template cache<float>& c, arena free) {
  S::forward(on, p, e, hidden, x, y, t);
  S::extend(on, p, e, hidden, x, y, t, c);
  S::backward(on, p, e, hidden, x, y, t, g, free);
  { S::template scratch_bytes<float>(e) } -> std::convertible_to<std::size_t>;
};
/// A stage, as described at the top of this file. Stages that publish are not checked, because only their model knows
/// their channels.
template <class S>
concept stage = requires {
  { S::width } -> std::convertible_to<index>;
  { S::depths } -> std::convertible_to<depth_set>;
} && has_parameters<S> && has_tape<S> && has_flops<S> && stage_runs<S>;

}  // namespace fathom::contract

namespace fathom::detail {
/// The channels of a layer that publishes rows, such as the values of attention.
template <class Layer, bool Publishes>
struct published_by {
  using type = channels<>;
};
template <class Layer>
struct published_by<Layer, true> {
  using type = channels<typename Layer::published>;
};
}  // namespace fathom::detail

namespace fathom::layers {

/// y = x + PostNorm(Layer(Norm(x))), the residual sublayer, with the names of its tensors: pre-norm as in GPT-2,
/// post-norm as in OLMo 2, both as in Gemma; no_norm stands for none. With a source, the layer also attends to the
/// source's rows. A name with a leading '/' is not relative to the block's name. The parts, if given, describe layer and
/// source in the summary.
template <fixed_string NormName, class Norm, fixed_string LayerName, class Layer, fixed_string SourceName = "",
          class Source = no_source, class LayerPart = void, class SourcePart = void, fixed_string PostName = "",
          class PostNorm = no_norm<Norm::width>>
struct sublayer {
  static_assert(contract::layer<Layer>, "fathom: this layer lacks a member, or has one of another type: see layer/layer.hpp");
  static_assert(std::is_same_v<Source, no_source> || contract::residual_source<Source>,
                "fathom: this residual source lacks a member, or has one of another type: see layer/residual_source.hpp");
  static constexpr index width = Norm::width;
  static constexpr depth_set depths = Source::depths;
  static constexpr bool has_source = Source::rows_per_token > 0;
  static constexpr bool has_cache = requires { typename Layer::template cache<float>; };
  static constexpr bool publishes = requires { requires Layer::publishes; };
  static constexpr bool is_normed = !std::is_same_v<Norm, no_norm<width>>;
  static constexpr bool is_normed_after = !std::is_same_v<PostNorm, no_norm<width>>;
  using layer = Layer;
  using source = Source;
  using published = typename detail::published_by<Layer, publishes>::type;

  template <class S>
  struct parameters {
    [[no_unique_address]] typename Norm::template parameters<S> norm;
    typename Layer::template parameters<S> layer;
    [[no_unique_address]] typename Source::template parameters<S> source;
    [[no_unique_address]] typename PostNorm::template parameters<S> post;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    Norm::visit(f, at / NormName.view(), p.norm...);
    Source::visit(f, at / SourceName.view(), p.source...);
    Layer::visit(f, at / LayerName.view(), p.layer...);
    PostNorm::visit(f, at / PostName.view(), p.post...);
  }

  template <class T>
  struct tape {
    typename Norm::template tape<T> norm;
    matrix<T> normed;  // [rows, E]; empty without a norm
    typename Source::template tape<T> source;
    matrix<T> memory;  // [rows * rows_per_token, E], the source's rows, at most
    typename Layer::template tape<T> layer;
    typename PostNorm::template tape<T> post;
    matrix<T> result;  // [rows, E], the layer's, before the post-norm; empty without one
    constexpr tape(arena& a, const extent& e)
        : norm(a, e),
          normed(a.take<T>(is_normed ? e.rows() : 0, width)),
          source(a, e),
          memory(a.take<T>(e.rows() * Source::rows_per_token, width)),
          layer(a, e),
          post(a, e),
          result(a.take<T>(is_normed_after ? e.rows() : 0, width)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dnormed;  // [rows, E]
    matrix<T> dmemory;  // [rows * rows_per_token, E]
    typename Layer::template scratch<T> layer;
    typename Source::template scratch<T> source;
    matrix<T> dresult;  // shaped like result of the tape
    constexpr scratch(arena& a, const extent& e)
        : dnormed(a.take<T>(e.rows(), width)),
          dmemory(a.take<T>(e.rows() * Source::rows_per_token, width)),
          layer(a, e),
          source(a, e),
          dresult(a.take<T>(is_normed_after ? e.rows() : 0, width)) {}
  };
  template <class T>
  struct cache_of {
    using type = nothing;
  };
  template <class T>
    requires has_cache
  struct cache_of<T> {
    using type = typename Layer::template cache<T>;
  };
  template <class T>
  using cache = typename cache_of<T>::type;

  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<scratch<T>>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                      const tape<scalar<On>>& t) {
    forward_onto(on, p, e, hidden, x, x, y, t);
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const tape<scalar<On>>& t, const Cache& c) {
    extend_onto(on, p, e, hidden, x, x, y, t, c);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    backward_onto(on, p, e, hidden, x, d, d, t, g, free);
  }

  /// y = residual + PostNorm(Layer(Norm(x))). Without a post-norm, residual may be y.
  template <class On, class P, class Hidden>
  static void forward_onto(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> residual,
                           output<On> y, const tape<scalar<On>>& t) {
    run(on, p, e, hidden, x, residual, y, t, [&](const auto&... arguments) { Layer::forward(on, p.layer, e, arguments..., t.layer); });
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend_onto(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> residual,
                          output<On> y, const tape<scalar<On>>& t, [[maybe_unused]] const Cache& c) {
    if constexpr (has_cache)
      run(on, p, e, hidden, x, residual, y, t,
          [&](const auto&... arguments) { Layer::extend(on, p.layer, e, arguments..., t.layer, c); });
    else
      forward_onto(on, p, e, hidden, x, residual, y, t);
  }
  /// dy: the gradient for y. dx += the gradient with respect to x; the residual's, dy, is up to the caller. dx may be dy.
  template <class On, class P, class Hidden, class G>
  static void backward_onto(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> dy,
                            output<On> dx, const tape<scalar<On>>& t, G& g, arena free) {
    const scratch<scalar<On>> s(free, e);
    const input<On> in = is_normed ? input<On>(t.normed) : x;
    input<On> d = dy;
    if constexpr (is_normed_after) {
      zero(on, s.dresult);
      PostNorm::backward(on, p.post, t.result, dy, s.dresult, t.post, g.post);
      d = s.dresult;
    }
    if constexpr (has_source) {
      const output<On> dmemory = rows_at(s.dmemory, e, hidden);
      if constexpr (publishes)
        Layer::backward_published(on, p.layer, e, in, rows_at(t.memory, e, hidden), d, s.dnormed, dmemory, sent_back(hidden), t.layer,
                                  g.layer, s.layer);
      else
        Layer::backward(on, p.layer, e, in, rows_at(t.memory, e, hidden), d, s.dnormed, dmemory, t.layer, g.layer, s.layer);
      Source::backward(on, p.source, e, hidden, dmemory, t.source, g.source, s.source);
    } else if constexpr (publishes) {
      Layer::backward_published(on, p.layer, e, in, d, s.dnormed, sent_back(hidden), t.layer, g.layer, s.layer);
    } else {
      Layer::backward(on, p.layer, e, in, d, s.dnormed, t.layer, g.layer, s.layer);
    }
    if constexpr (is_normed)
      Norm::backward(on, p.norm, x, s.dnormed, dx, t.norm, g.norm);
    else
      add(on, s.dnormed, dx);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return Norm::flops(tokens) + Source::flops(tokens) + Layer::flops(tokens);
  }
  [[nodiscard]] static constexpr index least_length(index length, index capacity) { return least_length_of<Layer>(length, capacity); }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    if constexpr (has_source)
      f(at / SourceName.view(), detail::line_of<Source, SourcePart>(), parameter_count_of<Source>(), Source::flops(tokens));
    std::string text = detail::line_of<Layer, LayerPart>();
    if constexpr (requires { Norm::describe(); }) text = join(Norm::describe(), ", ", text);
    if constexpr (requires { PostNorm::describe(); }) text += ", " + PostNorm::describe();
    f(at / LayerName.view(), text,
      parameter_count_of<Norm>() + parameter_count_of<Layer>() + parameter_count_of<PostNorm>(),
      Norm::flops(tokens) + Layer::flops(tokens) + PostNorm::flops(tokens));
  }

 private:
  /// Calls layer(input[, memory], residual, result) between the norms.
  template <class On, class P, class Hidden, class Run>
  static void run(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> residual, output<On> y,
                  const tape<scalar<On>>& t, const Run& layer) {
    if constexpr (is_normed) Norm::forward(on, p.norm, x, t.normed, t.norm);
    const input<On> in = is_normed ? input<On>(t.normed) : x;
    input<On> onto = residual;
    output<On> result = y;
    if constexpr (is_normed_after) {
      zero(on, t.result);
      onto = result = t.result;
    }
    if constexpr (has_source) {
      const output<On> memory = rows_at(t.memory, e, hidden);
      Source::forward(on, p.source, e, hidden, memory, t.source);
      layer(in, input<On>(memory), onto, result);
    } else {
      layer(in, onto, result);
    }
    if constexpr (is_normed_after) {
      PostNorm::forward(on, p.post, t.result, y, t.post);
      add(on, residual, y);
    }
    publish_rows(on, hidden, t);
  }
  /// Copies the rows that the layer publishes to their channel.
  template <class On, class Hidden>
  static void publish_rows([[maybe_unused]] const On& on, [[maybe_unused]] const Hidden& hidden,
                           [[maybe_unused]] const tape<scalar<On>>& t) {
    if constexpr (publishes)
      copy(on, Layer::published_rows(t.layer), hidden.template published<typename Layer::published>(hidden.block));
  }
  /// The gradient that later stages added to them.
  template <class Hidden>
  static auto sent_back(const Hidden& hidden) {
    return hidden.template published_gradient<typename Layer::published>(hidden.block);
  }
  /// The rows of memory that the source has in this block: [rows * rows per token in the block, E].
  template <class T, class Hidden>
  static matrix<T> rows_at(const matrix<T>& memory, const extent& e, [[maybe_unused]] const Hidden& hidden) {
    if constexpr (requires { Source::rows_at(hidden.block); })
      return memory.rows_from(0, e.rows() * Source::rows_at(hidden.block));
    else
      return memory;
  }
};

/// y = x + First(x) + Second(x): two sublayers that read the same stream (GPT-J; GPT-NeoX, arXiv 2204.06745).
template <class First, class Second>
struct parallel {
  using first_stage = First;
  using second_stage = Second;
  static constexpr index width = First::width;
  static constexpr depth_set depths = First::depths | Second::depths;
  using published = joined_channels<channels_of<First>, channels_of<Second>>;
  static constexpr bool is_normed_after = First::is_normed_after;
  static_assert(!Second::is_normed_after, "fathom::parallel: the second of two parallel sublayers cannot have a norm after it");

  template <class S>
  struct parameters {
    typename First::template parameters<S> first;
    typename Second::template parameters<S> second;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    First::visit(f, at, p.first...);
    Second::visit(f, at, p.second...);
  }
  template <class T>
  struct tape {
    typename First::template tape<T> first;
    typename Second::template tape<T> second;
    constexpr tape(arena& a, const extent& e) : first(a, e), second(a, e) {}
  };
  template <class T>
  struct cache {
    typename First::template cache<T> first;
    typename Second::template cache<T> second;
    constexpr cache(arena& a, index sequences, index capacity) : first(a, sequences, capacity), second(a, sequences, capacity) {}
    template <class Memory>
    void copy(const sequence_copy& s) const {
      first.template copy<Memory>(s);
      second.template copy<Memory>(s);
    }
  };
  template <class T>
  struct gradient {
    matrix<T> dy;  // [rows, E], a copy that both sublayers read while they add to d
    constexpr gradient(arena& a, const extent& e) : dy(a.take<T>(e.rows(), width)) {}
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<gradient<T>>(e) + std::max(First::template scratch_bytes<T>(e), Second::template scratch_bytes<T>(e));
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                      const tape<scalar<On>>& t) {
    forward_onto(on, p, e, hidden, x, x, y, t);
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y,
                     const tape<scalar<On>>& t, const Cache& c) {
    extend_onto(on, p, e, hidden, x, x, y, t, c);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    const gradient<scalar<On>> s(free, e);
    copy(on, d, s.dy);
    backward_onto(on, p, e, hidden, x, s.dy, d, t, g, free);
  }

  /// y = residual + First(x) + Second(x). Without a post-norm, residual may be y.
  template <class On, class P, class Hidden>
  static void forward_onto(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> residual,
                           output<On> y, const tape<scalar<On>>& t) {
    First::forward_onto(on, p.first, e, hidden, x, residual, y, t.first);
    Second::forward_onto(on, p.second, e, hidden, x, y, y, t.second);
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend_onto(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> residual,
                          output<On> y, const tape<scalar<On>>& t, const Cache& c) {
    First::extend_onto(on, p.first, e, hidden, x, residual, y, t.first, c.first);
    Second::extend_onto(on, p.second, e, hidden, x, y, y, t.second, c.second);
  }
  /// dy: the gradient for y. dx += the gradient with respect to x; the residual's, dy, is up to the caller. dx must not be dy.
  template <class On, class P, class Hidden, class G>
  static void backward_onto(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, input<On> dy, output<On> dx,
                            const tape<scalar<On>>& t, G& g, arena free) {
    Second::backward_onto(on, p.second, e, hidden, x, dy, dx, t.second, g.second, free);
    First::backward_onto(on, p.first, e, hidden, x, dy, dx, t.first, g.first, free);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return First::flops(tokens) + Second::flops(tokens); }
  [[nodiscard]] static constexpr index least_length(index length, index capacity) {
    return std::max(least_length_of<First>(length, capacity), least_length_of<Second>(length, capacity));
  }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    First::describe(f, at, tokens);
    Second::describe(f, at, tokens);
  }
};

/// y = Source(hidden): replaces the stream by the source's rows, one per token.
template <fixed_string Name, index E, class Source, class SourcePart = void>
struct read {
  static constexpr index width = E;
  static_assert(contract::residual_source<Source>,
                "fathom: this residual source lacks a member, or has one of another type: see layer/residual_source.hpp");
  static_assert(Source::rows_per_token == 1, "fathom::read: a source that replaces the stream has one row per token");
  static constexpr depth_set depths = Source::depths;

  template <class S>
  using parameters = typename Source::template parameters<S>;
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    Source::visit(f, at / Name.view(), p...);
  }
  template <class T>
  using tape = typename Source::template tape<T>;
  template <class T>
  using cache = nothing;
  template <class T>
  struct scratch {
    matrix<T> dmemory;  // [rows, E]
    typename Source::template scratch<T> source;
    constexpr scratch(arena& a, const extent& e) : dmemory(a.take<T>(e.rows(), E)), source(a, e) {}
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return bytes_of<scratch<T>>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> y,
                      const tape<scalar<On>>& t) {
    Source::forward(on, p, e, hidden, y, t);
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> y,
                     const tape<scalar<On>>& t, const nothing&) {
    Source::forward(on, p, e, hidden, y, t);
  }
  /// The input stream was not read, so d becomes 0; the source adds its gradients to the depths that it reads.
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On>, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free) {
    const scratch<scalar<On>> s(free, e);
    copy(on, d, s.dmemory);
    zero(on, d);
    Source::backward(on, p, e, hidden, s.dmemory, t, g, s.source);
  }
  [[nodiscard]] static constexpr double flops(index tokens) { return Source::flops(tokens); }
  template <class F>
  static void describe(const F& f, const path& at, index tokens) {
    f(at / Name.view(), detail::line_of<Source, SourcePart>(), parameter_count_of<Source>(), Source::flops(tokens));
  }
};

/// y = x: replaces an invalid stage after its error, to prevent follow-up errors.
template <index E>
struct no_stage {
  static constexpr index width = E;
  static constexpr depth_set depths{};

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
  static void forward(const On& on, const P&, const extent&, const Hidden&, input<On> x, output<On> y, const nothing&) {
    copy(on, x, y);
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P&, const extent&, const Hidden&, input<On> x, output<On> y, const nothing&, const nothing&) {
    copy(on, x, y);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On&, const P&, const extent&, const Hidden&, input<On>, output<On>, const nothing&, G&, arena) {}
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  template <class F>
  static void describe(const F&, const path&, index) {}
};

/// y = x; publishes the stream at this point, between two sublayers.
template <index E, class Channel>
struct publish : no_stage<E> {
  using published = channels<Channel>;

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P&, const extent&, const Hidden& hidden, input<On> x, output<On> y, const nothing&) {
    copy(on, x, hidden.template published<Channel>(hidden.block));
    copy(on, x, y);
  }
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, input<On> x, output<On> y, const nothing& t,
                     const nothing&) {
    forward(on, p, e, hidden, x, y, t);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P&, const extent&, const Hidden& hidden, input<On>, output<On> d, const nothing&, G&, arena) {
    add(on, hidden.template published_gradient<Channel>(hidden.block), d);
  }
};

}  // namespace fathom::layers

namespace fathom {

namespace detail {
// Checks are functions, because clang++ treats a class with a failed static_assert as invalid and reports further
// errors.
template <class Layer>
[[nodiscard]] consteval bool check_layer() {
  static_assert(contract::layer<Layer>, "fathom: this layer lacks a member, or has one of another type: see layer/layer.hpp");
  return contract::layer<Layer>;
}
template <class Norm>
[[nodiscard]] consteval bool check_norm() {
  static_assert(contract::norm<Norm>, "fathom: this norm lacks a member, or has one of another type: see layer/norm.hpp");
  return contract::norm<Norm>;
}
template <class Source>
[[nodiscard]] consteval bool check_source() {
  constexpr bool is_good = std::is_same_v<Source, layers::no_source> || contract::residual_source<Source>;
  static_assert(is_good, "fathom: this residual source lacks a member, or has one of another type: see layer/residual_source.hpp");
  return is_good;
}
}  // namespace detail

/// No source.
struct no_source {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::no_source;
};

namespace detail {
/// Names of a sublayer's tensors, and its layers.
template <fixed_string Name, class Norm, class Layer, class Source, class PostNorm>
struct sublayer_part {
 private:
  static consteval auto norm_name() {
    if constexpr (requires { Norm::tensor_name; })
      return Norm::tensor_name;
    else if constexpr (Name.view() == "attn")
      return fixed_string("ln_1");
    else if constexpr (Name.view() == "mlp")
      return fixed_string("ln_2");
    else
      return Name + fixed_string(".ln");
  }
  static consteval auto post_name() {
    if constexpr (requires { PostNorm::tensor_name; })
      return PostNorm::tensor_name;
    else if constexpr (Name.view() == "attn")
      return fixed_string("ln_1_post");
    else if constexpr (Name.view() == "mlp")
      return fixed_string("ln_2_post");
    else
      return Name + fixed_string(".ln_post");
  }
  static consteval auto layer_name() {
    if constexpr (requires { Layer::tensor_name; })
      return Name + fixed_string(".") + Layer::tensor_name;
    else
      return Name;
  }
  static consteval auto source_name() {
    if constexpr (requires { Layer::source_name; })
      return Layer::source_name;
    else if constexpr (requires { Source::tensor_name; })
      return Name + fixed_string(".") + Source::tensor_name;
    else
      return Name + fixed_string(".source");
  }
  template <class Part, index E, class At>
  struct bound_norm {
    using given = bound_part<Part, At, layers::no_norm<E>>;
    using type = std::conditional_t<check_norm<given>(), given, layers::no_norm<E>>;
  };

 public:
  template <class At>
  struct bound {
    static constexpr index E = At::width;
    using norm = typename bound_norm<Norm, E, At>::type;
    using post_norm = typename bound_norm<PostNorm, E, At>::type;
    using given_source = bound_part<Source, At, layers::no_source>;
    using source = std::conditional_t<check_source<given_source>(), given_source, layers::no_source>;
    using given_layer = bound_part<Layer, with_source<At, source>, layers::no_layer<E>>;
    using layer = std::conditional_t<check_layer<given_layer>(), given_layer, layers::no_layer<E>>;
    using type = layers::sublayer<norm_name(), norm, layer_name(), layer, source_name(), source, Layer, Source, post_name(), post_norm>;
  };
};
/// The field of a source, if there is one.
template <class Source>
[[nodiscard]] consteval auto field_of_source() {
  if constexpr (std::is_same_v<Source, no_source>)
    return fields();
  else
    return fields(field<"source">(part_of<Source>{}));
}
/// The name of a stage, by which edits find it: without a leading '/'.
template <fixed_string Name>
inline constexpr std::string_view stage_name_of = Name.view().substr(Name.view().starts_with('/') ? 1 : 0);
/// The same of a stage, for the tensors of what wraps it: those of a sublayer that reads depths, or lies between streams.
template <class Stage>
[[nodiscard]] consteval auto name_from_stage() {
  fixed_string<Stage::stage_name.size() + 1> name;
  std::copy_n(Stage::stage_name.data(), Stage::stage_name.size(), name.text);
  return name;
}
}  // namespace detail

/// No norm.
struct no_norm {
  static constexpr auto options = fields();
  template <class At>
  using bind = layers::no_norm<At::width>;
};

/// The pre-norm sublayer x + Layer(Norm(x)[, rows of Source]), as a part of a block. Its name gives the names of its
/// tensors: `NAME.ln` for the norm, `NAME` for the layer, `NAME.source` for the source, unless these parts have a
/// tensor_name. The norms of "attn" and "mlp" are GPT-2's `ln_1` and `ln_2`. A name with a leading '/' is at the root,
/// not relative to the block's name. Edits find the stage by its name without the '/'.
template <fixed_string Name, class Norm, class Layer, class Source = no_source>
struct pre {
  static constexpr std::string_view stage_name = detail::stage_name_of<Name>;
  static constexpr auto options = [] {
    if constexpr (std::is_same_v<Source, no_source>)
      return fields(field<"name">(static_cast<const char*>(Name.text)), field<"norm">(part_of<Norm>{}), field<"layer">(part_of<Layer>{}));
    else
      return fields(field<"name">(static_cast<const char*>(Name.text)), field<"norm">(part_of<Norm>{}), field<"layer">(part_of<Layer>{}),
                    field<"source">(part_of<Source>{}));
  }();
  template <class At>
  using bind = typename detail::sublayer_part<Name, Norm, Layer, Source, no_norm>::template bound<At>::type;
};
/// The post-norm sublayer of OLMo 2 (arXiv 2501.00656), x + Norm(Layer(x)). The norm's tensors are `NAME.ln_post`, and
/// `ln_1_post` and `ln_2_post` for "attn" and "mlp"; all else is as for `pre`.
template <fixed_string Name, class Layer, class Norm, class Source = no_source>
struct post {
  static constexpr std::string_view stage_name = detail::stage_name_of<Name>;
  static constexpr auto options = std::tuple_cat(
      fields(field<"name">(static_cast<const char*>(Name.text)), field<"layer">(part_of<Layer>{}), field<"norm">(part_of<Norm>{})),
      detail::field_of_source<Source>());
  template <class At>
  using bind = typename detail::sublayer_part<Name, no_norm, Layer, Source, Norm>::template bound<At>::type;
};
/// Norms before and after the layer, as in Gemma 2 and 3 (arXiv 2408.00118): x + PostNorm(Layer(Norm(x)[, rows of Source])).
template <fixed_string Name, class Norm, class Layer, class PostNorm, class Source = no_source>
struct sandwich {
  static constexpr std::string_view stage_name = detail::stage_name_of<Name>;
  static constexpr auto options = std::tuple_cat(fields(field<"name">(static_cast<const char*>(Name.text)), field<"norm">(part_of<Norm>{}),
                                                        field<"layer">(part_of<Layer>{}), field<"post_norm">(part_of<PostNorm>{})),
                                                 detail::field_of_source<Source>());
  template <class At>
  using bind = typename detail::sublayer_part<Name, Norm, Layer, Source, PostNorm>::template bound<At>::type;
};

/// Two sublayers that read the same stream, as a part of a block: x + First(x) + Second(x). Edits find it as "parallel".
template <class First, class Second>
struct parallel {
  static constexpr std::string_view stage_name = "parallel";
  static constexpr auto options = fields(field<"first">(part_of<First>{}), field<"second">(part_of<Second>{}));
  template <class At>
  using bind = layers::parallel<typename First::template bind<At>, typename Second::template bind<At>>;
};

/// Replaces the stream by the rows of a source with one row per token, as a part of a block.
template <fixed_string Name, class Source>
struct read {
  static constexpr std::string_view stage_name = detail::stage_name_of<Name>;
  static constexpr auto options = fields(field<"name">(static_cast<const char*>(Name.text)), field<"source">(part_of<Source>{}));

 private:
  template <class At>
  struct bound {
    using given = detail::bound_part<Source, At, layers::no_rows<At::width>>;
    using type = std::conditional_t<detail::check_source<given>(), given, layers::no_rows<At::width>>;
  };

 public:
  template <class At>
  using bind = layers::read<Name, At::width, typename bound<At>::type, Source>;
};

/// Publishes the stream between two sublayers for sources of later stages and blocks, which read
/// hidden.published<channel<NAME, E>>(block). A part of a block.
template <fixed_string Name>
struct publish {
  static constexpr std::string_view stage_name = Name.view();
  static constexpr auto options = fields(field<"name">(static_cast<const char*>(Name.text)));
  template <class At>
  using bind = layers::publish<At::width, channel<Name, At::width>>;
};

}  // namespace fathom
