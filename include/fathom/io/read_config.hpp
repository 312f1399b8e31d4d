// Reads a config.json, at compile time as well. This file alone defines its keys, ours (for all families) and those of GPT-2 in
// transformers: which values they accept, and how they are read and written (config.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fathom/core/json.hpp"
#include "fathom/model/config.hpp"
#include "fathom/model/shortcut_rules.hpp"

namespace fathom::io {

/// One sentence for the compiler to print: what is wrong with a config.json. Empty when nothing is.
struct config_problem {
  char text[500]{};  // padded with zero bytes

  [[nodiscard]] constexpr std::string_view view() const { return {text, size()}; }
  [[nodiscard]] constexpr bool empty() const { return text[0] == '\0'; }
  [[nodiscard]] constexpr std::size_t size() const {
    std::size_t n = 0;
    while (n < sizeof text && text[n] != '\0') ++n;
    return n;
  }
  template <class... Pieces>
  [[gnu::cold]] constexpr void add(const Pieces&... pieces) {
    std::size_t n = size();
    const auto add_one = [&](std::string_view piece) {
      for (const char c : piece)
        if (n + 1 < sizeof text) text[n++] = c;
    };
    (add_one(piece_of(pieces).view()), ...);
  }

 private:
  struct digits {
    char text[12]{};
    std::size_t begin = sizeof text;
    [[nodiscard]] constexpr std::string_view view() const { return {text + begin, sizeof text - begin}; }
  };
  struct words {
    std::string_view text;
    [[nodiscard]] constexpr std::string_view view() const { return text; }
  };
  static constexpr words piece_of(std::string_view piece) { return {piece}; }
  static constexpr digits piece_of(int number) {  // 0 or more
    digits d;
    do d.text[--d.begin] = static_cast<char>('0' + number % 10);
    while ((number /= 10) > 0);
    return d;
  }
};

namespace detail {

/// The text of a value and its first event; `end` when the value is missing.
struct json_place {
  std::string_view text{};
  json_event event = json_event::end;

