// The training loop, for any optimiser: random windows, gradient accumulation, schedule, evaluation, log, checkpoints,
// resume; alone, or in a group of processes (group.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/data/batches.hpp"
#include "fathom/data/token_source.hpp"
#include "fathom/io/adapter.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/model/initialize.hpp"
#include "fathom/model/summary.hpp"
#include "fathom/train/adamw.hpp"
#include "fathom/train/checkpoint.hpp"
#include "fathom/train/data_parallel.hpp"
#include "fathom/train/evaluate.hpp"
#include "fathom/train/group.hpp"
#include "fathom/train/groups.hpp"
#include "fathom/train/log.hpp"
#include "fathom/train/optimizer.hpp"
#include "fathom/train/progress.hpp"
#include "fathom/train/schedule.hpp"
#include "fathom/train/training.hpp"

namespace fathom {

namespace detail {
/// `training` with other libraries' names for its fields: {.learning_rate = 1} selects this type, so that the error can
/// list the right names.
struct misnamed_training {
  index batch = 0, batch_size = 0, micro_batch_size = 0, train_batch_size = 0;
  index tokens = 0, context = 0, block_size = 0, seq_len = 0, sequence_length = 0, max_length = 0;
  index accumulate = 0, grad_accum = 0, accumulation_steps = 0, gradient_accumulation = 0, gradient_accumulation_steps = 0;
  index micro_batches = 0, num_micro_batches = 0, num_microbatches = 0;
  bool bf16_gradients = false, gradient_compression = false, fp16_compression = false;
  index steps = 0, epochs = 0, num_epochs = 0, iterations = 0, max_iters = 0, max_steps = 0, num_steps = 0, total_steps = 0;
  double rate = 0, lr = 0, max_lr = 0, learning_rate = 0;
  double lowest_rate = 0, min_lr = 0, min_learning_rate = 0, lr_min = 0;
  index warmup = 0, warmup_iters = 0, warmup_steps = 0;
  fathom::schedule schedule{}, lr_scheduler{}, lr_scheduler_type{};
  index cooldown = 0, cooldown_steps = 0, decay_steps = 0, num_decay_steps = 0;
  double beta1 = 0, adam_beta1 = 0, beta2 = 0, adam_beta2 = 0;
  std::initializer_list<double> betas{};
  double decay = 0, weight_decay = 0, wd = 0;
  double clip = 0, clip_norm = 0, grad_clip = 0, gradient_clip = 0, max_grad_norm = 0, max_norm = 0;
  std::vector<parameter_group> groups{}, param_groups{}, parameter_groups{};
  std::uint64_t seed = 0, random_seed = 0;
  index evaluate_every = 0, eval_every = 0, eval_interval = 0, eval_steps = 0;
  index evaluate_batches = 0, eval_batches = 0, eval_iters = 0;
  std::filesystem::path checkpoint{}, checkpoint_path{}, output{}, output_dir{};
  index checkpoint_every = 0, checkpoint_interval = 0, save_every = 0, save_steps = 0;
  bool resume = false, resume_from_checkpoint = false;
  bool extend = false;
  std::filesystem::path log{}, log_file{}, log_path{};
  bool progress = false, progress_bar = false, verbose = false;
  int threads = 0, num_threads = 0, num_workers = 0;
  step_observer observer{}, callback{}, on_step{};
};
/// The same for training_of. It must not contain names of optimiser options: g++ would also accept
/// {.optimizer = {.rate = 1}} as a trainer made from {.rate = 1}.
template <class Options>
struct misnamed_training_of {
  index batch = 0, batch_size = 0, micro_batch_size = 0, train_batch_size = 0;
  index tokens = 0, context = 0, block_size = 0, seq_len = 0, sequence_length = 0, max_length = 0;
  index accumulate = 0, grad_accum = 0, accumulation_steps = 0, gradient_accumulation = 0, gradient_accumulation_steps = 0;
  index micro_batches = 0, num_micro_batches = 0, num_microbatches = 0;
  bool bf16_gradients = false, gradient_compression = false, fp16_compression = false;
  index steps = 0, epochs = 0, num_epochs = 0, max_iters = 0, max_steps = 0, num_steps = 0, total_steps = 0;
  double lowest_rate = 0, min_lr = 0, min_learning_rate = 0, lr_min = 0;
  index warmup = 0, warmup_iters = 0, warmup_steps = 0;
  fathom::schedule schedule{}, lr_scheduler{}, lr_scheduler_type{};
  index cooldown = 0, cooldown_steps = 0, decay_steps = 0, num_decay_steps = 0;
  Options optimizer{}, optim{}, options{};
  std::vector<parameter_group> groups{}, param_groups{}, parameter_groups{};
  std::uint64_t seed = 0, random_seed = 0;
  index evaluate_every = 0, eval_every = 0, eval_interval = 0, eval_steps = 0;
  index evaluate_batches = 0, eval_batches = 0, eval_iters = 0;
  std::filesystem::path checkpoint{}, checkpoint_path{}, output{}, output_dir{};
  index checkpoint_every = 0, checkpoint_interval = 0, save_every = 0, save_steps = 0;
  bool resume = false, resume_from_checkpoint = false;
  bool extend = false;
  std::filesystem::path log{}, log_file{}, log_path{};
  bool progress = false, progress_bar = false, verbose = false;
  int threads = 0, num_threads = 0, num_workers = 0;
  step_observer observer{}, callback{}, on_step{};
};

/// The trainer options for an optimiser with these options: training_of, or `training` for AdamW.
template <class Options>
struct training_for {
  using type = training_of<Options>;
  static const Options& own(const type& o) { return o.optimizer; }
};
template <>
struct training_for<adamw_options> {
  using type = training;
  static adamw_options own(const type& o) {
    return {.rate = o.rate, .beta1 = o.beta1, .beta2 = o.beta2, .decay = o.decay, .clip = o.clip};
  }
};
/// Converts to `training`: all options but the observer and the groups, and those optimiser options that all optimisers
/// share.
template <class Training>
[[nodiscard]] training common_of(const Training& o) {
  training c{.batch = o.batch,
             .tokens = o.tokens,
             .accumulate = o.accumulate,
             .micro_batches = o.micro_batches,
             .bf16_gradients = o.bf16_gradients,
             .steps = o.steps,
             .lowest_rate = o.lowest_rate,
             .warmup = o.warmup,
             .schedule = o.schedule,
             .cooldown = o.cooldown,
             .seed = o.seed,
             .evaluate_every = o.evaluate_every,
             .evaluate_batches = o.evaluate_batches,
             .checkpoint = o.checkpoint,
             .checkpoint_every = o.checkpoint_every,
             .resume = o.resume,
             .extend = o.extend,
             .log = o.log,
             .progress = o.progress,
             .threads = o.threads};
  if constexpr (std::is_same_v<Training, training>) {
    c.rate = o.rate;
    c.beta1 = o.beta1;
    c.beta2 = o.beta2;
    c.decay = o.decay;
    c.clip = o.clip;
  } else {
    c.rate = static_cast<float>(o.optimizer.rate);
    c.clip = static_cast<float>(o.optimizer.clip);
    c.decay = static_cast<float>(decay_in(o.optimizer));
  }
  return c;
}
/// Fills in the defaults, for a model of this context. Fails on invalid options.
template <class Training>
[[nodiscard]] Training with_defaults(Training o, index context) {
  const training c = checked_training(common_of(o), context);
  o.tokens = c.tokens;
  o.lowest_rate = c.lowest_rate;
  o.warmup = c.warmup;
  o.cooldown = c.cooldown;
  return o;
}
/// The learning rate of step `step`, from 0.
[[nodiscard]] inline double rate_of(const training& o, index step) {
  const double rate = o.rate, lowest = o.lowest_rate;
  switch (o.schedule) {
    case schedule::linear: return warmup_linear{rate, lowest, o.warmup, o.steps}(step);
    case schedule::warmup_stable_decay: return warmup_stable_decay{rate, lowest, o.warmup, o.steps, o.cooldown}(step);
    default: return warmup_cosine{rate, lowest, o.warmup, o.steps}(step);
  }
}

/// The type of a model's matrix products: "float", "double", "bf16".
template <class Model>
[[nodiscard]] constexpr std::string_view compute_name() {
  const auto name = []<class T>(std::type_identity<T>) -> std::string_view {
    if constexpr (std::is_same_v<T, float>) return "float";
    if constexpr (std::is_same_v<T, double>) return "double";
    if constexpr (std::is_same_v<T, bf16>) return "bf16";
    return "another type";
  };
  if constexpr (requires { typename Model::backend::context::compute; })
    return name(std::type_identity<typename Model::backend::context::compute>());
  else
    return name(std::type_identity<typename Model::scalar>());
}
}  // namespace detail

/// Trains a model, or the part of it that the model says (model/trained.hpp). Owns weights, gradients, optimiser states and tape.
/// The same seed gives bitwise identical weights, for any number of threads, and whether or not the run was interrupted and resumed.
/// (Not quite if low_rank is resumed: its additions are then put into the base at once, not step by step, which rounds
/// differently.) Optimizer: adamw, sgd, lion, muon, or your own (optimizer.hpp). The options are `training` for adamw, and training_of<its options> for other
/// optimisers.
///
/// Group: the processes that train together, as fathom::distributed::mpi (group.hpp). Every rank makes the same trainer and
/// calls fit with the same data. Ranks share out the micro-batches of a step, the optimiser's states, and validation; the first
/// one writes checkpoints and the log, shows the progress, and calls the observer. Weights, losses, log and checkpoints are
/// bitwise the same for any number of ranks, also if a run is resumed with another number. An error on a rank of several ends all
/// of them, with one message.
template <class Model, template <class> class Optimizer = adamw, class Group = lone>
class trainer;

/// For a type that is not an optimiser: gives a single error and prevents follow-up errors.
template <class Model, template <class> class Optimizer, class Group>
  requires(!optimizer<Optimizer<Model>>)
class trainer<Model, Optimizer, Group> {
 public:
  explicit trainer(const training_of<detail::misnamed_adamw_options>& = {}) {
    static_assert(optimizer<Optimizer<Model>>,
                  "fathom::trainer: this is not an optimiser of the model; train/optimizer.hpp says what one is");
  }
  const typename Model::parameters& weights() const;
  typename Model::parameters& weights();
  template <class... Tokens>
  training_result fit(const Tokens&...);
};

template <class Model, template <class> class Optimizer, class Group>
  requires optimizer<Optimizer<Model>>
class trainer<Model, Optimizer, Group> {
  static_assert(contract::group<Group>, "fathom::trainer: this is not a group of processes; train/group.hpp says what one has");
  static constexpr bool is_lone = std::is_same_v<Group, lone>;
  static_assert(is_lone || backend_traits<typename Model::backend>::is_on_host,
                "fathom::trainer: a group of processes trains models in host memory only");
  static_assert(is_lone || !detail::is_partly_trained<Model>, "fathom::trainer: a group of processes trains whole models, not train_only or low_rank");
  static_assert(is_lone || !backend_traits<typename Model::backend>::is_on_host || sharded_optimizer<Optimizer<Model>>,
                "fathom::trainer: the ranks of a group share the optimiser's states, which this optimiser cannot: see "
                "sharded_optimizer in train/optimizer.hpp");
  using optimizer_type = Optimizer<Model>;
  using own_options = typename optimizer_type::options;
  using options_for = detail::training_for<own_options>;
  using rule = typename optimizer_type::rule;
  using trained = trained_of<Model>;
  static constexpr bool is_part = detail::is_partly_trained<Model>;
  static constexpr bool is_adamw = std::is_same_v<own_options, adamw_options>;
  static constexpr bool optimizer_updates_wholes = matrix_rule<rule>;
  using misnamed = std::conditional_t<is_adamw, detail::misnamed_training, detail::misnamed_training_of<own_options>>;

