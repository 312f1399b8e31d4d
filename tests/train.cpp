// Training: the optimiser and the schedule against their formulas, and the trainer's guarantees: the same weights from
// the same seed, interrupted or not, on any number of threads; nothing lost on errors.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <numbers>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/data/batches.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/adamw.hpp>
#include <fathom/train/evaluate.hpp>
#include <fathom/train/schedule.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::training;

constexpr fathom::config small{
    .vocab = 11, .context = 16, .width = 16, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};
constexpr fathom::config other_heads{
    .vocab = 11, .context = 16, .width = 16, .depth = 2, .heads = 4, .shortcut = {.depths = {1}}};
using net = fathom::model<small>;
using oracle = fathom::model<small, fathom::backend::reference<double>>;
using other_net = fathom::model<other_heads, fathom::backend::reference<double>>;

/// A sequence to learn: the last token determines the next, except that one in ten is random.
std::vector<token> toy(fathom::index count, std::uint64_t seed = 5) {
  fathom::random numbers(seed, 0);
  std::vector<token> tokens(static_cast<std::size_t>(count), 1);
  for (std::size_t i = 1; i < tokens.size(); ++i)
    tokens[i] = static_cast<token>(numbers.below(10) == 0 ? numbers.below(11) : (tokens[i - 1] * 2 + 1) % 11);
  return tokens;
}

template <class Parameters>
std::string bytes_of(const Parameters& weights) {
  return {reinterpret_cast<const char*>(&weights), sizeof weights};
}

/// The lines of a CSV file, split at commas.
std::vector<std::vector<std::string>> rows_of(const std::string& csv) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(csv);
  for (std::string line, cell; std::getline(lines, line);) {
    rows.emplace_back();
    for (std::istringstream cells(line + ","); std::getline(cells, cell, ',');) rows.back().push_back(cell);
  }
  return rows;
}
/// The same without the last column, the seconds that a step took.
std::vector<std::vector<std::string>> without_seconds(const std::string& csv) {
  auto rows = rows_of(csv);
  for (auto& row : rows) row.pop_back();
  return rows;
}

/// A short run with everything: accumulation, evaluation during the run, log, checkpoints.
training everything(const temporary_folder& folder, const std::string& name) {
  return {.batch = 2,
          .tokens = 8,
          .accumulate = 2,
          .steps = 12,
          .rate = 1e-2f,
          .warmup = 3,
          .seed = 7,
          .evaluate_every = 4,
          .evaluate_batches = 2,
          .checkpoint = folder.path() / (name + ".safetensors"),
          .log = folder.path() / (name + ".csv"),
          .progress = false};
}

}  // namespace

// ---- Schedule and optimiser -----------------------------------------------------------------------------------------

TEST_CASE("warmup_cosine follows its formula", "[train]") {
  const fathom::warmup_cosine schedule{.rate = 8, .lowest = 2, .warmup = 4, .steps = 24};
  // Warm-up in equal steps, none of them 0.
  CHECK(schedule(0) == 2);
  CHECK(schedule(1) == 4);
  CHECK(schedule(2) == 6);
  CHECK(schedule(3) == 8);
  // Half a cosine over the remaining 20 steps.
  CHECK(schedule(4) == 8);
  CHECK(schedule(14) == Approx(5));
  CHECK(schedule(9) == Approx(5 + 3 * std::numbers::sqrt2 / 2));
  CHECK(schedule(19) == Approx(5 - 3 * std::numbers::sqrt2 / 2));
  CHECK(schedule(23) == Approx(2 + 3 * (1 - std::cos(std::numbers::pi / 20))));
  CHECK(schedule(24) == 2);
  CHECK(schedule(1000) == 2);
  for (fathom::index step = 4; step < 24; ++step) CHECK(schedule(step) > schedule(step + 1));

  const fathom::warmup_cosine no_warmup{.rate = 8, .lowest = 2, .warmup = 0, .steps = 2};
  CHECK(no_warmup(0) == 8);
  CHECK(no_warmup(1) == Approx(5));
  CHECK(no_warmup(2) == 2);
  const fathom::warmup_cosine only_warmup{.rate = 8, .lowest = 2, .warmup = 2, .steps = 2};
  CHECK(only_warmup(0) == 4);
  CHECK(only_warmup(1) == 8);
  CHECK(only_warmup(2) == 2);
}

