// An architecture as a type, made of small parts that know no width (layer/part.hpp):
//
//   using A = pre<"attn", layer_norm<>, attention<4>>;
//   using M = pre<"mlp", layer_norm<>, mlp<>>;
//   using tiny = architecture<sizes<256, 128, 64>, embed<tokens, learned_positions>, body<repeat<6, block<A, M>>>,
//                             head<layer_norm<>, tied>>;
//   using net = fathom::transformer<tiny>;
//
// A body is a sequence of runs of blocks, or of patterns of several blocks: body<repeat<5, block<W, M>, block<A, M>>,
// block<A, M>>. To vary a known architecture, edit it (edit.hpp). A config (config.hpp) means such a type (gpt.hpp).
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "fathom/core/fields.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/block.hpp"
#include "fathom/layer/embedding.hpp"
#include "fathom/layer/output_head.hpp"
#include "fathom/layer/part.hpp"
#include "fathom/layer/stack.hpp"

namespace fathom {

namespace check {
template <index vocab>
inline constexpr bool sizes_vocab_is_positive = vocab > 0;
template <index context>
inline constexpr bool sizes_context_is_positive = context > 0;
template <index width>
inline constexpr bool sizes_width_is_positive = width > 0;
template <int count>
inline constexpr bool repeat_count_is_positive = count > 0;
}  // namespace check

/// V different tokens, at most `Context` tokens in a sequence, E numbers for each token between the blocks.
template <index Vocab, index Context, index Width>
struct sizes {
  static_assert(check::sizes_vocab_is_positive<Vocab>, "fathom::sizes: vocab must be positive");
  static_assert(check::sizes_context_is_positive<Context>, "fathom::sizes: context must be positive");
  static_assert(check::sizes_width_is_positive<Width>, "fathom::sizes: width must be positive");
  static constexpr index vocab = Vocab, context = Context, width = Width;
};

namespace detail {
/// A stage that publishes is not checked here: only its model knows its channels.
template <class Stage>
[[nodiscard]] consteval bool check_stage() {
  if constexpr (std::is_same_v<fathom::channels_of<Stage>, channels<>>) {
    static_assert(contract::stage<Stage>, "fathom: this stage lacks a member, or has one of another type: see layer/stage.hpp");
    return contract::stage<Stage>;
  } else {
    return true;
  }
}
template <class Part, class At>
struct bound_stage {
  using given = bound_part<Part, At, layers::no_stage<At::width>>;
  using type = std::conditional_t<check_stage<given>(), given, layers::no_stage<At::width>>;
};
}  // namespace detail

/// Stages, one after the other.
template <class... Stages>
struct block {
  static_assert(sizeof...(Stages) > 0, "fathom::block: a block needs a stage");
  static constexpr auto options = fields(field<"stages">(parts_of<Stages...>{}));
  template <class At>
  using bind = layers::block<typename detail::bound_stage<Stages, At>::type...>;
};

/// A block, or a pattern of several, repeated `Count` times.
template <int Count, class... Blocks>
struct repeat {
  static_assert(check::repeat_count_is_positive<Count>, "fathom::repeat: a run has at least one block");
  static constexpr int count = Count;
  static constexpr int blocks = Count * static_cast<int>(sizeof...(Blocks));
  static constexpr auto options = fields(field<"count">(Count), field<"blocks">(parts_of<Blocks...>{}));
};

namespace detail {
template <class... T>
struct list {};

/// A single block is a run of one.
template <class Item>
struct run_of;
template <class... Stages>
struct run_of<block<Stages...>> {
  using type = repeat<1, block<Stages...>>;
};
template <int Count, class... Blocks>
struct run_of<repeat<Count, Blocks...>> {
  using type = repeat<Count, Blocks...>;
};

/// A run of a stack. A single block is not wrapped in a pattern, so that equal runs are one type.
template <class At, class Run>
struct bound_run;
template <class At, int Count, class Block>
struct bound_run<At, repeat<Count, Block>> {
  using type = layers::repeat<typename Block::template bind<At>, Count>;
};
template <class At, int Count, class... Blocks>
  requires(sizeof...(Blocks) > 1)
struct bound_run<At, repeat<Count, Blocks...>> {
  using type = layers::repeat<layers::pattern<typename Blocks::template bind<At>...>, Count>;
};

/// The stack of some runs, the first of which begins at block `First`.
template <class At, int First, class Bound, class... Runs>
struct bound_body;
template <class At, int First, class... Bound>
struct bound_body<At, First, list<Bound...>> {
  using type = layers::stack<Bound...>;
};
template <class At, int First, class... Bound, class Run, class... Rest>
struct bound_body<At, First, list<Bound...>, Run, Rest...>
    : bound_body<At, First + Run::blocks,
                 list<Bound..., typename bound_run<typename At::template in_blocks<First, First + Run::blocks - 1>, Run>::type>,
                 Rest...> {};
}  // namespace detail

/// Runs of blocks, numbered consecutively.
template <class... Items>
struct body {
  static_assert(sizeof...(Items) > 0, "fathom::body: a body needs a block");
  static constexpr int depth = (detail::run_of<Items>::type::blocks + ...);  // L
  static constexpr auto options = fields(field<"runs">(parts_of<typename detail::run_of<Items>::type...>{}));
  template <class At>
  using bind = typename detail::bound_body<At, 0, detail::list<>, typename detail::run_of<Items>::type...>::type;
};

/// What a model is made of. fathom::transformer<architecture, backend> is the model.
template <class Sizes, class Embed, class Body, class Head>
struct architecture {
  using sizes_part = Sizes;
  using embed_part = Embed;
  using body_part = Body;
  using head_part = Head;

  static constexpr index vocab = Sizes::vocab, context = Sizes::context, width = Sizes::width;
  static constexpr bool tied = Head::is_tied;

 private:
  using at = binding<vocab, context, width, Body::depth, tied>;

 public:
  using embedding = typename Embed::template bind<at>;
  using body = typename Body::template bind<at>;
  using head = typename Head::template bind<at>;

  /// The whole of it as JSON: what files carry, and load compares.
  [[nodiscard]] static std::string description() {
    return "{\"vocab\":" + std::to_string(vocab) + ",\"context\":" + std::to_string(context) + ",\"width\":" + std::to_string(width) +
           ",\"embed\":" + description_of_part<Embed>() + ",\"body\":" + description_of_part<Body>() +
           ",\"head\":" + description_of_part<Head>() + "}";
  }
};

}  // namespace fathom
