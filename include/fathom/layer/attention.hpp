// Attention over a layer's own input (self_attention.hpp), over the rows of a residual source (shortcut_attention.hpp),
// or over both in one softmax (joint_attention.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "fathom/backend/activation.hpp"
#include "fathom/backend/distance_slopes.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/core/name.hpp"
#include "fathom/layer/hidden_states.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/linear.hpp"
#include "fathom/layer/norm.hpp"
#include "fathom/layer/part.hpp"

namespace fathom::layers {

/// The positions that a layer with a window caches, of sequences of up to `capacity`. A pass reads up to
/// most_tokens_at_once tokens, whose windows reach back to the Window - 1 positions before them. `back` more are held,
/// so that a cache can always be truncated by as many tokens. Window 0: all positions.
template <index Window>
struct cached_positions {
  static constexpr index back = held_positions::step;
  static constexpr index at_least = Window - 1 + back;
  /// Places for each sequence.
  [[nodiscard]] static constexpr index places(index capacity) {
    return Window == 0 ? capacity : std::min(capacity, at_least + held_positions::step + most_tokens_at_once);
  }
  [[nodiscard]] static constexpr held_positions held(index capacity, const index* reached = nullptr) {
    return {places(capacity) < capacity ? at_least : 0, reached};
  }
};

/// The key-value cache for decoding: [sequences * places * Rows, 2 Width], with a place for each position that is held,
/// up to `capacity`. Each row holds a key and a value, of all heads. Each position has `Rows` adjacent rows. One cache
/// line of padding separates rows: with a stride of 2 Width, often a power of two, the rows of a head would map to few
/// sets of the processor's cache. T is the scalar, or bf16 or int8 for rounded keys and values (stored_rows).
template <class T, index Width, index Rows, index Window = 0, index Heads = 1>
struct key_value_cache {
  matrix<T> kv;
  matrix<float> scales{};  // [rows, 2 Heads], those of the keys and of the values; only for int8
  constexpr key_value_cache(arena& a, index sequences, index capacity)
      : kv(a.take<T>(rows(sequences, capacity), 2 * Width + line).columns_from(0, 2 * Width)) {
    if constexpr (std::is_same_v<T, std::int8_t>) scales = a.take<float>(rows(sequences, capacity), 2 * Heads);
  }
  /// Copies the rows of the positions that are held of a sequence.
  template <class Memory>
  void copy(const sequence_copy& s) const {
    using positions = cached_positions<Window>;
    const index held = s.length - positions::held(s.capacity, &s.reached).first(0, s.length), places = positions::places(s.capacity);
    const auto copy_rows = [&](const auto& m) {
      if (held > 0)
        Memory::copy(m.row(s.to * places * Rows), m.row(s.from * places * Rows), static_cast<std::size_t>(held * Rows * m.stride) * sizeof(*m.data));
    };
    copy_rows(kv);
    if constexpr (std::is_same_v<T, std::int8_t>) copy_rows(scales);
  }
  static constexpr index line = static_cast<index>(alignment / sizeof(T));
  [[nodiscard]] static constexpr index rows(index sequences, index capacity) {
    return sequences * cached_positions<Window>::places(capacity) * Rows;
  }