TEST_CASE("adamw follows its formula", "[train]") {
  constexpr double beta1 = 0.75, beta2 = 0.5, eps = 1e-3, decay = 0.25;  // exact in float, except eps
  const double clip = GENERATE(0.0, 1.0, 1e6);
  INFO("clip " << clip);
  fathom::adamw<oracle> optimizer({.rate = 0.5f,
                                   .beta1 = static_cast<float>(beta1),
                                   .beta2 = static_cast<float>(beta2),
                                   .eps = static_cast<float>(eps),
                                   .decay = static_cast<float>(decay),
                                   .clip = static_cast<float>(clip)});
  auto weights = fathom::make<oracle::parameters>(), gradients = fathom::make<oracle::parameters>();
  fathom::initialize<oracle>(*weights, 3);

  struct number {
    double w, m = 0, v = 0;
    bool decays;
  };
  std::vector<number> expected;
  oracle::visit_tensors(
      [&](fathom::initial, const auto& w) {
        for (const double value : w.span()) expected.push_back({.w = value, .decays = w.rank == 2});
      },
      *weights);
  REQUIRE(std::ssize(expected) == oracle::parameter_count);

  fathom::random numbers(4, 4);
  for (int step = 1; step <= 3; ++step) {
    std::vector<double> g;
    double squares = 0;
    oracle::visit_tensors(
        [&](fathom::initial, auto& gradient) {
          for (double& value : gradient.span()) {
            value = numbers.normal();
            squares += value * value;
            g.push_back(value);
          }
        },
        *gradients);
    const double norm = std::sqrt(squares);
    REQUIRE(norm > 1);
    const double rate = step == 2 ? 0.125 : 0.5;
    const double found = step == 2 ? optimizer.step(*weights, *gradients, rate) : optimizer.step(*weights, *gradients);
    CHECK(found == Approx(norm).epsilon(1e-12));
    CHECK(optimizer.steps() == step);

    const double scale = clip == 1.0 ? 1 / norm : 1;
    double difference = 0, left = 0;
    std::size_t i = 0;
    for (number& n : expected) {
      const double gradient = g[i++] * scale;
      n.m = beta1 * n.m + (1 - beta1) * gradient;
      n.v = beta2 * n.v + (1 - beta2) * gradient * gradient;
      const double m = n.m / (1 - std::pow(beta1, step)), v = n.v / (1 - std::pow(beta2, step));
      n.w -= rate * ((n.decays ? decay * n.w : 0) + m / (std::sqrt(v) + static_cast<float>(eps)));
    }
    i = 0;
    oracle::visit_tensors(
        [&](fathom::initial, const auto& w, const auto& gradient, const auto& m, const auto& v) {
          for (std::size_t k = 0; k < w.span().size(); ++k, ++i) {
            difference = std::max({difference, std::abs(w.span()[k] - expected[i].w),
                                   std::abs(m.span()[k] - expected[i].m), std::abs(v.span()[k] - expected[i].v)});
            left = std::max(left, std::abs(gradient.span()[k]));
          }
        },
        *weights, *gradients, optimizer.first_moment(), optimizer.second_moment());
    CHECK(difference < 1e-12);
    CHECK(left == 0);  // the gradients are zero again
  }
}

TEST_CASE("adamw refuses gradients that are not finite, and changes nothing", "[train]") {
  fathom::adamw<net> optimizer;
  auto weights = fathom::make<net::parameters>(), gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 3);
  gradients->embed.wte.data()[5] = 1;
  optimizer.step(*weights, *gradients);
  const std::string before = bytes_of(*weights), first = bytes_of(optimizer.first_moment());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    gradients->embed.wte.data()[5] = bad;
    CHECK(fails_with([&] { return optimizer.step(*weights, *gradients); }, "adamw.step", "step 2"));
    CHECK((bytes_of(*weights) == before));
    CHECK((bytes_of(optimizer.first_moment()) == first));
    CHECK(optimizer.steps() == 1);
  }
}

TEMPLATE_TEST_CASE("after a batch that is broken, training is as if it had not been", "[train]", net, oracle) {
  // Two optimisers take the same steps; one of them is given a broken batch in between.
  fathom::adamw<TestType> optimizer({.rate = 1e-2f}), expected({.rate = 1e-2f});
  auto weights = fathom::make<typename TestType::parameters>(), gradients = fathom::make<typename TestType::parameters>();
  fathom::initialize<TestType>(*weights, 3);
  auto other = fathom::copy(weights);
  auto other_gradients = fathom::make<typename TestType::parameters>();
  const auto data = toy(100);
  typename TestType::tape tape(2, 8);
  auto windows = fathom::data::batches(data, {.batch = 2, .tokens = 8, .steps = 8, .seed = 2});
  using limits = std::numeric_limits<typename TestType::scalar>;
  for (fathom::index step = 0; step < 8; ++step) {
    TestType::forward_backward(*weights, windows.at(step), tape, *gradients);
    if (step % 3 == 1) {
      gradients->embed.wte.data()[5] = limits::quiet_NaN();
      gradients->out.ln_f.bias.data()[0] = limits::infinity();
      const fathom::index before = optimizer.steps();
      if (step == 1) CHECK_FALSE(std::isfinite(optimizer.try_step(*weights, *gradients, 1e-2)));
      if (step != 1) CHECK(fails_with([&] { optimizer.step(*weights, *gradients); }, "the norm of the gradients is nan"));
      CHECK(optimizer.steps() == before);
      continue;
    }
    TestType::forward_backward(*other, windows.at(step), tape, *other_gradients);
    CHECK(optimizer.try_step(*weights, *gradients, 1e-2) == expected.step(*other, *other_gradients, 1e-2));
  }
  CHECK((bytes_of(*weights) == bytes_of(*other)));
  CHECK((bytes_of(optimizer.first_moment()) == bytes_of(expected.first_moment())));
  CHECK((bytes_of(optimizer.second_moment()) == bytes_of(expected.second_moment())));
}

