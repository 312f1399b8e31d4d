// Implementation of config.hpp.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/io/config.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom {

FATHOM_INLINE std::string io::to_json(const config& given) {
  const config c = normalized(given);
  json object = json::object();
  for (const detail::config_key& key : detail::config_keys)
    if (key.write)
      if (auto value = key.write(c)) object[key.name] = *std::move(value);
  return object.dump();
}

namespace io::detail {

/// Options of a shortcut that only `found` has: "\n  config shortcut.KEY: expected nothing, found X" for each. They are written
/// only where they are on, so that one that is missing is a difference, which the tensors of a file may not show.
[[nodiscard, gnu::cold]] inline std::string unexpected_options(const json& expected, const json& found) {
  const json *const ours = expected.find("shortcut"), *const theirs = found.find("shortcut");
  std::string text;
  if (ours && theirs && ours->is_object() && theirs->is_object())
    for (const config_key& key : shortcut_keys) {
      const json* const value = theirs->find(key.name);
      if (!value || !key.write || key.standard.empty() || ours->contains(key.name) || *value == *json::parse(key.standard)) continue;
      if (key.name == "hidden") continue;  // it has no meaning without a feature MLP
      text += join("\n  config shortcut.", key.name, ": expected nothing, found ", shown(*value));
    }
  return text;
}

/// A member of a shortcut that breaks a rule (model/shortcut_rules.hpp), for errors.
[[nodiscard, gnu::cold]] inline std::string shown_member(const shortcut& s, std::string_view member) {
  if (member == "hidden") return join(s.hidden);
  if (member == "blocks") return join(s.blocks);
  if (member == "rotary") return join(s.rotary);
  if (member == "source") return std::string(name_of(s.source, source_names));
  if (member != "depths") return "true";
  if (s.depths.every) return "all_depths";
  if (s.depths.impossible != 0) return join(s.depths.impossible);
  if (s.depths.repeated >= 0) return join(s.depths.repeated, " twice");
  return join(s.depths.largest());
}

/// Initializers of a struct, one after the other: ".width = 64, .tied = true".
class cpp_members {
 public:
  cpp_members& add(const char* name, int value) { return add(name, std::to_string(value)); }
  cpp_members& add(const char* name, bool value) { return add(name, std::string(value ? "true" : "false")); }
  template <class Value, std::size_t N>
  cpp_members& add(const char* name, const char* type, Value value, const named_value<Value> (&names)[N]) {
    return add(name, join("fathom::", type, "::", name_of(value, names)));
  }
  cpp_members& add(const char* name, const cpp_members& members) { return add(name, "{" + members.text_ + "}"); }
  cpp_members& add(const char* name, const std::string& value) {
    text_ += join(text_.empty() ? "." : ", .", name, " = ", value);
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace io::detail

FATHOM_INLINE std::string io::to_cpp(const config& given) {
  const config c = normalized(given);
  // A new member breaks these lines, so that it is not forgotten below.
  const auto& [vocab, context, width, depth, heads, hidden, tied, shortcut, family, kv_heads, head_width, window, rotary, inverse_epsilon,
               window_pattern, local_base, score_width, residual] = c;
  const auto& [depths, features, features_hidden, placement, zero_init, blocks, source, unit_features, head_norms, depth_bias, gate, slopes,
               shortcut_rotary, exit] = shortcut;
  const auto& [form, dilation, period, backout, group, streams, dynamic, last_blocks] = residual;
  const auto& [base, turned, scaling, factor, low_factor, high_factor, original] = rotary;
  std::string list;
  for (int n = 0; n < depths.count(); ++n) list += join(n > 0 ? ", " : "", depths[n]);
  detail::cpp_members looks_back, positions, connections, all;
  if (!depths.empty())
    looks_back.add("depths", "{" + list + "}")
        .add("features", "feature_map", features, detail::feature_names)
        .add("hidden", features_hidden)
        .add("placement", "placement", placement, detail::placement_names)
        .add("zero_init", zero_init);
  // Options that the paper's shortcut has not are left out where they are off.
  if (blocks != 1) looks_back.add("blocks", blocks);
  if (source != shortcut_source::outputs) looks_back.add("source", "shortcut_source", source, detail::source_names);
  if (unit_features) looks_back.add("unit_features", true);
  if (head_norms) looks_back.add("head_norms", true);
  if (depth_bias) looks_back.add("depth_bias", true);
  if (gate != shortcut_gate::none) looks_back.add("gate", "shortcut_gate", gate, detail::gate_names);
  if (slopes != shortcut_slopes::none) looks_back.add("slopes", "shortcut_slopes", slopes, detail::slope_names);
  if (shortcut_rotary != 0) looks_back.add("rotary", shortcut_rotary);
  if (exit != shortcut_exit::none) looks_back.add("exit", "shortcut_exit", exit, detail::exit_names);
  positions.add("base", base)
      .add("width", turned)
      .add("scaling", "rotary_scaling", scaling, detail::scaling_names)
      .add("factor", factor)
      .add("low_factor", low_factor)
      .add("high_factor", high_factor)
      .add("original", original);
  if (form != residual_form::plain)
    connections.add("form", "residual_form", form, detail::residual_names)
        .add("dilation", dilation)
        .add("period", period)
        .add("backout", backout)
        .add("group", group)
        .add("streams", streams)
        .add("dynamic", dynamic)
        .add("last_blocks", last_blocks);
  all.add("vocab", vocab)
      .add("context", context)
      .add("width", width)
      .add("depth", depth)
      .add("heads", heads)
      .add("hidden", hidden)
      .add("tied", tied)
      .add("shortcut", looks_back)
      .add("family", "family", family, detail::names_of_families)
      .add("kv_heads", kv_heads)
      .add("head_width", head_width)
      .add("window", window)
      .add("rotary", positions)
      .add("inverse_epsilon", inverse_epsilon)
      .add("window_pattern", window_pattern)
      .add("local_base", local_base)
      .add("score_width", score_width);
  if (form != residual_form::plain) all.add("residual", connections);
  return "fathom::config{" + all.text() + "}";
}

FATHOM_INLINE std::string io::problems_of(const config& given) {
  const config c = normalized(given);
  const shortcut& s = c.shortcut;
  std::string problems;
  const auto expect = [&](bool holds, const char* member, const auto& found, const auto&... expected) {
    if (!holds) problems += join("\n  ", member, ": expected ", expected..., "; found ", found);
    return holds;
  };
  bool are_positive = true;
  for (const auto& [member, value] : {std::pair("vocab", c.vocab), std::pair("context", c.context), std::pair("width", c.width),
                                      std::pair("depth", c.depth), std::pair("heads", c.heads), std::pair("hidden", c.hidden)})
    are_positive = expect(value > 0, member, value, "a number above 0") && are_positive;
  if (!are_positive) return problems;

  const auto divides = [](int part, int whole) { return part > 0 && whole % part == 0; };
  if (c.family == family::gpt2) {
    expect(divides(c.heads, c.width), "heads", c.heads, "a divisor of the width, ", c.width);
  } else {
    const rotary_positions& r = c.rotary;
    expect(divides(c.kv_heads, c.heads), "kv_heads", c.kv_heads, "a divisor of heads, ", c.heads);
    expect(c.head_width > 0 && c.head_width % 2 == 0 && c.head_width <= 256, "head_width", c.head_width,
           "an even number of at most 256, for rotary positions");
    expect(r.width > 0 && r.width % 2 == 0 && r.width <= c.head_width, "rotary.width", r.width, "an even number of at most head_width, ", c.head_width);
    expect(r.base > 1, "rotary.base", r.base, "a number above 1");
    expect(r.factor > 0, "rotary.factor", r.factor, "a number above 0");
    if (r.scaling == rotary_scaling::llama3 || r.scaling == rotary_scaling::yarn)
      expect(r.original > 0, "rotary.original", r.original, "a number above 0, the context of pretraining");
    if (r.scaling == rotary_scaling::llama3)
      expect(r.low_factor < r.high_factor, "rotary.low_factor", r.low_factor, "a number below high_factor, ", r.high_factor);
    expect(c.inverse_epsilon > 0, "inverse_epsilon", c.inverse_epsilon, "a number above 0");
    expect(c.window >= 0, "window", c.window, "a number of positions, or 0 for all");
    if (c.family == family::gemma3) {
      expect(c.window_pattern > 0, "window_pattern", c.window_pattern, "a number above 0");
      expect(c.local_base > 1, "local_base", c.local_base, "a number above 1");
      expect(c.score_width > 0, "score_width", c.score_width, "a number above 0");
    }
  }
  for (int n = 0; n <= static_cast<int>(last_shortcut_rule); ++n)
    if (const auto rule = static_cast<shortcut_rule>(n); !holds(rule, s, c)) {
      const auto [member, expected] = problem_of(rule);
      expect(false, join("shortcut.", member).c_str(), detail::shown_member(s, member), expected);
    }
  if (const char* const expected = problem_of(c.residual, c.depth, !s.depths.empty()))
    expect(false, "residual", detail::name_of(c.residual.form, detail::residual_names), expected);
  // Sizes of memory are constants of 64 bits. A trillion parameters are 4 TB.
  const double heads = c.family == family::gpt2 ? c.width : static_cast<double>(c.heads) * c.head_width;
  const double looks_back = static_cast<double>(s.depths.count()) * s.blocks * (2.0 * s.hidden + c.width) * c.width;
  const double parameters = 2.0 * c.vocab * c.width + c.depth * (4.0 * heads + 3.0 * c.hidden) * c.width + looks_back;
  const double cached = 2.0 * c.depth * heads * c.context;
  if (problems.empty() && !(parameters <= 1e12 && cached <= 1e15))
    problems += join("\n  vocab ", c.vocab, ", width ", c.width, ", depth ", c.depth, ", hidden ", c.hidden, ", context ", c.context,
                     ": expected a model of at most 10^12 parameters and 10^15 keys and values");
  return problems;
}

FATHOM_INLINE std::string io::differences(const config& expected, std::string_view found) {
  const json ours = *json::parse(to_json(expected)), theirs = json::parse(found).value_or(json());
  return detail::differences(ours, theirs, false) + detail::unexpected_options(ours, theirs);
}

FATHOM_INLINE config load_config(const std::filesystem::path& path) {
  const io::whole_file file(path);
  const io::config_reading read = io::read_config(file.text());
  if (read.problem.empty()) return read.value;
  fail(path.string(), ": ", read.problem.view(), json::parse(file.text()) ? std::string() : io::detail::but_what(file.text()));
}

}  // namespace fathom
