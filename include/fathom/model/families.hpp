// The bodies of today's model families, as a config names them (config.hpp). Each is a few lines of the grammar.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ratio>
#include <type_traits>
#include <utility>

#include "fathom/layer/attention.hpp"
#include "fathom/layer/feature_map.hpp"
#include "fathom/layer/feature_memory.hpp"
#include "fathom/layer/gated_mlp.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/mlp.hpp"
#include "fathom/layer/rms_norm.hpp"
#include "fathom/layer/rotary.hpp"
#include "fathom/layer/stage.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/cycle.hpp"
#include "fathom/model/edit.hpp"
#include "fathom/model/gpt.hpp"

namespace fathom {

namespace detail {

template <rotary_scaling Scaling, int Factor, int Low, int High, int Original>
struct scaled_rotary {
  template <int Base, class... Options>
  using type = rotary<Base, Options...>;
};
template <int Factor, int Low, int High, int Original>
struct scaled_rotary<rotary_scaling::linear, Factor, Low, High, Original> {
  template <int Base, class... Options>
  using type = rotary<Base, Options..., linear_scaling<std::ratio<Factor>>>;
};
template <int Factor, int Low, int High, int Original>
struct scaled_rotary<rotary_scaling::llama3, Factor, Low, High, Original> {
  template <int Base, class... Options>
  using type = rotary<Base, Options..., llama3_scaling<std::ratio<Factor>, std::ratio<Low>, std::ratio<High>, Original>>;
};
template <int Factor, int Low, int High, int Original>
struct scaled_rotary<rotary_scaling::yarn, Factor, Low, High, Original> {
  template <int Base, class... Options>
  using type = rotary<Base, Options..., yarn_scaling<std::ratio<Factor>, Original>>;
};

/// Options of attention, to be used more than once.
template <class... Options>
struct attention_options_of {
  template <int Heads>
  struct own {
    using type = attention<Heads, Options...>;
  };
  using list = attention_option_list<Options...>;
};

/// The blocks of a family: its attention's options, and how attention and MLP become stages. `attn` takes the attention,
/// or one that looks back, and its source.
template <family Family, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block {  // llama
  using options = attention_options_of<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias>;
  template <class Attention, class Source = no_source>
  struct of {
    using type = block<pre<"attn", Norm, Attention, Source>, pre<"mlp", Norm, gated_mlp<Hidden>>>;
  };
};
template <int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::mistral, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary>
    : family_block<family::llama, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using options = attention_options_of<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, window<Window>>;
};
template <int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::qwen2, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary>
    : family_block<family::llama, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using options = attention_options_of<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_output_bias>;
};
template <int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::qwen3, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary>
    : family_block<family::llama, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using options = attention_options_of<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, head_norms<Norm>>;
};
template <int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::olmo2, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using options = attention_options_of<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, query_key_norms<Norm>>;
  template <class Attention, class Source = no_source>
  struct of {
    using type = block<post<"attn", Attention, Norm, Source>, post<"mlp", gated_mlp<Hidden>, Norm>>;
  };
};
template <int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::gpt_neox, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using options = attention_options_of<head_width<HeadWidth>, Rotary>;
  template <class Attention, class Source = no_source>
  struct of {
    using type = block<parallel<pre<"attn", Norm, Attention, Source>, pre<"mlp", Norm, mlp<Hidden, gelu_erf>>>>;
  };
};
/// Gemma 3's block (arXiv 2503.19786), with a window, or without (0).
template <int KvHeads, int HeadWidth, int Hidden, int Window, int ScoreWidth, class Norm, class Rotary>
struct gemma3_block {
  template <class... Options>
  using with = attention_options_of<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, head_norms<Norm>, Options...>;
  using seeing_all = std::conditional_t<ScoreWidth == HeadWidth, with<>, with<score_width<ScoreWidth>>>;
  using in_window = std::conditional_t<ScoreWidth == HeadWidth, with<window<Window>>, with<window<Window>, score_width<ScoreWidth>>>;
  using options = std::conditional_t<Window == 0, seeing_all, in_window>;
  template <class Attention, class Source = no_source>
  struct of {
    using type = block<sandwich<"attn", Norm, Attention, Norm, Source>, sandwich<"mlp", Norm, gated_mlp<Hidden, gelu_tanh>, Norm>>;
  };
};
/// A block as it is.
template <class Block, int Heads>
struct plain_block {
  using type = typename Block::template of<typename Block::options::template own<Heads>::type>::type;
};
/// Blocks with a window; the last of every `Pattern` has none.
template <int Depth, int Pattern, class Local, class Global>
struct windows_in_turn {
  template <std::size_t... I>
  static auto pattern(std::index_sequence<I...>) -> cycle<Depth, std::conditional_t<static_cast<int>(I) + 1 == Pattern, Global, Local>...>;
  using type = decltype(pattern(std::make_index_sequence<Pattern <= Depth ? Pattern : 1>()));
};