TEST_CASE("adamw says which settings make no sense", "[train]") {
  const auto refuses = [](const fathom::adamw_options& options, const char* what) {
    return fails_with([&] { return fathom::adamw<oracle>(options); }, "adamw: ", what, "expected");
  };
  CHECK(refuses({.rate = -1}, "rate -1"));
  CHECK(refuses({.rate = std::nanf("")}, "rate nan"));
  CHECK(refuses({.beta1 = 1}, "beta1 1"));
  CHECK(refuses({.beta2 = -0.5f}, "beta2 -0.5"));
  CHECK(refuses({.eps = 0}, "eps 0"));
  CHECK(refuses({.decay = -0.5f}, "decay -0.5"));
  CHECK(refuses({.clip = -2}, "clip -2"));
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(refuses({.rate = infinity}, "rate inf"));
  CHECK(refuses({.beta1 = std::nanf("")}, "beta1 nan"));
  CHECK(refuses({.beta2 = infinity}, "beta2 inf"));
  CHECK(refuses({.eps = infinity}, "eps inf"));
  CHECK(refuses({.decay = infinity}, "decay inf"));
  CHECK(refuses({.clip = infinity}, "clip inf"));

  fathom::adamw<oracle> optimizer;
  auto weights = fathom::make<oracle::parameters>(), gradients = fathom::make<oracle::parameters>();
  gradients->embed.wte.data()[0] = 1;
  const std::string before = bytes_of(*weights), before_gradients = bytes_of(*gradients);
  for (const double rate : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK(fails_with([&] { return optimizer.step(*weights, *gradients, rate); }, "adamw.step: a rate of ", "expected"));
    CHECK(fails_with([&] { return optimizer.try_step(*weights, *gradients, rate); }, "adamw.step: a rate of ", "expected"));
  }
  CHECK((bytes_of(*weights) == before));
  CHECK((bytes_of(*gradients) == before_gradients));
  CHECK(optimizer.steps() == 0);
}

// ---- Counted targets ------------------------------------------------------------------------------------------------

TEST_CASE("a target of -1 is not counted", "[train]") {
  const auto tokens = toy(33);
  auto weights = fathom::make<net::parameters>(), some = fathom::make<net::parameters>(),
       all = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 2);
  net::tape tape(2, 16);
  const std::span<const token> inputs = std::span(tokens).first(32);
  std::vector<token> targets(tokens.begin() + 1, tokens.end());

  net::forward(*weights, {inputs, {}, 2, 16}, tape);
  double sum = 0;  // by hand, over the targets that will count
  fathom::index counted = 0;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (i >= 16 || i % 3 == 0) targets[i] = -1;
    if (targets[i] < 0) continue;
    const auto logits = tape.logits().subspan(i * 11, 11);
    double total = 0;
    for (const float x : logits) total += std::exp(static_cast<double>(x));
    sum += std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(targets[i])]);
    ++counted;
  }
  net::forward(*weights, {inputs, targets, 2, 16}, tape);
  CHECK(tape.counted() == counted);
  CHECK(tape.loss() == Approx(sum / static_cast<double>(counted)).epsilon(1e-6));
  for (std::size_t i = 0; i < targets.size(); ++i) CHECK((tape.losses()[i] != 0) == (targets[i] >= 0));
  net::backward(*weights, {inputs, targets, 2, 16}, tape, *some);

  // No target of the second sequence counts: without it the gradients are the same.
  const fathom::batch first{inputs.first(16), std::span(targets).first(16), 1, 16};
  net::forward(*weights, first, tape);
  net::backward(*weights, first, tape, *all);
  double difference = 0, largest = 0;
  net::visit_tensors(
      [&](fathom::initial, const auto& a, const auto& b) {
        for (fathom::index i = 0; i < a.size; ++i) {
          difference = std::max(difference, static_cast<double>(std::abs(a.data()[i] - b.data()[i])));
          largest = std::max(largest, static_cast<double>(std::abs(a.data()[i])));
        }
      },
      *some, *all);
  CHECK(largest > 0.01);
  CHECK(difference < 1e-6 * largest);

  // Nothing counted: no loss, and no gradient.
  targets.assign(targets.size(), -1);
  net::forward(*weights, {inputs, targets, 2, 16}, tape);
  CHECK(std::isnan(tape.loss()));
  const std::string before = bytes_of(*all);
  net::backward(*weights, {inputs, targets, 2, 16}, tape, *all);
  CHECK((bytes_of(*all) == before));
}

TEST_CASE("evaluate is the mean over all windows", "[train]") {
  auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 2);
  for (float& value : weights->embed.wte.span()) value *= 20;  // so that tokens differ in their losses
  net::tape tape(3, 8), one(1, 8);
  const fathom::index length = 8;
  for (const fathom::index count : {2, 8, 9, 10, 24, 25, 26, 50, 97}) {
    INFO(count << " tokens");
    const auto tokens = toy(count);
    double sum = 0, first = 0;
    fathom::index predicted = 0, predicted_first = 0;
    for (fathom::index begin = 0; begin + 1 < count; begin += length) {
      const fathom::index n = std::min(length, count - 1 - begin);  // the last window may be shorter
      const auto window = std::span(tokens).subspan(static_cast<std::size_t>(begin));
      const auto size = static_cast<std::size_t>(n);
      net::forward(*weights, {window.first(size), window.subspan(1, size), 1, n}, one);
      sum += one.loss() * static_cast<double>(n);
      predicted += n;
      if (begin < 6 * length) first = sum, predicted_first = predicted;
    }
    REQUIRE(predicted == count - 1);
    const double mean = sum / static_cast<double>(predicted);
    CHECK(fathom::evaluate<net>(*weights, tokens, tape, 3, length) == Approx(mean).epsilon(1e-6));
    CHECK(fathom::evaluate<net>(*weights, tokens, one, 1, length) == Approx(mean).epsilon(1e-6));
    CHECK(fathom::evaluate<net>(*weights, tokens, tape, 3, length, 2) ==
          Approx(first / static_cast<double>(predicted_first)).epsilon(1e-6));
  }
  const auto tokens = toy(9);
  CHECK(fails_with([&] { return fathom::evaluate<net>(*weights, tokens, tape, 3, 8, -1); }, "evaluate: at most -1 batches", "expected"));
  CHECK(fails_with([&] { return fathom::evaluate<net>(*weights, tokens, tape, 0, 8); }, "batch = 0"));
  CHECK(fails_with([&] { return fathom::evaluate<net>(*weights, toy(60), tape, 1, 17); }, "forward: a batch of"));
}

