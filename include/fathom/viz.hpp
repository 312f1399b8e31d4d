// Pictures of what a model attends to. Needs cairo; in CMake, link fathom::viz. (viz/page.hpp, which is included here,
// writes interactive pages, and needs none by itself.)
//
//   auto map = fathom::attention_map<net>(*weights, tokens);
//   fathom::viz::save_png("attention.png", map);
#pragma once

#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/common.hpp"
#include "fathom/viz/page.hpp"

namespace fathom::viz {

// ---- What can be chosen -------------------------------------------------------------------------------------------

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

// ---- Where everything is ------------------------------------------------------------------------------------------

/// In pixels, from the left and from the top.
struct rectangle {
  index x = 0, y = 0, width = 0, height = 0;
};

/// Where everything is in a picture. It depends on sizes only, not on the weights or on the machine's fonts: text is
/// made to fit the room that it has here.
struct layout {
  index width = 0, height = 0;    // of the picture
  index cell = 0;                 // side of a cell
  std::vector<rectangle> panels;  // the cells of each panel: [sources], or [heads, sources]
  std::vector<rectangle> shares;  // right of each panel, a bar for every query; none when there is one source only
  rectangle colours;              // the colour bar: 0 at its left end

  index label_size = 0;   // height of the tokens' names; 0: there is no room for them, and positions are numbered
  bool upright = true;    // names below a panel stand upright; else they read upwards
  index query_room = 0;   // width of the names left of a panel
  index key_room = 0;     // height of the names below a panel
  index block_width = 0;  // from the left side of a panel to where the next panel's text may begin

  /// The cell of a query and a key.
  [[nodiscard]] rectangle at(index panel, index query, index key) const {
    const rectangle& p = panels[static_cast<std::size_t>(panel)];
    return {p.x + key * cell, p.y + query * cell, cell, cell};
  }
};

namespace detail {

// ---- Text that can be drawn ---------------------------------------------------------------------------------------

inline constexpr std::string_view space_mark = "\u00b7", line_mark = "\u00b6", tab_mark = "\u00bb", cut_mark = "\u2026";

/// Text with visible marks for spaces, line breaks and tabs (they are in every Latin font), and with two hexadecimal
/// digits for every byte that is no character.
[[nodiscard]] inline std::string visible(std::string_view text, std::string_view space = space_mark) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (text[0] == ' ') {
      result += space;
    } else if (text[0] == '\n') {
      result += line_mark;
    } else if (text[0] == '\t') {
      result += tab_mark;
    } else if (length > 0) {
      result += text.substr(0, length);
    } else {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(static_cast<unsigned char>(text[0])));
      result += digits;
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

[[nodiscard]] constexpr bool begins_letter(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

/// How many letters valid UTF-8 has.
[[nodiscard]] inline index letters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), begins_letter);
}

/// Text without its last letter.
[[nodiscard]] inline std::string_view without_last(std::string_view text) {
  while (!text.empty() && !begins_letter(text.back())) text.remove_suffix(1);
  if (!text.empty()) text.remove_suffix(1);
  return text;
}

/// The tokens' names as they are drawn, at most 12 letters of each.
[[nodiscard]] inline std::vector<std::string> names(const attention_weights_map& map, const labels& name) {
  constexpr index most = 12;
  std::vector<std::string> result;
  for (const token t : map.tokens) {
    std::string text = visible(name(t, map.vocab));
    if (letters(text) > most) {
      std::string_view cut = text;
      while (letters(cut) >= most) cut = without_last(cut);
      text = join(cut, cut_mark);
    }
    result.push_back(std::move(text));
  }
  return result;
}

// ---- Sizes, in pixels ---------------------------------------------------------------------------------------------

