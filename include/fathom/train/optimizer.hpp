// Optimisers, and how to write one.
//
// An optimiser is a class made from a rule, which is a type with only static members. sgd.hpp is a short example. Your
// own optimiser is one small file:
//
//   struct mine_options {
//     float rate = 1e-3f;   // required
//     float clip = 1.0f;    // required: the largest global norm of the gradients; 0: none
//     float decay = 0.1f;   // optional: weight decay of tensors with two dimensions; groups can change it
//     float beta = 0.9f;    // any other options of the rule
//   };
//   struct mine_rule {
//     using options = mine_options;
//     static constexpr std::string_view name = "mine";                         // for errors and checkpoints
//     static constexpr std::array<std::string_view, 1> states{"mine.moment"};  // states of each weight, zero at first;
//                                                                              // for tensor W, checkpoints hold the
//                                                                              // tensor "mine.moment.W"
//     // Calls f(name, option) for every option that affects the result. An option is a bool or a number. Checkpoints
//     // hold these options; a run can be resumed only with the same values.
//     template <class F> static void visit(const F& f, const options& o) {
//       f("rate", o.rate), f("clip", o.clip), f("decay", o.decay), f("beta", o.beta);
//     }
//     // Whether the options are valid, and the expected values for the error if not. All are already known to be
//     // finite and 0 or more.
//     static bool is_valid(const options& o) { return o.beta < 1; }
//     static constexpr std::string_view expected = "beta below 1";
//
//     // A step in the type T of the weights (float or double). Its members hold what is the same for all weights.
//     template <class T> struct formula {
//       T rate, keep, beta;
//       // Takes the weight, its clipped gradient, and a reference to each state. V is T or a SIMD batch of T. On a
//       // GPU, this runs in a kernel. See backend/update.hpp.
//       template <class V> FATHOM_ANYWHERE void operator()(V& w, const V& g, V& moment) const {
//         moment = V(beta) * moment + g;
//         w = V(keep) * w - V(rate) * sign_of(moment);
//       }
//     };
//     template <class T> static formula<T> formula_of(const options& o, const step_settings& s) {
//       return {static_cast<T>(s.rate), static_cast<T>(1 - s.rate * s.decay), static_cast<T>(o.beta)};
//     }
//   };
//   template <class Model> using mine = fathom::optimizer_of<Model, mine_rule>;
//
//   mine<net> by_hand({.rate = 1e-2f});                                        // like fathom::adamw<net>
//   fathom::trainer<net, mine> trainer({.steps = 1000, .optimizer = {.rate = 1e-2f}});
//
// The library adds everything else: clipping, groups, schedules, checkpoints and resuming, any number of threads, all
// backends. A program that links fathom::kernels must also include <fathom/functors.hpp>.
//
// A rule may update whole matrices, the weights [in, out] of linear layers, differently from all other tensors, as
// muon.hpp does. Then it also has
//
//   static index workspace(index rows, index columns);   // workspace size in numbers, for a matrix of this size
//   template <class On, class T, std::size_t N>          // on: a context of any backend (backend/operations.hpp)
//   static void update_matrix(const On& on, const options& o, const step_settings& s, T gradient_scale, matrix<T> w, matrix<T> g,
//                             const std::array<T*, N>& state, T* workspace);
//
// which updates w and the states [rows * columns]. It may overwrite g, which is zeroed afterwards.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/backend/backend.hpp"
#include "fathom/backend/operations.hpp"
#include "fathom/backend/update.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/layout.hpp"
#include "fathom/model/tensor_table.hpp"
#include "fathom/model/trained.hpp"
#include "fathom/train/groups.hpp"
#include "fathom/train/sharding.hpp"