// ---- The trainer ----------------------------------------------------------------------------------------------------

TEST_CASE("a run that was interrupted ends like one that was not", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300), held_back = toy(60, 6);
  fathom::trainer<net> whole(everything(folder, "whole"));
  const auto expected = whole.fit(data, held_back);
  CHECK(expected.steps == 12);

  training options = everything(folder, "parts");
  fathom::training_result result;
  const auto run_until = [&](fathom::index stop, bool crash) {
    options.observer = [&](const fathom::progress& p) {
      if (crash && p.step == stop) throw 1;  // like a power failure
      return p.step != stop;
    };
    fathom::trainer<net> trainer(options);
    try {
      result = trainer.fit(data, held_back);
    } catch (int) {
    }
    return bytes_of(trainer.weights());
  };
  std::string weights;
  SECTION("stopped by the observer, twice") {
    run_until(5, false);
    CHECK(result.steps == 5);
    options.resume = true;
    run_until(8, false);
    weights = run_until(-1, false);
  }
  SECTION("killed between two checkpoints") {
    options.checkpoint_every = 3;
    run_until(8, true);
    CHECK(rows_of(folder.read("parts.csv")).size() == 1 + 8);  // 7 and 8 will be done again
    options.resume = true;
    weights = run_until(-1, false);
  }
  SECTION("killed before the first checkpoint") {
    options.resume = true;
    run_until(2, true);
    weights = run_until(-1, false);
  }
  SECTION("on other threads, with other checkpoints and another log") {
    run_until(7, false);
    options.resume = true;
    options.threads = 1;
    options.checkpoint_every = 2;
    weights = run_until(-1, false);
  }
  CHECK((weights == bytes_of(whole.weights())));
  // The checkpoints hold weights, moments and the state of the run: all of it is the same, to the byte.
  CHECK((folder.read("parts.safetensors") == folder.read("whole.safetensors")));
  CHECK(without_seconds(folder.read("parts.csv")) == without_seconds(folder.read("whole.csv")));
  CHECK(result.steps == 12);
  CHECK(result.training_nll == expected.training_nll);
  CHECK(result.validation_nll == expected.validation_nll);

  // After the end, resuming changes nothing.
  const std::string checkpoint = folder.read("parts.safetensors"), log = folder.read("parts.csv");
  CHECK((run_until(-1, false) == weights));
  CHECK(result.steps == 12);
  CHECK(result.training_nll == expected.training_nll);
  CHECK(result.validation_nll == expected.validation_nll);
  CHECK((folder.read("parts.safetensors") == checkpoint));
  CHECK(folder.read("parts.csv") == log);
}

TEST_CASE("the seed decides everything, the number of threads nothing", "[train]") {
  const auto data = toy(300);
  const auto run = [&](training options) {
    options.batch = 3;
    options.steps = 6;
    options.rate = 1e-2f;
    options.progress = false;
    std::vector<double> losses;
    options.observer = [&](const fathom::progress& p) {
      losses.push_back(p.loss);
      return true;
    };
    fathom::trainer<net> trainer(options);
    trainer.fit(data);
    return std::pair(bytes_of(trainer.weights()), losses);
  };
  const auto expected = run({.seed = 1});
  CHECK((run({.seed = 1}) == expected));
  CHECK((run({.seed = 1, .threads = 1}) == expected));
  CHECK((run({.seed = 1, .threads = 2}) == expected));
  CHECK((run({.seed = 1, .threads = 3}) == expected));
  CHECK((run({.seed = 2}).first != expected.first));

  // Another seed also means other windows: from the same initial weights the losses differ.
  std::vector<double> losses;
  fathom::trainer<net> trainer(
      {.batch = 3, .steps = 6, .rate = 1e-2f, .seed = 2, .progress = false, .observer = [&](const fathom::progress& p) {
         losses.push_back(p.loss);
         return true;
       }});
  fathom::initialize<net>(trainer.weights(), 1);
  trainer.fit(data);
  CHECK(losses != expected.second);

  SECTION("a second run of one trainer depends on nothing but the weights that it begins with") {
    const auto again = fathom::make<net::parameters>();
    std::memcpy(static_cast<void*>(again.get()), &trainer.weights(), sizeof *again);
    trainer.fit(data);
    fathom::trainer<net> fresh({.batch = 3, .steps = 6, .rate = 1e-2f, .seed = 2, .progress = false});
    std::memcpy(static_cast<void*>(&fresh.weights()), again.get(), sizeof *again);
    fresh.fit(data);
    CHECK((bytes_of(fresh.weights()) == bytes_of(trainer.weights())));
  }
}

