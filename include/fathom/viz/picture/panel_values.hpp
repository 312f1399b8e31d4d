// The values that a panel shows: cells and shares of attention.
#pragma once

#include <algorithm>
#include <cmath>

#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/picture/options.hpp"

namespace fathom::viz::detail {

/// The values of a panel.
class panel_values {
 public:
  panel_values(const attention_weights_map& map, const png_options& options, index panel)
      : map_(map),
        relative_(options.measure == measure::relative),
        source_(panel % static_cast<index>(map.sources.size())),
        first_(options.heads == heads::all ? panel / static_cast<index>(map.sources.size()) : 0),
        count_(options.heads == heads::all ? 1 : map.heads) {}

  /// The value of a cell.
  [[nodiscard]] double operator()(index query, index key) const {
    double sum = 0;
    for (index head = first_; head < first_ + count_; ++head)
      sum += static_cast<double>(map_(head, query, source_, key));
    const double keys =
        static_cast<double>((query + 1) * static_cast<index>(map_.sources.size()));  // visible to the query
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

/// The share of a full-width bar: the largest of any query, rounded up to a tenth.
[[nodiscard]] inline double share_limit(const attention_weights_map& map, const png_options& options, index panels) {
  double largest = 0;
  for (index p = 0; p < panels; ++p)
    for (index query = 0; query < map.queries; ++query)
      largest = std::max(largest, panel_values(map, options, p).share(query));
  return std::clamp(std::ceil(10 * largest - 1e-3) / 10, 0.1, 1.0);
}

}  // namespace fathom::viz::detail
