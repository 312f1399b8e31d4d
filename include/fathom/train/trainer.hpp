// The training loop: random windows, gradient accumulation, warm-up and cosine, evaluation, log, checkpoints, resume.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/data/batches.hpp"
#include "fathom/io/json.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/model/initialize.hpp"
#include "fathom/train/adamw.hpp"
#include "fathom/train/evaluate.hpp"
#include "fathom/train/progress.hpp"
#include "fathom/train/schedule.hpp"

namespace fathom {

/// What a run is. All but the last group decides what is computed; a run that is resumed must agree in it.
struct training {
  index batch = 16;     // sequences in a forward pass
  index tokens = 0;     // of each sequence; 0: the model's context
  index accumulate = 1;  // forward passes in a step
  index steps = 1000;
  float rate = 1e-3f;       // highest learning rate
  float lowest_rate = -1;   // at the end of the cosine; below 0: a tenth of rate
  index warmup = -1;        // steps of linear warm-up; below 0: a twentieth of all, at most 200
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float decay = 0.1f;
  float clip = 1.0f;        // largest global norm of the gradients; 0: none
  std::uint64_t seed = 1;   // of the initial weights and of the windows

  index evaluate_every = 0;  // steps; 0: only at the end
  index evaluate_batches = 20;  // batches of held-back data to look at on the way; at the end it is all of it
  std::filesystem::path checkpoint{};  // safetensors file with weights, moments and the state of the run; empty: none
  index checkpoint_every = 0;  // steps; 0: only at the end
  bool resume = false;         // go on from the checkpoint if there is one
  std::filesystem::path log{};  // CSV file with a line for every step; empty: none
  bool progress = true;        // a progress bar, where standard error is a terminal
  int threads = 0;             // 0: as many as OpenMP would use
  std::function<bool(const fathom::progress&)> observer{};  // called after every step; false ends the run there
};

/// What a run came to.
struct training_result {
  double training_nll = std::nan("");    // mean over the last steps (a twentieth of the run), in nats per token
  double validation_nll = std::nan("");  // over all held-back tokens; NaN when there are none
  index steps = 0;                       // taken in all
  double seconds = 0;                    // in this call
  double tokens_per_second = 0;          // trained on, evaluation and files not counted
};

/// Owns weights, gradients, moments and tape, and trains. The same seed gives the same weights, bit for bit, whatever the
/// number of threads, and whether a run was interrupted or not.
template <class Model>
class trainer {
 public:
  using parameters = typename Model::parameters;

  /// Initial weights from the seed. Fails on settings that make no sense.
  explicit trainer(training options = {})
      : options_(checked(std::move(options))),
        weights_(make<parameters>()),
        gradients_(make<parameters>()),
        tape_(options_.batch, options_.tokens, {options_.threads}),
        optimizer_({.rate = options_.rate,
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .decay = options_.decay,
                    .clip = options_.clip},
                   {options_.threads}) {
    initialize<Model>(*weights_, options_.seed);
  }

  [[nodiscard]] const parameters& weights() const { return *weights_; }
  /// For other initial weights than the seed's.
  [[nodiscard]] parameters& weights() { return *weights_; }
  [[nodiscard]] const training& options() const { return options_; }

  /// Trains on one run of tokens, and evaluates on another, which may be empty. Fails, naming the step and the last good
  /// checkpoint, when the loss or the gradients are no longer finite.
  training_result fit(std::span<const token> train, std::span<const token> validation = {}) {
    check_tokens(train, 0, Model::vocab, "fit: training data");
    check_tokens(validation, 0, Model::vocab, "fit: validation data");
    if (validation.size() == 1) fail("fit: validation data of 1 token; expected at least 2, so that one is predicted");
    const nlohmann::json identity = describe(train);
    data::windows windows(train, {.batch = options_.batch,
                                  .tokens = options_.tokens,
                                  .steps = options_.steps * options_.accumulate,
                                  .seed = options_.seed});
    index step = 0;
    std::vector<double> recent;  // losses of the last steps
    // Nothing of an earlier run counts here but its weights.
    memory_of<parameters>::zero(gradients_.get(), sizeof(parameters));
    optimizer_.reset();
    if (options_.resume && !options_.checkpoint.empty() && std::filesystem::exists(options_.checkpoint)) {
      const nlohmann::json state = restore(identity);
      step = state.at("step").get<index>();
      recent = state.at("recent").get<std::vector<double>>();
    }
    const index first = step;
    auto log = open_log(step);

    using clock = std::chrono::steady_clock;
    const auto seconds_since = [](clock::time_point start) {
      return std::chrono::duration<double>(clock::now() - start).count();
    };
    const auto begin = clock::now();
    double busy = 0;  // seconds in training steps
    progress_bar bar(options_.progress);
    bar.start_at(step);
    const warmup_cosine schedule{options_.rate, options_.lowest_rate, options_.warmup, options_.steps};
    training_result result;
    bool stopped = false;
    while (step < options_.steps && !stopped) {
      const auto start = clock::now();
      const double rate = schedule(step);
      const auto [loss, norm] = take_step(windows, step, rate);
      busy += seconds_since(start);
      ++step;
      recent.push_back(loss);
      if (std::ssize(recent) > std::max<index>(1, options_.steps / 20)) recent.erase(recent.begin());

      fathom::progress now{.step = step,
                           .steps = options_.steps,
                           .loss = loss,
                           .rate = rate,
                           .gradient_norm = norm,
                           .tokens_per_second = static_cast<double>((step - first) * tokens_per_step()) / busy,
                           .seconds = seconds_since(begin)};
      if (!validation.empty() && options_.evaluate_every > 0 && step % options_.evaluate_every == 0 && step < options_.steps)
        now.validation = evaluate<Model>(*weights_, validation, tape_, options_.batch, options_.tokens, options_.evaluate_batches);
      if (log) write_log(*log, now);
      bar.show(now);
      result.tokens_per_second = now.tokens_per_second;
      if (options_.observer && !options_.observer(now)) stopped = true;
      const bool due = options_.checkpoint_every > 0 && step % options_.checkpoint_every == 0;
      if (!options_.checkpoint.empty() && (due || stopped || step == options_.steps)) {
        // A good checkpoint must not give way to weights that this step has spoilt.
        Model::forward(*weights_, windows.at(step * options_.accumulate - 1), tape_);
        const double after = static_cast<double>(tape_.loss());
        if (!std::isfinite(after)) diverged("the loss is ", after, " after step ", step);
        save_checkpoint(identity, step, recent);
      }
    }
    result.steps = step;
    if (!recent.empty()) {
      result.training_nll = 0;
      for (const double loss : recent) result.training_nll += loss / static_cast<double>(recent.size());
    }
    if (!validation.empty())
      result.validation_nll = evaluate<Model>(*weights_, validation, tape_, options_.batch, options_.tokens);
    result.seconds = seconds_since(begin);
    return result;
  }

