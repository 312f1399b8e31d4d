// The model, which the program, the test and the bench share.
#pragma once

#include <fathom/fathom.hpp>

constexpr fathom::config config{.vocab = 256, .context = 128, .width = 64, .depth = 4, .heads = 4, .shortcut = {.depths = {1, 2}}};
using net = fathom::model<config>;
