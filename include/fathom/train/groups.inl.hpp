// Implementation of groups.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/glob.hpp"
#include "fathom/train/groups.hpp"

namespace fathom {

FATHOM_INLINE std::function<bool(std::string_view)> glob(std::string pattern) {
  return [pattern = std::move(pattern)](std::string_view name) { return matches_glob(pattern, name); };
}

namespace detail {
FATHOM_INLINE std::vector<tensor_setting> resolve(std::span<const parameter_group> groups, const tensor_table& table) {
  std::vector<tensor_setting> settings(table.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const parameter_group& group = groups[i];
    if (!group.match) fail("groups: group ", i + 1, " has no match; expected a function of a tensor's name, as fathom::glob(\"h.0.*\") is");
    if (!(group.rate >= 0) || !std::isfinite(group.rate) || (group.decay && (!(*group.decay >= 0) || !std::isfinite(*group.decay))))
      fail("groups: group ", i + 1, ": rate ", group.rate, ", decay ", group.decay.value_or(0),
           "; expected finite numbers, 0 or more");
    bool matches = false;
    for (std::size_t t = 0; t < table.size(); ++t)
      if (group.match(table[t].name)) {
        settings[t] = {group.rate, group.decay, group.frozen};
        matches = true;
      }
    if (!matches) {
      std::string names;
      for (const tensor_row& row : table) names += "\n  " + row.name;
      fail("groups: group ", i + 1, " matches no tensor; expected one of", names);
    }
  }
  if (std::all_of(settings.begin(), settings.end(), [](const tensor_setting& s) { return s.frozen; }))
    fail("groups: all tensors are frozen; expected one to train");
  return settings;
}
}  // namespace detail

}  // namespace fathom
