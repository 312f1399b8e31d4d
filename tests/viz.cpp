// Pictures of attention, read back: positions and colours of cells, bars and text.
#include <cairo.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/core/random.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/model.hpp>
#include <fathom/viz.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

/// For the leak sanitizer: fontconfig keeps a few patterns, however many pictures are drawn.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libfontconfig\n"; }

namespace {

using fathom::attention_weights_map;
using fathom::token;
using fathom::viz::heads;
using fathom::viz::layout;
using fathom::viz::measure;
using fathom::viz::png_options;
using fathom::viz::rectangle;
using fathom::viz::scale;

using rgb = std::array<int, 3>;
constexpr rgb white{255, 255, 255};

/// A PNG file, decoded.
class picture {
 public:
  explicit picture(const std::filesystem::path& path)
      : surface_(cairo_image_surface_create_from_png(path.c_str()), cairo_surface_destroy) {
    REQUIRE(cairo_surface_status(surface_.get()) == CAIRO_STATUS_SUCCESS);
    REQUIRE(cairo_image_surface_get_format(surface_.get()) == CAIRO_FORMAT_RGB24);  // opaque
  }
  fathom::index width() const { return cairo_image_surface_get_width(surface_.get()); }
  fathom::index height() const { return cairo_image_surface_get_height(surface_.get()); }
  rgb operator()(fathom::index x, fathom::index y) const {
    if (x < 0 || x >= width() || y < 0 || y >= height()) FAIL("outside of the picture: " << x << ", " << y);
    const auto* const row =
        cairo_image_surface_get_data(surface_.get()) + y * cairo_image_surface_get_stride(surface_.get());
    const std::uint32_t pixel = reinterpret_cast<const std::uint32_t*>(row)[x];
    return {static_cast<int>(pixel >> 16 & 255), static_cast<int>(pixel >> 8 & 255), static_cast<int>(pixel & 255)};
  }
  /// The uniform colour of a rectangle.
  rgb plain(const rectangle& r) const {
    const rgb first = (*this)(r.x, r.y);
    CHECK(all_of(r, [&](const rgb& c) { return c == first; }));
    return first;
  }
  bool is_white(const rectangle& r) const {
    return all_of(r, [](const rgb& c) { return c == white; });
  }
  template <class Condition>
  bool all_of(const rectangle& r, const Condition& condition) const {
    for (fathom::index y = r.y; y < r.y + r.height; ++y)
      for (fathom::index x = r.x; x < r.x + r.width; ++x)
        if (!condition((*this)(x, y))) return false;
    return true;
  }

 private:
  std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)> surface_;
};

picture draw(const attention_weights_map& map, const png_options& options = {}) {
  const temporary_folder folder;
  fathom::viz::save_png(folder.path() / "a.png", map, options);
  return picture(folder.path() / "a.png");
}

std::vector<std::string> depths(fathom::index count) {
  std::vector<std::string> names;
  for (fathom::index i = 0; i < count; ++i) names.push_back("depth " + std::to_string(i));
  return names;
}

/// Even attention: all visible keys of a query have the same weight.
attention_weights_map even_map(fathom::index heads, fathom::index tokens, const std::vector<std::string>& sources,
                               fathom::index vocab = 256) {
  attention_weights_map map{.heads = heads,
                            .queries = tokens,
                            .sources = sources,
                            .keys = tokens,
                            .tokens = {},
                            .vocab = vocab,
                            .weights = {}};
  for (fathom::index t = 0; t < tokens; ++t) map.tokens.push_back(static_cast<token>("In the beginning "[t % 17]));
  for (fathom::index head = 0; head < heads; ++head)
    for (fathom::index query = 0; query < tokens; ++query)
      for (std::size_t source = 0; source < sources.size(); ++source)
        for (fathom::index key = 0; key < tokens; ++key)
          map.weights.push_back(
              key <= query ? 1 / static_cast<float>((query + 1) * static_cast<fathom::index>(sources.size())) : 0);
  return map;
}