namespace fathom {

/// The settings of a step for a tensor.
struct step_settings {
  double rate;   // learning rate, from the schedule and the tensor's group
  double decay;  // 0 for tensors that are not decayed
  index step;    // from 1
};

namespace detail {
struct option_visitor {
  template <class T>
  void operator()(std::string_view, const T&) const {}
};
template <class Formula, class T, class States>
inline constexpr bool is_formula_of = false;
template <class Formula, class T, std::size_t... N>
inline constexpr bool is_formula_of<Formula, T, std::index_sequence<N...>> =
    std::is_invocable_v<const Formula&, T&, const T&, std::enable_if_t<N + 1 != 0, T&>...>;
/// Whether a formula takes a weight, a gradient and so many states.
template <class Formula, class T, std::size_t States>
concept takes_weight_gradient_and_each_state = is_formula_of<Formula, T, std::make_index_sequence<States>>;
}  // namespace detail

/// The requirements of a rule; the top of this header explains them.
template <class Rule, class T = float>
concept optimizer_rule = requires { typename Rule::options; } && requires(const typename Rule::options& o, const step_settings& s) {
  requires std::default_initializable<typename Rule::options>;
  { o.rate } -> std::convertible_to<double>;
  { o.clip } -> std::convertible_to<double>;
  { Rule::name } -> std::convertible_to<std::string_view>;
  { std::size(Rule::states) } -> std::convertible_to<std::size_t>;
  Rule::visit(detail::option_visitor{}, o);
  { Rule::is_valid(o) } -> std::convertible_to<bool>;
  { Rule::expected } -> std::convertible_to<std::string_view>;
  { Rule::template formula_of<T>(o, s) } -> std::same_as<typename Rule::template formula<T>>;
  requires std::is_trivially_copyable_v<typename Rule::template formula<T>>;
  requires detail::takes_weight_gradient_and_each_state<typename Rule::template formula<T>, T, std::size(Rule::states)>;
};
/// Whether a rule has its own update for matrices.
template <class Rule>
concept matrix_rule = requires(index n) {
  { Rule::workspace(n, n) } -> std::convertible_to<index>;
};

/// An option of a rule, as stored in a checkpoint.
struct option_value {
  std::string name;
  double number;
  bool is_flag;
};

/// What a trainer requires of an optimiser. optimizer_of provides it for every rule.
template <class O>
concept optimizer = requires {
  typename O::options;
  typename O::rule;
  typename O::parameters;
  typename O::executor;
  { O::state_count } -> std::convertible_to<std::size_t>;
} && requires(O& o, const O& c, typename O::parameters& p, double rate, std::span<const parameter_group> groups,
              std::array<owned<typename O::parameters>, O::state_count> states) {
  requires std::constructible_from<O, const typename O::options&, typename O::executor>;
  o.set_groups(groups);
  { c.settings() } -> std::convertible_to<std::span<const tensor_setting>>;
  { c.lowest_trained() } -> std::convertible_to<lowest_stage>;
  o.start_step(p, p, rate);
  { o.finish_step() } -> std::convertible_to<double>;
  { c.steps() } -> std::convertible_to<index>;
  { c.state(std::size_t{}) } -> std::same_as<const typename O::parameters&>;
  o.reset();
  o.restore(std::move(states), index{});
};

/// What a trainer requires besides to share a step with other ranks. optimizer_of provides it on backends in host memory.
template <class O>
concept sharded_optimizer = optimizer<O> && requires(O& o, const O& c, typename O::parameters& p, double rate, std::size_t n, index steps,
                                                     std::span<const double> all_squares) {
  requires std::constructible_from<O, const typename O::options&, typename O::executor, const sharing&>;
  { c.shards() } -> std::convertible_to<std::span<const shard>>;
  o.start_step(p, p, rate);
  { c.squares_of_shard() } -> std::convertible_to<std::vector<double>>;
  { o.finish_shard(all_squares) } -> std::convertible_to<double>;
  { o.bytes_of_shard(n) } -> std::convertible_to<std::span<std::byte>>;
  o.set_steps(steps);
};

namespace detail {
/// Options with other libraries' names for their fields, so that a wrong name gives a helpful error. If the rule has no
/// such type, this is one that nothing converts to.
template <class Rule>
struct misnamed_options {
  class type {
    type(type&, type&) {}
  };
};
template <class Rule>
  requires requires { typename Rule::misnamed; }
struct misnamed_options<Rule> {
  using type = typename Rule::misnamed;
};

/// The weight decay; 0 if the options have none.
template <class Options>
[[nodiscard]] constexpr double decay_in(const Options& o) {
  if constexpr (requires { o.decay; })
    return o.decay;
  else
    return 0;
}

/// The default implementation of a step over whole parameter blocks: tensor by tensor, all within finish(). A backend
/// can replace it with its own type `steps`.
struct tensor_steps {
  template <class Model, class Formula, std::size_t States>
  class of {
    using parameters = trained_of<Model>;
    using executor = typename Model::executor;
    using scalar = typename Model::scalar;

