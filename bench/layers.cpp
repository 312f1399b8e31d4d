// Every layer on its own, forward and backward, at the widths of the three models.
#include <string>

#include <fathom/fathom.hpp>
#include <fathom/layer/standalone.hpp>

#include "burst.hpp"

namespace {

double burst = 0;

template <class Layer>
void layer(const std::string& name, fathom::index sequences, fathom::index tokens) {
  for (const bool backward : {false, true})
    benchmark::RegisterBenchmark((name + (backward ? "/backward" : "/forward")).c_str(), [=](benchmark::State& state) {
      fathom::standalone<Layer, fathom::backend::cpu<float>> l(sequences, tokens);
      l.forward();
      for (auto _ : state) backward ? l.backward() : l.forward();
      count(state, static_cast<double>(sequences) * Layer::flops(tokens) * (backward ? 2 : 1), 0, burst);
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

template <fathom::index E, fathom::index H, fathom::index D>
void layers(const std::string& model, fathom::index sequences, fathom::index tokens) {
  layer<fathom::self_attention<E, H>>(model + "/self_attention", sequences, tokens);
  layer<fathom::shortcut_attention<E, H, D>>(model + "/shortcut_attention", sequences, tokens);
  layer<fathom::joint_attention<E, H, D>>(model + "/joint_attention", sequences, tokens);
  layer<fathom::mlp<E, 4 * E>>(model + "/mlp", sequences, tokens);
}

}  // namespace

int main(int argc, char** argv) {
  burst = fma_burst();
  benchmark::AddCustomContext("FMA burst, GFLOP/s", std::to_string(burst / 1e9));
  layers<128, 4, 2>("tiny", 16, 128);
  layers<256, 8, 3>("small", 8, 256);
  layers<768, 12, 3>("medium", 2, 256);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
