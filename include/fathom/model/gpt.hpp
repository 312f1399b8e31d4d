// From a config to an architecture: the GPT-2 body, and the block with the shortcut at its end (../README.md).
#pragma once

#include <cstdint>
#include <type_traits>

#include "fathom/layer/block.hpp"
#include "fathom/layer/embedding.hpp"
#include "fathom/layer/feature_map.hpp"
#include "fathom/layer/feature_memory.hpp"
#include "fathom/layer/joint_attention.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/mlp.hpp"
#include "fathom/layer/output_head.hpp"
#include "fathom/layer/self_attention.hpp"
#include "fathom/layer/shortcut_attention.hpp"
#include "fathom/layer/stack.hpp"
#include "fathom/model/config.hpp"

namespace fathom {

/// What a config must satisfy. Each check names its numbers, which a compiler prints beside the sentence when it fails.
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
}  // namespace check

/// The config, normalized, if a model can be made of it. If not, compilation stops here with one sentence for each
/// mistake; what is returned then only keeps further errors from following.
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
  static_assert(check::width_is_a_multiple_of_heads<C.width, C.heads>,
                "fathom::config: width must be a multiple of heads");
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
  constexpr bool valid = C.vocab > 0 && C.context > 0 && C.width > 0 && C.depth > 0 && C.heads > 0 && C.hidden > 0 &&
                         check::width_is_a_multiple_of_heads<C.width, C.heads> && S.depths.impossible == 0 &&
                         S.depths.repeated < 0 && S.depths.largest() < C.depth && S.hidden >= 0 &&
                         !(S.zero_init && joint) && (!S.depths.every || (C.depth >= 2 && C.depth <= 64));
  return valid ? C : config{.vocab = 1, .context = 1, .width = 1, .depth = 1, .heads = 1, .hidden = 1};
}

/// The architecture that a config describes, by the members of what checked<>() returned. A config itself is no template
/// argument of types: nvcc cannot name those everywhere, and error messages are longer.
template <int Vocab, int Context, int Width, int Depth, int Heads, int Hidden, bool Tied, std::uint64_t Depths,
          feature_map Features, int FeatureHidden, placement Placement, bool ZeroInit>
struct gpt {
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
  static constexpr index vocab = Vocab, context = Context, width = Width;
  static constexpr bool tied = Tied;
  static constexpr bool has_shortcut = Depths != 0;

 private:
  static constexpr config C = configuration;
  static constexpr index E = C.width, H = C.heads, F = C.hidden, D = C.shortcut.depths.count();
  static constexpr placement where = C.shortcut.placement;
  using norm = layers::layer_norm<E>;
  using feature = std::conditional_t<
      C.shortcut.features == feature_map::identity, layers::identity_features<E>,
      std::conditional_t<C.shortcut.features == feature_map::linear, layers::linear_features<E>,
                         layers::mlp_features<E, C.shortcut.hidden>>>;
  using memory = layers::feature_memory<E, C.shortcut.depths, feature>;

  using attention = layers::sublayer<"ln_1", norm, "attn", self_attention<E, H>>;
  using feed_forward = layers::sublayer<"ln_2", norm, "mlp", layers::mlp<E, F>>;
  using cross_attention =
      layers::sublayer<"/shortcut.ln", norm, "/shortcut.attn",
               shortcut_attention<E, H, D, C.shortcut.zero_init ? initial::zero : initial::residual>,
               "/shortcut.features", memory>;
  using joint = layers::sublayer<"ln_1", norm, "attn", joint_attention<E, H, D>, "/shortcut.features", memory>;

  using plain_block = layers::block<attention, feed_forward>;
  using last_block = std::conditional_t<
      where == placement::after_self_attention, layers::block<attention, cross_attention, feed_forward>,
      std::conditional_t<where == placement::replace_self_attention, layers::block<cross_attention, feed_forward>,
                         layers::block<joint, feed_forward>>>;

  template <bool HasShortcut, int L>
  struct body_of {
    using type = layers::stack<layers::repeat<plain_block, L>>;
  };
  template <int L>
  struct body_of<true, L> {
    using type = layers::stack<layers::repeat<plain_block, L - 1>, layers::repeat<last_block, 1>>;
  };
  template <int L>
    requires(L == 1)
  struct body_of<true, L> {
    using type = layers::stack<layers::repeat<last_block, 1>>;
  };

 public:
  using embedding = fathom::layers::embedding<C.vocab, C.context, E, C.tied>;
  using body = typename body_of<has_shortcut, C.depth>::type;
  using head = layers::output_head<C.vocab, E, C.tied>;
};

}  // namespace fathom
