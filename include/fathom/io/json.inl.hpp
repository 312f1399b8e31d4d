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

/// Makes a value of what nlohmann's parser finds, and notes keys that an object has twice. nlohmann's own way to see them, a
/// callback, takes time quadratic in the size of the object around.
class json_builder {
 public:
  using json = nlohmann::json;
  json result = json(json::value_t::discarded);
  std::string twice;  // a key that an object has twice; the last value counts

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(json::value_t::object); }
  bool start_array(std::size_t) { return open(json::value_t::array); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    if (too_deep_ > 0) return true;
    const auto [entry, is_new] = open_.back()->get_ref<json::object_t&>().emplace(std::move(name), nullptr);
    if (!is_new) twice = entry->first;
    value_ = &entry->second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception&) { return false; }

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

/// What a text of JSON says: discarded (is_discarded()) if it is not JSON. `twice`, when asked for, becomes a key that an
/// object of it has twice.
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text, std::string* twice = nullptr) {
  // The parser takes a zero byte for the end of the text, and so would not see what comes after it.
  const nlohmann::json none(nlohmann::json::value_t::discarded);
  if (text.find('\0') != text.npos) return none;
  json_builder found;
  if (!nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &found)) return none;
  if (twice) *twice = found.twice;
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