   public:
    /// Sets the ranges to update, with formulas of `kinds` kinds. `ranges` and the formulas must outlive this.
    void plan(std::span<const step_range> ranges, std::size_t) { ranges_ = ranges; }
    void start(const executor&, parameters& w, parameters& g, const std::array<parameters*, States>& states,
               std::span<const Formula> formulas, float clip) {
      std::array<scalar*, States> begins{};
      for (std::size_t i = 0; i < States; ++i) begins[i] = numbers(*states[i]);
      start_shard(w, g, begins, 0, formulas, clip);
    }
    /// The same where the states begin at number `first` of the block.
    void start_shard(parameters& w, parameters& g, const std::array<scalar*, States>& states, index first, std::span<const Formula> formulas,
                     float clip) {
      w_ = numbers(w);
      g_ = numbers(g);
      states_ = states;
      first_ = first;
      formulas_ = formulas;
      clip_ = clip;
    }
    /// Takes the step and returns the norm of the gradients. If it is not finite, nothing changes.
    [[nodiscard]] double finish(const executor& where) const {
      double norm = 0;
      where.run([&](const auto& on) {
        double squares = 0;
        for (const step_range& r : ranges_)
          if (r.kind != step_range::frozen) squares += sum_of_squares(on, g_ + r.first, r.size);
        const double n = std::sqrt(squares);
        if (on.rank() == 0) norm = n;
        if (!std::isfinite(n)) return;  // every rank sees the same sum
        step_all(on, ranges_, n);
      });
      return norm;
    }
    /// The two halves of finish, for the ranges of a shard: the squares of each range, and the step, once the norm of all
    /// gradients is known to be finite.
    [[nodiscard]] std::vector<double> squares_of(const executor& where, const shard& own) const {
      std::vector<double> squares(own.last_range - own.first_range);
      where.run([&](const auto& on) {
        for (std::size_t i = 0; i < squares.size(); ++i) {
          const step_range& r = ranges_[own.first_range + i];
          if (r.kind == step_range::frozen) continue;
          const double sum = sum_of_squares(on, g_ + r.first, r.size);
          if (on.rank() == 0) squares[i] = sum;
        }
      });
      return squares;
    }
    void finish_shard(const executor& where, const shard& own, double norm) const {
      where.run([&](const auto& on) { step_all(on, ranges_.subspan(own.first_range, own.last_range - own.first_range), norm); });
    }

   private:
    static scalar* numbers(parameters& p) { return reinterpret_cast<scalar*>(&p); }
    template <class On>
    void step_all(const On& on, std::span<const step_range> ranges, double n) const {
      const auto scale = static_cast<scalar>(clip_ > 0 && n > static_cast<double>(clip_) ? static_cast<double>(clip_) / n : 1.0);
      for (const step_range& r : ranges)
        if (r.kind == step_range::frozen)
          zero(on, matrix<scalar>(g_ + r.first, 1, r.size));
        else if (r.kind != step_range::left)
          step(on, r, scale, std::make_index_sequence<States>());
    }
    template <class On, std::size_t... N>
    void step(const On& on, const step_range& r, scalar scale, std::index_sequence<N...>) const {
      const gradient_step<Formula, scalar> f{formulas_[static_cast<std::size_t>(r.kind)], scale};
      update(on, f, r.size, w_ + r.first, g_ + r.first, states_[N] + (r.first - first_)...);
    }

    std::span<const step_range> ranges_;
    std::span<const Formula> formulas_;
    scalar *w_ = nullptr, *g_ = nullptr;
    std::array<scalar*, States> states_{};
    index first_ = 0;  // the number of the block at which the states begin
    float clip_ = 0;
  };
};
template <class Backend>
struct steps_of {
  using type = tensor_steps;
};
template <class Backend>
  requires backend_traits<Backend>::has_steps
struct steps_of<Backend> {
  using type = typename Backend::steps;
};
}  // namespace detail

/// The optimiser of a rule for a model: owns the states and takes steps.
template <class Model, class Rule>
class optimizer_of {
  static_assert(optimizer_rule<Rule, typename Model::scalar>,
                "fathom::optimizer_of: this is not the rule of an optimiser; train/optimizer.hpp says what one has");
  using scalar = typename Model::scalar;
  using formula = typename Rule::template formula<scalar>;
  using memory = memory_of<typename Model::backend>;
  static constexpr bool can_be_shared = std::is_same_v<typename detail::steps_of<typename Model::backend>::type, detail::tensor_steps>;

