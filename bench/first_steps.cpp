// What a small model learns in its first steps, by body and optimiser: how the quickstart's model was chosen. Every row sees the same
// batches. Writes a table.
//
//   bench_first_steps TEXT STEPS [SEED ...]
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <type_traits>

#include <fathom/data/text.hpp>
#include <fathom/fathom.hpp>

#include "../examples/tiny.hpp"
#include "models.hpp"

namespace {

using namespace fathom;
using compute = std::conditional_t<cpu::has_bf16_products, bf16, float>;  // as the quickstart

/// GPT-2's body in the size of the bench's tiny, with other positions, and the shortcut with the same kind.
template <class Embedding, class... Positions>
using gpt2_with = edit<architecture<sizes<256, 128, 128>, Embedding,
                                    body<repeat<6, block<pre<"attn", layer_norm<>, attention<4, Positions...>>, pre<"mlp", layer_norm<>, mlp<512>>>>>,
                                    head<layer_norm<>, tied>>,
                       last_block,
                       insert_after<"attn", pre<"/shortcut", layer_norm<>, look_back<4, initial::residual, Positions...>,
                                                features<depths<2, 4>, mlp_features<128>>>>>;
using table = gpt2<bench::tiny_shortcut>;
using rotated = gpt2_with<embed<tokens>, rotary<10'000>>;
using sloped = gpt2_with<embed<tokens, learned_positions>, learned_slopes>;
using taken = llama<tiny>;
constexpr config plain_tiny = [] {
  config c = tiny;
  c.shortcut = {};
  return c;
}();

template <class Architecture, template <class> class Optimizer, class Options>
void train(const data::corpus& text, std::uint64_t seed, const char* body, const char* optimizer, Options options) {
  using net = transformer<Architecture, backend::cpu<compute>>;
  options.batch = 16;
  options.seed = seed;
  options.progress = false;
  trainer<net, Optimizer> trained(options);
  const auto result = trained.fit(text.train());
  typename net::tape tape(16, 128);
  const double nll = evaluate<net>(trained.weights(), text.validation(), tape, 16, 128, 30);  // 61,440 bytes
  std::printf("| %s | %s | %llu | %.3f | %.3f | %.0f |\n", body, optimizer, static_cast<unsigned long long>(seed), result.training_nll, nll,
              1e3 * result.seconds / static_cast<double>(result.steps));
  std::fflush(stdout);
}

void all(const data::corpus& text, fathom::index steps, std::uint64_t seed) {
  const auto adamw_at = [&](float rate) { return training{.steps = steps, .rate = rate}; };
  const auto muon_with = [&](int iterations) {
    return training_of<muon_options>{.steps = steps, .optimizer = {.rate = 0.02f, .iterations = iterations, .adamw_rate = 3e-3f}};
  };
  train<table, adamw>(text, seed, "GPT-2, table of positions", "AdamW 3e-3", adamw_at(3e-3f));
  train<table, adamw>(text, seed, "GPT-2, table of positions", "AdamW 4e-3", adamw_at(4e-3f));
  train<table, muon>(text, seed, "GPT-2, table of positions", "Muon", muon_with(5));
  train<rotated, adamw>(text, seed, "GPT-2, rotary", "AdamW 4e-3", adamw_at(4e-3f));
  train<rotated, muon>(text, seed, "GPT-2, rotary", "Muon", muon_with(5));
  train<sloped, adamw>(text, seed, "GPT-2, table and learned slopes", "AdamW 4e-3", adamw_at(4e-3f));
  train<sloped, muon>(text, seed, "GPT-2, table and learned slopes", "Muon", muon_with(5));
  train<taken, adamw>(text, seed, "the quickstart's: Llama, MLPs of width 256", "AdamW 4e-3", adamw_at(4e-3f));
  train<taken, muon>(text, seed, "the quickstart's: Llama, MLPs of width 256", "Muon, 4 iterations", muon_with(4));
  train<llama<plain_tiny>, muon>(text, seed, "the same without the shortcut", "Muon, 4 iterations", muon_with(4));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: bench_first_steps TEXT STEPS [SEED ...]\n");
    return 2;
  }
  try {
    const auto text = data::bytes(argv[1]);
    std::puts("| body | optimiser | seed | training NLL, last steps | held-back NLL | ms a step |\n"
              "| --- | --- | --- | --- | --- | --- |");
    for (int i = 3; i < argc || i == 3; ++i) all(text, std::atoll(argv[2]), i < argc ? std::strtoull(argv[i], nullptr, 10) : 1);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_first_steps: %s\n", e.what());
    return 1;
  }
}
