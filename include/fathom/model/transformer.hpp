// The model: parameters, tape, cache; forward, backward, prefill, decode. Everything that an architecture (gpt.hpp, or a
// user's own) and a backend become together.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/recording.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/cross_entropy.hpp"
#include "fathom/layer/residual_source.hpp"
#include "fathom/layer/stack.hpp"
#include "fathom/model/batch.hpp"

namespace fathom {

/// An architecture says: vocab, context, width; embedding, body (a stack of blocks), head; whether the head is tied.
template <class Architecture, class Backend>
struct transformer {
  using architecture = Architecture;
  using backend = Backend;
  using scalar = typename Backend::scalar;
  using executor = typename Backend::executor;
  using memory = memory_of<Backend>;  // where parameters, tapes and caches lie
  using embedding = typename Architecture::embedding;
  using body = typename Architecture::body;
  using head = typename Architecture::head;

  static constexpr index vocab = Architecture::vocab;      // V
  static constexpr index context = Architecture::context;  // most tokens of a sequence
  static constexpr index width = Architecture::width;      // E
  static constexpr int depth = body::depth;                // L
  static constexpr bool tied = Architecture::tied;

  // ---- Parameters ----------------------------------------------------------------------------------------------------

  /// All tensors of the model over a storage: one contiguous block.
  template <class S>
  struct layout {
    typename embedding::template parameters<S> embed;
    typename body::template parameters<S> blocks;
    typename head::template parameters<S> out;

    // Nobody copies megabytes by accident. What would, is chosen before the deleted functions, and says what to write.
    layout() = default;
    layout(const volatile layout&) = delete;
    void operator=(const volatile layout&) = delete;
    template <class From>
      requires std::is_same_v<From, layout>
    layout(const From&) {  // NOLINT: stands for the copy constructor
      static_assert(detail::never<From>, "fathom: weights are copied by fathom::copy(from), into a new block, or fathom::copy(from, to)");
    }
    template <class From>
    layout& operator=(const From&) {
      static_assert(detail::never<From>, "fathom: weights are copied by fathom::copy(from, to)");
      return *this;
    }
  };
  template <class F, class Path, class... P>
  static constexpr void visit_layout(const F& f, const Path& at, P&... p) {
    embedding::visit(f, at, p.embed...);
    body::visit(f, at, 0, p.blocks...);
    head::visit(f, at, p.out...);
  }

  /// Weights, gradients and moments are values of this one type. fathom::make<net::parameters>() owns one.
  struct parameters : layout<plain<scalar>> {
    using model = transformer;
    using memory = transformer::memory;
    /// The same numbers in the host's memory.
    struct on_host : layout<plain<scalar>> {
      using model = transformer;
    };
  };
  /// Read-only weights laid out for decoding with P = float, bf16 or int8 in the matrices: fathom::pack<P>(weights).
  template <class P>
  struct packed : layout<typename Backend::template packed<P>> {
    using model = transformer;
    using memory = transformer::memory;
    using number = P;
  };

  /// Calls f(name, initial, tensor...) for every tensor, in the order of memory. With several parameters, of one or of
  /// different storages, the tensors of one name come together. A tensor has data(), size, rank and shape.
  template <class F, class... P>
  static void visit(const F& f, P&... p) {
    visit_layout(f, path{}, p...);
  }
  /// The same without names: f(initial, tensor...).
  template <class F, class... P>
  static constexpr void visit_tensors(const F& f, P&... p) {
    visit_layout([&](const auto&, initial start, auto&... tensor) { f(start, tensor...); }, no_path{}, p...);
  }

  /// What all tensors are, without their numbers.
  static constexpr layout<shapes> tensors{};
  /// Numbers in all tensors.
  static constexpr index parameter_count = [] {
    index count = 0;
    visit_tensors([&](initial, const auto& tensor) { count += tensor.size; }, tensors);
    return count;
  }();
  /// Bytes of weights packed as P.
  template <class P>
  static constexpr std::size_t weight_bytes = sizeof(packed<P>);

  // ---- Costs ---------------------------------------------------------------------------------------------------------

