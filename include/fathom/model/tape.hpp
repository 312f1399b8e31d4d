// Training: the tape, on which forward leaves what backward needs, and the loss.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>

#include "fathom/backend/session.hpp"
#include "fathom/core/arena.hpp"
#include "fathom/core/depth_set.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/cross_entropy.hpp"
#include "fathom/layer/hidden_states.hpp"
#include "fathom/layer/stack.hpp"
#include "fathom/model/batch.hpp"
#include "fathom/model/trained.hpp"

namespace fathom {

namespace detail {
/// Allocates what stages publish in each channel, [blocks * rows, W], and its gradients if `has_gradients`.
template <class T, int Depth, class... Channels>
constexpr void take_published(arena& a, hidden_states<T, Depth, channels<Channels...>>& hidden, index rows, bool has_gradients) {
  [[maybe_unused]] const auto take = [&](std::array<T*, Depth>& to, index row) {
    T* const numbers = a.take<T>(Depth * rows * row);
    for (int n = 0; n < Depth; ++n) to[static_cast<std::size_t>(n)] = numbers ? numbers + n * rows * row : nullptr;
  };
  (take(std::get<published_rows<T, Depth, Channels>>(hidden.published).rows, Channels::width), ...);
  if (has_gradients) (take(std::get<published_rows<T, Depth, Channels>>(hidden.published).gradients, Channels::width), ...);
}
/// Zeroes the gradients of all channels.
template <class On, class T, int Depth, class... Channels>
void zero_published(const On& on, const hidden_states<T, Depth, channels<Channels...>>& hidden) {
  (zero(on, matrix<T>(std::get<published_rows<T, Depth, Channels>>(hidden.published).gradients[0], Depth * hidden.rows, Channels::width)),
   ...);
}
}  // namespace detail

template <class Model>
struct training_pass;

/// Lays out the memory of a training pass over one extent.
template <class Model>
struct tape_views {
  using scalar = typename Model::scalar;
  using session = fathom::session<typename Model::backend>;
  using hidden = typename Model::hidden_states;
  static constexpr index width = Model::width;
  static constexpr depth_set depths = Model::body::depths;  // that any stage looks back at
  static constexpr int lowest = lowest_of<Model>().block;  // with something to train; -1: also the embedding
  /// The depths that take gradients: those above the input of the lowest block. What stages send back to the others shares
  /// one place, which nobody reads.
  static constexpr int ignored_depths = [] {
    int count = 0;
    for (int n = 0; n < depths.count(); ++n) count += depths[n] <= lowest;
    return count;
  }();
  static constexpr int gradient_count = depths.count() - ignored_depths + (ignored_depths > 0);

  hidden states;
  typename Model::body::template tape<scalar> blocks;
  scalar* losses;          // [rows]
  double* total;           // [1], their sum, and
  token* tokens;           // [2, rows], the inputs and the targets, if the session stages them
  matrix<scalar> d;        // [rows, E], gradient of the residual stream
  matrix<scalar> dhidden;  // [gradient_count * rows, E], gradients that stages sent back
  // For head_rows rows at a time:
  typename Model::head::template tape<scalar> out;
  matrix<scalar> logits;  // overwritten by their gradient in backward; [rows, V] if forward has no targets
  layers::cross_entropy::tape<scalar> loss;
  typename Model::head::template scratch<scalar> out_scratch;
  scalar* spare;  // of a model that trains only a part of itself (trained.hpp)
  arena free;  // scratch of the stages, reused by each

  constexpr tape_views(arena& a, const extent& e)
      : states(take_states(a, e)),
        blocks(a, e, lowest),
        losses(a.take<scalar>(e.rows())),
        total(a.take<double>(session::staged(1))),
        tokens(a.take<token>(session::staged(2 * e.rows()))),
        d(a.take<scalar>(e.rows(), width)),
        dhidden(a.take<scalar>(gradient_count * e.rows(), width)),
        out(a, chunk_of(e)),
        logits(a.take<scalar>(chunk_of(e).rows(), Model::vocab)),
        loss(a, chunk_of(e)),
        out_scratch(a, chunk_of(e)),
        spare(take_spare(a)),
        free(a) {
    for (int n = 0; n < depths.count(); ++n)
      states.gradients[static_cast<std::size_t>(depths[n])] =
          dhidden.data ? dhidden.row(std::max(n - std::max(ignored_depths - 1, 0), 0) * e.rows()) : nullptr;
    static_cast<void>(a.take<std::byte>(static_cast<index>(Model::body::template scratch_bytes<scalar>(e))));
  }