 public:
  using model = Model;
  using rule = Rule;
  using options = typename Rule::options;
  using parameters = trained_of<Model>;  // of a model that trains only a part of itself, that part (model/trained.hpp)
  using executor = typename Model::executor;
  static constexpr std::size_t state_count = std::size(Rule::states);

  /// Fails on invalid options. With several ranks, it keeps only the states of this rank's shard.
  explicit optimizer_of(const options& o = {}, executor where = {}, const sharing& with = {})
      : options_((check(o), o)), where_(where), sharing_(with) {
    if (!is_shared())
      for (auto& state : states_) state = make<parameters>();
    set_groups({});
  }
  explicit optimizer_of(detail::nothing_at_all, executor where = {}) : optimizer_of(options{}, where) {}
  template <class Habit = typename detail::misnamed_options<Rule>::type>
    requires std::is_same_v<Habit, typename detail::misnamed_options<Rule>::type>
  explicit optimizer_of(Habit, executor = {}) : optimizer_of(options{}) {
    Habit::template complain<Habit>();
  }

  /// Sets the parameter groups, before the first step if ranks share it. Fails on invalid groups (groups.hpp).
  void set_groups(std::span<const parameter_group> groups) {
    const auto like = state_count > 0 || is_shared() ? nullptr : make<parameters>();
    const tensor_table table =
        trained_table_of<Model>(is_shared() ? *static_cast<const parameters*>(sharing_.like) : state_count > 0 ? *states_[0] : *like);
    settings_ = detail::resolve(groups, table);
    ranges_.clear();
    kinds_.clear();
    matrices_.clear();
    index workspace = 0;
    for (std::size_t t = 0; t < table.size(); ++t) {
      const tensor_row& row = table[t];
      const tensor_setting& setting = settings_[t];
      const kind wanted{setting.rate, setting.decay.value_or(row.shape.size() == 2 ? detail::decay_in(options_) : 0.0)};
      step_range range{static_cast<index>(row.offset / sizeof(scalar)), row.size, step_range::frozen};
      if (!setting.frozen) {
        bool is_left = false;
        if constexpr (matrix_rule<Rule>)
          if (row.role == role::matrix) {
            is_left = true;
            matrices_.push_back({range.first, row.shape[0], row.shape[1], wanted});
            workspace = std::max<index>(workspace, Rule::workspace(row.shape[0], row.shape[1]));
          }
        range.kind = is_left ? step_range::left : number_of(wanted);
      }
      // The numbers of a range are in one shard.
      const index most = range.kind == step_range::left ? range.size : sharing_.largest_range;
      for (index first = 0; first < range.size; first += most)
        ranges_.push_back({range.first + first, std::min(most, range.size - first), range.kind});
    }
    // Tensors come in the order of a pass, which is not quite that of memory.
    if (sharing_.largest_range < std::numeric_limits<index>::max())
      std::sort(ranges_.begin(), ranges_.end(), [](const step_range& a, const step_range& b) { return a.first < b.first; });
    shards_ = shards_of(ranges_, sharing_.ranks);
    if (is_shared())
      for (auto& state : state_shards_) state = buffer_in<memory>(static_cast<std::size_t>(own().size()) * sizeof(scalar));
    formulas_.resize(kinds_.size());
    workspace_ = buffer_in<memory>(static_cast<std::size_t>(workspace) * sizeof(scalar));
    steps_of_block_.plan(ranges_, kinds_.size());
    std::set<std::string, std::less<>> trained;
    for (std::size_t t = 0; t < table.size(); ++t)
      if (!settings_[t].frozen) trained.insert(table[t].name);
    // What is trained is the model's tensor, or belongs to it: its name then begins with the tensor's (low_rank.hpp).
    lowest_trained_ = lowest_stage_with<typename Model::architecture>([&](std::string_view name) {
      const auto found = trained.lower_bound(name);
      return found != trained.end() && found->starts_with(name);
    });
  }
  /// The settings from the groups, for each tensor in memory order.
  [[nodiscard]] std::span<const tensor_setting> settings() const { return settings_; }
  /// The lowest stage with a tensor to train. Model::forward_backward skips the gradients below it.
  [[nodiscard]] lowest_stage lowest_trained() const { return lowest_trained_; }

