// A training step (forward, backward, AdamW) and decoding, batch 1, for the three models, plain and with the shortcut.
//
//   bench_models [--benchmark_filter=train/tiny] ...
#include <cstdint>
#include <string>
#include <vector>

#include <fathom/fathom.hpp>

#include "burst.hpp"
#include "models.hpp"

namespace {

double burst = 0;

std::vector<fathom::token> random_tokens(fathom::index count, fathom::index vocab) {
  std::vector<fathom::token> tokens(static_cast<std::size_t>(count));
  fathom::random draw(5, 0);
  for (auto& t : tokens) t = static_cast<fathom::token>(draw.below(vocab));
  return tokens;
}

template <fathom::config C>
void model(const std::string& name, fathom::index sequences, fathom::index tokens) {
  using net = fathom::model<C>;
  benchmark::RegisterBenchmark(("train/" + name).c_str(), [=](benchmark::State& state) {
    auto weights = fathom::make<typename net::parameters>();
    auto gradients = fathom::make<typename net::parameters>();
    fathom::initialize<net>(*weights, 1);
    typename net::tape tape(sequences, tokens);
    fathom::adamw<net> optimizer;
    const auto ids = random_tokens(sequences * tokens + 1, net::vocab);
    const auto count_of = static_cast<std::size_t>(sequences * tokens);
    const fathom::batch batch{std::span(ids).first(count_of), std::span(ids).last(count_of), sequences, tokens};
    for (auto _ : state) {
      net::forward(*weights, batch, tape);
      net::backward(*weights, batch, tape, *gradients);
      optimizer.step(*weights, *gradients);
    }
    count(state, net::training_flops_per_token(tokens) * static_cast<double>(sequences * tokens), 0, burst);
    state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(sequences * tokens), benchmark::Counter::kIsIterationInvariantRate);
  })->UseRealTime()->Unit(benchmark::kMillisecond);

  const auto decode = [&]<class P>(P, const char* type) {
    benchmark::RegisterBenchmark(("decode/" + name + "/" + type).c_str(), [=](benchmark::State& state) {
      auto weights = fathom::make<typename net::parameters>();
      fathom::initialize<net>(*weights, 1);
      const auto ready = fathom::pack<P>(*weights);
      weights.reset();
      typename net::cache cache(1);
      const auto prompt = random_tokens(net::context / 2, net::vocab);
      net::prefill(*ready, prompt, cache);
      for (auto _ : state) {
        benchmark::DoNotOptimize(net::decode(*ready, 1, cache).data());
        if (cache.length() == net::context) cache.truncate(net::context / 2);
      }
      count(state, net::forward_flops_per_token(net::context), static_cast<double>(net::template weight_bytes<P>), burst);
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  decode(float(), "f32");
  decode(fathom::bf16(), "bf16");
  decode(std::int8_t(), "int8");

  benchmark::RegisterBenchmark(("prefill/" + name).c_str(), [=](benchmark::State& state) {
    auto weights = fathom::make<typename net::parameters>();
    fathom::initialize<net>(*weights, 1);
    const auto ready = fathom::pack<float>(*weights);
    weights.reset();
    typename net::cache cache(1);
    const auto prompt = random_tokens(net::context, net::vocab);
    for (auto _ : state) {
      cache.truncate(0);
      benchmark::DoNotOptimize(net::prefill(*ready, prompt, cache).data());
    }
    count(state, net::forward_flops_per_token(net::context) * static_cast<double>(net::context), 0, burst);
  })->UseRealTime()->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  burst = fma_burst();
  benchmark::AddCustomContext("FMA burst, GFLOP/s", std::to_string(burst / 1e9));
  model<bench::tiny>("tiny", 16, 128);
  model<bench::tiny_shortcut>("tiny-shortcut", 16, 128);
  model<bench::small>("small", 8, 256);
  model<bench::small_shortcut>("small-shortcut", 8, 256);
  model<bench::medium>("medium", 2, 256);
  model<bench::medium_shortcut>("medium-shortcut", 2, 256);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