  [[nodiscard]] constexpr bool is_there() const { return event != json_event::end; }
  [[nodiscard]] constexpr bool is_null() const { return event == json_event::null; }
  /// A reader that has just read the first event.
  [[nodiscard]] constexpr json_reader reader() const {
    json_reader r(text);
    static_cast<void>(r.next());
    return r;
  }
  [[nodiscard]] constexpr bool is(std::string_view string) const { return event == json_event::string && reader().is(string); }
  [[nodiscard]] constexpr bool boolean() const { return reader().boolean(); }
  /// An integer from `least` to the largest int; otherwise -1.
  [[nodiscard]] constexpr int count(int least) const {
    if (event != json_event::integer) return -1;
    const json_reader r = reader();
    if (r.is_negative() || r.magnitude() > static_cast<std::uint64_t>(std::numeric_limits<int>::max())) return -1;
    const int found = static_cast<int>(r.magnitude());
    return found < least ? -1 : found;
  }
};
/// The value that a reader has just reached; moves the reader to its end. The text must be valid JSON.
[[nodiscard, gnu::cold]] constexpr json_place place_of(json_reader& at, std::string_view text) {
  const std::size_t begin = at.begin();
  const json_event event = at.last();
  static_cast<void>(at.skip());
  return {text.substr(begin, at.position() - begin), event};
}
[[nodiscard, gnu::cold]] constexpr json_place place_of(std::string_view text) {
  json_reader at(text);
  static_cast<void>(at.next());
  return place_of(at, text);
}
/// The member of an object with a name without escapes; the last, if there are several. The text must be valid JSON.
[[nodiscard, gnu::cold]] constexpr json_place member_of(std::string_view object, std::string_view name) {
  json_reader at(object);
  static_cast<void>(at.next());
  json_place found;
  while (at.next() == json_event::key) {
    const bool is_it = at.is(name);
    static_cast<void>(at.next());
    const json_place value = place_of(at, object);
    if (is_it) found = value;
  }
  return found;
}
/// Whether two values are equal: null, booleans, numbers, or strings (without escapes in `expected`).
[[nodiscard, gnu::cold]] constexpr bool is_same(const json_place& expected, const json_place& found) {
  const json_reader a = expected.reader(), b = found.reader();
  const auto is_number = [](json_event e) { return e == json_event::integer || e == json_event::real; };
  if (is_number(a.last()) && is_number(b.last())) return !(a.number() < b.number()) && a.number() <= b.number();
  if (a.last() != b.last()) return false;
  if (a.last() == json_event::string) return b.is(a.raw());
  return a.last() != json_event::boolean || a.boolean() == b.boolean();
}
/// Calls f with the elements of an array until f returns false.
template <class F>
[[gnu::cold]] constexpr void for_elements(std::string_view array, const F& f) {
  json_reader at(array);
  static_cast<void>(at.next());
  while (at.next() < json_event::end && at.is_value())
    if (!f(place_of(at, array))) return;
}

/// Adds the beginning of a value, on one line.
[[gnu::cold]] constexpr void add_found(config_problem& to, const json_place& found) {
  constexpr std::size_t most = 60;
  std::size_t length = found.text.size() > most ? most : found.text.size();
  while (length < found.text.size() && length > 0 && (found.text[length] & 0xC0) == 0x80) --length;  // whole characters
  for (const char& c : found.text.substr(0, length))
    if (c == '\n' || c == '\r' || c == '\t')
      to.add(" ");
    else
      to.add(std::string_view(&c, 1));
  if (length < found.text.size()) to.add("...");
}
/// Adds "KEY is VALUE; expected "; the caller adds the rest.
[[gnu::cold]] constexpr void begin_problem(config_problem& to, std::string_view prefix, std::string_view key,
                                           const json_place& found) {
  to.add("\"", prefix, key, "\" is ");
  if (found.is_there())
    add_found(to, found);
  else
    to.add("not there");
  to.add("; expected ");
}

/// One of our keys.
struct config_key {
  std::string_view name;
  const char* expected;        // the accepted values, for errors; null: not part of a config, any value will do
  std::string_view standard;   // default if the key is missing or null; empty: the key is required
  bool (*read)(const json_place& found, config& to, config_problem& problem) = nullptr;  // false: not as expected
  std::optional<json> (*write)(const config& from) = nullptr;                            // `from` must be normalized
};

/// Reads the keys of a JSON object; the text begins with its brace. After a problem, the config is unusable.
template <std::size_t N>
[[gnu::cold]] constexpr void read_keys(std::string_view object, const config_key (&keys)[N], std::string_view prefix, config& to,
                         config_problem& problem) {
  json_place places[N];
  json_reader at(object);
  static_cast<void>(at.next());
  while (at.next() == json_event::key) {
    std::size_t i = 0;
    while (i < N && !at.is(keys[i].name)) ++i;
    const std::string_view name = at.raw();
    static_cast<void>(at.next());
    const json_place found = place_of(at, object);
    if (i < N) {
      places[i] = found;
    } else if (problem.empty()) {
      begin_problem(problem, prefix, name.substr(0, 60), found);
      problem.add("no such key, but only ");
      for (std::size_t k = 0; k < N; ++k)
        if (keys[k].expected) problem.add(k == 0 ? "" : ", ", keys[k].name);
    }
  }
  for (std::size_t i = 0; i < N && problem.empty(); ++i) {
    if (!keys[i].read) continue;
    const bool is_standard = !keys[i].standard.empty() && (!places[i].is_there() || places[i].is_null());
    if (keys[i].read(is_standard ? place_of(keys[i].standard) : places[i], to, problem) || !problem.empty()) continue;
    begin_problem(problem, prefix, keys[i].name, places[i]);
    problem.add(keys[i].expected);
  }
}

inline constexpr const char* size_expected = "a whole number, at least 1";
inline constexpr const char* flag_expected = "true or false";

template <int config::*Member>
[[gnu::cold]] constexpr bool read_size(const json_place& found, config& to, config_problem&) {
  to.*Member = found.count(1);
  return to.*Member > 0;
}
template <int config::*Member>
[[nodiscard]] std::optional<json> write_size(const config& from) {
  return from.*Member;
}

/// The name of a value of an enumeration, which is its enumerator.
template <class Value>
struct named_value {
  Value value;
  std::string_view name;
};
inline constexpr named_value<feature_map> feature_names[] = {
    {feature_map::identity, "identity"}, {feature_map::linear, "linear"}, {feature_map::mlp, "mlp"}};
inline constexpr named_value<placement> placement_names[] = {{placement::after_self_attention, "after_self_attention"},
                                                             {placement::replace_self_attention, "replace_self_attention"},
                                                             {placement::joint, "joint"},
                                                             {placement::before_self_attention, "before_self_attention"},
                                                             {placement::own_values, "own_values"}};
inline constexpr named_value<shortcut_source> source_names[] = {
    {shortcut_source::outputs, "outputs"}, {shortcut_source::differences, "differences"}, {shortcut_source::own_input, "own_input"},
    {shortcut_source::values, "values"}, {shortcut_source::tokens, "tokens"}};
inline constexpr named_value<shortcut_gate> gate_names[] = {
    {shortcut_gate::none, "none"}, {shortcut_gate::head, "head"}, {shortcut_gate::head_and_depth, "head_and_depth"}};
inline constexpr named_value<shortcut_slopes> slope_names[] = {
    {shortcut_slopes::none, "none"}, {shortcut_slopes::alibi, "alibi"}, {shortcut_slopes::learned, "learned"}};
inline constexpr named_value<shortcut_exit> exit_names[] = {
    {shortcut_exit::none, "none"}, {shortcut_exit::sink, "sink"}, {shortcut_exit::sigmoid, "sigmoid"}};
template <class Value, std::size_t N>
[[nodiscard]] constexpr bool read_name(const json_place& found, const named_value<Value> (&names)[N], Value& to) {
  for (const auto& [value, name] : names) {
    if (!found.is(name)) continue;
    to = value;
    return true;
  }
  return false;
}
template <class Value, std::size_t N>
[[nodiscard]] constexpr std::string_view name_of(Value value, const named_value<Value> (&names)[N]) {
  for (const auto& [known, name] : names)
    if (known == value) return name;
  fail("a value outside of its enumeration");
}
template <class Value, std::size_t N>
[[nodiscard]] std::optional<json> write_name(Value value, const named_value<Value> (&names)[N]) {
  return json(name_of(value, names));
}

/// A key of the shortcut whose value is a name; written only if it is not the default, so that files of the paper's shortcut do
/// not have it. Member is a pointer to a member of shortcut.
template <auto Member, const auto& Names>
[[gnu::cold]] constexpr bool read_option(const json_place& found, config& to, config_problem&) {
  return read_name(found, Names, to.shortcut.*Member);
}
template <auto Member, const auto& Names>
[[nodiscard]] std::optional<json> write_option(const config& from) {
  return from.shortcut.*Member == shortcut{}.*Member ? std::nullopt : write_name(from.shortcut.*Member, Names);
}
/// The same for one that is true or false.
template <auto Member>
[[gnu::cold]] constexpr bool read_flag(const json_place& found, config& to, config_problem&) {
  to.shortcut.*Member = found.event == json_event::boolean && found.boolean();
  return found.event == json_event::boolean;
}
template <auto Member>
[[nodiscard]] std::optional<json> write_flag(const config& from) {
  return from.shortcut.*Member ? std::optional<json>(true) : std::nullopt;
}

/// Keys of the object "shortcut".
inline constexpr config_key shortcut_keys[] = {
    {"depths", "an array of depths", {},
     [](const json_place& found, config& to, config_problem& problem) {
       if (found.event != json_event::begin_array) return false;
       std::uint64_t bits = 0;
       int place = 0;
       for_elements(found.text, [&](const json_place& element) {
         const int s = element.count(0);
         if (s < 0) {
           problem.add("\"shortcut.depths.", place, "\" is ");
           add_found(problem, element);
           problem.add("; expected a depth of at least 0");
         } else if (s >= to.depth || s > 63 || (bits >> s & 1) != 0) {
           begin_problem(problem, "shortcut.", "depths", found);
           problem.add("every depth once, below 64 and below \"depth\", ", to.depth);
         } else {
           bits |= std::uint64_t{1} << s;
           ++place;
         }
         return problem.empty();
       });
       to.shortcut.depths = depth_set::from_bits(bits);
       return true;
     },
     [](const config& from) {
       json depths = json::array();
       for (int n = 0; n < from.shortcut.depths.count(); ++n) depths.push_back(from.shortcut.depths[n]);
       return std::optional<json>(depths);
     }},
    {"features", "one of identity, linear, mlp", "\"mlp\"",
     [](const json_place& found, config& to, config_problem&) { return read_name(found, feature_names, to.shortcut.features); },
     [](const config& from) { return write_name(from.shortcut.features, feature_names); }},
    {"hidden", size_expected, "null",
     [](const json_place& found, config& to, config_problem&) {
       to.shortcut.hidden = found.is_null() ? 0 : found.count(1);
       return to.shortcut.hidden >= 0;
     },
     [](const config& from) {
       return from.shortcut.features == feature_map::mlp ? std::optional<json>(from.shortcut.hidden) : std::nullopt;
     }},
    {"placement", "one of after_self_attention, replace_self_attention, joint, before_self_attention, own_values",
     "\"after_self_attention\"",
     [](const json_place& found, config& to, config_problem&) { return read_name(found, placement_names, to.shortcut.placement); },
     [](const config& from) { return write_name(from.shortcut.placement, placement_names); }},
    {"zero_init", flag_expected, "false",  // not written: only affects initialization
     read_flag<&shortcut::zero_init>},
    {"blocks", "a whole number, at least 1: the number of the last blocks that look back", "1",
     [](const json_place& found, config& to, config_problem&) { return (to.shortcut.blocks = found.count(1)) >= 1; },
     [](const config& from) { return from.shortcut.blocks == 1 ? std::nullopt : std::optional<json>(from.shortcut.blocks); }},
    {"source", "one of outputs, differences, own_input, values, tokens", "\"outputs\"", read_option<&shortcut::source, source_names>,
     write_option<&shortcut::source, source_names>},
    {"unit_features", flag_expected, "false", read_flag<&shortcut::unit_features>, write_flag<&shortcut::unit_features>},
    {"head_norms", flag_expected, "false", read_flag<&shortcut::head_norms>, write_flag<&shortcut::head_norms>},
    {"depth_bias", flag_expected, "false", read_flag<&shortcut::depth_bias>, write_flag<&shortcut::depth_bias>},
    {"gate", "one of none, head, head_and_depth", "\"none\"", read_option<&shortcut::gate, gate_names>,
     write_option<&shortcut::gate, gate_names>},
    {"slopes", "one of none, alibi, learned", "\"none\"", read_option<&shortcut::slopes, slope_names>,
     write_option<&shortcut::slopes, slope_names>},
    {"rotary", "a whole number above 1, or 0", "0",
     [](const json_place& found, config& to, config_problem&) { return (to.shortcut.rotary = found.count(0)) >= 0; },
     [](const config& from) { return from.shortcut.rotary == 0 ? std::nullopt : std::optional<json>(from.shortcut.rotary); }},
    {"exit", "one of none, sink, sigmoid", "\"none\"", read_option<&shortcut::exit, exit_names>, write_option<&shortcut::exit, exit_names>}};

inline constexpr named_value<residual_form> residual_names[] = {
    {residual_form::plain, "plain"},
    {residual_form::dense_former, "dense_former"},
    {residual_form::embedding_scalars, "embedding_scalars"},
    {residual_form::attention, "attention"},
    {residual_form::delta_attention, "delta_attention"},
    {residual_form::hyper_connections, "hyper_connections"},
    {residual_form::mudd, "mudd"}};

template <int residual_connections::*Member>
[[gnu::cold]] constexpr bool read_residual(const json_place& found, config& to, config_problem&) {
  to.residual.*Member = found.count(0);
  return to.residual.*Member >= 0;
}
/// Options that have no meaning, or mean none, are 0 and not written.
template <int residual_connections::*Member>
[[nodiscard]] std::optional<json> write_residual(const config& from) {
  return from.residual.*Member != 0 ? std::optional<json>(from.residual.*Member) : std::nullopt;
}
inline constexpr const char* count_expected = "a whole number";

/// Keys of the object "residual".
inline constexpr config_key residual_keys[] = {
    {"form", "one of plain, dense_former, embedding_scalars, attention, delta_attention, hyper_connections, mudd", {},
     [](const json_place& found, config& to, config_problem&) { return read_name(found, residual_names, to.residual.form); },
     [](const config& from) { return write_name(from.residual.form, residual_names); }},
    {"dilation", count_expected, "0", read_residual<&residual_connections::dilation>, write_residual<&residual_connections::dilation>},
    {"period", count_expected, "0", read_residual<&residual_connections::period>, write_residual<&residual_connections::period>},
    {"backout", count_expected, "0", read_residual<&residual_connections::backout>, write_residual<&residual_connections::backout>},
    {"group", count_expected, "0", read_residual<&residual_connections::group>, write_residual<&residual_connections::group>},
    {"streams", count_expected, "0", read_residual<&residual_connections::streams>, write_residual<&residual_connections::streams>},
    {"dynamic", flag_expected, "true",
     [](const json_place& found, config& to, config_problem&) {
       to.residual.dynamic = found.event == json_event::boolean && found.boolean();
       return found.event == json_event::boolean;
     },
     [](const config& from) {
       return from.residual.form == residual_form::hyper_connections ? std::optional<json>(from.residual.dynamic) : std::nullopt;
     }},
    {"last_blocks", count_expected, "0", read_residual<&residual_connections::last_blocks>, write_residual<&residual_connections::last_blocks>}};

inline constexpr named_value<family> names_of_families[] = {
    {family::gpt2, "gpt2"},   {family::llama, "llama"},       {family::mistral, "mistral"}, {family::qwen2, "qwen2"},
    {family::qwen3, "qwen3"}, {family::gpt_neox, "gpt_neox"}, {family::olmo2, "olmo2"},     {family::gemma3, "gemma3"}};
inline constexpr named_value<rotary_scaling> scaling_names[] = {{rotary_scaling::none, "none"},
                                                                {rotary_scaling::linear, "linear"},
                                                                {rotary_scaling::llama3, "llama3"},
                                                                {rotary_scaling::yarn, "yarn"}};

template <int rotary_positions::*Member>
[[gnu::cold]] constexpr bool read_rotary(const json_place& found, config& to, config_problem&) {
  to.rotary.*Member = found.count(0);
  return to.rotary.*Member >= 0;
}
template <int rotary_positions::*Member>
[[nodiscard]] std::optional<json> write_rotary(const config& from) {
  return from.rotary.*Member == rotary_positions{}.*Member ? std::nullopt : std::optional<json>(from.rotary.*Member);
}
/// Keys of the object "rotary", of all families but gpt2.
inline constexpr config_key rotary_keys[] = {
    {"base", "a whole number above 1", "10000",
     [](const json_place& found, config& to, config_problem&) { return (to.rotary.base = found.count(2)) > 1; },
     [](const config& from) { return std::optional<json>(from.rotary.base); }},
    {"width", "an even number, at most \"head_width\", or 0 for that", "0",
     [](const json_place& found, config& to, config_problem&) {
       to.rotary.width = found.count(0);
       return to.rotary.width >= 0 && to.rotary.width % 2 == 0 && to.rotary.width <= normalized(to).head_width;
     },
     [](const config& from) {
       return from.rotary.width == from.head_width ? std::nullopt : std::optional<json>(from.rotary.width);
     }},
    {"scaling", "one of none, linear, llama3, yarn", "\"none\"",
     [](const json_place& found, config& to, config_problem&) { return read_name(found, scaling_names, to.rotary.scaling); },
     [](const config& from) {
       return from.rotary.scaling == rotary_scaling::none ? std::nullopt : write_name(from.rotary.scaling, scaling_names);
     }},
    {"factor", size_expected, "1",
     [](const json_place& found, config& to, config_problem&) { return (to.rotary.factor = found.count(1)) > 0; },
     write_rotary<&rotary_positions::factor>},
    {"low_factor", "a whole number", "1", read_rotary<&rotary_positions::low_factor>, write_rotary<&rotary_positions::low_factor>},
    {"high_factor", "a whole number, for llama3 above low_factor", "4",
     [](const json_place& found, config& to, config_problem&) {
       const rotary_positions& r = to.rotary;
       to.rotary.high_factor = found.count(0);
       return r.high_factor >= 0 && (r.scaling != rotary_scaling::llama3 || r.low_factor < r.high_factor);
     },
     write_rotary<&rotary_positions::high_factor>},
    {"original", "a whole number: the context of pretraining, for llama3 and yarn", "0",
     [](const json_place& found, config& to, config_problem&) {
       to.rotary.original = found.count(0);
       const bool needs_one = to.rotary.scaling == rotary_scaling::llama3 || to.rotary.scaling == rotary_scaling::yarn;
       return to.rotary.original >= (needs_one ? 1 : 0);
     },
     write_rotary<&rotary_positions::original>}};

/// A size of all families but gpt2; 0 stands for its default.
template <int config::*Member>
[[gnu::cold]] constexpr bool read_family_size(const json_place& found, config& to, config_problem&) {
  to.*Member = found.count(0);
  return to.*Member == 0 || (to.*Member > 0 && to.family != family::gpt2);
}
template <int config::*Member>
[[nodiscard]] std::optional<json> write_family_size(const config& from) {
  return from.*Member == 0 ? std::nullopt : std::optional<json>(from.*Member);
}
inline constexpr const char* family_size_expected = "a whole number, and 0 in the family gpt2";

inline constexpr config_key config_keys[] = {
    {"family", "one of gpt2, llama, mistral, qwen2, qwen3, gpt_neox, olmo2, gemma3", "\"gpt2\"",
     [](const json_place& found, config& to, config_problem&) { return read_name(found, names_of_families, to.family); },
     [](const config& from) { return from.family == family::gpt2 ? std::nullopt : write_name(from.family, names_of_families); }},
    {"vocab", size_expected, {}, read_size<&config::vocab>, write_size<&config::vocab>},
    {"context", size_expected, {}, read_size<&config::context>, write_size<&config::context>},
    {"width", size_expected, {}, read_size<&config::width>, write_size<&config::width>},
    {"depth", size_expected, {}, read_size<&config::depth>, write_size<&config::depth>},
    {"heads", size_expected, {},
     [](const json_place& found, config& to, config_problem& problem) {
       to.heads = found.count(1);
       if (to.heads > 0 && to.family == family::gpt2 && to.width % to.heads != 0) {
         begin_problem(problem, "", "heads", found);
         problem.add("a divisor of the width, ", to.width);
       }
       return to.heads > 0;
     },
     write_size<&config::heads>},
    {"kv_heads", "a divisor of \"heads\", or 0 for as many; 0 in the family gpt2", "0",
     [](const json_place& found, config& to, config_problem& problem) {
       return read_family_size<&config::kv_heads>(found, to, problem) && (to.kv_heads == 0 || to.heads % to.kv_heads == 0);
     },
     write_family_size<&config::kv_heads>},
    {"head_width", "an even number, at most 256, or 0 for the width divided by \"heads\"; 0 in the family gpt2", "0",
     [](const json_place& found, config& to, config_problem& problem) {
       if (!read_family_size<&config::head_width>(found, to, problem)) return false;
       if (to.family == family::gpt2) return true;
       const int width = normalized(to).head_width;
       return width > 0 && width % 2 == 0 && width <= 256 && (to.head_width > 0 || to.width % to.heads == 0);
     },
     write_family_size<&config::head_width>},
    {"window", family_size_expected, "0", read_family_size<&config::window>, write_family_size<&config::window>},
    {"rotary", "null, or an object with base, width, scaling, factor, low_factor, high_factor, original; null in the family gpt2", "null",
     [](const json_place& found, config& to, config_problem& problem) {
       if (found.event == json_event::begin_object && to.family != family::gpt2) read_keys(found.text, rotary_keys, "rotary.", to, problem);
       return found.is_null() || (found.event == json_event::begin_object && to.family != family::gpt2);
     },
     [](const config& from) {
       if (from.family == family::gpt2) return std::optional<json>();
       json object = json::object();
       for (const config_key& key : rotary_keys)
         if (auto value = key.write(from)) object[key.name] = *std::move(value);
       return std::optional<json>(object);
     }},
    {"inverse_epsilon", size_expected, "100000",
     [](const json_place& found, config& to, config_problem&) { return (to.inverse_epsilon = found.count(1)) > 0; },
     [](const config& from) { return from.family == family::gpt2 ? std::nullopt : std::optional<json>(from.inverse_epsilon); }},
    {"window_pattern", family_size_expected, "0", read_family_size<&config::window_pattern>, write_family_size<&config::window_pattern>},
    {"local_base", family_size_expected, "0", read_family_size<&config::local_base>, write_family_size<&config::local_base>},
    {"score_width", family_size_expected, "0", read_family_size<&config::score_width>, write_family_size<&config::score_width>},
    {"mlp_ratio", "a whole number, at least 1, and so that mlp_ratio * width is an int", "4",
     [](const json_place& found, config& to, config_problem&) {
       const std::int64_t ratio = found.count(1), hidden = ratio * to.width;
       if (hidden > std::numeric_limits<int>::max()) return false;
       to.hidden = static_cast<int>(hidden);
       return ratio > 0;
     },
     [](const config& from) {
       return from.hidden % from.width == 0 ? std::optional<json>(from.hidden / from.width) : std::nullopt;
     }},
    {"mlp_hidden", size_expected, "null",
     [](const json_place& found, config& to, config_problem&) {
       if (!found.is_null()) to.hidden = found.count(1);
       return to.hidden > 0;
     },
     [](const config& from) { return from.hidden % from.width != 0 ? std::optional<json>(from.hidden) : std::nullopt; }},
    {"tied", flag_expected, "true",
     [](const json_place& found, config& to, config_problem&) {
       to.tied = found.event == json_event::boolean && found.boolean();
       return found.event == json_event::boolean;
     },
     [](const config& from) { return std::optional<json>(from.tied); }},
    {"layer_norm_eps", "1e-05, the only one that there is", "1e-05",
     [](const json_place& found, config&, config_problem&) { return is_same(place_of("1e-05"), found); },
     [](const config& from) { return from.family == family::gpt2 ? std::optional<json>(1e-5) : std::nullopt; }},
    {"shortcut", "null, or an object with depths and options", "null",
     [](const json_place& found, config& to, config_problem& problem) {
       if (found.is_null()) return true;
       if (found.event != json_event::begin_object) return false;
       read_keys(found.text, shortcut_keys, "shortcut.", to, problem);
       if (to.shortcut.depths.empty()) to.shortcut = {};
       if (!problem.empty()) return true;
       const config whole = normalized(to);
       if (const auto broken = problem_of(whole.shortcut, whole)) {
         begin_problem(problem, "shortcut.", broken->member, member_of(found.text, broken->member));
         problem.add(broken->expected);
       }
       return true;
     },
     [](const config& from) {
       if (from.shortcut.depths.empty()) return std::optional<json>(nullptr);
       json object = json::object();
       for (const config_key& key : shortcut_keys)
         if (key.write)
           if (auto value = key.write(from)) object[key.name] = *std::move(value);
       return std::optional<json>(object);
     }},
    {"residual", "null, or an object with form and its options", "null",
     [](const json_place& found, config& to, config_problem& problem) {
       if (found.is_null()) return true;
       if (found.event != json_event::begin_object) return false;
       read_keys(found.text, residual_keys, "residual.", to, problem);
       to.residual = normalized(to.residual, to.depth);
       if (const char* const expected = problem_of(to.residual, to.depth, !to.shortcut.depths.empty()); expected && problem.empty()) {
         begin_problem(problem, "", "residual", found);
         problem.add(expected);
       }
       return true;
     },
     [](const config& from) {
       if (from.residual.form == residual_form::plain) return std::optional<json>();  // as files from before this key
       json object = json::object();
       for (const config_key& key : residual_keys)
         if (key.write)
           if (auto value = key.write(from)) object[key.name] = *std::move(value);
       return std::optional<json>(object);
     }},
    // Training options in the same file; not part of a config.
    {"batch", nullptr, {}},
    {"tokens", nullptr, {}},
    {"adamw", nullptr, {}}};

// Aliases, because g++ warns about the code that nvcc generates for the plain declarations.
using size_member = int config::*;
using flag_member = bool config::*;

/// A key of GPT2Config that affects the computation. Keys that only affect training, generation or the memory of their
/// model are not listed, nor is reorder_and_upcast_attn, which only reorders the same products.
struct transformers_key {
  std::string_view name;
  std::string_view standard;  // default if the key is missing, as JSON
  std::string_view member{};  // of fathom::config; empty: a config can express only the accepted values
  std::string_view accepted{};  // a JSON array; the first value is the one to write
  size_member size = nullptr;
  flag_member flag = nullptr;
  bool is_written = true;
};
inline constexpr transformers_key transformers_keys[] = {
    {"model_type", "null", {}, R"(["gpt2"])"},
    {"vocab_size", "50257", "vocab", {}, &config::vocab},
    {"n_positions", "1024", "context", {}, &config::context},
    {"n_embd", "768", "width", {}, &config::width},
    {"n_layer", "12", "depth", {}, &config::depth},
    {"n_head", "12", "heads", {}, &config::heads},
    {"n_inner", "null", "hidden", {}, &config::hidden},  // null: 4 * width
    {"tie_word_embeddings", "true", "tied", {}, nullptr, &config::tied},
    {"layer_norm_epsilon", "1e-05", {}, "[1e-05]"},
    {"activation_function", R"("gelu_new")", {}, R"(["gelu_new","gelu_pytorch_tanh","gelu_fast"])"},  // all tanh forms
    {"scale_attn_weights", "true", {}, "[true]"},
    {"scale_attn_by_inverse_layer_idx", "false", {}, "[false]"},
    {"add_cross_attention", "false", {}, "[false]"},
    {"is_encoder_decoder", "false", {}, "[false]", nullptr, nullptr, false},
    {"quantization_config", "null", {}, "[null]", nullptr, nullptr, false}};

/// Adds the accepted values of a key that a config has no member for.
[[gnu::cold]] constexpr void add_accepted(config_problem& to, std::string_view accepted) {
  const json_place first = place_of(accepted.substr(1));
  if (first.event == json_event::string) {
    to.add("one of ");
    bool is_first = true;
    for_elements(accepted, [&](const json_place& word) {
      to.add(is_first ? "" : ", ", word.reader().raw());
      is_first = false;
      return true;
    });
  } else {
    to.add(first.text, first.event == json_event::real ? ", the only one that there is" : "; there is no model for the other");
  }
}

/// The places of these keys in an object of JSON.
struct transformers_places {
  json_place of[std::size(transformers_keys)];

