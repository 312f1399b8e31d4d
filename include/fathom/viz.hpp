// Pictures of what a model attends to. Needs cairo; in CMake, link fathom::viz. (viz/page.hpp, which is included here,
// writes interactive pages, and needs none by itself.)
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