 private:
  static constexpr scalar* take_spare([[maybe_unused]] arena& a) {
    if constexpr (detail::is_partly_trained<Model>)
      return a.take<scalar>(Model::spare);
    else
      return nullptr;
  }
  static constexpr extent chunk_of(const extent& e) { return {1, std::min(e.rows(), Model::head_rows)}; }
  static constexpr hidden take_states(arena& a, const extent& e) {
    hidden h;
    // Of the outputs that neither backward nor a stage reads again, only the last two are kept.
    std::array<scalar*, 2> passing{};
    for (int n = 0; n < std::min(lowest, 2); ++n) passing[static_cast<std::size_t>(n)] = a.take<scalar>(e.rows() * width);
    for (int depth = 0; depth <= Model::depth; ++depth) {
      scalar* const passing_by = passing[static_cast<std::size_t>(depth % 2)];
      h.states[static_cast<std::size_t>(depth)] =
          depth >= lowest || depths.contains(depth) ? a.take<scalar>(e.rows() * width) : passing_by;
    }
    h.rows = e.rows();
    h.width = width;
    detail::take_published(a, h, e.rows(), true);
    return h;
  }
};

/// The memory of training: what forward leaves for backward, and what backward needs itself. Make it once for a
/// capacity, and reuse it for every batch that fits. Nothing is allocated later, with one exception: the first forward
/// without targets over more than head_rows tokens allocates memory for all of their logits.
template <class Model>
class training_tape {
 public:
  using scalar = typename Model::scalar;
  using executor = typename Model::executor;
  using session = fathom::session<typename Model::backend>;

  /// For up to `sequences` sequences of up to `tokens` tokens.
  explicit training_tape(index sequences, index tokens = Model::context, executor where = {})
      : memory_(bytes_for(sequences, tokens)),
        workspace_(session::bytes_of_workspaces(where, Model::workspace_bytes)),
        session_(where, workspace_.bytes(), Model::workspace_bytes),
        views_(laid_out({sequences, tokens})) {}

  /// The mean loss of the last pass over all counted targets, in nats. NaN when no target counted.
  [[nodiscard]] auto loss() const {
    if (counted_ < 0) fail("tape.loss: the last forward pass had no targets; it yields logits");
    const auto sum = session_.read_sum(views_.losses, extent_.rows(), views_.total);
    return sum / static_cast<typename session::loss_type>(static_cast<double>(counted_));
  }
  /// -log p of every target of the last pass, [sequences, tokens] in nats; 0 where the target is -1.
  [[nodiscard]] std::span<const scalar> losses() const {
    if (counted_ < 0) fail("tape.losses: the last forward pass had no targets; it yields logits");
    return session_.read(views_.losses, extent_.rows());
  }
  /// The logits of the last pass, which was a forward without targets, [sequences, tokens, vocab].
  [[nodiscard]] std::span<const scalar> logits() const {
    if (state_ == state::empty || counted_ >= 0)
      fail("tape.logits: no logits here; call forward without targets first (with targets, it keeps only the losses)");
    return session_.read(views_.logits.data, extent_.rows() * Model::vocab);
  }
  /// The number of targets that the last pass counted.
  [[nodiscard]] index counted() const { return std::max<index>(counted_, 0); }
  [[nodiscard]] const extent& shape() const { return extent_; }

  /// Calls f(stage type, tape of the stage) for every stage of every block, as the last pass left it; or f(stage type,
  /// tape, number of the block), if f takes that.
  template <class F>
  void each_stage(const F& f) const {
    Model::body::each(f, views_.blocks);
  }
  [[nodiscard]] const executor& where() const { return session_.where(); }

 private:
  friend training_pass<Model>;
  enum class state { empty, forward, backward };