inline constexpr index margin = 20;
inline constexpr index title_height = 30;    // of the picture
inline constexpr index heading_height = 42;  // above a panel: its name and its share
inline constexpr index axis_size = 18;       // "query", "key"
inline constexpr index share_gap = 7, share_width = 44;
inline constexpr index block_gap = 32;       // between two panels and what belongs to them
inline constexpr index heading_width = 160;  // at least, whatever the panel's
inline constexpr index colours_width = 300, colours_height = 14;
inline constexpr index notes_width = 440;  // right of the colour bar
inline constexpr index tick_width = 56;    // of a number at the colour bar
inline constexpr index footer_height = 72;
inline constexpr index smallest_label = 8, largest_label = 12, number_size = 11;
inline constexpr index most_pixels_wide = 16384, most_pixels = 100'000'000;

/// The width of letters in a monospaced font.
[[nodiscard]] constexpr index text_width(index count, index size) { return (count * size * 62 + 99) / 100; }

/// How far apart the numbers on an axis are: 1, 2, 5, 10, 20, 50, ... cells.
[[nodiscard]] constexpr index number_step(index cell) {
  for (index power = 1;; power *= 10)
    for (const index digit : {1, 2, 5})
      if (digit * power * cell >= 40) return digit * power;
}

[[nodiscard]] inline layout lay_out(const attention_weights_map& map, const png_options& options,
                                    std::span<const std::string> labels) {
  const index sources = static_cast<index>(map.sources.size()), tokens = map.queries;
  const bool by_head = options.heads == heads::all;
  const index count = by_head ? map.heads * sources : sources;
  index columns = sources;  // up to three panels side by side, more in a square
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
    l.upright = 2 * text_width(longest, l.label_size) <= 3 * (l.cell - 1);  // they are made up to a third smaller
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

// ---- Colours ------------------------------------------------------------------------------------------------------

struct colour {
  std::uint8_t red = 0, green = 0, blue = 0;
  friend bool operator==(const colour&, const colour&) = default;
};

inline constexpr colour white{255, 255, 255}, ink{30, 30, 30}, pale_ink{105, 105, 105}, outline{150, 150, 150};
inline constexpr colour hidden_key{230, 230, 230}, share_bar{96, 110, 140}, share_ground{240, 240, 240};

/// From 0, a dark violet, over blue and green to 1, yellow. The curve goes in even steps through Oklab, where equal
/// distances look equally large (B. Ottosson, "A perceptual color space for image processing", 2020): lightness and hue
/// grow evenly, and the chroma is about what sRGB can show.
[[nodiscard]] inline colour colour_of(double t) {
  t = std::clamp(t, 0.0, 1.0);
  const double lightness = 0.22 + 0.72 * t, chroma = 0.09 + 0.08 * t * t * t;
  const double hue = (300 - 192 * t) * std::numbers::pi / 180;
  const double a = chroma * std::cos(hue), b = chroma * std::sin(hue);
  const auto cube = [](double x) { return x * x * x; };
  const double l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b);
  const double m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b);
  const double s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  const auto srgb = [](double linear) {
    const double x = std::clamp(linear, 0.0, 1.0);
    const double y = x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055;
    return static_cast<std::uint8_t>(std::lround(255 * y));
  };
  return {srgb(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          srgb(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          srgb(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

/// The numbers of a panel.
class panel_values {
 public:
  panel_values(const attention_weights_map& map, const png_options& options, index panel)
      : map_(map),
        relative_(options.measure == measure::relative),
        source_(panel % static_cast<index>(map.sources.size())),
        first_(options.heads == heads::all ? panel / static_cast<index>(map.sources.size()) : 0),
        count_(options.heads == heads::all ? 1 : map.heads) {}

  /// What is drawn in a cell.
  [[nodiscard]] double operator()(index query, index key) const {
    double sum = 0;
    for (index head = first_; head < first_ + count_; ++head)
      sum += static_cast<double>(map_(head, query, source_, key));
    const double keys =
        static_cast<double>((query + 1) * static_cast<index>(map_.sources.size()));  // that the query sees
    return sum / static_cast<double>(count_) * (relative_ ? keys : 1);
  }
  [[nodiscard]] double share(index query) const {
    double sum = 0;
    for (index head = first_; head < first_ + count_; ++head) sum += map_.share(head, query, source_);
    return sum / static_cast<double>(count_);
  }
  [[nodiscard]] double share() const {
    double sum = 0;
    for (index query = 0; query < map_.queries; ++query) sum += share(query);
    return sum / static_cast<double>(map_.queries);
  }

 private:
  const attention_weights_map& map_;
  bool relative_;
  index source_, first_, count_;
};

/// From numbers to places on the colour bar.
struct shading {
  viz::scale scale = viz::scale::linear;
  double top = 1;         // what has the brightest colour
  bool exceeded = false;  // some cells lie above it

  static constexpr double decades = 3;

  /// 0 at the dark end, 1 at the bright end.
  [[nodiscard]] double place(double value) const {
    const double part = std::clamp(value / top, 0.0, 1.0);
    switch (scale) {
      case viz::scale::linear:
        return part;
      case viz::scale::square_root:
        return std::sqrt(part);
      case viz::scale::logarithmic:
        return part > 0 ? std::max(0.0, 1 + std::log10(part) / decades) : 0;
    }
    return 0;
  }
};

/// The shading of a whole picture: its panels share one softmax, so they share one scale.
[[nodiscard]] inline shading shade(const attention_weights_map& map, const png_options& options, index panels) {
  if (!(options.maximum >= 0 && options.maximum <= 1e9))
    fail("save_png: a maximum of ", options.maximum, "; expected a positive number, or 0 to have it chosen");
  std::vector<float> values;  // of all keys that are visible
  for (index p = 0; p < panels; ++p) {
    const panel_values value(map, options, p);
    for (index query = 0; query < map.queries; ++query)
      for (index key = 0; key <= query; ++key) values.push_back(static_cast<float>(value(query, key)));
  }
  const auto largest = static_cast<double>(*std::max_element(values.begin(), values.end()));
  if (options.maximum > 0) return {options.scale, options.maximum, largest > options.maximum};
  const auto place = values.begin() + static_cast<index>(values.size() / 200);
  std::nth_element(values.begin(), place, values.end(), std::greater<>());
  double top = *place > 0 ? static_cast<double>(*place) : 1;
  // Upwards to two digits, so that the number at the end of the colour bar is what it says.
  const double unit = std::pow(10, std::floor(std::log10(top)) - 1);
  top = unit * std::ceil(top / unit * (1 - 1e-6));
  return {options.scale, top, largest > top * (1 + 1e-5)};
}

/// The numbers that are written at the colour bar: both ends, and others as far as there is room.
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

/// The share that is as wide as there is room for the bars of shares: the largest, upwards to a tenth.
[[nodiscard]] inline double share_limit(const attention_weights_map& map, const png_options& options, index panels) {
  double largest = 0;
  for (index p = 0; p < panels; ++p)
    for (index query = 0; query < map.queries; ++query)
      largest = std::max(largest, panel_values(map, options, p).share(query));
  return std::clamp(std::ceil(10 * largest - 1e-3) / 10, 0.1, 1.0);
}

// ---- Drawing ------------------------------------------------------------------------------------------------------

enum class align { left, centre, right };

struct font {
  const char* family = "sans-serif";
  index size = 12;
  colour ink = detail::ink;
  bool bold = false;
};

/// A picture in memory.
class canvas {
 public:
  canvas(index width, index height)
      : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width), static_cast<int>(height))),
        cairo_(cairo_create(surface_.get())) {
    check();
    // Letters in shades of grey: the picture may be shown on any screen, at any size.
    const std::unique_ptr<cairo_font_options_t, release> smooth(cairo_font_options_create());
    cairo_font_options_set_antialias(smooth.get(), CAIRO_ANTIALIAS_GRAY);
    cairo_set_font_options(cairo_.get(), smooth.get());
    cairo_set_antialias(cairo_.get(), CAIRO_ANTIALIAS_NONE);
    fill({0, 0, width, height}, white);
  }

  void fill(const rectangle& r, colour c) {
    set(c);
    cairo_rectangle(cairo_.get(), static_cast<double>(r.x), static_cast<double>(r.y), static_cast<double>(r.width),
                    static_cast<double>(r.height));
    cairo_fill(cairo_.get());
  }
  /// A line of one pixel around a rectangle.
  void surround(const rectangle& r) {
    fill({r.x - 1, r.y - 1, r.width + 2, 1}, outline);
    fill({r.x - 1, r.y + r.height, r.width + 2, 1}, outline);
    fill({r.x - 1, r.y, 1, r.height}, outline);
    fill({r.x + r.width, r.y, 1, r.height}, outline);
  }
  /// Gives every pixel of a rectangle the colour at(x, y), with x and y from its corner: for the many cells.
  template <class At>
  void paint(const rectangle& r, const At& at) {
    cairo_surface_flush(surface_.get());
    unsigned char* const pixels = cairo_image_surface_get_data(surface_.get());
    const index stride = cairo_image_surface_get_stride(surface_.get());
    for (index y = 0; y < r.height; ++y) {
      auto* const row = reinterpret_cast<std::uint32_t*>(pixels + (r.y + y) * stride) + r.x;
      for (index x = 0; x < r.width; ++x) {
        const colour c = at(x, y);
        row[x] = std::uint32_t{c.red} << 16 | std::uint32_t{c.green} << 8 | std::uint32_t{c.blue};
      }
    }
    cairo_surface_mark_dirty(surface_.get());
  }
  /// A line of text in the middle of a box. What is too long becomes smaller, down to two thirds, and is then cut.
  void write(rectangle box, std::string_view text, const font& f, align where, bool upwards = false) {
    cairo_t* const c = cairo_.get();
    cairo_save(c);
    set(f.ink);
    if (upwards) {
      cairo_translate(c, static_cast<double>(box.x), static_cast<double>(box.y + box.height));
      cairo_rotate(c, -std::numbers::pi / 2);
      box = {0, 0, box.height, box.width};
    }
    cairo_select_font_face(c, f.family, CAIRO_FONT_SLANT_NORMAL,
                           f.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    const double room = static_cast<double>(box.width), size = static_cast<double>(f.size);
    cairo_set_font_size(c, size);
    std::string shown(text);
    double width = advance(shown);
    if (width > room) {
      cairo_set_font_size(c, size * std::max(0.66, 0.98 * room / width));
      for (std::string_view rest = text; (width = advance(shown)) > room && !rest.empty(); shown = join(rest, cut_mark))
        rest = without_last(rest);
    }
    cairo_font_extents_t line;
    cairo_font_extents(c, &line);
    const double free = where == align::left ? 0 : where == align::right ? room - width : (room - width) / 2;
    const double baseline = (static_cast<double>(box.height) + line.ascent - line.descent) / 2;
    cairo_move_to(c, std::round(static_cast<double>(box.x) + free), std::round(static_cast<double>(box.y) + baseline));
    cairo_show_text(c, shown.c_str());
    cairo_restore(c);
  }

  /// The picture as a PNG file.
  void save(const std::filesystem::path& path) {
    check();
    std::vector<std::byte> bytes;
    const auto append = [](void* to, const unsigned char* data, unsigned size) noexcept {  // C calls it
      const auto* const first = reinterpret_cast<const std::byte*>(data);
      static_cast<std::vector<std::byte>*>(to)->insert(static_cast<std::vector<std::byte>*>(to)->end(), first,
                                                       first + size);
      return CAIRO_STATUS_SUCCESS;
    };
    check(cairo_surface_write_to_png_stream(surface_.get(), append, &bytes));
    io::atomic_file file(path);
    file.write(bytes);
    file.commit();
  }

 private:
  struct release {
    void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
    void operator()(cairo_t* cairo) const { cairo_destroy(cairo); }
    void operator()(cairo_font_options_t* options) const { cairo_font_options_destroy(options); }
  };
  static void check(cairo_status_t status) {
    if (status != CAIRO_STATUS_SUCCESS)
      fail("save_png: cairo cannot draw the picture: ", cairo_status_to_string(status));
  }
  void check() const {
    check(cairo_surface_status(surface_.get()));
    check(cairo_status(cairo_.get()));
  }
  void set(colour c) { cairo_set_source_rgb(cairo_.get(), c.red / 255.0, c.green / 255.0, c.blue / 255.0); }
  double advance(const std::string& text) const {
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_.get(), text.c_str(), &extents);
    return extents.x_advance;
  }

  std::unique_ptr<cairo_surface_t, release> surface_;
  std::unique_ptr<cairo_t, release> cairo_;
};

/// A number with as many digits as it takes: 0.05, 42.2.
[[nodiscard]] inline std::string digits(const char* format, double number) {
  char text[32];
  std::snprintf(text, sizeof text, format, number);
  return text;
}

/// The names of queries and keys, or their positions.
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

/// The colour bar, and what the other colours and the marks mean.
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

}  // namespace detail