  [[gnu::cold]] constexpr explicit transformers_places(std::string_view object) {
    json_reader at(object);
    static_cast<void>(at.next());
    while (at.next() == json_event::key) {
      std::size_t i = 0;
      while (i < std::size(of) && !at.is(transformers_keys[i].name)) ++i;
      static_cast<void>(at.next());
      const json_place found = place_of(at, object);
      if (i < std::size(of)) of[i] = found;
    }
  }
  [[nodiscard]] constexpr const json_place& at(std::string_view name) const {
    std::size_t i = 0;
    while (transformers_keys[i].name != name) ++i;
    return of[i];
  }
  /// Whether the file has keys of transformers.
  [[nodiscard]] constexpr bool are_there() const { return at("n_embd").is_there() || at("model_type").is_there(); }
};

[[gnu::cold]] constexpr void read_transformers(const transformers_places& places, config& to, config_problem& problem) {
  for (std::size_t i = 0; i < std::size(transformers_keys) && problem.empty(); ++i) {
    const transformers_key& key = transformers_keys[i];
    const bool is_standard = !places.of[i].is_there() || places.of[i].is_null();
    const json_place found = is_standard ? place_of(key.standard) : places.of[i];
    if (key.size) {
      to.*key.size = found.is_null() ? 0 : found.count(1);
      if (to.*key.size < 0) {
        begin_problem(problem, "", key.name, found);
        problem.add(size_expected);
      } else if (key.size == &config::heads && to.width % to.heads != 0) {
        begin_problem(problem, "", key.name, found);
        problem.add("a divisor of the width, ", to.width);
      }
    } else if (key.flag) {
      to.*key.flag = found.event == json_event::boolean && found.boolean();
      if (found.event != json_event::boolean) {
        begin_problem(problem, "", key.name, found);
        problem.add(flag_expected);
      }
    } else if (!is_standard) {
      bool is_accepted = false;
      for_elements(key.accepted, [&](const json_place& one) { return !(is_accepted = is_same(one, found)); });
      if (is_accepted) continue;
      begin_problem(problem, "", key.name, found);
      add_accepted(problem, key.accepted);
    }
  }
}

}  // namespace detail

/// The result of reading a config.json.
struct config_reading {
  config value{};            // after a problem, the smallest valid config, so that no further errors follow
  config_problem problem{};  // "\"width\" is 4.5; expected a whole number, at least 1"; empty: no problem
};

/// Reads the text of a config.json, with our keys or those of GPT2Config in transformers. Missing keys take the
/// defaults of their format. Works at run time and at compile time:
///
///   constexpr auto read = fathom::io::read_config(R"({"vocab": 256, "context": 64, "width": 64, "depth": 2, "heads": 4})");
///   static_assert(read.problem.empty());
///   using net = fathom::model<read.value>;
[[nodiscard, gnu::cold]] constexpr config_reading read_config(std::string_view text) {
  config_reading result;
  json_reader at(text);
  bool is_object = at.next() == json_event::begin_object;
  const std::string_view object = text.substr(at.begin());
  is_object = is_object && at.skip() && at.next() == json_event::end;
  if (!is_object) {
    result.problem.add("is not a JSON object");
  } else if (const detail::transformers_places places(object); places.are_there()) {
    detail::read_transformers(places, result.value, result.problem);
  } else {
    detail::read_keys(object, detail::config_keys, "", result.value, result.problem);
  }
  if (!result.problem.empty())
    result.value = {.vocab = 1, .context = 1, .width = 1, .depth = 1, .heads = 1, .hidden = 1, .tied = true, .shortcut = {}};
  return result;
}

/// A sentence as a type, for the compiler to print: config_sentence<problem> tells what is wrong with a config.json.
template <config_problem Problem>
struct sentence;
template <char... Letters>
struct letters;

namespace detail {
#if defined(__clang__) && __clang_major__ < 16  // prints at most ten letters, and as numbers
template <config_problem Problem, std::size_t N = Problem.size()>
struct sentence_of {
  template <std::size_t... I>
  static letters<Problem.text[I]...>* spell(std::index_sequence<I...>);
  using type = std::remove_pointer_t<decltype(spell(std::make_index_sequence<N>()))>;
};
#else
template <config_problem Problem>
struct sentence_of {
  using type = sentence<Problem>;
};
#endif
}  // namespace detail

template <config_problem Problem>
using config_sentence = typename detail::sentence_of<Problem>::type;

/// Whether a sentence is empty: the config.json is valid.
template <class Sentence>
inline constexpr bool is_config = false;
template <config_problem Problem>
inline constexpr bool is_config<sentence<Problem>> = Problem.empty();
template <>
inline constexpr bool is_config<letters<>> = true;

}  // namespace fathom::io
