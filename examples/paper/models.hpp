// The models of the experiments, by name: a kind of data says the vocabulary, a variant the architecture.
#pragma once

#include <cstdio>
#include <string_view>

#include <fathom/fathom.hpp>

namespace paper {

/// The size of the vocabulary of a kind of data (prepare.cpp makes the tokens).
constexpr int vocab_of(std::string_view kind) {
  if (kind == "characters") return 27;
  if (kind == "subwords") return 2048;
  if (kind == "speech") return 1104;      // four tokens a frame: two VQ indices, energy, pitch
  if (kind == "speech_vq") return 1024;   // the two VQ indices alone
  if (kind == "music") return 388;
  throw "paper: no such kind of data";
}

/// What is compared. All but the sizes of `scaling` have the body of which a reader of the paper gives the example: 10 blocks,
/// width 128, 8 heads; and the shortcut reads depths 2, 4 and 8.
constexpr fathom::config model_of(std::string_view kind, std::string_view variant) {
  using fathom::feature_map, fathom::placement;
  fathom::config c{.vocab = vocab_of(kind), .context = 256, .width = 128, .depth = 10, .heads = 8};
  const auto is = [&](std::string_view name) { return variant == name; };

  if (is("plain")) return c;
  // An eleventh block has more parameters than the shortcut, and with this hidden width as many operations, too.
  if (is("plain11")) return c.depth = 11, c.hidden = 548, c;

  c.shortcut.depths = {2, 4, 8};
  if (is("shortcut")) return c;
  c.shortcut.zero_init = true;
  if (is("zero")) return c;

  // Ablations: what differs from `zero`.
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
  // Depth 9 is what the last block itself reads: with it and without.
  if (is("depths_9")) return c.shortcut.depths = {9}, c;
  if (is("depths_2_4_8_9")) return c.shortcut.depths = {2, 4, 8, 9}, c;
  // The other placements end in the block's own projection, so that zero_init would make the block do nothing at first.
  c.shortcut.zero_init = false;
  if (is("replace")) return c.shortcut.placement = placement::replace_self_attention, c;
  if (is("joint")) return c.shortcut.placement = placement::joint, c;
  c.shortcut.zero_init = true;
  if (is("replace_zero")) return c.shortcut.placement = placement::replace_self_attention, c;
  throw "paper: no such variant";
}

}  // namespace paper
