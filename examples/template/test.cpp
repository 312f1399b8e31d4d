// Checks that the model learns, and that decoding sees what training sees.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "model.hpp"

static int failures = 0;
static void check(bool holds, const char* what) {
  std::printf("%s: %s\n", holds ? "ok" : "WRONG", what);
  failures += !holds;
}

int main() {
  std::string line;
  while (line.size() < 4000) line += "the quick brown fox jumps over the lazy dog. ";
  const std::vector<fathom::token> tokens(line.begin(), line.end());

  fathom::trainer<net> trainer({.batch = 4, .steps = 40, .rate = 3e-3f, .seed = 1, .progress = false});
  check(trainer.fit(tokens).training_nll < 0.5 * std::log(256), "training halves the loss of a uniform guess");

  // The logits after a prompt, all tokens at once, and one after the other.
  const auto prompt = std::span(tokens).first(32);
  net::tape tape(1, 32);
  net::forward(trainer.weights(), {prompt, {}, 1, 32}, tape);
  const auto expected = tape.logits().last(256);   // [vocab], after the last token
  const auto packed = fathom::pack<float>(trainer.weights());
  net::cache cache(1);
  std::span<const float> found;
  for (const fathom::token t : prompt) found = net::decode(*packed, t, cache);
  float difference = 0;
  for (std::size_t i = 0; i < 256; ++i) difference = std::max(difference, std::abs(found[i] - expected[i]));
  check(difference < 1e-3f, "decoding gives the logits of training");
  return failures;
}
