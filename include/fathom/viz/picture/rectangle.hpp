// A rectangle of pixels.
#pragma once

#include "fathom/core/types.hpp"

namespace fathom::viz {

/// In pixels, from the left and from the top.
struct rectangle {
  index x = 0, y = 0, width = 0, height = 0;
};

}  // namespace fathom::viz