 public:
  using parameters = typename Model::parameters;
  using options_type = typename options_for::type;

  /// Initializes the weights from the seed. Fails on invalid options.
  explicit trainer(options_type options = {}, Group group = {})
      : group_(std::move(group)),
        default_warmup_(options.warmup == -1),
        options_(detail::together(group_, [&] { return checked_for_group(detail::with_defaults(std::move(options), Model::context)); })),
        common_(detail::common_of(options_)),
        plan_(options_.micro_batches, group_.size()),
        weights_(make<parameters>()),
        gradients_(make<trained>()),
        tape_(options_.batch, options_.tokens, {options_.threads}),
        optimizer_(detail::together(group_, [&] { return made_optimizer(); })) {
    detail::together(group_, [&] { optimizer_.set_groups(options_.groups); });
    initialize<Model>(*weights_, options_.seed);
    if constexpr (is_part) {
      Model::initialize_trained(*weights_, options_.seed);
      part_ = make<trained>();
    }
  }
  explicit trainer(detail::nothing_at_all) : trainer(options_type{}) {}
  template <class Habit = misnamed>
    requires std::is_same_v<Habit, misnamed>
  explicit trainer(Habit) : trainer(options_type{}) {
    static_assert(detail::never<Habit> || !is_adamw,
                  "fathom::training has no such field: it has batch (sequences), tokens (of each), accumulate, micro_batches, bf16_gradients, steps "
                  "(there are no epochs), rate, lowest_rate, warmup, schedule, cooldown, beta1, beta2, decay, clip, groups, seed, evaluate_every, "
                  "evaluate_batches, checkpoint (a file), checkpoint_every, resume, extend, log, progress, threads, observer");
    static_assert(detail::never<Habit> || is_adamw,
                  "fathom::training_of has no such field: it has batch (sequences), tokens (of each), accumulate, micro_batches, bf16_gradients, steps "
                  "(there are no epochs), lowest_rate, warmup, schedule, cooldown, optimizer (with the rate and all that is the optimiser's own), "
                  "groups, seed, evaluate_every, evaluate_batches, checkpoint (a file), checkpoint_every, resume, extend, log, "
                  "progress, threads, observer");
  }

