// The current read bandwidth of memory: sums over a block of memory, by all threads, in several patterns. It bounds the speed
// at which decoding can read its weights.
//
//   bench_stream
//
// Then, line by line on the standard input: the size of a block in bytes, and the seconds to spend. The answer is bytes per
// second for each of `patterns`: the median of the passes in that time.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/cpu/simd.hpp>
#include <fathom/core/memory.hpp>

namespace {

using fathom::index;
using vec = fathom::cpu::vec<float>;
constexpr index line = 64 / static_cast<index>(sizeof(float));  // floats
constexpr index page = 4096 / static_cast<index>(sizeof(float));

/// The sum of `count` numbers, read as Streams parallel runs, each prefetched `ahead` floats in advance.
template <std::size_t Streams>
[[gnu::noinline]] float sum(const float* from, index count, index ahead) {
  const index each = count / static_cast<index>(Streams) / line * line;
  vec sums[Streams];
  for (auto& s : sums) s = vec(0.f);
  for (index i = 0; i < each; i += line)
    fathom::cpu::unroll<Streams>([&](auto s) __attribute__((always_inline)) {
      const float* const at = from + static_cast<index>(s) * each + i;
      if (ahead > 0) __builtin_prefetch(at + ahead);
      for (index j = 0; j < line; j += fathom::cpu::lanes<float>) sums[s] += vec::load_aligned(at + j);
    });
  vec total(0.f);
  for (const auto& s : sums) total += s;
  return fathom::cpu::horizontal_sum(total);
}

struct pattern {
  float (*sum)(const float*, index, index);
  index ahead;
};
constexpr pattern patterns[] = {{sum<1>, 0},        {sum<1>, page}, {sum<2>, page / 2}, {sum<4>, page / 4},
                                {sum<4>, page / 2}, {sum<4>, page}, {sum<8>, page / 4}, {sum<8>, page / 2}};

}  // namespace

int main() {
  fathom::buffer memory;
  std::size_t bytes = 0, size = 0;
  double seconds = 0;
  volatile float keep = 0;
  while (std::cin >> bytes >> seconds) {
    if (bytes != size) {
      memory = fathom::buffer(bytes);  // in huge pages, like weights and caches
      size = bytes;
    }
    const auto* const numbers = reinterpret_cast<const float*>(memory.bytes().data());
    for (const auto& p : patterns) {
      std::vector<double> rates;
      // for a small block, many passes between readings of the clock
      const auto passes = static_cast<fathom::index>(std::max<std::size_t>(1, (std::size_t{1} << 24) / bytes));
      const auto start = std::chrono::steady_clock::now();
      const auto now = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
      while (now() < seconds / std::size(patterns)) {
        const double before = now();
        fathom::backend::cpu<float>::executor{}.run([&](const auto& on) {
          const fathom::index each = static_cast<fathom::index>(bytes / sizeof(float)) / on.size() / page * page;
          float total = 0;
          for (fathom::index pass = 0; pass < passes; ++pass) total += p.sum(numbers + on.rank() * each, each, p.ahead);
          if (on.rank() == 0) keep = keep + total;
          on.barrier();
        });
        rates.push_back(static_cast<double>(bytes) * static_cast<double>(passes) / (now() - before));
      }
      const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
      std::nth_element(rates.begin(), middle, rates.end());
      std::cout << *middle << ' ';
    }
    std::cout << std::endl;
  }
}
