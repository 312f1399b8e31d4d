// The machine's current peak: a burst of multiplications and additions in registers, on all threads. Clocks
// and neighbours change from second to second, so speeds are reported as fractions of a burst in the same run.
#pragma once

#include <algorithm>
#include <chrono>

#include <benchmark/benchmark.h>
#include <fathom/backend/cpu.hpp>
#include <fathom/backend/cpu/simd.hpp>

/// FLOP/s of fused multiply-adds in float, the best of several bursts of a few milliseconds.
inline double fma_burst(int attempts = 10) {
  using vec = fathom::cpu::vec<float>;
  constexpr long rounds = 2'000'000;
  // Enough to keep both units busy, with a latency of five cycles, but few enough to stay in registers.
  constexpr std::size_t chains = fathom::cpu::vector_registers == 32 ? 16 : 12;
  double best = 0;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    int threads = 1;
    const auto start = std::chrono::steady_clock::now();
    fathom::backend::cpu<float>::executor{}.run([&](const auto& on) {
      if (on.rank() == 0) threads = on.size();
      float starts[chains];  // unknown to the compiler, which would merge identical chains
      for (std::size_t c = 0; c < chains; ++c) starts[c] = static_cast<float>(c);
      benchmark::DoNotOptimize(starts);
      vec sums[chains];
      for (std::size_t c = 0; c < chains; ++c) sums[c] = vec(starts[c]);
      vec factor(0.999f), term(1e-3f);
      benchmark::DoNotOptimize(factor);
      for (long i = 0; i < rounds; ++i)
        fathom::cpu::unroll<chains>([&](auto c) __attribute__((always_inline)) { sums[c] = xsimd::fma(sums[c], factor, term); });
      vec total(0.f);  // sums a copy, so that the chains can stay in registers
      fathom::cpu::unroll<chains>([&](auto c) __attribute__((always_inline)) { total += sums[c]; });
      benchmark::DoNotOptimize(total);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double flops = 2.0 * rounds * chains * static_cast<double>(fathom::cpu::lanes<float>) * threads;
    best = std::max(best, flops / seconds);
  }
  return best;
}

/// Adds a bench's counters to its row: FLOP/s, bytes/s (the least that the operation must read and write) and the
/// fraction of the burst. A value of 0 leaves out the counter.
inline void count(benchmark::State& state, double flops, double bytes, double burst) {
  using counter = benchmark::Counter;
  if (flops > 0) {
    state.counters["FLOP/s"] = counter(flops, counter::kIsIterationInvariantRate);
    state.counters["of burst"] = counter(flops / burst, counter::kIsIterationInvariantRate);
  }
  if (bytes > 0) state.counters["bytes/s"] = counter(bytes, counter::kIsIterationInvariantRate, counter::kIs1024);
}
