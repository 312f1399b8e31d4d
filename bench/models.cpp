// A training step (forward, backward, AdamW) with products in float and in bf16, decoding and prefill, batch 1, for the
// models of models.hpp but SmolLM2.
//
//   bench_models [--benchmark_filter=train/tiny] ...
#include <cstdint>
#include <memory>
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

/// The state of the current row. Google Benchmark calls a row several times to choose the number of repetitions;
/// drawing the weights of a large model takes seconds, so it is done once. Rows have states of different types.
template <class State>
State& state_of(const std::string& row) {
  static std::string held;
  static std::shared_ptr<void> kept;
  if (held != row) {
    kept.reset();
    kept = std::make_shared<State>();
    held = row;
  }
  return *static_cast<State*>(kept.get());
}

/// forward, backward, AdamW with clipping
template <class net>
void training(const std::string& row, fathom::index sequences, fathom::index tokens) {
  struct trained {
    fathom::owned<typename net::parameters> weights = fathom::make<typename net::parameters>();
    fathom::owned<typename net::parameters> gradients = fathom::make<typename net::parameters>();
    fathom::adamw<net> optimizer;
    trained() { fathom::initialize<net>(*weights, 1); }
  };
  benchmark::RegisterBenchmark(row.c_str(), [=](benchmark::State& state) {
    trained& m = state_of<trained>(row);
    typename net::tape tape(sequences, tokens);
    const auto count_of = static_cast<std::size_t>(sequences * tokens);
    const auto ids = random_tokens(sequences * tokens + 1, net::vocab);
    const fathom::batch batch{std::span(ids).first(count_of), std::span(ids).last(count_of), sequences, tokens};
    const auto step = [&] {
      net::forward_backward(*m.weights, batch, tape, *m.gradients);
      m.optimizer.step(*m.weights, *m.gradients);
    };
    step();  // to warm up
    for (auto _ : state) step();
    count(state, net::training_flops_per_token(tokens) * static_cast<double>(count_of), 0, burst);
    state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(count_of), benchmark::Counter::kIsIterationInvariantRate);
  })->UseRealTime()->Unit(benchmark::kMillisecond);
}

/// Weights packed as P, and a cache.
template <class net, class P>
struct decoded {
  fathom::owned<typename net::template packed<P>> weights = [] {
    auto plain = fathom::make<typename net::parameters>();
    fathom::initialize<net>(*plain, 1);
    return fathom::pack<P>(*plain);
  }();
  typename net::cache cache{1};
};

/// One token after another, starting at half of the context
template <class net, class P>
void decoding(const std::string& row) {
  benchmark::RegisterBenchmark(row.c_str(), [=](benchmark::State& state) {
    auto& m = state_of<decoded<net, P>>(row);
    m.cache.truncate(0);
    net::prefill(*m.weights, random_tokens(net::context / 2, net::vocab), m.cache);
    for (auto _ : state) {
      benchmark::DoNotOptimize(net::decode(*m.weights, 1, m.cache).data());
      if (m.cache.length() == net::context) m.cache.truncate(net::context / 2);
    }
    count(state, net::forward_flops_per_token(net::context), static_cast<double>(net::template weight_bytes<P>), burst);
  })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

/// The whole context at once, with the logits of its last token
template <class net, class P>
void prefilling(const std::string& row) {
  benchmark::RegisterBenchmark(row.c_str(), [=](benchmark::State& state) {
    auto& m = state_of<decoded<net, P>>(row);
    const auto prompt = random_tokens(net::context, net::vocab);
    const auto read = [&] {
      m.cache.truncate(0);
      benchmark::DoNotOptimize(net::prefill(*m.weights, prompt, m.cache).data());
    };
    read();  // to warm up
    for (auto _ : state) read();
    count(state, net::forward_flops_per_token(net::context) * static_cast<double>(net::context), 0, burst);
  })->UseRealTime()->Unit(benchmark::kMillisecond);
}

template <fathom::config C>
void model(const std::string& name, fathom::index sequences, fathom::index tokens) {
  using net = fathom::model<C>;
  using net_bf16 = fathom::model<C, fathom::backend::cpu<fathom::bf16>>;
  training<net>("train/" + name, sequences, tokens);
  training<net_bf16>("train/" + name + "/bf16", sequences, tokens);
  decoding<net, float>("decode/" + name + "/f32");
  decoding<net_bf16, fathom::bf16>("decode/" + name + "/bf16");
  decoding<net, std::int8_t>("decode/" + name + "/int8");
  prefilling<net, float>("prefill/" + name + "/f32");
  prefilling<net_bf16, fathom::bf16>("prefill/" + name + "/bf16");
  prefilling<net, std::int8_t>("prefill/" + name + "/int8");
}

}  // namespace

int main(int argc, char** argv) {
  burst = fma_burst();
  benchmark::AddCustomContext("FMA burst, GFLOP/s", std::to_string(burst / 1e9));
  model<bench::tiny>("tiny", 16, 128);
  model<bench::tiny_shortcut>("tiny-shortcut", 16, 128);
  model<bench::tiny_llama>("tiny-llama", 16, 128);
  model<bench::small>("small", 8, 256);
  model<bench::small_shortcut>("small-shortcut", 8, 256);
  model<bench::small_llama>("small-llama", 8, 256);
  model<bench::medium>("medium", 2, 256);
  model<bench::medium_shortcut>("medium-shortcut", 2, 256);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
