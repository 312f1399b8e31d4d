// Maps cell values to the colour bar.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/picture/options.hpp"
#include "fathom/viz/picture/panel_values.hpp"

namespace fathom::viz::detail {

/// Maps values to places on the colour bar.
struct shading {
  viz::scale scale = viz::scale::linear;
  double top = 1;         // value of the brightest colour
  bool exceeded = false;  // some cells exceed it

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

/// The shading of a picture. Its panels share one softmax, and therefore one scale.
[[nodiscard]] inline shading shade(const attention_weights_map& map, const png_options& options, index panels) {
  if (!(options.maximum >= 0 && options.maximum <= 1e9))
    fail("save_png: a maximum of ", options.maximum, "; expected a positive number, or 0 to have it chosen");
  std::vector<float> values;  // of all visible keys
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
  // Round up to two digits, so that the number at the colour bar's end is exact.
  const double unit = std::pow(10, std::floor(std::log10(top)) - 1);
  top = unit * std::ceil(top / unit * (1 - 1e-6));
  return {options.scale, top, largest > top * (1 + 1e-5)};
}

}  // namespace fathom::viz::detail