/// Uneven attention, with rows that add up to 1.
attention_weights_map random_map(fathom::index heads, fathom::index tokens, fathom::index sources) {
  attention_weights_map map = even_map(heads, tokens, depths(sources));
  fathom::random numbers(1, 2);
  const fathom::index row = sources * tokens;
  for (auto first = map.weights.begin(); first != map.weights.end(); first += row) {
    float sum = 0;
    std::for_each(first, first + row,
                  [&](float& w) { sum += w = w > 0 ? static_cast<float>(std::exp(2 * numbers.normal())) : 0; });
    std::for_each(first, first + row, [&](float& w) { w /= sum; });
  }
  return map;
}

/// The place of a colour on the colour bar, from 0 to 1; it must be there.
double place_on_bar(const picture& p, const layout& l, const rgb& colour) {
  fathom::index best = 0;
  int smallest = 1000;
  for (fathom::index x = 0; x < l.colours.width; ++x) {
    const rgb c = p(l.colours.x + x, l.colours.y + l.colours.height / 2);
    const int distance = std::abs(c[0] - colour[0]) + std::abs(c[1] - colour[1]) + std::abs(c[2] - colour[2]);
    if (distance < smallest) smallest = distance, best = x;
  }
  CHECK(smallest <= 3);
  return static_cast<double>(best) / static_cast<double>(l.colours.width - 1);
}

bool disjoint(const rectangle& a, const rectangle& b) {
  return a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
}

struct shape {
  fathom::index heads, tokens, sources;
  png_options options;
};

}  // namespace

TEST_CASE("a picture has the size that its layout says, and nothing in it overlaps", "[viz]") {
  // Names that are far too long for their space.
  const auto endless = [](token) { return std::string(40, 'W'); };
  const std::vector<shape> shapes{{1, 1, 1, {}},
                                  {2, 1, 3, {.heads = heads::all}},
                                  {1, 2, 2, {.title = std::string(300, 'W')}},
                                  {2, 16, 2, {}},
                                  {1, 40, 3, {.labels = endless}},
                                  {1, 100, 1, {.labels = endless}},
                                  {3, 20, 2, {.heads = heads::all}},
                                  {1, 200, 2, {}},
                                  {1, 60, 12, {.title = "twelve depths"}},
                                  {1, 1024, 1, {}},
                                  {1, 7, 63, {}}};
  for (const shape& s : shapes) {
    INFO(s.heads << " heads, " << s.tokens << " tokens, " << s.sources << " sources");
    auto map = even_map(s.heads, s.tokens, depths(s.sources));
    map.sources[0] = std::string(60, 'W');
    const layout l = fathom::viz::layout_of(map, s.options);
    const picture p = draw(map, s.options);
    CHECK(p.width() == l.width);
    CHECK(p.height() == l.height);
    CHECK(l.block_width >= 150);  // enough for "depth 12" and "12.3 % of the attention"
    CHECK(l.width <= 4000);
    CHECK(l.height <= 4000);

    const bool by_head = s.options.heads == heads::all;
    REQUIRE(static_cast<fathom::index>(l.panels.size()) == s.sources * (by_head ? s.heads : 1));
    REQUIRE(l.shares.size() == (s.sources > 1 ? l.panels.size() : 0));
    // Each panel with its labels: name above, tokens left and below, shares on the right.
    std::vector<rectangle> blocks{l.colours};
    for (const rectangle& panel : l.panels) {
      CHECK(panel.width == s.tokens * l.cell);
      CHECK(panel.height == panel.width);
      const fathom::index left = panel.x - l.query_room, top = panel.y - 36;
      blocks.push_back({left, top, l.query_room + l.block_width, panel.y + panel.height + l.key_room - top});
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const rectangle& b = blocks[i];
      CHECK((b.x >= 0 && b.y >= 0 && b.x + b.width <= l.width && b.y + b.height <= l.height));
      for (std::size_t j = 0; j < i; ++j) CHECK(disjoint(b, blocks[j]));
    }
    for (std::size_t i = 0; i < l.shares.size(); ++i) CHECK(disjoint(l.panels[i], l.shares[i]));
    // Nothing overflows: the edges are white, and so are the gaps to the next panel.
    CHECK(p.is_white({0, 0, l.width, 12}));
    CHECK(p.is_white({l.width - 12, 0, 12, l.height}));
    CHECK(p.is_white({0, l.height - 12, l.width, 12}));
    for (const rectangle& panel : l.panels) {
      const fathom::index right = panel.x + l.block_width + 21;  // a number below the last cell may be half beside it
      if (right + 10 <= l.width) CHECK(p.is_white({right, panel.y - 36, 10, panel.height + 36 + l.key_room}));
    }
  }
}