TEST_CASE("the trainer does what its parts do one by one", "[train]") {
  const auto data = toy(200);
  std::vector<fathom::progress> seen;
  training options{.batch = 2,
                   .tokens = 8,
                   .accumulate = 3,
                   .steps = 5,
                   .rate = 1e-2f,
                   .lowest_rate = 1e-3f,
                   .warmup = 2,
                   .seed = 9,
                   .progress = false};
  options.observer = [&](const fathom::progress& p) {
    seen.push_back(p);
    return true;
  };
  fathom::trainer<net>(options).fit(data);
  REQUIRE(seen.size() == 5);

  // By hand, with the micro-batches of a step side by side in one batch: the mean of their gradients is its gradient.
  auto weights = fathom::make<net::parameters>(), gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 9);
  net::tape tape(6, 8);
  fathom::adamw<net> optimizer({.rate = 1e-2f, .decay = 0.1f, .clip = 1.0f});
  auto windows = fathom::data::batches(data, {.batch = 2, .tokens = 8, .steps = 15, .seed = 9});
  const fathom::warmup_cosine schedule{static_cast<double>(1e-2f), static_cast<double>(1e-3f), 2, 5};
  for (fathom::index step = 0; step < 5; ++step) {
    INFO("step " << step + 1);
    std::vector<token> inputs, targets;
    for (fathom::index n = 0; n < 3; ++n) {
      const fathom::batch& b = windows.at(3 * step + n);
      inputs.insert(inputs.end(), b.inputs.begin(), b.inputs.end());
      targets.insert(targets.end(), b.targets.begin(), b.targets.end());
    }
    const fathom::batch b{inputs, targets, 6, 8};
    net::forward(*weights, b, tape);
    const double loss = tape.loss();
    net::backward(*weights, b, tape, *gradients);
    const double norm = optimizer.step(*weights, *gradients, schedule(step));
    const fathom::progress& p = seen[static_cast<std::size_t>(step)];
    CHECK(p.step == step + 1);
    CHECK(p.steps == 5);
    CHECK(p.loss == Approx(loss).epsilon(1e-5));
    CHECK(p.gradient_norm == Approx(norm).epsilon(1e-4));
    CHECK(p.rate == schedule(step));
    CHECK(std::isnan(p.validation));
  }

  SECTION("and the oracle does the same") {
    std::vector<fathom::progress> fast;
    std::swap(seen, fast);
    fathom::trainer<oracle>(options).fit(data);
    REQUIRE(seen.size() == fast.size());
    for (std::size_t i = 0; i < seen.size(); ++i) {
      CHECK(fast[i].loss == Approx(seen[i].loss).epsilon(1e-4));
      CHECK(fast[i].gradient_norm == Approx(seen[i].gradient_norm).epsilon(1e-3));
    }
  }
}

TEST_CASE("a small model learns a sequence that can be learnt", "[train]") {
  const auto data = toy(4000), held_back = toy(800, 6);
  std::vector<double> frequency(11);
  for (const token t : data) frequency[static_cast<std::size_t>(t)] += 1.0 / static_cast<double>(data.size());
  double entropy = 0;  // of a single token
  for (const double p : frequency) entropy -= p > 0 ? p * std::log(p) : 0;
  REQUIRE(entropy > 2);

  double first = 0;
  fathom::trainer<net> trainer({.batch = 8,
                                .steps = 150,
                                .rate = 1e-2f,
                                .seed = 1,
                                .progress = false,
                                .threads = 1,
                                .observer = [&](const fathom::progress& p) {
                                  if (p.step == 1) first = p.loss;
                                  return true;
                                }});
  const auto result = trainer.fit(data, held_back);
  CHECK(first == Approx(std::log(11)).epsilon(0.05));  // it starts without any knowledge
  CHECK(result.training_nll < entropy / 2);
  CHECK(result.validation_nll < entropy / 2);
  // No model can beat the sequence's entropy: 10 in 11 tokens follow the rule, 0.54 nats.
  CHECK(result.validation_nll > 0.4);
}

TEST_CASE("the log has a line for every step", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300), held_back = toy(60, 6);
  training options = everything(folder, "run");
  std::vector<fathom::progress> seen;
  options.observer = [&](const fathom::progress& p) {
    seen.push_back(p);
    return true;
  };
  fathom::trainer<net> trainer(options);
  const auto result = trainer.fit(data, held_back);
  const auto rows = rows_of(folder.read("run.csv"));
  REQUIRE(rows.size() == 13);
  CHECK(rows[0] ==
        std::vector<std::string>{"step", "loss", "validation", "rate", "gradient_norm", "tokens", "seconds"});
  const fathom::warmup_cosine schedule{static_cast<double>(1e-2f), static_cast<double>(1e-3f), 3, 12};
  double seconds = 0;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    INFO("step " << i);
    REQUIRE(rows[i].size() == 7);
    const fathom::progress& p = seen[i - 1];
    CHECK(rows[i][0] == std::to_string(i));
    CHECK(std::stod(rows[i][1]) == Approx(p.loss).epsilon(1e-5));
    CHECK(rows[i][2].empty() == (i != 4 && i != 8));  // the final evaluation is not in the log but in the result
    if (!rows[i][2].empty()) CHECK(std::stod(rows[i][2]) == Approx(p.validation).epsilon(1e-5));
    CHECK(std::stod(rows[i][3]) == Approx(schedule(static_cast<fathom::index>(i) - 1)).epsilon(1e-5));
    CHECK(std::stod(rows[i][4]) == Approx(p.gradient_norm).epsilon(1e-4));
    CHECK(rows[i][5] == std::to_string(i * 2 * 8 * 2));
    CHECK(std::stod(rows[i][6]) >= seconds);
    seconds = std::stod(rows[i][6]);
  }

  // The result: over the last twentieth of the run, here one step, and over all held-back data.
  CHECK(result.training_nll == seen.back().loss);
  net::tape tape(1, 8);
  CHECK(result.validation_nll == Approx(fathom::evaluate<net>(trainer.weights(), held_back, tape, 1, 8)).epsilon(1e-6));
  CHECK(result.seconds > 0);
  CHECK(result.tokens_per_second > 0);

  // Evaluating held-back data during the run changes nothing.
  options.evaluate_every = 0;
  fathom::trainer<net> blind(options);
  blind.fit(data);
  CHECK((bytes_of(blind.weights()) == bytes_of(trainer.weights())));
}

