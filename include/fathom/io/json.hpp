// JSON, read in one place: each further way into nlohmann's parser takes a compiler a second.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace fathom::io {

/// What a text of JSON says: discarded (is_discarded()) if it is not JSON. `twice`, when asked for, becomes a key that an
/// object of it has twice.
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text, std::string* twice = nullptr) {
  // The parser takes a zero byte for the end of the text, and so would not see what comes after it.
  if (text.find('\0') != text.npos) return nlohmann::json(nlohmann::json::value_t::discarded);
  std::vector<std::set<std::string>> open;  // the keys of every object that is being read
  const auto watch = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using at = nlohmann::json::parse_event_t;
    if (!twice) return true;
    if (event == at::object_start) open.emplace_back();
    if (event == at::object_end) open.pop_back();
    if (event == at::key && !open.back().insert(value.get<std::string>()).second) *twice = value.get<std::string>();
    return true;
  };
  return nlohmann::json::parse(text.data(), text.data() + text.size(), watch, false);
}

}  // namespace fathom::io
