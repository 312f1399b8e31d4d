// SmolLM2-135M from its GGUF file: logits and loss on given tokens, and speed (smollm2.sh).
//
//   bench_smollm2 MODEL.gguf TOKENS LOGITS
//
// TOKENS are 32-bit integers. Writes to LOGITS the logits of the first 64, [64, 49152] in float. Prints the mean NLL of all, in
// windows of 512, and the times of a decoded token and of a prompt of 512, with weights in float, bf16 and int8.
#include <algorithm>
#include <chrono>
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

template <class P>
void time_decoding(const char* name, const net::parameters& weights, std::span<const fathom::token> tokens) {
  const auto packed = fathom::pack<P>(weights);
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
  std::printf("%s %.2f %.0f\n", name, 1e3 * median(steps), 1e3 * median(prompts));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return std::fputs("bench_smollm2 MODEL.gguf TOKENS LOGITS\n", stderr), 2;
  auto weights = fathom::make<net::parameters>();
  fathom::load(arguments[1], *weights);
  std::ifstream file(arguments[2], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<fathom::token> tokens(bytes.size() / sizeof(fathom::token));
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(fathom::token));

  net::tape tape(1, 512);
  net::forward(*weights, {std::span(tokens).first(64), {}, 1, 64}, tape);
  std::ofstream(arguments[3], std::ios::binary)
      .write(reinterpret_cast<const char*>(tape.logits().data()), static_cast<std::streamsize>(tape.logits().size_bytes()));
  std::printf("nll %.6f\n", fathom::evaluate<net>(*weights, tokens, tape, 1, 512));
  time_decoding<float>("float", *weights, tokens);
  time_decoding<fathom::bf16>("bf16", *weights, tokens);
  time_decoding<std::int8_t>("int8", *weights, tokens);
}