/// What a family does not share with most: the norm, the embedding, and blocks that are not all the same.
template <family Family, class Epsilon>
struct family_norm {
  using type = rms_norm<Epsilon>;
};
template <class Epsilon>
struct family_norm<family::gpt_neox, Epsilon> {
  using type = layer_norm<Epsilon>;
};
template <class Epsilon>
struct family_norm<family::gemma3, Epsilon> {
  using type = rms_norm<Epsilon, 1>;
};

/// The blocks of a body, and the kind that its last block is.
template <family Family, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary, int RotaryWidth,
          int WindowPattern, int LocalBase, int ScoreWidth>
struct family_body {
  using last = family_block<Family, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary>;
  using type = body<repeat<Depth, typename plain_block<last, Heads>::type>>;
};
template <int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary, int RotaryWidth, int WindowPattern,
          int LocalBase, int ScoreWidth>
struct family_body<family::gemma3, Depth, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary, RotaryWidth, WindowPattern, LocalBase, ScoreWidth> {
  using local_rotary = std::conditional_t<RotaryWidth == HeadWidth, rotary<LocalBase>, rotary<LocalBase, rotary_width<RotaryWidth>>>;
  using local = gemma3_block<KvHeads, HeadWidth, Hidden, Window, ScoreWidth, Norm, local_rotary>;
  using global = gemma3_block<KvHeads, HeadWidth, Hidden, 0, ScoreWidth, Norm, Rotary>;
  using last = std::conditional_t<Depth % WindowPattern == 0, global, local>;
  using type = typename windows_in_turn<Depth, WindowPattern, typename plain_block<local, Heads>::type, typename plain_block<global, Heads>::type>::type;
};

/// The paper's placements of a shortcut, as edits of a block: its norms, heads and positions are the family's. The
/// cross-attention is a pre-norm stage in every family. In gpt_neox, whose attention and MLP read the same stream, it comes
/// after both, or takes the attention's place beside the MLP.
template <placement Placement, class Block, int Heads, int KvHeads, int HeadWidth, class Norm, class Rotary, class Source, bool ZeroInit, bool HasBias,
          class HeadNorm, std::uint64_t Bits>
struct placed_in_family {
  static constexpr initial output = ZeroInit ? initial::zero : initial::residual;
  static constexpr bool is_at_root = with_options({}, Bits).blocks == 1;
  using own = attention_option_list<kv_heads<KvHeads>, head_width<HeadWidth>, Rotary>;
  using biased = typename own::template and_if<!HasBias, no_bias>::type;
  using options = typename with_shortcut_options<Bits, HeadNorm, biased>::type;
  using cross = pre<shortcut_name<is_at_root>, Norm, typename options::template cross<Heads, output>::type, Source>;
  template <class Plain>
  struct edited;
  template <class First, class... Rest>
  struct edited<block<First, Rest...>> {
    using type = block<First, cross, Rest...>;
  };
};
template <class Block, int Heads, int KvHeads, int HeadWidth, class Norm, class Rotary, class Source, bool ZeroInit, bool HasBias, class HeadNorm,
          std::uint64_t Bits>
