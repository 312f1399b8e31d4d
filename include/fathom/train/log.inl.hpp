// What log.hpp declares.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>

#include "fathom/train/log.hpp"

namespace fathom {

namespace detail {
/// The cell of a line that begins at `at`, and where the next one begins: behind a comma, or at the line's end.
[[nodiscard]] inline std::string next_cell(std::string_view line, std::size_t& at) {
  const std::size_t comma = std::min(line.find(',', at), line.size());
  std::string cell(line.substr(at, comma - at));
  at = comma + 1;
  return cell;
}
/// The number that a cell is; NaN when it is none.
[[nodiscard]] inline double number_in(const std::string& cell) {
  char* end = nullptr;
  const double value = std::strtod(cell.c_str(), &end);
  return cell.empty() || *end != '\0' ? std::nan("") : value;
}
/// The step and the seconds of a line; a step of 0 when it is no line of a log.
struct log_line {
  index step = 0;
  double seconds = 0;

  explicit log_line(std::string_view line) {
    double cells[7];
    std::size_t at = 0;
    for (int i = 0; i < 7; ++i) {
      if (at > line.size()) return;
      const std::string cell = next_cell(line, at);
      cells[i] = number_in(cell);
      if (!std::isfinite(cells[i]) && !(i == 2 && cell.empty())) return;
    }
    if (at <= line.size() || !(cells[0] >= 1 && cells[0] < 9e15) || cells[0] != std::floor(cells[0]) || cells[6] < 0) return;
    step = static_cast<index>(cells[0]);
    seconds = cells[6];
  }
};
}  // namespace detail

FATHOM_INLINE training_log::training_log(const std::filesystem::path& path, index step, index tokens_per_step)
    : tokens_per_step_(tokens_per_step) {
  std::string kept = "step,loss,validation,rate,gradient_norm,tokens,seconds\n";
  std::error_code ignored;
  if (step > 0 && std::filesystem::is_regular_file(path, ignored)) {
    const io::whole_file old(path);
    index last = 0;
    for (std::string_view rest = old.text(); !rest.empty();) {
      const std::size_t end = rest.find('\n');
      if (end == rest.npos) break;  // torn
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end + 1);
      const detail::log_line found(line);
      if (found.step <= last || found.step > step) continue;
      last = found.step;
      seconds_before_ = std::max(seconds_before_, found.seconds);
      kept.append(line).append("\n");
    }
  }
  file_ = io::appended_file(path, kept);
}

FATHOM_INLINE void training_log::write(const progress& p) {
  if (!file_.is_open()) return;
  char validation[400] = "";  // a double can have 309 digits before the point
  if (!std::isnan(p.validation)) std::snprintf(validation, sizeof validation, "%f", p.validation);
  char line[1600];
  std::snprintf(line, sizeof line, "%td,%.6f,%s,%.6g,%.6g,%td,%.3f\n", p.step, p.loss, validation, p.rate, p.gradient_norm,
                p.step * tokens_per_step_, seconds_before_ + p.seconds);
  file_.write(line);
}

}  // namespace fathom