TEST_CASE("numbers below a panel keep their distance", "[viz]") {
  for (const fathom::index tokens : {140, 200, 513, 1024}) {
    INFO(tokens << " tokens");
    const auto map = even_map(1, tokens, {"depth 2"}, 50257);
    const layout l = fathom::viz::layout_of(map);
    const picture p = draw(map);
    CHECK(l.label_size == 0);
    // A tick is a dark pixel right below the frame. Between two of them there are columns without any ink.
    const rectangle& panel = l.panels[0];
    std::vector<fathom::index> marks;
    for (fathom::index x = panel.x; x < panel.x + panel.width; ++x)
      if (p(x, panel.y + panel.height + 2) != white) marks.push_back(x);
    REQUIRE(marks.size() >= 5);
    for (std::size_t i = 1; i < marks.size(); ++i) {
      CHECK(marks[i] - marks[i - 1] >= 40);
      CHECK(p.is_white({(marks[i] + marks[i - 1]) / 2 - 1, panel.y + panel.height + 2, 3, l.key_room}));
    }
  }
}

TEST_CASE("cells have the colours of their weights", "[viz]") {
  // 2 heads, 3 tokens, 2 sources; the mean of the two heads is in the comments.
  attention_weights_map map = even_map(2, 3, {"depth 1", "depth 3"});
  map.weights = {.5f,  0,    0,   .5f,  0,    0,    // .4  | .6
                 .25f, .25f, 0,   .5f,  0,    0,    // .145 .225 | .6 .03
                 .1f,  .2f,  .3f, .05f, .15f, .2f,  // .05 .1 .65 | .025 .075 .1
                 .3f,  0,    0,   .7f,  0,    0,    //
                 .04f, .2f,  0,   .7f,  .06f, 0,    //
                 0,    0,    1,   0,    0,    0};
  struct cell {
    fathom::index panel, query, key;
    double weight;
  };
  const std::vector<cell> means{{0, 0, 0, .4},  {1, 0, 0, .6},   {0, 1, 0, .145}, {0, 1, 1, .225},
                                {1, 1, 0, .6},  {1, 1, 1, .03},  {0, 2, 0, .05},  {0, 2, 1, .1},
                                {0, 2, 2, .65}, {1, 2, 0, .025}, {1, 2, 1, .075}, {1, 2, 2, .1}};
  const auto check = [&](const png_options& options, const std::vector<cell>& cells, const auto& place) {
    const layout l = fathom::viz::layout_of(map, options);
    const picture p = draw(map, options);
    for (const cell& c : cells) {
      INFO("panel " << c.panel << ", query " << c.query << ", key " << c.key);
      CHECK(std::abs(place_on_bar(p, l, p.plain(l.at(c.panel, c.query, c.key))) - place(c)) < 0.012);
    }
  };
  SECTION("on a linear scale") {
    check({.measure = measure::weight, .scale = scale::linear, .maximum = 0.8}, means,
          [](const cell& c) { return c.weight / 0.8; });
  }
  SECTION("weights above the maximum have the brightest colour") {
    check({.measure = measure::weight, .scale = scale::linear, .maximum = 0.2}, means,
          [](const cell& c) { return std::min(1.0, c.weight / 0.2); });
  }
  SECTION("on a square-root scale") {
    check({.measure = measure::weight, .scale = scale::square_root, .maximum = 0.8}, means,
          [](const cell& c) { return std::sqrt(c.weight / 0.8); });
  }
  SECTION("on a logarithmic scale, over three powers of ten") {
    check({.measure = measure::weight, .scale = scale::logarithmic, .maximum = 1}, means,
          [](const cell& c) { return 1 + std::log10(c.weight) / 3; });
    const std::vector<cell> none{{0, 2, 0, 0}, {1, 2, 1, 0}};  // of the second head
    check({.heads = heads::all, .measure = measure::weight, .scale = scale::logarithmic, .maximum = 1},
          {{2, 2, 0, 0}, {3, 2, 1, 0}}, [](const cell&) { return 0; });
  }
  SECTION("relative to even attention") {
    check({.scale = scale::linear, .maximum = 4}, means, [](const cell& c) {
      return c.weight * static_cast<double>(2 * (c.query + 1)) / 4;  // of two sources, query + 1 keys each
    });
  }
  SECTION("head by head") {
    check({.heads = heads::all, .measure = measure::weight, .scale = scale::linear, .maximum = 1},
          {{0, 1, 1, .25}, {1, 1, 0, .5}, {1, 2, 2, .2}, {2, 0, 0, .3}, {2, 2, 2, 1}, {3, 0, 0, .7}, {3, 1, 1, .06}},
          [](const cell& c) { return c.weight; });
  }
}

