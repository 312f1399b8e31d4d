// The three models of the benches, plain and with the shortcut, and their training batches.
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

}  // namespace bench
