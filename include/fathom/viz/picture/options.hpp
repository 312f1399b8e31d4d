// Options of a picture.
#pragma once

#include <string>

#include "fathom/core/types.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"

namespace fathom::viz {

/// How values map to colours. Most weights are small, and a linear scale hardly separates them.
enum class scale {
  linear,
  square_root,
  logarithmic  // over three decades; smaller values have the darkest colour
};

/// How a picture shows attention.
struct png_options {
  viz::heads heads = viz::heads::mean;
  viz::measure measure = viz::measure::relative;
  viz::scale scale = viz::scale::square_root;
  double maximum = 0;   // value of the brightest colour, shared by all above it; 0: at most 1 cell in 200 exceeds it
  index cell = 0;       // side of a cell in pixels; 0: chosen to fit a screen
  std::string title{};  // a line above the panels
  viz::labels labels{};
};

}  // namespace fathom::viz