TEST_CASE("even attention has one colour when it is drawn relative, and fades as weights", "[viz]") {
  const auto map = even_map(1, 12, depths(2));
  const layout l = fathom::viz::layout_of(map);
  const picture relative = draw(map), weights = draw(map, {.measure = measure::weight});
  for (fathom::index panel = 0; panel < 2; ++panel)
    for (fathom::index query = 0; query < 12; ++query)
      CHECK(relative.plain(l.at(panel, query, query / 2)) == relative.plain(l.at(0, 0, 0)));
  CHECK(place_on_bar(weights, l, weights.plain(l.at(0, 0, 0))) == 1);
  for (fathom::index query = 0; query + 1 < 12; ++query)
    CHECK(place_on_bar(weights, l, weights.plain(l.at(1, query, 0))) >
          place_on_bar(weights, l, weights.plain(l.at(1, query + 1, 0))));
}

TEST_CASE("keys after the query are not shown as small weights", "[viz]") {
  // Every query sees only itself, so some cells have weight zero.
  auto map = even_map(1, 9, {"context"});
  for (fathom::index query = 0; query < 9; ++query)
    for (fathom::index key = 0; key < 9; ++key)
      map.weights[static_cast<std::size_t>(query * 9 + key)] = query == key ? 1 : 0;
  for (const scale s : {scale::linear, scale::square_root, scale::logarithmic}) {
    const layout l = fathom::viz::layout_of(map, {.scale = s});
    const picture p = draw(map, {.scale = s});
    const rgb hidden = p.plain(l.at(0, 0, 1)), zero = p.plain(l.at(0, 8, 0));
    CHECK((hidden[0] == hidden[1] && hidden[1] == hidden[2]));  // neutral
    CHECK(hidden != white);
    CHECK(std::abs(hidden[0] - zero[0]) + std::abs(hidden[1] - zero[1]) + std::abs(hidden[2] - zero[2]) > 300);
    CHECK(place_on_bar(p, l, zero) == 0);
    for (fathom::index query = 0; query < 9; ++query)
      for (fathom::index key = 0; key < 9; ++key) {
        const rgb colour = p.plain(l.at(0, query, key));
        CHECK((colour == hidden) == (key > query));
      }
    // No weight has a colour similar to that of hidden cells.
    for (fathom::index x = 0; x < l.colours.width; ++x) {
      const rgb c = p(l.colours.x + x, l.colours.y + 3);
      CHECK(std::abs(c[0] - hidden[0]) + std::abs(c[1] - hidden[1]) + std::abs(c[2] - hidden[2]) > 60);
    }
  }
}

