// Attention on the GPU: the operations alone, forward and backward, in bf16 and float. GPT-2's shape, 12 heads 64 wide, 1024
// tokens, a batch of 16; self-attention (1 row a position) and the shortcut's over three depths (3 rows a position).
//
// A line for each: what, rows a position, forward and backward in TFLOP/s. Counted as is usual: scores and weighted sums of what
// is visible, four products in forward (2 of multiply and add) and ten in backward.
#include <fathom/backend/cuda.cuh>

#include <cstdio>
#include <vector>

#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>

namespace {

using fathom::index;
namespace cuda = fathom::cuda;

constexpr index sequences = 16, tokens = 1024, heads = 12, width = 64, E = heads * width;

/// A matrix of the GPU's, of random numbers.
struct numbers {
  numbers(index rows, index columns)
      : block(static_cast<std::size_t>(rows * columns) * sizeof(float)), rows_(rows), columns_(columns) {
    std::vector<float> values(static_cast<std::size_t>(rows * columns));
    fathom::random draw(1, static_cast<std::uint64_t>(rows));
    for (float& v : values) v = static_cast<float>(draw.normal());
    cuda::memory::copy(block.bytes().data(), values.data(), values.size() * sizeof(float));
  }
  [[nodiscard]] fathom::matrix<float> view() const { return {reinterpret_cast<float*>(block.bytes().data()), rows_, columns_}; }
  fathom::buffer_in<cuda::memory> block;
  index rows_, columns_;
};

/// Seconds of f(), the mean of 50 after 5 to warm up.
template <class F>
double seconds(cuda::gpu& gpu, const F& f) {
  cudaEvent_t start = nullptr, stop = nullptr;
  cuda::check(cudaEventCreate(&start), "an event");
  cuda::check(cudaEventCreate(&stop), "an event");
  for (int i = 0; i < 5; ++i) f();
  cuda::check(cudaEventRecord(start, gpu.stream()), "an event");
  for (int i = 0; i < 50; ++i) f();
  cuda::check(cudaEventRecord(stop, gpu.stream()), "an event");
  gpu.wait("attention");
  float milliseconds = 0;
  cuda::check(cudaEventElapsedTime(&milliseconds, start, stop), "an event");
  cuda::check(cudaEventDestroy(start), "an event");
  cuda::check(cudaEventDestroy(stop), "an event");
  return static_cast<double>(milliseconds) / 1e3 / 50;
}

template <class Compute>
void measure(const char* name, index rows) {
  const auto gpu = cuda::gpu::of_this_thread();
  const cuda::context<Compute> on(*gpu);
  const fathom::attention_shape shape{sequences, tokens, heads, width, rows, tokens * rows};
  const numbers q(sequences * tokens, E), kv(sequences * tokens * rows, 2 * E), out(sequences * tokens, E),
      dout(sequences * tokens, E), dq(sequences * tokens, E), dkv(sequences * tokens * rows, 2 * E),
      lse(sequences * tokens, heads), delta(sequences * tokens, heads);
  const auto keys = kv.view().columns_from(0, E), values = kv.view().columns_from(E, E);
  const double forward =
      seconds(*gpu, [&] { attention_forward(on, shape, q.view(), keys, values, out.view(), lse.view().data); });
  const double backward = seconds(*gpu, [&] {
    attention_backward(on, shape, q.view(), keys, values, out.view(), lse.view().data, dout.view(), delta.view().data, dq.view(),
                       dkv.view().columns_from(0, E), dkv.view().columns_from(E, E));
  });
  const double operations = 2.0 * sequences * heads * width * tokens * (tokens + 1) * static_cast<double>(rows);
  std::printf("%s, %td rows a position: forward %.1f, backward %.1f TFLOP/s\n", name, rows, operations / forward / 1e12,
              2.5 * operations / backward / 1e12);
}

}  // namespace

int main() try {
  measure<fathom::bf16>("bf16", 1);
  measure<fathom::bf16>("bf16", 3);
  measure<float>("float", 1);
  measure<float>("float", 3);
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
