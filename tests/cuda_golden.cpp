// The golden models (golden/README.md) on the CUDA backend: under emulation (see cuda_model.cpp), and, in gpu_model.cu, on a
// GPU.
#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <fathom/cuda.cuh>

#include "catch.hpp"
#include "golden.hpp"
#include "golden_models.hpp"

namespace golden {

using fathom::bf16;
namespace backend = fathom::backend;

TEMPLATE_TEST_CASE("cuda meets the golden values", "[cuda]", gpt, after_mlp_embedding, joint_identity) {
  meets_golden_values<TestType, backend::cuda<float>>(1e-4);
}
TEMPLATE_TEST_CASE("cuda meets the golden values, with operands in bf16", "[cuda]", after_mlp_embedding) {
  meets_golden_values<TestType, backend::cuda<bf16>>(4e-2, false);
}

}  // namespace golden
