// Rotary positions (Su et al., arXiv 2104.09864), as an option of attention: attention<9, kv_heads<3>, rotary<100'000>>.
// Queries and keys turn by angles that grow with their positions, so that their products depend on distances only.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <ratio>
#include <string>
#include <string_view>

#include "fathom/backend/rotation.hpp"
#include "fathom/core/error.hpp"
#include "fathom/layer/layer.hpp"
#include "fathom/layer/part.hpp"

namespace fathom {

/// The frequencies of a head's pairs while they are made, in double.
struct rotary_frequencies {
  double base;
  index width;                // numbers of each head that turn, in pairs; the others stay
  bool are_adjacent = false;  // pairs (2 i, 2 i + 1), not (i, i + width / 2)
  double scale = 1;           // of the pairs that turn
  double radians[rotation::most_pairs]{};  // of each pair, for each position

  /// The pair, as a real number, that turns `turns` times within `positions` (arXiv 2309.00071, section 3.2).
  [[nodiscard]] double pair_that_turns(double turns, double positions) const {
    return static_cast<double>(width) * std::log(positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
  }
};

namespace detail {
template <class Ratio>
inline constexpr double value_of = static_cast<double>(Ratio::num) / static_cast<double>(Ratio::den);
/// An option of rotary: shape() comes before the frequencies, adjust() after.
struct rotary_option {
  static constexpr void shape(rotary_frequencies&) {}
  static void adjust(rotary_frequencies&) {}
  [[nodiscard]] static std::string describe() { return {}; }  // for the summary
};
}  // namespace detail

/// Turns only the first `Width` numbers of each head (GPT-NeoX, Pythia: a quarter).
template <index Width>
struct rotary_width : detail::rotary_option {
  static_assert(Width > 0 && Width % 2 == 0, "fathom::rotary_width: an even number of a head's numbers");
  static constexpr auto option = field<"width">(Width);
  static constexpr void shape(rotary_frequencies& f) { f.width = Width; }
  [[nodiscard]] static std::string describe() { return join(" of ", Width); }
};
/// Pairs of adjacent numbers, as in GPT-J, in place of one from each half.
struct adjacent_pairs : detail::rotary_option {
  static constexpr auto option = field<"adjacent">(true);
  static constexpr void shape(rotary_frequencies& f) { f.are_adjacent = true; }
};
/// Divides positions by a factor, a std::ratio (Chen et al., arXiv 2306.15595).
template <class Factor>
struct linear_scaling : detail::rotary_option {
  static constexpr auto option = field<"linear_factor">(detail::value_of<Factor>);
  [[nodiscard]] static std::string describe() { return join(", linear x", detail::value_of<Factor>); }
  static void adjust(rotary_frequencies& f) {
    for (double& r : f.radians) r /= detail::value_of<Factor>;
  }
};
/// Llama 3's scaling from the context of pretraining, `Original` positions: divides the frequencies of waves longer than
/// Original / Low by Factor, keeps those of waves shorter than Original / High, and interpolates between.
template <class Factor = std::ratio<8>, class Low = std::ratio<1>, class High = std::ratio<4>, index Original = 8192>
struct llama3_scaling : detail::rotary_option {
  static constexpr double factor = detail::value_of<Factor>, low = detail::value_of<Low>, high = detail::value_of<High>;
  static_assert(factor > 0 && low < high && Original > 0, "fathom::llama3_scaling: expected a factor above 0, and Low below High");
  struct settings {
    static constexpr std::string_view name = "llama3";
    static constexpr auto options = fields(field<"factor">(factor), field<"low">(low), field<"high">(high), field<"original">(Original));
  };
  static constexpr auto option = field<"scaling">(part_of<settings>{});
  [[nodiscard]] static std::string describe() { return join(", ", settings::name, " x", factor); }
  static void adjust(rotary_frequencies& f) {
    for (double& r : f.radians) {
      const double waves = static_cast<double>(Original) * r / (2 * std::numbers::pi);  // within the original context
      const double kept = std::clamp((waves - low) / (high - low), 0.0, 1.0);
      r *= kept + (1 - kept) / factor;
    }
  }
};
/// YaRN (Peng et al., arXiv 2309.00071), for `Factor` times the `Original` positions: keeps the frequencies that turn more
/// than Fast times within them, divides those that turn less than Slow times, and interpolates between. Multiplies
/// queries and keys by 0.1 log(Factor) + 1.
template <class Factor, index Original, index Fast = 32, index Slow = 1>
struct yarn_scaling : detail::rotary_option {
  static constexpr double factor = detail::value_of<Factor>;
  static_assert(factor >= 1 && Original > 0 && Slow < Fast, "fathom::yarn_scaling: expected a factor of at least 1, and Slow below Fast");
  struct settings {
    static constexpr std::string_view name = "yarn";
    static constexpr auto options = fields(field<"factor">(factor), field<"original">(Original), field<"fast">(Fast), field<"slow">(Slow));
  };
  static constexpr auto option = field<"scaling">(part_of<settings>{});
  [[nodiscard]] static std::string describe() { return join(", ", settings::name, " x", factor); }
  static void adjust(rotary_frequencies& f) {
    const double positions = static_cast<double>(Original), last = static_cast<double>(f.width - 1);
    const double low = std::max(std::floor(f.pair_that_turns(Fast, positions)), 0.0);
    const double high = std::min(std::ceil(f.pair_that_turns(Slow, positions)), last);
    // Where the last pair turns less than Slow says, high is below low: as in transformers, the ramp then falls.
    const double ramp = high == low ? 0.001 : high - low;
    for (index i = 0; i < f.width / 2; ++i) {
      const double divided = std::clamp((static_cast<double>(i) - low) / ramp, 0.0, 1.0);
      f.radians[i] *= (1 - divided) + divided / factor;
    }
    f.scale = 0.1 * std::log(factor) + 1;
  }
};

namespace layers {

/// The rotation of attention_options: pair i of a head turns by position * Base^(-2 i / width) radians, unless an option
/// says otherwise.
template <index Base, class... Options>
struct rotary {
  static_assert(Base > 1, "fathom::rotary: the base is a number above 1");
  /// "rotary of 16, linear x4": what turns, if not all of a head, and the scaling.
  [[nodiscard]] static std::string describe() { return join("rotary", std::string(), Options::describe()...); }