  /// Floating-point operations of forward for each token of a sequence of `tokens` tokens: those of matrix products and
  /// attention, as is usual in the field.
  [[nodiscard]] static constexpr double forward_flops_per_token(index tokens = context) {
    return (body::flops(tokens) + head::flops(tokens)) / static_cast<double>(tokens);
  }
  /// Of forward and backward. Counted as 3 times forward: what backward computes a second time is not counted.
  [[nodiscard]] static constexpr double training_flops_per_token(index tokens = context) {
    return 3 * forward_flops_per_token(tokens);
  }

  // ---- Tape ----------------------------------------------------------------------------------------------------------

  /// Training goes through the head with this many rows (tokens of the batch) at a time, so that the logits of a large
  /// vocabulary never exist for all of a large batch. Fewer than 512 would make its products slower: every chunk reads the
  /// whole of W, and reads and writes the whole of its gradient. Where the vocabulary is small, a chunk has 4M logits, or as
  /// many as suit the backend.
  static constexpr index head_rows = [] {
    index logits = index{1} << 22;
    if constexpr (requires { Backend::head_logits; }) logits = Backend::head_logits;
    return std::max<index>(512, logits / vocab);
  }();

  /// Bytes that each thread works in, beside a tape and in a cache. 0 for a backend that needs none.
  static constexpr std::size_t workspace_bytes = [] {
    if constexpr (requires { Backend::workspace_bytes; }) return Backend::workspace_bytes;
    return std::size_t{0};
  }();
  static constexpr std::size_t decoding_workspace_bytes = [] {
    if constexpr (requires { Backend::decoding_workspace_bytes; }) return Backend::decoding_workspace_bytes;
    return std::size_t{0};
  }();

 private:
  /// Bytes of the workspaces of all threads.
  static std::size_t bytes_of_workspaces(const executor& where, std::size_t each) {
    if constexpr (requires { where.size(); })
      return static_cast<std::size_t>(where.size()) * each;
    else
      return 0;
  }
  /// The same executor, its threads working in a block of memory, `each` bytes a thread as far as it goes. Fails where its
  /// number of threads makes no sense.
  static executor working_in(const executor& where, std::span<std::byte> block, std::size_t each) {
    if constexpr (requires { where.size(); }) static_cast<void>(where.size());
    if constexpr (requires { where.working_in(block, each); })
      return where.working_in(block, each);
    else
      return where;
  }

  using hidden = hidden_states<scalar, depth>;
  static constexpr depth_set depths = body::depths;  // that any stage looks back at

  /// Where everything lies that a training pass over one extent uses.
  struct tape_views {
    fathom::hidden_states<scalar, depth> states;
    typename body::template tape<scalar> blocks;
    scalar* losses;          // [rows]
    double* total;           // [1], their sum, and
    token* tokens;           // [2, rows], the inputs and the targets, where the host's memory is another
    matrix<scalar> d;        // [rows, E], gradient of the residual stream
    matrix<scalar> dhidden;  // [number of depths * rows, E], gradients that stages sent back
    // For head_rows rows, in turn:
    typename head::template tape<scalar> out;
    matrix<scalar> logits;  // backward makes them their gradient; [rows, V] where forward has no targets
    cross_entropy::tape<scalar> loss;
    typename head::template scratch<scalar> out_scratch;
    arena free;  // scratch of the stages, in turn

    constexpr tape_views(arena& a, const extent& e)
        : states(take_states(a, e)),
          blocks(a, e),
          losses(a.take<scalar>(e.rows())),
          total(a.take<double>(is_on_host<Backend> ? 0 : 1)),
          tokens(a.take<token>(is_on_host<Backend> ? 0 : 2 * e.rows())),
          d(a.take<scalar>(e.rows(), width)),
          dhidden(a.take<scalar>(depths.count() * e.rows(), width)),
          out(a, chunk_of(e)),
          logits(a.take<scalar>(chunk_of(e).rows(), vocab)),
          loss(a, chunk_of(e)),
          out_scratch(a, chunk_of(e)),
          free(a) {
      for (int n = 0; n < depths.count(); ++n)
        states.gradients[static_cast<std::size_t>(depths[n])] = dhidden.data ? dhidden.row(n * e.rows()) : nullptr;
      static_cast<void>(a.take<std::byte>(static_cast<index>(body::template scratch_bytes<scalar>(e))));
    }

