// Trains a tiny byte-level model with layerwise attention shortcuts on a text file, and generates text.
// examples/quickstart.sh builds and runs it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <numbers>
#include <string>
#include <type_traits>

#include <CLI/CLI.hpp>
#include <fathom/data/ngram.hpp>
#include <fathom/data/text.hpp>
#include <fathom/fathom.hpp>
#include <fathom/viz.hpp>

#include "tiny.hpp"

// Weights and sums are float; products are bf16 if the processor multiplies bf16 directly.
using compute = std::conditional_t<fathom::cpu::has_bf16_products, fathom::bf16, float>;
using net = fathom::model<tiny, fathom::backend::cpu<compute>>;
// Matrices move by their orthogonalized momentum, which learns more in 500 steps than AdamW does; all other tensors by AdamW.
using trainer = fathom::trainer<net, fathom::muon>;

struct options {
  std::string text;
  std::filesystem::path folder = "quickstart";
  double seconds = 150;
  fathom::index steps = 0;  // 0: as many as fit into the seconds
  float rate = 0.02f;  // of the matrices
  std::uint64_t seed = 1;
};

/// The number of steps that fit into the time, measured with a throw-away trainer.
fathom::index affordable_steps(const fathom::data::corpus& text, double seconds) {
  fathom::index taken = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  trainer probe({.steps = 1'000'000, .progress = false, .observer = [&](const fathom::progress& p) {
                   taken = p.step;
                   return std::chrono::steady_clock::now() < until;
                 }});
  const double each = probe.fit(text.train()).seconds / static_cast<double>(taken);
  return std::clamp<fathom::index>(static_cast<fathom::index>(seconds / each), 1, 20'000);
}

void run(options o) {
  std::filesystem::create_directories(o.folder);
  const auto text = fathom::data::bytes(o.text);
  std::printf("%s\n%zu bytes of text: %zu to train on, the last %zu held back\n", fathom::summary<net>().c_str(),
              text.all().size(), text.train().size(), text.validation().size());

  const bool measured = o.steps == 0;
  if (measured) o.steps = affordable_steps(text, o.seconds - 5);
  std::printf("training %td steps of 16 x 128 bytes%s\n", o.steps,
              measured ? ", as many as fit into the time; --steps makes a run repeatable" : "");
  std::fflush(stdout);
  trainer trained({.batch = 16,
                   .steps = o.steps,
                   .optimizer = {.rate = o.rate, .iterations = 4, .adamw_rate = 3e-3f},
                   .seed = o.seed,
                   .evaluate_every = std::max<fathom::index>(1, o.steps / 10),
                   .checkpoint = o.folder / "checkpoint.safetensors",
                   .log = o.folder / "log.csv",
                   .observer = [&](const fathom::progress& p) {
                     return !measured || p.seconds < 1.1 * o.seconds;  // the machine may have slowed down
                   }});
  const auto result = trained.fit(text.train(), text.validation());

  const auto ngram = [&](int order) {
    return fathom::data::ngram(text.train(), {.order = order, .vocab = 256}).nll(text.validation());
  };
  const double bits = 1 / std::numbers::ln2;
  std::printf("%td steps in %.0f s, %.0f tokens/s\n", result.steps, result.seconds, result.tokens_per_second);
  std::printf("training NLL   %.3f nats a byte, %.3f bits (last steps)\n", result.training_nll, result.training_nll * bits);
  std::printf("validation NLL %.3f nats a byte, %.3f bits; interpolated n-gram models of the same text: unigram %.3f, "
              "trigram %.3f, 5-gram %.3f nats\n",
              result.validation_nll, result.validation_nll * bits, ngram(1), ngram(3), ngram(5));

  const auto file = o.folder / "tiny.safetensors";
  fathom::save(file, trained.weights());
  auto weights = fathom::make<net::parameters>();
  fathom::load(file, *weights);

  const std::string prompt = "In the beginning";
  std::printf("\n%s", prompt.c_str());
  fathom::generator<net> writer(*weights, {.temperature = 0.7f, .top_k = 40, .seed = o.seed});
  writer.write(prompt, 300, [](fathom::token t) { return std::putchar(t) != EOF; });

  const std::string sentence = "And God said, Let there be light: and there was light.";
  const std::vector<fathom::token> tokens(sentence.begin(), sentence.end());
  fathom::viz::save_png(o.folder / "attention.png", fathom::attention_map<net>(*weights, tokens),
                        {.title = sentence});

  const std::string folder = o.folder.string();
  std::printf("\n\nweights        %s/tiny.safetensors\n"
              "attention map  %s/attention.png: what each letter of a sentence looks at, in blocks 2 and 4\n"
              "training log   %s/log.csv; checkpoint.safetensors beside it can be resumed\n\n"
              "Next: another text       bash examples/quickstart.sh FILE\n"
              "      a longer run       bash examples/quickstart.sh --seconds 1200\n"
              "      a prompt           build/quickstart/examples/generate %s/tiny.safetensors \"And it came to pass\"\n"
              "      the code           examples/quickstart.cpp\n",
              folder.c_str(), folder.c_str(), folder.c_str(), folder.c_str());
}

int main(int argc, char** argv) {
  options o;
  CLI::App app("Trains a tiny model with layerwise attention shortcuts on a text file, and lets it write.");
  app.add_option("text", o.text, "text to learn from")->required();
  app.add_option("--folder", o.folder, "where the results go")->capture_default_str();
  app.add_option("--seconds", o.seconds, "time to train")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--steps", o.steps, "steps to train, whatever the time")->check(CLI::PositiveNumber);
  app.add_option("--rate", o.rate, "highest learning rate of the matrices")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seed", o.seed, "of weights, data and sampling")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quickstart: %s\n", e.what());
    return 1;
  }
}