 private:
  static training checked(training o) {
    if (o.tokens == 0) o.tokens = Model::context;
    if (o.lowest_rate < 0) o.lowest_rate = o.rate / 10;
    if (o.warmup < 0) o.warmup = std::min<index>(200, o.steps / 20);
    bool finite = true;
    for (const float number : {o.rate, o.lowest_rate, o.decay, o.clip}) finite &= number >= 0 && std::isfinite(number);
    if (o.batch < 1 || o.tokens < 1 || o.tokens > Model::context || o.accumulate < 1 || o.steps < 0 || !finite ||
        o.evaluate_every < 0 || o.evaluate_batches < 0 || o.checkpoint_every < 0)
      fail("trainer: batch ", o.batch, ", tokens ", o.tokens, ", accumulate ", o.accumulate, ", steps ", o.steps, ", rate ",
           o.rate, ", lowest_rate ", o.lowest_rate, ", decay ", o.decay, ", clip ", o.clip, ", evaluate_every ",
           o.evaluate_every, ", evaluate_batches ", o.evaluate_batches, ", checkpoint_every ", o.checkpoint_every,
           "; expected batch and accumulate of at least 1, 1 to ", Model::context,
           " tokens (the model's context), and nothing below 0, infinite or NaN");
    return o;
  }

  [[nodiscard]] index tokens_per_step() const { return options_.batch * options_.tokens * options_.accumulate; }

  struct step_result {
    double loss;  // the mean over all micro-batches
    double norm;  // of the gradients
  };
  step_result take_step(data::windows& windows, index step, double rate) {
    step_result result{};
    for (index n = 0; n < options_.accumulate; ++n) {
      const batch& b = windows.at(step * options_.accumulate + n);
      Model::forward_backward(*weights_, b, tape_, *gradients_, 1.0 / static_cast<double>(options_.accumulate));
      // A GPU can begin with the update before anybody waits for the loss: where that is not finite, neither is the norm.
      if constexpr (adamw<Model>::steps_by_itself)
        if (n + 1 == options_.accumulate) optimizer_.start_step(*weights_, *gradients_, rate);
      result.loss += static_cast<double>(tape_.loss()) / static_cast<double>(options_.accumulate);
    }
    if (!std::isfinite(result.loss)) diverged("the loss is ", result.loss, " at step ", step + 1);
    if constexpr (adamw<Model>::steps_by_itself)
      result.norm = optimizer_.finish_step();
    else
      result.norm = optimizer_.try_step(*weights_, *gradients_, rate);
    if (!std::isfinite(result.norm)) diverged("the norm of the gradients is ", result.norm, " at step ", step + 1);
    return result;
  }

  template <class... Pieces>
  [[noreturn]] void diverged(const Pieces&... pieces) const {
    fail("training stopped: ", pieces..., " of ", options_.steps, "; the last good checkpoint is ",
         last_checkpoint_ > 0 ? join(options_.checkpoint.string(), ", of step ", last_checkpoint_) : std::string("none"));
  }

  // ---- Checkpoints -----------------------------------------------------------------------------------------------------

  static constexpr const char* state_entry = "fathom.training";

