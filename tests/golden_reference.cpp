// The golden models (golden/README.md) on the reference backend.
#include <fathom/backend/reference.hpp>

#include "catch.hpp"
#include "golden.hpp"
#include "golden_models.hpp"

namespace golden {

TEMPLATE_TEST_CASE("reference meets the golden values", "[golden]", gpt, gpt_untied, after_mlp, after_mlp_embedding,
                   joint_identity, joint_mlp, replace_linear) {
  meets_golden_values<TestType, fathom::backend::reference<double>>(1e-6);
}
TEMPLATE_TEST_CASE("reference meets the golden values in float", "[golden]", gpt_untied, after_mlp_embedding, joint_mlp) {
  meets_golden_values<TestType, fathom::backend::reference<float>>(1e-4, false);
}

}  // namespace golden
