// A panel of a picture without its axes: heading, cells, bars of shares.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/picture/canvas.hpp"
#include "fathom/viz/picture/colours.hpp"
#include "fathom/viz/picture/layout.hpp"
#include "fathom/viz/picture/options.hpp"
#include "fathom/viz/picture/panel_values.hpp"
#include "fathom/viz/picture/rectangle.hpp"
#include "fathom/viz/picture/shading.hpp"
#include "fathom/viz/picture/text.hpp"

namespace fathom::viz::detail {

/// Draws the cells of a panel.
inline void draw_cells(canvas& on, const layout& l, const rectangle& panel, const attention_weights_map& map,
                       const panel_values& value, const shading& shades) {
  std::vector<colour> cells;  // [queries, keys]
  for (index query = 0; query < map.queries; ++query)
    for (index key = 0; key < map.keys; ++key)
      cells.push_back(key > query ? hidden_key : colour_of(shades.place(value(query, key))));
  on.paint(panel,
           [&](index x, index y) { return cells[static_cast<std::size_t>(y / l.cell * map.keys + x / l.cell)]; });
  on.surround(panel);
}

/// Draws a bar for each query, and a line at an even share. A full-width bar is share_top.
inline void draw_shares(canvas& on, const layout& l, const rectangle& bars, const attention_weights_map& map,
                        const panel_values& value, double share_top) {
  const auto length = [&](double share) {
    return std::lround(std::min(1.0, share / share_top) * static_cast<double>(bars.width));
  };
  on.fill(bars, share_ground);
  for (index query = 0; query < map.queries; ++query)
    on.fill({bars.x, bars.y + query * l.cell, length(value.share(query)), l.cell}, share_bar);
  on.fill({bars.x + length(1.0 / static_cast<double>(map.sources.size())), bars.y, 1, bars.height}, outline);
}

/// Draws a panel without its axes.
inline void draw_panel(canvas& on, const layout& l, const attention_weights_map& map, const png_options& options,
                       index number, const shading& shades, double share_top) {
  const auto p = static_cast<std::size_t>(number);
  const rectangle& panel = l.panels[p];
  const panel_values value(map, options, number);
  draw_cells(on, l, panel, map, value, shades);
  if (!l.shares.empty()) draw_shares(on, l, l.shares[p], map, value, share_top);
  const std::size_t sources = map.sources.size();
  const std::string head = options.heads == heads::all ? join("head ", p / sources, ", ") : "";
  on.write({panel.x, panel.y - heading_height, l.block_width, 20}, head + visible(map.sources[p % sources], " "),
           {"sans-serif", 14, ink, true}, align::left);
  on.write({panel.x, panel.y - heading_height + 20, l.block_width, 16},
           digits("%.1f", 100 * value.share()) + " % of the attention", {"sans-serif", 12, pale_ink, false},
           align::left);
}

}  // namespace fathom::viz::detail
