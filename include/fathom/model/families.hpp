// The bodies of today's model families, as a config names them (config.hpp). Each is a few lines of the grammar.
#pragma once

#include <cstddef>
#include <ratio>
#include <type_traits>
#include <utility>

#include "fathom/layer/attention.hpp"
#include "fathom/layer/gated_mlp.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/mlp.hpp"
#include "fathom/layer/rms_norm.hpp"
#include "fathom/layer/rotary.hpp"
#include "fathom/layer/stage.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/cycle.hpp"

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

/// The block of a family, from parts that are the same for all.
template <family Family, int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block {  // llama
  using type = block<pre<"attn", Norm, attention<Heads, kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias>>,
                     pre<"mlp", Norm, gated_mlp<Hidden>>>;
};
template <int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::mistral, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using type = block<pre<"attn", Norm, attention<Heads, kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, window<Window>>>,
                     pre<"mlp", Norm, gated_mlp<Hidden>>>;
};
template <int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::qwen2, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using type = block<pre<"attn", Norm, attention<Heads, kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_output_bias>>,
                     pre<"mlp", Norm, gated_mlp<Hidden>>>;
};
template <int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::qwen3, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using type = block<pre<"attn", Norm, attention<Heads, kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, head_norms<Norm>>>,
                     pre<"mlp", Norm, gated_mlp<Hidden>>>;
};
template <int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::olmo2, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using type = block<post<"attn", attention<Heads, kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, query_key_norms<Norm>>, Norm>,
                     post<"mlp", gated_mlp<Hidden>, Norm>>;
};
template <int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary>
struct family_block<family::gpt_neox, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary> {
  using type = block<parallel<pre<"attn", Norm, attention<Heads, head_width<HeadWidth>, Rotary>>, pre<"mlp", Norm, mlp<Hidden, gelu_erf>>>>;
};

/// Gemma 3's block (arXiv 2503.19786), with a window, or without (0).
template <int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, int ScoreWidth, class Norm, class Rotary>
struct gemma3_block {
  template <class... Options>
  using of = block<sandwich<"attn", Norm, attention<Heads, kv_heads<KvHeads>, head_width<HeadWidth>, Rotary, no_bias, head_norms<Norm>, Options...>, Norm>,
                   sandwich<"mlp", Norm, gated_mlp<Hidden, gelu_tanh>, Norm>>;
  using seeing_all = std::conditional_t<ScoreWidth == HeadWidth, of<>, of<score_width<ScoreWidth>>>;
  using in_window = std::conditional_t<ScoreWidth == HeadWidth, of<window<Window>>, of<window<Window>, score_width<ScoreWidth>>>;
  using type = std::conditional_t<Window == 0, seeing_all, in_window>;
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

template <family Family, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary, int RotaryWidth,
          int WindowPattern, int LocalBase, int ScoreWidth>
struct family_body {
  using type = body<repeat<Depth, typename family_block<Family, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary>::type>>;
};
template <int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, int Window, class Norm, class Rotary, int RotaryWidth, int WindowPattern,
          int LocalBase, int ScoreWidth>
struct family_body<family::gemma3, Depth, Heads, KvHeads, HeadWidth, Hidden, Window, Norm, Rotary, RotaryWidth, WindowPattern, LocalBase, ScoreWidth> {
  using local_rotary = std::conditional_t<RotaryWidth == HeadWidth, rotary<LocalBase>, rotary<LocalBase, rotary_width<RotaryWidth>>>;
  using local = typename gemma3_block<Heads, KvHeads, HeadWidth, Hidden, Window, ScoreWidth, Norm, local_rotary>::type;
  using global = typename gemma3_block<Heads, KvHeads, HeadWidth, Hidden, 0, ScoreWidth, Norm, Rotary>::type;
  using type = typename windows_in_turn<Depth, WindowPattern, local, global>::type;
};

template <family Family, int Vocab, int Context, int Width, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, bool Tied,
          int Window, int Base, int RotaryWidth, rotary_scaling Scaling, int Factor, int Low, int High, int Original, int InverseEpsilon,
          int WindowPattern, int LocalBase, int ScoreWidth>
struct decoder_parts {
  using norm = typename family_norm<Family, std::ratio<1, InverseEpsilon>>::type;
  using scaled = detail::scaled_rotary<Scaling, Factor, Low, High, Original>;
  using whole = typename scaled::template type<Base>;
  using partial = typename scaled::template type<Base, rotary_width<RotaryWidth>>;
  using positions = std::conditional_t<RotaryWidth == HeadWidth, whole, partial>;
  using blocks = typename family_body<Family, Depth, Heads, KvHeads, HeadWidth, Hidden, Window, norm, positions, RotaryWidth, WindowPattern, LocalBase,
                                      ScoreWidth>::type;
  using embedded = std::conditional_t<Family == family::gemma3, scaled_tokens, tokens>;
  using type = architecture<sizes<Vocab, Context, Width>, embed<embedded>, blocks, head<norm, std::conditional_t<Tied, tied, untied>>>;
};
}  // namespace detail

/// The architecture of a config whose family is not gpt2. Takes the members of the config one by one, as gpt does (gpt.hpp).
template <family Family, int Vocab, int Context, int Width, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, bool Tied,
          int Window, int Base, int RotaryWidth, rotary_scaling Scaling, int Factor, int Low, int High, int Original, int InverseEpsilon,
          int WindowPattern = 0, int LocalBase = 0, int ScoreWidth = 0>
struct decoder : detail::decoder_parts<Family, Vocab, Context, Width, Depth, Heads, KvHeads, HeadWidth, Hidden, Tied, Window, Base, RotaryWidth,
                                       Scaling, Factor, Low, High, Original, InverseEpsilon, WindowPattern, LocalBase, ScoreWidth>::type {
  static constexpr config family_configuration{.vocab = Vocab,
                                               .context = Context,
                                               .width = Width,
                                               .depth = Depth,
                                               .heads = Heads,
                                               .hidden = Hidden,
                                               .tied = Tied,
                                               .shortcut = {},
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
