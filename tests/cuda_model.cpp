// Whole models on the CUDA backend, where there is no GPU: kernels under emulation, the CUDA libraries stood in for
// (cuda_library.hpp). All host code of the backend runs here, and any look of the host into the GPU's memory is a crash.
#include "cuda_library.hpp"

#include <fathom/cuda.cuh>

#include "catch.hpp"
#include "golden.hpp"

namespace {

using fathom::config;
using fathom::feature_map;
using fathom::placement;

struct gpt {
  static constexpr const char* name = "gpt";
  static constexpr config c{.vocab = 61, .context = 16, .width = 32, .depth = 3, .heads = 4};
};
struct after_mlp_embedding {
  static constexpr const char* name = "after_mlp_embedding";
  static constexpr config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .shortcut = {.depths = {0, 1, 3}, .hidden = 64}};
};

}  // namespace

TEMPLATE_TEST_CASE("cuda meets the golden values", "[golden]", gpt, after_mlp_embedding) {
  meets_golden_values<TestType, fathom::backend::cuda<float>>(1e-4);
}
