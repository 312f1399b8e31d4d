// What weights in bf16 and int8 cost: trains the model of the quickstart for a while, and decodes the held-back text with its
// weights in each form. Printed is the mean negative log-likelihood in nats a byte, and how much more than with float it is,
// with the standard error of that difference over the windows.
//
//   bench_weights_nll TEXT [STEPS [WINDOWS]]        examples/quickstart.sh leaves a text in quickstart/kjv.txt
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fathom/data/text.hpp>
#include <fathom/fathom.hpp>

namespace {

constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .shortcut = {.depths = {2, 4}}};
using net = fathom::model<tiny>;

/// -log p of every byte but the first of each window of `context` bytes, decoded one by one: its mean for each window.
template <class P>
std::vector<double> window_nlls(const net::parameters& weights, std::span<const fathom::token> text, fathom::index windows) {
  const auto ready = fathom::pack<P>(weights);
  net::cache cache;
  std::vector<double> found;
  const fathom::index apart = (std::ssize(text) - net::context) / windows;  // spread over all of the text
  for (fathom::index w = 0; w < windows; ++w) {
    cache.truncate(0);
    const auto window = text.subspan(static_cast<std::size_t>(w * apart), static_cast<std::size_t>(net::context));
    double sum = 0;
    for (std::size_t i = 0; i + 1 < window.size(); ++i) {
      const auto logits = net::decode(*ready, window[i], cache);
      const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
      double total = 0;
      for (const float logit : logits) total += std::exp(static_cast<double>(logit) - largest);
      sum += std::log(total) + largest - static_cast<double>(logits[static_cast<std::size_t>(window[i + 1])]);
    }
    found.push_back(sum / static_cast<double>(net::context - 1));
  }
  return found;
}

void report(const char* name, const std::vector<double>& nll, const std::vector<double>& base) {
  const double count = static_cast<double>(nll.size());
  double mean = 0, more = 0, square = 0;
  for (std::size_t w = 0; w < nll.size(); ++w) {
    const double d = nll[w] - base[w];
    mean += nll[w] / count;
    more += d / count;
    square += d * d / count;
  }
  std::printf("%-6s %.5f nats a byte, %+.5f +- %.5f\n", name, mean, more, std::sqrt(std::max(0.0, square - more * more) / count));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s TEXT [STEPS [WINDOWS]]\n", argv[0]);
    return 1;
  }
  const auto text = fathom::data::bytes(argv[1]);
  fathom::trainer<net> trainer({.batch = 16, .steps = argc > 2 ? std::atoi(argv[2]) : 500, .rate = 3e-3f, .seed = 1});
  trainer.fit(text.train());
  const fathom::index windows = argc > 3 ? std::atoi(argv[3]) : 1000;
  const auto exact = window_nlls<float>(trainer.weights(), text.validation(), windows);
  report("float", exact, exact);
  report("bf16", window_nlls<fathom::bf16>(trainer.weights(), text.validation(), windows), exact);
  report("int8", window_nlls<std::int8_t>(trainer.weights(), text.validation(), windows), exact);
}