TEST_CASE("a checkpoint is a file of weights too", "[train]") {
  const temporary_folder folder;
  fathom::trainer<net> trainer(everything(folder, "run"));
  trainer.fit(toy(300));
  auto weights = fathom::make<net::parameters>();
  fathom::load(folder.path() / "run.safetensors", *weights);
  CHECK((bytes_of(*weights) == bytes_of(trainer.weights())));
}

// ---- Errors ---------------------------------------------------------------------------------------------------------

TEST_CASE("a run is resumed only with the settings, the data and the model that it had", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300);
  training options = everything(folder, "run");
  options.observer = [](const fathom::progress& p) { return p.step < 5; };
  fathom::trainer<net>(options).fit(data);
  options.resume = true;
  const std::string checkpoint = folder.read("run.safetensors"), log = folder.read("run.csv");

  const auto untouched = [&] { return folder.read("run.safetensors") == checkpoint && folder.read("run.csv") == log; };
  const auto refuses = [&](const training& changed, std::span<const token> tokens, const std::string& message) {
    fathom::trainer<net> trainer(changed);
    const std::string before = bytes_of(trainer.weights());
    return fails_with([&] { return trainer.fit(tokens); }, "run.safetensors", message) &&
           bytes_of(trainer.weights()) == before && untouched();
  };
  const auto with = [&](auto training::*setting, auto value) {
    training changed = options;
    changed.*setting = value;
    return changed;
  };
  CHECK(refuses(with(&training::batch, 3), data, "batch: expected 3, found 2"));
  CHECK(refuses(with(&training::tokens, 9), data, "tokens: expected 9, found 8"));
  CHECK(refuses(with(&training::accumulate, 1), data, "accumulate: expected 1, found 2"));
  CHECK(refuses(with(&training::steps, 13), data, "steps: expected 13, found 12"));
  CHECK(refuses(with(&training::steps, 4), data, "steps: expected 4, found 12"));
  CHECK(refuses(with(&training::rate, 0.25f), data, "rate: expected 0.25, found 0.0099"));
  CHECK(refuses(with(&training::lowest_rate, 0.125f), data, "lowest_rate: expected 0.125, found 0.00"));
  CHECK(refuses(with(&training::warmup, 0), data, "warmup: expected 0, found 3"));
  CHECK(refuses(with(&training::beta1, 0.5f), data, "beta1: expected 0.5, found 0.89"));
  CHECK(refuses(with(&training::beta2, 0.5f), data, "beta2: expected 0.5, found 0.94"));
  CHECK(refuses(with(&training::decay, 0.0f), data, "decay: expected 0.0, found 0.10"));
  CHECK(refuses(with(&training::clip, 0.0f), data, "clip: expected 0.0, found 1.0"));
  CHECK(refuses(with(&training::seed, 8u), data, "seed: expected 8, found 7"));
  CHECK(refuses(options, toy(301), "data.tokens: expected 301, found 300"));
  auto changed_data = data;
  changed_data[150] = changed_data[150] == 0 ? 1 : 0;
  CHECK(refuses(options, changed_data, "data.hash: expected "));
  changed_data = data;
  std::reverse(changed_data.begin(), changed_data.end());
  CHECK(refuses(options, changed_data, "data.hash: expected "));

  fathom::trainer<other_net> other(options);
  const std::string before = bytes_of(other.weights());
  CHECK(fails_with([&] { return other.fit(data); }, "run.safetensors", "heads: expected 4, found 2"));
  CHECK((bytes_of(other.weights()) == before));
  CHECK(untouched());
}

TEST_CASE("a checkpoint that is damaged or none is refused", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300);
  training options = everything(folder, "run");
  options.log.clear();
  options.observer = [](const fathom::progress& p) { return p.step < 5; };
  fathom::trainer<net>(options).fit(data);
  options.resume = true;
  options.observer = nullptr;
  const std::string good = folder.read("run.safetensors");
  fathom::trainer<net> trainer(options);
  const std::string before = bytes_of(trainer.weights());
  const auto refuses = [&](const auto&... pieces) {
    const std::string file = folder.read("run.safetensors");
    return fails_with([&] { return trainer.fit(data); }, "run.safetensors", pieces...) &&
           bytes_of(trainer.weights()) == before && folder.read("run.safetensors") == file;
  };

  for (const std::size_t length :
       {std::size_t{0}, std::size_t{7}, std::size_t{500}, good.size() / 2, good.size() - 1}) {
    folder.write("run.safetensors", good.substr(0, length));
    CHECK(refuses("is not a valid safetensors file"));
  }
  fathom::save(options.checkpoint, trainer.weights());
  CHECK(refuses("is not a trainer's checkpoint"));

  // Well-formed files with different contents.
  folder.write("good.safetensors", good);
  const fathom::io::safetensors_file file(folder.path() / "good.safetensors");
  const auto write = [&](const std::string& state, const std::string& left_out = "") {
    std::vector<fathom::io::tensor_to_write> tensors;
    std::map<std::string, std::vector<std::byte>> bytes;
    for (const auto& [name, tensor] : file.tensors())
      if (name != left_out) tensors.push_back({name, tensor.type, tensor.shape, bytes[name] = tensor.bytes()});
    std::map<std::string, std::string> metadata(file.metadata().begin(), file.metadata().end());
    metadata["fathom.training"] = state;
    fathom::io::write_safetensors(options.checkpoint, tensors, metadata);
  };
  const std::string state = file.metadata().at("fathom.training");
  fathom::json json = parsed(state);
  for (const char* name : {"wte.weight", "adamw.first.ln_f.bias", "adamw.second.shortcut.attn.c_kv.weight"}) {
    write(state, name);
    CHECK(refuses(std::string(name) + ": missing"));
  }
  for (const char* text : {"", "{", "null", "[]", "{}", "{\"step\": 3}", "{\"step\": -3, \"recent\": []}",
                           "{\"step\": 3, \"recent\": [\"x\"]}", "{\"step\": 2.5, \"recent\": []}"}) {
    INFO("state " << text);
    write(text);
    CHECK(refuses("is not a trainer's checkpoint"));
  }
  for (const std::uint64_t step : {std::uint64_t{13}, ~std::uint64_t{0}}) {
    json["step"] = step;
    write(json.dump());
    CHECK(refuses("is of step " + std::to_string(step)));
  }
  std::string deep = state;
  const std::string number = "\"batch\":2";
  deep.replace(deep.find(number), number.size(), "\"batch\":" + std::string(200'000, '[') + std::string(200'000, ']'));
  write(deep);
  CHECK(refuses("batch: expected 2, found"));

  write(state);  // the original state is valid
  CHECK(trainer.fit(data).steps == 12);
}