  [[nodiscard]] const parameters& weights() const { return *weights_; }
  /// Mutable, to set other initial weights.
  [[nodiscard]] parameters& weights() { return *weights_; }
  [[nodiscard]] const options_type& options() const { return options_; }
  [[nodiscard]] const Group& group() const { return group_; }

  /// The most bytes that one of so many ranks needs: weights, gradients, gradients that arrive, its shard of the optimiser's states and
  /// the tape, without workspaces. While the first rank writes a checkpoint, it needs those states of all ranks, too.
  [[nodiscard]] static constexpr rank_memory memory_of_rank(int ranks, index micro_batches, index sequences, index tokens = Model::context,
                                                            bool bf16_gradients = false) {
    constexpr std::size_t number = sizeof(typename Model::scalar), block = sizeof(trained), range = number * sharing::range;
    constexpr std::size_t largest_range = optimizer_updates_wholes ? std::max(range, io::largest_tensor<Model>) : range;
    const std::size_t shard = ranks == 1 ? block : std::min(block, block / static_cast<std::size_t>(ranks) + largest_range);
    return {.weights = sizeof(parameters) + (is_part ? block : 0),
            .gradients = block * static_cast<std::size_t>(detail::gradient_blocks(ranks, micro_batches)),
            .exchanged = detail::arriving_bytes(ranks, micro_batches, shard, number) +
                         (bf16_gradients ? detail::leaving_bytes(ranks, micro_batches, static_cast<index>(shard / number)) : 0),
            .states = optimizer_type::state_count * shard,
            .tape = Model::tape_bytes(sequences, tokens)};
  }
  /// All of it.
  [[nodiscard]] static constexpr std::size_t bytes_per_rank(int ranks, index micro_batches, index sequences, index tokens = Model::context,
                                                            bool bf16_gradients = false) {
    return memory_of_rank(ranks, micro_batches, sequences, tokens, bf16_gradients).total();
  }
  /// The summary of the model (model/summary.hpp), and a line with the bytes that a rank needs, and sends in a step.
  [[nodiscard]] std::string summary() const {
    double sent_gradients = 0, sent_weights = 0;
    if constexpr (!is_lone) {
      constexpr auto number = static_cast<double>(sizeof(typename Model::scalar));
      const std::span<const shard> shards = optimizer_.shards();
      const auto own = static_cast<std::size_t>(group_.rank());
      for (std::size_t r = 0; r < shards.size(); ++r)
        if (r != own) {
          sent_weights += number * static_cast<double>(shards[own].size());
          sent_gradients += (options_.bf16_gradients ? double{sizeof(bf16)} : number) * static_cast<double>(shards[r].size() * plan_.count_of(group_.rank()));
        }
    }
    return fathom::summary<Model>(options_.tokens) +
           detail::summary_of_rank(group_.size(), options_.micro_batches,
                                   memory_of_rank(group_.size(), options_.micro_batches, options_.batch, options_.tokens, options_.bf16_gradients),
                                   sent_gradients, sent_weights);
  }

