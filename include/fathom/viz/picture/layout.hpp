// The layout of a picture: the place of every panel, bar and label.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/check.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/picture/options.hpp"
#include "fathom/viz/picture/rectangle.hpp"
#include "fathom/viz/picture/text.hpp"
#include "fathom/viz/utf8.hpp"

namespace fathom::viz {

/// The layout of a picture. Depends only on sizes, not on weights or installed fonts: text is fitted to its room.
struct layout {
  index width = 0, height = 0;    // of the picture
  index cell = 0;                 // side of a cell
  std::vector<rectangle> panels;  // the cells of each panel: [sources] or [heads, sources]
  std::vector<rectangle> shares;  // right of each panel, a bar for every query; empty with a single source
  rectangle colours;              // the colour bar; 0 is at its left end

  index label_size = 0;   // height of token names; 0: no room, positions are numbered instead
  bool upright = true;    // names below a panel are horizontal; otherwise they read upwards
  index query_room = 0;   // width of the names left of a panel
  index key_room = 0;     // height of the names below a panel
  index block_width = 0;  // width of a panel with its shares and heading

  /// The cell of a query and a key.
  [[nodiscard]] rectangle at(index panel, index query, index key) const {
    const rectangle& p = panels[static_cast<std::size_t>(panel)];
    return {p.x + key * cell, p.y + query * cell, cell, cell};
  }
};

namespace detail {

inline constexpr index margin = 20;
inline constexpr index title_height = 30;    // of the picture
inline constexpr index heading_height = 42;  // above a panel: its name and its share
inline constexpr index axis_size = 18;       // "query", "key"
inline constexpr index share_gap = 7, share_width = 44;
inline constexpr index block_gap = 32;       // between panels, including their labels and shares
inline constexpr index heading_width = 160;  // minimum
inline constexpr index colours_width = 300, colours_height = 14;
inline constexpr index notes_width = 440;  // right of the colour bar
inline constexpr index tick_width = 56;    // of a number at the colour bar
inline constexpr index footer_height = 72;
inline constexpr index smallest_label = 8, largest_label = 12, number_size = 11;
inline constexpr index most_pixels_wide = 16384, most_pixels = 100'000'000;

/// The width of count characters in a monospaced font.
[[nodiscard]] constexpr index text_width(index count, index size) { return (count * size * 62 + 99) / 100; }

[[nodiscard]] inline layout lay_out(const attention_weights_map& map, const png_options& options,
                                    std::span<const std::string> labels) {
  const index sources = static_cast<index>(map.sources.size()), tokens = map.queries;
  const bool by_head = options.heads == heads::all;
  const index count = by_head ? map.heads * sources : sources;
  index columns = sources;  // up to three panels in a row, more in a square
  if (!by_head && sources > 3)
    for (columns = 2; columns * columns < sources;) ++columns;
  const index rows = (count + columns - 1) / columns;

  layout l;
  if (options.cell < 0 || options.cell > 1024)
    fail("save_png: cells of ", options.cell, " pixels; expected 1 to 1024, or 0 to have the size chosen");
  const index side = std::min({index{1100}, 2400 / columns, 2400 / rows});
  l.cell = options.cell > 0 ? options.cell : std::clamp<index>(side / tokens, 1, 28);

  index longest = 1;
  for (const std::string& label : labels) longest = std::max(longest, letters(label));
  if (l.cell >= smallest_label) {
    l.label_size = std::min(l.cell, largest_label);
    l.upright = 2 * text_width(longest, l.label_size) <= 3 * (l.cell - 1);  // they may shrink by a third
    l.query_room = text_width(longest, l.label_size);
    l.key_room = l.upright ? l.label_size + 2 : l.query_room;
  } else {
    l.query_room = text_width(letters(std::to_string(tokens)), number_size);
    l.key_room = number_size + 2;
  }

  const index panel = tokens * l.cell;
  const index beside = sources > 1 ? share_gap + share_width : 0;
  const index left = axis_size + l.query_room + 6;
  l.block_width = std::max(panel + beside, heading_width);
  const index pitch_x = left + l.block_width + block_gap;
  const index pitch_y = heading_height + panel + 6 + l.key_room + axis_size + block_gap / 2;
  const index top = margin + (options.title.empty() ? 0 : title_height);
  for (index p = 0; p < count; ++p) {
    const index x = margin + p % columns * pitch_x + left, y = top + p / columns * pitch_y + heading_height;
    l.panels.push_back({x, y, panel, panel});
    if (beside > 0) l.shares.push_back({x + panel + share_gap, y, share_width, panel});
  }
  l.colours = {margin + 10, top + rows * pitch_y + block_gap / 2, colours_width, colours_height};
  l.width = 2 * margin + std::max(columns * pitch_x - block_gap, 10 + colours_width + 50 + notes_width);
  l.height = l.colours.y + footer_height + margin;
  if (l.width > most_pixels_wide || l.height > most_pixels_wide || l.width * l.height > most_pixels)
    fail("save_png: a picture of ", l.width, " x ", l.height, " pixels; expected at most ", most_pixels_wide,
         " on a side and ", most_pixels, " in all: take fewer tokens, smaller cells, or heads::mean");
  return l;
}

}  // namespace detail

/// The layout of a map's picture: its size, and the place of every cell.
[[nodiscard]] inline layout layout_of(const attention_weights_map& map, const png_options& options = {}) {
  detail::check(map);
  return detail::lay_out(map, options, detail::names(map, options.labels));
}

}  // namespace fathom::viz
