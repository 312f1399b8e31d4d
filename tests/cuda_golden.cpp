// The golden models (golden/README.md) on the CUDA backend: under emulation (cuda_model.cpp says how), and, in gpu_model.cu, on a
// GPU.
#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <fathom/cuda.cuh>

#include "catch.hpp"
#include "golden.hpp"

namespace golden {

using fathom::bf16;
using fathom::config;
using fathom::feature_map;
using fathom::placement;
namespace backend = fathom::backend;

struct gpt {
  static constexpr const char* name = "gpt";
  static constexpr config c{.vocab = 61, .context = 16, .width = 32, .depth = 3, .heads = 4};
};
struct after_mlp_embedding {
  static constexpr const char* name = "after_mlp_embedding";
  static constexpr config c{
      .vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .shortcut = {.depths = {0, 1, 3}, .hidden = 64}};
};
struct joint_identity {
  static constexpr const char* name = "joint_identity";
  static constexpr config c{.vocab = 61,
                            .context = 16,
                            .width = 32,
                            .depth = 4,
                            .heads = 4,
                            .shortcut = {.depths = {1, 2}, .features = feature_map::identity, .placement = placement::joint}};
};

TEMPLATE_TEST_CASE("cuda meets the golden values", "[cuda]", gpt, after_mlp_embedding, joint_identity) {
  meets_golden_values<TestType, backend::cuda<float>>(1e-4);
}
TEMPLATE_TEST_CASE("cuda meets the golden values, with operands in bf16", "[cuda]", after_mlp_embedding) {
  meets_golden_values<TestType, backend::cuda<bf16>>(4e-2, false);
}

}  // namespace golden