  /// Trains on one token sequence and evaluates on another, which may be empty. Each is in memory, or in files that are read where
  /// they lie (data/token_files.hpp), with the same result. Fails before the first step when the
  /// data, the checkpoint to resume from, or the output files are unusable. Fails later when the loss or the gradients
  /// become non-finite, or the weights before they are saved or at the end; the error names the step, the first tensor whose
  /// weights are not finite, and the last good checkpoint.
  training_result fit(const data::token_source& train, const data::token_source& validation = {}) {
    return detail::together(group_, [&] { return fit_on_this_rank(train, validation); });
  }
  /// The same for the training and validation parts of a corpus (data/corpus.hpp).
  template <class Corpus>
    requires requires(const Corpus& corpus) {
      std::span<const token>(corpus.train());
      std::span<const token>(corpus.validation());
    }
  training_result fit(const Corpus& corpus) {
    return fit(corpus.train(), corpus.validation());
  }
  template <class Train, class... Validation>
    requires(!(std::is_convertible_v<const Train&, data::token_source> && ... && std::is_convertible_v<const Validation&, data::token_source>))
  training_result fit(const Train&, const Validation&...) {
    static_assert(detail::never<Train>, "fathom::trainer.fit: expected tokens, as a std::span or a std::vector of fathom::token (32 "
                                        "bits), or a corpus, which fathom::data::bytes(path) makes of text");
    return {};
  }

