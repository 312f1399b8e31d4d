// Attention alone, forward, and forward with backward, for one sequence of T tokens: causal self-attention, and the
// shortcut's over 3 depths. The layout is a model's: queries, keys and values side by side, one row per position.
//
//   bench_attention [--benchmark_filter=self/12x64/1024] ...
//
// The counter `beyond inputs` is the growth of the process from before the first call to the end: all memory that forward
// and backward need beyond q, k, v and dout, including results (on Linux). It is only reliable for the first row that a
// process runs: a later row may reuse memory that an earlier one released.
#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>

#include "burst.hpp"

namespace {

using fathom::index;
using fathom::matrix;

double burst = 0;

/// An owning matrix of numbers uniform in [-1, 1), or zeros.
struct numbers {
  fathom::buffer memory;
  matrix<float> view;

  numbers(index rows, index columns, bool random = true)
      : memory(static_cast<std::size_t>(rows * columns) * sizeof(float)),
        view(reinterpret_cast<float*>(memory.bytes().data()), rows, columns) {
    fathom::random draw(7, static_cast<std::uint64_t>(columns));
    if (random)
      for (index i = 0; i < rows * columns; ++i) view.data[i] = static_cast<float>(2 * draw.uniform() - 1);
  }
};

/// A line of /proc/self/status in bytes: "VmRSS:", resident memory; "VmHWM:", its peak.
double memory_of_process(std::string_view line) {
  std::ifstream status("/proc/self/status");
  for (std::string name; status >> name; status.ignore(1 << 10, '\n'))
    if (double kilobytes = 0; name == line && status >> kilobytes) return 1024 * kilobytes;
  return 0;
}
/// Resets the peak, and returns the resident memory.
double reset_most_memory() {
  std::ofstream("/proc/self/clear_refs") << 5;
  return memory_of_process("VmRSS:");
}

/// H heads of width d, `depths` rows of keys and values per position; depths = 1: self-attention
void attention(const std::string& name, index H, index d, index depths, index T, bool backward) {
  const auto grown = std::make_shared<double>(0);  // a row is called several times; the first call shows the growth
  benchmark::RegisterBenchmark((name + (backward ? "/both" : "/forward")).c_str(), [=](benchmark::State& state) {
    const index E = H * d, rows = T * depths;
    const fathom::attention_shape shape{1, T, H, d, depths, rows};
    const bool self = depths == 1;
    numbers q(T, self ? 3 * E : E), kv(self ? 0 : rows, 2 * E), dout(backward ? T : 0, E);
    const auto part = [&](const numbers& own, const numbers& memory, index n) {  // 0: queries, 1: keys, 2: values
      return self || n == 0 ? own.view.columns_from(n * E, E) : memory.view.columns_from((n - 1) * E, E);
    };
    const double before = reset_most_memory();
    numbers out(T, E, false), lse(T, H, false);
    numbers dq(backward ? T : 0, self ? 3 * E : E, false), dkv(backward && !self ? rows : 0, 2 * E, false);
    numbers delta(backward ? T : 0, H, false);
    for (auto _ : state)
      fathom::backend::cpu<float>::executor{}.run([&](const auto& on) {
        attention_forward(on, shape, part(q, kv, 0), part(q, kv, 1), part(q, kv, 2), out.view, lse.view.data);
        if (backward)
          attention_backward(on, shape, part(q, kv, 0), part(q, kv, 1), part(q, kv, 2), out.view, lse.view.data, dout.view,
                             delta.view.data, part(dq, dkv, 0), part(dq, dkv, 1), part(dq, dkv, 2));
      });
    // scores and weighted sums over visible keys; backward has twice the products, and recomputes the scores
    count(state, (backward ? 3.5 : 1) * 2.0 * static_cast<double>(E * depths) * static_cast<double>(T * (T + 1)), 0, burst);
    *grown = std::max(*grown, memory_of_process("VmHWM:") - before);
    state.counters["beyond inputs"] = *grown;
  })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

void register_all() {
  for (const index heads : {12, 4})
    for (const index depths : {1, 3})
      for (const index T : {128, 256, 512, 1024, 2048, 4096})
        for (const bool backward : {false, true}) {
          const index width = heads == 12 ? 64 : 32;
          const std::string shape = std::to_string(heads) + "x" + std::to_string(width) + "/" + std::to_string(T);
          attention((depths == 1 ? "self/" : "shortcut/") + shape, heads, width, depths, T, backward);
        }
}

}  // namespace

int main(int argc, char** argv) {
  burst = fma_burst();
  benchmark::AddCustomContext("FMA burst, GFLOP/s", std::to_string(burst / 1e9));
  register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
