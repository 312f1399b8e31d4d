// Access to JSON values for tests. json_python.py checks that the library reads and writes JSON as others do.
#pragma once

#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/core/json.hpp>

#include "catch.hpp"

/// Parses a text that must be JSON.
inline fathom::json parsed(std::string_view text) {
  std::optional<fathom::json> value = fathom::json::parse(text);
  INFO(text);
  REQUIRE(value);
  return *std::move(value);
}

/// The value at a place, "/model/merges/1" (RFC 6901, without escapes); created if missing.
inline fathom::json& at(fathom::json& value, std::string_view place) {
  if (place.empty()) return value;
  place.remove_prefix(1);
  const std::string_view name = place.substr(0, place.find('/'));
  place.remove_prefix(name.size());
  if (!value.is_array()) return at(value[name], place);
  std::size_t element = 0;
  REQUIRE(std::from_chars(name.data(), name.data() + name.size(), element).ptr == name.data() + name.size());
  while (value.size() <= element) value.push_back(nullptr);
  return at(value[element], place);
}

/// Appends the places of all leaves within a value.
inline void add_places(const fathom::json& value, const std::string& place, std::vector<std::string>& to) {
  if (value.size() == 0) to.push_back(place);
  if (value.is_object())
    for (const auto& [key, inner] : value.members()) add_places(inner, place + "/" + key, to);
  if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i) add_places(value[i], place + "/" + std::to_string(i), to);
}
