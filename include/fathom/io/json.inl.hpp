// JSON, for definitions only: nothing that users include has it in a declaration, so that who links fathom::kernels does not
// parse it. Read in one place: each further way into nlohmann's parser takes a compiler a second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fathom/core/error.hpp"
#include "fathom/io/file.hpp"

namespace fathom::io::detail {

/// What nlohmann's parser tells, one thing after the other. Its objects are not asked for (json::parse): with a callback, which
/// is the way to see keys that are there twice, that takes time quadratic in the size of the object around.
using json_events = nlohmann::json_sax<nlohmann::json>;

/// Tells of a text of JSON, and says whether it is JSON.
[[nodiscard]] inline bool read_json_text(std::string_view text, json_events& to) {
  // The parser takes a zero byte for the end of the text, and so would not see what comes after it.
  if (text.find('\0') != text.npos) return false;
  // json::sax_parse would do, but brings the readers of five binary formats, which take a compiler three seconds.
  auto input = nlohmann::detail::input_adapter(text.data(), text.data() + text.size());
  return nlohmann::detail::parser<nlohmann::json, decltype(input)>(std::move(input), nullptr, false).sax_parse(&to);
}

/// Makes a value of it.
class json_builder final : public json_events {
 public:
  using json = nlohmann::json;
  json result = json(json::value_t::discarded);

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::value_t::object); }
  bool start_array(std::size_t) override { return open(json::value_t::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (too_deep_ == 0) value_ = &open_.back()->get_ref<json::object_t&>()[std::move(name)];
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  static constexpr std::size_t deepest = 64;  // what is nested deeper is checked, and not kept: no file here has such

  bool add(json value) {
    if (too_deep_ == 0) static_cast<void>(place(std::move(value)));
    return true;
  }
  bool open(json::value_t kind) {
    if (too_deep_ > 0 || open_.size() == deepest)
      ++too_deep_;
    else
      open_.push_back(place(json(kind)));
    return true;
  }
  bool close() {
    too_deep_ > 0 ? static_cast<void>(--too_deep_) : open_.pop_back();
    return true;
  }
  json* place(json&& value) {
    if (open_.empty()) return &(result = std::move(value));
    if (!open_.back()->is_array()) return &(*value_ = std::move(value));
    return &open_.back()->get_ref<json::array_t&>().emplace_back(std::move(value));
  }

  std::vector<json*> open_;  // the arrays and objects that are being read
  json* value_ = nullptr;    // of the object's key that came last
  std::size_t too_deep_ = 0;
};

/// What a text of JSON says: discarded (is_discarded()) if it is not JSON. Of a key that an object has twice, the last counts.
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text) {
  json_builder found;
  if (!read_json_text(text, found)) return nlohmann::json(nlohmann::json::value_t::discarded);
  return std::move(found.result);
}

/// Of a text that is not JSON, for an error: ", but an HTML page, ..."; empty when one cannot tell.
[[nodiscard]] inline std::string but_what(std::string_view text) {
  const std::string what = what_begins_with(std::as_bytes(std::span(text.data(), std::min<std::size_t>(text.size(), 512))));
  return what.empty() || what.starts_with("JSON") ? std::string() : ", but " + what;
}
/// A file of JSON. Fails when it cannot be read or is not JSON.
[[nodiscard]] inline nlohmann::json read_json(const std::filesystem::path& path) {
  const whole_file file(path);
  auto json = parse_json(file.text());
  if (json.is_discarded()) fail(path.string(), ": is not JSON", but_what(file.text()));
  return json;
}

/// Whether arrays and objects lie within one another more than `levels` deep.
[[nodiscard]] inline bool is_deeper(const nlohmann::json& value, int levels) {
  return value.is_structured() && (levels == 0 || std::any_of(value.begin(), value.end(), [&](const auto& inner) {
                                     return is_deeper(inner, levels - 1);
                                   }));
}
/// What a file says, for an error.
[[nodiscard]] inline std::string shown(const nlohmann::json& value) {
  return is_deeper(value, 2) ? "something nested too deeply" : value.dump();
}

/// What the second says otherwise than the first, as "key: expected X, found Y" lines; empty when they agree. Only keys that
/// `expected` has are looked at.
[[nodiscard]] inline std::string differences(const nlohmann::json& expected, const nlohmann::json& found,
                                             const std::string& prefix = "") {
  std::string text;
  for (const auto& [key, value] : expected.items()) {
    const bool present = found.is_object() && found.contains(key);
    if (value.is_object() && present && found[key].is_object())
      text += differences(value, found[key], prefix + key + ".");
    else if (!present || value != found[key])
      text += join("\n  config ", prefix, key, ": expected ", value.dump(), ", found ", present ? shown(found[key]) : "nothing");
  }
  return text;
}

}  // namespace fathom::io::detail
