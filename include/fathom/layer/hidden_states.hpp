// What a stage can look back at: the outputs of all earlier blocks, rows that stages publish, and the tokens.
#pragma once

#include <array>
#include <span>
#include <tuple>
#include <type_traits>

#include "fathom/core/matrix.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Rows that a stage of a block publishes in addition to the block's output, one row of `Width` numbers per token: the
/// stream between two sublayers, or values of attention. The type is the key:
/// hidden.published<channel<"values", 128>>(block).
template <fixed_string Name, index Width>
struct channel {
  static constexpr index width = Width;
};
/// A list of channels.
template <class... Channels>
struct channels {};

namespace detail {
/// The union of two lists.
template <class A, class B>
struct joined_channels;
template <class... A>
struct joined_channels<channels<A...>, channels<>> {
  using type = channels<A...>;
};
template <class... A, class First, class... Rest>
struct joined_channels<channels<A...>, channels<First, Rest...>>
    : joined_channels<std::conditional_t<(std::is_same_v<A, First> || ...), channels<A...>, channels<A..., First>>,
                      channels<Rest...>> {};
/// The channels of a stage or a block; none by default.
template <class Stage>
struct channels_of {
  using type = channels<>;
};
template <class Stage>
  requires requires { typename Stage::published; }
struct channels_of<Stage> {
  using type = typename Stage::published;
};

/// The rows of one channel and their gradients, for each block.
template <class T, int Depth, class Channel>
struct published_rows {
  std::array<T*, Depth> rows{};
  std::array<T*, Depth> gradients{};
};
}  // namespace detail

template <class A, class B>
using joined_channels = typename detail::joined_channels<A, B>::type;
template <class Stage>
using channels_of = typename detail::channels_of<Stage>::type;

/// The hidden states of a pass and, in backward, the gradients that stages add to them. State 0 is the embedding, state
/// s the output of the s-th block; each is [rows, E].
template <class T, int Depth, class Channels = channels<>>
struct hidden_states;

template <class T, int Depth, class... Channels>
struct hidden_states<T, Depth, channels<Channels...>> {
  std::array<T*, Depth + 1> states{};
  std::array<T*, Depth + 1> gradients{};  // null for states that no stage reads
  std::tuple<detail::published_rows<T, Depth, Channels>...> published{};
  index rows = 0;
  index width = 0;
  std::span<const token> tokens{};  // of the pass, [rows], where the backend reads them

  [[nodiscard]] matrix<const T> state(int depth) const { return {states[static_cast<std::size_t>(depth)], rows, width}; }
  [[nodiscard]] matrix<T> gradient(int depth) const { return {gradients[static_cast<std::size_t>(depth)], rows, width}; }
};

/// The hidden states that the stages of one block may read: the block's input and everything below.
template <class Hidden>
class below;

template <class T, int Depth, class... Channels>
class below<hidden_states<T, Depth, channels<Channels...>>> {
 public:
  using hidden = hidden_states<T, Depth, channels<Channels...>>;
  below(const hidden& all, int number) : block(number), all_(&all) {}

  /// The number of the block, from 0. Its input is state(block).
  int block;

  /// The output of the block numbered `depth` - 1, [rows, E]; depth 0 is the embedding.
  [[nodiscard]] matrix<const T> state(int depth) const { return all_->state(depth); }
  /// Its gradient, [rows, E], to which backward adds.
  [[nodiscard]] matrix<T> gradient(int depth) const { return all_->gradient(depth); }
  /// The tokens that the pass reads, [rows], for operations of the backend.
  [[nodiscard]] std::span<const token> tokens() const { return all_->tokens; }
  /// The rows that this or an earlier block publishes in a channel, [rows, Channel::width]. The publishing stage fills
  /// them.
  template <class Channel>
  [[nodiscard]] matrix<T> published(int number) const {
    return {of<Channel>().rows[static_cast<std::size_t>(number)], all_->rows, Channel::width};
  }
  /// Their gradient, to which backward adds. The publishing stage propagates it.
  template <class Channel>
  [[nodiscard]] matrix<T> published_gradient(int number) const {
    return {of<Channel>().gradients[static_cast<std::size_t>(number)], all_->rows, Channel::width};
  }

 private:
  template <class Channel>
  [[nodiscard]] const auto& of() const {
    static_assert((std::is_same_v<Channel, Channels> || ...), "fathom: no stage of this model publishes rows in this channel");
    return std::get<detail::published_rows<T, Depth, Channel>>(all_->published);
  }
  const hidden* all_;
};

}  // namespace fathom
