// Does training with bf16 products learn as well as training in float? Trains a tiny GPT-2 with the shortcut on the quickstart's
// text with both, from the same weights and batches, and writes the loss of every step and the held-back loss.
//
//   bench_bf16_training TEXT STEPS CSV [SEED ...]
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include <fathom/data/text.hpp>
#include <fathom/fathom.hpp>

#include "models.hpp"

namespace {

template <class Compute>
void train(const fathom::data::corpus& text, fathom::index steps, std::uint64_t seed, const char* name, std::FILE* csv) {
  using net = fathom::model<bench::tiny_shortcut, fathom::backend::cpu<Compute>>;
  fathom::trainer<net> trainer({.batch = 16, .steps = steps, .rate = 3e-3f, .seed = seed, .progress = false,
                                .observer = [&](const fathom::progress& p) {
                                  std::fprintf(csv, "%s,%llu,%td,%.6f\n", name, static_cast<unsigned long long>(seed),
                                               p.step, p.loss);
                                  return true;
                                }});
  const auto result = trainer.fit(text.train(), text.validation());
  std::printf("| %s | %llu | %td | %.4f | %.4f | %.0f |\n", name, static_cast<unsigned long long>(seed), result.steps,
              result.training_nll, result.validation_nll, result.tokens_per_second);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: bench_bf16_training TEXT STEPS CSV [SEED ...]\n");
    return 2;
  }
  try {
    const auto text = fathom::data::bytes(argv[1]);
    const fathom::index steps = std::atoll(argv[2]);
    std::FILE* const csv = std::fopen(argv[3], "w");
    if (!csv) throw fathom::error(std::string(argv[3]) + ": cannot be written");
    std::fputs("compute,seed,step,loss\n", csv);
    std::puts("| products | seed | steps | training NLL, last steps | held-back NLL | tokens/s |\n"
              "| --- | --- | --- | --- | --- | --- |");
    for (int i = 4; i < argc || i == 4; ++i) {
      const std::uint64_t seed = i < argc ? std::strtoull(argv[i], nullptr, 10) : 1;
      train<float>(text, steps, seed, "float", csv);
      train<fathom::bf16>(text, steps, seed, "bf16", csv);
    }
    std::fclose(csv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_bf16_training: %s\n", e.what());
    return 1;
  }
}
