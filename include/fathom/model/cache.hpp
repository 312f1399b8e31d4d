// Decoding: the cache, prompts, and tokens one by one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fathom/backend/operations.hpp"
#include "fathom/backend/session.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/batch.hpp"
#include "fathom/model/tape.hpp"

namespace fathom {

template <class Model>
struct decoding;

/// Lays out the memory of decoding, with keys and values in T. Depths that a stage looks back at keep their states; all
/// others share two.
template <class Model, class T>
struct cache_views {
  using scalar = typename Model::scalar;
  using session = fathom::session<typename Model::backend>;
  using hidden = typename Model::hidden_states;

  index* lengths;  // [2, sequences], tokens held now, and before they were truncated; then
  token* tokens;   // [rows_at_once], those read now, if the session stages them
  typename Model::body::template cache<T> blocks;
  hidden states;          // for rows_at_once(sequences) rows
  matrix<scalar> logits;  // [sequences, V]
  typename Model::head::template tape<scalar> out;
  arena free;            // activations of one block at a time
  std::byte* workspace;  // of one thread; memory behind it is for the others

  constexpr cache_views(arena& a, index sequences, index capacity)
      : lengths(a.take<index>(2 * sequences)),
        tokens(a.take<token>(session::staged(rows_at_once(sequences)))),
        blocks(a, sequences, capacity),
        states(take_states(a, rows_at_once(sequences))),
        logits(a.take<scalar>(sequences, Model::vocab)),
        out(a, extent{sequences, 1}),
        free(a),
        workspace(nullptr) {
    static_cast<void>(a.take<std::byte>(
        static_cast<index>(Model::body::template block_tape_bytes<scalar>(extent{1, rows_at_once(sequences)}))));
    workspace = a.take<std::byte>(static_cast<index>(Model::decoding_workspace_bytes));
  }
  static constexpr index rows_at_once(index sequences) { return std::max(sequences, Model::prefill_block); }

 private:
  static constexpr hidden take_states(arena& a, index rows) {
    hidden h;
    scalar* const even = a.take<scalar>(rows * Model::width);
    scalar* const odd = a.take<scalar>(rows * Model::width);
    for (int s = 0; s <= Model::depth; ++s)
      h.states[static_cast<std::size_t>(s)] =
          Model::body::depths.contains(s) ? a.take<scalar>(rows * Model::width) : (s % 2 == 0 ? even : odd);
    h.rows = rows;
    h.width = Model::width;
    detail::take_published(a, h, rows, false);
    return h;
  }
};

/// The memory of decoding: keys and values of all tokens so far, for one or more sequences up to a capacity, and the
/// workspaces. Nothing is allocated later. T is the type in which it holds keys and values: the scalar, or rounded bf16
/// (half the memory) or int8 with a scale for each head and row (a quarter, and the scales).
template <class Model, class T = typename Model::scalar>
class decoding_cache {
  static_assert(std::is_same_v<T, typename Model::scalar> || std::is_same_v<T, bf16> || std::is_same_v<T, std::int8_t>,
                "fathom: a cache holds keys and values in the scalar of the model, in fathom::bf16 or in std::int8_t");
  static_assert(std::is_same_v<T, typename Model::scalar> || contract::attends_to_stored<typename Model::backend::context, T>,
                "fathom: this backend's caches hold keys and values in its scalar only");

 public:
  using executor = typename Model::executor;
  using session = fathom::session<typename Model::backend>;

  /// For `sequences` sequences of up to `capacity` tokens each.
  explicit decoding_cache(index sequences = 1, index capacity = Model::context, executor where = {})
      : own_(bytes_for(sequences, capacity) + session::bytes_of_workspaces(where, workspace) - workspace),
        sequences_(sequences),
        capacity_(capacity),
        views_(laid_out(own_.bytes())),
        session_(where, workspaces_of(own_.bytes()), workspace),
        lengths_(place_lengths()) {}
  /// The same in the caller's memory: at least cache_bytes(sequences, capacity) bytes, aligned to fathom::alignment,
  /// which must outlive the cache. It has a workspace for one thread. Each further thread needs
  /// decoding_workspace_bytes more, and otherwise uses its stack.
  decoding_cache(index sequences, index capacity, std::span<std::byte> memory, executor where = {})
      : sequences_(sequences),
        capacity_(capacity),
        views_(laid_out(checked(memory))),
        session_(where, workspaces_of(memory), workspace),
        lengths_(place_lengths()) {
    std::fill_n(lengths_, 2 * sequences_, index{0});  // the memory may hold anything
  }