TEST_CASE("a run that diverges stops, and its last checkpoint is good", "[train]") {
  const temporary_folder folder;
  const auto data = toy(300);
  training options = everything(folder, "run");
  options.checkpoint_every = 2;
  const auto checkpoint_is_good = [&](fathom::index step) {
    auto weights = fathom::make<net::parameters>();
    fathom::load(options.checkpoint, *weights);
    net::tape tape(1, 16);
    const double loss = fathom::evaluate<net>(*weights, data, tape, 1);
    CHECK(std::isfinite(loss));
    // A run can continue from there.
    training again = options;
    again.resume = true;
    again.observer = [&](const fathom::progress& p) { return p.step != step + 1; };
    CHECK(fathom::trainer<net>(again).fit(data).steps == step + 1);
  };

  SECTION("weights become NaN on the way") {
    fathom::trainer<net>* running = nullptr;
    options.observer = [&](const fathom::progress& p) {
      if (p.step == 5) running->weights().embed.wte.data()[3] = std::numeric_limits<float>::quiet_NaN();
      return true;
    };
    fathom::trainer<net> trainer(options);
    running = &trainer;
    CHECK(fails_with([&] { return trainer.fit(data); }, "the loss is", "nan", "at step 6 of 12",
                     "the last good checkpoint is " + options.checkpoint.string() + ", of step 4"));
    CHECK(rows_of(folder.read("run.csv")).size() == 1 + 5);
    checkpoint_is_good(4);
  }
  SECTION("weights become NaN just before a checkpoint") {
    fathom::trainer<net>* running = nullptr;
    options.observer = [&](const fathom::progress& p) {
      if (p.step == 6) running->weights().out.ln_f.bias.data()[0] = std::numeric_limits<float>::infinity();
      return true;
    };
    fathom::trainer<net> trainer(options);
    running = &trainer;
    CHECK(fails_with([&] { return trainer.fit(data); }, "after step 6 of 12", "run.safetensors, of step 4"));
    checkpoint_is_good(4);
  }
  SECTION("a learning rate that is far too large") {
    options.checkpoint_every = 1;
    options.rate = 1e30f;
    options.warmup = 0;
    fathom::trainer<net> trainer(options);
    CHECK(fails_with([&] { return trainer.fit(data); }, "training stopped", "step 1 of 12",
                     "the last good checkpoint is none"));
    CHECK_FALSE(std::filesystem::exists(options.checkpoint));
  }
  SECTION("from the beginning, without checkpoints") {
    options.checkpoint.clear();
    fathom::trainer<net> trainer(options);
    trainer.weights().embed.wpe.data()[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(fails_with([&] { return trainer.fit(data); }, "the loss is", "nan", "at step 1 of 12",
                     "the last good checkpoint is none"));
    // With good weights, the trainer is as good as new.
    fathom::initialize<net>(trainer.weights(), options.seed);
    trainer.fit(data);
    fathom::trainer<net> fresh(options);
    fresh.fit(data);
    CHECK((bytes_of(trainer.weights()) == bytes_of(fresh.weights())));
  }
}

TEST_CASE("settings and data that make no sense", "[train]") {
  const auto refuses = [](const training& options, const char* what) {
    return fails_with([&] { return fathom::trainer<oracle>(options); }, what, "expected");
  };
  CHECK(refuses({.batch = 0}, "batch 0"));
  CHECK(refuses({.tokens = -1}, "tokens -1"));
  CHECK(refuses({.tokens = 17}, "tokens 17"));
  CHECK(refuses({.accumulate = 0}, "accumulate 0"));
  CHECK(refuses({.steps = -1}, "steps -1"));
  CHECK(refuses({.rate = -1}, "rate -1"));
  CHECK(refuses({.rate = std::nanf("")}, "rate nan"));
  CHECK(refuses({.rate = std::numeric_limits<float>::infinity()}, "rate inf"));
  CHECK(refuses({.lowest_rate = std::nanf("")}, "lowest_rate nan"));
  CHECK(refuses({.beta1 = 1}, "beta1 1"));
  CHECK(refuses({.beta2 = 1.5f}, "beta2 1.5"));
  CHECK(refuses({.decay = -0.5f}, "decay -0.5"));
  CHECK(refuses({.clip = -1}, "clip -1"));
  CHECK(refuses({.evaluate_every = -1}, "evaluate_every -1"));
  CHECK(refuses({.evaluate_batches = -1}, "evaluate_batches -1"));
  CHECK(refuses({.checkpoint_every = -1}, "checkpoint_every -1"));
  CHECK(refuses({.threads = -3}, "threads -3"));
  CHECK(refuses({.warmup = -2}, "warmup -2"));
  CHECK(refuses({.lowest_rate = -0.5f}, "lowest_rate -0.5"));
  CHECK(refuses({.beta1 = std::nanf("")}, "beta1 nan"));
  CHECK(refuses({.extend = true}, "extend without resume"));
  const auto most = std::numeric_limits<fathom::index>::max();
  CHECK(refuses({.accumulate = most}, "tokens in all"));
  CHECK(refuses({.steps = most / 2}, "tokens in all"));
  CHECK(refuses({.batch = most / 3}, "tokens in all"));

  const fathom::trainer<oracle> defaults({.batch = 1, .steps = 1000, .rate = 0.5f});
  CHECK(defaults.options().tokens == 16);
  CHECK(defaults.options().lowest_rate == 0.05f);
  CHECK(defaults.options().warmup == 50);
  CHECK(fathom::trainer<oracle>({.batch = 1, .steps = 100'000}).options().warmup == 200);

  int steps = 0;
  fathom::trainer<oracle> trainer({.batch = 1, .steps = 1, .progress = false, .observer = [&](const auto&) {
                                     ++steps;
                                     return true;
                                   }});
  const auto data = toy(17);
  CHECK(fails_with([&] { return trainer.fit(toy(16)); }, "16 tokens", "one more"));
  CHECK(fails_with([&] { return trainer.fit({}); }, "0 tokens"));
  auto bad = data;
  bad[3] = 11;
  CHECK(fails_with([&] { return trainer.fit(bad); }, "training data: token 11 at position 3"));
  bad[3] = -1;
  CHECK(fails_with([&] { return trainer.fit(data, bad); }, "validation data: token -1 at position 3"));
  // Reported before the run, not after it.
  CHECK(fails_with([&] { return trainer.fit(data, toy(1)); }, "validation data of 1 token"));
  CHECK(steps == 0);
  CHECK(trainer.fit(data, toy(2)).steps == 1);
  CHECK(steps == 1);
}

TEST_CASE("a log or a checkpoint that cannot be written is an error", "[train]") {
  const temporary_folder folder;
  training options{.batch = 1, .steps = 2, .progress = false};
  options.log = folder.path() / "none" / "log.csv";
  CHECK(fails_with([&] { return fathom::trainer<oracle>(options).fit(toy(20)); }, "none/log.csv", "cannot be written"));
  options.log.clear();
  options.checkpoint = folder.path() / "none" / "run.safetensors";
  CHECK(fails_with([&] { return fathom::trainer<oracle>(options).fit(toy(20)); }, "none/run.safetensors",
                   "cannot be written"));
}

// ---- The progress bar -----------------------------------------------------------------------------------------------

namespace {

/// Runs a call with standard error redirected to the file descriptor `to`.
template <class Call>
void with_stderr(int to, const Call& call) {
  std::fflush(stderr);
  const int before = ::dup(STDERR_FILENO);
  REQUIRE(before >= 0);
  REQUIRE(::dup2(to, STDERR_FILENO) == STDERR_FILENO);
  call();
  std::fflush(stderr);
  ::dup2(before, STDERR_FILENO);
  ::close(before);
}

/// A pseudo-terminal.
class terminal {
 public:
  terminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    REQUIRE(master_ >= 0);
    REQUIRE(::grantpt(master_) == 0);
    REQUIRE(::unlockpt(master_) == 0);
    slave_ = ::open(::ptsname(master_), O_RDWR | O_NOCTTY);
    REQUIRE(slave_ >= 0);
    REQUIRE(::fcntl(master_, F_SETFL, O_NONBLOCK) == 0);
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;
  ~terminal() {
    ::close(slave_);
    ::close(master_);
  }
  [[nodiscard]] int descriptor() const { return slave_; }
  /// The output so far.
  [[nodiscard]] std::string shown() const {
    std::string text;
    char some[1000];
    for (ssize_t n; (n = ::read(master_, some, sizeof some)) > 0;) text.append(some, static_cast<std::size_t>(n));
    return text;
  }

 private:
  int master_, slave_;
};

}  // namespace

TEST_CASE("the progress bar is drawn on a terminal, and nowhere else", "[train]") {
  const temporary_folder folder;
  const auto data = toy(100), held_back = toy(30, 6);
  double last = 0;
  training options{.batch = 1, .steps = 8, .evaluate_every = 2, .observer = [&](const fathom::progress& p) {
                     last = p.loss;
                     return true;
                   }};
  const auto run = [&] { fathom::trainer<oracle>(options).fit(data, held_back); };

  const int file = ::open(folder.write("stderr", "").c_str(), O_WRONLY);
  REQUIRE(file >= 0);
  with_stderr(file, run);
  ::close(file);
  CHECK(folder.read("stderr").empty());

  const terminal screen;
  with_stderr(screen.descriptor(), run);
  const std::string shown = screen.shown();
  INFO(shown);
  CHECK(shown.starts_with("\r["));
  const std::string end = shown.substr(shown.rfind('\r', shown.size() - 3));  // the text that stays on the screen
  char loss[32];
  std::snprintf(loss, sizeof loss, "loss %.3f", last);
  CHECK(end.find("[########################] 8/8") != std::string::npos);
  CHECK(end.find(loss) != std::string::npos);
  CHECK(end.find("validation ") != std::string::npos);
  CHECK(end.find(" tokens/s") != std::string::npos);
  CHECK(end.find("0:00 left") != std::string::npos);
  CHECK(shown.ends_with("\n"));

  options.progress = false;
  const terminal dark;
  with_stderr(dark.descriptor(), run);
  CHECK(dark.shown().empty());
}
