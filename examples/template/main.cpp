// Trains on the bytes of a text, saves the weights, and goes on from a prompt; or, with the weights alone, only goes on.
//
//   app WEIGHTS PROMPT [TEXT [STEPS]]
#include <cstdio>
#include <cstdlib>
#include <exception>

#include <fathom/data/text.hpp>

#include "model.hpp"

int main(int argc, char** argv) try {
  if (argc < 3) return std::fprintf(stderr, "usage: app WEIGHTS PROMPT [TEXT [STEPS]]\n"), 2;
  if (argc > 3) {
    const auto text = fathom::data::bytes(argv[3]);
    fathom::trainer<net> trainer({.batch = 16, .steps = argc > 4 ? std::atol(argv[4]) : 1000, .seed = 1});
    const auto result = trainer.fit(text.train(), text.validation());
    std::fprintf(stderr, "validation NLL %.3f nats a byte, %.0f tokens/s\n", result.validation_nll, result.tokens_per_second);
    fathom::save(argv[1], trainer.weights());
  }
  auto weights = fathom::make<net::parameters>();
  fathom::load(argv[1], *weights);
  fathom::generator<net> writer(weights, {.temperature = 0.8f, .top_k = 40, .seed = 1});
  std::printf("%s", argv[2]);
  writer.write(argv[2], 200, [](fathom::token t) { return std::putchar(t) != EOF; });
  std::printf("\n");
} catch (const std::exception& e) {
  return std::fprintf(stderr, "app: %s\n", e.what()), 1;
}
