// The training loop, for any optimiser: random windows, gradient accumulation, schedule, evaluation, log, checkpoints,
// resume.
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

#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/data/batches.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/model/initialize.hpp"
#include "fathom/train/adamw.hpp"
#include "fathom/train/checkpoint.hpp"
#include "fathom/train/evaluate.hpp"
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

/// Trains a model, or the part of it that the model says (model/trained.hpp). Owns weights, gradients, optimiser states and tape. The same seed gives bitwise identical weights,
/// for any number of threads, and whether or not the run was interrupted and resumed. Optimizer: adamw, sgd, lion,
/// muon, or your own (optimizer.hpp). The options are `training` for adamw, and training_of<its options> for other
/// optimisers.
template <class Model, template <class> class Optimizer = adamw>
class trainer;

/// For a type that is not an optimiser: gives a single error and prevents follow-up errors.
template <class Model, template <class> class Optimizer>
  requires(!optimizer<Optimizer<Model>>)
class trainer<Model, Optimizer> {
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

template <class Model, template <class> class Optimizer>
  requires optimizer<Optimizer<Model>>
class trainer<Model, Optimizer> {
  using optimizer_type = Optimizer<Model>;
  using own_options = typename optimizer_type::options;
  using options_for = detail::training_for<own_options>;
  using rule = typename optimizer_type::rule;
  using trained = trained_of<Model>;
  static constexpr bool is_part = detail::is_partly_trained<Model>;
  static constexpr bool is_adamw = std::is_same_v<own_options, adamw_options>;
  using misnamed = std::conditional_t<is_adamw, detail::misnamed_training, detail::misnamed_training_of<own_options>>;

 public:
  using parameters = typename Model::parameters;
  using options_type = typename options_for::type;

  /// Initializes the weights from the seed. Fails on invalid options.
  explicit trainer(options_type options = {})
      : default_warmup_(options.warmup == -1),
        options_(detail::with_defaults(std::move(options), Model::context)),
        common_(detail::common_of(options_)),
        weights_(make<parameters>()),
        gradients_(make<trained>()),
        tape_(options_.batch, options_.tokens, {options_.threads}),
        optimizer_(options_for::own(options_), {options_.threads}) {
    optimizer_.set_groups(options_.groups);
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
                  "fathom::training has no such field: it has batch (sequences), tokens (of each), accumulate, steps (there are no "
                  "epochs), rate, lowest_rate, warmup, schedule, cooldown, beta1, beta2, decay, clip, groups, seed, evaluate_every, "
                  "evaluate_batches, checkpoint (a file), checkpoint_every, resume, extend, log, progress, threads, observer");
    static_assert(detail::never<Habit> || is_adamw,
                  "fathom::training_of has no such field: it has batch (sequences), tokens (of each), accumulate, steps (there are no "
                  "epochs), lowest_rate, warmup, schedule, cooldown, optimizer (with the rate and all that is the optimiser's own), "
                  "groups, seed, evaluate_every, evaluate_batches, checkpoint (a file), checkpoint_every, resume, extend, log, "
                  "progress, threads, observer");
  }

  [[nodiscard]] const parameters& weights() const { return *weights_; }
  /// Mutable, to set other initial weights.
  [[nodiscard]] parameters& weights() { return *weights_; }
  [[nodiscard]] const options_type& options() const { return options_; }