  /// Takes a step at the rate of the options, or at another rate. Zeroes the gradients. Returns their global norm
  /// before clipping. Fails when the norm is not finite; weights, states and step count then stay the same, and the
  /// gradients are zeroed, so that training can continue with the next batch.
  double step(parameters& weights, parameters& gradients) { return step(weights, gradients, static_cast<double>(options_.rate)); }
  double step(parameters& weights, parameters& gradients, double rate) {
    const double norm = try_step(weights, gradients, rate);
    if (!std::isfinite(norm)) fail(Rule::name, ".step: the norm of the gradients is ", norm, " at step ", steps_ + 1);
    return norm;
  }
  /// The same, but returns a non-finite norm instead of failing.
  double try_step(parameters& weights, parameters& gradients, double rate) {
    start_step(weights, gradients, rate);
    return finish_step();
  }
  /// The two halves of a step: start_step enqueues it on a GPU without waiting; finish_step waits and returns the norm.
  /// In between, weights and gradients must stay in place and unchanged.
  void start_step(parameters& weights, parameters& gradients, double rate) {
    if (!(rate >= 0) || !std::isfinite(rate)) fail(Rule::name, ".step: a rate of ", rate, "; expected a finite one, 0 or more");
    for (std::size_t k = 0; k < kinds_.size(); ++k) formulas_[k] = Rule::template formula_of<scalar>(options_, settings_of(kinds_[k], rate));
    started_ = {&weights, &gradients, rate};
    if constexpr (can_be_shared)
      if (is_shared()) {
        std::array<scalar*, state_count> states{};
        for (std::size_t i = 0; i < state_count; ++i) states[i] = reinterpret_cast<scalar*>(bytes_of_shard(i).data());
        steps_of_block_.start_shard(weights, gradients, states, own().first, formulas_, options_.clip);
        return;
      }
    std::array<parameters*, state_count> states{};
    for (std::size_t i = 0; i < state_count; ++i) states[i] = states_[i].get();
    steps_of_block_.start(where_, weights, gradients, states, formulas_, options_.clip);
  }
  double finish_step() {
    const double norm = steps_of_block_.finish(where_);
    if (std::isfinite(norm)) {
      if constexpr (matrix_rule<Rule>) step_matrices(norm);
      ++steps_;
    } else {  // the next batch would be added to non-finite gradients
      memory_of<parameters>::zero(started_.gradients, sizeof(parameters));
    }
    return norm;
  }

  // A step that ranks share: start_step; squares_of_shard, of the gradients of all ranks in this rank's shard; finish_shard, which
  // updates the weights of the shard and zeroes its gradients. The other weights come from the other ranks.

  /// The shard of every rank.
  [[nodiscard]] std::span<const shard> shards() const { return shards_; }
  /// The squares of each range of this rank's shard.
  [[nodiscard]] std::vector<double> squares_of_shard() const
    requires can_be_shared
  {
    return steps_of_block_.squares_of(where_, own());
  }
  /// Takes the step, given the squares of all ranges. Returns the norm. If it is not finite, nothing changes.
  double finish_shard(std::span<const double> all_squares)
    requires can_be_shared
  {
    double squares = 0;
    for (std::size_t i = 0; i < all_squares.size(); ++i)
      if (ranges_[i].kind != step_range::frozen) squares += all_squares[i];
    const double norm = std::sqrt(squares);
    if (!std::isfinite(norm)) return norm;
    steps_of_block_.finish_shard(where_, own(), norm);
    if constexpr (matrix_rule<Rule>) step_matrices(norm);
    ++steps_;
    return norm;
  }
  /// A state of this rank's shard. For several ranks.
  [[nodiscard]] std::span<std::byte> bytes_of_shard(std::size_t n) { return state_shards_[n].bytes(); }
  /// Continues after so many steps, with the states as they are.
  void set_steps(index steps) { steps_ = steps; }

