// What a config stands for: the GPT-2 body, with the shortcut as an edit of its last block (../README.md).
#pragma once

#include <cstdint>
#include <type_traits>

#include "fathom/layer/earlier_values.hpp"
#include "fathom/layer/feature_map.hpp"
#include "fathom/layer/feature_memory.hpp"
#include "fathom/layer/joint_attention.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/mlp.hpp"
#include "fathom/layer/rms_norm.hpp"
#include "fathom/layer/rotary.hpp"
#include "fathom/layer/self_attention.hpp"
#include "fathom/layer/shortcut_attention.hpp"
#include "fathom/layer/stage.hpp"
#include "fathom/layer/token_values.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/edit.hpp"
#include "fathom/model/shortcut_rules.hpp"

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
template <residual_form form, int depth, bool is_good>
inline constexpr bool residual_connections_are_possible = is_good;
// Those of a shortcut (shortcut_rules.hpp), with its numbers.
template <long long depth, bool is_good>
inline constexpr bool shortcut_depth_is_in_0_to_63 = is_good;
template <long long depth, bool is_good>
inline constexpr bool shortcut_depth_is_listed_once = is_good;
template <int shortcut_depth, int blocks, bool is_good>
inline constexpr bool shortcut_depth_is_below_blocks = is_good;
template <int blocks, bool is_good>
inline constexpr bool all_depths_has_2_to_64_blocks = is_good;
template <int hidden, bool is_good>
inline constexpr bool shortcut_hidden_is_not_negative = is_good;
template <placement placed, bool is_good>
inline constexpr bool zero_init_has_a_projection = is_good;
template <int shortcut_blocks, int blocks, bool is_good>
inline constexpr bool shortcut_blocks_are_in_the_body = is_good;
template <int shortcut_blocks, int lowest_depth, int blocks, bool is_good>
inline constexpr bool first_block_that_looks_back_has_a_depth = is_good;
template <int base, int width, int heads, bool is_good>
inline constexpr bool shortcut_rotary_has_a_base_and_even_heads = is_good;
template <placement placed, int shortcut_blocks, bool is_good>
inline constexpr bool gemma3_looks_back_in_one_block = is_good;
template <placement placed, bool is_good>
inline constexpr bool values_are_read_in_own_values = is_good;
template <placement placed, bool is_good>
inline constexpr bool tokens_are_read_in_own_values = is_good;
template <int kv_heads, int head_width, int width, bool is_good>
inline constexpr bool values_fit_into_the_width = is_good;
template <int blocks, bool is_good>
inline constexpr bool own_input_is_of_at_most_64_blocks = is_good;
template <placement placed, bool is_good>
inline constexpr bool depth_bias_is_of_scores = is_good;
template <placement placed, bool is_good>
inline constexpr bool head_norms_are_not_there_already = is_good;
}  // namespace check