 private:
  training_result fit_on_this_rank(const data::token_source& train, const data::token_source& validation) {
    check_source(train, "fit: training data");
    check_source(validation, "fit: validation data");
    if (validation.size() == 1) fail("fit: validation data of 1 token; expected at least 2, so that one is predicted");
    data::windows windows(train, {.batch = options_.batch,
                                  .tokens = options_.tokens,
                                  .steps = options_.steps * options_.micro_batches * options_.accumulate,
                                  .seed = options_.seed});
    if (is_first()) detail::check_files(common_, (1 + optimizer_type::state_count) * sizeof(trained));  // the weights and the states
    [[maybe_unused]] const run_of_group running(group_);
    // A new run keeps only the weights of an earlier one.
    memory_of<parameters>::zero(gradients_.get(), sizeof(trained));
    optimizer_.reset();
    if constexpr (is_part) {
      // Weights that were set since the last run are a new base, which has no additions.
      if constexpr (detail::has_additions<Model>)
        if (!Model::holds_additions(*weights_)) Model::initialize_trained(*weights_, options_.seed);
      Model::take(*weights_, *part_);
    }
    run_identity identity = identity_with(train);
    if constexpr (!is_lone) check_agreement(identity, validation);
    run_state run = options_.resume ? restore(identity) : run_state{};
    if constexpr (!is_lone) check_equal_weights();
    const index first = run.step;
    training_log log;
    if (!options_.log.empty() && is_first()) log = training_log(options_.log, run.step, tokens_per_step(), !is_lone);

    using clock = std::chrono::steady_clock;
    const auto seconds_since = [](clock::time_point start) {
      return std::chrono::duration<double>(clock::now() - start).count();
    };
    const auto begin = clock::now();
    double busy = 0;  // seconds in training steps
    waited_ = 0;
    progress_bar bar(options_.progress && is_first());
    bar.start_at(run.step);
    training_result result;
    bool stopped = false;
    while (run.step < options_.steps && !stopped) {
      const auto start = clock::now();
      const double rate = detail::rate_of(identity.options, run.step);
      const double waited_before = waited_;
      const auto [loss, norm] = take_step(windows, run.step, rate);
      const double step_seconds = seconds_since(start);
      busy += step_seconds;
      ++run.step;
      run.recent.push_back(loss);
      if (std::ssize(run.recent) > std::max<index>(1, options_.steps / 20)) run.recent.erase(run.recent.begin());

      fathom::progress now{.step = run.step,
                           .steps = options_.steps,
                           .loss = loss,
                           .rate = rate,
                           .gradient_norm = norm,
                           .tokens_per_second = static_cast<double>((run.step - first) * tokens_per_step()) / busy,
                           .seconds = seconds_since(begin),
                           .waiting = waited_ / busy,
                           .step_waiting = (waited_ - waited_before) / step_seconds};
      if (validation.size() > 0 && options_.evaluate_every > 0 && run.step % options_.evaluate_every == 0 && run.step < options_.steps)
        now.validation = evaluate_on_all(validation, options_.evaluate_batches);
      log.write(now);
      bar.show(now);
      result.tokens_per_second = now.tokens_per_second;
      result.waiting = now.waiting;
      if (is_first() && !options_.observer(now)) stopped = true;
      if constexpr (!is_lone) agree_to_stop(stopped, result.signal);
      const bool due = options_.checkpoint_every > 0 && run.step % options_.checkpoint_every == 0;
      if (!options_.checkpoint.empty() && (due || stopped || run.step == options_.steps)) {
        // Never overwrite a good checkpoint with diverged weights.
        Model::forward(*weights_, windows.at(window_of(run.step - 1, last_micro_batch(), options_.accumulate - 1)), tape_);
        const double after = static_cast<double>(tape_.loss());
        check_finite(after, [&](double found) { return join("the loss is ", found, " after step ", run.step); });
        check_weights(run.step);
        save(identity, run);
      }
    }
    if (run.step > first && last_checkpoint_ != run.step) check_weights(run.step);
    if constexpr (detail::has_additions<Model>) Model::note_additions(*weights_);
    result.steps = run.step;
    if (!run.recent.empty()) {
      result.training_nll = 0;
      for (const double loss : run.recent) result.training_nll += loss / static_cast<double>(run.recent.size());
    }
    if (validation.size() > 0)
      result.validation_nll = evaluate_on_all(validation, 0);
    if (result.signal == 0) result.signal = group_.stop_signal();  // after the last step, of this rank only
    result.seconds = seconds_since(begin);
    return result;
  }
  /// Fails unless the tokens are in the vocabulary. Those in files are checked when they are read.
  static void check_source(const data::token_source& tokens, const char* what) {
    check_tokens(tokens.span(), 0, Model::vocab, what);
    if (tokens.vocab() > Model::vocab)
      fail(what, ": files of a vocabulary of ", tokens.vocab(), "; expected at most the model's, ", index{Model::vocab});
  }
  [[nodiscard]] index tokens_per_step() const { return options_.batch * options_.tokens * options_.accumulate * options_.micro_batches; }
  /// The number of a window among all windows of the run.
  [[nodiscard]] index window_of(index step, index micro_batch, index pass) const {
    return (step * options_.micro_batches + micro_batch) * options_.accumulate + pass;
  }
  /// The numbers that the optimiser changes.
  [[nodiscard]] trained& trained_weights() {
    if constexpr (is_part)
      return *part_;
    else
      return *weights_;
  }

  struct step_result {
    double loss;  // mean over all micro-batches
    double norm;  // of the gradients
  };
  step_result take_step(data::windows& windows, index step, double rate) {
    if constexpr (!is_lone) return take_shared_step(windows, step, rate);
    // Let a GPU start the update before the host waits for the loss. If the loss is not finite, neither is the norm, so the update
    // changes nothing.
    const auto start = [&] { optimizer_.start_step(trained_weights(), *gradients_, rate); };
    step_result result{};
    if (options_.micro_batches == 1) {
      result.loss = pass(windows, step, 0, *gradients_, start);
    } else {
      result.loss = add_up(windows, step, plan_.nodes()[0], *gradients_);
      start();
    }
    if (!std::isfinite(result.loss)) diverged("the loss is ", result.loss, " at step ", step + 1);
    result.norm = optimizer_.finish_step();
    if (!std::isfinite(result.norm)) diverged("the norm of the gradients is ", result.norm, " at step ", step + 1);
    if constexpr (is_part) Model::put(*part_, *weights_);
    return result;
  }
  /// Adds the gradients of a micro-batch, and returns its part of the step's loss. All windows have as many targets, so all
  /// micro-batches have the same weight. Calls ready() before it waits for the last loss.
  template <class Ready>
  double pass(data::windows& windows, index step, index micro_batch, trained& gradients, const Ready& ready) {
    const auto passes = static_cast<double>(options_.accumulate * options_.micro_batches);
    double loss = 0;
    for (index n = 0; n < options_.accumulate; ++n) {
      const batch& b = windows.at(window_of(step, micro_batch, n));
      Model::forward_backward(*weights_, b, tape_, gradients, 1.0 / passes, optimizer_.lowest_trained());
      if (n + 1 == options_.accumulate) ready();
      loss += static_cast<double>(tape_.loss()) / passes;
    }
    return loss;
  }
  /// The same for the micro-batches of a node, into zeroed gradients.
  double add_up(data::windows& windows, index step, const detail::tree_node& node, trained& gradients) {
    return tree_.add_up(
        tape_.where(), node, gradients, [&](index micro_batch, trained& to) { return pass(windows, step, micro_batch, to, [] {}); },
        [&](const detail::tree_node& n) { return options_.bf16_gradients && n.size() < options_.micro_batches; });
  }

