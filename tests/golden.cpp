// The golden models: values that an independent PyTorch implementation computed in float64 (golden/README.md). Every
// backend must reproduce logits, attention, loss, every gradient, and three AdamW steps: cpu here, others in
// golden_reference.cpp and cuda_golden.cpp.
#include <fathom/backend/cpu.hpp>

#include "catch.hpp"
#include "golden.hpp"
#include "golden_models.hpp"

namespace golden {

TEMPLATE_TEST_CASE("cpu meets the golden values", "[golden]", gpt, gpt_untied, after_mlp, after_mlp_embedding,
                   joint_identity, joint_mlp, replace_linear) {
  meets_golden_values<TestType, fathom::backend::cpu<float>>(1e-4);
}
TEMPLATE_TEST_CASE("cpu meets the golden values in double", "[golden]", gpt_untied, after_mlp_embedding, replace_linear,
                   joint_mlp) {
  meets_golden_values<TestType, fathom::backend::cpu<double>>(1e-6, false);
}

}  // namespace golden
