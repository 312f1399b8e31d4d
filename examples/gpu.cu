// The README's program on a GPU: trains a tiny model with layerwise attention shortcuts on a text file, saves it and generates.
//
//   nvcc -std=c++20 -O3 -gencode=arch=compute_90a,code=sm_90a -Iinclude examples/gpu.cu -lcublasLt -o gpu && ./gpu TEXT_FILE
//
// With -x c++ instead, any C++ compiler builds it for the CPU: one source, two backends.
#include <cstdio>

#if defined(__CUDACC__)
#include <fathom/cuda.cuh>
using backend = fathom::backend::cuda<fathom::bf16>;  // products have bf16 operands; weights and sums are float
#else
#include <fathom/fathom.hpp>
using backend = fathom::backend::cpu<float>;
#endif
#include <fathom/data/text.hpp>

constexpr fathom::config tiny{.vocab = 256,
                              .context = 128,
                              .width = 128,
                              .depth = 6,
                              .heads = 4,
                              .shortcut = {.depths = {2, 4}}};  // the last block attends to the outputs of blocks 2 and 4
using net = fathom::model<tiny, backend>;

int main(int count, char** arguments) try {
  if (count != 2) return std::fprintf(stderr, "usage: gpu TEXT_FILE\n"), 2;
  const auto text = fathom::data::bytes(arguments[1]);
  fathom::trainer<net> trainer({.batch = 16, .steps = 2000, .rate = 1e-3f, .seed = 1});
  const auto result = trainer.fit(text.train(), text.validation());
  std::printf("%.0f tokens/s, validation NLL %.3f nats a byte\n", result.tokens_per_second, result.validation_nll);
  fathom::save("tiny.safetensors", trainer.weights());  // the same format for every backend
  fathom::generator<net, fathom::bf16> writer(trainer.weights(), {.temperature = 0.8f, .top_k = 40, .seed = 1});
  writer.write("In the beginning", 200, [](fathom::token t) { return std::putchar(t) != EOF; });
  std::puts("");
} catch (const std::exception& e) {
  std::fprintf(stderr, "gpu: %s\n", e.what());
  return 1;
}
