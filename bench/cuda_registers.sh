#!/bin/sh
# Output of ptxas for the main kernels of attention, decoding and sampling: registers per thread, bytes spilled, static shared
# memory. Needs nvcc, but no GPU.   bash bench/cuda_registers.sh [architectures: sm_80 sm_90a]
set -e
cd "$(dirname "$0")/.."
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/kernels.cu" <<'END'
#include <fathom/backend/cuda/attention.cuh>
#include <fathom/backend/cuda/sampling.cuh>
#include <fathom/backend/cuda/token_program.cuh>
namespace {
template <class Compute>
struct context {
  using compute = Compute;
  using scalar = float;
  cudaStream_t stream() const { return nullptr; }
  int processors() const { return 1; }
  void begin() const {}
  template <class T>
  T* scratch(fathom::index) const { return nullptr; }
};
}  // namespace
template <class Compute>
void use(const fathom::attention_shape& s, fathom::matrix<float> m) {
  const context<Compute> on;
  fathom::cuda::attention_forward(on, s, m, m, m, m, nullptr);
  fathom::cuda::attention_backward(on, s, m, m, m, m, nullptr, m, nullptr, m, m, m);
}
void use(const fathom::cuda::token_program& p, const fathom::cuda::gpu& g) { p.launch_on(g); }
template __global__ void fathom::cuda::kernel::draw<void>(const float*, int, double, int, double, double,
                                                          fathom::cuda::kernel::mass*, fathom::cuda::drawn*, fathom::token*,
                                                          fathom::index*, fathom::index);
template void use<float>(const fathom::attention_shape&, fathom::matrix<float>);
template void use<fathom::bf16>(const fathom::attention_shape&, fathom::matrix<float>);
END
echo "| kernel | GPU | registers | spilled bytes, stores and loads | shared bytes |"
echo "| --- | --- | --- | --- | --- |"
for architecture in ${*:-sm_80 sm_90a}; do
  "$nvcc" -std=c++20 -O3 -arch="$architecture" -Iinclude -Xptxas -v -c "$folder/kernels.cu" -o "$folder/kernels.o" 2>&1 |
    c++filt | awk -v gpu="$architecture" '
      /Compiling entry function/ { kernel = $0; sub(/\((fathom|float).*/, "", kernel); sub(/.*(attention|kernel)::/, "", kernel); sub(/\(.*/, "", kernel) }
      /spill stores/ { spilled = $5 + 0 ", " $9 + 0 }
      /Used [0-9]+ registers/ {
        shared = 0
        for (i = 1; i < NF; ++i) if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
        printf "| %s | %s | %d | %s | %d |\n", kernel, gpu, $5, spilled, shared
      }' | grep -E "forward|backward|decode|run_steps|draw" | sort
done