   private:
    static constexpr extent chunk_of(const extent& e) { return {1, std::min(e.rows(), head_rows)}; }
    static constexpr hidden take_states(arena& a, const extent& e) {
      hidden h;
      for (auto& state : h.states) state = a.take<scalar>(e.rows() * width);
      h.rows = e.rows();
      h.width = width;
      return h;
    }
  };

 public:
  /// The memory of training: what forward leaves for backward, and what backward needs for itself. Made once for a
  /// capacity, reused for every batch that fits. Nothing is allocated after it is made, but for one thing: the first forward
  /// without targets of more than head_rows tokens takes memory for all of their logits.
  class tape {
   public:
    /// For up to `sequences` sequences of up to `tokens` tokens.
    explicit tape(index sequences, index tokens = context, executor where = {})
        : memory_(bytes_for(sequences, tokens)),
          workspace_(bytes_of_workspaces(where, workspace_bytes)),
          where_(working_in(where, workspace_.bytes(), workspace_bytes)),
          views_(laid_out({sequences, tokens})) {}

    /// The mean loss of the last pass over all counted targets, in nats. NaN when no target counted.
    [[nodiscard]] auto loss() const {
      if (counted_ < 0) fail("tape.loss: the last forward pass had no targets; it yields logits");
      loss_type sum = 0;
      if constexpr (is_on_host<Backend>)
        for (index i = 0; i < extent_.rows(); ++i) sum += loss_type(views_.losses[i]);
      else
        memory::copy(&sum, views_.total, sizeof sum);
      return sum / static_cast<loss_type>(static_cast<double>(counted_));
    }
    /// -log p of every target of the last pass, [sequences, tokens] in nats; 0 where the target is -1.
    [[nodiscard]] std::span<const scalar> losses() const {
      if (counted_ < 0) fail("tape.losses: the last forward pass had no targets; it yields logits");
      return read_losses_(views_.losses, extent_.rows());
    }
    /// The logits of the last pass, which was a forward without targets, [sequences, tokens, vocab].
    [[nodiscard]] std::span<const scalar> logits() const {
      if (state_ == state::empty || counted_ >= 0)
        fail("tape.logits: no logits here; call forward without targets first (with targets, it keeps only the losses)");
      return read_logits_(views_.logits.data, extent_.rows() * vocab);
    }
    /// How many targets the last pass counted.
    [[nodiscard]] index counted() const { return std::max<index>(counted_, 0); }
    [[nodiscard]] const extent& shape() const { return extent_; }

    /// Calls f(stage type, tape of the stage) for every stage of every block, with what the last pass left there.
    template <class F>
    void each_stage(const F& f) const {
      body::each(f, views_.blocks);
    }
    [[nodiscard]] const executor& where() const { return where_; }

   private:
    friend transformer;
    enum class state { empty, forward, backward };
    using loss_type = std::conditional_t<std::is_floating_point_v<scalar>, double, scalar>;

    static std::size_t bytes_for(index sequences, index tokens) {
      if (sequences <= 0 || tokens <= 0 || tokens > context)
        fail("tape: a capacity of ", sequences, " sequences of ", tokens, " tokens; expected at least 1 of each and at most ",
             context, " tokens, the model's context");
      return tape_bytes(sequences, tokens);
    }
    tape_views laid_out(const extent& e) {
      arena a(memory_.bytes().data());
      return {a, e};
    }
    void begin(const batch& b) {
      const extent e{b.sequences, b.tokens};
      if (b.sequences <= 0 || b.tokens <= 0 || b.tokens > context || tape_bytes(e.sequences, e.tokens) > memory_.bytes().size())
        fail("forward: a batch of ", b.sequences, " sequences of ", b.tokens,
             " tokens; expected at least 1 of each, at most ", context, " tokens, the model's context, and no more in all "
             "than the tape was made for");
      const auto rows = static_cast<std::size_t>(e.rows());
      if (b.inputs.size() != rows || (b.targets.size() != rows && !b.targets.empty()))
        fail("forward: ", b.inputs.size(), " inputs and ", b.targets.size(), " targets; expected ", rows, " = ",
             b.sequences, " * ", b.tokens, " inputs and as many targets, or none");
      check_tokens(b.inputs, 0, vocab, "forward: inputs");
      check_tokens(b.targets, -1, vocab, "forward: targets");
      const bool all_logits = b.targets.empty() && e.rows() > head_rows;
      if (const std::size_t bytes = rows * vocab * sizeof(scalar); all_logits && all_logits_.bytes().size() < bytes)
        all_logits_ = buffer_in<memory>(bytes);
      views_ = laid_out(e);
      if (all_logits) views_.logits = {reinterpret_cast<scalar*>(all_logits_.bytes().data()), e.rows(), vocab};
      extent_ = e;
      counted_ = b.targets.empty() ? -1 : b.counted();
      take(b);
      state_ = state::forward;
    }
    /// The batch, with its tokens where the backend reads them.
    void take(const batch& b) {
      batch_ = b;
      if constexpr (!is_on_host<Backend>) {
        const auto upload = [&](std::span<const token> from, token* to) -> std::span<const token> {
          where_.upload(to, from.data(), from.size_bytes());
          return {to, from.size()};
        };
        batch_.inputs = upload(b.inputs, views_.tokens);
        batch_.targets = upload(b.targets, views_.tokens + extent_.rows());
      }
    }

