// Writes attention maps as interactive pages: one HTML file, which any browser opens without a network. Needs no cairo;
// in CMake, link fathom::fathom.
//
//   auto map = fathom::attention_map<net>(*weights, tokens);
//   fathom::viz::save_page("attention.html", map);
#pragma once

#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"
#include "fathom/viz/page/options.hpp"
#include "fathom/viz/page/save_page.hpp"
