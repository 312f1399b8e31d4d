// The colours of a picture: fixed ones, and a scale from dark violet to yellow.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace fathom::viz::detail {

struct colour {
  std::uint8_t red = 0, green = 0, blue = 0;
  friend bool operator==(const colour&, const colour&) = default;
};

inline constexpr colour white{255, 255, 255}, ink{30, 30, 30}, pale_ink{105, 105, 105}, outline{150, 150, 150};
inline constexpr colour hidden_key{230, 230, 230}, share_bar{96, 110, 140}, share_ground{240, 240, 240};

/// The colour of t: from dark violet at 0 through blue and green to yellow at 1. Steps are even in Oklab, where equal
/// distances look equally large (B. Ottosson, "A perceptual color space for image processing", 2020): lightness and hue
/// change linearly, and chroma stays near the limit of sRGB.
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

}  // namespace fathom::viz::detail