    buffer_in<memory> memory_, all_logits_;
    buffer workspace_;
    executor where_;
    extent extent_{};
    tape_views views_;
    batch batch_;
    repeated<executor> step_;
    mutable reader<memory, scalar> read_losses_, read_logits_;
    index counted_ = -1;
    state state_ = state::empty;
  };

  /// Bytes of a tape for `sequences` sequences of `tokens` tokens, when it is made, without the workspaces of its threads
  /// (workspace_bytes each).
  [[nodiscard]] static constexpr std::size_t tape_bytes(index sequences, index tokens = context) {
    return bytes_of<tape_views>(extent{sequences, tokens});
  }

  // ---- Training ------------------------------------------------------------------------------------------------------

  /// Runs the model over a batch. With targets, tape.loss() is then the loss; without, tape.logits() the logits.
  /// Fails on a batch that does not fit the tape, and on tokens outside of the vocabulary.
  static void forward(const parameters& p, const batch& b, tape& t) {
    t.begin(b);
    t.where_.run([&](const auto& on) {
      forward_body(on, p, t);
      for (index first = 0; first < t.extent_.rows(); first += head_rows) forward_head(on, p, t, first);
      if (t.counted_ >= 0) add_losses(on, t);
    });
  }

  /// g += scale * the gradient of tape.loss(), for the batch of the last forward. Of a batch of more than head_rows tokens,
  /// forward has left the logits of the last head_rows or fewer, and backward makes the others a second time.
  static void backward(const parameters& p, const batch& b, tape& t, parameters& g, double scale = 1) {
    if (t.state_ != tape::state::forward || t.counted_ < 0 || b.sequences != t.extent_.sequences ||
        b.tokens != t.extent_.tokens || std::ssize(b.targets) != t.extent_.rows())
      fail("backward: call forward with this batch and with targets first, once for every backward");
    t.take(b);
    t.state_ = tape::state::backward;
    t.where_.run([&](const auto& on) { backward_all(on, p, t, g, scale, true); });
  }

  /// Both at once, for a batch with targets: tape.loss() is then the loss, and g has grown by scale * its gradient. The same,
  /// bit for bit, as forward and backward; faster for a batch of more than head_rows tokens, whose logits are made once.
  /// Depths below `first_trained` (0: the embedding; l: the l-th block; depth + 1: the head) need no gradients of their
  /// parameters: none are computed, and g has none, but for those of a tied head in wte.
  static void forward_backward(const parameters& p, const batch& b, tape& t, parameters& g, double scale = 1,
                               int first_trained = 0) {
    if (b.targets.empty()) fail("forward_backward: a batch without targets has no loss");
    t.begin(b);
    t.state_ = tape::state::backward;
    const auto address = [](const parameters& x) { return reinterpret_cast<std::uintptr_t>(&x); };
    t.step_.run(t.where_,
                {address(p), address(g), static_cast<std::uint64_t>(b.sequences), static_cast<std::uint64_t>(b.tokens),
                 static_cast<std::uint64_t>(t.counted_), std::bit_cast<std::uint64_t>(scale),
                 static_cast<std::uint64_t>(first_trained)},
                [&](const auto& on) {
                  forward_body(on, p, t);
                  backward_all(on, p, t, g, scale, false, first_trained);
                  add_losses(on, t);
                });
  }

