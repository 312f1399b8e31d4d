// A rectangle in a picture.
#pragma once

#include "fathom/core/types.hpp"

namespace fathom::viz {

/// A rectangle in pixels; x counts from the left, y from the top.
struct rectangle {
  index x = 0, y = 0, width = 0, height = 0;
};

}  // namespace fathom::viz
