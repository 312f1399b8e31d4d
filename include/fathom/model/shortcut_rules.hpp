// What the shortcut of a config must satisfy. The compiler says it (gpt.hpp), and so do readers of files, before a compiler is
// started (io/read_config.hpp, io/config.hpp).
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <optional>

#include "fathom/model/config.hpp"

namespace fathom {

enum class shortcut_rule {
  depths_lie_in_0_to_63,
  depths_are_listed_once,
  depths_are_below_blocks,
  all_depths_have_2_to_64_blocks,
  hidden_is_not_negative,
  zero_init_has_a_projection,
  blocks_are_in_the_body,
  first_block_has_a_depth,
  rotary_has_a_base_and_even_heads,
  gemma3_looks_back_in_one_block,
  values_are_read_in_own_values,
  tokens_are_read_in_own_values,
  values_fit_into_the_width,
  own_input_is_of_at_most_64_blocks,
  depth_bias_is_of_scores,
  head_norms_are_not_there_already
};
/// The last of them.
inline constexpr auto last_shortcut_rule = shortcut_rule::head_norms_are_not_there_already;

/// Whether a rule holds for a shortcut of a config, both normalized. Without depths, all do. Where a config breaks another rule
/// that this one rests on, such as a positive number of blocks, it holds as well.
[[nodiscard]] constexpr bool holds(shortcut_rule rule, const shortcut& s, const config& c) {
  if (s.depths.empty()) return true;
  const bool is_joint = s.placement == placement::joint, is_in_values = s.placement == placement::own_values;
  const bool reads_values = s.source == shortcut_source::values, reads_tokens = s.source == shortcut_source::tokens;
  switch (rule) {
    case shortcut_rule::depths_lie_in_0_to_63:
      return s.depths.impossible == 0;
    case shortcut_rule::depths_are_listed_once:
      return s.depths.repeated < 0;
    case shortcut_rule::depths_are_below_blocks:
      return c.depth <= 0 || s.depths.largest() < c.depth;
    case shortcut_rule::all_depths_have_2_to_64_blocks:
      return !s.depths.every;
    case shortcut_rule::hidden_is_not_negative:
      return s.hidden >= 0;
    case shortcut_rule::zero_init_has_a_projection:
      return !s.zero_init || !(is_joint || is_in_values);
    case shortcut_rule::blocks_are_in_the_body:
      return c.depth <= 0 || (s.blocks >= 1 && s.blocks <= c.depth && c.depth < 65536);
    case shortcut_rule::first_block_has_a_depth: {
      const int lowest = s.depths.bits == 0 ? 0 : s.depths[0];
      return c.depth <= lowest || s.blocks > c.depth || s.blocks <= c.depth - lowest;
    }
    case shortcut_rule::rotary_has_a_base_and_even_heads: {
      if (s.rotary == 0) return true;
      const bool has_heads = c.width > 0 && c.heads > 0 && c.width % c.heads == 0;
      return s.rotary > 1 && (!has_heads || (c.width / c.heads % 2 == 0 && c.width / c.heads <= 256));
    }
    case shortcut_rule::gemma3_looks_back_in_one_block:
      return c.family != family::gemma3 || s.blocks == 1 || !(is_joint || is_in_values);
    case shortcut_rule::values_are_read_in_own_values:
      return !reads_values || (is_in_values && !s.depths.contains(0) && c.family != family::gemma3);
    case shortcut_rule::tokens_are_read_in_own_values:
      return !reads_tokens || (is_in_values && s.depths.bits == 1);
    case shortcut_rule::values_fit_into_the_width:
      return !(reads_values || reads_tokens) || c.family == family::gpt2 || static_cast<long long>(c.kv_heads) * c.head_width <= c.width;
    case shortcut_rule::own_input_is_of_at_most_64_blocks:
      return s.source != shortcut_source::own_input || c.depth <= 64;
    case shortcut_rule::depth_bias_is_of_scores:
      return !s.depth_bias || !is_in_values;
    case shortcut_rule::head_norms_are_not_there_already:
      return !s.head_norms || c.family != family::olmo2 || !(is_joint || is_in_values);
  }
  return false;
}

/// A member of a shortcut that breaks a rule, and what it should be.
struct shortcut_problem {
  const char* member;
  const char* expected;
};
[[nodiscard]] constexpr shortcut_problem problem_of(shortcut_rule rule) {
  switch (rule) {
    case shortcut_rule::depths_lie_in_0_to_63:
      return {"depths", "depths of 0 to 63"};
    case shortcut_rule::depths_are_listed_once:
      return {"depths", "every depth once"};
    case shortcut_rule::depths_are_below_blocks:
      return {"depths", "depths below the number of blocks: the last block's own output is not an intermediate layer"};
    case shortcut_rule::all_depths_have_2_to_64_blocks:
      return {"depths", "2 to 64 blocks, for all_depths"};
    case shortcut_rule::hidden_is_not_negative:
      return {"hidden", "a number above 0, or 0 for the width"};
    case shortcut_rule::zero_init_has_a_projection:
      return {"zero_init", "false, for the placements joint and own_values, which have no shortcut.attn.c_proj"};
    case shortcut_rule::blocks_are_in_the_body:
    case shortcut_rule::first_block_has_a_depth:
      return {"blocks", "1 to \"depth\", the number of the last blocks, of which the first has a depth at its input or below"};
    case shortcut_rule::rotary_has_a_base_and_even_heads:
      return {"rotary", "a whole number above 1, for heads of an even width of at most 256, or 0"};
    case shortcut_rule::gemma3_looks_back_in_one_block:
      return {"blocks", "1, for the placements joint and own_values in gemma3, whose blocks differ"};
    case shortcut_rule::values_are_read_in_own_values:
      return {"source", "values only with the placement own_values and depths above 0, and not in gemma3, whose blocks differ"};
    case shortcut_rule::tokens_are_read_in_own_values:
      return {"source", "tokens only with the placement own_values and depth 0 alone"};
    case shortcut_rule::values_fit_into_the_width:
      return {"source", "values of all key-value heads that are together at most as wide as the model"};
    case shortcut_rule::own_input_is_of_at_most_64_blocks:
      return {"source", "own_input in at most 64 blocks, as depths above 63 cannot be read"};
    case shortcut_rule::depth_bias_is_of_scores:
      return {"depth_bias", "false, for the placement own_values, in which depths have no scores"};
    case shortcut_rule::head_norms_are_not_there_already:
      return {"head_norms", "false, for the placements joint and own_values in olmo2, whose queries and keys have other norms"};
  }
  return {"shortcut", "a rule of its enumeration"};
}
/// The first rule that a shortcut of a config breaks, both normalized; none if they all hold.
[[nodiscard]] constexpr std::optional<shortcut_problem> problem_of(const shortcut& s, const config& c) {
  for (int rule = 0; rule <= static_cast<int>(last_shortcut_rule); ++rule)
    if (!holds(static_cast<shortcut_rule>(rule), s, c)) return problem_of(static_cast<shortcut_rule>(rule));
  return {};
}

}  // namespace fathom
