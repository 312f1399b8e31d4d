// The options of a picture.
#pragma once

#include <string>

#include "fathom/core/types.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"

namespace fathom::viz {

/// How numbers become colours. Most weights are small: a linear scale hardly tells them apart.
enum class scale {
  linear,
  square_root,
  logarithmic  // over three powers of ten; what is smaller has the darkest colour
};

struct png_options {
  viz::heads heads = viz::heads::mean;
  viz::measure measure = viz::measure::relative;
  viz::scale scale = viz::scale::square_root;
  double maximum = 0;   // what has the brightest colour, with all above it; 0: so that at most 1 cell in 200 is above
  index cell = 0;       // pixels of a cell's side; 0: as many as make a picture for a screen
  std::string title{};  // a line above the panels
  viz::labels labels{};
};

}  // namespace fathom::viz
