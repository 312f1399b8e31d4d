// A consumer's program: trains two steps, and generates.
#include <cstdio>
#include <numeric>
#include <vector>

#include <fathom/fathom.hpp>

constexpr fathom::config tiny{
    .vocab = 9, .context = 8, .width = 8, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};
using net = fathom::model<tiny>;

fathom::index parameters_elsewhere();  // second.cpp

int main() {
  std::vector<fathom::token> tokens(9);
  std::iota(tokens.begin(), tokens.end(), 0);
  fathom::trainer<net> trainer({.batch = 2, .steps = 2, .seed = 1});
  const auto result = trainer.fit(tokens);
  fathom::generator<net> writer(trainer.weights(), {.seed = 1});
  const auto written = writer.write(tokens, 3, [](fathom::token t) { return t >= 0 && t < 9; });
  std::printf("loss %.3f after %d steps, %d tokens written\n", result.training_nll, static_cast<int>(result.steps),
              static_cast<int>(written));
  return result.steps == 2 && written == 3 && parameters_elsewhere() == net::parameter_count ? 0 : 1;
}