  /// What a resumed run must agree in.
  [[nodiscard]] nlohmann::json describe(std::span<const token> train) const {
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a of the data
    for (const token t : train) hash = (hash ^ static_cast<std::uint32_t>(t)) * 0x100000001b3u;
    const training& o = options_;
    return {{"batch", o.batch},   {"tokens", o.tokens},           {"accumulate", o.accumulate},
            {"steps", o.steps},   {"rate", o.rate},               {"lowest_rate", o.lowest_rate},
            {"warmup", o.warmup}, {"beta1", o.beta1},             {"beta2", o.beta2},
            {"decay", o.decay},   {"clip", o.clip},               {"seed", o.seed},
            {"data", {{"tokens", train.size()}, {"hash", hash}}}};
  }

  void save_checkpoint(const nlohmann::json& identity, index step, const std::vector<double>& recent) {
    std::vector<std::pair<std::string, io::stored_tensor>> tensors;
    const auto weights = on_host(*weights_), first = on_host(optimizer_.first_moment()),
               second = on_host(optimizer_.second_moment());
    io::list_tensors(*weights, "", tensors);
    io::list_tensors(*first, first_moment, tensors);
    io::list_tensors(*second, second_moment, tensors);
    std::map<std::string, std::string> metadata{{"format", "pt"}};
    if (auto text = io::config_text<Model>(); !text.empty()) metadata[io::config_entry] = text;
    auto state = identity;
    state["step"] = step;
    state["recent"] = recent;
    metadata[state_entry] = state.dump();
    io::write_safetensors(options_.checkpoint, tensors, metadata);
    last_checkpoint_ = step;
  }

  /// Weights and moments as the checkpoint has them; returns the state of its run.
  nlohmann::json restore(const nlohmann::json& identity) {
    const io::safetensors_file file(options_.checkpoint);
    const auto entry = file.metadata().find(state_entry);
    const auto state = entry == file.metadata().end() ? nlohmann::json() : io::parse_json(entry->second);
    if (!state.is_object() || !state.contains("step") || !state["step"].is_number_unsigned() || !state.contains("recent") ||
        !state["recent"].is_array() ||
        !std::all_of(state["recent"].begin(), state["recent"].end(), [](const auto& loss) { return loss.is_number(); }))
      fail(file.path(), ": is not a trainer's checkpoint, so the run cannot be resumed from it");
    if (const std::string text = io::differences(identity, state); !text.empty())
      fail(file.path(), ": is the checkpoint of another run:", text);
    if (std::cmp_greater(state["step"].get<std::uint64_t>(), options_.steps))
      fail(file.path(), ": is of step ", state["step"].get<std::uint64_t>(), " of ", options_.steps);
    // All three are read into new memory first: a file that fits in one part but not in another changes nothing.
    auto weights = make<parameters>(), first = make<parameters>(), second = make<parameters>();
    const auto any = [](std::string_view) { return true; };
    const auto own = [](std::string_view name) { return name.starts_with(io::moments_prefix); };
    edit_on_host(*weights, [&](auto& to) { io::read_tensors(file, "", to, {}, own); });
    edit_on_host(*first, [&](auto& to) { io::read_tensors(file, first_moment, to, {}, any); });
    edit_on_host(*second, [&](auto& to) { io::read_tensors(file, second_moment, to, {}, any); });
    weights_ = std::move(weights);
    optimizer_.restore(std::move(first), std::move(second), state["step"].get<index>());
    last_checkpoint_ = state["step"].get<index>();
    return state;
  }

  // ---- Log -------------------------------------------------------------------------------------------------------------

  /// The log, with the lines of the first `step` steps kept and later ones dropped. Null when none is wanted.
  [[nodiscard]] std::unique_ptr<std::ofstream> open_log(index step) const {
    if (options_.log.empty()) return nullptr;
    std::string kept = "step,loss,validation,rate,gradient_norm,tokens,seconds\n";
    if (step > 0) {
      std::ifstream old(options_.log);
      std::string line;
      std::getline(old, line);
      while (std::getline(old, line) && std::atoll(line.c_str()) <= step) kept += line + "\n";
    }
    io::atomic_file file(options_.log);
    file.write(kept);
    file.commit();
    auto log = std::make_unique<std::ofstream>(options_.log, std::ios::app);
    if (!*log) fail(options_.log.string(), ": cannot be written");
    return log;
  }
  void write_log(std::ofstream& log, const fathom::progress& p) const {
    char line[200];
    std::snprintf(line, sizeof line, "%td,%.6f,%s,%.6g,%.6g,%td,%.3f\n", p.step, p.loss,
                  std::isnan(p.validation) ? "" : std::to_string(p.validation).c_str(), p.rate, p.gradient_norm,
                  p.step * tokens_per_step(), p.seconds);
    log << line << std::flush;
    if (!log) fail(options_.log.string(), ": cannot be written");
  }

  static constexpr const char* first_moment = "adamw.first.";
  static constexpr const char* second_moment = "adamw.second.";

  training options_;
  owned<parameters> weights_, gradients_;
  typename Model::tape tape_;
  adamw<Model> optimizer_;
  index last_checkpoint_ = 0;
};

}  // namespace fathom
