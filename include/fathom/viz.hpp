// Draws attention maps as PNG files. Needs cairo; in CMake, link fathom::viz. Includes viz/page.hpp, which writes
// interactive pages and alone needs no cairo.
//
//   auto map = fathom::attention_map<net>(*weights, tokens);
//   fathom::viz::save_png("attention.png", map);
#pragma once

#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"
#include "fathom/viz/page.hpp"
#include "fathom/viz/picture/layout.hpp"
#include "fathom/viz/picture/options.hpp"
#include "fathom/viz/picture/rectangle.hpp"
#include "fathom/viz/picture/save_png.hpp"