  [[nodiscard]] index sequences() const { return sequences_; }
  [[nodiscard]] index capacity() const { return capacity_; }
  /// The number of tokens held of a sequence.
  [[nodiscard]] index length(index sequence = 0) const { return lengths_[at(sequence)]; }
  /// Forgets what came after the first `length` tokens, in every sequence or in one. 0 tokens, or as many as a sequence
  /// holds, always work. Layers with a window hold no more than it needs, so with them others may be too few
  /// (least_length), which is an error that changes nothing; by up to 64 tokens a sequence can always be truncated.
  void truncate(index length) {
    for (index s = 0; s < sequences_; ++s) check_truncation(length, s);
    for (index s = 0; s < sequences_; ++s) truncate_checked(length, s);
  }
  void truncate(index length, index sequence) {
    check_truncation(length, at(sequence));
    truncate_checked(length, sequence);
  }
  /// Makes sequence `to` the same as sequence `from`, by copying the keys and values that are held of it. What `to` held is
  /// forgotten.
  void copy(index from, index to) {
    if (at(from) == at(to)) return;
    views_.blocks.template copy<typename Model::memory>({from, to, lengths_[from], reached(from), capacity_});
    lengths_[to] = lengths_[from];
    reached(to) = reached(from);
    drawn_at_ = -1;
  }
  /// The fewest tokens, besides 0, to which a sequence can be truncated.
  [[nodiscard]] index least_length(index sequence = 0) const {
    return Model::body::least_length(std::max(length(sequence), reached(sequence)), capacity_);
  }

 private:
  friend decoding<Model>;
  static constexpr std::size_t workspace = Model::decoding_workspace_bytes;

  index at(index sequence) const {
    if (sequence < 0 || sequence >= sequences_)
      fail("cache: sequence ", sequence, "; expected 0 to ", sequences_ - 1);
    return sequence;
  }
  /// The length of a sequence before it was truncated.
  index& reached(index sequence) { return lengths_[sequences_ + sequence]; }
  index reached(index sequence) const { return lengths_[sequences_ + sequence]; }
  void truncate_checked(index length, index sequence) {
    reached(sequence) = length == 0 ? 0 : std::max(reached(sequence), lengths_[sequence]);
    lengths_[sequence] = std::min(lengths_[sequence], length);
  }
  void check_truncation(index length, index sequence) const {
    if (length < 0) fail("cache.truncate: to ", length, " tokens; expected 0 or more");
    if (length > 0 && length < std::min(least_length(sequence), lengths_[sequence]))
      fail("cache.truncate: to ", length, " tokens; of the ", lengths_[sequence], " of sequence ", sequence,
           ", layers with a window have forgotten what fewer than ", least_length(sequence),
           " need; expected as many, or 0 to read the sequence again");
  }
  static std::size_t bytes_for(index sequences, index capacity) {
    if (sequences <= 0 || capacity <= 0 || capacity > Model::context)
      fail("cache: ", sequences, " sequences of ", capacity, " tokens; expected at least 1 of each and at most ",
           Model::context, " tokens, the model's context");
    return Model::template cache_bytes<T>(sequences, capacity);
  }
  std::span<std::byte> checked(std::span<std::byte> memory) const {
    check_memory("cache", memory, bytes_for(sequences_, capacity_));
    return memory;
  }
  cache_views<Model, T> laid_out(std::span<std::byte> memory) const {
    arena a(memory.data());
    return {a, sequences_, capacity_};
  }
  /// Memory behind the first workspace is for the other threads.
  std::span<std::byte> workspaces_of(std::span<std::byte> memory) const {
    if constexpr (workspace == 0) return {};
    return memory.subspan(static_cast<std::size_t>(views_.workspace - memory.data()));
  }
  /// A pass over further tokens of `sequences` sequences, from `first` on.
  extent extent_of(index sequences, index tokens, index first) const {
    return {sequences, tokens, views_.lengths + first, capacity_, first, {0, views_.lengths + sequences_ + first}};
  }
  index* place_lengths() {
    return session_.count_in(views_.lengths, views_.tokens, 2 * sequences_, cache_views<Model, T>::rows_at_once(sequences_));
  }

  buffer_in<typename Model::memory> own_;
  index sequences_, capacity_;
  cache_views<Model, T> views_;
  session session_;
  index* lengths_;       // [2, sequences], as in views_
  index drawn_at_ = -1;  // the sequence length at which the token in the backend's memory was drawn
};

/// Prefill and decode. W is packed<P>, or parameters.
template <class Model>
struct decoding {
  using scalar = typename Model::scalar;
  static constexpr index vocab = Model::vocab;