 private:
  // Each of these exists once: inlined at several places, a compiler may round them differently (it fuses multiply-adds).
  template <class On>
  [[gnu::noinline]] static void forward_body(const On& on, const parameters& p, const tape& t) {
    const tape_views& v = t.views_;
    embedding::forward(on, p.embed, t.extent_, t.batch_.inputs, matrix<scalar>(v.states.states[0], t.extent_.rows(), width));
    body::forward(on, p.blocks, t.extent_, v.states, 0, v.blocks);
  }

  /// The rows of the head that are made together.
  struct chunk {
    matrix<const scalar> x;          // [rows of the chunk, E]
    matrix<scalar> logits;           // [rows of the chunk, V]
    std::span<const token> targets;  // of these rows; or none
    chunk(const tape_views& v, const batch& b, index first)
        : x(v.states.state(depth).rows_from(first, std::min(head_rows, v.states.rows - first))),
          logits(v.logits.rows_from(b.targets.empty() ? first : 0, x.rows)) {
      if (!b.targets.empty()) targets = b.targets.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(x.rows));
    }
  };
  /// Logits, and losses if there are targets, of the rows from `first` on.
  template <class On>
  [[gnu::noinline]] static void forward_head(const On& on, const parameters& p, const tape& t, index first) {
    const tape_views& v = t.views_;
    const chunk c(v, t.batch_, first);
    head::forward(on, p.out, p.embed.wte, c.x, c.logits, v.out);
    if (!c.targets.empty()) cross_entropy::forward(on, c.logits, c.targets, v.losses + first, v.loss);
  }

  /// What tape.loss() reads, where the host cannot add up the losses itself.
  template <class On>
  static void add_losses(const On& on, const tape& t) {
    if constexpr (!is_on_host<Backend>) sum(on, t.views_.losses, t.extent_.rows(), t.views_.total);
  }

  /// From the hidden states on. The head's last rows come first: their logits may be there.
  template <class On>
  [[gnu::noinline]] static void backward_all(const On& on, const parameters& p, const tape& t, parameters& g,
                                             double scale, bool has_last_logits, int first_trained = 0) {
    const tape_views& v = t.views_;
    const auto factor = static_cast<scalar>(scale / static_cast<double>(std::max<index>(t.counted_, 1)));
    const index last = (t.extent_.rows() - 1) / head_rows * head_rows;
    for (index first = last; first >= 0; first -= head_rows) {
      if (first < last || !has_last_logits) forward_head(on, p, t, first);
      const chunk c(v, t.batch_, first);
      cross_entropy::backward(on, c.logits, c.targets, factor, v.loss);
      head::backward(on, p.out, p.embed.wte, c.x, c.logits, v.d.rows_from(first, c.x.rows), v.out, g.out, g.embed.wte,
                     v.out_scratch);
    }
    if (first_trained > depth) return;
    zero(on, v.dhidden);
    body::backward(on, p.blocks, t.extent_, v.states, 0, v.d, v.blocks, g.blocks, v.free, first_trained);
    if (first_trained > 0) return;
    embedding::backward(on, t.extent_, t.batch_.inputs, v.d, g.embed);
  }

  // ---- Decoding ------------------------------------------------------------------------------------------------------

  /// The tokens that a prompt is read in at a time: each time, all weights go through the caches once.
  static constexpr index prefill_block = std::min<index>(context, 256);

  /// Where everything lies that decoding uses. Decoding keeps the states of the depths that are looked back at; the
  /// others share two.
  struct cache_views {
    index* lengths;  // [sequences], tokens held, and
    token* tokens;   // [rows_at_once], those read now, where the host's memory is another
    typename body::template cache<scalar> blocks;
    fathom::hidden_states<scalar, depth> states;  // for rows_at_once(sequences) rows
    matrix<scalar> logits;                        // [sequences, V]
    typename head::template tape<scalar> out;
    arena free;  // activations of one block at a time
    std::byte* workspace;  // of one thread; what lies behind is of the others

    constexpr cache_views(arena& a, index sequences, index capacity)
        : lengths(a.take<index>(sequences)),
          tokens(a.take<token>(is_on_host<Backend> ? 0 : rows_at_once(sequences))),
          blocks(a, sequences, capacity),
          states(take_states(a, rows_at_once(sequences))),
          logits(a.take<scalar>(sequences, vocab)),
          out(a, extent{sequences, 1}),
          free(a),
          workspace(nullptr) {
      static_cast<void>(a.take<std::byte>(
          static_cast<index>(body::template block_tape_bytes<scalar>(extent{1, rows_at_once(sequences)}))));
      workspace = a.take<std::byte>(static_cast<index>(decoding_workspace_bytes));
    }
    static constexpr index rows_at_once(index sequences) { return std::max(sequences, prefill_block); }