  /// Trains on one token sequence and evaluates on another, which may be empty. Fails before the first step when the
  /// data, the checkpoint to resume from, or the output files are unusable. Fails later when the loss or the gradients
  /// become non-finite; the error names the step and the last good checkpoint.
  training_result fit(std::span<const token> train, std::span<const token> validation = {}) {
    check_tokens(train, 0, Model::vocab, "fit: training data");
    check_tokens(validation, 0, Model::vocab, "fit: validation data");
    if (validation.size() == 1) fail("fit: validation data of 1 token; expected at least 2, so that one is predicted");
    data::windows windows(train, {.batch = options_.batch,
                                  .tokens = options_.tokens,
                                  .steps = options_.steps * options_.accumulate,
                                  .seed = options_.seed});
    detail::check_files(common_, (1 + optimizer_type::state_count) * sizeof(trained));  // the weights and the states
    // A new run keeps only the weights of an earlier one.
    memory_of<parameters>::zero(gradients_.get(), sizeof(trained));
    optimizer_.reset();
    if constexpr (is_part) Model::take(*weights_, *part_);
    run_identity identity = identity_with(train);
    run_state run = options_.resume ? restore(identity) : run_state{};
    const index first = run.step;
    training_log log;
    if (!options_.log.empty()) log = training_log(options_.log, run.step, tokens_per_step());

    using clock = std::chrono::steady_clock;
    const auto seconds_since = [](clock::time_point start) {
      return std::chrono::duration<double>(clock::now() - start).count();
    };
    const auto begin = clock::now();
    double busy = 0;  // seconds in training steps
    progress_bar bar(options_.progress);
    bar.start_at(run.step);
    training_result result;
    bool stopped = false;
    while (run.step < options_.steps && !stopped) {
      const auto start = clock::now();
      const double rate = detail::rate_of(identity.options, run.step);
      const auto [loss, norm] = take_step(windows, run.step, rate);
      busy += seconds_since(start);
      ++run.step;
      run.recent.push_back(loss);
      if (std::ssize(run.recent) > std::max<index>(1, options_.steps / 20)) run.recent.erase(run.recent.begin());

      fathom::progress now{.step = run.step,
                           .steps = options_.steps,
                           .loss = loss,
                           .rate = rate,
                           .gradient_norm = norm,
                           .tokens_per_second = static_cast<double>((run.step - first) * tokens_per_step()) / busy,
                           .seconds = seconds_since(begin)};
      if (!validation.empty() && options_.evaluate_every > 0 && run.step % options_.evaluate_every == 0 && run.step < options_.steps)
        now.validation = evaluate<Model>(*weights_, validation, tape_, options_.batch, options_.tokens, options_.evaluate_batches);
      log.write(now);
      bar.show(now);
      result.tokens_per_second = now.tokens_per_second;
      if (!options_.observer(now)) stopped = true;
      const bool due = options_.checkpoint_every > 0 && run.step % options_.checkpoint_every == 0;
      if (!options_.checkpoint.empty() && (due || stopped || run.step == options_.steps)) {
        // Never overwrite a good checkpoint with diverged weights.
        Model::forward(*weights_, windows.at(run.step * options_.accumulate - 1), tape_);
        const double after = static_cast<double>(tape_.loss());
        if (!std::isfinite(after)) diverged("the loss is ", after, " after step ", run.step);
        save(identity, run);
      }
    }
    result.steps = run.step;
    if (!run.recent.empty()) {
      result.training_nll = 0;
      for (const double loss : run.recent) result.training_nll += loss / static_cast<double>(run.recent.size());
    }
    if (!validation.empty())
      result.validation_nll = evaluate<Model>(*weights_, validation, tape_, options_.batch, options_.tokens);
    result.seconds = seconds_since(begin);
    return result;
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
    requires(!(std::is_convertible_v<const Train&, std::span<const token>> && ... &&
               std::is_convertible_v<const Validation&, std::span<const token>>))
  training_result fit(const Train&, const Validation&...) {
    static_assert(detail::never<Train>, "fathom::trainer.fit: expected tokens, as a std::span or a std::vector of fathom::token (32 "
                                        "bits), or a corpus, which fathom::data::bytes(path) makes of text");
    return {};
  }

 private:
  /// The numbers that the optimiser changes.
  [[nodiscard]] trained& trained_weights() {
    if constexpr (is_part)
      return *part_;
    else
      return *weights_;
  }
  [[nodiscard]] index tokens_per_step() const { return options_.batch * options_.tokens * options_.accumulate; }

  struct step_result {
    double loss;  // mean over all micro-batches
    double norm;  // of the gradients
  };
  step_result take_step(data::windows& windows, index step, double rate) {
    step_result result{};
    for (index n = 0; n < options_.accumulate; ++n) {
      const batch& b = windows.at(step * options_.accumulate + n);
      Model::forward_backward(*weights_, b, tape_, *gradients_, 1.0 / static_cast<double>(options_.accumulate),
                              optimizer_.lowest_trained());
      // Let a GPU start the update before the host waits for the loss. If the loss is not finite, neither is the norm,
      // so the update changes nothing.
      if (n + 1 == options_.accumulate) optimizer_.start_step(trained_weights(), *gradients_, rate);
      result.loss += static_cast<double>(tape_.loss()) / static_cast<double>(options_.accumulate);
    }
    if (!std::isfinite(result.loss)) diverged("the loss is ", result.loss, " at step ", step + 1);
    result.norm = optimizer_.finish_step();
    if (!std::isfinite(result.norm)) diverged("the norm of the gradients is ", result.norm, " at step ", step + 1);
    if constexpr (is_part) Model::put(*part_, *weights_);
    return result;
  }

  template <class... Pieces>
  [[noreturn]] void diverged(const Pieces&... pieces) const {
    fail("training stopped: ", pieces..., " of ", options_.steps, "; the last good checkpoint is ",
         last_checkpoint_ > 0 ? join(options_.checkpoint.string(), ", of step ", last_checkpoint_) : std::string("none"));
  }

  /// The identity of this run on this data.
  [[nodiscard]] run_identity identity_with(std::span<const token> data) const {
    run_identity identity = identify(common_, data, detail::compute_name<Model>());
    if constexpr (!is_adamw) {
      identity.optimizer = rule::name;
      identity.own = optimizer_type::values_of(options_.optimizer);
    }
    for (tensor_row& row : trained_table_of<Model>(*gradients_)) identity.tensors.push_back(std::move(row.name));
    identity.settings.assign(optimizer_.settings().begin(), optimizer_.settings().end());
    return identity;
  }

  void save(const run_identity& identity, const run_state& run) {
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

  /// Restores weights and states from the checkpoint, if it exists. Returns the progress of its run.
  run_state restore(run_identity& identity) {
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
    auto weights = read("");
    std::array<owned<trained>, optimizer_type::state_count> states;
    for (std::size_t i = 0; i < states.size(); ++i) states[i] = read(std::data(rule::states)[i]);
    if constexpr (is_part) {
      part_ = std::move(weights);
      Model::put(*part_, *weights_);
    } else {
      weights_ = std::move(weights);
    }
    optimizer_.restore(std::move(states), file.state().step);
    last_checkpoint_ = file.state().step;
    if (wanted.options.warmup == -1) identity.options.warmup = file.warmup();
    return file.state();
  }

  bool default_warmup_;
  options_type options_;
  training common_;  // the options that all trainers share
  owned<parameters> weights_;
  owned<trained> gradients_, part_;  // part_: the trained numbers, if they are only a part of the weights
  typename Model::tape tape_;
  optimizer_type optimizer_;
  index last_checkpoint_ = 0;
};

}  // namespace fathom
