// Speed of attention on a GPU: TFLOP/s of forward and backward, for heads of 64 columns, beside published numbers for others.
// FLOPs are those that a causal softmax needs, 4 (forward) and 10 (backward) for each query, visible key and
// column, whatever is actually computed; the time covers the whole operation.
//
//   nvcc -std=c++20 -O3 -arch=sm_90a -Iinclude bench/cuda_attention.cu -o build/cuda_attention && build/cuda_attention
#include <algorithm>
#include <cstdio>
#include <vector>

#include <fathom/backend/cuda/attention.cuh>

namespace {

using fathom::index;
using fathom::cuda::check;

/// Numbers on the GPU.
template <class T>
T* device(const std::vector<float>& numbers) {
  std::vector<T> rounded(numbers.size());
  std::transform(numbers.begin(), numbers.end(), rounded.begin(), [](float x) { return T(x); });
  void* memory = nullptr;
  check(cudaMalloc(&memory, rounded.size() * sizeof(T)), "memory");
  check(cudaMemcpy(memory, rounded.data(), rounded.size() * sizeof(T), cudaMemcpyHostToDevice), "memory");
  return static_cast<T*>(memory);
}

template <class Compute, class T>
struct context {
  using compute = Compute;
  using scalar = T;
  std::byte* memory;
  std::size_t bytes;
  mutable std::size_t used = 0;

  [[nodiscard]] static cudaStream_t stream() { return nullptr; }
  [[nodiscard]] static int processors() { return 132; }
  void begin() const { used = 0; }
  template <class U>
  [[nodiscard]] U* scratch(index count) const {
    std::byte* const from = memory + used;
    used += (static_cast<std::size_t>(count) * sizeof(U) + 255) / 256 * 256;
    if (used > bytes) fathom::fail("the bench has too little scratch memory");
    return reinterpret_cast<U*>(from);
  }
};

/// The median of some runs, in seconds.
template <class F>
double seconds(const F& f) {
  cudaEvent_t from, to;
  check(cudaEventCreate(&from), "an event");
  check(cudaEventCreate(&to), "an event");
  std::vector<double> times;
  for (int run = 0; run < 25; ++run) {
    check(cudaEventRecord(from), "an event");
    f();
    check(cudaEventRecord(to), "an event");
    check(cudaEventSynchronize(to), "the work");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, from, to), "an event");
    if (run >= 5) times.push_back(milliseconds / 1000);
  }
  std::nth_element(times.begin(), times.begin() + 10, times.end());
  return times[10];
}

/// Positions of `sequences` sequences, each with D rows of memory.
template <class Compute, class T>
void measure(const char* types, index sequences, index tokens, index heads, index D) {
  constexpr index width = 64;
  const index columns = heads * width, rows = sequences * tokens, memory_rows = rows * D;
  std::vector<float> numbers(static_cast<std::size_t>(memory_rows * columns));
  unsigned state = 1;
  const auto fill = [&](index count) {
    numbers.resize(static_cast<std::size_t>(count));
    for (float& x : numbers) x = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1;
    return numbers;
  };
  T* const q = device<T>(fill(rows * columns));
  T* const k = device<T>(fill(memory_rows * columns));
  T* const v = device<T>(fill(memory_rows * columns));
  T* const dout = device<T>(fill(rows * columns));
  T* const out = device<T>(numbers);
  T* const dq = device<T>(numbers);
  T* const dk = device<T>(fill(memory_rows * columns));
  T* const dv = device<T>(numbers);
  float* const lse = device<float>(fill(rows * heads));
  float* const delta = device<float>(numbers);
  const std::size_t scratch = static_cast<std::size_t>((2 * rows + 2 * memory_rows) * columns) * 2 + 4096;
  const context<Compute, T> on{reinterpret_cast<std::byte*>(device<float>(std::vector<float>(scratch / 4 + 1))), scratch};
  const auto of_queries = [&](T* x) { return fathom::matrix<T>(x, rows, columns); };
  const auto of_memory = [&](T* x) { return fathom::matrix<T>(x, memory_rows, columns); };
  const fathom::attention_shape s{sequences, tokens, heads, width, D, tokens * D};
  const double forward = seconds([&] {
    fathom::cuda::attention_forward(on, s, of_queries(q), of_memory(k), of_memory(v), of_queries(out), lse);
  });
  const double backward = seconds([&] {
    fathom::cuda::attention_backward(on, s, of_queries(q), of_memory(k), of_memory(v), of_queries(out), lse, of_queries(dout),
                                     delta, of_queries(dq), of_memory(dk), of_memory(dv));
  });
  const double pairs = static_cast<double>(sequences * heads * D) * static_cast<double>(tokens * (tokens + 1) / 2);
  std::printf("| %s | %d | %d | %d | %.1f | %.1f |\n", types, static_cast<int>(sequences), static_cast<int>(tokens),
              static_cast<int>(D), 4 * width * pairs / forward * 1e-12, 10 * width * pairs / backward * 1e-12);
  for (void* memory : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(out),
                       static_cast<void*>(dout), static_cast<void*>(dq), static_cast<void*>(dk), static_cast<void*>(dv),
                       static_cast<void*>(lse), static_cast<void*>(delta), static_cast<void*>(on.memory)})
    check(cudaFree(memory), "memory");
}

}  // namespace

int main() {
  std::puts("| numbers in memory, operands | sequences | tokens | depths | forward, TFLOP/s | backward, TFLOP/s |");
  std::puts("| --- | --- | --- | --- | --- | --- |");
  for (const fathom::index tokens : {256, 1024, 4096})
    for (const fathom::index D : {1, 3}) {
      measure<fathom::bf16, fathom::bf16>("bf16, bf16", 16384 / tokens, tokens, 12, D);
      measure<fathom::bf16, float>("float, bf16", 16384 / tokens, tokens, 12, D);
    }
  for (const fathom::index D : {1, 3}) measure<float, float>("float, float", 4, 1024, 12, D);
}
