// Single layers, forward and backward, at the widths of the three models. Embedding and loss are single operations
// (operations.cpp).
#include <string>

#include <fathom/fathom.hpp>
#include <fathom/layer/standalone.hpp>

#include "burst.hpp"

namespace {

double burst = 0;

/// Adapts layers without a residual to the interface of layers with one.
template <fathom::index E>
struct linear : fathom::linear<E, E> {
  using layer = fathom::linear<E, E>;
  static constexpr fathom::index width = E;
  template <class T>
  using tape = fathom::nothing;
  template <class T>
  using scratch = fathom::nothing;
  static void forward(const auto& on, const auto& p, const auto&, auto x, auto, auto y, const auto&) { layer::forward(on, p, x, y); }
  static void backward(const auto& on, const auto& p, const auto&, auto x, auto dy, auto dx, const auto&, auto& g, const auto&) {
    layer::backward_parameters(on, x, dy, g);
    layer::backward_input(on, p, dy, dx);
  }
};
template <fathom::index E>
struct norm : fathom::layers::layer_norm<E> {
  using layer = fathom::layers::layer_norm<E>;
  static constexpr fathom::index width = E;
  template <class T>
  using scratch = fathom::nothing;
  static void forward(const auto& on, const auto& p, const auto&, auto x, auto, auto y, const auto& t) {
    layer::forward(on, p, x, y, t);
  }
  static void backward(const auto& on, const auto& p, const auto&, auto x, auto dy, auto dx, const auto& t, auto& g, const auto&) {
    layer::backward(on, p, x, dy, dx, t, g);
  }
};
template <class Feature, fathom::index E>
struct features : Feature {
  static constexpr fathom::index width = E;
  static void forward(const auto& on, const auto& p, const auto&, auto x, auto, auto y, const auto& t) {
    Feature::forward(on, p, x, y, t);
  }
  static void backward(const auto& on, const auto& p, const auto&, auto x, auto dy, auto dx, const auto& t, auto& g, const auto& s) {
    Feature::backward(on, p, x, dy, dx, t, g, s);
  }
};

template <class Layer>
void layer(const std::string& name, fathom::index sequences, fathom::index tokens) {
  for (const bool backward : {false, true})
    benchmark::RegisterBenchmark((name + (backward ? "/backward" : "/forward")).c_str(), [=](benchmark::State& state) {
      using alone = fathom::standalone<Layer, fathom::backend::cpu<float>>;
      alone l(sequences, tokens);
      l.forward();
      for (auto _ : state) backward ? l.backward() : l.forward();
      count(state, static_cast<double>(sequences) * Layer::flops(tokens) * (backward ? 2 : 1),
            // At least weights, input, memory and output; backward also their gradients.
            static_cast<double>((backward ? 2 : 1) * (sizeof(typename alone::parameters) +
                                                      sizeof(float) * static_cast<std::size_t>(sequences * tokens * Layer::width *
                                                                                               (2 + alone::source_rows)))),
            burst);
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

template <fathom::index E, fathom::index H, fathom::index D>
void layers(const std::string& model, fathom::index sequences, fathom::index tokens) {
  layer<norm<E>>(model + "/layer_norm", sequences, tokens);
  layer<linear<E>>(model + "/linear", sequences, tokens);
  layer<features<fathom::layers::linear_features<E>, E>>(model + "/linear_features", sequences, tokens);
  layer<features<fathom::layers::mlp_features<E, E>, E>>(model + "/mlp_features", sequences, tokens);
  layer<fathom::self_attention<E, H>>(model + "/self_attention", sequences, tokens);
  layer<fathom::shortcut_attention<E, H, D>>(model + "/shortcut_attention", sequences, tokens);
  layer<fathom::joint_attention<E, H, D>>(model + "/joint_attention", sequences, tokens);
  layer<fathom::layers::mlp<E, 4 * E>>(model + "/mlp", sequences, tokens);
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
