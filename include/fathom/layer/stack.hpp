// The body of a model: runs that repeat a block, or a pattern of blocks. A run-time loop walks the array of a run's
// blocks, so compile time and code size do not grow with depth.
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <type_traits>

#include "fathom/layer/block.hpp"

namespace fathom {

/// The lowest stage for which backward computes gradients. Block -1: all stages and the embedding.
struct lowest_stage {
  int block = -1;
  int stage = 0;

  friend constexpr auto operator<=>(const lowest_stage&, const lowest_stage&) = default;
};

}  // namespace fathom

namespace fathom::layers {

/// Repeats a block, or a pattern of blocks, `Count` times.
template <class Block, int Count>
struct repeat {
  using block_type = Block;
  static constexpr int count = Count;
};

/// A sequence of blocks that a run repeats as a whole. Each block has its own output and number.
template <class... Blocks>
struct pattern;

/// What a run repeats: a block or a pattern. `number` is the number of its first block.
template <class Block>
struct unit {
  static constexpr int length = 1;  // blocks
  static constexpr index width = Block::width;
  static constexpr depth_set depths = Block::depths;
  using published = channels_of<Block>;

  template <class S>
  using parameters = typename Block::template parameters<S>;
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, int number, P&... p) {
    Block::visit(f, at / "h" / number, p...);
  }
  /// Calls f(block, stage, name) for every tensor.
  template <class F, class P>
  static constexpr void visit_stages(const F& f, int number, P& p) {
    Block::visit_stages([&](int stage, const auto& name) { f(number, stage, name); }, path{} / "h" / number, 0, p);
  }
  template <class T>
  using tape = typename Block::template tape<T>;
  template <class T>
  using cache = typename Block::template cache<T>;
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return Block::template scratch_bytes<T>(e);
  }
  /// Size of the tape of one block in bytes.
  template <class T>
  [[nodiscard]] static constexpr std::size_t block_tape_bytes(const extent& e) {
    return bytes_of<tape<T>>(e);
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, const tape<scalar<On>>& t) {
    Block::forward(on, p, e, below<Hidden>(hidden, number), hidden.state(number), output_of(hidden, number), t);
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, const Cache& c, arena free) {
    const tape<scalar<On>> t(free, e);
    Block::extend(on, p, e, below<Hidden>(hidden, number), hidden.state(number), output_of(hidden, number), t, c);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free, const lowest_stage& lowest) {
    if (number < lowest.block) return;
    Block::backward_from(on, p, e, below<Hidden>(hidden, number), hidden.state(number), d, t, g, free,
                         number == lowest.block ? lowest.stage : 0);
    // Add the gradients that later stages sent back to this depth.
    if (hidden.gradients[static_cast<std::size_t>(number)]) add(on, hidden.gradient(number), d);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return Block::flops(tokens); }
  [[nodiscard]] static constexpr index least_length(index tokens, index capacity) { return least_length_of<Block>(tokens, capacity); }
  template <class F>
  static void describe(const F& f, const path& at, int number, index tokens) {
    Block::describe(f, at / "h" / number, tokens);
  }
  template <class F>
  static void each(const F& f, const auto& t, int number) {
    Block::each(f, t, number);
  }

 private:
  template <class Hidden>
  static auto output_of(const Hidden& hidden, int number) {
    const auto s = static_cast<std::size_t>(number + 1);
    return matrix<std::remove_pointer_t<typename decltype(hidden.states)::value_type>>{hidden.states[s], hidden.rows, hidden.width};
  }
};

template <class Only>
struct unit<pattern<Only>> : unit<Only> {};

template <class First, class... Rest>
  requires(sizeof...(Rest) > 0)
struct unit<pattern<First, Rest...>> {
  using first_type = unit<First>;
  using rest_type = unit<pattern<Rest...>>;
  static constexpr int length = 1 + rest_type::length;
  static constexpr index width = First::width;
  static constexpr depth_set depths = first_type::depths | rest_type::depths;
  using published = joined_channels<typename first_type::published, typename rest_type::published>;

