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

// Enumerators by their names. A switch, so that compilers report one that is missing.
[[nodiscard, gnu::cold]] inline const char* enumerator_of(family of) {
  switch (of) {
    case family::gpt2: return "gpt2";
    case family::llama: return "llama";
    case family::mistral: return "mistral";
    case family::qwen2: return "qwen2";
    case family::qwen3: return "qwen3";
    case family::gpt_neox: return "gpt_neox";
    case family::olmo2: return "olmo2";
    case family::gemma3: return "gemma3";
  }
  fail("a family outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(rotary_scaling of) {
  switch (of) {
    case rotary_scaling::none: return "none";
    case rotary_scaling::linear: return "linear";
    case rotary_scaling::llama3: return "llama3";
    case rotary_scaling::yarn: return "yarn";
  }
  fail("a rotary_scaling outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(feature_map of) {
  switch (of) {
    case feature_map::identity: return "identity";
    case feature_map::linear: return "linear";
    case feature_map::mlp: return "mlp";
  }
  fail("a feature_map outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(placement of) {
  switch (of) {
    case placement::after_self_attention: return "after_self_attention";
    case placement::replace_self_attention: return "replace_self_attention";
    case placement::joint: return "joint";
    case placement::before_self_attention: return "before_self_attention";
    case placement::own_values: return "own_values";
  }
  fail("a placement outside of its enumeration");
}

[[nodiscard, gnu::cold]] inline const char* enumerator_of(residual_form of) {
  switch (of) {
    case residual_form::plain: return "plain";
    case residual_form::dense_former: return "dense_former";
    case residual_form::embedding_scalars: return "embedding_scalars";
    case residual_form::attention: return "attention";
    case residual_form::delta_attention: return "delta_attention";
    case residual_form::hyper_connections: return "hyper_connections";
    case residual_form::mudd: return "mudd";
  }
  fail("a residual_form outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(shortcut_source of) {
  switch (of) {
    case shortcut_source::outputs: return "outputs";
    case shortcut_source::differences: return "differences";
    case shortcut_source::own_input: return "own_input";
    case shortcut_source::values: return "values";
  }
  fail("a shortcut_source outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(shortcut_gate of) {
  switch (of) {
    case shortcut_gate::none: return "none";
    case shortcut_gate::head: return "head";
    case shortcut_gate::head_and_depth: return "head_and_depth";
  }
  fail("a shortcut_gate outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(shortcut_slopes of) {
  switch (of) {
    case shortcut_slopes::none: return "none";
    case shortcut_slopes::alibi: return "alibi";
    case shortcut_slopes::learned: return "learned";
  }
  fail("a shortcut_slopes outside of its enumeration");
}
[[nodiscard, gnu::cold]] inline const char* enumerator_of(shortcut_exit of) {
  switch (of) {
    case shortcut_exit::none: return "none";
    case shortcut_exit::sink: return "sink";
    case shortcut_exit::sigmoid: return "sigmoid";
  }
  fail("a shortcut_exit outside of its enumeration");
}

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

/// Initializers of a struct, one after the other: ".width = 64, .tied = true".
class cpp_members {
 public:
  cpp_members& add(const char* name, int value) { return add(name, std::to_string(value)); }
  cpp_members& add(const char* name, bool value) { return add(name, std::string(value ? "true" : "false")); }
  cpp_members& add(const char* name, const char* type, const char* enumerator) { return add(name, join("fathom::", type, "::", enumerator)); }
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
  using detail::cpp_members;
  using detail::enumerator_of;
  cpp_members looks_back, positions, connections, all;
  if (!depths.empty())
    looks_back.add("depths", "{" + list + "}")
        .add("features", "feature_map", enumerator_of(features))
        .add("hidden", features_hidden)
        .add("placement", "placement", enumerator_of(placement))
        .add("zero_init", zero_init);
  // Options that the paper's shortcut has not are left out where they are off.
  if (blocks != 1) looks_back.add("blocks", blocks);
  if (source != shortcut_source::outputs) looks_back.add("source", "shortcut_source", enumerator_of(source));
  if (unit_features) looks_back.add("unit_features", true);
  if (head_norms) looks_back.add("head_norms", true);
  if (depth_bias) looks_back.add("depth_bias", true);
  if (gate != shortcut_gate::none) looks_back.add("gate", "shortcut_gate", enumerator_of(gate));
  if (slopes != shortcut_slopes::none) looks_back.add("slopes", "shortcut_slopes", enumerator_of(slopes));
  if (shortcut_rotary != 0) looks_back.add("rotary", shortcut_rotary);
  if (exit != shortcut_exit::none) looks_back.add("exit", "shortcut_exit", enumerator_of(exit));
  positions.add("base", base)
      .add("width", turned)
      .add("scaling", "rotary_scaling", enumerator_of(scaling))
      .add("factor", factor)
      .add("low_factor", low_factor)
      .add("high_factor", high_factor)
      .add("original", original);
  if (form != residual_form::plain)
    connections.add("form", "residual_form", enumerator_of(form))
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
      .add("family", "family", enumerator_of(family))
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
  if (!s.depths.empty()) {
    expect(s.depths.largest() < c.depth, "shortcut.depths", s.depths.largest(), "depths below the number of blocks, ", c.depth);
    expect(s.hidden >= 0, "shortcut.hidden", s.hidden, "a number above 0, or 0 for the width");
    expect(s.blocks >= 1 && s.blocks + s.depths[0] <= c.depth, "shortcut.blocks", s.blocks, "at most the ", c.depth - s.depths[0],
           " blocks that the lowest depth is below");
  }
  if (const char* const expected = problem_of(c.residual, c.depth, !s.depths.empty()))
    expect(false, "residual", detail::enumerator_of(c.residual.form), expected);
  // Sizes of memory are constants of 64 bits. A trillion parameters are 4 TB.
  const double heads = c.family == family::gpt2 ? c.width : static_cast<double>(c.heads) * c.head_width;
  const double parameters = 2.0 * c.vocab * c.width + c.depth * (4.0 * heads + 3.0 * c.hidden) * c.width;
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
