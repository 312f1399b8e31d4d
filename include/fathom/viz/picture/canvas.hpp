// Draws rectangles, pixels and text with cairo, and saves PNG files.
#pragma once

#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numbers>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"
#include "fathom/viz/picture/colours.hpp"
#include "fathom/viz/picture/rectangle.hpp"
#include "fathom/viz/picture/text.hpp"
#include "fathom/viz/utf8.hpp"

namespace fathom::viz::detail {

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
    // Antialias text in grey: the screen and its subpixels are unknown.
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
  /// Draws a one-pixel outline around a rectangle.
  void surround(const rectangle& r) {
    fill({r.x - 1, r.y - 1, r.width + 2, 1}, outline);
    fill({r.x - 1, r.y + r.height, r.width + 2, 1}, outline);
    fill({r.x - 1, r.y, 1, r.height}, outline);
    fill({r.x + r.width, r.y, 1, r.height}, outline);
  }
  /// Sets every pixel of a rectangle to at(x, y), with x and y relative to its top left corner.
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
  /// Writes a line of text, vertically centred in a box. Text that is too long shrinks by up to a third, then is cut.
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

  /// Saves the picture as a PNG file.
  void save(const std::filesystem::path& path) {
    check();
    std::vector<std::byte> bytes;
    const auto append = [](void* to, const unsigned char* data, unsigned size) noexcept {  // called from C
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

}  // namespace fathom::viz::detail