struct placed_in_family<placement::replace_self_attention, Block, Heads, KvHeads, HeadWidth, Norm, Rotary, Source, ZeroInit, HasBias, HeadNorm, Bits> {
  using cross = typename placed_in_family<placement::after_self_attention, Block, Heads, KvHeads, HeadWidth, Norm, Rotary, Source, ZeroInit, HasBias,
                                          HeadNorm, Bits>::cross;
  template <class Plain>
  struct edited;
  template <class First, class... Rest>
  struct edited<block<First, Rest...>> {
    using type = block<cross, Rest...>;
  };
  template <class Attention, class Mlp>
  struct edited<block<parallel<Attention, Mlp>>> {
    using type = block<parallel<cross, Mlp>>;
  };
};
template <class Block, int Heads, int KvHeads, int HeadWidth, class Norm, class Rotary, class Source, bool ZeroInit, bool HasBias, class HeadNorm,
          std::uint64_t Bits>
struct placed_in_family<placement::joint, Block, Heads, KvHeads, HeadWidth, Norm, Rotary, Source, ZeroInit, HasBias, HeadNorm, Bits> {
  static constexpr bool is_at_root = with_options({}, Bits).blocks == 1;
  using options = typename with_shortcut_options<Bits, HeadNorm, typename Block::options::list>::type;
  template <class Plain>
  struct edited {
    using type = typename Block::template of<typename options::template joint<Heads, is_at_root>::type, Source>::type;
  };
};
template <class Block, int Heads, int KvHeads, int HeadWidth, class Norm, class Rotary, class Source, bool ZeroInit, bool HasBias, class HeadNorm,
          std::uint64_t Bits>
struct placed_in_family<placement::before_self_attention, Block, Heads, KvHeads, HeadWidth, Norm, Rotary, Source, ZeroInit, HasBias, HeadNorm, Bits> {
  using cross = typename placed_in_family<placement::after_self_attention, Block, Heads, KvHeads, HeadWidth, Norm, Rotary, Source, ZeroInit, HasBias,
                                          HeadNorm, Bits>::cross;
  template <class Plain>
  struct edited;
  template <class... Stages>
  struct edited<block<Stages...>> {
    using type = block<cross, Stages...>;
  };
};
template <class Block, int Heads, int KvHeads, int HeadWidth, class Norm, class Rotary, class Source, bool ZeroInit, bool HasBias, class HeadNorm,
          std::uint64_t Bits>
struct placed_in_family<placement::own_values, Block, Heads, KvHeads, HeadWidth, Norm, Rotary, Source, ZeroInit, HasBias, HeadNorm, Bits> {
  using options = typename with_shortcut_options<Bits, HeadNorm, typename Block::options::list>::type;
  template <class Plain>
  struct edited {
    using type = typename Block::template of<typename attention_with_values<Bits, options, Heads>::type, Source>::type;
  };
};
/// The same as an edit (edit.hpp).
template <class Placed>
struct edit_in_family {
  template <class Block>
  using of = typename Placed::template edited<Block>::type;
};

template <family Family, int Vocab, int Context, int Width, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, bool Tied,
          int Window, int Base, int RotaryWidth, rotary_scaling Scaling, int Factor, int Low, int High, int Original, int InverseEpsilon,
          int WindowPattern, int LocalBase, int ScoreWidth, std::uint64_t Depths, feature_map Features, int FeatureHidden, placement Placement,
          bool ZeroInit, std::uint64_t Bits>
