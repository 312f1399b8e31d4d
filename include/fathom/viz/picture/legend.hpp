// The legend of a picture: the colour bar, other colours, marks.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/picture/canvas.hpp"
#include "fathom/viz/picture/colours.hpp"
#include "fathom/viz/picture/layout.hpp"
#include "fathom/viz/picture/options.hpp"
#include "fathom/viz/picture/rectangle.hpp"
#include "fathom/viz/picture/shading.hpp"
#include "fathom/viz/picture/text.hpp"
#include "fathom/viz/utf8.hpp"

namespace fathom::viz::detail {

/// The values labelled on a colour bar of this width in pixels: both ends, and round values that fit between them.
[[nodiscard]] inline std::vector<double> ticks(const shading& shades, double width) {
  const double bottom = shades.scale == scale::logarithmic ? shades.top * std::pow(10, -shading::decades) : 0;
  std::vector<double> result{bottom, shades.top};
  for (const double digit : {1.0, 5.0, 2.0})
    for (int power = 9; power > -9; --power) {
      const double value = digit * std::pow(10, power);
      const bool apart = std::all_of(result.begin(), result.end(), [&](double other) {
        return std::abs(shades.place(other) - shades.place(value)) * width >= tick_width;
      });
      if (value > bottom && value < shades.top && apart) result.push_back(value);
    }
  return result;
}

/// Draws the colour bar, and explains the other colours and the marks.
inline void draw_legend(canvas& on, const layout& l, const attention_weights_map& map, const png_options& options,
                        const shading& shades, double share_top, std::span<const std::string> labels) {
  const rectangle& bar = l.colours;
  const font small{"sans-serif", 11, ink, false};
  on.paint(bar, [&](index x, index) { return colour_of(static_cast<double>(x) / static_cast<double>(bar.width - 1)); });
  on.surround(bar);
  for (const double value : ticks(shades, static_cast<double>(bar.width))) {
    const index x = bar.x + std::lround(shades.place(value) * static_cast<double>(bar.width - 1));
    const bool below = x == bar.x && shades.scale == scale::logarithmic, above = value == shades.top && shades.exceeded;
    on.fill({x, bar.y + bar.height + 1, 1, 4}, outline);
    on.write({x - tick_width / 2, bar.y + bar.height + 6, tick_width, 13},
             (below   ? "\u2264 "
              : above ? "\u2265 "
                      : "") +
                 digits("%.3g", value),
             small, align::centre);
  }
  on.write({bar.x, bar.y + 36, bar.width + 40, 16},
           options.measure == measure::relative ? "attention as a multiple of an even spread" : "attention weight",
           small, align::left);
  const std::string mean = options.heads == heads::mean && map.heads > 1 ? join("mean of ", map.heads, " heads, ") : "";
  const char* const kind = options.scale == scale::linear        ? "linear"
                           : options.scale == scale::square_root ? "square-root"
                                                                 : "logarithmic";
  on.write({bar.x, bar.y + 52, bar.width + 40, 16}, join(mean, kind, " scale"), small, align::left);

  index y = bar.y - 1;
  const index x = bar.x + bar.width + 50;
  const auto note = [&](std::string_view text, colour swatch) {
    on.fill({x, y + 2, 14, 12}, swatch);
    on.write({x + 22, y, notes_width - 22, 16}, text, small, align::left);
    y += 20;
  };
  note("not visible: the key comes after the query", hidden_key);
  if (!l.shares.empty())
    note(join("share of the query's attention: full width is ", digits("%.0f", 100 * share_top),
              " %, the line an even share"),
         share_bar);
  if (l.label_size > 0) {
    const auto some = [&](const auto& condition) { return std::any_of(labels.begin(), labels.end(), condition); };
    const auto has = [&](std::string_view mark) {
      return some([&](std::string_view text) { return text.find(mark) != text.npos; });
    };
    std::string marks;
    if (has(space_mark)) marks += join(space_mark, "  space      ");
    if (has(line_mark)) marks += join(line_mark, "  line break      ");
    if (has(tab_mark)) marks += join(tab_mark, "  tab      ");
    if (options.labels.are_bytes(map.vocab) && some([](std::string_view t) { return letters(t) == 2; }))
      marks += "two digits: another byte, in hexadecimal";
    on.write({x + 5, y, notes_width - 5, 16}, marks, small, align::left);
  }
}

}  // namespace fathom::viz::detail