  /// x [e.rows() * rows_per_position, heads * HeadWidth]
  template <index HeadWidth, class On>
  static void forward(const On& on, const extent& e, output<On> x, index rows_per_position) {
    rotate(on, e, angles<HeadWidth>(), x, HeadWidth, rows_per_position, 1);
  }
  /// The gradient of forward's result becomes the gradient of its input.
  template <index HeadWidth, class On>
  static void backward(const On& on, const extent& e, output<On> dx, index rows_per_position) {
    rotate(on, e, angles<HeadWidth>(), dx, HeadWidth, rows_per_position, -1);
  }

  /// The angles of heads of this width.
  template <index HeadWidth>
  [[nodiscard]] static const rotation& angles() {
    static const rotation r = [] {
      rotary_frequencies f{.base = static_cast<double>(Base), .width = turning_width<HeadWidth>()};
      (Options::shape(f), ...);
      for (index i = 0; i < f.width / 2; ++i)
        f.radians[i] = std::pow(f.base, -2.0 * static_cast<double>(i) / static_cast<double>(f.width));
      (Options::adjust(f), ...);
      rotation made{.pairs = f.width / 2, .are_adjacent = f.are_adjacent, .scale = static_cast<float>(f.scale)};
      std::transform(f.radians, f.radians + rotation::most_pairs, made.frequencies, [](double x) { return static_cast<float>(x); });
      return made;
    }();
    return r;
  }

 private:
  template <index HeadWidth>
  static constexpr index turning_width() {
    constexpr index width = [] {
      rotary_frequencies f{.base = static_cast<double>(Base), .width = HeadWidth};
      (Options::shape(f), ...);
      return f.width;
    }();
    static_assert(width % 2 == 0 && width <= HeadWidth && width <= 2 * rotation::most_pairs,
                  "fathom::rotary: heads need an even width of at most 256, of which rotary_width is a part");
    return width;
  }
};

}  // namespace layers

/// Rotary positions as an option of the part `attention`.
template <index Base = 10'000, class... Options>
struct rotary {
  static constexpr auto options = fields(field<"base">(Base), Options::option...);
  static constexpr auto option = field<"rotary">(part_of<rotary>{});
  template <class Given>
  struct of : Given {
    using rotation = layers::rotary<Base, Options...>;
  };
};

}  // namespace fathom
