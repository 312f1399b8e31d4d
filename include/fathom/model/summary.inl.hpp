// Definitions for summary.hpp.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/model/summary.hpp"

namespace fathom::detail {

/// 1234567 as "1,234,567"
[[nodiscard]] inline std::string with_commas(index number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}
/// A count in the unit that suits it: "2.74 M"
[[nodiscard]] inline std::string in_units(double number) {
  static constexpr std::string_view units[] = {"", " k", " M", " G", " T", " P"};
  std::size_t unit = 0;
  while (number >= 1000 && unit < 5) {
    number /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f" : "%.3g", number);
  return join(text, units[unit]);
}

FATHOM_INLINE summary_table::summary_table(index tokens) : tokens_(tokens) {}

FATHOM_INLINE void summary_table::operator()(std::string_view name, std::string_view what, index parameters, double flops) const {
  rows_.push_back({std::string(name), std::string(what), with_commas(parameters), in_units(flops / static_cast<double>(tokens_))});
}

FATHOM_INLINE std::string summary_table::total(index parameters, double flops, double weight_bytes, double cache_bytes,
                                               double tape_bytes, double training_flops) const {
  std::size_t widths[] = {18, 58, 12, 12};  // at least
  for (const row& r : rows_)
    for (std::size_t i = 0; i < r.size(); ++i) widths[i] = std::max(widths[i], r[i].size());
  const std::string rule(widths[0] + widths[1] + widths[2] + widths[3] + 3, '-');
  std::string text;
  const auto line = [&](const row& r) {
    for (std::size_t i = 0; i < r.size(); ++i) {
      const std::string space(widths[i] - r[i].size(), ' ');
      text += (i > 0 ? " " : "") + (i < 2 ? r[i] + space : space + r[i]);
    }
    text += "\n";
  };
  line({"layer", "what it is", "parameters", "FLOP/token"});
  text += rule + "\n";
  for (const row& r : rows_) line(r);
  text += rule + "\n";
  line({"total", "", with_commas(parameters), in_units(flops)});
  return text + join("weights ", in_units(weight_bytes), "B, cache of one sequence ", in_units(cache_bytes),
                     "B, tape of one sequence ", in_units(tape_bytes), "B; forward and backward ", in_units(training_flops),
                     "FLOP/token\n");
}

}  // namespace fathom::detail