   private:
    static constexpr hidden take_states(arena& a, index rows) {
      hidden h;
      scalar* const even = a.take<scalar>(rows * width);
      scalar* const odd = a.take<scalar>(rows * width);
      for (int s = 0; s <= depth; ++s)
        h.states[static_cast<std::size_t>(s)] =
            depths.contains(s) ? a.take<scalar>(rows * width) : (s % 2 == 0 ? even : odd);
      h.rows = rows;
      h.width = width;
      return h;
    }
  };

 public:
  /// What decoding remembers: keys and values of all tokens so far, of one or several sequences, up to a capacity; and
  /// the memory that it works in. Nothing is allocated after it is made.
  class cache {
   public:
    /// For `sequences` sequences of up to `capacity` tokens each.
    explicit cache(index sequences = 1, index capacity = context, executor where = {})
        : own_(bytes_for(sequences, capacity) + bytes_of_workspaces(where, decoding_workspace_bytes) - decoding_workspace_bytes),
          sequences_(sequences),
          capacity_(capacity),
          views_(laid_out(own_.bytes())),
          where_(working_in(where, workspaces_of(own_.bytes()), decoding_workspace_bytes)) {
      place_lengths();
    }
    /// The same in memory of the caller's: at least cache_bytes(sequences, capacity) bytes at an address that is a
    /// multiple of fathom::alignment, which must outlive the cache. One thread works in there; others on their stacks, but as
    /// far as the memory has decoding_workspace_bytes more for each.
    cache(index sequences, index capacity, std::span<std::byte> memory, executor where = {})
        : sequences_(sequences),
          capacity_(capacity),
          views_(laid_out(checked(memory))),
          where_(working_in(where, workspaces_of(memory), decoding_workspace_bytes)) {
      place_lengths();
      std::fill_n(lengths_, sequences_, index{0});  // whatever the memory held
    }

    [[nodiscard]] index sequences() const { return sequences_; }
    [[nodiscard]] index capacity() const { return capacity_; }
    /// Tokens held of a sequence.
    [[nodiscard]] index length(index sequence = 0) const { return lengths_[at(sequence)]; }
    /// Forgets what came after the first `length` tokens, in every sequence or in one.
    void truncate(index length) {
      if (length < 0) fail("cache.truncate: to ", length, " tokens; expected 0 or more");
      for (index s = 0; s < sequences_; ++s) lengths_[s] = std::min(lengths_[s], length);
    }
    void truncate(index length, index sequence) {
      if (length < 0) fail("cache.truncate: to ", length, " tokens; expected 0 or more");
      lengths_[at(sequence)] = std::min(lengths_[at(sequence)], length);
    }

   private:
    friend transformer;
    index at(index sequence) const {
      if (sequence < 0 || sequence >= sequences_)
        fail("cache: sequence ", sequence, "; expected 0 to ", sequences_ - 1);
      return sequence;
    }
    static std::size_t bytes_for(index sequences, index capacity) {
      if (sequences <= 0 || capacity <= 0 || capacity > context)
        fail("cache: ", sequences, " sequences of ", capacity, " tokens; expected at least 1 of each and at most ", context,
             " tokens, the model's context");
      return cache_bytes(sequences, capacity);
    }
    std::span<std::byte> checked(std::span<std::byte> memory) const {
      check_memory("cache", memory, bytes_for(sequences_, capacity_));
      return memory;
    }
    cache_views laid_out(std::span<std::byte> memory) const {
      arena a(memory.data());
      return {a, sequences_, capacity_};
    }

    /// What is behind the first workspace belongs to the other threads.
    std::span<std::byte> workspaces_of(std::span<std::byte> memory) const {
      if constexpr (decoding_workspace_bytes == 0) return {};
      return memory.subspan(static_cast<std::size_t>(views_.workspace - memory.data()));
    }

