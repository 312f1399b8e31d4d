// Trains two steps with the installed headers.
#include <cstdio>
#include <numeric>
#include <vector>

#include <fathom/fathom.hpp>

constexpr fathom::config tiny{.vocab = 9, .context = 8, .width = 8, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};

int main() {
  std::vector<fathom::token> tokens(9);
  std::iota(tokens.begin(), tokens.end(), 0);
  fathom::trainer<fathom::model<tiny>> trainer({.batch = 2, .steps = 2, .seed = 1});
  const auto result = trainer.fit(tokens);
  std::printf("loss %.3f after %td steps\n", result.training_nll, result.steps);
  return result.steps == 2 ? 0 : 1;
}