  template <class W, class Cache>
  static std::span<const scalar> prefill(const W& weights, std::span<const token> prompt, Cache& c, index sequence) {
    read_prompt(weights, prompt, c, sequence);
    return c.session_.read(c.views_.logits.row(sequence), vocab);
  }
  template <class W, class Cache>
  static std::span<const scalar> decode(const W& weights, std::span<const token> next, Cache& c) {
    if (static_cast<index>(next.size()) != c.sequences())
      fail("decode: ", next.size(), " tokens; expected one for each of the cache's ", c.sequences(), " sequences");
    return decode_first(weights, next, c);
  }
  template <class W, class Cache>
  static std::span<const scalar> decode_first(const W& weights, std::span<const token> next, Cache& c) {
    const index sequences = static_cast<index>(next.size());
    if (sequences < 1 || sequences > c.sequences())
      fail("decode_first: ", sequences, " tokens; expected one for each of the first sequences, of 1 to ", c.sequences());
    check_tokens(next, 0, vocab, "decode");
    read_tokens(weights, next, c, sequences);
    return c.session_.read(c.views_.logits.data, sequences * vocab);
  }
  template <class W, class Cache, class Drawing>
  static void prefill_and_draw(const W& weights, std::span<const token> prompt, Cache& c, Drawing& draw) {
    read_prompt(weights, prompt, c, 0);
    draw_next(c, draw);
  }
  template <class W, class Cache, class Drawing>
  static void decode_and_draw(const W& weights, Cache& c, Drawing& draw) {
    if (c.drawn_at_ != c.length()) fail("decode_and_draw: no token has been drawn after the ", c.length(), " that the cache holds");
    read_tokens(weights, {}, c, 1);
    draw_next(c, draw);
  }

 private:
  /// Runs the model over a prompt, and leaves the logits that follow it.
  template <class W, class Cache>
  static void read_prompt(const W& weights, std::span<const token> prompt, Cache& c, index sequence) {
    constexpr index block = Model::prefill_block;
    const index length = c.length(sequence), count = static_cast<index>(prompt.size());
    if (count == 0) fail("prefill: an empty prompt; expected at least 1 token");
    if (length + count > c.capacity())
      fail("prefill: ", count, " tokens after the ", length, " that the cache holds; it has room for ", c.capacity());
    check_tokens(prompt, 0, vocab, "prefill");
    for (index done = 0; done < count; done += block) {
      const index n = std::min(block, count - done);
      run_tokens(weights, prompt.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)), c,
                 c.extent_of(1, n, sequence), done + n == count);
      c.lengths_[sequence] += n;
    }
  }
  /// Runs the model over one further token of each of the first sequences, and leaves the logits that follow.
  template <class W, class Cache>
  static void read_tokens(const W& weights, std::span<const token> next, Cache& c, index sequences) {
    for (index s = 0; s < sequences; ++s)
      if (c.length(s) >= c.capacity())
        fail("decode: sequence ", s, " holds ", c.length(s), " tokens and the cache has room for ", c.capacity(),
             "; truncate it, or generate with fathom::overflow::slide");
    run_tokens(weights, next, c, c.extent_of(sequences, 1, 0), true);
    for (index s = 0; s < sequences; ++s) ++c.lengths_[s];
  }
  /// Draws the next token. It goes where the next pass reads it, with the new length of the sequence.
  template <class Cache, class Drawing>
  static void draw_next(Cache& c, Drawing& draw) {
    c.drawn_at_ = c.lengths_[0];
    c.session_.run([&](const auto& on) {
      draw(on, std::span<const scalar>(c.views_.logits.data, static_cast<std::size_t>(vocab)), c.views_.tokens, c.views_.lengths,
           c.lengths_[0]);
    });
  }

  /// A tag per type of weights, because another type may reuse the address.
  template <class W>
  static inline const char kind_of{};

  /// Runs the model over further tokens, and leaves the logits of each sequence's last one. Without any, reads
  /// drawn ones.
  template <class W, class Cache>
  static void run_tokens(const W& w, std::span<const token> tokens, Cache& c, const extent& e, bool want_logits) {
    if (!tokens.empty()) c.drawn_at_ = -1;
    tokens = c.session_.stage_next(tokens, c.views_.lengths, c.views_.tokens, e.rows());
    const auto run = [&](const auto& on) {
      typename Model::hidden_states states = c.views_.states;
      states.rows = e.rows();
      states.tokens = tokens;
      Model::embedding::forward(on, w.embed, e, tokens, matrix<scalar>(states.states[0], e.rows(), Model::width));
      Model::body::extend(on, w.blocks, e, states, 0, c.views_.blocks, c.views_.free);
      if (!want_logits) return;
      const matrix<const scalar> last = states.state(Model::depth).every(e.tokens, e.tokens - 1);
      Model::head::forward(on, w.out, w.embed.wte, last, c.views_.logits.rows_from(e.first, e.sequences), c.views_.out);
    };
    if (e.tokens == 1 && e.sequences == c.sequences_)
      c.session_.replay_token({reinterpret_cast<std::uintptr_t>(&w), reinterpret_cast<std::uintptr_t>(&kind_of<W>)}, run);
    else
      c.session_.run(run);
  }
};

}  // namespace fathom