  static std::size_t bytes_for(index sequences, index tokens) {
    if (sequences <= 0 || tokens <= 0 || tokens > Model::context)
      fail("tape: a capacity of ", sequences, " sequences of ", tokens, " tokens; expected at least 1 of each and at most ",
           Model::context, " tokens, the model's context");
    return Model::tape_bytes(sequences, tokens);
  }
  tape_views<Model> laid_out(const extent& e) {
    arena a(memory_.bytes().data());
    return {a, e};
  }
  void begin(const batch& b) {
    const extent e{b.sequences, b.tokens};
    if (b.sequences <= 0 || b.tokens <= 0 || b.tokens > Model::context ||
        Model::tape_bytes(e.sequences, e.tokens) > memory_.bytes().size())
      fail("forward: a batch of ", b.sequences, " sequences of ", b.tokens, " tokens; expected at least 1 of each, at most ",
           Model::context, " tokens, the model's context, and no more in all than the tape was made for");
    const auto rows = static_cast<std::size_t>(e.rows());
    if (b.inputs.size() != rows || (b.targets.size() != rows && !b.targets.empty()))
      fail("forward: ", b.inputs.size(), " inputs and ", b.targets.size(), " targets; expected ", rows, " = ", b.sequences,
           " * ", b.tokens, " inputs and as many targets, or none");
    check_tokens(b.inputs, 0, Model::vocab, "forward: inputs");
    check_tokens(b.targets, -1, Model::vocab, "forward: targets");
    const bool all_logits = b.targets.empty() && e.rows() > Model::head_rows;
    if (const std::size_t bytes = rows * Model::vocab * sizeof(scalar); all_logits && all_logits_.bytes().size() < bytes)
      all_logits_ = buffer_in<typename Model::memory>(bytes);
    views_ = laid_out(e);
    if (all_logits) views_.logits = {reinterpret_cast<scalar*>(all_logits_.bytes().data()), e.rows(), Model::vocab};
    extent_ = e;
    counted_ = b.targets.empty() ? -1 : b.counted();
    take(b);
    state_ = state::forward;
  }
  /// Takes a batch, and stages its tokens where the backend reads them.
  void take(const batch& b) {
    batch_ = b;
    batch_.inputs = views_.states.tokens = session_.stage(b.inputs, views_.tokens);
    batch_.targets = session_.stage(b.targets, views_.tokens + session::staged(extent_.rows()));
  }

  buffer_in<typename Model::memory> memory_, all_logits_;
  buffer workspace_;
  session session_;
  extent extent_{};
  tape_views<Model> views_;
  batch batch_;
  index counted_ = -1;
  state state_ = state::empty;
};

/// Forward and backward.
template <class Model>
struct training_pass {
  using scalar = typename Model::scalar;
  using parameters = typename Model::parameters;
  using tape = training_tape<Model>;
  using views = tape_views<Model>;
  static constexpr index head_rows = Model::head_rows;

  static void forward(const parameters& p, const batch& b, tape& t) {
    t.begin(b);
    t.session_.run([&](const auto& on) {
      forward_body(on, p, t);
      for (index first = 0; first < t.extent_.rows(); first += head_rows) forward_head(on, p, t, first);
      if (t.counted_ >= 0) t.session_.add_up(on, t.views_.losses, t.extent_.rows(), t.views_.total);
    });
  }

  using gradients = trained_of<Model>;
  static void backward(const parameters& p, const batch& b, tape& t, gradients& g, double scale, const lowest_stage& lowest) {
    if (t.state_ != tape::state::forward || t.counted_ < 0 || b.sequences != t.extent_.sequences ||
        b.tokens != t.extent_.tokens || std::ssize(b.targets) != t.extent_.rows())
      fail("backward: call forward with this batch and with targets first, once for every backward");
    t.take(b);
    t.state_ = tape::state::backward;
    with_places(p, t, g, [&](auto& places) {
      t.session_.run([&](const auto& on) { backward_all(on, p, t, places, scale, lowest, true); });
    });
  }