/// Returns the normalized config. An invalid config fails to compile here, with one sentence for each mistake; the
/// value returned then only prevents further errors.
template <config Given>
[[nodiscard]] consteval config checked() {
  constexpr config C = normalized(Given);
  constexpr shortcut S = C.shortcut;
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
  using rule = shortcut_rule;
  static_assert(check::shortcut_depth_is_in_0_to_63<S.depths.impossible, holds(rule::depths_lie_in_0_to_63, S, C)>,
                "fathom::config: a shortcut depth must lie between 0 and 63");
  static_assert(check::shortcut_depth_is_listed_once<S.depths.repeated, holds(rule::depths_are_listed_once, S, C)>,
                "fathom::config: a shortcut depth must be listed once");
  static_assert(check::shortcut_depth_is_below_blocks<S.depths.largest(), C.depth, holds(rule::depths_are_below_blocks, S, C)>,
                "fathom::config: a shortcut depth must be smaller than depth, the number of blocks: the last block's own "
                "output is not an intermediate layer");
  static_assert(check::all_depths_has_2_to_64_blocks<C.depth, holds(rule::all_depths_have_2_to_64_blocks, S, C)>,
                "fathom::config: all_depths needs a depth of 2 to 64 blocks");
  static_assert(check::shortcut_hidden_is_not_negative<S.hidden, holds(rule::hidden_is_not_negative, S, C)>,
                "fathom::config: shortcut.hidden must be positive, or 0 for width");
  static_assert(check::zero_init_has_a_projection<S.placement, holds(rule::zero_init_has_a_projection, S, C)>,
                "fathom::config: zero_init zeroes shortcut.attn.c_proj, which placement::joint and own_values do not have");
  constexpr int lowest = S.depths.bits == 0 ? 0 : S.depths[0];
  static_assert(check::shortcut_blocks_are_in_the_body<S.blocks, C.depth, holds(rule::blocks_are_in_the_body, S, C)>,
                "fathom::config: shortcut.blocks must lie between 1 and depth, or be all_blocks");
  static_assert(check::first_block_that_looks_back_has_a_depth<S.blocks, lowest, C.depth, holds(rule::first_block_has_a_depth, S, C)>,
                "fathom::config: with shortcut.blocks, the first block that looks back has none of the depths below it: its input "
                "is depth (number of blocks - shortcut.blocks)");
  static_assert(check::shortcut_rotary_has_a_base_and_even_heads<S.rotary, C.width, C.heads, holds(rule::rotary_has_a_base_and_even_heads, S, C)>,
                "fathom::config: shortcut.rotary is a base above 1, or 0 for none, and needs heads of an even width of at most 256");
  static_assert(check::gemma3_looks_back_in_one_block<S.placement, S.blocks, holds(rule::gemma3_looks_back_in_one_block, S, C)>,
                "fathom::config: in gemma3, whose blocks differ, the placements joint and own_values are for the last block only");
  static_assert(check::values_are_read_in_own_values<S.placement, holds(rule::values_are_read_in_own_values, S, C)>,
                "fathom::config: shortcut_source::values needs placement::own_values and depths above 0, and is not for gemma3");
  static_assert(check::tokens_are_read_in_own_values<S.placement, holds(rule::tokens_are_read_in_own_values, S, C)>,
                "fathom::config: shortcut_source::tokens needs placement::own_values, and 0 as the only depth");
  static_assert(check::values_fit_into_the_width<C.kv_heads, C.head_width, C.width, holds(rule::values_fit_into_the_width, S, C)>,
                "fathom::config: shortcut_source::values and tokens need values of all key-value heads that are together at most as wide as the model");
  static_assert(check::own_input_is_of_at_most_64_blocks<C.depth, holds(rule::own_input_is_of_at_most_64_blocks, S, C)>,
                "fathom::config: shortcut_source::own_input needs at most 64 blocks, as depths above 63 cannot be read");
  static_assert(check::depth_bias_is_of_scores<S.placement, holds(rule::depth_bias_is_of_scores, S, C)>,
                "fathom::config: shortcut.depth_bias is of scores, which depths do not have in placement::own_values");
  static_assert(check::head_norms_are_not_there_already<S.placement, holds(rule::head_norms_are_not_there_already, S, C)>,
                "fathom::config: shortcut.head_norms is not for placement::joint and own_values in olmo2, whose queries and keys have "
                "other norms");
  constexpr residual_connections R = C.residual;
  constexpr const char* problem = problem_of(R, C.depth, !S.depths.empty());
  static_assert(check::residual_connections_are_possible<R.form, C.depth, problem == nullptr>,
                "fathom::config: residual must fit its form, the number of blocks and the shortcut: see problem_of in model/residual.hpp");
  constexpr bool is_good_family =
      is_gpt2 || (check::divides(C.kv_heads, C.heads) && check::head_width_is_even_and_at_most_256<C.head_width> &&
                  check::rotary_width_is_part_of_a_head<C.rotary.width, C.head_width> && C.rotary.base > 1 && C.inverse_epsilon > 0 &&
                  check::scaling_has_its_numbers<C.rotary.base, C.rotary.factor, C.rotary.original> &&
                  (!is_gemma3 || check::gemma3_has_its_numbers<C.window_pattern, C.local_base, C.score_width>));
  constexpr bool valid = problem == nullptr && is_good_family && !problem_of(S, C) && C.vocab > 0 && C.context > 0 && C.width > 0 &&
                         C.depth > 0 && C.heads > 0 && C.hidden > 0 && check::width_is_a_multiple_of_heads<C.width, is_gpt2 ? C.heads : 1>;
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

/// Options of attention, as a list to append to.
template <class... Options>
struct attention_option_list {
  static constexpr bool has_head_norms = (is_head_norms<Options> || ...);
  template <bool Is, class Option>
  struct and_if {
    using type = attention_option_list<Options..., Option>;
  };
  template <class Option>
  struct and_if<false, Option> {
    using type = attention_option_list<Options...>;
  };
  template <int Heads, initial Output>
  struct cross {
    using type = look_back<Heads, Output, Options...>;
  };
  template <int Heads, bool AtRoot>
  struct joint {
    using type = look_back_jointly<Heads, AtRoot, Options...>;
  };
  template <int Heads, bool AtRoot>
  struct in_values {
    using type = look_back_in_values<Heads, AtRoot, false, Options...>;
  };
  template <int Heads, bool AtRoot>
  struct of_tokens {
    using type = look_back_in_values<Heads, AtRoot, true, Options...>;
  };
  // Of attentions that read values and publish theirs.
  template <int Heads, bool AtRoot>
  struct of_values {
    using type = look_back_in_values<Heads, AtRoot, true, Options..., publish_values<"values">>;
  };
  template <int Heads>
  struct publishing {
    using type = attention<Heads, Options..., publish_values<"values">>;
  };
};
/// A list of options, and those that the members of a shortcut mean, which are given as a number (config.hpp). Norm: of heads, if
/// the list does not have norms of heads, as those of qwen3 and gemma3 do.
template <std::uint64_t Bits, class Norm, class List>
struct with_shortcut_options {
  static constexpr shortcut s = with_options({}, Bits);
  using a = typename List::template and_if<s.head_norms && !List::has_head_norms, head_norms<Norm>>::type;
  using b = typename a::template and_if<s.head_norms, temperature>::type;
  using c = typename b::template and_if<(s.rotary > 1), rotary<(s.rotary > 1 ? s.rotary : 2)>>::type;
  using d = typename c::template and_if<s.slopes == shortcut_slopes::alibi, alibi>::type;
  using e = typename d::template and_if<s.slopes == shortcut_slopes::learned, learned_slopes>::type;
  using f = typename e::template and_if<s.depth_bias, depth_biases>::type;
  using g = typename f::template and_if<s.gate == shortcut_gate::head, head_gates>::type;
  using h = typename g::template and_if<s.gate == shortcut_gate::head_and_depth, head_and_depth_gates>::type;
  using i = typename h::template and_if<s.exit == shortcut_exit::sink, head_sinks>::type;
  using j = typename i::template and_if<s.exit == shortcut_exit::sigmoid, exit_gates>::type;
  using type = typename j::template and_if<s.unit_features, unit_key_values>::type;
};

template <shortcut_source Source>
struct reading_part {
  using type = outputs_of_depths;
};
template <>
struct reading_part<shortcut_source::differences> {
  using type = differences_of_depths;
};
template <>
struct reading_part<shortcut_source::own_input> {
  using type = own_input_for_depths;
};
/// Features of unit scale. An identity's one norm does it.
template <class Norm, class Map>
struct unit_map_part {
  using type = unit_features<Norm, normed_features<Norm, Map>>;
};
template <class Norm>
struct unit_map_part<Norm, identity_features> {
  using type = normed_features<Norm, identity_features>;
};
/// The attention of placement::own_values.
template <std::uint64_t Bits, class Options, int Heads>
struct attention_with_values {
  static constexpr shortcut s = with_options({}, Bits);
  static constexpr bool is_at_root = s.blocks == 1;
  using of_features = std::conditional_t<s.source == shortcut_source::tokens, typename Options::template of_tokens<Heads, is_at_root>,
                                         typename Options::template in_values<Heads, is_at_root>>;
  using type = typename std::conditional_t<s.source == shortcut_source::values, typename Options::template of_values<Heads, is_at_root>,
                                           of_features>::type;
};
/// The source of a shortcut. Values: the width of an attention's values. Map: with the family's norm, or GPT-2's; Norm: an RMS norm.
template <std::uint64_t Depths, class Map, class PlainMap, class Norm, std::uint64_t Bits, int Values>
struct shortcut_features {
  static constexpr shortcut s = with_options({}, Bits);
  using map = typename std::conditional_t<s.unit_features, unit_map_part<Norm, PlainMap>, std::type_identity<Map>>::type;
  using of_values = std::conditional_t<s.source == shortcut_source::tokens, token_values<Values>, earlier_values<depth_bits<Depths>, Values>>;
  static constexpr bool are_values = s.source == shortcut_source::values || s.source == shortcut_source::tokens;
  using type = std::conditional_t<are_values, of_values, features<depth_bits<Depths>, map, typename reading_part<s.source>::type>>;
};

/// An edit of every block, or none: that by which attentions publish their values, if a shortcut reads them.
template <bool Is, class Architecture, class Edit>
struct edited_if {
  using type = edit<Architecture, every_block, Edit>;
};
template <class Architecture, class Edit>
struct edited_if<false, Architecture, Edit> {
  using type = Architecture;
};

/// The last `Count` blocks with a shortcut: runs of blocks that reach the same depths. Edit::at<Depths>::type is the edit of blocks
/// that look back at these depths.
template <class Architecture, class Edit, std::uint64_t Depths, int From, int End>
struct shortcuts_from {
  /// A block whose input is depth `From` reaches it and those below.
  static constexpr std::uint64_t reached = From >= 63 ? Depths : Depths & ((std::uint64_t{1} << (From + 1)) - 1);
  static constexpr int to = [] {
    int next = From + 1;
    while (next < End && (next > 63 || !(Depths >> next & 1))) ++next;
    return next;
  }();
  using edited = edit<Architecture, blocks<From, to - 1>, typename Edit::template at<reached>::type>;
  using type = typename shortcuts_from<edited, Edit, Depths, to, End>::type;
};
template <class Architecture, class Edit, std::uint64_t Depths, int End>
struct shortcuts_from<Architecture, Edit, Depths, End, End> {
  using type = Architecture;
};
/// Where a shortcut's tensors are: at the root if one block looks back, as in the paper, else in the blocks.
template <bool AtRoot>
inline constexpr auto shortcut_name = [] {
  if constexpr (AtRoot)
    return fixed_string("/shortcut");
  else
    return fixed_string("shortcut");
}();

/// The paper's placements: edits of a block.
template <placement Placement, int Heads, class Source, bool ZeroInit, std::uint64_t Bits>
struct placed {
  static constexpr bool is_at_root = with_options({}, Bits).blocks == 1;
  using options = typename with_shortcut_options<Bits, rms_norm<>, attention_option_list<>>::type;
  using layer = typename options::template cross<Heads, ZeroInit ? initial::zero : initial::residual>::type;
  using cross = pre<shortcut_name<is_at_root>, layer_norm<>, layer, Source>;
  using type = insert_after<"attn", cross>;
};
template <int Heads, class Source, bool ZeroInit, std::uint64_t Bits>
struct placed<placement::replace_self_attention, Heads, Source, ZeroInit, Bits> {
  using type = in_place_of<"attn", typename placed<placement::after_self_attention, Heads, Source, ZeroInit, Bits>::cross>;
};
template <int Heads, class Source, bool ZeroInit, std::uint64_t Bits>
struct placed<placement::joint, Heads, Source, ZeroInit, Bits> {
  static constexpr bool is_at_root = with_options({}, Bits).blocks == 1;
  using options = typename with_shortcut_options<Bits, rms_norm<>, attention_option_list<>>::type;
  using layer = typename options::template joint<Heads, is_at_root>::type;
  using type = in_place_of<"attn", pre<"attn", layer_norm<>, layer, Source>>;
};
template <int Heads, class Source, bool ZeroInit, std::uint64_t Bits>
struct placed<placement::before_self_attention, Heads, Source, ZeroInit, Bits> {
  using type = insert_before<"attn", typename placed<placement::after_self_attention, Heads, Source, ZeroInit, Bits>::cross>;
};
template <int Heads, class Source, bool ZeroInit, std::uint64_t Bits>
struct placed<placement::own_values, Heads, Source, ZeroInit, Bits> {
  using options = typename with_shortcut_options<Bits, rms_norm<>, attention_option_list<>>::type;
  using layer = typename attention_with_values<Bits, options, Heads>::type;
  using type = in_place_of<"attn", pre<"attn", layer_norm<>, layer, Source>>;
};

template <int Vocab, int Context, int Width, int Depth, int Heads, int Hidden, bool Tied>
struct plain_gpt {
  using type = architecture<sizes<Vocab, Context, Width>, embed<tokens, learned_positions>,
                            body<repeat<Depth, block<pre<"attn", layer_norm<>, attention<Heads>>, pre<"mlp", layer_norm<>, mlp<Hidden>>>>>,
                            head<layer_norm<>, std::conditional_t<Tied, tied, untied>>>;
};
/// With the shortcut, if there are depths to look back at.
template <class Plain, int Depth, int Heads, std::uint64_t Depths, feature_map Features, int FeatureHidden, placement Placement,
          bool ZeroInit, std::uint64_t Bits>
struct gpt_parts {
  using map = typename feature_map_part<Features, FeatureHidden>::type;
  struct edits {
    template <std::uint64_t Reached>
    struct at {
      using source = typename shortcut_features<Reached, map, map, rms_norm<>, Bits, 0>::type;
      using type = typename placed<Placement, Heads, source, ZeroInit, Bits>::type;
    };
  };
  using publishing = in_place_of<"attn", pre<"attn", layer_norm<>, attention<Heads, publish_values<"values">>>>;
  static constexpr shortcut s = with_options({}, Bits);
  using body = typename edited_if<s.source == shortcut_source::values, typename Plain::type, publishing>::type;
  using type = typename shortcuts_from<body, edits, Depths, Depth - s.blocks, Depth>::type;
};
template <class Plain, int Depth, int Heads, feature_map Features, int FeatureHidden, placement Placement, bool ZeroInit, std::uint64_t Bits>
struct gpt_parts<Plain, Depth, Heads, 0, Features, FeatureHidden, Placement, ZeroInit, Bits> : Plain {};
}  // namespace detail

