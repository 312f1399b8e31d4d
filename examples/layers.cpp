// Benchmarks single layers: which is faster, a separate cross-attention or one softmax over context and features?
// A complete Google Benchmark program; compare your own layer the same way.
#include <benchmark/benchmark.h>
#include <fathom/fathom.hpp>
#include <fathom/layer/standalone.hpp>

using shortcut = fathom::shortcut_attention<128 /*width*/, 4 /*heads*/, 3 /*depths*/>;
using joint = fathom::joint_attention<128, 4, 3>;

template <class Layer, bool Backward>
void attention(benchmark::State& state) {
  constexpr fathom::index sequences = 8;
  fathom::standalone<Layer, fathom::backend::cpu<float>> layer(sequences, state.range(0));
  layer.forward();
  for (auto _ : state) Backward ? layer.backward() : layer.forward();
  const double flops = static_cast<double>(sequences) * Layer::flops(state.range(0)) * (Backward ? 2 : 1);
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(attention<shortcut, false>)->Name("shortcut forward")->Arg(128)->Arg(1024)->UseRealTime();
BENCHMARK(attention<joint, false>)->Name("joint forward")->Arg(128)->Arg(1024)->UseRealTime();
BENCHMARK(attention<shortcut, true>)->Name("shortcut backward")->Arg(128)->Arg(1024)->UseRealTime();
BENCHMARK(attention<joint, true>)->Name("joint backward")->Arg(128)->Arg(1024)->UseRealTime();
BENCHMARK_MAIN();