TEST_CASE("the colours grow lighter in even steps", "[viz]") {
  // CIE 1976 lightness, from the sRGB values of the colour bar.
  const auto lightness = [](const rgb& c) {
    const auto linear = [](int byte) {
      const double x = byte / 255.0;
      return x <= 0.04045 ? x / 12.92 : std::pow((x + 0.055) / 1.055, 2.4);
    };
    const double y = 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
    return y > 216.0 / 24389 ? 116 * std::cbrt(y) - 16 : y * 24389 / 27;
  };
  const auto map = even_map(1, 4, depths(1));
  const layout l = fathom::viz::layout_of(map);
  const picture p = draw(map);
  std::vector<double> values;
  for (int i = 0; i <= 16; ++i)
    values.push_back(lightness(p(l.colours.x + (l.colours.width - 1) * i / 16, l.colours.y + 5)));
  CHECK(values.front() < 15);
  CHECK(values.back() > 90);
  const double mean = (values.back() - values.front()) / 16;
  for (std::size_t i = 1; i < values.size(); ++i) {
    CHECK(values[i] - values[i - 1] > 0.7 * mean);
    CHECK(values[i] - values[i - 1] < 1.3 * mean);
  }
}

TEST_CASE("few cells are brighter than the scale when its maximum is not given", "[viz]") {
  const auto map = random_map(1, 50, 2);
  for (const measure m : {measure::relative, measure::weight}) {
    const png_options options{.measure = m, .scale = scale::linear};
    const layout l = fathom::viz::layout_of(map, options);
    const picture p = draw(map, options);
    const rgb brightest = p(l.colours.x + l.colours.width - 1, l.colours.y + 5);
    int bright = 0, visible = 0;
    for (fathom::index panel = 0; panel < 2; ++panel)
      for (fathom::index query = 0; query < 50; ++query)
        for (fathom::index key = 0; key <= query; ++key) {
          bright += p.plain(l.at(panel, query, key)) == brightest;
          ++visible;
        }
    CHECK(bright <= visible / 200 + 3);  // those just below the maximum round to its colour
    CHECK(bright >= visible / 400);
  }
}

TEST_CASE("bars show which source a query prefers", "[viz]") {
  // Query 0 gives the sources 1/4 and 3/4, query 1 all to the first, query 2 halves.
  auto map = even_map(1, 3, {"depth 2", "depth 4"});
  map.weights = {.25f, 0,   0,    .75f,  0,    0,  //
                 .5f,  .5f, 0,    0,     0,    0,  //
                 .25f, 0,   .25f, .125f, .25f, .125f};
  const layout l = fathom::viz::layout_of(map);
  const picture p = draw(map);
  REQUIRE(l.shares.size() == 2);
  // The number of pixels in the bar's row darker than the background. The line at an even share counts as one.
  const auto length = [&](std::size_t panel, fathom::index query) {
    const rectangle& r = l.shares[panel];
    int dark = 0;
    for (fathom::index x = r.x; x < r.x + r.width; ++x) dark += p(x, r.y + query * l.cell + l.cell / 2)[0] < 140;
    return dark;
  };
  const auto full = static_cast<double>(l.shares[0].width);
  CHECK(std::abs(length(0, 0) - 0.25 * full) <= 1);
  CHECK(std::abs(length(1, 0) - 0.75 * full) <= 1);
  CHECK(std::abs(length(0, 1) - full) <= 1);
  CHECK(length(1, 1) == 0);
  CHECK(std::abs(length(0, 2) - 0.5 * full) <= 1);
  CHECK(std::abs(length(1, 2) - 0.5 * full) <= 1);
}

