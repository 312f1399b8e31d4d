// The axes of a panel: token names or positions.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "fathom/core/types.hpp"
#include "fathom/viz/picture/canvas.hpp"
#include "fathom/viz/picture/colours.hpp"
#include "fathom/viz/picture/layout.hpp"
#include "fathom/viz/picture/rectangle.hpp"

namespace fathom::viz::detail {

/// The distance between numbers on an axis, in cells: 1, 2, 5, 10, 20, 50, ...
[[nodiscard]] constexpr index number_step(index cell) {
  for (index power = 1;; power *= 10)
    for (const index digit : {1, 2, 5})
      if (digit * power * cell >= 40) return digit * power;
}

/// Draws the names of queries and keys, or their positions.
inline void draw_axes(canvas& on, const layout& l, const rectangle& panel, std::span<const std::string> labels) {
  const index tokens = panel.width / l.cell;
  const index left = panel.x - 5 - l.query_room, below = panel.y + panel.height + 5;
  if (l.label_size > 0) {
    const font letter{"monospace", l.label_size, ink, false};
    for (index i = 0; i < tokens; ++i) {
      const std::string& label = labels[static_cast<std::size_t>(i)];
      on.write({left, panel.y + i * l.cell, l.query_room, l.cell}, label, letter, align::right);
      const index x = panel.x + i * l.cell;
      if (l.upright)
        on.write({x, below - 2, l.cell - 1, l.key_room}, label, letter, align::centre);
      else
        on.write({x, below - 2, l.cell, l.key_room}, label, letter, align::right, true);
    }
  } else {
    const font number{"sans-serif", number_size, ink, false};
    const index step = number_step(l.cell);
    for (index i = 0; i < tokens; i += step) {
      const std::string position = std::to_string(i);
      const index x = panel.x + i * l.cell + l.cell / 2, y = panel.y + i * l.cell + l.cell / 2;
      on.fill({panel.x - 4, y, 3, 1}, outline);
      on.fill({x, panel.y + panel.height + 1, 1, 3}, outline);
      on.write({left, y - number_size / 2, l.query_room, number_size}, position, number, align::right);
      on.write({x - 19, below, 38, l.key_room}, position, number, align::centre);
    }
  }
  const font name{"sans-serif", 11, pale_ink, false};
  on.write({left - axis_size, panel.y, axis_size - 3, panel.height}, "query", name, align::centre, true);
  on.write({panel.x, below + l.key_room, panel.width, axis_size}, "key", name, align::centre);
}

}  // namespace fathom::viz::detail