/// The architecture that a config stands for. Takes the members of the config one by one: nvcc cannot name types with a
/// class-type argument everywhere, and error messages are shorter.
template <int Vocab, int Context, int Width, int Depth, int Heads, int Hidden, bool Tied, std::uint64_t Depths,
          feature_map Features, int FeatureHidden, placement Placement, bool ZeroInit, std::uint64_t Bits = options_in({})>
struct gpt : detail::gpt_parts<detail::plain_gpt<Vocab, Context, Width, Depth, Heads, Hidden, Tied>, Depth, Heads, Depths, Features,
                               FeatureHidden, Placement, ZeroInit, Bits>::type {
  static constexpr config configuration{.vocab = Vocab,
                                        .context = Context,
                                        .width = Width,
                                        .depth = Depth,
                                        .heads = Heads,
                                        .hidden = Hidden,
                                        .tied = Tied,
                                        .shortcut = with_options({.depths = depth_set::from_bits(Depths),
                                                                  .features = Features,
                                                                  .hidden = FeatureHidden,
                                                                  .placement = Placement,
                                                                  .zero_init = ZeroInit},
                                                                 Bits)};
  static constexpr bool has_shortcut = Depths != 0;
  static void description() = delete;  // in files, it is its config (io/description.hpp)
};

}  // namespace fathom
