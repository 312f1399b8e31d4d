// The model of adapt_model.hpp with a shortcut, which is all that is trained of it.
#pragma once

#include <cstdint>
#include <type_traits>

#include <fathom/fathom.hpp>

#include <adapt_model.hpp>

namespace adapt {

/// The base's config with a shortcut that reads these depths; it writes nothing at first, so the model is the base.
constexpr fathom::config with_shortcut(fathom::depth_set depths) {
  fathom::config c = adapt_model::config;
  c.shortcut = {.depths = depths, .features = fathom::feature_map::mlp, .zero_init = true};
  return c;
}
/// Depths at a third and at two thirds of the model, and the last block's input.
constexpr int depth = adapt_model::config.depth;
static_assert(depth >= 4 && depth <= 63, "the shortcut reads depths 1 to 63");
constexpr std::uint64_t some_depths = std::uint64_t{1} << depth / 3 | std::uint64_t{1} << 2 * depth / 3 | std::uint64_t{1} << (depth - 1);
constexpr std::uint64_t last_depth = std::uint64_t{1} << (depth - 1);

/// Products in bf16 where the processor multiplies bf16, about twice as fast as in float.
using backend = fathom::backend::cpu<std::conditional_t<fathom::cpu::has_bf16_products, fathom::bf16, float>>;
template <std::uint64_t DepthBits>
using net = fathom::model<with_shortcut(fathom::depth_set::from_bits(DepthBits)), backend>;

}  // namespace adapt
