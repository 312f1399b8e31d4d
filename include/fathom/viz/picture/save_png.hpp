// Saves an attention map as a PNG file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/check.hpp"
#include "fathom/viz/picture/axes.hpp"
#include "fathom/viz/picture/canvas.hpp"
#include "fathom/viz/picture/colours.hpp"
#include "fathom/viz/picture/layout.hpp"
#include "fathom/viz/picture/legend.hpp"
#include "fathom/viz/picture/options.hpp"
#include "fathom/viz/picture/panel.hpp"
#include "fathom/viz/picture/panel_values.hpp"
#include "fathom/viz/picture/shading.hpp"
#include "fathom/viz/picture/text.hpp"

namespace fathom::viz {

/// Draws an attention map: a panel for each source (and head), queries down, keys across. All panels share a colour
/// scale, because they share one softmax; keys that a query cannot see are grey. A panel's heading gives its share of
/// all attention; the bars at its right give its share of each query's attention. Tokens are named if cells have at
/// least 8 pixels (up to 137 tokens with one, two or four sources, 100 with three), and numbered otherwise. Cells have
/// at least 1 pixel; a picture has at most 16384 pixels per side and 100 million in all. The file appears only when
/// complete. Fails if the map is empty or has weights outside 0 to 1, if an option is out of range, if the picture
/// would be too large, or if the file cannot be written.
inline void save_png(const std::filesystem::path& path, const attention_weights_map& map,
                     const png_options& options = {}) {
  using namespace detail;
  check(map);
  const std::vector<std::string> labels = names(map, options.labels);
  const layout l = lay_out(map, options, labels);
  const auto panels = static_cast<index>(l.panels.size());
  const shading shades = shade(map, options, panels);
  const double share_top = share_limit(map, options, panels);
  canvas on(l.width, l.height);
  if (!options.title.empty())
    on.write({margin, margin, l.width - 2 * margin, 20}, visible(options.title, " "), {"sans-serif", 15, ink, true},
             align::left);
  for (index panel = 0; panel < panels; ++panel) {
    draw_panel(on, l, map, options, panel, shades, share_top);
    draw_axes(on, l, l.panels[static_cast<std::size_t>(panel)], labels);
  }
  draw_legend(on, l, map, options, shades, share_top, labels);
  on.save(path);
}

}  // namespace fathom::viz