    /// The host counts in its own memory, where the tokens that are read lie behind the lengths, as they do in the other.
    void place_lengths() {
      if constexpr (!is_on_host<Backend>) {
        arena a;
        static_cast<void>(a.take<index>(sequences_));
        static_cast<void>(a.take<token>(cache_views::rows_at_once(sequences_)));
        host_lengths_ = buffer(a.used());
      }
      lengths_ = is_on_host<Backend> ? views_.lengths : reinterpret_cast<index*>(host_lengths_.bytes().data());
    }

    buffer_in<memory> own_;
    index sequences_, capacity_;
    cache_views views_;
    executor where_;
    buffer host_lengths_;
    index* lengths_ = nullptr;  // [sequences], tokens held
    repeated_token<executor> token_;
    index drawn_at_ = -1;  // the length at which the token that lies in the backend's memory was drawn
    reader<memory, scalar> read_logits_;
  };

  /// Bytes of a cache, with room for one thread to work in.
  [[nodiscard]] static constexpr std::size_t cache_bytes(index sequences = 1, index capacity = context) {
    return bytes_of<cache_views>(sequences, capacity);
  }

  /// Reads a prompt, in blocks, after what the sequence already holds. Returns the logits [vocab] that follow its last
  /// token; they stay until the next call. Fails, with nothing changed, when the prompt is empty, does not fit or has a
  /// token outside of the vocabulary. W is packed<P>, or parameters.
  template <class W>
  static std::span<const scalar> prefill(const W& weights, std::span<const token> prompt, cache& c, index sequence = 0) {
    read_prompt(weights, prompt, c, sequence);
    return c.read_logits_(c.views_.logits.row(sequence), vocab);
  }

  /// Reads one further token of each sequence, and returns the logits that follow, [sequences, vocab]; they stay until the
  /// next call. Fails, with nothing changed, when a sequence is full or a token outside of the vocabulary.
  template <class W>
  static std::span<const scalar> decode(const W& weights, std::span<const token> next, cache& c) {
    if (static_cast<index>(next.size()) != c.sequences())
      fail("decode: ", next.size(), " tokens; expected one for each of the cache's ", c.sequences(), " sequences");
    check_tokens(next, 0, vocab, "decode");
    read_tokens(weights, next, c);
    return c.read_logits_(c.views_.logits.data, c.sequences() * vocab);
  }
  template <class W>
  static std::span<const scalar> decode(const W& weights, token next, cache& c) {
    return decode(weights, std::span<const token>(&next, 1), c);
  }

  // The same for a cache of one sequence on a backend with memory of its own, where the logits stay: `draw`, the backend's
  // drawing, is told to draw the next token from them, and nobody waits.

  /// Reads a prompt, and begins to draw the token that follows.
  template <class W, class Drawing>
  static void prefill_and_draw(const W& weights, std::span<const token> prompt, cache& c, Drawing& draw) {
    read_prompt(weights, prompt, c, 0);
    draw_next(c, draw);
  }
  /// Reads the token that was drawn last, known to the host or not, and begins to draw the one that follows.
  template <class W, class Drawing>
  static void decode_and_draw(const W& weights, cache& c, Drawing& draw) {
    if (c.drawn_at_ != c.length()) fail("decode_and_draw: no token has been drawn after the ", c.length(), " that the cache holds");
    read_tokens(weights, {}, c);
    draw_next(c, draw);
  }

