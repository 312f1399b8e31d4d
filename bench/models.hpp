// The models of the benches: three GPT-2s, plain and with the shortcut; Llama's body in two sizes; and
// a model that people use.
#pragma once

#include <fathom/model/config.hpp>

namespace bench {

constexpr fathom::config with_depths(fathom::config c, fathom::depth_set depths) {
  c.shortcut.depths = depths;
  return c;
}

constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4};
constexpr fathom::config small{.vocab = 512, .context = 256, .width = 256, .depth = 8, .heads = 8};
constexpr fathom::config medium{.vocab = 50257, .context = 1024, .width = 768, .depth = 12, .heads = 12};  // GPT-2 124M
constexpr fathom::config tiny_shortcut = with_depths(tiny, {2, 4});
constexpr fathom::config small_shortcut = with_depths(small, {2, 4, 6});
constexpr fathom::config medium_shortcut = with_depths(medium, {4, 6, 8});

/// Llama's body in the first two sizes: a hidden width of 8/3, two query heads for each head of keys and values.
constexpr fathom::config tiny_llama{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .hidden = 352, .shortcut = {},
                                    .family = fathom::family::llama, .kv_heads = 2};
constexpr fathom::config small_llama{.vocab = 512, .context = 256, .width = 256, .depth = 8, .heads = 8, .hidden = 704, .shortcut = {},
                                     .family = fathom::family::llama, .kv_heads = 4};
/// SmolLM2-135M, with as much of its context as the benches use.
constexpr fathom::config smollm2{.vocab = 49152, .context = 1024, .width = 576, .depth = 30, .heads = 9, .hidden = 1536, .shortcut = {},
                                 .family = fathom::family::llama, .kv_heads = 3, .rotary = {.base = 100'000}};

}  // namespace bench