  /// Steps taken so far, and the states. Checkpoints hold both. If several ranks share the states, none has them all.
  [[nodiscard]] index steps() const { return steps_; }
  [[nodiscard]] const parameters& state(std::size_t n) const {
    if (is_shared()) fail(Rule::name, ".state: the states are shared out over ", sharing_.ranks, " ranks");
    return *states_[n];
  }
  /// Zeroes the states and the step count.
  void reset() {
    for (auto& state : states_)
      if (state) memory::zero(state.get(), sizeof(parameters));
    for (auto& state : state_shards_)
      if (!state.bytes().empty()) memory::zero(state.bytes().data(), state.bytes().size());
    steps_ = 0;
  }
  /// Continues from these states.
  void restore(std::array<owned<parameters>, state_count> states, index steps) {
    states_ = std::move(states);
    steps_ = steps;
  }

  /// Options by name.
  [[nodiscard]] static std::vector<option_value> values_of(const options& o) {
    std::vector<option_value> values;
    Rule::visit(
        [&](std::string_view name, const auto& value) {
          values.push_back({std::string(name), static_cast<double>(value), std::is_same_v<std::remove_cvref_t<decltype(value)>, bool>});
        },
        o);
    return values;
  }

 private:
  /// Tensors with equal settings share a kind, and so a formula.
  struct kind {
    double rate;  // a factor
    double decay;
    bool operator==(const kind&) const = default;
  };
  struct matrix_place {
    index first, rows, columns;
    kind how;
  };

  /// Whether several ranks share the states.
  [[nodiscard]] bool is_shared() const { return sharing_.ranks > 1; }
  [[nodiscard]] const shard& own() const { return shards_[static_cast<std::size_t>(sharing_.rank)]; }

  static void check(const options& o) {
    bool is_valid = true;
    std::string text;
    for (const option_value& value : values_of(o)) {
      is_valid = is_valid && value.number >= 0 && std::isfinite(value.number);
      text += join(text.empty() ? " " : ", ", value.name, " ", value.number);
    }
    if (!is_valid || !Rule::is_valid(o)) fail(Rule::name, ":", text, "; expected ", Rule::expected);
  }
  [[nodiscard]] int number_of(const kind& wanted) {
    for (std::size_t k = 0; k < kinds_.size(); ++k)
      if (kinds_[k] == wanted) return static_cast<int>(k);
    kinds_.push_back(wanted);
    return static_cast<int>(kinds_.size()) - 1;
  }
  [[nodiscard]] step_settings settings_of(const kind& k, double rate) const { return {rate * k.rate, k.decay, steps_ + 1}; }

  void step_matrices(double norm) {
    const auto clip = static_cast<double>(options_.clip);
    const auto scale = static_cast<scalar>(clip > 0 && norm > clip ? clip / norm : 1.0);
    auto* const w = reinterpret_cast<scalar*>(started_.weights);
    auto* const g = reinterpret_cast<scalar*>(started_.gradients);
    auto* const workspace = reinterpret_cast<scalar*>(workspace_.bytes().data());
    where_.run([&](const auto& on) {
      for (const matrix_place& m : matrices_) {
        if (is_shared() && (m.first < own().first || m.first >= own().last)) continue;
        std::array<scalar*, state_count> states{};
        for (std::size_t i = 0; i < state_count; ++i)
          states[i] = is_shared() ? reinterpret_cast<scalar*>(state_shards_[i].bytes().data()) + (m.first - own().first)
                                  : reinterpret_cast<scalar*>(states_[i].get()) + m.first;
        const matrix<scalar> gradient(g + m.first, m.rows, m.columns);
        Rule::update_matrix(on, options_, settings_of(m.how, started_.rate), scale, matrix<scalar>(w + m.first, m.rows, m.columns),
                            gradient, states, workspace);
        zero(on, gradient);
      }
    });
  }

  options options_;
  executor where_;
  sharing sharing_;
  std::array<owned<parameters>, state_count> states_;        // empty if several ranks share them, but then
  std::array<buffer_in<memory>, state_count> state_shards_;  // the numbers of this rank's shard
  std::vector<tensor_setting> settings_;
  std::vector<step_range> ranges_;
  std::vector<shard> shards_;
  std::vector<kind> kinds_;
  std::vector<formula> formulas_;  // one for each kind
  std::vector<matrix_place> matrices_;
  buffer_in<memory> workspace_;
  typename detail::steps_of<typename Model::backend>::type::template of<Model, formula, state_count> steps_of_block_;
  lowest_stage lowest_trained_{};
  struct {
    parameters *weights = nullptr, *gradients = nullptr;
    double rate = 0;
  } started_;
  index steps_ = 0;
};

}  // namespace fathom
