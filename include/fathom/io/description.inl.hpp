// Implementation of description.hpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/description.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom::io {

namespace detail {
/// Parses a description. Fails if it is not a JSON object.
[[nodiscard, gnu::cold]] inline json value_of_description(std::string_view text) {
  std::optional<json> value = json::parse(text);
  if (!value || !value->is_object())
    fail("the description of an architecture is not an object of JSON: ", text.substr(0, 200), text.size() > 200 ? "..." : "");
  return *std::move(value);
}
/// Whether a description is exactly that of a config (to_json).
[[nodiscard, gnu::cold]] inline bool is_of_config(std::string_view text) {
  const config_reading read = read_config(text);
  return read.problem.empty() && json::parse(text) == json::parse(to_json(read.value));
}
}  // namespace detail

FATHOM_INLINE std::string checked_description(std::string text) {
  static_cast<void>(detail::value_of_description(text));
  return text;
}

FATHOM_INLINE std::string description_differences(std::string_view expected, std::string_view found) {
  const bool exact = !detail::is_of_config(expected) && !detail::is_of_config(found);
  const json ours = detail::value_of_description(expected), theirs = json::parse(found).value_or(json());
  return detail::differences(ours, theirs, exact) + (exact ? std::string() : detail::unexpected_options(ours, theirs));
}

}  // namespace fathom::io
