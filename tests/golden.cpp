// The golden models: values that an independent PyTorch implementation computed in float64 (golden/README.md). Every
// backend must meet the logits, attention, loss, every gradient, and three AdamW steps.
#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/model/config.hpp>

#include "catch.hpp"
#include "golden.hpp"

namespace {

using fathom::config;
using fathom::feature_map;
using fathom::placement;

constexpr config base{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4};
constexpr config with(config c, fathom::shortcut s) {
  c.shortcut = s;
  return c;
}

struct gpt {
  static constexpr const char* name = "gpt";
  static constexpr config c{.vocab = 61, .context = 16, .width = 32, .depth = 3, .heads = 4};
};
struct gpt_untied {
  static constexpr const char* name = "gpt_untied";
  static constexpr config c{.vocab = 61, .context = 24, .width = 32, .depth = 2, .heads = 2, .tied = false};
};
struct after_mlp {
  static constexpr const char* name = "after_mlp";
  static constexpr config c{
      .vocab = 61, .context = 16, .width = 32, .depth = 5, .heads = 4, .shortcut = {.depths = {4, 2}}};
};
struct after_mlp_embedding {
  static constexpr const char* name = "after_mlp_embedding";
  static constexpr config c = with(base, {.depths = {0, 1, 3}, .hidden = 64});
};
struct joint_identity {
  static constexpr const char* name = "joint_identity";
  static constexpr config c =
      with(base, {.depths = {1, 2}, .features = feature_map::identity, .placement = placement::joint});
};
struct joint_mlp {
  static constexpr const char* name = "joint_mlp";
  static constexpr config c = with(base, {.depths = {2}, .placement = placement::joint});
};
struct replace_linear {
  static constexpr const char* name = "replace_linear";
  static constexpr config c = with(base, {.depths = fathom::all_depths,
                                          .features = feature_map::linear,
                                          .placement = placement::replace_self_attention});
};

}  // namespace

TEMPLATE_TEST_CASE("reference meets the golden values", "[golden]", gpt, gpt_untied, after_mlp, after_mlp_embedding,
                   joint_identity, joint_mlp, replace_linear) {
  meets_golden_values<TestType, fathom::backend::reference<double>>(1e-6);
}
TEMPLATE_TEST_CASE("reference meets the golden values in float", "[golden]", gpt_untied, after_mlp_embedding, joint_mlp) {
  meets_golden_values<TestType, fathom::backend::reference<float>>(1e-4, false);
}

TEMPLATE_TEST_CASE("cpu meets the golden values", "[golden]", gpt, gpt_untied, after_mlp, after_mlp_embedding,
                   joint_identity, joint_mlp, replace_linear) {
  meets_golden_values<TestType, fathom::backend::cpu<float>>(1e-4);
}
TEMPLATE_TEST_CASE("cpu meets the golden values in double", "[golden]", gpt_untied, after_mlp_embedding, replace_linear,
                   joint_mlp) {
  meets_golden_values<TestType, fathom::backend::cpu<double>>(1e-6, false);
}