/// Where everything will be in the picture of a map: its size, and the place of every cell.
[[nodiscard]] inline layout layout_of(const attention_weights_map& map, const png_options& options = {}) {
  detail::check(map);
  return detail::lay_out(map, options, detail::names(map, options.labels));
}

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
  const shading shades = shade(map, options, static_cast<index>(l.panels.size()));
  const double share_top = share_limit(map, options, static_cast<index>(l.panels.size()));
  canvas on(l.width, l.height);
  if (!options.title.empty())
    on.write({margin, margin, l.width - 2 * margin, 20}, visible(options.title, " "), {"sans-serif", 15, ink, true},
             align::left);

  for (std::size_t p = 0; p < l.panels.size(); ++p) {
    const rectangle& panel = l.panels[p];
    const panel_values value(map, options, static_cast<index>(p));
    std::vector<colour> cells;  // [queries, keys]
    for (index query = 0; query < map.queries; ++query)
      for (index key = 0; key < map.keys; ++key)
        cells.push_back(key > query ? hidden_key : colour_of(shades.place(value(query, key))));
    on.paint(panel,
             [&](index x, index y) { return cells[static_cast<std::size_t>(y / l.cell * map.keys + x / l.cell)]; });
    on.surround(panel);
    draw_axes(on, l, panel, labels);
    if (!l.shares.empty()) {
      const rectangle& bars = l.shares[p];
      const auto length = [&](double share) {
        return std::lround(std::min(1.0, share / share_top) * static_cast<double>(bars.width));
      };
      on.fill(bars, share_ground);
      for (index query = 0; query < map.queries; ++query)
        on.fill({bars.x, bars.y + query * l.cell, length(value.share(query)), l.cell}, share_bar);
      on.fill({bars.x + length(1.0 / static_cast<double>(map.sources.size())), bars.y, 1, bars.height}, outline);
    }
    const std::size_t sources = map.sources.size();
    const std::string head = options.heads == heads::all ? join("head ", p / sources, ", ") : "";
    on.write({panel.x, panel.y - heading_height, l.block_width, 20}, head + visible(map.sources[p % sources], " "),
             {"sans-serif", 14, ink, true}, align::left);
    on.write({panel.x, panel.y - heading_height + 20, l.block_width, 16},
             digits("%.1f", 100 * value.share()) + " % of the attention", {"sans-serif", 12, pale_ink, false},
             align::left);
  }
  draw_legend(on, l, map, options, shades, share_top, labels);
  on.save(path);
}

}  // namespace fathom::viz