  /// `count` parts from part `first` on, where part 0 is the keys and part 1 the values, as operations of a backend with
  /// this scalar take them: as a matrix, or as stored_rows.
  template <class Scalar>
  [[nodiscard]] auto parts(index first, index count) const {
    const matrix<T> numbers = kv.columns_from(first * Width, count * Width);
    if constexpr (std::is_same_v<T, Scalar>)
      return numbers;
    else if constexpr (std::is_same_v<T, std::int8_t>)
      return stored_rows<T>{numbers, scales.columns_from(first * Heads, count * Heads)};
    else
      return stored_rows<T>{numbers};
  }
};

/// Attention over the layer's own input.
struct own_context {
  static constexpr index source_rows = 0, added_rows = 0;
  static constexpr bool are_values = false;
  static constexpr std::string_view name{};
};
/// Attention over D rows of a residual source per position. Name is that of the projection to keys and values. As
/// everywhere, a leading '/' makes it absolute, not relative to the layer's name.
template <index D, fixed_string Name = "c_kv">
struct rows_of_source {
  static_assert(D > 0, "fathom::rows_of_source: a source has at least one row for every position");
  static constexpr index source_rows = D, added_rows = 0;
  static constexpr bool are_values = false;
  static constexpr std::string_view name = Name.view();
};
/// D rows of a residual source per position that have no keys: they are projected to values, which are added to the own context's
/// value of the same position. Or they are values: the first numbers of each row, as many as all heads of values have.
template <index D, fixed_string Name = "c_v", bool AreValues = false>
struct values_of_source {
  static constexpr bool are_values = AreValues;
  static_assert(D > 0, "fathom::values_of_source: a source has at least one row for every position");
  static constexpr index source_rows = D, added_rows = D;
  static constexpr std::string_view name = Name.view();
};

/// The projection of rows that are values: y [rows, K] = the first K columns of x [rows, E].
template <index E, index K>
struct leading_columns {
  static_assert(K <= E, "fathom::attention: a row of a source has no room for the values of all heads");
  template <class S>
  struct parameters {};
  template <class F, class Path, class... P>
  static constexpr void visit(const F&, const Path&, P&...) {}
  template <class On, class P>
  static void forward(const On& on, const P&, input<On> x, output<On> y) {
    copy(on, x.columns_from(0, K), y);
  }
  template <class On, class G>
  static void backward_parameters(const On&, input<On>, input<On>, G&) {}
  template <class On, class P>
  static void backward_input(const On& on, const P&, input<On> dy, output<On> dx) {
    zero(on, dx);
    copy(on, dy, dx.columns_from(0, K));
  }
  [[nodiscard]] static constexpr double flops(index) { return 0; }
};

/// Leaves queries and keys unchanged. A replacement in attention_options may change them in place by position, as rotary
/// does (rotary.hpp):
///   forward    x [e.rows() * rows_per_position, heads * HeadWidth]; row r belongs to row
///              r / rows_per_position of the pass
///   backward   turns the gradient of forward's result into the gradient of its input
struct no_rotation {
  template <index HeadWidth, class On>
  static void forward(const On&, const extent&, output<On>, index /*rows_per_position*/) {}
  template <index HeadWidth, class On>
  static void backward(const On&, const extent&, output<On>, index /*rows_per_position*/) {}
};

/// No norms of queries and keys.
struct no_head_norms {
  static constexpr bool are_there = false, are_per_head = false;
  template <index W>
  using norm = no_norm<W>;
};
/// Norms of queries and of keys, before they turn. Norm is a part (norm.hpp); it has a width of one head (Qwen 3, arXiv
/// 2505.09388), or of all heads (OLMo 2, arXiv 2501.00656).
template <class Norm, bool PerHead>
struct head_norms_of {
  static constexpr bool are_there = true, are_per_head = PerHead;
  template <index W>
  using norm = typename Norm::template bind<binding<1, 1, W, 1, false>>;
};

/// A vector of N parameters, or nothing if N is 0. Which: keeps the types of those that are nothing apart.
template <class S, index N, int Which>
struct optional_vector {
  typename S::template vector<N> numbers;
};
template <class S, int Which>
struct optional_vector<S, 0, Which> {};

/// How scores fall with the distance between query and key (backend/distance_slopes.hpp): not, by ALiBi's slopes, or by
/// slopes that are learned, one for each head.
enum class slopes_of_heads { none, alibi, learned };

/// Learned factors of the source's values, from 0: none, one for each key-value head, or one for each of them and each depth.
enum class gates_of_source { none, heads, heads_and_depths };

/// How a head may take less than all of what it attends to: not; by a learned sink, a further logit of its softmax whose value is
/// 0 (gpt-oss; after Xiao et al., arXiv 2309.17453); or by a factor from 0 to 1 that depends on the query's token,
/// sigmoid(x W + b) (Qiu et al., arXiv 2505.06708).
enum class exit_of_heads { none, sink, sigmoid };

/// Options of attention, as a type. Derive from it to change some:
///   struct local : fathom::layers::attention_options { static constexpr fathom::index kv_heads = 2, window = 256; };
struct attention_options {
  static constexpr index kv_heads = 0;    // key-value heads, each shared by several query heads; must divide heads;
                                          // 0: as many as heads (GQA, Ainslie et al., arXiv 2305.13245)
  static constexpr index head_width = 0;  // 0: width / heads
  static constexpr index window = 0;      // positions that a query sees, up to and including its own; 0: all of them
  static constexpr index score_width = 0;  // scores are products over its square root; 0: head_width
  static constexpr bool causal = true;    // false: a query also sees later positions, and decoding is impossible
  static constexpr bool bias = true;         // of the projections
  static constexpr bool output_bias = true;  // of the output projection, if they have biases
  static constexpr initial output_initial = initial::residual;  // initialization of the output projection
  using rotation = no_rotation;           // applied to queries and keys before their product
  using head_norms = no_head_norms;       // applied to queries and keys before the rotation
  static constexpr auto slopes = slopes_of_heads::none;
  static constexpr auto values_name = fixed_string("");  // channel in which it publishes its own values; "": none
  static constexpr bool temperature = false;   // queries are multiplied by a learned number for each head, after their norm
  static constexpr bool depth_biases = false;  // scores have a learned bias for each head and row of a position
  static constexpr auto gates = gates_of_source::none;
  static constexpr auto exit = exit_of_heads::none;
  static constexpr initial key_value_initial = initial::normal;  // initialization of the projection of a source's rows
};

/// y = residual + Attention(x[, memory]) (Vaswani et al., arXiv 1706.03762): softmax(q k^T / sqrt(d)) v per head, over
/// the keys of the query's own and of earlier positions, then the output projection.
///   x, y [rows, E];  memory [rows * D, E], D rows of the source per position, if any
///   H query heads of width d, G key-value heads
/// Memories: own_context, rows_of_source<D>, or both in this order; or own_context and values_of_source<D>, whose c_v [E, G d] makes
/// values that are added to the own ones. Queries come from x. With own_context, so do keys
/// and values: q, k, v = x W + b, c_attn [E, (H + 2 G) d]. Without, q = x W_q + b_q, c_q [E, H d]. c_kv [E, 2 G d]
/// projects the source's rows to keys and values. The output projection is c_proj [H d, E]. Each position has its own
/// key first, then those of its source, so that a query sees a prefix of the keys in one softmax.
/// Options add, in this order: norms of queries and keys; temperature, q_h = temperature_h q_h; rotation; slopes and biases of
/// scores, + depth_bias[n][h] for the n-th row of any position; gates, v = gate_h v or gate[n][h] v; an exit,
/// out_h = out_h sigmoid(lse_h - sinks_h), which is the sink's softmax, or out_h = out_h sigmoid(x W + b)_h.
template <index E, index H, class Options, class... Memories>
struct attention {
  static constexpr index width = E, heads = H;
  static constexpr index key_heads = Options::kv_heads > 0 ? Options::kv_heads : H;
  static constexpr index head_width = Options::head_width > 0 ? Options::head_width : E / H;
  static constexpr index source_rows = (Memories::source_rows + ... + 0);  // rows of memory for each token
  static constexpr index added_rows = (Memories::added_rows + ... + 0);    // those of them without keys
  static constexpr index attended_rows = source_rows - added_rows;         // and with keys
  static constexpr bool has_context = ((Memories::source_rows == 0) || ...);
  static constexpr index key_rows = attended_rows + (has_context ? 1 : 0);  // rows of keys and values for each token

  static_assert(sizeof...(Memories) == (has_context ? 1 : 0) + (source_rows > 0 ? 1 : 0) && sizeof...(Memories) > 0,
                "fathom::attention: expected own_context, rows_of_source<D>, or both, each once");
  static_assert(added_rows == 0 || has_context, "fathom::attention: values_of_source are added to values of the own context");
  static_assert(Options::head_width > 0 || E % H == 0,
                "fathom::attention: width must be a multiple of heads, where options give no head_width");
  static_assert(H % key_heads == 0, "fathom::attention: kv_heads must divide heads");
  static_assert(Options::score_width >= 0, "fathom::attention: score_width must be positive");
  static_assert(Options::window >= 0 && (Options::causal || Options::window == 0),
                "fathom::attention: a window is a number of positions, of a causal attention");
  static_assert(Options::causal || Options::slopes == slopes_of_heads::none,
                "fathom::attention: slopes are of a causal attention: they take the distance back from a query to a key");

 private:
  static constexpr index Q = H * head_width, K = key_heads * head_width;  // width of all queries, of all keys
  static constexpr index D = attended_rows, A = added_rows;
  using positions = cached_positions<Options::window>;

