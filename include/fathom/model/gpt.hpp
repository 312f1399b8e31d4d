// What a config stands for: the GPT-2 body, with the shortcut as an edit of its last block (../README.md).
#pragma once

#include <cstdint>
#include <type_traits>

#include "fathom/layer/feature_map.hpp"
#include "fathom/layer/feature_memory.hpp"
#include "fathom/layer/joint_attention.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/mlp.hpp"
#include "fathom/layer/self_attention.hpp"
#include "fathom/layer/shortcut_attention.hpp"
#include "fathom/layer/stage.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/edit.hpp"

namespace fathom {

/// Conditions that a config must satisfy. Each takes the values as template arguments, so that the compiler prints
/// them.
namespace check {
template <int vocab>
inline constexpr bool vocab_is_positive = vocab > 0;
template <int context>
inline constexpr bool context_is_positive = context > 0;
template <int width>
inline constexpr bool width_is_positive = width > 0;
template <int depth>
inline constexpr bool depth_is_positive = depth > 0;
template <int heads>
inline constexpr bool heads_is_positive = heads > 0;
template <int hidden>
inline constexpr bool hidden_is_not_negative = hidden >= 0;
template <int hidden>
inline constexpr bool shortcut_hidden_is_not_negative = hidden >= 0;
template <int width, int heads>
inline constexpr bool width_is_a_multiple_of_heads = width <= 0 || heads <= 0 || width % heads == 0;
/// A function, because nvcc warns of % 0 where it is not evaluated, too.
[[nodiscard]] constexpr bool divides(int part, int whole) { return part > 0 && whole % part == 0; }
template <int heads, int kv_heads>
inline constexpr bool heads_are_a_multiple_of_kv_heads = heads <= 0 || divides(kv_heads, heads);
template <int head_width>
inline constexpr bool head_width_is_even_and_at_most_256 = head_width > 0 && head_width % 2 == 0 && head_width <= 256;
template <int rotary_width, int head_width>
inline constexpr bool rotary_width_is_part_of_a_head = rotary_width > 0 && rotary_width % 2 == 0 && rotary_width <= head_width;
template <int base, int factor, int original>
inline constexpr bool scaling_has_its_numbers = base > 1 && factor > 0 && original >= 0;
template <int window_pattern, int local_base, int score_width>
inline constexpr bool gemma3_has_its_numbers = window_pattern > 0 && local_base > 1 && score_width > 0;
template <long long depth>
inline constexpr bool shortcut_depth_is_in_0_to_63 = depth >= 0 && depth <= 63;
template <long long depth, bool twice>
inline constexpr bool shortcut_depth_is_listed_once = !twice;
template <int shortcut_depth, int blocks>
inline constexpr bool shortcut_depth_is_below_blocks = blocks <= 0 || shortcut_depth < blocks;
template <int blocks>
inline constexpr bool all_depths_has_2_to_64_blocks = blocks >= 2 && blocks <= 64;
template <bool zero_init, bool joint>
inline constexpr bool zero_init_is_not_joint = !(zero_init && joint);
template <residual_form form, int depth, bool is_good>
inline constexpr bool residual_connections_are_possible = is_good;
}  // namespace check

/// Returns the normalized config. An invalid config fails to compile here, with one sentence for each mistake; the
/// value returned then only prevents further errors.
template <config Given>
[[nodiscard]] consteval config checked() {
  constexpr config C = normalized(Given);
  constexpr shortcut S = C.shortcut;
  constexpr bool joint = S.placement == placement::joint;
  static_assert(check::vocab_is_positive<C.vocab>, "fathom::config: vocab must be positive");
  static_assert(check::context_is_positive<C.context>, "fathom::config: context must be positive");
  static_assert(check::width_is_positive<C.width>, "fathom::config: width must be positive");
  static_assert(check::depth_is_positive<C.depth>, "fathom::config: depth must be positive");
  static_assert(check::heads_is_positive<C.heads>, "fathom::config: heads must be positive");
  static_assert(check::hidden_is_not_negative<Given.hidden>, "fathom::config: hidden must be positive, or 0 for 4 * width");
  constexpr bool is_gpt2 = C.family == family::gpt2;
  static_assert(check::width_is_a_multiple_of_heads<C.width, is_gpt2 ? C.heads : 1>,
                "fathom::config: width must be a multiple of heads");
  static_assert(is_gpt2 || check::heads_are_a_multiple_of_kv_heads<C.heads, C.kv_heads>,
                "fathom::config: kv_heads must divide heads");
  static_assert(is_gpt2 || check::head_width_is_even_and_at_most_256<C.head_width>,
                "fathom::config: rotary positions need an even head_width of at most 256");
  static_assert(is_gpt2 || check::rotary_width_is_part_of_a_head<C.rotary.width, C.head_width>,
                "fathom::config: rotary.width must be even and at most head_width");
  static_assert(is_gpt2 || check::scaling_has_its_numbers<C.rotary.base, C.rotary.factor, C.rotary.original>,
                "fathom::config: rotary needs a base above 1, and with a scaling a factor and the original context");
  constexpr bool is_gemma3 = C.family == family::gemma3;
  static_assert(!is_gemma3 || check::gemma3_has_its_numbers<C.window_pattern, C.local_base, C.score_width>,
                "fathom::config: gemma3 needs a positive window_pattern and score_width, and a local_base above 1");
  static_assert(check::shortcut_depth_is_in_0_to_63<S.depths.impossible>,
                "fathom::config: a shortcut depth must lie between 0 and 63");
  static_assert(check::shortcut_depth_is_listed_once<S.depths.repeated, (S.depths.repeated >= 0)>,
                "fathom::config: a shortcut depth must be listed once");
  static_assert(check::shortcut_depth_is_below_blocks<S.depths.largest(), C.depth>,
                "fathom::config: a shortcut depth must be smaller than depth, the number of blocks: the last block's own "
                "output is not an intermediate layer");
  static_assert(!S.depths.every || check::all_depths_has_2_to_64_blocks<C.depth>,
                "fathom::config: all_depths needs a depth of 2 to 64 blocks");
  static_assert(check::shortcut_hidden_is_not_negative<S.hidden>,
                "fathom::config: shortcut.hidden must be positive, or 0 for width");
  static_assert(check::zero_init_is_not_joint<S.zero_init, joint>,
                "fathom::config: zero_init zeroes shortcut.attn.c_proj, which placement::joint does not have");
  constexpr residual_connections R = C.residual;
  constexpr const char* problem = problem_of(R, C.depth, !S.depths.empty());
  static_assert(check::residual_connections_are_possible<R.form, C.depth, problem == nullptr>,
                "fathom::config: residual must fit its form, the number of blocks and the shortcut: see problem_of in model/residual.hpp");
  constexpr bool is_good_family =
      is_gpt2 || (check::divides(C.kv_heads, C.heads) && check::head_width_is_even_and_at_most_256<C.head_width> &&
                  check::rotary_width_is_part_of_a_head<C.rotary.width, C.head_width> && C.rotary.base > 1 && C.inverse_epsilon > 0 &&
                  check::scaling_has_its_numbers<C.rotary.base, C.rotary.factor, C.rotary.original> &&
                  (!is_gemma3 || check::gemma3_has_its_numbers<C.window_pattern, C.local_base, C.score_width>));
  constexpr bool valid = problem == nullptr && is_good_family && C.vocab > 0 && C.context > 0 && C.width > 0 && C.depth > 0 && C.heads > 0 && C.hidden > 0 &&
                         check::width_is_a_multiple_of_heads<C.width, is_gpt2 ? C.heads : 1> && S.depths.impossible == 0 &&
                         S.depths.repeated < 0 && S.depths.largest() < C.depth && S.hidden >= 0 &&
                         !(S.zero_init && joint) && (!S.depths.every || (C.depth >= 2 && C.depth <= 64));
  return valid ? C : normalized({.vocab = 1, .context = 1, .width = 2, .depth = 1, .heads = 1, .hidden = 1, .tied = true, .shortcut = {}, .family = C.family});
}

namespace detail {
template <feature_map Map, int Hidden>
struct feature_map_part {
  using type = mlp_features<Hidden>;
};
template <int Hidden>
struct feature_map_part<feature_map::linear, Hidden> {
  using type = linear_features;
};
template <int Hidden>
struct feature_map_part<feature_map::identity, Hidden> {
  using type = identity_features;
};

/// The paper's placements: edits of the last block.
template <placement Placement, int Heads, class Source, bool ZeroInit>
struct placed {
  using cross = pre<"/shortcut", layer_norm<>, look_back<Heads, ZeroInit ? initial::zero : initial::residual>, Source>;
  using type = insert_after<"attn", cross>;
};
template <int Heads, class Source, bool ZeroInit>
struct placed<placement::replace_self_attention, Heads, Source, ZeroInit> {
  using type = in_place_of<"attn", typename placed<placement::after_self_attention, Heads, Source, ZeroInit>::cross>;
};
template <int Heads, class Source, bool ZeroInit>
struct placed<placement::joint, Heads, Source, ZeroInit> {
  using type = in_place_of<"attn", pre<"attn", layer_norm<>, look_back_jointly<Heads>, Source>>;
};

template <int Vocab, int Context, int Width, int Depth, int Heads, int Hidden, bool Tied>
struct plain_gpt {
  using type = architecture<sizes<Vocab, Context, Width>, embed<tokens, learned_positions>,
                            body<repeat<Depth, block<pre<"attn", layer_norm<>, attention<Heads>>, pre<"mlp", layer_norm<>, mlp<Hidden>>>>>,
                            head<layer_norm<>, std::conditional_t<Tied, tied, untied>>>;
};
/// With the shortcut, if there are depths to look back at.
template <class Plain, int Heads, std::uint64_t Depths, feature_map Features, int FeatureHidden, placement Placement, bool ZeroInit>
struct gpt_parts {
  using source = features<depth_bits<Depths>, typename feature_map_part<Features, FeatureHidden>::type>;
  using type = edit<typename Plain::type, last_block, typename placed<Placement, Heads, source, ZeroInit>::type>;
};
template <class Plain, int Heads, feature_map Features, int FeatureHidden, placement Placement, bool ZeroInit>
struct gpt_parts<Plain, Heads, 0, Features, FeatureHidden, Placement, ZeroInit> : Plain {};
}  // namespace detail

/// The architecture that a config stands for. Takes the members of the config one by one: nvcc cannot name types with a
/// class-type argument everywhere, and error messages are shorter.
template <int Vocab, int Context, int Width, int Depth, int Heads, int Hidden, bool Tied, std::uint64_t Depths,
          feature_map Features, int FeatureHidden, placement Placement, bool ZeroInit>
struct gpt : detail::gpt_parts<detail::plain_gpt<Vocab, Context, Width, Depth, Heads, Hidden, Tied>, Heads, Depths, Features, FeatureHidden,
                               Placement, ZeroInit>::type {
  static constexpr config configuration{.vocab = Vocab,
                                        .context = Context,
                                        .width = Width,
                                        .depth = Depth,
                                        .heads = Heads,
                                        .hidden = Hidden,
                                        .tied = Tied,
                                        .shortcut = {.depths = depth_set::from_bits(Depths),
                                                     .features = Features,
                                                     .hidden = FeatureHidden,
                                                     .placement = Placement,
                                                     .zero_init = ZeroInit}};
  static constexpr bool has_shortcut = Depths != 0;
  static void description() = delete;  // in files, it is its config (io/description.hpp)
};

}  // namespace fathom
