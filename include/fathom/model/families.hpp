// The bodies of today's model families, as a config names them (config.hpp). Each is a few lines of the grammar.
#pragma once

#include <ratio>
#include <type_traits>

#include "fathom/layer/attention.hpp"
#include "fathom/layer/gated_mlp.hpp"
#include "fathom/layer/layer_norm.hpp"
#include "fathom/layer/mlp.hpp"
#include "fathom/layer/rms_norm.hpp"
#include "fathom/layer/rotary.hpp"
#include "fathom/layer/stage.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/config.hpp"

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

}  // namespace detail

namespace detail {
template <family Family, int Vocab, int Context, int Width, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, bool Tied,
          int Window, int Base, int RotaryWidth, rotary_scaling Scaling, int Factor, int Low, int High, int Original, int InverseEpsilon>
struct decoder_parts {
  using epsilon = std::ratio<1, InverseEpsilon>;
  using norm = std::conditional_t<Family == family::gpt_neox, layer_norm<epsilon>, rms_norm<epsilon>>;
  using scaled = detail::scaled_rotary<Scaling, Factor, Low, High, Original>;
  using whole = typename scaled::template type<Base>;
  using partial = typename scaled::template type<Base, rotary_width<RotaryWidth>>;
  using positions = std::conditional_t<RotaryWidth == HeadWidth, whole, partial>;
  using blocks = typename detail::family_block<Family, Heads, KvHeads, HeadWidth, Hidden, Window, norm, positions>::type;
  using type = architecture<sizes<Vocab, Context, Width>, embed<tokens>, body<repeat<Depth, blocks>>, head<norm, std::conditional_t<Tied, tied, untied>>>;
};
}  // namespace detail

/// The architecture of a config whose family is not gpt2. Takes the members of the config one by one, as gpt does (gpt.hpp).
template <family Family, int Vocab, int Context, int Width, int Depth, int Heads, int KvHeads, int HeadWidth, int Hidden, bool Tied,
          int Window, int Base, int RotaryWidth, rotary_scaling Scaling, int Factor, int Low, int High, int Original, int InverseEpsilon>
struct decoder : detail::decoder_parts<Family, Vocab, Context, Width, Depth, Heads, KvHeads, HeadWidth, Hidden, Tied, Window, Base, RotaryWidth,
                                       Scaling, Factor, Low, High, Original, InverseEpsilon>::type {
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
                                               .inverse_epsilon = InverseEpsilon};
};

}  // namespace fathom
