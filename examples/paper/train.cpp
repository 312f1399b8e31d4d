// One run: trains a model and writes the results. The kind of data and the variant are fixed at compile time.
//
//   train DATA FOLDER --tokens N [--rate R] [--seed S]
//   train DATA --speed --tokens N       prints the training speed in tokens per second, and writes nothing
//
// DATA is a folder that `prepare` made. FOLDER receives log.csv, best.safetensors (the weights with the lowest NLL on held-back
// data so far), and at the end result.json. An interrupted run resumes; a run that has its result.json is not repeated.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include <fathom/core/json.hpp>
#include <fathom/data/tokens.hpp>

#include "models.hpp"

namespace fs = std::filesystem;

using net = paper::model<PAPER_KIND, PAPER_VARIANT>;

struct options {
  fs::path data, folder;
  fathom::index tokens = 4'000'000;
  float rate = 1e-3f;
  std::uint64_t seed = 1;
  bool speed = false;
};

constexpr fathom::index batch = 8;
constexpr const char* compute = fathom::cpu::has_bf16_products ? "bf16 products" : "bf16 operands";  // the latter in float

fathom::data::corpus part_of(const fs::path& data, const char* part) {
  return fathom::data::tokens(data / (std::string(part) + ".bin"), net::vocab, {.validation = 0});
}

void time_steps(const options& o) {
  const auto train = part_of(o.data, "train");
  fathom::trainer<net> trainer({.batch = batch, .steps = o.tokens / (batch * net::context), .seed = o.seed, .progress = false});
  const double speed = trainer.fit(train.all()).tokens_per_second;
  const auto summary = fathom::json::object({{"tokens_per_second", speed}, {"compute", compute}});
  std::puts(summary.dump().c_str());
}

void run(const options& o) {
  const fathom::index steps = o.tokens / (batch * net::context);
  const fathom::index evaluations = 20, every = std::max<fathom::index>(1, steps / evaluations);
  fs::create_directories(o.folder);
  const fs::path result_file = o.folder / "result.json", best_file = o.folder / "best.safetensors",
                 checkpoint = o.folder / "checkpoint.safetensors", log = o.folder / "log.csv";
  if (fs::exists(result_file)) return;

  const auto train = part_of(o.data, "train"), validation = part_of(o.data, "validation"), test = part_of(o.data, "test");
  double lowest = std::numeric_limits<double>::infinity();
  fathom::index best_step = 0;
  double busy = 0;  // seconds in training steps
  const fathom::trainer<net>* weights_of = nullptr;
  const auto keep_best = [&](fathom::index step, double nll) {
    if (!(nll < lowest)) return;
    lowest = nll;
    best_step = step;
    fathom::save(best_file, weights_of->weights());
  };
  // Recover the best step of an interrupted run from its log: step,loss,validation,...
  if (std::ifstream seen(log); seen && fs::exists(checkpoint) && fs::exists(best_file))
    for (std::string line; std::getline(seen, line);) {
      long long step = 0;
      double loss = 0, nll = 0;
      if (std::sscanf(line.c_str(), "%lld,%lf,%lf", &step, &loss, &nll) == 3 && nll < lowest) lowest = nll, best_step = step;
    }

  fathom::trainer<net> trainer({.batch = batch,
                                .steps = steps,
                                .rate = o.rate,
                                .seed = o.seed,
                                .evaluate_every = every,
                                .evaluate_batches = 16,
                                .checkpoint = checkpoint,
                                .checkpoint_every = 250,
                                .resume = true,
                                .log = log,
                                .observer = [&](const fathom::progress& p) {
                                  busy = static_cast<double>(p.step * batch * net::context) / p.tokens_per_second;
                                  if (p.validation == p.validation) keep_best(p.step, p.validation);
                                  if (p.step % 10 == 0) {
                                    std::printf("step %td of %td, loss %.4f\n", p.step, p.steps, p.loss);
                                    std::fflush(stdout);
                                  }
                                  return true;
                                }});
  weights_of = &trainer;
  net::visit(
      [](std::string_view name, fathom::initial, auto& tensor) {
        const double scale = paper::initial_scale(PAPER_VARIANT, name, tensor.rank == 2 ? tensor.shape[0] : 0);
        for (float& value : tensor.span()) value *= static_cast<float>(scale);
      },
      trainer.weights());
  const auto result = trainer.fit(train.all(), validation.all());

  net::tape tape(batch, net::context);
  // The last weights are a candidate too, evaluated on the same tokens as the others.
  const double last = fathom::evaluate<net>(trainer.weights(), validation.all(), tape, batch, net::context, 16);
  keep_best(steps, last);
  const auto nll = [&](const auto& weights, const auto& data) { return fathom::evaluate<net>(weights, data.all(), tape, batch); };
  const double last_test = nll(trainer.weights(), test);
  double best_validation = result.validation_nll, best_test = last_test;
  if (best_step != steps) {
    const auto chosen = fathom::make<net::parameters>();
    fathom::load(best_file, *chosen);
    best_validation = nll(*chosen, validation);
    best_test = nll(*chosen, test);
  }
  const auto summary = fathom::json::object({
      {"kind", PAPER_KIND},
      {"variant", PAPER_VARIANT},
      {"seed", o.seed},
      {"rate", std::stod(CLI::detail::to_string(o.rate))},
      {"tokens", steps * batch * net::context},
      {"steps", steps},
      {"parameters", net::parameter_count},
      {"flops_per_token", net::training_flops_per_token(net::context)},
      {"training_nll", result.training_nll},
      {"validation_nll", result.validation_nll},
      {"last_validation_nll_on_curve", last},
      {"best_step", best_step},
      {"best_validation_nll", best_validation},
      {"test_nll", best_test},
      {"last_test_nll", last_test},
      {"seconds", busy},
      {"compute", compute},
  });
  fathom::io::atomic_file file(result_file);
  file.write(summary.dump(1) + "\n");
  file.commit();
  fs::remove(checkpoint);
}

int main(int argc, char** argv) {
  options o;
  CLI::App app("Trains a " PAPER_VARIANT " model of " PAPER_KIND);
  app.add_option("data", o.data, "folder of train.bin, validation.bin and test.bin")->required()->check(CLI::ExistingDirectory);
  auto* folder = app.add_option("folder", o.folder, "folder to write to");
  app.add_option("--tokens", o.tokens, "tokens to train on")->capture_default_str()->check(CLI::Range(2048.0, 1e12));
  app.add_option("--rate", o.rate, "highest learning rate")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seed", o.seed, "of the initial weights and of the windows")->capture_default_str();
  auto* speed = app.add_flag("--speed", o.speed, "only say how many tokens a second it trains on");
  speed->excludes(folder);
  CLI11_PARSE(app, argc, argv);
  try {
    if (o.speed)
      time_steps(o);
    else if (o.folder.empty())
      throw fathom::error("train: no folder to write to, and no --speed");
    else
      run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
