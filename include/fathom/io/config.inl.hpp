// What config.hpp declares.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "fathom/core/error.hpp"
#include "fathom/io/config.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom::io {

namespace detail {
inline constexpr std::pair<feature_map, std::string_view> feature_names[] = {
    {feature_map::identity, "identity"}, {feature_map::linear, "linear"}, {feature_map::mlp, "mlp"}};
inline constexpr std::pair<placement, std::string_view> placement_names[] = {
    {placement::after_self_attention, "after_self_attention"},
    {placement::replace_self_attention, "replace_self_attention"},
    {placement::joint, "joint"}};

template <class Value, class Names>
[[nodiscard]] std::string name_of(Value value, const Names& names) {
  for (const auto& [known, name] : names)
    if (known == value) return std::string(name);
  fail("a value outside of its enumeration");
}

/// A config as JSON.
[[nodiscard]] inline nlohmann::json json_of(const config& given) {
  const config c = normalized(given);
  auto json = nlohmann::json::object();
  json["vocab"] = c.vocab;
  json["context"] = c.context;
  json["width"] = c.width;
  json["depth"] = c.depth;
  json["heads"] = c.heads;
  if (c.hidden % c.width == 0)
    json["mlp_ratio"] = c.hidden / c.width;
  else
    json["mlp_hidden"] = c.hidden;
  json["tied"] = c.tied;
  json["layer_norm_eps"] = 1e-5;
  json["shortcut"] = nullptr;
  if (c.shortcut.depths.empty()) return json;
  auto& s = json["shortcut"];
  s["depths"] = nlohmann::json::array();
  for (int n = 0; n < c.shortcut.depths.count(); ++n) s["depths"].push_back(c.shortcut.depths[n]);
  s["features"] = name_of(c.shortcut.features, feature_names);
  if (c.shortcut.features == feature_map::mlp) s["hidden"] = c.shortcut.hidden;
  s["placement"] = name_of(c.shortcut.placement, placement_names);
  return json;
}
}  // namespace detail

FATHOM_INLINE std::string to_json(const config& given) { return detail::json_of(given).dump(); }

FATHOM_INLINE std::string differences(const config& expected, std::string_view found) {
  return detail::differences(detail::json_of(expected), detail::parse_json(found));
}

}  // namespace fathom::io