  template <class S>
  struct parameters {
    typename first_type::template parameters<S> first;
    typename rest_type::template parameters<S> rest;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, int number, P&... p) {
    first_type::visit(f, at, number, p.first...);
    rest_type::visit(f, at, number + 1, p.rest...);
  }
  template <class F, class P>
  static constexpr void visit_stages(const F& f, int number, P& p) {
    first_type::visit_stages(f, number, p.first);
    rest_type::visit_stages(f, number + 1, p.rest);
  }
  template <class T>
  struct tape {
    typename first_type::template tape<T> first;
    typename rest_type::template tape<T> rest;
    constexpr tape(arena& a, const extent& e) : first(a, e), rest(a, e) {}
  };
  template <class T>
  struct cache {
    typename first_type::template cache<T> first;
    typename rest_type::template cache<T> rest;
    constexpr cache(arena& a, index sequences, index capacity) : first(a, sequences, capacity), rest(a, sequences, capacity) {}
    template <class Memory>
    void copy(const sequence_copy& s) const {
      first.template copy<Memory>(s);
      rest.template copy<Memory>(s);
    }
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return std::max(first_type::template scratch_bytes<T>(e), rest_type::template scratch_bytes<T>(e));
  }
  template <class T>
  [[nodiscard]] static constexpr std::size_t block_tape_bytes(const extent& e) {
    return std::max(first_type::template block_tape_bytes<T>(e), rest_type::template block_tape_bytes<T>(e));
  }

  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, const tape<scalar<On>>& t) {
    first_type::forward(on, p.first, e, hidden, number, t.first);
    rest_type::forward(on, p.rest, e, hidden, number + 1, t.rest);
  }
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, const Cache& c, arena free) {
    first_type::extend(on, p.first, e, hidden, number, c.first, free);
    rest_type::extend(on, p.rest, e, hidden, number + 1, c.rest, free);
  }
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free, const lowest_stage& lowest) {
    rest_type::backward(on, p.rest, e, hidden, number + 1, d, t.rest, g.rest, free, lowest);
    first_type::backward(on, p.first, e, hidden, number, d, t.first, g.first, free, lowest);
  }

  [[nodiscard]] static constexpr double flops(index tokens) { return first_type::flops(tokens) + rest_type::flops(tokens); }
  [[nodiscard]] static constexpr index least_length(index tokens, index capacity) {
    return std::max(first_type::least_length(tokens, capacity), rest_type::least_length(tokens, capacity));
  }
  template <class F>
  static void describe(const F& f, const path& at, int number, index tokens) {
    first_type::describe(f, at, number, tokens);
    rest_type::describe(f, at, number + 1, tokens);
  }
  template <class F>
  static void each(const F& f, const auto& t, int number) {
    first_type::each(f, t.first, number);
    rest_type::each(f, t.rest, number + 1);
  }
};

/// Runs, first to last. Blocks are numbered across all runs and named h.0, h.1, ...
template <class... Runs>
struct stack;

/// The end of a stack.
template <>
struct stack<> {
  static constexpr int depth = 0;
  static constexpr depth_set depths{};
  using published = channels<>;
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, int, P&...) {}
  template <class F, class Path, class P>
  static constexpr void visit_two(const F&, const Path&, int, const P&) {}
  template <class T>
  using tape = nothing;
  template <class T>
  using cache = nothing;
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent&) {
    return 0;
  }
  template <class T>
  [[nodiscard]] static constexpr std::size_t block_tape_bytes(const extent&) {
    return 0;
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
  [[nodiscard]] static constexpr index least_length(index, index) { return 0; }
  template <class On, class P, class Hidden, class Tape>
  static void forward(const On&, const P&, const extent&, const Hidden&, int, const Tape&) {}
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On&, const P&, const extent&, const Hidden&, int, const Cache&, arena) {}
  template <class F, class P>
  static constexpr void visit_stages(const F&, int, P&) {}
  template <class On, class P, class Hidden, class D, class Tape, class G>
  static void backward(const On&, const P&, const extent&, const Hidden&, int, const D&, const Tape&, G&, arena, const lowest_stage&) {}
  template <class F>
  static void describe(const F&, const path&, int, index) {}
  template <class F>
  static void each(const F&, const nothing&, int) {}
};

template <class Run, class... Rest>
struct stack<Run, Rest...> {
  using unit_type = unit<typename Run::block_type>;
  using rest_type = stack<Rest...>;
  static constexpr index count = Run::count;
  static constexpr int depth = Run::count * unit_type::length + rest_type::depth;  // total number of blocks
  static constexpr index width = unit_type::width;
  static constexpr depth_set depths = unit_type::depths | rest_type::depths;
  using published = joined_channels<typename unit_type::published, typename rest_type::published>;

