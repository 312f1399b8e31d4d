// The model of the quickstart: quickstart.cpp trains it, generate.cpp, attention_map.cpp and convert.cpp read its file.
#pragma once

#include <fathom/fathom.hpp>

/// Bytes, Llama's body (RMS norms, rotary positions, SwiGLU), and a last block that attends to the outputs of blocks 2 and 4.
/// Rotary positions learn in hundreds of steps what a table of positions needs thousands for (bench/README.md, "The quickstart").
constexpr fathom::config tiny{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4, .hidden = 256,
                              .shortcut = {.depths = {2, 4}}, .family = fathom::family::llama};
