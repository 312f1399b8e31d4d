// How long a training step and a decoded token take: medians. For more, see Google Benchmark.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <vector>

#include "model.hpp"

template <class F>
static double median_ms(int runs, F&& work) {
  std::vector<double> times;
  for (int run = 0; run < runs; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[static_cast<std::size_t>(runs / 2)];
}

int main() {
  std::vector<fathom::token> tokens(16 * 128);
  std::iota(tokens.begin(), tokens.end(), 0);
  for (fathom::token& t : tokens) t %= 256;
  auto weights = fathom::make<net::parameters>(), gradients = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 1);
  net::tape tape(16, 128);
  fathom::adamw<net> optimizer({.rate = 1e-3f});
  std::printf("training step, 16 x 128 tokens  %8.3f ms\n", median_ms(10, [&] {
    net::forward_backward(*weights, {tokens, tokens, 16, 128}, tape, *gradients);
    optimizer.step(*weights, *gradients);
  }));
  const auto packed = fathom::pack<std::int8_t>(*weights);
  net::cache cache(1);
  std::printf("token decoded, int8             %8.3f ms\n", median_ms(200, [&] {
    if (cache.length() == net::context) cache.truncate(0);
    net::decode(*packed, 65, cache);
  }));
}
