// A model as a table, layer by layer.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/core/name.hpp"
#include "fathom/core/types.hpp"
#include "fathom/layer/layer.hpp"

namespace fathom {

namespace detail {
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
}  // namespace detail

/// A table of the model's layers, with their parameters and the floating-point operations of forward for each token of a
/// sequence of `tokens`; then the totals, and the bytes of weights, cache and tape.
template <class Model>
[[nodiscard]] std::string summary(index tokens = Model::context) {
  std::string text;
  const auto line = [&](std::string_view name, std::string_view what, std::string_view parameters, std::string_view flops) {
    char row[256];
    std::snprintf(row, sizeof row, "%-18.*s %-58.*s %12.*s %12.*s\n", static_cast<int>(name.size()), name.data(),
                  static_cast<int>(what.size()), what.data(), static_cast<int>(parameters.size()), parameters.data(),
                  static_cast<int>(flops.size()), flops.data());
    text += row;
  };
  const auto layer = [&](std::string_view name, std::string_view what, index parameters, double flops) {
    line(name, what, detail::with_commas(parameters), detail::in_units(flops / static_cast<double>(tokens)));
  };
  line("layer", "what it is", "parameters", "FLOP/token");
  text += std::string(103, '-') + "\n";
  layer("wte, wpe", Model::embedding::describe(), parameter_count_of<typename Model::embedding>(), 0);
  Model::body::describe(layer, path{}, 0, tokens);
  layer("ln_f, logits", Model::head::describe(), parameter_count_of<typename Model::head>(), Model::head::flops(tokens));
  text += std::string(103, '-') + "\n";
  line("total", "", detail::with_commas(Model::parameter_count), detail::in_units(Model::forward_flops_per_token(tokens)));
  text += join("weights ", detail::in_units(static_cast<double>(sizeof(typename Model::parameters))), "B, cache of one sequence ",
               detail::in_units(static_cast<double>(Model::cache_bytes(1, tokens))), "B, tape of one sequence ",
               detail::in_units(static_cast<double>(Model::tape_bytes(1, tokens))), "B; forward and backward ",
               detail::in_units(Model::training_flops_per_token(tokens)), "FLOP/token\n");
  return text;
}

}  // namespace fathom
