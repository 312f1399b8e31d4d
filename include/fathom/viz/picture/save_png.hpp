// save_png: an attention map as a PNG file.
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

/// Draws what fathom::attention_map found: a panel for each source (and head), queries down, keys across. All panels
/// share one scale of colours, because one softmax runs over all of them; keys that a query cannot see are grey. Above
/// a panel is its share of all attention, and the bars at its right are its shares of each query's attention. Tokens
/// are named while cells have 8 pixels (137 tokens with one, two or four sources, 100 with three), and numbered beyond.
/// Cells have at least a pixel; a picture has at most 16384 pixels on a side and 100 million in all. The file appears
/// when it is complete. Fails on a map that is empty or has weights outside of 0 to 1, on a picture that would be too
/// large, and when the file cannot be written.
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