struct decoder_parts {
  using norm = typename family_norm<Family, std::ratio<1, InverseEpsilon>>::type;
  using scaled = detail::scaled_rotary<Scaling, Factor, Low, High, Original>;
  using whole = typename scaled::template type<Base>;
  using partial = typename scaled::template type<Base, rotary_width<RotaryWidth>>;
  using positions = std::conditional_t<RotaryWidth == HeadWidth, whole, partial>;
  using blocks = family_body<Family, Depth, Heads, KvHeads, HeadWidth, Hidden, Window, norm, positions, RotaryWidth, WindowPattern, LocalBase, ScoreWidth>;
  using embedded = std::conditional_t<Family == family::gemma3, scaled_tokens, tokens>;
  using plain = architecture<sizes<Vocab, Context, Width>, embed<embedded>, typename blocks::type, head<norm, std::conditional_t<Tied, tied, untied>>>;
  using map = typename feature_map_part<Features, FeatureHidden>::type;
  using root_mean_square = std::conditional_t<Family == family::gpt_neox, rms_norm<std::ratio<1, InverseEpsilon>>, norm>;
  struct edits {
    template <std::uint64_t Reached>
    struct at {
      using source = typename shortcut_features<Reached, normed_features<norm, map>, map, root_mean_square, Bits, KvHeads * HeadWidth>::type;
      using placed = placed_in_family<Placement, typename blocks::last, Heads, KvHeads, HeadWidth, norm, positions, source, ZeroInit,
                                      Family == family::gpt_neox, root_mean_square, Bits>;
      using type = edit_in_family<placed>;
    };
  };
  static constexpr shortcut s = with_options({}, Bits);
  struct publishing {
    template <class>
    using of = typename blocks::last::template of<typename blocks::last::options::list::template publishing<Heads>::type>::type;
  };
  template <std::uint64_t Selected>
  struct with_shortcut {
    using body = typename edited_if<s.source == shortcut_source::values, plain, publishing>::type;
    using type = typename shortcuts_from<body, edits, Selected, Depth - s.blocks, Depth>::type;
  };
  using type = typename std::conditional_t<Depths == 0, std::type_identity<plain>, with_shortcut<Depths>>::type;
};
}  // namespace detail

/// The architecture of a config whose family is not gpt2. Takes the members of the config one by one, as gpt does (gpt.hpp).
template <family Family, int Vocab, int Context, int Width, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, bool Tied,
          int Window, int Base, int RotaryWidth, rotary_scaling Scaling, int Factor, int Low, int High, int Original, int InverseEpsilon,
          int WindowPattern = 0, int LocalBase = 0, int ScoreWidth = 0, std::uint64_t Depths = 0, feature_map Features = feature_map::mlp,
          int FeatureHidden = 0, placement Placement = placement::after_self_attention, bool ZeroInit = false,
          std::uint64_t Bits = options_in({})>
struct decoder : detail::decoder_parts<Family, Vocab, Context, Width, Depth, Heads, KvHeads, HeadWidth, Hidden, Tied, Window, Base, RotaryWidth,
                                       Scaling, Factor, Low, High, Original, InverseEpsilon, WindowPattern, LocalBase, ScoreWidth, Depths, Features, FeatureHidden, Placement,
                                       ZeroInit, Bits>::type {
  static constexpr bool has_shortcut = Depths != 0;
  static constexpr config family_configuration{.vocab = Vocab,
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
                                                                        Bits),
                                               .family = Family,
                                               .kv_heads = KvHeads,
                                               .head_width = HeadWidth,
                                               .window = Window,
                                               .rotary = {.base = Base,
                                                          .width = RotaryWidth,
                                                          .scaling = Scaling,
                                                          .factor = Factor,
                                                          .low_factor = Low,
                                                          .high_factor = High,
                                                          .original = Original},
                                               .inverse_epsilon = InverseEpsilon,
                                               .window_pattern = WindowPattern,
                                               .local_base = LocalBase,
                                               .score_width = ScoreWidth};
};

}  // namespace fathom
