// Patterns of blocks that a depth need not be a multiple of: cycle<26, L, L, L, L, L, G> is four times L, L, L, L, L, G, then
// L, L. A body, as body<...> is (architecture.hpp).
#pragma once

#include "fathom/model/architecture.hpp"
#include "fathom/model/edit.hpp"

namespace fathom {

namespace detail {
template <class Runs>
struct body_of_runs;
template <class... Runs>
struct body_of_runs<list<Runs...>> {
  using type = body<Runs...>;
};
template <int Depth, class... Blocks>
struct cycle_of {
  static_assert(Depth > 0 && sizeof...(Blocks) > 0, "fathom::cycle: expected a positive depth, and the blocks of a pattern");
  static constexpr int length = static_cast<int>(sizeof...(Blocks));
  using type = typename body_of_runs<typename slice<repeat<(Depth + length - 1) / length, Blocks...>, 0, Depth>::type>::type;
};
}  // namespace detail

/// `Depth` blocks: those of the pattern in turn, from its beginning until there are enough.
template <int Depth, class... Blocks>
using cycle = typename detail::cycle_of<Depth, Blocks...>::type;

}  // namespace fathom