 public:
  /// Whether the enclosing stage publishes the values of the own context, [rows, K] (hidden_states.hpp).
  static constexpr bool publishes = !Options::values_name.view().empty();
  using published = channel<Options::values_name, K>;
  static_assert(!publishes || has_context, "fathom::attention: only values of an attention's own context are published");
  using query = linear<E, has_context ? Q + 2 * K : Q, initial::normal, Options::bias>;
  using key_value = linear<E, 2 * K, Options::key_value_initial, Options::bias>;
  using added_value = std::conditional_t<(Memories::are_values || ...), leading_columns<E, K>,
                                         linear<E, K, Options::key_value_initial, Options::bias>>;
  using of_source = std::conditional_t<(added_rows > 0), added_value, key_value>;
  using projection = linear<Q, E, Options::output_initial, Options::bias && Options::output_bias>;
  using norms = typename Options::head_norms;
  using query_norm = typename norms::template norm<norms::are_per_head ? head_width : Q>;
  using key_norm = typename norms::template norm<norms::are_per_head ? head_width : K>;
  static constexpr bool has_slopes = Options::slopes != slopes_of_heads::none;
  static constexpr bool learns_slopes = Options::slopes == slopes_of_heads::learned;
  static constexpr bool has_biases = Options::depth_biases;
  static constexpr bool has_gates = Options::gates != gates_of_source::none;
  static constexpr index gated_depths = Options::gates == gates_of_source::heads_and_depths ? source_rows : 1;
  static constexpr bool has_sinks = Options::exit == exit_of_heads::sink, has_exit_gate = Options::exit == exit_of_heads::sigmoid;
  static constexpr bool has_exit = has_sinks || has_exit_gate;
  using exit_gate = linear<E, H>;
  static_assert(!has_gates || source_rows > 0, "fathom::attention: gates are of the values of a residual source");
  static_assert(!has_biases || added_rows == 0, "fathom::attention: depth_biases are of scores; values_of_source have none");

  template <class S>
  struct norm_parameters {
    [[no_unique_address]] typename query_norm::template parameters<S> q;
    [[no_unique_address]] typename key_norm::template parameters<S> k;
  };
  template <class S>
    requires(!norms::are_there)
  struct norm_parameters<S> {};

  template <class S>
  struct slope_parameters {
    typename S::template vector<H> slopes;
  };
  template <class S>
    requires(!learns_slopes)
  struct slope_parameters<S> {};

  template <class S>
  struct exit_parameters {
    typename exit_gate::template parameters<S> gate;
  };
  template <class S>
    requires(!has_exit_gate)
  struct exit_parameters<S> {};

  /// Those of options.
  template <class S>
  struct further_parameters {
    [[no_unique_address]] optional_vector<S, Options::temperature ? H : 0, 0> temperature;
    [[no_unique_address]] optional_vector<S, has_biases ? key_rows * H : 0, 1> biases;          // [key_rows, H]
    [[no_unique_address]] optional_vector<S, has_gates ? gated_depths * key_heads : 0, 2> gates;  // [1 or source_rows, key_heads]
    [[no_unique_address]] optional_vector<S, has_sinks ? H : 0, 3> sinks;
    [[no_unique_address]] exit_parameters<S> exit;
  };

  template <class S>
  struct parameters {  // own context only
    typename query::template parameters<S> c_attn;
    typename projection::template parameters<S> c_proj;
    [[no_unique_address]] norm_parameters<S> norm;
    [[no_unique_address]] slope_parameters<S> distance;
    [[no_unique_address]] further_parameters<S> further;
  };
  template <class S>
    requires(!has_context)
  struct parameters<S> {
    typename query::template parameters<S> c_q;
    typename key_value::template parameters<S> c_kv;
    typename projection::template parameters<S> c_proj;
    [[no_unique_address]] norm_parameters<S> norm;
    [[no_unique_address]] slope_parameters<S> distance;
    [[no_unique_address]] further_parameters<S> further;
  };
  template <class S>
    requires(has_context && source_rows > 0)
  struct parameters<S> {
    typename query::template parameters<S> c_attn;
    typename projection::template parameters<S> c_proj;
    [[no_unique_address]] typename of_source::template parameters<S> c_kv;  // or c_v
    [[no_unique_address]] norm_parameters<S> norm;
    [[no_unique_address]] slope_parameters<S> distance;
    [[no_unique_address]] further_parameters<S> further;
  };
  template <class F, class Path, class... P>
  static constexpr void visit(const F& f, const Path& at, P&... p) {
    if constexpr (has_context) {
      query::visit(f, at / "c_attn", p.c_attn...);
      projection::visit(f, at / "c_proj", p.c_proj...);
      if constexpr (source_rows > 0) of_source::visit(f, at / source_name, p.c_kv...);
    } else {
      query::visit(f, at / "c_q", p.c_q...);
      key_value::visit(f, at / source_name, p.c_kv...);
      projection::visit(f, at / "c_proj", p.c_proj...);
    }
    if constexpr (norms::are_there) {
      query_norm::visit(f, at / "q_norm", p.norm.q...);
      key_norm::visit(f, at / "k_norm", p.norm.k...);
    }
    if constexpr (learns_slopes) f(at / "slopes", initial::alibi, p.distance.slopes...);
    if constexpr (Options::temperature) f(at / "temperature", initial::one, p.further.temperature.numbers...);
    if constexpr (has_biases) f(at / "depth_bias", initial::zero, p.further.biases.numbers...);
    if constexpr (has_gates) f(at / "gate", initial::zero, p.further.gates.numbers...);
    if constexpr (has_sinks) f(at / "sinks", initial::zero, p.further.sinks.numbers...);
    if constexpr (has_exit_gate) exit_gate::visit(f, at / "exit", p.further.exit.gate...);
  }

 private:
  static constexpr index query_heads_normed = norms::are_per_head ? H : 1;            // rows of a norm for each row of queries
  static constexpr index key_heads_normed = norms::are_per_head ? key_heads : 1;      // and of keys
  /// The extent of norms with `count` rows for each row of the pass.
  static constexpr extent normed_extent(const extent& e, index count) {
    return {.sequences = e.sequences, .tokens = e.tokens * count};
  }