TEST_CASE("tokens are called by their names", "[viz]") {
  const auto map = even_map(1, 5, depths(2));
  const auto letters = [](const char* text) { return [text](token) { return std::string(text); }; };
  const auto inked = [&](const png_options& options) {
    const layout l = fathom::viz::layout_of(map, options);
    const picture p = draw(map, options);
    const rectangle& panel = l.panels[0];
    return std::pair(!p.is_white({panel.x - 5 - l.query_room, panel.y, l.query_room, panel.height}),
                     !p.is_white({panel.x, panel.y + panel.height + 2, panel.width, l.key_room}));
  };
  CHECK(inked({}) == std::pair(true, true));
  CHECK(inked({.labels = letters("Q")}) == std::pair(true, true));
  CHECK(inked({.labels = letters("somewhat")}) == std::pair(true, true));
  CHECK(inked({.labels = letters("")}) == std::pair(false, false));
  CHECK(fathom::viz::layout_of(map, {.labels = letters("Q")}).upright);
  CHECK_FALSE(fathom::viz::layout_of(map, {.labels = letters("somewhat")}).upright);

  SECTION("by a list of names, which must be long enough") {
    const std::vector<std::string> names(256, "name");
    CHECK(inked({.labels = names}) == std::pair(true, true));
    const std::vector<std::string> few(50, "name");
    CHECK(fails_with([&] { return fathom::viz::layout_of(map, {.labels = few}); }, "token 73", "no name", "50"));
  }
  SECTION("long ones are shortened") {
    const auto l = fathom::viz::layout_of(map, {.labels = letters("of twenty-one letters")});
    CHECK(l.query_room == fathom::viz::layout_of(map, {.labels = letters("of12letters.")}).query_room);
  }
  SECTION("tokens of other vocabularies are numbers") {
    auto other = map;
    other.vocab = 50257;
    other.tokens = {50256, 1, 2, 3, 4};
    CHECK(fathom::viz::layout_of(other).query_room ==
          fathom::viz::layout_of(map, {.labels = letters("12345")}).query_room);
  }
}

TEST_CASE("text that cannot be drawn is made visible", "[viz]") {
  using fathom::viz::detail::visible;
  CHECK(visible("a b\n\tc") == "a\u00b7b\u00b6\u00bbc");
  CHECK(visible("na\u00efve \u2019 \U0001f600") == "na\u00efve\u00b7\u2019\u00b7\U0001f600");
  CHECK(visible("na\u00efve title", " ") == "na\u00efve title");
  CHECK(visible(std::string("\0\x1b\x7f", 3)) == "001b7f");
  CHECK(visible("\xff") == "ff");
  CHECK(visible("\xe2\x80") == "e280");              // the beginning of a character
  CHECK(visible("\x80x") == "80x");                  // the end of one
  CHECK(visible("\xc3(") == "c3(");                  // one that breaks off
  CHECK(visible("\xc0\x80") == "c080");              // longer than need be
  CHECK(visible("\xe0\x9f\xbf") == "e09fbf");        //
  CHECK(visible("\xf0\x8f\xbf\xbf") == "f08fbfbf");  //
  CHECK(visible("\xed\xa0\x80") == "eda080");        // a surrogate
  CHECK(visible("\xf4\x90\x80\x80") == "f4908080");  // beyond the last character
  CHECK(visible("\xc2\x85") == "c285");              // a control character

  // Cairo accepts none of the above: a picture with every byte, also in the title.
  auto map = even_map(1, 256, {"depth\x80"});
  std::string title;
  for (int byte = 0; byte < 256; ++byte) {
    map.tokens[static_cast<std::size_t>(byte)] = byte;
    title += static_cast<char>(byte);
  }
  const png_options options{.cell = 9, .title = title};
  CHECK(draw(map, options).width() == fathom::viz::layout_of(map, options).width);
}