  template <class S>
  struct parameters {
    std::array<typename unit_type::template parameters<S>, static_cast<std::size_t>(count)> blocks;
    [[no_unique_address]] typename rest_type::template parameters<S> rest;
  };
  /// `number` is the number of the first block.
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, int number, P&... p) {
    for (int i = 0; i < Run::count; ++i)
      unit_type::visit(f, at, number + i * unit_type::length, p.blocks[static_cast<std::size_t>(i)]...);
    rest_type::visit(f, at, number + own, p.rest...);
  }
  /// Calls f(block, stage, name) for every tensor.
  template <class F, class P>
  static constexpr void visit_stages(const F& f, int number, P& p) {
    for (int i = 0; i < Run::count; ++i)
      unit_type::visit_stages(f, number + i * unit_type::length, p.blocks[static_cast<std::size_t>(i)]);
    rest_type::visit_stages(f, number + own, p.rest);
  }
  /// visit, but only the first two units of each run: enough to check that names of blocks are distinct.
  template <class F, class Path>
  static constexpr void visit_two(const F& f, const Path& at, int number, const parameters<shapes>& p) {
    for (int i = 0; i < std::min(Run::count, 2); ++i)
      unit_type::visit(f, at, number + i * unit_type::length, p.blocks[static_cast<std::size_t>(i)]);
    rest_type::visit_two(f, at, number + own, p.rest);
  }

  /// The tapes of all units have the same layout and lie one after the other. block(i) creates the views on demand. Units
  /// below the block `lowest`, through which no gradient passes, share one place. `number` is the number of the first block.
  template <class T>
  class tape {
   public:
    constexpr tape(arena& a, const extent& e, int lowest = 0, int number = 0)
        : extent_(e), bytes_(bytes_of<typename unit_type::template tape<T>>(e)),
          saved_(std::max(std::clamp<index>((lowest - number) / unit_type::length, 0, count) - 1, index{0})),
          memory_(a.take<std::byte>((count - saved_) * static_cast<index>(bytes_))), rest(a, e, lowest, number + own) {}
    [[nodiscard]] typename unit_type::template tape<T> block(index i) const {
      arena a(memory_ + static_cast<std::size_t>(std::max(i - saved_, index{0})) * bytes_);
      return {a, extent_};
    }

   private:
    extent extent_;
    std::size_t bytes_;
    index saved_;  // places: units without gradients, but one
    std::byte* memory_;

   public:
    typename rest_type::template tape<T> rest;
  };
  template <class T>
  class cache {
   public:
    constexpr cache(arena& a, index sequences, index capacity)
        : sequences_(sequences), capacity_(capacity),
          bytes_(bytes_of<typename unit_type::template cache<T>>(sequences, capacity)),
          memory_(a.take<std::byte>(count * static_cast<index>(bytes_))), rest(a, sequences, capacity) {}
    [[nodiscard]] typename unit_type::template cache<T> block(index i) const {
      arena a(memory_ + static_cast<std::size_t>(i) * bytes_);
      return typename unit_type::template cache<T>(a, sequences_, capacity_);
    }
    template <class Memory>
    void copy(const sequence_copy& s) const {
      for (index i = 0; i < count; ++i) block(i).template copy<Memory>(s);
      rest.template copy<Memory>(s);
    }

   private:
    index sequences_, capacity_;
    std::size_t bytes_;
    std::byte* memory_;

   public:
    typename rest_type::template cache<T> rest;
  };
  template <class T>
  [[nodiscard]] static constexpr std::size_t scratch_bytes(const extent& e) {
    return std::max(unit_type::template scratch_bytes<T>(e), rest_type::template scratch_bytes<T>(e));
  }
  /// Size of the largest tape of a block in bytes: decoding needs it for activations.
  template <class T>
  [[nodiscard]] static constexpr std::size_t block_tape_bytes(const extent& e) {
    return std::max(unit_type::template block_tape_bytes<T>(e), rest_type::template block_tape_bytes<T>(e));
  }

  /// Takes the embedding in hidden.states[0] and fills in the state after every block.
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number,
                      const tape<scalar<On>>& t) {
    for (int i = 0; i < Run::count; ++i)
      unit_type::forward(on, p.blocks[static_cast<std::size_t>(i)], e, hidden, number + i * unit_type::length, t.block(i));
    rest_type::forward(on, p.rest, e, hidden, number + own, t.rest);
  }
  /// forward for decoding. All blocks use the same memory, `free`, for their activations.
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, const Cache& c, arena free) {
    for (int i = 0; i < Run::count; ++i)
      unit_type::extend(on, p.blocks[static_cast<std::size_t>(i)], e, hidden, number + i * unit_type::length, c.block(i), free);
    rest_type::extend(on, p.rest, e, hidden, number + own, c.rest, free);
  }
  /// d [rows, E] is the gradient with respect to the last block's output on entry, and to the first block's input on
  /// return. Skips stages below `lowest`.
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free, const lowest_stage& lowest) {
    rest_type::backward(on, p.rest, e, hidden, number + own, d, t.rest, g.rest, free, lowest);
    for (int i = Run::count - 1; i >= 0; --i)
      unit_type::backward(on, p.blocks[static_cast<std::size_t>(i)], e, hidden, number + i * unit_type::length, d, t.block(i),
                          g.blocks[static_cast<std::size_t>(i)], free, lowest);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return Run::count * unit_type::flops(tokens) + rest_type::flops(tokens);
  }
  [[nodiscard]] static constexpr index least_length(index tokens, index capacity) {
    return std::max(unit_type::least_length(tokens, capacity), rest_type::least_length(tokens, capacity));
  }
  template <class F>
  static void describe(const F& f, const path& at, int number, index tokens) {
    for (int i = 0; i < Run::count; ++i) unit_type::describe(f, at, number + i * unit_type::length, tokens);
    rest_type::describe(f, at, number + own, tokens);
  }
  /// Calls f(stage, tape of the stage), or f(stage, tape, number of the block), for every stage of every block.
  template <class F, class T>
  static void each(const F& f, const tape<T>& t, int number = 0) {
    for (int i = 0; i < Run::count; ++i) unit_type::each(f, t.block(i), number + i * unit_type::length);
    rest_type::each(f, t.rest, number + own);
  }

 private:
  static constexpr int own = Run::count * unit_type::length;  // blocks of the first run
};

}  // namespace fathom::layers
