// Architectures with other residual connections than plain ones, as edits of any architecture (edit.hpp):
//
//   using net = fathom::transformer<fathom::dense_former<fathom::gpt2<c>>>;
//
// A config chooses one of them by its field `residual` (residual.hpp).
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "fathom/layer/attention_residuals.hpp"
#include "fathom/layer/dense_former.hpp"
#include "fathom/layer/embedding_skip.hpp"
#include "fathom/layer/hyper_connections.hpp"
#include "fathom/layer/mudd.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/edit.hpp"
#include "fathom/model/residual.hpp"

namespace fathom {

namespace check {
template <bool all_equal>
inline constexpr bool blocks_have_equally_many_sublayers = all_equal;
}  // namespace check

namespace detail {
template <class Architecture>
inline constexpr int depth_of = plain_architecture<Architecture>::type::body_part::depth;

/// An edit of blocks First to Last if there are any.
template <class Architecture, int First, int Last, class Edit>
struct edit_between {
  using type = edit<Architecture, blocks<First, Last>, Edit>;
};
template <class Architecture, int First, int Last, class Edit>
  requires(First > Last)
struct edit_between<Architecture, First, Last, Edit> {
  using type = Architecture;
};
/// An edit of the last block, or none.
template <bool IsThere, class Architecture, class Edit>
struct edit_at_end {
  using type = edit<Architecture, last_block, Edit>;
};
template <class Architecture, class Edit>
struct edit_at_end<false, Architecture, Edit> {
  using type = Architecture;
};

/// The stages of each block of a body, which must be equally many.
template <class Block>
struct stages_of;
template <class... Stages>
struct stages_of<block<Stages...>> {
  static constexpr int count = static_cast<int>(sizeof...(Stages));
};
template <class Run>
struct stages_of_run;
template <int Count, class First, class... Rest>
struct stages_of_run<repeat<Count, First, Rest...>> {
  static constexpr int count = stages_of<First>::count;
  static constexpr bool are_equal = ((stages_of<Rest>::count == count) && ... && true);
};
template <class Body>
struct stages_of_body;
template <class First, class... Rest>
struct stages_of_body<body<First, Rest...>> {
  using first = stages_of_run<typename run_of<First>::type>;
  static constexpr int count = first::count;
  static constexpr bool are_equal = first::are_equal && ((stages_of_run<typename run_of<Rest>::type>::are_equal &&
                                                          stages_of_run<typename run_of<Rest>::type>::count == count) &&
                                                         ... && true);
};
template <class Architecture>
[[nodiscard]] consteval int sublayers_of() {
  using stages = stages_of_body<typename plain_architecture<Architecture>::type::body_part>;
  static_assert(check::blocks_have_equally_many_sublayers<stages::are_equal>,
                "fathom: attention residuals and hyper-connections need blocks of equally many sublayers");
  return stages::count;
}

/// Edits that put every sublayer of a block into a stage that knows its place.
template <int M, int Group, bool IsDelta>
struct each_over_depths {
  template <class Block>
  struct edited;
  template <class... S>
  struct edited<block<S...>> {
    template <std::size_t... J>
    static auto wrapped(std::index_sequence<J...>) -> block<over_depths<S, static_cast<int>(J), M, Group, IsDelta>...>;
    using type = decltype(wrapped(std::index_sequence_for<S...>()));
  };
  template <class Block>
  using of = typename edited<Block>::type;
};
template <int M, int N, bool IsDynamic>
struct each_between_streams {
  template <class Block>
  struct edited;
  template <class... S>
  struct edited<block<S...>> {
    template <std::size_t... J>
    static auto wrapped(std::index_sequence<J...>)
        -> block<between_streams<S, static_cast<int>(J), M, N, IsDynamic>...>;
    using type = decltype(wrapped(std::index_sequence_for<S...>()));
  };
  template <class Block>
  using of = typename edited<Block>::type;
};

template <class A, int Dilation, int Period>
struct dense_former_of {
  static constexpr int depth = depth_of<A>;
  using before = typename edit_between<A, 1, depth - 1, insert_first<depth_average<Dilation, Period>>>::type;
  using type =
      typename edit_at_end<depth % Period == 0, before, insert_last<depth_average<Dilation, Period, true>>>::type;
};
template <class A, int Backout>
struct embedding_scalars_of {
  using before = edit<A, every_block, insert_first<add_embedding>>;
  using type = typename edit_at_end<(Backout > 0), before, insert_last<backout<Backout>>>::type;
};
template <class A, int Group, bool IsDelta>
struct attention_residuals_of {
  static constexpr int sublayers = sublayers_of<A>();
  using inside = edit<A, every_block, each_over_depths<sublayers, Group, IsDelta>>;
  using type = typename edit_at_end<!IsDelta, inside, insert_last<depths_out<sublayers, Group>>>::type;
};
template <class A, int N, bool IsDynamic>
struct hyper_connections_of {
  static constexpr int sublayers = sublayers_of<A>();
  using inside = edit<A, every_block, each_between_streams<sublayers, N, IsDynamic>>;
  using type = edit<inside, last_block, insert_last<streams_out<sublayers, N>>>;
};
template <class A, int LastBlocks>
struct mudd_former_of {
  static constexpr int depth = depth_of<A>, first = LastBlocks > 0 && LastBlocks < depth ? depth - LastBlocks + 1 : 1;
  using before = typename edit_between<A, first, depth - 1, insert_first<dynamic_average<>>>::type;
  using type = edit<before, last_block, insert_last<dynamic_average<true>>>;
};
}  // namespace detail

/// DenseFormer (arXiv 2402.02622): the average of depths i, i - Dilation, i - 2 Dilation, ... after each block i that
/// Period divides.
template <class Architecture, int Dilation = 1, int Period = 1>
using dense_former = typename detail::dense_former_of<Architecture, Dilation, Period>::type;
/// Multiples of the stream and of the embedding before each block; with Backout > 0, a multiple of that depth before
/// the head.
template <class Architecture, int Backout = 0>
using embedding_scalars = typename detail::embedding_scalars_of<Architecture, Backout>::type;
/// Attention residuals (arXiv 2603.15031), full, or with groups of blocks; delta attention residuals (arXiv
/// 2605.18855).
template <class Architecture, int Group = 0>
using attention_residuals = typename detail::attention_residuals_of<Architecture, Group, false>::type;
template <class Architecture, int Group = 0>
using delta_attention_residuals = typename detail::attention_residuals_of<Architecture, Group, true>::type;
/// Hyper-connections (arXiv 2409.19606) with that many streams.
template <class Architecture, int Streams = 4, bool IsDynamic = true>
using hyper_connections = typename detail::hyper_connections_of<Architecture, Streams, IsDynamic>::type;
/// The residual way of MUDD (arXiv 2502.12170), after the last blocks; 0: after all.
template <class Architecture, int LastBlocks = 0>
using mudd_former = typename detail::mudd_former_of<Architecture, LastBlocks>::type;

namespace detail {
/// The edit that a config's residual connections stand for. Takes their members one by one, as gpt does (gpt.hpp).
template <class Plain, residual_form Form, int Dilation, int Period, int Backout, int Group, int Streams,
          bool IsDynamic, int LastBlocks>
struct residual_edit {
  using type = Plain;
};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct residual_edit<Plain, residual_form::dense_former, Dilation, Period, Backout, Group, Streams, IsDynamic,
                     LastBlocks> : dense_former_of<Plain, Dilation, Period> {};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct residual_edit<Plain, residual_form::embedding_scalars, Dilation, Period, Backout, Group, Streams, IsDynamic,
                     LastBlocks> : embedding_scalars_of<Plain, Backout> {};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct residual_edit<Plain, residual_form::attention, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks>
    : attention_residuals_of<Plain, Group, false> {};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct residual_edit<Plain, residual_form::delta_attention, Dilation, Period, Backout, Group, Streams, IsDynamic,
                     LastBlocks> : attention_residuals_of<Plain, Group, true> {};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct residual_edit<Plain, residual_form::hyper_connections, Dilation, Period, Backout, Group, Streams, IsDynamic,
                     LastBlocks> : hyper_connections_of<Plain, Streams, IsDynamic> {};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct residual_edit<Plain, residual_form::mudd, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks>
    : mudd_former_of<Plain, LastBlocks> {};

/// A config with these residual connections.
[[nodiscard]] constexpr config with_residual(config c, const residual_connections& r) {
  c.residual = r;
  return c;
}

/// The architecture of a config (gpt.hpp, families.hpp) with other residual connections.
template <class Plain, residual_form Form, int Dilation, int Period, int Backout, int Group, int Streams,
          bool IsDynamic, int LastBlocks>
struct residual_model
    : residual_edit<Plain, Form, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks>::type {
  static constexpr residual_connections residual{.form = Form,
                                                 .dilation = Dilation,
                                                 .period = Period,
                                                 .backout = Backout,
                                                 .group = Group,
                                                 .streams = Streams,
                                                 .dynamic = IsDynamic,
                                                 .last_blocks = LastBlocks};
  static constexpr bool has_shortcut = Plain::has_shortcut;
};
template <class Plain, residual_form Form, int Dilation, int Period, int Backout, int Group, int Streams,
          bool IsDynamic, int LastBlocks>
struct residual_gpt : residual_model<Plain, Form, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks> {
  static constexpr config configuration = with_residual(Plain::configuration, residual_gpt::residual);
  static void description() = delete;  // in files, it is its config (io/description.hpp)
};
template <class Plain, residual_form Form, int Dilation, int Period, int Backout, int Group, int Streams,
          bool IsDynamic, int LastBlocks>
struct residual_decoder
    : residual_model<Plain, Form, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks> {
  static constexpr config family_configuration = with_residual(Plain::family_configuration, residual_decoder::residual);
};

/// The same, or `Plain` itself if these are plain.
template <class Plain, residual_form Form, int Dilation, int Period, int Backout, int Group, int Streams,
          bool IsDynamic, int LastBlocks>
struct with_residual_form {
  using type = residual_decoder<Plain, Form, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks>;
};
template <class Plain, residual_form Form, int Dilation, int Period, int Backout, int Group, int Streams,
          bool IsDynamic, int LastBlocks>
  requires(Form != residual_form::plain && requires { Plain::configuration; })
struct with_residual_form<Plain, Form, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks> {
  using type = residual_gpt<Plain, Form, Dilation, Period, Backout, Group, Streams, IsDynamic, LastBlocks>;
};
template <class Plain, int Dilation, int Period, int Backout, int Group, int Streams, bool IsDynamic, int LastBlocks>
struct with_residual_form<Plain, residual_form::plain, Dilation, Period, Backout, Group, Streams, IsDynamic,
                          LastBlocks> {
  using type = Plain;
};
}  // namespace detail

}  // namespace fathom
