// AdamW against memory bandwidth: a step over the medium model's parameters, and plain streams over the same arrays, in
// turns in one run. Bytes are the necessary traffic: AdamW reads and writes weights, gradients (zeroed) and both moments.
//
//   bench_bandwidth [ROUNDS]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/cpu/simd.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/train/adamw.hpp>

namespace {

using fathom::index;
using vec = fathom::cpu::vec<float>;
using fathom::cpu::lanes;

constexpr index count = 124'440'576;  // parameters of GPT-2 124M, rounded up to whole pieces
constexpr index piece = 4096;
static_assert(count % piece == 0);

/// The four arrays of AdamW: weights, gradients, first and second moments.
struct numbers {
  std::array<fathom::buffer, 4> memory;
  std::array<float*, 4> at{};
  numbers() {
    for (std::size_t n = 0; n < 4; ++n) {
      memory[n] = fathom::buffer(static_cast<std::size_t>(count) * sizeof(float));
      at[n] = reinterpret_cast<float*>(memory[n].bytes().data());
      std::fill_n(at[n], count, 1e-3f);
    }
  }
};

/// The team's time for f(on) in seconds.
template <class F>
double seconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  fathom::backend::cpu<float>::executor{}.run([&](const auto& on) { f(on); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The sum of all four arrays, in eight chains: only reads.
template <class On>
double read(const On& on, const numbers& m) {
  return on.sum(64, [&](index part) {
    const index first = count / 64 * part, last = count / 64 * (part + 1);
    vec sums[8];
    for (auto& sum : sums) sum = vec(0.f);
    for (index i = first; i + 2 * lanes<float> <= last; i += 2 * lanes<float>)
      fathom::cpu::unroll<8>([&](auto n) __attribute__((always_inline)) {
        sums[n] += vec::load_unaligned(m.at[n / 2] + i + static_cast<index>(n % 2) * lanes<float>);
      });
    vec total(0.f);
    for (const auto& sum : sums) total += sum;
    return static_cast<double>(fathom::cpu::horizontal_sum(total));
  });
}

/// Multiplies every number by almost 1: reads and writes all four arrays, as AdamW does, with almost no arithmetic.
template <class On>
void update(const On& on, const numbers& m) {
  on.tasks(count / piece, [&](index task) {
    for (index i = task * piece; i < (task + 1) * piece; i += lanes<float>)
      fathom::cpu::unroll<4>([&](auto n) __attribute__((always_inline)) {
        (vec::load_unaligned(m.at[n] + i) * vec(0.9999f)).store_unaligned(m.at[n] + i);
      });
  });
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 15;
  const numbers m;
  const fathom::gradient_step<fathom::adamw_rule::formula<float>, float> step{fathom::adamw_rule::formula_of<float>({}, {1e-3, 0.1, 1}), 1};
  double sum = 0;
  const auto one_round = [&] {
    return std::array{
        seconds([&](const auto& on) { const double s = read(on, m); if (on.rank() == 0) sum += s; }),
        seconds([&](const auto& on) { update(on, m); }),
        seconds([&](const auto& on) { update(on, step, count, m.at[0], m.at[1], m.at[2], m.at[3]); })};
  };
  one_round();  // to warm up
  std::array<std::vector<double>, 3> times;
  for (int r = 0; r < rounds; ++r) {
    const auto t = one_round();
    for (std::size_t n = 0; n < 3; ++n) times[n].push_back(t[n]);
  }
  const double bytes[3] = {16.0 * count, 32.0 * count, 32.0 * count};
  const char* const names[3] = {"read, 4 streams", "read and write in place, 4 streams", "AdamW's update"};
  const double stream = bytes[1] / median(times[1]), best_stream = bytes[1] / *std::min_element(times[1].begin(), times[1].end());
  std::printf("| %d rounds in turns, %td numbers (sum %.3g) | GB/s | best | of the stream in place | of the bests |\n"
              "| --- | --- | --- | --- | --- |\n", rounds, count, sum);
  for (std::size_t n = 0; n < 3; ++n) {
    const double speed = bytes[n] / median(times[n]), best = bytes[n] / *std::min_element(times[n].begin(), times[n].end());
    std::printf("| %s | %.1f | %.1f | %.2f | %.2f |\n", names[n], speed / 1e9, best / 1e9, speed / stream, best / best_stream);
  }
}