 private:
  /// The model over a prompt; the logits that follow it.
  template <class W>
  static void read_prompt(const W& weights, std::span<const token> prompt, cache& c, index sequence) {
    const index length = c.length(sequence), count = static_cast<index>(prompt.size());
    if (count == 0) fail("prefill: an empty prompt; expected at least 1 token");
    if (length + count > c.capacity())
      fail("prefill: ", count, " tokens after the ", length, " that the cache holds; it has room for ", c.capacity());
    check_tokens(prompt, 0, vocab, "prefill");
    for (index done = 0; done < count; done += prefill_block) {
      const index n = std::min(prefill_block, count - done);
      run_tokens(weights, prompt.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)), c,
                 {1, n, c.views_.lengths + sequence, c.capacity(), sequence}, done + n == count);
      c.lengths_[sequence] += n;
    }
  }
  /// The model over one further token of each sequence; the logits that follow.
  template <class W>
  static void read_tokens(const W& weights, std::span<const token> next, cache& c) {
    for (index s = 0; s < c.sequences(); ++s)
      if (c.length(s) >= c.capacity())
        fail("decode: sequence ", s, " holds ", c.length(s), " tokens and the cache has room for ", c.capacity(),
             "; truncate it, or generate with fathom::overflow::slide");
    run_tokens(weights, next, c, {c.sequences(), 1, c.views_.lengths, c.capacity(), 0}, true);
    for (index s = 0; s < c.sequences(); ++s) ++c.lengths_[s];
  }
  /// The token goes to where the next pass reads it, with the length that the sequence now has.
  template <class Drawing>
  static void draw_next(cache& c, Drawing& draw) {
    c.drawn_at_ = c.lengths_[0];
    c.where_.run([&](const auto& on) {
      draw(on, std::span<const scalar>(c.views_.logits.data, static_cast<std::size_t>(vocab)), c.views_.tokens, c.views_.lengths,
           c.lengths_[0]);
    });
  }

  /// Its address stands for the type: weights of another may come to lie where these were.
  template <class W>
  static inline const char kind_of{};

  /// The model over further tokens; logits of each sequence's last one. No tokens: those that have been drawn.
  template <class W>
  static void run_tokens(const W& w, std::span<const token> tokens, cache& c, const extent& e, bool want_logits) {
    if constexpr (!is_on_host<Backend>) {
      if (!tokens.empty()) {
        // Both in one go: the lengths and, behind them, the tokens.
        const auto tokens_at = static_cast<std::size_t>(reinterpret_cast<std::byte*>(c.views_.tokens) -
                                                        reinterpret_cast<std::byte*>(c.views_.lengths));
        std::byte* const both = c.host_lengths_.bytes().data();
        std::copy_n(tokens.data(), tokens.size(), reinterpret_cast<token*>(both + tokens_at));
        c.where_.upload(c.views_.lengths, both, tokens_at + tokens.size_bytes());
        c.drawn_at_ = -1;
      }
      tokens = {c.views_.tokens, static_cast<std::size_t>(e.rows())};
    }
    const auto run = [&](const auto& on) {
      hidden states = c.views_.states;
      states.rows = e.rows();
      embedding::forward(on, w.embed, e, tokens, matrix<scalar>(states.states[0], e.rows(), width));
      body::extend(on, w.blocks, e, states, 0, c.views_.blocks, c.views_.free);
      if (!want_logits) return;
      const matrix<const scalar> last = states.state(depth).every(e.tokens, e.tokens - 1);
      head::forward(on, w.out, w.embed.wte, last, c.views_.logits.rows_from(e.first, e.sequences), c.views_.out);
    };
    if constexpr (!is_on_host<Backend>)
      if (e.tokens == 1 && e.sequences == c.sequences_)
        return c.token_.run(c.where_, {reinterpret_cast<std::uintptr_t>(&w), reinterpret_cast<std::uintptr_t>(&kind_of<W>)}, run);
    c.where_.run(run);
  }
};

/// The same weights laid out for decoding.
template <class Parameters, class Packed>
void pack_into(const Parameters& weights, Packed& to) {
  using model = typename Parameters::model;
  model::visit_tensors(
      [](initial, const auto& from, auto& tensor) {
        model::backend::template pack_tensor<typename Packed::number>(from, tensor);
      },
      weights, to);
}

/// Weights laid out for decoding, with P = float, bf16 or int8 in the matrices. `weights` are a model's parameters, or what owns
/// them.
template <class P, class Weights>
[[nodiscard]] auto pack(const Weights& weights) {
  if constexpr (!detail::stands_for_weights<Weights>) {
    static_assert(detail::never<Weights>, "fathom::pack: expected weights: *weights, weights or trainer.weights()");
    return nullptr;
  } else {
    using model = typename detail::weights_of<const Weights>::model;
    constexpr bool is_possible = check::weights_are_packed_as_float_bf16_int8_or_the_scalar<P, typename model::scalar>;
    static_assert(is_possible, "fathom::pack: weights are packed as float, fathom::bf16, std::int8_t or the scalar of the model");
    auto ready = make<typename model::template packed<std::conditional_t<is_possible, P, typename model::scalar>>>();
    if constexpr (is_possible) pack_into(detail::weights_in(weights, "pack"), *ready);
    return ready;
  }
}

}  // namespace fathom