 public:
  /// What norms of queries and keys keep. Their operands are compact, so that each head is a row.
  template <class T>
  struct norm_tape {
    matrix<T> q, k;        // [rows, Q], [rows * key_rows, K], before the norms
    matrix<T> normed;      // as large as the larger of them
    typename query_norm::template tape<T> of_q;
    typename key_norm::template tape<T> of_k;
    constexpr norm_tape(arena& a, const extent& e)
        : q(a.take<T>(e.rows(), Q)),
          k(a.take<T>(e.rows() * key_rows, K)),
          normed(a.take<T>(e.rows(), std::max(Q, key_rows * K))),
          of_q(a, normed_extent(e, query_heads_normed)),
          of_k(a, normed_extent(e, key_heads_normed * key_rows)) {}
  };
  template <class T>
    requires(!norms::are_there)
  struct norm_tape<T> : nothing {
    using nothing::nothing;
  };
  template <class T>
  struct tape {
    matrix<T> q;    // [rows, Q], queries; with own context [rows, Q + 2 K], queries, keys and values
    matrix<T> kv;   // [rows * key_rows, 2 K], keys and values; empty without a source
    matrix<T> out;  // [rows, Q], all heads, before the projection
    T* lse;         // [rows, H]
    norm_tape<T> norm;
    matrix<T> slopes;  // [1, H], those of the pass, if they are learned; for `weights`
    matrix<T> biases;  // [1, key_rows * H], likewise
    matrix<T> cool;    // [rows, Q], queries before the temperature
    matrix<T> open;    // [rows * source_rows, K], values of the source before the gates
    matrix<T> added;   // [rows, K], gated values to add, of one depth
    matrix<T> sinks;   // [1, H], their negatives
    matrix<T> margin, share;  // [rows, H]: a head takes share = sigmoid(margin) of what it attends to, if it has an exit
    matrix<T> taken;          // [rows, Q], that share, if the exit is a gate; with sinks, `out` is that
    constexpr tape(arena& a, const extent& e)
        : q(a.take<T>(e.rows(), query_columns)),
          kv(a.take<T>(D > 0 ? e.rows() * key_rows : 0, 2 * K)),
          out(a.take<T>(e.rows(), Q)),
          lse(a.take<T>(e.rows() * H)),
          norm(a, e),
          slopes(a.take<T>(learns_slopes ? 1 : 0, H)),
          biases(a.take<T>(has_biases ? 1 : 0, key_rows * H)),
          cool(a.take<T>(Options::temperature ? e.rows() : 0, Q)),
          open(a.take<T>(has_gates || A > 0 ? e.rows() * source_rows : 0, K)),
          added(a.take<T>(has_gates && A > 0 ? e.rows() : 0, K)),
          sinks(a.take<T>(has_sinks ? 1 : 0, H)),
          margin(a.take<T>(has_exit ? e.rows() : 0, H)),
          share(a.take<T>(has_exit ? e.rows() : 0, H)),
          taken(a.take<T>(has_exit_gate ? e.rows() : 0, Q)) {}
  };
  template <class T>
  struct scratch {
    matrix<T> dq;    // shaped like q, kv and out of the tape
    matrix<T> dkv;
    matrix<T> dout;
    T* delta;        // [rows, H]
    matrix<T> dnormed, draw;  // gradients after and before the norms, of queries or keys; empty without norms
    matrix<T> dslopes;        // [rows, H], each row's share of the gradient; empty without learned slopes
    matrix<T> dbiases;        // [rows * key_rows, H], likewise
    matrix<T> dots, dmargin;  // [rows, H], of the options that multiply heads; empty without them
    matrix<T> dadded;         // shaped like `added` of the tape
    constexpr scratch(arena& a, const extent& e)
        : dq(a.take<T>(e.rows(), query_columns)),
          dkv(a.take<T>(D > 0 ? e.rows() * key_rows : 0, 2 * K)),
          dout(a.take<T>(e.rows(), Q)),
          delta(a.take<T>(e.rows() * H)),
          dnormed(a.take<T>(norms::are_there ? e.rows() : 0, std::max(Q, key_rows * K))),
          draw(a.take<T>(norms::are_there ? e.rows() : 0, std::max(Q, key_rows * K))),
          dslopes(a.take<T>(learns_slopes ? e.rows() : 0, H)),
          dbiases(a.take<T>(has_biases ? e.rows() * key_rows : 0, H)),
          dots(a.take<T>(has_exit || has_gates || Options::temperature ? e.rows() : 0, H)),
          dmargin(a.take<T>(has_exit ? e.rows() : 0, H)),
          dadded(a.take<T>(has_gates && A > 0 ? e.rows() : 0, K)) {}
  };
  template <class T>
  using cache = key_value_cache<T, K, key_rows, Options::window, key_heads>;
  /// Truncated to this many tokens or more, a cache of `length` tokens holds all that the windows of later tokens reach.
  [[nodiscard]] static constexpr index least_length(index length, index capacity) {
    const index first = positions::held(capacity).first(0, length);
    return first > 0 ? first + Options::window - 1 : 0;
  }

  /// The values to publish, [rows, K], after forward or extend: those that are attended to, with what a source added to them.
  template <class T>
  [[nodiscard]] static matrix<T> published_rows(const tape<T>& t) {
    return values(keys_and_values(t.q, t.kv)).every(key_rows, 0);
  }