  /// The first tensor with a number that is not finite; empty if there is none.
  [[nodiscard]] static std::string not_finite_in(const parameters& numbers) {
    using T = typename Model::scalar;
    const auto here = on_host(numbers);
    for (const tensor_row& row : table_of<Model>(*here)) {
      const auto* const begin = reinterpret_cast<const T*>(detail::address_of(*here) + row.offset);
      if (!std::all_of(begin, begin + row.size, [](T x) { return std::isfinite(x); })) return row.name;
    }
    return {};
  }
  /// Fails unless all weights are finite: a step may overflow those that a batch does not use, and nothing follows the last step.
  void check_weights(index step) const {
    if (not_finite_in(*weights_).empty()) return;
    const std::string text = divergence(join("weights are not finite after step ", step));
    if constexpr (!is_lone) fail_all(text, 0);  // all ranks have the same weights
    fail(text);
  }

  template <class... Pieces>
  [[noreturn]] void diverged(const Pieces&... pieces) const {
    fail(divergence(join(pieces...)));
  }
  [[nodiscard]] std::string divergence(const std::string& what) const {
    std::string where = not_finite_in(*weights_);
    if (!where.empty()) where += " is not finite; ";
    return join("training stopped: ", what, " of ", options_.steps, "; ", where, "the last good checkpoint is ",
                last_checkpoint_ > 0 ? join(options_.checkpoint.string(), ", of step ", last_checkpoint_) : std::string("none"));
  }
  /// Fails if a number is not finite on one of the ranks.
  template <class What>
  void check_finite(double mine, const What& what) const {
    if constexpr (is_lone) {
      if (!std::isfinite(mine)) fail(divergence(what(mine)));
    } else {
      const std::vector<double> all = detail::all_gather<double>(group_, std::span(&mine, 1));
      for (int r = 0; r < group_.size(); ++r)
        if (const double number = all[static_cast<std::size_t>(r)]; !std::isfinite(number)) fail_all(divergence(what(number)), r);
    }
  }

  // ---- Ranks of a group --------------------------------------------------------------------------------------------

  [[nodiscard]] bool is_first() const { return group_.rank() == 0; }
  /// The last of this rank's micro-batches.
  [[nodiscard]] index last_micro_batch() const { return plan_.nodes()[plan_.first_of(group_.rank() + 1) - 1].last - 1; }
  /// Fails on all ranks, which have all seen the same: an exception if there is one only.
  [[noreturn]] void fail_all(const std::string& text, int rank) const {
    if (group_.size() > 1) group_.fail(text, rank);
    fail(text);
  }
  [[nodiscard]] options_type checked_for_group(options_type o) const {
    if (o.bf16_gradients && !backend_traits<typename Model::backend>::is_on_host)
      fail("trainer: bf16_gradients with a model that is not in host memory; expected false");
    if (o.micro_batches < group_.size())
      fail("trainer: micro_batches ", o.micro_batches, " for ", group_.size(),
           " ranks; expected at least as many, as ranks share them out");
    return o;
  }
  [[nodiscard]] optimizer_type made_optimizer() const {
    if constexpr (sharded_optimizer<optimizer_type>) {
      sharing share{.ranks = group_.size(), .rank = group_.rank(), .like = weights_.get()};
      if (options_.micro_batches > 1) share.largest_range = sharing::range;
      return optimizer_type(options_for::own(options_), {options_.threads}, share);
    } else {
      return optimizer_type(options_for::own(options_), {options_.threads});
    }
  }
  /// During its life, the group watches for signals.
  struct run_of_group {
    const Group& group;
    explicit run_of_group(const Group& g) : group(g) { group.begin_run(); }
    run_of_group(const run_of_group&) = delete;
    run_of_group& operator=(const run_of_group&) = delete;
    ~run_of_group() { group.end_run(); }
  };

