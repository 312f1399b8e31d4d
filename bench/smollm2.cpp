// SmolLM2-135M from its GGUF file: logits and loss on given tokens, and speed (smollm2.sh).
//
//   bench_smollm2 MODEL.gguf TOKENS [LOGITS]
//
// TOKENS are 32-bit integers. Writes to LOGITS the logits of the first 64, [64, 49152] in float. Prints the mean NLL of all, in
// windows of 512, computed in float, and for each type of packed weights: bytes of the weights, NLL of decoding with weights
// loaded from the file and with weights packed from its dequantised floats, and the times of a decoded token and of a prompt
// of 512. Without LOGITS, prints that NLL by decoding with caches in float, bf16 and int8, and their bytes for each token.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <vector>

#include <fathom/fathom.hpp>

namespace {

constexpr fathom::config smollm2{.vocab = 49152, .context = 2048, .width = 576, .depth = 30, .heads = 9, .hidden = 1536, .tied = true,
                                 .shortcut = {}, .family = fathom::family::llama, .kv_heads = 3, .rotary = {.base = 100'000}};
using net = fathom::model<smollm2>;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Mean NLL of all tokens but the first in windows of 512, each a sequence that is decoded token by token.
template <class P>
double nll(const net::packed<P>& weights, std::span<const fathom::token> tokens) {
  constexpr fathom::index window = 512;
  const fathom::index count = std::ssize(tokens) - 1, windows = (count + window - 1) / window;
  const auto at = [&](fathom::index i) { return tokens[static_cast<std::size_t>(std::min(i, count))]; };
  net::cache cache(windows, window);
  double sum = 0;
  for (fathom::index t = 0; t < window; ++t) {
    std::vector<fathom::token> next;
    for (fathom::index w = 0; w < windows; ++w) next.push_back(at(w * window + t));
    const auto logits = net::decode(weights, next, cache);
    for (fathom::index w = 0; w < windows && w * window + t < count; ++w) {
      const auto row = logits.subspan(static_cast<std::size_t>(w * net::vocab), static_cast<std::size_t>(net::vocab));
      const double largest = *std::max_element(row.begin(), row.end());
      double total = 0;
      for (const float logit : row) total += std::exp(logit - largest);
      sum += largest + std::log(total) - row[static_cast<std::size_t>(at(w * window + t + 1))];
    }
  }
  return sum / static_cast<double>(count);
}

template <class P>
void measure(const char* name, const char* file, const net::parameters& weights, std::span<const fathom::token> tokens) {
  const double rounded = nll<P>(*fathom::pack<P>(weights), tokens);
  auto packed = fathom::make<net::packed<P>>();
  fathom::load(file, packed);
  const double loaded = nll<P>(*packed, tokens);
  net::cache cache(1);
  std::vector<double> prompts, steps;
  for (int round = 0; round < 5; ++round) {
    cache.truncate(0);
    double begin = now();
    net::prefill(*packed, tokens.first(512), cache);
    prompts.push_back(now() - begin);
    for (std::size_t i = 0; i < 64; ++i) {
      begin = now();
      net::decode(*packed, tokens[512 + i], cache);
      steps.push_back(now() - begin);
    }
  }
  std::printf("%s %.1f %.5f %.5f %.2f %.0f\n", name, static_cast<double>(net::weight_bytes<P>) / 1e6, loaded, rounded,
              1e3 * median(steps), 1e3 * median(prompts));
  std::fflush(stdout);
}

/// The mean NLL of all tokens but the first, decoded one by one in windows of 512, which are the sequences of one cache.
template <class T>
void measure_cache(const char* name, const net::parameters& weights, std::span<const fathom::token> tokens) {
  constexpr std::size_t window = 512, vocab = net::vocab;
  const std::size_t windows = (tokens.size() - 1 + window - 1) / window;
  const auto packed = fathom::pack<float>(weights);
  net::cache_of<T> cache(static_cast<fathom::index>(windows), window);
  double sum = 0;
  std::vector<fathom::token> next(windows);
  for (std::size_t i = 0; i < window; ++i) {
    const auto there = [&](std::size_t w) { return w * window + i + 1 < tokens.size(); };  // the last window may be shorter
    for (std::size_t w = 0; w < windows; ++w) next[w] = there(w) ? tokens[w * window + i] : 0;
    const auto logits = net::decode(*packed, next, cache);
    for (std::size_t w = 0; w < windows; ++w) {
      if (!there(w)) continue;
      const auto row = logits.subspan(w * vocab, vocab);
      const double largest = static_cast<double>(*std::max_element(row.begin(), row.end()));
      double total = 0;
      for (const float x : row) total += std::exp(static_cast<double>(x) - largest);
      sum += largest + std::log(total) - static_cast<double>(row[static_cast<std::size_t>(tokens[w * window + i + 1])]);
    }
  }
  const std::size_t bytes = (net::cache_bytes<T>(1, 1024) - net::cache_bytes<T>(1, 512)) / 512;
  std::printf("%s %.6f %zu\n", name, sum / static_cast<double>(tokens.size() - 1), bytes);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3 && count != 4) return std::fputs("bench_smollm2 MODEL.gguf TOKENS [LOGITS]\n", stderr), 2;
  auto weights = fathom::make<net::parameters>();
  fathom::load(arguments[1], *weights);
  std::ifstream file(arguments[2], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<fathom::token> tokens(bytes.size() / sizeof(fathom::token));
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(fathom::token));
  if (count == 3) {
    measure_cache<float>("float", *weights, tokens);
    measure_cache<fathom::bf16>("bf16", *weights, tokens);
    measure_cache<std::int8_t>("int8", *weights, tokens);
    return 0;
  }

  net::tape tape(1, 512);
  net::forward(*weights, {std::span(tokens).first(64), {}, 1, 64}, tape);
  std::ofstream(arguments[3], std::ios::binary)
      .write(reinterpret_cast<const char*>(tape.logits().data()), static_cast<std::streamsize>(tape.logits().size_bytes()));
  std::printf("nll %.6f\n", fathom::evaluate<net>(*weights, tokens, tape, 1, 512));
  measure<float>("float", arguments[1], *weights, tokens);
  measure<fathom::bf16>("bf16", arguments[1], *weights, tokens);
  measure<std::int8_t>("int8", arguments[1], *weights, tokens);
  measure<fathom::grouped_int8>("grouped_int8", arguments[1], *weights, tokens);
  measure<fathom::int4>("int4", arguments[1], *weights, tokens);
  measure<fathom::symmetric_int4>("symmetric_int4", arguments[1], *weights, tokens);
}
