// The body of a model: runs of identical blocks. Within a run the blocks are an array, walked by a run-time loop, so that
// compile time and code size do not grow with depth.
#pragma once

#include <array>
#include <algorithm>

#include "fathom/layer/block.hpp"

namespace fathom {

/// `Count` blocks of one kind.
template <class Block, int Count>
struct repeat {
  using block_type = Block;
  static constexpr int count = Count;
};

/// Runs, first to last. Blocks are numbered through, and named h.0, h.1, ...
template <class... Runs>
struct stack;

/// The end of a stack.
template <>
struct stack<> {
  static constexpr int depth = 0;
  static constexpr depth_set depths{};
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, int, P&...) {}
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
  template <class On, class P, class Hidden, class Tape>
  static void forward(const On&, const P&, const extent&, const Hidden&, int, const Tape&) {}
  template <class On, class P, class Hidden, class Cache>
  static void extend(const On&, const P&, const extent&, const Hidden&, int, const Cache&, arena) {}
  template <class On, class P, class Hidden, class D, class Tape, class G>
  static void backward(const On&, const P&, const extent&, const Hidden&, int, const D&, const Tape&, G&, arena, int = 0) {}
  template <class F>
  static void describe(const F&, const path&, int, index) {}
  template <class F>
  static void each(const F&, const nothing&) {}
};

template <class Run, class... Rest>
struct stack<Run, Rest...> {
  using block_type = typename Run::block_type;
  using rest_type = stack<Rest...>;
  static constexpr index count = Run::count;
  static constexpr int depth = Run::count + rest_type::depth;  // blocks in all
  static constexpr index width = block_type::width;
  static constexpr depth_set depths = depth_set::from_bits(block_type::depths.bits | rest_type::depths.bits);

  template <class S>
  struct parameters {
    std::array<typename block_type::template parameters<S>, static_cast<std::size_t>(count)> blocks;
    [[no_unique_address]] typename rest_type::template parameters<S> rest;
  };
  /// `number` is that of the first block here.
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, int number, P&... p) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
      block_type::visit(f, at / "h" / (number + static_cast<int>(i)), p.blocks[i]...);
    rest_type::visit(f, at, number + Run::count, p.rest...);
  }

  /// The tapes of the blocks lie one after the other, all alike; block(i) is made when it is looked at.
  template <class T>
  class tape {
   public:
    constexpr tape(arena& a, const extent& e)
        : extent_(e), bytes_(bytes_of<typename block_type::template tape<T>>(e)),
          memory_(a.take<std::byte>(count * static_cast<index>(bytes_))), rest(a, e) {}
    [[nodiscard]] typename block_type::template tape<T> block(index i) const {
      arena a(memory_ + static_cast<std::size_t>(i) * bytes_);
      return {a, extent_};
    }

   private:
    extent extent_;
    std::size_t bytes_;
    std::byte* memory_;

   public:
    typename rest_type::template tape<T> rest;
  };
  template <class T>
  class cache {
   public:
    constexpr cache(arena& a, index sequences, index capacity)
        : sequences_(sequences), capacity_(capacity),
          bytes_(bytes_of<typename block_type::template cache<T>>(sequences, capacity)),
          memory_(a.take<std::byte>(count * static_cast<index>(bytes_))), rest(a, sequences, capacity) {}
    [[nodiscard]] typename block_type::template cache<T> block(index i) const {
      arena a(memory_ + static_cast<std::size_t>(i) * bytes_);
      return typename block_type::template cache<T>(a, sequences_, capacity_);
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
    return std::max(block_type::template scratch_bytes<T>(e), rest_type::template scratch_bytes<T>(e));
  }
  /// The largest tape of one block: what decoding needs for a block's activations.
  template <class T>
  [[nodiscard]] static constexpr std::size_t block_tape_bytes(const extent& e) {
    return std::max(bytes_of<typename block_type::template tape<T>>(e), rest_type::template block_tape_bytes<T>(e));
  }

  /// hidden.states[0] is the embedding; fills in the state after every block.
  template <class On, class P, class Hidden>
  static void forward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number,
                      const tape<scalar<On>>& t) {
    for (int i = 0; i < Run::count; ++i)
      block_type::forward(on, p.blocks[static_cast<std::size_t>(i)], e, hidden, hidden.state(number + i),
                          stream(hidden, number + i + 1), t.block(i));
    rest_type::forward(on, p.rest, e, hidden, number + Run::count, t.rest);
  }
  /// forward while decoding; the blocks use the memory of `free` in turn for their activations.
  template <class On, class P, class Hidden>
  static void extend(const On& on, const P& p, const extent& e, const Hidden& hidden, int number,
                     const cache<scalar<On>>& c, arena free) {
    for (int i = 0; i < Run::count; ++i) {
      arena a = free;
      const typename block_type::template tape<scalar<On>> t(a, e);
      block_type::extend(on, p.blocks[static_cast<std::size_t>(i)], e, hidden, hidden.state(number + i),
                         stream(hidden, number + i + 1), t, c.block(i));
    }
    rest_type::extend(on, p.rest, e, hidden, number + Run::count, c.rest, free);
  }
  /// d [rows, E]: the gradient with respect to the last block's output comes in, that of the first's input goes out.
  /// Blocks before the one numbered `first_trained - 1`, whose output is of that depth, are left out.
  template <class On, class P, class Hidden, class G>
  static void backward(const On& on, const P& p, const extent& e, const Hidden& hidden, int number, output<On> d,
                       const tape<scalar<On>>& t, G& g, arena free, int first_trained = 0) {
    rest_type::backward(on, p.rest, e, hidden, number + Run::count, d, t.rest, g.rest, free, first_trained);
    for (int i = Run::count - 1; i >= 0 && number + i + 1 >= first_trained; --i) {
      block_type::backward(on, p.blocks[static_cast<std::size_t>(i)], e, hidden, hidden.state(number + i), d, t.block(i),
                           g.blocks[static_cast<std::size_t>(i)], free);
      // What later stages sent back to this depth joins the stream's own gradient.
      if (hidden.gradients[static_cast<std::size_t>(number + i)]) add(on, hidden.gradient(number + i), d);
    }
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    return Run::count * block_type::flops(tokens) + rest_type::flops(tokens);
  }
  template <class F>
  static void describe(const F& f, const path& at, int number, index tokens) {
    for (int i = 0; i < Run::count; ++i) block_type::describe(f, at / "h" / (number + i), tokens);
    rest_type::describe(f, at, number + Run::count, tokens);
  }
  /// Calls f(stage, tape of the stage) for every stage of every block.
  template <class F, class T>
  static void each(const F& f, const tape<T>& t) {
    for (index i = 0; i < count; ++i) block_type::each(f, t.block(i));
    rest_type::each(f, t.rest);
  }

 private:
  template <class T, int Depth>
  static matrix<T> stream(const hidden_states<T, Depth>& hidden, int depth_) {
    return {hidden.states[static_cast<std::size_t>(depth_)], hidden.rows, hidden.width};
  }
};

}  // namespace fathom
