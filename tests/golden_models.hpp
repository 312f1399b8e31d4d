// The configs of the golden models (golden/README.md), for the tests of every backend.
#pragma once

#include <fathom/model/config.hpp>

namespace golden {

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

}  // namespace golden
