// Golden values from examples/shortcut_gpt.py. Together with golden.cpp they cover every placement with every feature map.
#include <fathom/backend/cpu.hpp>
#include <fathom/model/config.hpp>

#include "catch.hpp"
#include "golden.hpp"

namespace {

using fathom::feature_map;
using fathom::placement;

constexpr fathom::config with(fathom::shortcut s) {
  return {.vocab = 13, .context = 8, .width = 8, .depth = 3, .heads = 2, .shortcut = s};
}

struct after_identity {
  static constexpr const char* name = "after_identity";
  static constexpr fathom::config c = with({.depths = {0, 2}, .features = feature_map::identity});
};
struct after_linear {
  static constexpr const char* name = "after_linear";
  static constexpr fathom::config c = with({.depths = {1, 2}, .features = feature_map::linear});
};
struct replace_identity {
  static constexpr const char* name = "replace_identity";
  static constexpr fathom::config c =
      with({.depths = {0, 2}, .features = feature_map::identity, .placement = placement::replace_self_attention});
};
struct replace_mlp {
  static constexpr const char* name = "replace_mlp";
  static constexpr fathom::config c = with({.depths = {0, 1, 2}, .placement = placement::replace_self_attention});
};
struct joint_linear {
  static constexpr const char* name = "joint_linear";
  static constexpr fathom::config c =
      with({.depths = {1, 2}, .features = feature_map::linear, .placement = placement::joint});
};

}  // namespace

TEMPLATE_TEST_CASE("cpu meets the golden values of the PyTorch module", "[golden]", after_identity, after_linear,
                   replace_identity, replace_mlp, joint_linear) {
  meets_golden_values<TestType, fathom::backend::cpu<float>>(1e-4);
}
