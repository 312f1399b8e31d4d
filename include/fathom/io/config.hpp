// A config as JSON: the keys of a model's config.json, and of the entry `fathom.config` that saved weights carry.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "fathom/core/error.hpp"
#include "fathom/model/config.hpp"

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

/// Whether arrays and objects lie within one another more than `levels` deep.
[[nodiscard]] inline bool is_deeper(const nlohmann::json& value, int levels) {
  return value.is_structured() && (levels == 0 || std::any_of(value.begin(), value.end(), [&](const auto& inner) {
                                     return is_deeper(inner, levels - 1);
                                   }));
}
/// What a file says, for an error. A hostile file may nest it deeper than the stack is for dump().
[[nodiscard]] inline std::string shown(const nlohmann::json& value) {
  return is_deeper(value, 2) ? "something nested too deeply" : value.dump();
}
}  // namespace detail

/// The architecture that a config stands for. zero_init is not part of it: it only says how training begins.
[[nodiscard]] inline nlohmann::json to_json(const config& given) {
  const config c = normalized(given);
  nlohmann::json json{{"vocab", c.vocab}, {"context", c.context}, {"width", c.width}, {"depth", c.depth},
                              {"heads", c.heads}};
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
  s["features"] = detail::name_of(c.shortcut.features, detail::feature_names);
  if (c.shortcut.features == feature_map::mlp) s["hidden"] = c.shortcut.hidden;
  s["placement"] = detail::name_of(c.shortcut.placement, detail::placement_names);
  return json;
}

/// What the two configs, as JSON, say differently, as "key: expected X, found Y" lines; empty when they agree. Only keys
/// that `expected` has are looked at, and in a shortcut without feature MLP `hidden` is not.
[[nodiscard]] inline std::string differences(const nlohmann::json& expected, const nlohmann::json& found,
                                             const std::string& prefix = "") {
  std::string text;
  for (const auto& [key, value] : expected.items()) {
    const bool present = found.is_object() && found.contains(key);
    if (value.is_object() && present && found[key].is_object())
      text += differences(value, found[key], prefix + key + ".");
    else if (!present || value != found[key])
      text += join("\n  config ", prefix, key, ": expected ", value.dump(), ", found ",
                   present ? detail::shown(found[key]) : "nothing");
  }
  return text;
}

}  // namespace fathom::io