  static void forward_backward(const parameters& p, const batch& b, tape& t, gradients& g, double scale, const lowest_stage& lowest) {
    if (b.targets.empty()) fail("forward_backward: a batch without targets has no loss");
    t.begin(b);
    t.state_ = tape::state::backward;
    const auto address = [](const auto& x) { return reinterpret_cast<std::uintptr_t>(&x); };
    with_places(p, t, g, [&](auto& places) {
      t.session_.replay({address(p), address(g), static_cast<std::uint64_t>(b.sequences), static_cast<std::uint64_t>(b.tokens),
                         static_cast<std::uint64_t>(t.counted_), std::bit_cast<std::uint64_t>(scale),
                         static_cast<std::uint64_t>(lowest.block), static_cast<std::uint64_t>(lowest.stage)},
                        [&](const auto& on) {
                          forward_body(on, p, t);
                          backward_all(on, p, t, places, scale, lowest, false);
                          t.session_.add_up(on, t.views_.losses, t.extent_.rows(), t.views_.total);
                        });
    });
  }

 private:
  /// Calls f(where the gradients of all tensors go).
  template <class F>
  static void with_places([[maybe_unused]] const parameters& p, [[maybe_unused]] tape& t, gradients& g, const F& f) {
    if constexpr (detail::is_partly_trained<Model>) {
      typename Model::gradients places;
      Model::place(p, g, t.views_.spare, places);
      f(places);
    } else {
      f(g);
    }
  }

  // Each of these is compiled once. Inlined in several places, it could round differently: compilers fuse
  // multiply-adds.
  template <class On>
  [[gnu::noinline]] static void forward_body(const On& on, const parameters& p, const tape& t) {
    const views& v = t.views_;
    Model::embedding::forward(on, p.embed, t.extent_, t.batch_.inputs,
                              matrix<scalar>(v.states.states[0], t.extent_.rows(), Model::width));
    Model::body::forward(on, p.blocks, t.extent_, v.states, 0, v.blocks);
  }

  /// The rows that go through the head together.
  struct chunk {
    matrix<const scalar> x;          // [rows of the chunk, E]
    matrix<scalar> logits;           // [rows of the chunk, V]
    std::span<const token> targets;  // of these rows; or none
    chunk(const views& v, const batch& b, index first)
        : x(v.states.state(Model::depth).rows_from(first, std::min(head_rows, v.states.rows - first))),
          logits(v.logits.rows_from(b.targets.empty() ? first : 0, x.rows)) {
      if (!b.targets.empty()) targets = b.targets.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(x.rows));
    }
  };
  /// Computes logits, and losses if there are targets, for the rows from `first` on.
  template <class On>
  [[gnu::noinline]] static void forward_head(const On& on, const parameters& p, const tape& t, index first) {
    const views& v = t.views_;
    const chunk c(v, t.batch_, first);
    Model::head::forward(on, p.out, p.embed.wte, c.x, c.logits, v.out);
    if (!c.targets.empty()) layers::cross_entropy::forward(on, c.logits, c.targets, v.losses + first, v.loss);
  }

  /// Runs backward from the logits. The head's last rows come first, because their logits may still be there.
  template <class On, class G>
  [[gnu::noinline]] static void backward_all(const On& on, const parameters& p, const tape& t, G& g, double scale,
                                             const lowest_stage& lowest, bool has_last_logits) {
    const views& v = t.views_;
    const auto factor = static_cast<scalar>(scale / static_cast<double>(std::max<index>(t.counted_, 1)));
    const index last = (t.extent_.rows() - 1) / head_rows * head_rows;
    for (index first = last; first >= 0; first -= head_rows) {
      if (first < last || !has_last_logits) forward_head(on, p, t, first);
      const chunk c(v, t.batch_, first);
      layers::cross_entropy::backward(on, c.logits, c.targets, factor, v.loss, layers::soft_cap_of<typename Model::head>());
      Model::head::backward(on, p.out, p.embed.wte, c.x, c.logits, v.d.rows_from(first, c.x.rows), v.out, g.out, g.embed.wte,
                            v.out_scratch);
    }
    zero(on, v.dhidden);
    detail::zero_published(on, v.states);
    const lowest_stage from = std::max(lowest, lowest_of<Model>());
    Model::body::backward(on, p.blocks, t.extent_, v.states, 0, v.d, v.blocks, g.blocks, v.free, from);
    if (from.block < 0) Model::embedding::backward(on, t.extent_, t.batch_.inputs, v.d, g.embed);
  }
};

}  // namespace fathom
