// JSON files, and the differences between two JSON values. For definitions (.inl.hpp) only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/io/file.hpp"

namespace fathom::io::detail {

/// Names the format of text that is not JSON, for an error: ", but an HTML page, ..."; empty when unknown.
[[nodiscard, gnu::cold]] inline std::string but_what(std::string_view text) {
  const std::string what = what_begins_with(std::as_bytes(std::span(text.data(), std::min<std::size_t>(text.size(), 512))));
  return what.empty() || what.starts_with("JSON") ? std::string() : ", but " + what;
}
/// The value of the text of a JSON file. Fails when it is not JSON.
[[nodiscard, gnu::cold]] inline json json_of(std::string_view text, const std::string& file) {
  std::optional<json> found = json::parse(text);
  if (!found) fail(file, ": is not JSON", but_what(text));
  return *std::move(found);
}
/// Reads a JSON file. Fails when it cannot be read or is not JSON.
[[nodiscard, gnu::cold]] inline json read_json(const std::filesystem::path& path) {
  return json_of(whole_file(path).text(), path.string());
}

/// Whether arrays and objects are nested more than `levels` deep.
[[nodiscard, gnu::cold]] inline bool is_deeper(const json& value, int levels) {
  if (value.is_structured() && levels == 0) return true;
  if (value.is_array())
    for (const json& inner : value.elements())
      if (is_deeper(inner, levels - 1)) return true;
  if (value.is_object())
    for (const auto& [key, inner] : value.members())
      if (is_deeper(inner, levels - 1)) return true;
  return false;
}
/// A value from a file, for an error.
[[nodiscard, gnu::cold]] inline std::string shown(const json& value) {
  return is_deeper(value, 2) ? "something nested too deeply" : value.dump();
}

/// The differences between two objects, as lines "config key: expected X, found Y"; empty when they agree. Keys that
/// only `found` has are ignored unless `exact`; but a config without "residual" (read_config.hpp) means plain connections, and its
/// options are left out where they are the default.
[[nodiscard, gnu::cold]] inline std::string differences(const json& expected, const json& found, bool exact,
                                                        const std::string& prefix = "") {
  std::string text;
  for (const auto& [key, value] : expected.members()) {
    const json* const other = found.find(key);
    if (other && value.is_object() && other->is_object())
      text += differences(value, *other, exact || key == "residual", prefix + key + ".");
    else if (!other || !(value == *other))
      text += join("\n  config ", prefix, key, ": expected ", value.dump(), ", found ", other ? shown(*other) : "nothing");
  }
  if (const json* const other = found.find("residual"); !exact && other && !other->is_null() && !expected.contains("residual"))
    text += join("\n  config ", prefix, "residual: expected nothing, found ", shown(*other));
  if (exact && found.is_object())
    for (const auto& [key, value] : found.members())
      if (!expected.contains(key)) text += join("\n  config ", prefix, key, ": expected nothing, found ", shown(value));
  return text;
}

}  // namespace fathom::io::detail