  template <class On, class P>
    requires(source_rows == 0)
  static void forward(const On& on, const P& p, const extent& e, input<On> x, input<On> residual, output<On> y,
                      const tape<scalar<On>>& t) {
    attend(on, p, e, x, {}, residual, y, t);
  }
  template <class On, class P>
    requires(source_rows > 0)
  static void forward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                      output<On> y, const tape<scalar<On>>& t) {
    attend(on, p, e, x, memory, residual, y, t);
  }
  template <class On, class P, class G>
    requires(source_rows == 0)
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> dy, output<On> dx,
                       const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    differentiate(on, p, e, x, {}, dy, dx, {}, t, g, s);
  }
  template <class On, class P, class G>
    requires(source_rows > 0)
  static void backward(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> dy,
                       output<On> dx, output<On> dmemory, const tape<scalar<On>>& t, G& g,
                       const scratch<scalar<On>>& s) {
    differentiate(on, p, e, x, memory, dy, dx, dmemory, t, g, s);
  }
  /// backward, with the gradient dpublished [rows, K] that other stages added to the published values.
  template <class On, class P, class G>
    requires(source_rows == 0)
  static void backward_published(const On& on, const P& p, const extent& e, input<On> x, input<On> dy, output<On> dx,
                                 input<On> dpublished, const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    differentiate(on, p, e, x, {}, dy, dx, {}, t, g, s, dpublished);
  }
  template <class On, class P, class G>
    requires(source_rows > 0)
  static void backward_published(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> dy, output<On> dx,
                                 output<On> dmemory, input<On> dpublished, const tape<scalar<On>>& t, G& g,
                                 const scratch<scalar<On>>& s) {
    differentiate(on, p, e, x, memory, dy, dx, dmemory, t, g, s, dpublished);
  }
  template <class On, class P, class T>
    requires(source_rows == 0)
  static void extend(const On& on, const P& p, const extent& e, input<On> x, input<On> residual, output<On> y,
                     const tape<scalar<On>>& t, const cache<T>& c) {
    attend_on(on, p, e, x, {}, residual, y, t, c);
  }
  template <class On, class P, class T>
    requires(source_rows > 0)
  static void extend(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                     output<On> y, const tape<scalar<On>>& t, const cache<T>& c) {
    attend_on(on, p, e, x, memory, residual, y, t, c);
  }
  /// The attention weights of a forward pass, w [sequences * H * tokens, tokens * key_rows]; columns are rows of keys.
  template <class On>
  static void weights(const On& on, const extent& e, const tape<scalar<On>>& t, output<On> w) {
    const auto k = keys(keys_and_values(t.q, t.kv));
    if constexpr (has_terms)
      attention_weights(on, shape(e, e.tokens), queries(t.q), k, t.lse, w,
                        distance_slopes<scalar<On>>{has_slopes, learns_slopes ? t.slopes.data : nullptr, has_biases ? t.biases.data : nullptr});
    else
      attention_weights(on, shape(e, e.tokens), queries(t.q), k, t.lse, w);
  }

  [[nodiscard]] static constexpr double flops(index tokens) {
    double sum = query::flops(tokens);
    if (has_exit_gate) sum += exit_gate::flops(tokens);
    if (source_rows > 0) sum += of_source::flops(tokens * source_rows);
    return sum + static_cast<double>(key_rows) * attention_flops(tokens) + projection::flops(tokens);
  }
  /// Scores and weighted sums for one row of keys per position. A causal query sees (tokens + 1) / 2 positions on
  /// average, fewer in a window.
  [[nodiscard]] static constexpr double attention_flops(index tokens) {
    const double all = static_cast<double>(tokens), seen = static_cast<double>(Options::window);
    if (!Options::causal) return 4.0 * Q * all * all;
    if (Options::window == 0 || Options::window >= tokens) return 2.0 * Q * all * (all + 1);
    return 2.0 * Q * seen * (seen + 1) + 4.0 * Q * (all - seen) * seen;
  }
  [[nodiscard]] static std::string describe() {
    std::string text = D == 0 ? Options::causal ? "causal self-attention, " : "self-attention, "
                       : has_context ? "joint attention, " : "shortcut attention, ";
    text += join(H, " heads of ", head_width);
    if (D > 0) text += join(has_context ? " over context and " : " over ", D, D == 1 ? " depth" : " depths");
    if (A > 0) text += join(", values of ", A, A == 1 ? " depth" : " depths", " added to its own");
    if (key_heads != H) text += join(", ", key_heads, " of keys and values");
    if (Options::window > 0) text += join(", a window of ", Options::window);
    if (has_slopes) text += learns_slopes ? ", learned slopes" : ", ALiBi's slopes";
    if constexpr (requires { Options::rotation::describe(); }) text += ", " + Options::rotation::describe();
    if (norms::are_there) text += norms::are_per_head ? ", norms of each head" : ", norms of queries and keys";
    if (Options::temperature) text += ", temperatures";
    if (has_biases) text += ", biases of depths";
    if (has_gates) text += gated_depths == source_rows && source_rows > 1 ? ", gates of heads and depths" : ", gates of heads";
    if (has_exit) text += has_sinks ? ", sinks" : ", an exit gate";
    return text;
  }

 private:
  static constexpr bool has_terms = has_slopes || has_biases;  // whether scores are more than products
  static constexpr index query_columns = has_context ? Q + 2 * K : Q;
  static constexpr std::string_view source_name = [] {
    std::string_view name;
    static_cast<void>(((name = Memories::source_rows > 0 ? Memories::name : name), ...));
    return name;
  }();

  template <class On, class P>
  static void attend(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                     output<On> y, const tape<scalar<On>>& t) {
    const auto kv = project(on, p, e, x, memory, t);
    if constexpr (learns_slopes) copy(on, input<On>(p.distance.slopes.data(), 1, H), t.slopes);
    if constexpr (has_biases) copy(on, input<On>(p.further.biases.numbers.data(), 1, key_rows * H), t.biases);
    attend_to(on, p, shape(e, e.tokens), queries(t.q), keys(kv), values(kv), t.out, t.lse);
    projection::forward_add(on, p.c_proj, taken(on, p, x, t), residual, y);
  }
  template <class On, class P, class T>
  static void attend_on(const On& on, const P& p, const extent& e, input<On> x, input<On> memory, input<On> residual,
                        output<On> y, const tape<scalar<On>>& t, const cache<T>& c) {
    static_assert(Options::causal, "fathom::attention: what is not causal cannot decode: a token changes those before it");
    const auto kv = project(on, p, e, x, memory, t);
    extent held = e;
    held.capacity = positions::places(e.capacity);
    held.held = positions::held(e.capacity, e.held.reached);
    using S = scalar<On>;
    const auto both = c.template parts<S>(0, 2);
    for (index n = 0; n < key_rows; ++n) attention_append(on, held, kv.every(key_rows, n), both, key_rows, n);
    attend_to(on, p, shape(held, held.capacity), queries(t.q), c.template parts<S>(0, 1), c.template parts<S>(1, 1), t.out,
              has_sinks ? t.lse : nullptr);
    if constexpr (Options::window > 0)
      if (held.held.at_least > 0) {
        attention_slide(on, held, c.kv, key_rows);
        if constexpr (std::is_same_v<T, std::int8_t>) attention_slide(on, held, c.scales, key_rows);
      }
    projection::forward_add(on, p.c_proj, taken(on, p, x, t), residual, y);
  }
  /// What heads take of what they attend to, after the exit: the input of the output projection, [rows, Q].
  template <class On, class P>
  static input<On> taken(const On& on, [[maybe_unused]] const P& p, [[maybe_unused]] input<On> x, const tape<scalar<On>>& t) {
    if constexpr (has_sinks) {
      using T = scalar<On>;
      const index rows = t.out.rows;
      elementwise(on, times{-1}, std::array<matrix<T>, 1>{t.sinks},
                  std::array<matrix<const T>, 1>{matrix<const T>(p.further.sinks.numbers.data(), 1, H)});
      copy(on, input<On>(t.lse, rows, H), t.margin);
      add(on, input<On>(t.sinks.data, rows, H, 0), t.margin);
      activation_forward(on, sigmoid{}, t.margin, t.share);
      scale_heads(on, t.out, t.share, t.out);
    } else if constexpr (has_exit_gate) {
      exit_gate::forward(on, p.further.exit.gate, x, t.margin);
      activation_forward(on, sigmoid{}, t.margin, t.share);
      scale_heads(on, t.out, t.share, t.taken);
    }
    return taken_of(t);
  }
  template <class T>
  static matrix<T> taken_of(const tape<T>& t) {
    return has_exit_gate ? t.taken : t.out;
  }
  /// dout, the gradient for `taken`, becomes that for the attention's result, of which attention_backward then sees what it needs:
  /// with p = exp(score - lse) and share = sigmoid(lse - sink), the gradient of a score through its weight and the share is
  /// p (share dtaken v - share dtaken taken), what attention_backward computes from dout = share dtaken and out = taken.
  template <class On, class P, class G>
  static void differentiate_exit(const On& on, const P&, input<On> x, const tape<scalar<On>>& t, G& g, const scratch<scalar<On>>& s) {
    dot_heads(on, s.dout, t.out, s.dots);
    if constexpr (has_sinks) {  // dsink = -(1 - share) dtaken taken
      gate_forward(on, identity{}, t.share, s.dots, s.dmargin);
      multiply(on, -1, s.dots);
      column_sums(on, s.dmargin, g.further.sinks.numbers.data());
      column_sums(on, s.dots, g.further.sinks.numbers.data());
    } else {
      activation_backward(on, sigmoid{}, t.margin, s.dots, s.dmargin);
      exit_gate::backward_parameters(on, x, s.dmargin, g.further.exit.gate);
    }
    scale_heads(on, s.dout, t.share, s.dout);
  }
  /// The gradients of the gates of the n-th depth; `gated`: that of the gated values, `open`: the values before.
  template <class On, class G>
  static void differentiate_gates(const On& on, input<On> gated, input<On> open, index n, const scratch<scalar<On>>& s, G& g) {
    const output<On> dots(s.dots.data, s.dots.rows, key_heads);
    dot_heads(on, gated, open, dots);
    column_sums(on, dots, g.further.gates.numbers.data() + (gated_depths > 1 ? n * key_heads : 0));
  }
  /// The gates of the n-th depth, for every row: [rows, key_heads].
  template <class On, class P>
  static input<On> gates_of(const P& p, index n, index rows) {
    return {p.further.gates.numbers.data() + (gated_depths > 1 ? n * key_heads : 0), rows, key_heads, 0};
  }
  /// Rows: matrices, or stored_rows.
  template <class On, class P, class Rows>
  static void attend_to(const On& on, [[maybe_unused]] const P& p, const attention_shape& s, input<On> q, const Rows& k, const Rows& v,
                        output<On> out, scalar<On>* lse) {
    if constexpr (has_terms)
      attention_forward(on, s, q, k, v, out, lse, slopes_from<On>(p));
    else
      attention_forward(on, s, q, k, v, out, lse);
  }
  template <class On, class P, class G>
  static void differentiate(const On& on, const P& p, const extent& e, input<On> x, [[maybe_unused]] input<On> memory,
                            input<On> dy, output<On> dx, [[maybe_unused]] output<On> dmemory, const tape<scalar<On>>& t, G& g,
                            const scratch<scalar<On>>& s, [[maybe_unused]] input<On> dpublished = {}) {
    projection::backward_parameters(on, taken_of(t), dy, g.c_proj);
    projection::backward_input(on, p.c_proj, dy, s.dout);
    if constexpr (has_exit) differentiate_exit(on, p, x, t, g, s);
    const auto kv = keys_and_values(t.q, t.kv), dkv = keys_and_values(s.dq, s.dkv);
    if constexpr (has_terms)
      attention_backward(on, shape(e, e.tokens), queries(t.q), keys(kv), values(kv), t.out, t.lse, s.dout, s.delta, queries(s.dq),
                         keys(dkv), values(dkv), slopes_from<On>(p), learns_slopes ? s.dslopes.data : nullptr,
                         has_biases ? s.dbiases.data : nullptr);
    else
      attention_backward(on, shape(e, e.tokens), queries(t.q), keys(kv), values(kv), t.out, t.lse, s.dout, s.delta,
                         queries(s.dq), keys(dkv), values(dkv));
    if constexpr (learns_slopes) column_sums(on, s.dslopes, g.distance.slopes.data());
    if constexpr (has_biases)
      for (index n = 0; n < key_rows; ++n) column_sums(on, s.dbiases.every(key_rows, n), g.further.biases.numbers.data() + n * H);
    // What is published is what is attended to: with what a source added.
    if constexpr (publishes)
      if (dpublished.data) add(on, dpublished, values(dkv).every(key_rows, 0));
    if constexpr (A > 0) {
      for (index n = 0; n < A; ++n) {
        output<On> d = values(dkv);
        if constexpr (has_gates) {
          differentiate_gates(on, d, t.open.every(A, n), n, s, g);
          scale_heads(on, d, gates_of<On>(p, n, d.rows), s.dadded);
          d = s.dadded;
        }
        added_value::backward_parameters(on, memory.every(A, n), d, g.c_kv);
        added_value::backward_input(on, p.c_kv, d, dmemory.every(A, n));
      }
    } else if constexpr (has_gates) {
      for (index n = 0; n < D; ++n) {
        const output<On> gated = values(dkv).every(key_rows, n + key_rows - D);
        differentiate_gates(on, gated, t.open.every(D, n), n, s, g);
        scale_heads(on, gated, gates_of<On>(p, n, gated.rows), gated);
      }
    }
    scale_queries(on, queries(s.dq));
    for_rotated(s.dq, dkv, [&](output<On> turning, index rows) { Options::rotation::template backward<head_width>(on, e, turning, rows); });
    if constexpr (Options::temperature) {
      dot_heads(on, queries(s.dq), t.cool, s.dots);
      column_sums(on, s.dots, g.further.temperature.numbers.data());
      scale_heads(on, queries(s.dq), temperatures<On>(p, t.cool.rows), queries(s.dq));
    }
    if constexpr (norms::are_there) {
      differentiate_norm<query_norm, query_heads_normed>(on, p.norm.q, t.norm.q, queries(s.dq), t.norm.of_q, g.norm.q, s);
      differentiate_norm<key_norm, key_heads_normed>(on, p.norm.k, t.norm.k, keys(dkv), t.norm.of_k, g.norm.k, s);
    }
    if constexpr (has_context && D > 0) copy(on, dkv.every(key_rows, 0), s.dq.columns_from(Q, 2 * K));
    query::backward_parameters(on, x, s.dq, query_of(g));
    query::backward_input(on, query_of(p), s.dq, dx);
    if constexpr (has_exit_gate) exit_gate::backward_input(on, p.further.exit.gate, s.dmargin, dx, epilogue::add{dx});
    if constexpr (!has_context) {
      key_value::backward_parameters(on, memory, dkv, g.c_kv);
      key_value::backward_input(on, p.c_kv, dkv, dmemory);
    } else if constexpr (D > 0) {
      for (index n = 0; n < D; ++n) {
        key_value::backward_parameters(on, memory.every(D, n), dkv.every(key_rows, n + 1), g.c_kv);
        key_value::backward_input(on, p.c_kv, dkv.every(key_rows, n + 1), dmemory.every(D, n));
      }
    }
  }

  /// Writes the queries to the tape and returns all keys and values, [rows * key_rows, 2 K].
  template <class On, class P>
  static output<On> project(const On& on, const P& p, const extent& e, input<On> x, [[maybe_unused]] input<On> memory,
                            const tape<scalar<On>>& t) {
    check_head_width<On, head_width>();
    query::forward(on, query_of(p), x, t.q);
    const output<On> kv = keys_and_values(t.q, t.kv);
    if constexpr (!has_context) {
      key_value::forward(on, p.c_kv, memory, kv);
    } else if constexpr (D > 0) {
      copy(on, t.q.columns_from(Q, 2 * K), kv.every(key_rows, 0));
      for (index n = 0; n < D; ++n) key_value::forward(on, p.c_kv, memory.every(D, n), kv.every(key_rows, n + 1));
    }
    if constexpr (norms::are_there) {
      apply_norm<query_norm, query_heads_normed>(on, p.norm.q, queries(t.q), t.norm.q, t.norm.normed, t.norm.of_q);
      apply_norm<key_norm, key_heads_normed>(on, p.norm.k, keys(kv), t.norm.k, t.norm.normed, t.norm.of_k);
    }
    if constexpr (Options::temperature) {
      copy(on, queries(t.q), t.cool);
      scale_heads(on, t.cool, temperatures<On>(p, t.cool.rows), queries(t.q));
    }
    if constexpr (A > 0) {
      for (index n = 0; n < A; ++n) {
        const output<On> open = t.open.every(A, n);
        added_value::forward(on, p.c_kv, memory.every(A, n), open);
        if constexpr (has_gates) {
          scale_heads(on, open, gates_of<On>(p, n, open.rows), t.added);
          add(on, t.added, values(kv));
        } else {
          add(on, open, values(kv));
        }
      }
    } else if constexpr (has_gates) {
      for (index n = 0; n < D; ++n) {
        const output<On> given = values(kv).every(key_rows, n + key_rows - D), kept = t.open.every(D, n);
        copy(on, given, kept);
        scale_heads(on, kept, gates_of<On>(p, n, kept.rows), given);
      }
    }
    for_rotated(t.q, kv, [&](output<On> turning, index rows) { Options::rotation::template forward<head_width>(on, e, turning, rows); });
    scale_queries(on, queries(t.q));
    return kv;
  }
  /// Queries, or their gradients, for scores that are not over sqrt(head_width), the kernels' own.
  template <class On>
  static void scale_queries([[maybe_unused]] const On& on, [[maybe_unused]] output<On> q) {
    if constexpr (Options::score_width > 0 && Options::score_width != head_width)
      multiply(on, std::sqrt(static_cast<double>(head_width) / static_cast<double>(Options::score_width)), q);
  }
  /// x [rows, heads * width] as [rows * heads, width]; the rows of x are adjacent.
  template <index Heads, class T>
  static matrix<T> heads_as_rows(const matrix<T>& x) {
    return {x.data, x.rows * Heads, x.columns / Heads};
  }
  /// x = Norm(x), head by head; keeps x in `before`.
  template <class Norm, index Heads, class On, class P, class Tape>
  static void apply_norm(const On& on, const P& p, output<On> x, output<On> before, output<On> room, const Tape& t) {
    const output<On> after(room.data, x.rows, x.columns);
    copy(on, x, before);
    Norm::forward(on, p, heads_as_rows<Heads>(before), heads_as_rows<Heads>(after), t);
    copy(on, after, x);
  }
  /// dx, the gradient for the norm's result, becomes that for its input.
  template <class Norm, index Heads, class On, class P, class Tape, class G>
  static void differentiate_norm(const On& on, const P& p, input<On> before, output<On> dx, const Tape& t, G& g,
                                 const scratch<scalar<On>>& s) {
    const output<On> dnormed(s.dnormed.data, dx.rows, dx.columns), draw(s.draw.data, dx.rows, dx.columns);
    copy(on, dx, dnormed);
    zero(on, draw);
    Norm::backward(on, p, heads_as_rows<Heads>(before), heads_as_rows<Heads>(dnormed), heads_as_rows<Heads>(draw), t, g);
    copy(on, draw, dx);
  }
  /// Calls f(x, rows per position) for the queries and the keys: together, if they are adjacent.
  template <class T, class F>
  static void for_rotated(const matrix<T>& q, const matrix<T>& kv, const F& f) {
    if constexpr (D == 0) {
      f(q.columns_from(0, Q + K), index{1});
    } else {
      f(queries(q), index{1});
      f(keys(kv), key_rows);
    }
  }

  template <class On, class P>
  static distance_slopes<scalar<On>> slopes_from([[maybe_unused]] const P& p) {
    distance_slopes<scalar<On>> slopes{.are_there = has_slopes};
    if constexpr (learns_slopes) slopes.learned = p.distance.slopes.data();
    if constexpr (has_biases) slopes.biases = p.further.biases.numbers.data();
    return slopes;
  }
  /// The temperature of each head, for every row: [rows, H].
  template <class On, class P>
  static input<On> temperatures(const P& p, index rows) {
    return {p.further.temperature.numbers.data(), rows, H, 0};
  }
  /// The projection that makes queries.
  template <class P>
  static auto& query_of(P& p) {
    if constexpr (has_context)
      return p.c_attn;
    else
      return p.c_q;
  }
  template <class T>
  static matrix<T> keys_and_values(const matrix<T>& q, const matrix<T>& kv) {
    return D > 0 ? kv : q.columns_from(Q, 2 * K);
  }
  template <class T>
  static matrix<T> queries(const matrix<T>& q) {
    return q.columns_from(0, Q);
  }
  template <class T>
  static matrix<T> keys(const matrix<T>& kv) {
    return kv.columns_from(0, K);
  }
  template <class T>
  static matrix<T> values(const matrix<T>& kv) {
    return kv.columns_from(K, K);
  }
  static attention_shape shape(const extent& e, index positions) {
    return {.sequences = e.sequences,
            .queries = e.tokens,
            .heads = H,
            .head_width = head_width,
            .rows_per_position = key_rows,
            .memory_rows = positions * key_rows,
            .starts = e.starts,
            .first = e.first,
            .kv_heads = key_heads,
            .window = Options::window,
            .sees_all = !Options::causal,
            .held = e.held};
  }
};

}  // namespace fathom::layers

