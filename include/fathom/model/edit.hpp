// Architectures that differ from a known one: edit<gpt2<c>, last_block, insert_after<"attn", cross>>.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fathom/core/name.hpp"
#include "fathom/model/architecture.hpp"

namespace fathom {

// ---- Which blocks ---------------------------------------------------------------------------------------------------
// Each gives, for a body of `depth` blocks, the first block and the one after the last, counted from 0.

/// All blocks.
struct every_block {
  static constexpr int begin(int) { return 0; }
  static constexpr int end(int depth) { return depth; }
};
/// The last `Count` blocks.
template <int Count>
struct last_blocks {
  static constexpr int begin(int depth) { return depth - Count; }
  static constexpr int end(int depth) { return depth; }
};
using last_block = last_blocks<1>;
/// The first `Count` blocks.
template <int Count>
struct first_blocks {
  static constexpr int begin(int) { return 0; }
  static constexpr int end(int) { return Count; }
};
/// Blocks First to Last, both included.
template <int First, int Last = First>
struct blocks {
  static constexpr int begin(int) { return First; }
  static constexpr int end(int) { return Last + 1; }
};

// ---- Edits of a block -----------------------------------------------------------------------------------------------

namespace detail {
template <class A, class B>
struct concatenated;
template <class... A, class... B>
struct concatenated<list<A...>, list<B...>> {
  using type = list<A..., B...>;
};

/// The stages of a block, with `Edit::at<Stage>::type` (a list) in place of each stage with the edit's name.
template <class Edit, class Block>
struct edited_block;
template <class Edit, class... Stages>
struct edited_block<Edit, block<Stages...>> {
  static constexpr int found = (0 + ... + static_cast<int>(Stages::stage_name == Edit::stage_name));
  template <class... S>
  static auto joined(list<S...>) -> block<S...>;
  template <class Done, class... Rest>
  struct walk {
    using type = Done;
  };
  template <class Done, class First, class... Rest>
  struct walk<Done, First, Rest...>
      : walk<typename concatenated<Done, typename std::conditional_t<First::stage_name == Edit::stage_name, typename Edit::template at<First>,
                                                                      std::type_identity<list<First>>>::type>::type,
             Rest...> {};
  using type = decltype(joined(typename walk<list<>, Stages...>::type{}));
};
}  // namespace detail

namespace check {
template <fixed_string name, int found>
inline constexpr bool block_has_one_stage_of_this_name = found == 1;
template <int begin, int end, int depth>
inline constexpr bool blocks_are_in_the_body = begin >= 0 && begin < end && end <= depth;
}  // namespace check

namespace detail {
template <fixed_string Name, int Found>
[[nodiscard]] consteval bool check_stage_name() {
  static_assert(check::block_has_one_stage_of_this_name<Name, Found>, "fathom::edit: the block must have one stage of this name");
  return Found == 1;
}
/// After an error, the unchanged block.
template <class Edit, fixed_string Name, class Block>
struct checked_edit {
  using edited = edited_block<Edit, Block>;
  using type = std::conditional_t<check_stage_name<Name, edited::found>(), typename edited::type, Block>;
};
}  // namespace detail

/// Inserts stages after the one called Name.
template <fixed_string Name, class... Stages>
struct insert_after {
  static constexpr std::string_view stage_name = Name.view();
  template <class Stage>
  struct at {
    using type = detail::list<Stage, Stages...>;
  };
  template <class Block>
  using of = typename detail::checked_edit<insert_after, Name, Block>::type;
};
/// Inserts stages before the one called Name.
template <fixed_string Name, class... Stages>
struct insert_before {
  static constexpr std::string_view stage_name = Name.view();
  template <class Stage>
  struct at {
    using type = detail::list<Stages..., Stage>;
  };
  template <class Block>
  using of = typename detail::checked_edit<insert_before, Name, Block>::type;
};
/// Replaces the stage called Name; without stages, removes it.
template <fixed_string Name, class... Stages>
struct in_place_of {
  static constexpr std::string_view stage_name = Name.view();
  template <class Stage>
  struct at {
    using type = detail::list<Stages...>;
  };
  template <class Block>
  using of = typename detail::checked_edit<in_place_of, Name, Block>::type;
};
/// Inserts stages at the beginning of the block.
template <class... Stages>
struct insert_first {
  template <class Block>
  struct edited;
  template <class... S>
  struct edited<block<S...>> {
    using type = block<Stages..., S...>;
  };
  template <class Block>
  using of = typename edited<Block>::type;
};
/// Inserts stages at the end of the block.
template <class... Stages>
struct insert_last {
  template <class Block>
  struct edited;
  template <class... S>
  struct edited<block<S...>> {
    using type = block<S..., Stages...>;
  };
  template <class Block>
  using of = typename edited<Block>::type;
};

// ---- The edit -------------------------------------------------------------------------------------------------------

namespace detail {
template <std::size_t N, class... T>
struct nth;
template <class First, class... Rest>
struct nth<0, First, Rest...> {
  using type = First;
};
template <std::size_t N, class First, class... Rest>
struct nth<N, First, Rest...> : nth<N - 1, Rest...> {};

/// A pattern of blocks repeated Count times, as a list of runs; empty if Count is 0.
template <int Count, class... Blocks>
struct run_or_nothing {
  using type = list<repeat<Count, Blocks...>>;
};
template <class... Blocks>
struct run_or_nothing<0, Blocks...> {
  using type = list<>;
};
/// The blocks First, ..., First + Count - 1 of a pattern, once.
template <int First, int Count, class... Blocks>
struct part_of_pattern {
  template <std::size_t... I>
  static auto pick(std::index_sequence<I...>) -> list<repeat<1, typename nth<static_cast<std::size_t>(First) + I, Blocks...>::type...>>;
  using type = decltype(pick(std::make_index_sequence<static_cast<std::size_t>(Count)>()));
};
template <int First, class... Blocks>
struct part_of_pattern<First, 0, Blocks...> {
  using type = list<>;
};

/// Blocks From, ..., To - 1 of a run, as a list of runs.
template <class Run, int From, int To>
struct slice;
template <int Count, class... Blocks, int From, int To>
struct slice<repeat<Count, Blocks...>, From, To> {
  static constexpr int length = static_cast<int>(sizeof...(Blocks)), size = To - From;
  static constexpr int before = From % length == 0 ? 0 : std::min(length - From % length, size);
  static constexpr int whole = (size - before) / length;
  static constexpr int after = size - before - whole * length;
  using type = typename concatenated<
      typename concatenated<typename part_of_pattern<From % length, before, Blocks...>::type,
                            typename run_or_nothing<whole, Blocks...>::type>::type,
      typename part_of_pattern<0, after, Blocks...>::type>::type;
};

template <class Edit, class Runs>
struct edited_runs;
template <class Edit, class... Runs>
struct edited_runs<Edit, list<Runs...>> {
  template <int Count, class... Blocks>
  static auto one(repeat<Count, Blocks...>) -> repeat<Count, typename Edit::template of<Blocks>...>;
  using type = list<decltype(one(Runs{}))...>;
};

/// A run that begins at block `First`, with its blocks in [Begin, End) edited, as a list of runs.
template <class Run, class Edit, int First, int Begin, int End>
struct edited_run {
  static constexpr int from = std::clamp(Begin - First, 0, Run::blocks), to = std::clamp(End - First, 0, Run::blocks);
  using type = typename concatenated<
      typename concatenated<typename slice<Run, 0, from>::type, typename edited_runs<Edit, typename slice<Run, from, to>::type>::type>::type,
      typename slice<Run, to, Run::blocks>::type>::type;
};

template <class Edit, int First, int Begin, int End, class Done, class... Runs>
struct edited_body;
template <class Edit, int First, int Begin, int End, class... Done>
struct edited_body<Edit, First, Begin, End, list<Done...>> {
  using type = body<Done...>;
};
template <class Edit, int First, int Begin, int End, class... Done, class Run, class... Rest>
struct edited_body<Edit, First, Begin, End, list<Done...>, Run, Rest...>
    : edited_body<Edit, First + Run::blocks, Begin, End,
                  typename concatenated<list<Done...>, typename edited_run<Run, Edit, First, Begin, End>::type>::type, Rest...> {};

template <int Begin, int End, int Depth>
[[nodiscard]] consteval bool check_blocks() {
  static_assert(check::blocks_are_in_the_body<Begin, End, Depth>, "fathom::edit: the body has no such blocks");
  return Begin >= 0 && Begin < End && End <= Depth;
}
template <class Body, class Where, class Edit>
struct edit_of_body;
template <class... Items, class Where, class Edit>
struct edit_of_body<body<Items...>, Where, Edit> {
  static constexpr int depth = body<Items...>::depth, begin = Where::begin(depth), end = Where::end(depth);
  static constexpr bool is_good = check_blocks<begin, end, depth>();  // after an error, nothing is edited
  using type = typename edited_body<Edit, 0, is_good ? begin : 0, is_good ? end : 0, list<>, typename run_of<Items>::type...>::type;
};

/// The architecture<...> that a type is or inherits from. Naming it does not bind its parts, which takes compile time.
template <class Architecture>
struct plain_architecture {
  using type = architecture<typename Architecture::sizes_part, typename Architecture::embed_part, typename Architecture::body_part,
                            typename Architecture::head_part>;
};
template <class... Parts>
struct plain_architecture<architecture<Parts...>> {
  using type = architecture<Parts...>;
};

template <class Architecture, class Where, class... Edits>
struct edit_of {
  using type = Architecture;
};
template <class Sizes, class Embed, class Body, class Head, class Where, class First, class... Rest>
struct edit_of<architecture<Sizes, Embed, Body, Head>, Where, First, Rest...>
    : edit_of<architecture<Sizes, Embed, typename edit_of_body<Body, Where, First>::type, Head>, Where, Rest...> {};
}  // namespace detail

/// An architecture with the edits applied, in order, to the selected blocks. Other blocks stay as they are.
template <class Architecture, class Where, class... Edits>
using edit = typename detail::edit_of<typename detail::plain_architecture<Architecture>::type, Where, Edits...>::type;

}  // namespace fathom
