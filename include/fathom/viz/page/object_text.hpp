// JSON objects with members in a given order.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "fathom/core/error.hpp"

namespace fathom::viz::detail {

/// A JSON object with members in this order: keys, and values as JSON.
[[nodiscard]] inline std::string object_text(std::initializer_list<std::pair<const char*, std::string>> members) {
  std::string result;
  for (const auto& [key, value] : members) result += join(result.empty() ? "{\"" : ",\"", key, "\":", value);
  return result + "}";
}

}  // namespace fathom::viz::detail