namespace fathom {

// ---- Options of attention, as parts: attention<8, kv_heads<2>, window<256>> -----------------------------------------------
// Each has its field and changes the options of a layer.

/// Grouped-query attention: the number of key-value heads, each shared by several query heads.
template <index Count>
struct kv_heads {
  static constexpr auto option = field<"kv_heads">(Count);
  template <class Options>
  struct of : Options {
    static constexpr index kv_heads = Count;
  };
};
/// The number of positions that a query sees, up to and including its own.
template <index Positions>
struct window {
  static constexpr auto option = field<"window">(Positions);
  template <class Options>
  struct of : Options {
    static constexpr index window = Positions;
  };
};
/// The width of a head, if not width / heads.
template <index Width>
struct head_width {
  static constexpr auto option = field<"head_width">(Width);
  template <class Options>
  struct of : Options {
    static constexpr index head_width = Width;
  };
};
/// Scores are products of queries and keys over sqrt(Width), in place of the root of the heads' width (Gemma 3 27B).
template <index Width>
struct score_width {
  static constexpr auto option = field<"score_width">(Width);
  template <class Options>
  struct of : Options {
    static constexpr index score_width = Width;
  };
};
/// Publishes the attention's values for sources of later blocks, in channel<NAME, key-value heads * head width>.
template <fixed_string Name>
struct publish_values {
  static constexpr auto option = field<"publish_values">(static_cast<const char*>(Name.text));
  template <class Options>
  struct of : Options {
    static constexpr auto values_name = Name;
  };
};
/// A norm of each head's queries and keys, before they turn (Qwen 3).
template <class Norm>
struct head_norms {
  static constexpr auto option = field<"head_norms">(part_of<Norm>{});
  template <class Options>
  struct of : Options {
    using head_norms = layers::head_norms_of<Norm, true>;
  };
};
/// A norm of all heads' queries, and one of all heads' keys, before they turn (OLMo 2).
template <class Norm>
struct query_key_norms {
  static constexpr auto option = field<"query_key_norms">(part_of<Norm>{});
  template <class Options>
  struct of : Options {
    using head_norms = layers::head_norms_of<Norm, false>;
  };
};
namespace detail {
template <class Option>
inline constexpr bool is_head_norms = false;
template <class Norm>
inline constexpr bool is_head_norms<head_norms<Norm>> = true;
}  // namespace detail
/// Positions as distances: scores fall with the distance between query and key, by a slope for each head: ALiBi's (Press et
/// al., arXiv 2108.12409), as in BLOOM and MPT. Such a model needs no positions in its embedding.
struct alibi {
  static constexpr auto option = field<"slopes">("alibi");
  template <class Options>
  struct of : Options {
    static constexpr auto slopes = layers::slopes_of_heads::alibi;
  };
};
/// The same with slopes that are learned, from ALiBi's on: the tensor slopes [heads] of the attention.
struct learned_slopes {
  static constexpr auto option = field<"slopes">("learned");
  template <class Options>
  struct of : Options {
    static constexpr auto slopes = layers::slopes_of_heads::learned;
  };
};
/// Queries times a learned number for each head, from 1, after their norm: the tensor temperature [heads]. With head_norms, scores
/// are then temperature times a cosine times sqrt(head width) (Henry et al., arXiv 2010.04245).
struct temperature {
  static constexpr auto option = field<"temperature">(true);
  template <class Options>
  struct of : Options {
    static constexpr bool temperature = true;
  };
};
/// Scores have a learned bias for each head and row of a position, from 0: the tensor depth_bias [rows of a position, heads]. With a
/// source, these are its depths; before them is the own context, if the attention has one.
struct depth_biases {
  static constexpr auto option = field<"depth_biases">(true);
  template <class Options>
  struct of : Options {
    static constexpr bool depth_biases = true;
  };
};
/// Values of a source times a learned number for each key-value head, from 0: the tensor gate [key-value heads]. Without an own
/// context, the layer then adds nothing at first, although its projections start as ever.
struct head_gates {
  static constexpr auto option = field<"gates">("heads");
  template <class Options>
  struct of : Options {
    static constexpr auto gates = layers::gates_of_source::heads;
  };
};
/// The same for each depth: the tensor gate [depths, key-value heads].
struct head_and_depth_gates {
  static constexpr auto option = field<"gates">("heads and depths");
  template <class Options>
  struct of : Options {
    static constexpr auto gates = layers::gates_of_source::heads_and_depths;
  };
};
/// Each head's softmax has a further, learned logit, whose value is 0: the tensor sinks [heads].
struct head_sinks {
  static constexpr auto option = field<"exit">("sink");
  template <class Options>
  struct of : Options {
    static constexpr auto exit = layers::exit_of_heads::sink;
  };
};
/// Heads times sigmoid(x W + b), x the layer's input: the tensors exit.weight [E, heads] and exit.bias.
struct exit_gates {
  static constexpr auto option = field<"exit">("sigmoid");
  template <class Options>
  struct of : Options {
    static constexpr auto exit = layers::exit_of_heads::sigmoid;
  };
};
/// The projection of a source's rows starts so that rows of unit scale become keys and values of unit scale.
struct unit_key_values {
  static constexpr auto option = field<"key_value_start">("unit");
  template <class Options>
  struct of : Options {
    static constexpr initial key_value_initial = initial::unit;
  };
};
/// No bias of the output projection, as in Qwen 2.
struct no_output_bias {
  static constexpr auto option = field<"output_bias">(false);
  template <class Options>
  struct of : Options {
    static constexpr bool output_bias = false;
  };
};
/// Projections without biases.
struct no_bias {
  static constexpr auto option = field<"bias">(false);
  template <class Options>
  struct of : Options {
    static constexpr bool bias = false;
  };
};

/// Causal self-attention as a part.
template <index Heads, class... Options>
struct attention {
  static constexpr auto options = fields(field<"heads">(Heads), Options::option...);
  template <class At>
  using bind = layers::attention<At::width, Heads, typename detail::changed_options<layers::attention_options, Options...>::type,
                                 layers::own_context>;
};

}  // namespace fathom