  /// A step of all ranks: each computes the gradients of its micro-batches, gets the sum of all in its shard of the block, and
  /// updates the weights of its shard, which all others then get.
  step_result take_shared_step(data::windows& windows, index step, double rate) {
    step_result result{};
    const std::size_t first = plan_.first_of(group_.rank());
    const auto count = static_cast<std::size_t>(plan_.count_of(group_.rank()));
    while (more_gradients_.size() + 1 < count) more_gradients_.push_back(make<parameters>());
    std::vector<parameters*> gradients{gradients_.get()};  // of each of this rank's nodes
    for (std::size_t n = 1; n < count; ++n) gradients.push_back(more_gradients_[n - 1].get());
    std::vector<double> losses;
    for (std::size_t n = 0; n < count; ++n) losses.push_back(add_up(windows, step, plan_.nodes()[first + n], *gradients[n]));

    std::vector<index> counts;
    for (int r = 0; r < group_.size(); ++r) counts.push_back(plan_.count_of(r));
    const std::vector<double> all_losses = waiting([&] { return detail::all_gather<double>(group_, losses, counts); });
    result.loss = plan_.sum(all_losses);
    if (!std::isfinite(result.loss)) {
      std::size_t n = 0;
      int who = 0;
      while (n + 1 < all_losses.size() && std::isfinite(all_losses[n])) ++n;
      while (plan_.first_of(who + 1) <= n) ++who;
      fail_all(divergence(join("the loss is ", result.loss, " at step ", step + 1)), who);
    }

    const std::span<const shard> shards = optimizer_.shards();
    parallel_.add_up(group_, plan_, shards, tape_.where(), gradients, options_.bf16_gradients, waited_);
    optimizer_.start_step(*weights_, *gradients_, rate);
    const std::vector<double> squares = optimizer_.squares_of_shard();
    counts.clear();
    for (const shard& s : shards) counts.push_back(static_cast<index>(s.last_range - s.first_range));
    const std::vector<double> all_squares = waiting([&] { return detail::all_gather<double>(group_, squares, counts); });
    result.norm = optimizer_.finish_shard(all_squares);
    if (!std::isfinite(result.norm)) {
      std::size_t i = 0, who = 0;
      while (i + 1 < all_squares.size() && std::isfinite(all_squares[i])) ++i;
      while (shards[who].last_range <= i) ++who;
      fail_all(divergence(join("the norm of the gradients is ", result.norm, " at step ", step + 1)), static_cast<int>(who));
    }
    waiting([&] { parallel_.gather(group_, shards, *weights_); });
    return result;
  }
  /// f(), whose time is waiting.
  template <class F>
  decltype(auto) waiting(const F& f) {
    const detail::stop_watch watch(waited_);
    return f();
  }

  /// Whether any rank has got a signal, or the first one's observer ends the run.
  void agree_to_stop(bool& stopped, int& signal) const {
    const std::array<int, 2> mine{is_first() && stopped ? 1 : 0, group_.stop_signal()};
    const std::vector<int> all = detail::all_gather<int>(group_, mine);
    stopped = all[0] != 0;
    for (std::size_t r = 0; r < all.size() / 2; ++r)
      if (all[2 * r + 1] != 0) stopped = true, signal = all[2 * r + 1];
  }
  /// The loss on held-out data. Ranks share out its batches.
  [[nodiscard]] double evaluate_on_all(const data::token_source& validation, index most_batches) {
    if constexpr (is_lone)
      return evaluate<Model>(*weights_, validation, tape_, options_.batch, options_.tokens, most_batches);
    else
      return parallel_.evaluate(group_, *weights_, validation, tape_, options_.batch, options_.tokens, most_batches);
  }

  /// Fails unless all ranks run the same program with the same options on the same data.
  void check_agreement(const run_identity& identity, const data::token_source& validation) const {
    const run_identity held_back = identify(common_, validation, "");
    const std::vector<std::pair<std::string, std::string>> more{
        {"program", detail::program_hash()},
        {"model", io::description_of<Model>()},
        {"validation", join(validation.size(), " tokens, hash ", held_back.data_hash)},
        {"evaluate_every", join(options_.evaluate_every)},
        {"evaluate_batches", join(options_.evaluate_batches)},
        {"checkpoint", options_.checkpoint.empty() ? "none" : join("every ", options_.checkpoint_every)},
        {"resume", options_.resume ? "yes" : "no"},
        {"extend", options_.extend ? "yes" : "no"}};
    check_same(text_of(identity, more), [](const std::string& expected, const std::string& found) {
      return join("has another run than rank 0:", run_differences(expected, found));
    });
  }
  void check_equal_weights() const {
    check_same(detail::hash_of({reinterpret_cast<const std::byte*>(weights_.get()), sizeof(parameters)}),
               [](const std::string&, const std::string&) { return std::string("has other initial weights than rank 0"); });
  }
  template <class What>
  void check_same(const std::string& mine, const What& what) const {
    const std::vector<std::string> all = detail::all_gather(group_, mine);
    for (std::size_t r = 1; r < all.size(); ++r)
      if (all[r] != all[0]) fail_all(what(all[0], all[r]), static_cast<int>(r));
  }

  /// The identity of this run on this data.
  [[nodiscard]] run_identity identity_with(const data::token_source& data) const {
    run_identity identity = identify(common_, data, detail::compute_name<Model>());
    if constexpr (!is_adamw) {
      identity.optimizer = rule::name;
      identity.own = optimizer_type::values_of(options_.optimizer);
    }
    for (tensor_row& row : trained_table_of<Model>(*gradients_)) identity.tensors.push_back(std::move(row.name));
    identity.settings.assign(optimizer_.settings().begin(), optimizer_.settings().end());
    if constexpr (is_part) {
      if (!options_.checkpoint.empty()) {
        const io::adapter_kind kind = io::kind_of_adapter<Model>();
        identity.part = {.base = io::base_identity_of<Model>(*weights_), .rank = kind.rank, .scale = kind.scale};
      }
    }
    return identity;
  }

