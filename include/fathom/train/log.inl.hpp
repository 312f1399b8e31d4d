// Implementation of log.hpp.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>

#include "fathom/core/error.hpp"
#include "fathom/train/log.hpp"

namespace fathom {

namespace detail {
// Uses charconv, not printf and strtod, because those depend on the locale's decimal point.

/// The cell that begins at `at`. Moves `at` past the comma after it, or past the end of the line.
[[nodiscard]] inline std::string_view next_cell(std::string_view line, std::size_t& at) {
  const std::size_t comma = std::min(line.find(',', at), line.size());
  const std::string_view cell = line.substr(at, comma - at);
  at = comma + 1;
  return cell;
}
/// Parses a cell as a number; NaN if it is not one.
[[nodiscard]] inline double number_in(std::string_view cell) {
  double value = 0;
  const auto [end, problem] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  return problem != std::errc() || end != cell.data() + cell.size() ? std::nan("") : value;
}
/// Appends a number with so many digits after the point (fixed) or significant digits (general).
inline void append_number(std::string& line, double number, std::chars_format format, int digits) {
  char text[400];  // a double can have 309 digits before the point
  line.append(text, std::to_chars(std::begin(text), std::end(text), number, format, digits).ptr);
}
/// The step and the seconds of a line; step 0 if it is not a line of a log.
struct log_line {
  index step = 0;
  double seconds = 0;
  std::string_view common;   // the cells that all logs have
  std::string_view waiting;  // the cell after them, if there is one

  explicit log_line(std::string_view line) {
    double cells[8];
    std::size_t at = 0;
    common = line;
    for (int i = 0; i < 8; ++i) {
      if (at > line.size()) {
        if (i == 7) break;  // without `waiting`
        return;
      }
      if (i == 7) common = line.substr(0, at - 1), waiting = line.substr(at);
      const std::string_view cell = next_cell(line, at);
      cells[i] = number_in(cell);
      if (!std::isfinite(cells[i]) && !(i == 2 && cell.empty())) return;
    }
    if (at <= line.size() || !(cells[0] >= 1 && cells[0] < 9e15) || cells[0] != std::floor(cells[0]) || cells[6] < 0) return;
    step = static_cast<index>(cells[0]);
    seconds = cells[6];
  }
};
}  // namespace detail

FATHOM_INLINE training_log::training_log(const std::filesystem::path& path, index step, index tokens_per_step, bool has_waiting)
    : tokens_per_step_(tokens_per_step), has_waiting_(has_waiting) {
  std::string kept = join("step,loss,validation,rate,gradient_norm,tokens,seconds", has_waiting ? ",waiting" : "", "\n");
  std::error_code ignored;
  if (step > 0 && std::filesystem::is_regular_file(path, ignored)) {
    const io::whole_file old(path);
    index last = 0;
    for (std::string_view rest = old.text(); !rest.empty();) {
      const std::size_t end = rest.find('\n');
      if (end == rest.npos) break;  // incomplete line
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end + 1);
      const detail::log_line found(line);
      if (found.step <= last || found.step > step) continue;
      last = found.step;
      seconds_before_ = std::max(seconds_before_, found.seconds);
      kept.append(found.common);
      if (has_waiting) kept.append(",").append(found.waiting.empty() ? "0.0000" : found.waiting);
      kept.append("\n");
    }
  }
  file_ = io::appended_file(path, kept);
}

FATHOM_INLINE void training_log::write(const progress& p) {
  if (!file_.is_open()) return;
  constexpr auto fixed = std::chars_format::fixed, general = std::chars_format::general;
  std::string line = join(p.step, ',');
  detail::append_number(line, p.loss, fixed, 6);
  line += ',';
  if (!std::isnan(p.validation)) detail::append_number(line, p.validation, fixed, 6);
  line += ',';
  detail::append_number(line, p.rate, general, 6);
  line += ',';
  detail::append_number(line, p.gradient_norm, general, 6);
  line += join(',', p.step * tokens_per_step_, ',');
  detail::append_number(line, seconds_before_ + p.seconds, fixed, 3);
  if (has_waiting_) {
    line += ',';
    detail::append_number(line, p.step_waiting, fixed, 4);
  }
  file_.write(line + '\n');
}

}  // namespace fathom