TEST_CASE("what cannot be drawn is an error", "[viz]") {
  const temporary_folder folder;
  const auto saving = [&](const attention_weights_map& map, const png_options& options = {}) {
    return [&folder, map, options] { return fathom::viz::save_png(folder.path() / "a.png", map, options), 0; };
  };
  const auto good = even_map(2, 3, depths(2));
  const auto with_weight = [&](float weight) {
    auto map = good;
    map.weights[7] = weight;
    return map;
  };
  CHECK(fails_with(saving({}), "0 heads, 0 tokens and 0 sources", "expected at least 1"));
  auto map = good;
  map.weights.pop_back();
  CHECK(fails_with(saving(map), "35 weights", "a weight for each head"));
  map = good;
  map.tokens.push_back(1);
  CHECK(fails_with(saving(map), "4 tokens", "expected as many"));
  map = good;
  map.sources.pop_back();
  CHECK(fails_with(saving(map), "1 sources"));
  CHECK(fails_with(saving(with_weight(std::numeric_limits<float>::quiet_NaN())), "weight of", "nan", "from 0 to 1"));
  CHECK(fails_with(saving(with_weight(-0.01f)), "weight of -0.01"));
  CHECK(fails_with(saving(with_weight(1.5f)), "weight of 1.5"));
  CHECK(fails_with(saving(good, {.maximum = -1}), "maximum of -1"));
  CHECK(fails_with(saving(good, {.maximum = std::nan("")}), "maximum of"));
  CHECK(fails_with(saving(good, {.cell = -1}), "cells of -1"));
  CHECK(fails_with(saving(even_map(1, 100, depths(2)), {.cell = 200}), "save_png: a picture of", "16384 on a side"));
  CHECK(fails_with(saving(even_map(1, 100, depths(9)), {.cell = 40}), "100000000 in all"));
  CHECK(std::filesystem::is_empty(folder.path()));

  CHECK(fails_with([&] { return fathom::viz::save_png(folder.path() / "none" / "a.png", good), 0; }, "none/a.png",
                   "cannot be written", "No such file"));
  std::filesystem::create_directory(folder.path() / "taken.png");
  CHECK(fails_with([&] { return fathom::viz::save_png(folder.path() / "taken.png", good), 0; }, "taken.png",
                   "cannot be written"));
  fathom::viz::save_png(folder.path() / "a.png", good);
  const std::string before = folder.read("a.png");
  CHECK(before.starts_with("\x89PNG\r\n\x1a\n"));
  CHECK(fails_with(saving(with_weight(2)), "weight of 2"));
  CHECK(folder.read("a.png") == before);  // the older picture is still whole
  fathom::viz::save_png(folder.path() / "a.png", random_map(1, 5, 2));
  CHECK(folder.read("a.png") != before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 2);  // no other files are left
}

TEST_CASE("from a model to a picture", "[viz]") {
  constexpr fathom::config small{
      .vocab = 256, .context = 8, .width = 8, .depth = 3, .heads = 2, .shortcut = {.depths = {1, 2}}};
  using net = fathom::model<small, fathom::backend::reference<float>>;
  const auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, 1);
  const std::vector<token> tokens{'L', 'e', 't', ' ', 't', '\n'};
  const auto map = fathom::attention_map<net>(*weights, tokens);
  const layout l = fathom::viz::layout_of(map);
  CHECK(l.panels.size() == 2);
  const picture p = draw(map);
  CHECK(p.width() == l.width);
  // New weights are small, so attention and colours are nearly even in both panels.
  double least = 1, most = 0;
  for (fathom::index panel = 0; panel < 2; ++panel)
    for (fathom::index query = 0; query < 6; ++query)
      for (fathom::index key = 0; key <= query; ++key) {
        const double place = place_on_bar(p, l, p.plain(l.at(panel, query, key)));
        least = std::min(least, place);
        most = std::max(most, place);
      }
  CHECK(least > 0.9);
  CHECK(most > least - 1e-9);
}