  void save(const run_identity& identity, const run_state& run) {
    if (group_.size() > 1) return save_for_all(identity, run);
    const auto weights = on_host(trained_weights());
    const tensor_table table = trained_table_of<Model>(*gradients_);
    checkpoint_numbers numbers{table, io::type_name<typename Model::scalar>, {{"", detail::address_of(*weights)}}};
    std::array<decltype(on_host(trained_weights())), optimizer_type::state_count> states{};
    for (std::size_t i = 0; i < states.size(); ++i) {
      states[i] = on_host(optimizer_.state(i));
      numbers.parts.push_back({std::data(rule::states)[i], detail::address_of(*states[i])});
    }
    save_checkpoint(options_.checkpoint, numbers, io::description_of<Model>(), identity, run);
    last_checkpoint_ = run.step;
  }

  /// The first rank gathers the states of all, for which it needs room, and writes them.
  void save_for_all([[maybe_unused]] const run_identity& identity, const run_state& run) {
    if constexpr (!is_lone) {
      std::array<owned<parameters>, optimizer_type::state_count> states;
      for (std::size_t i = 0; i < states.size(); ++i) {
        if (is_first()) states[i] = make<parameters>();
        parallel_.gather_on_first(group_, optimizer_.shards(), optimizer_.bytes_of_shard(i), states[i].get());
      }
      if (is_first()) {
        const tensor_table table = table_of<Model>(*weights_);
        checkpoint_numbers numbers{table, io::type_name<typename Model::scalar>, {{"", io::numbers_of<Model>(table, *weights_).begin}}};
        for (std::size_t i = 0; i < states.size(); ++i)
          numbers.parts.push_back({std::data(rule::states)[i], io::numbers_of<Model>(table, *states[i]).begin});
        save_checkpoint(options_.checkpoint, numbers, io::description_of<Model>(), identity, run);
      }
    }
    last_checkpoint_ = run.step;
  }

  /// Restores weights and states from the checkpoint, if it exists. Returns the progress of its run. In a group, the first rank
  /// reads, and the others get what they need.
  run_state restore(run_identity& identity) {
    restored found;
    if (is_first()) found = read_checkpoint(identity);
    if (group_.size() > 1) return restore_for_all(std::move(found), identity);
    if (!found.weights) return {};
    if constexpr (is_part) {
      part_ = std::move(found.weights);
      Model::put(*part_, *weights_);
    } else {
      weights_ = std::move(found.weights);
    }
    optimizer_.restore(std::move(found.states), found.run.step);
    last_checkpoint_ = found.run.step;
    return found.run;
  }
  struct restored {
    run_state run;
    owned<trained> weights;  // none: there is no checkpoint
    std::array<owned<trained>, optimizer_type::state_count> states;
  };
  run_state restore_for_all(restored found, run_identity& identity) {
    if constexpr (!is_lone) {
      std::array<index, 2> head{found.weights ? 1 : 0, identity.options.warmup};
      detail::broadcast(group_, std::as_writable_bytes(std::span(head)));
      if (head[0] == 0) return {};
      identity.options.warmup = head[1];
      found.run = unpacked_state(detail::broadcast(group_, is_first() ? packed_state(found.run) : std::string()));
      if (is_first()) weights_ = std::move(found.weights);
      detail::broadcast(group_, {reinterpret_cast<std::byte*>(weights_.get()), sizeof(parameters)});
      for (std::size_t i = 0; i < found.states.size(); ++i)
        parallel_.scatter_from_first(group_, optimizer_.shards(), found.states[i].get(), optimizer_.bytes_of_shard(i));
      optimizer_.set_steps(found.run.step);
      last_checkpoint_ = found.run.step;
    }
    return found.run;
  }
  restored read_checkpoint(run_identity& identity) {
    std::error_code problem;
    const bool is_there = !options_.checkpoint.empty() && std::filesystem::exists(options_.checkpoint, problem);
    if (problem) fail(options_.checkpoint.string(), ": cannot be opened: ", problem.message());
    if (!is_there) return {};
    run_identity wanted = identity;
    if (options_.extend && default_warmup_) wanted.options.warmup = -1;  // accept the file's
    const checkpoint_file file(options_.checkpoint, io::description_of<Model>(), wanted, options_.extend);
    // Read everything into new memory first, so that a file that fits only in part changes nothing.
    const auto read = [&](std::string_view part) {
      auto numbers = make<trained>();
      edit_on_host(*numbers, [&](auto& here) {
        const tensor_table table = trained_table_of<Model>(*numbers);
        file.read(part, rule::states, io::wanted_of<Model>(table), io::type_name<typename Model::scalar>, detail::address_of(here));
      });
      return numbers;
    };
    restored found{file.state(), read(""), {}};
    for (std::size_t i = 0; i < found.states.size(); ++i) found.states[i] = read(std::data(rule::states)[i]);
    if (wanted.options.warmup == -1) identity.options.warmup = file.warmup();
    return found;
  }

  Group group_;
  bool default_warmup_;
  options_type options_;
  training common_;  // the options that all trainers share
  detail::micro_batch_plan plan_;
  owned<parameters> weights_;
  owned<trained> gradients_, part_;  // part_: the trained numbers, if they are only a part of the weights
  typename Model::tape tape_;
  optimizer_type optimizer_;
  index last_checkpoint_ = 0;
  detail::gradient_tree<Model> tree_;
  std::vector<owned<parameters>> more_gradients_;  // of this rank's nodes of the tree, but for the first
  detail::data_parallel<Model, Group> parallel_;
  double waited_ = 0;  // seconds of the run
};

}  // namespace fathom
