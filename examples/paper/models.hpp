// The models of the experiments, by name: the kind of data sets the vocabulary, the variant the architecture.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <fathom/fathom.hpp>

#include "../../tests/custom_layer.hpp"  // weighted_sum, the example of a custom source

namespace paper {

/// The size of the vocabulary of a kind of data (prepare.cpp makes the tokens).
constexpr int vocab_of(std::string_view kind) {
  if (kind == "characters") return 27;
  if (kind == "subwords") return 2048;
  if (kind == "speech") return 1104;      // four tokens a frame: two VQ indices, energy, pitch
  if (kind == "speech_vq") return 1024;   // the two VQ indices alone
  if (kind == "music") return 389;        // performances: keys, times, velocities, the end of a piece
  throw "paper: no such kind of data";
}

/// The config of a variant of `looking_back`, whose body has Llama's blocks: rotary positions, RMS norms, gated MLPs. Depths that
/// are read by attention are 0, 3 and 6, of the same block or of several.
constexpr fathom::config looking_back(fathom::config c, std::string_view variant) {
  using fathom::feature_map, fathom::placement, fathom::residual_form, fathom::shortcut_source;
  c.family = fathom::family::llama;
  c.hidden = 344;  // 8/3 of the width
  const auto is = [&](std::string_view name) { return variant == name; };

  if (is("rotary_plain")) return c;
  // Controls of equal cost: as many operations a token as with attention to depths in the last block, and in the last three.
  if (is("rotary_plain11")) return c.depth = 11, c;
  if (is("rotary_plain13")) return c.depth = 13, c;
  // A control: self-attention has the norms of queries and keys that attention to depths has.
  if (is("rotary_normed")) return c.family = fathom::family::qwen3, c;

  if (is("rotary_dense_former")) return c.residual.form = residual_form::dense_former, c;
  if (is("rotary_scalars")) return c.residual = {.form = residual_form::embedding_scalars, .backout = 6}, c;
  if (is("rotary_mudd3")) return c.residual = {.form = residual_form::mudd, .last_blocks = 3}, c;
  if (is("rotary_attention_residuals")) return c.residual.form = residual_form::attention, c;
  if (is("rotary_delta_residuals")) return c.residual.form = residual_form::delta_attention, c;
  if (is("rotary_hyper")) return c.residual.form = residual_form::hyper_connections, c;
  if (is("rotary_value_residual")) {
    c.shortcut = {.depths = {1}, .placement = placement::own_values, .blocks = 9, .source = shortcut_source::values,
                  .gate = fathom::shortcut_gate::head};
    return c;
  }

  // The paper's form, from zero: mlp features, in the last block.
  c.shortcut = {.depths = {0, 3, 6}, .zero_init = true};
  if (is("rotary_paper")) return c;

  // The form that a prototype left: outputs at unit scale, norms of queries and keys with a temperature, a bias for each head and
  // depth, a gate for each from 0. In the last block, and in the last three; own: the same module, reading its block's own input
  // in place of each depth.
  c.shortcut = {.depths = {0, 3, 6}, .features = feature_map::identity, .unit_features = true, .head_norms = true,
                .depth_bias = true, .gate = fathom::shortcut_gate::head_and_depth};
  if (is("rotary_last1")) return c;
  if (is("rotary_last3")) return c.shortcut.blocks = 3, c;
  if (is("rotary_last3_differences")) return c.shortcut.blocks = 3, c.shortcut.source = shortcut_source::differences, c;
  if (is("rotary_last1_own")) return c.shortcut.source = shortcut_source::own_input, c;
  if (is("rotary_last3_own")) return c.shortcut.blocks = 3, c.shortcut.source = shortcut_source::own_input, c;
  // No attention to depths: added to the values of self-attention, at the same token.
  c.shortcut.head_norms = c.shortcut.depth_bias = false;
  c.shortcut.placement = placement::own_values;
  c.shortcut.blocks = 3;
  if (is("rotary_values3")) return c;
  if (is("rotary_values3_own")) return c.shortcut.source = shortcut_source::own_input, c;
  throw "paper: no such variant";
}

/// The config of a variant. All but the sizes of `scaling` use the body that a reader of the paper gives as an example: 10
/// blocks, width 128, 8 heads, with a shortcut that reads depths 2, 4 and 8.
constexpr fathom::config model_of(std::string_view kind, std::string_view variant) {
  using fathom::feature_map, fathom::placement;
  fathom::config c{.vocab = vocab_of(kind), .context = 256, .width = 128, .depth = 10, .heads = 8};
  const auto is = [&](std::string_view name) { return variant == name; };
  if (variant.starts_with("rotary_")) return looking_back(c, variant);

  if (is("plain")) return c;
  // A control for `unit_live` and `all_unit`: larger initial weights without a shortcut (see initial_scale).
  if (is("plain_unit")) return c;
  // A control: the last block reads a learned sum of the outputs of all blocks before it (see below).
  if (is("dense")) return c;
  // An eleventh block has more parameters than the shortcut and, with this hidden width, as many operations.
  if (is("plain11")) return c.depth = 11, c.hidden = 548, c;

  c.shortcut.depths = {2, 4, 8};
  if (is("shortcut")) return c;
  if (is("all_unit")) return c;
  c.shortcut.zero_init = true;
  if (is("zero")) return c;

  // Ablations: each changes one thing in `zero`.
  if (is("before")) return c;  // the cross-attention comes before self-attention (see below)
  // Initial features as large as the input of self-attention (see initial_scale).
  if (is("unit")) return c;
  if (is("unit_live")) return c.shortcut.zero_init = false, c;
  if (is("linear")) return c.shortcut.features = feature_map::linear, c;
  if (is("identity")) return c.shortcut.features = feature_map::identity, c;
  if (is("hidden32")) return c.shortcut.hidden = 32, c;
  if (is("hidden512")) return c.shortcut.hidden = 512, c;
  if (is("depths_2")) return c.shortcut.depths = {2}, c;
  if (is("depths_4")) return c.shortcut.depths = {4}, c;
  if (is("depths_8")) return c.shortcut.depths = {8}, c;
  if (is("depths_2_8")) return c.shortcut.depths = {2, 8}, c;
  if (is("depths_0_2_4_8")) return c.shortcut.depths = {0, 2, 4, 8}, c;
  if (is("depths_all")) return c.shortcut.depths = fathom::all_depths, c;  // 1 to 9
  // Depth 9 is the last block's own input: alone, and with the others.
  if (is("depths_9")) return c.shortcut.depths = {9}, c;
  if (is("depths_2_4_8_9")) return c.shortcut.depths = {2, 4, 8, 9}, c;
  // The other placements end in the block's own projection, so zero_init would disable its attention at first.
  c.shortcut.zero_init = false;
  if (is("replace")) return c.shortcut.placement = placement::replace_self_attention, c;
  if (is("joint")) return c.shortcut.placement = placement::joint, c;
  c.shortcut.zero_init = true;
  if (is("replace_zero")) return c.shortcut.placement = placement::replace_self_attention, c;

  // Scaling: smaller and larger bodies, with the depths at the same fractions of them.
  fathom::config smallest{.vocab = c.vocab, .context = c.context, .width = 32, .depth = 4, .heads = 2};
  if (is("plain_xs")) return smallest;
  if (is("zero_xs")) return smallest.shortcut = {.depths = {1, 2, 3}, .zero_init = true}, smallest;
  fathom::config small{.vocab = c.vocab, .context = c.context, .width = 64, .depth = 6, .heads = 4};
  if (is("plain_s")) return small;
  if (is("zero_s")) return small.shortcut = {.depths = {1, 2, 5}, .zero_init = true}, small;
  fathom::config large{.vocab = c.vocab, .context = c.context, .width = 192, .depth = 14, .heads = 12};
  if (is("plain_l")) return large;
  if (is("zero_l")) return large.shortcut = {.depths = {3, 6, 11}, .zero_init = true}, large;
  throw "paper: no such variant";
}

/// The factor by which a variant scales an initial tensor. The library initialises all matrices with deviation 0.02, so at width
/// 128 an mlp feature map shrinks its input to 1/40, and its keys and values are 1/40 of self-attention's. With deviations of
/// 1 / sqrt(inputs) in both of its matrices, features are nearly as large as their input. `plain_unit` and `all_unit`
/// use such deviations in all matrices but the embeddings (projections to the residual stream are still smaller by
/// 1 / sqrt(2 L)).
inline double initial_scale(std::string_view variant, std::string_view tensor, fathom::index inputs) {
  const bool is_matrix = inputs > 0 && tensor.ends_with(".weight") && !tensor.starts_with("wte.") && !tensor.starts_with("wpe.");
  const bool is_larger = variant == "plain_unit" || variant == "all_unit" ||
                         (variant.starts_with("unit") && tensor.starts_with("shortcut.features."));
  return is_matrix && is_larger ? 1 / (0.02 * std::sqrt(static_cast<double>(inputs))) : 1;
}

// ---- Architectures that a config cannot express ----------------------------------------------------------------------

/// The last block reads a learned sum of the outputs of all blocks before it: one number for each, initially 0 (after
/// Pagliardini et al., "DenseFormer", arXiv 2402.02622, which has such a sum after every block).
template <fathom::config C>
using dense = fathom::edit<fathom::gpt2<C>, fathom::last_block, fathom::insert_first<fathom::read<"mix", custom::weighted_sum>>>;

constexpr fathom::config without_shortcut(fathom::config c) { return c.shortcut = {}, c; }

/// The shortcut, with its cross-attention before self-attention. (Members of C are copied to constants, because g++ 12 fails on
/// them inside template arguments.)
template <fathom::config C>
struct before_self_attention {
  static constexpr fathom::index heads = C.heads;
  static constexpr std::uint64_t depths = C.shortcut.depths.bits;
  static constexpr fathom::config plain = without_shortcut(C);
  using cross = fathom::pre<"/shortcut", fathom::layer_norm<>, fathom::look_back<heads, fathom::initial::zero>,
                            fathom::features<fathom::depth_bits<depths>, fathom::mlp_features<>>>;
  using type = fathom::edit<fathom::gpt2<plain>, fathom::last_block, fathom::insert_before<"attn", cross>>;
};
template <fathom::config C>
using before = typename before_self_attention<C>::type;

// ---- The models ------------------------------------------------------------------------------------------------------

template <fathom::fixed_string Kind, fathom::fixed_string Variant>
struct choose {
  static constexpr fathom::config config = model_of(Kind.view(), Variant.view());
  // Weights and sums are float; operands of products are rounded to bf16 on every machine, so that runs on different machines
  // are comparable.
  using backend = fathom::backend::cpu<fathom::bf16>;
  static auto type() {
    if constexpr (Variant.view() == "dense")
      return std::type_identity<fathom::transformer<dense<config>, backend>>{};
    else if constexpr (Variant.view() == "before")
      return std::type_identity<fathom::transformer<before<config>, backend>>{};
    else
      return std::type_identity<fathom::model<config, backend>>{};
  }
};

/// The model of a kind and a variant.
template <fathom::fixed_string Kind, fathom::fixed_string Variant>
using model = typename decltype(choose<Kind, Variant>::type())::type;

}  // namespace paper
