// Definitions for json.hpp.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"

namespace fathom {

namespace detail {

FATHOM_INLINE std::optional<double> real_of(std::string_view number) {
  double value = 0;
  if (std::from_chars(number.data(), number.data() + number.size(), value).ec == std::errc()) return value;
  // Out of range of a double: too large or too small? The place of its first digit decides.
  const std::size_t sign = number.starts_with('-') ? 1 : 0, mark = std::min(number.find_first_of("eE"), number.size());
  const std::string_view digits = number.substr(sign, mark - sign);
  const std::size_t point = std::min(digits.find('.'), digits.size()), first = digits.find_first_of("123456789");
  const double zero = sign != 0 ? -0.0 : 0.0;
  if (first == digits.npos) return zero;
  const double place = first < point ? static_cast<double>(point - first) : -static_cast<double>(first - point);
  double exponent = 0;  // may be larger than any integer type
  for (const char c : number.substr(mark))
    if (c >= '0' && c <= '9') exponent = 10 * exponent + (c - '0');
  if (number.find("e-") != number.npos || number.find("E-") != number.npos) exponent = -exponent;
  return place + exponent > 0 ? std::nullopt : std::optional<double>(zero);
}

/// Appends a string in quotation marks.
[[gnu::cold]] inline void write_json_string(std::string& to, std::string_view text) {
  to += '"';
  while (!text.empty()) {
    // Copy the bytes that need no escape, all at once.
    std::size_t plain = 0;
    while (plain < text.size() && static_cast<unsigned char>(text[plain]) - 0x20u < 0x60u && text[plain] != '"' && text[plain] != '\\')
      ++plain;
    to += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty()) break;
    const char c = text[0];
    const auto [length, is_valid] = utf8_at(text);
    if (!is_valid) {
      to += "\xEF\xBF\xBD";
    } else if (const auto escape = std::string_view("\"\\\b\f\n\r\t").find(c); escape != std::string_view::npos) {
      to += '\\';
      to += "\"\\bfnrt"[escape];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      to += "\\u00";
      to += "01"[c >> 4];
      to += "0123456789abcdef"[c & 15];
    } else {
      to += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  to += '"';
}

/// Appends a real: 0.001, 100.0, 1e-05, 2.5e+20.
[[gnu::cold]] inline void write_json_real(std::string& to, double value) {
  if (!std::isfinite(value)) {
    to += "null";
    return;
  }
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
  std::string_view all(text, static_cast<std::size_t>(end - text));
  if (all.starts_with('-')) {
    to += '-';
    all.remove_prefix(1);
  }
  const std::size_t mark = all.find('e');
  int exponent = 0;
  for (const char c : all.substr(mark + 2)) exponent = 10 * exponent + (c - '0');
  if (all[mark + 1] == '-') exponent = -exponent;
  std::string digits(all.substr(0, 1));
  if (mark > 1) digits += all.substr(2, mark - 2);
  const int count = static_cast<int>(digits.size()), point = exponent + 1;  // digits before it
  if (count <= point && point <= 15) {
    digits.append(static_cast<std::size_t>(point - count), '0');
    to += digits += ".0";
  } else if (0 < point && point <= 15) {
    to += digits.insert(static_cast<std::size_t>(point), 1, '.');
  } else if (-4 < point && point <= 0) {
    to += "0.";
    to.append(static_cast<std::size_t>(-point), '0');
    to += digits;
  } else {
    if (count > 1) digits.insert(1, 1, '.');
    to += digits;
    to += all.substr(mark);  // e+20, e-05: a sign and at least two digits
  }
}

}  // namespace detail

FATHOM_INLINE json json::array(std::initializer_list<json> elements) {
  json result;
  result.array_ = new array_type(elements);
  result.kind_ = kind::array;
  return result;
}
FATHOM_INLINE json json::object(std::initializer_list<object_type::value_type> members) {
  json result;
  result.object_ = new object_type(members);
  result.kind_ = kind::object;
  return result;
}
FATHOM_INLINE json::json(const json& other) : is_negative_(other.is_negative_), integer_(other.integer_) {
  if (other.is_string()) string_ = new std::string(*other.string_);
  if (other.is_array()) array_ = new array_type(*other.array_);
  if (other.is_object()) object_ = new object_type(*other.object_);
  kind_ = other.kind_;
}
FATHOM_INLINE json::json(const json_reader& at) {
  switch (at.last()) {
    case json_event::boolean: *this = at.boolean(); break;
    case json_event::integer:
      *this = at.magnitude();
      is_negative_ = at.is_negative();
      break;
    case json_event::real: *this = at.number(); break;
    case json_event::string: *this = at.string(); break;
    case json_event::begin_array: *this = array(); break;
    case json_event::begin_object: *this = object(); break;
    default: break;
  }
}
FATHOM_INLINE void json::clear() noexcept {
  if (is_string()) delete string_;
  if (is_array()) delete array_;
  if (is_object()) delete object_;
  kind_ = kind::null;
}

FATHOM_INLINE std::optional<json> json::parse(std::string_view text) {
  constexpr std::size_t deepest = 64;
  std::string nesting;
  json_reader reader(text, &nesting);
  json result;
  std::vector<json*> open;  // arrays and objects being read
  json* member = nullptr;   // the value of the last key
  while (reader.next() < json_event::end) {
    if (reader.last() == json_event::key) {
      member = &(*open.back()->object_)[reader.string()];
    } else if (reader.is_value()) {
      json value(reader);
      if (open.size() == deepest && value.is_structured()) {
        if (!reader.skip()) break;
        value = nullptr;
      }
      json& place = open.empty() ? result : open.back()->is_array() ? open.back()->array_->emplace_back() : *member;
      place = std::move(value);
      if (place.is_structured()) open.push_back(&place);
    } else {
      open.pop_back();
    }
  }
  return reader.last() == json_event::end ? std::optional<json>(std::move(result)) : std::nullopt;
}

FATHOM_INLINE void json::write(std::string& to, int indent, int depth) const {
  const auto begin_line = [&](int levels) {
    if (indent < 0) return;
    to += '\n';
    to.append(static_cast<std::size_t>(indent) * static_cast<std::size_t>(levels), ' ');
  };
  switch (kind_) {
    case kind::null: to += "null"; break;
    case kind::boolean: to += boolean_ ? "true" : "false"; break;
    case kind::integer:
      if (is_negative_) to += '-';
      to += std::to_string(integer_);
      break;
    case kind::real: detail::write_json_real(to, real_); break;
    case kind::string: detail::write_json_string(to, *string_); break;
    case kind::array:
      to += '[';
      for (bool is_first = true; const json& element : *array_) {
        if (!std::exchange(is_first, false)) to += ',';
        begin_line(depth + 1);
        element.write(to, indent, depth + 1);
      }
      if (!array_->empty()) begin_line(depth);
      to += ']';
      break;
    case kind::object:
      to += '{';
      for (bool is_first = true; const auto& [key, value] : *object_) {
        if (!std::exchange(is_first, false)) to += ',';
        begin_line(depth + 1);
        detail::write_json_string(to, key);
        to += indent < 0 ? ":" : ": ";
        value.write(to, indent, depth + 1);
      }
      if (!object_->empty()) begin_line(depth);
      to += '}';
      break;
  }
}
FATHOM_INLINE std::string json::dump(int indent) const {
  std::string text;
  write(text, indent, 0);
  return text;
}

FATHOM_INLINE void json::not_as_expected(const char* what) const {
  static constexpr const char* names[] = {"null", "true or false", "an integer", "a real number", "a string", "an array", "an object"};
  fail("fathom::json: expected ", what, ", found ", names[static_cast<int>(kind_)],
       is_structured() || is_string() ? std::string() : ", " + dump());
}

FATHOM_INLINE const json* json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &found->second;
}
FATHOM_INLINE const json& json::operator[](std::string_view key) const {
  static const json nothing;
  const json* const found = find(key);
  return found ? *found : nothing;
}
FATHOM_INLINE const json& json::operator[](std::size_t element) const {
  if (element >= elements().size()) fail("fathom::json: element ", element, " of an array of ", size());
  return (*array_)[element];
}
FATHOM_INLINE json& json::operator[](std::string_view key) {
  if (is_null()) *this = object();
  static_cast<void>(members());
  return (*object_)[std::string(key)];
}
FATHOM_INLINE json& json::push_back(json element) {
  if (is_null()) *this = array();
  static_cast<void>(elements());
  return array_->emplace_back(std::move(element));
}
FATHOM_INLINE void json::erase(std::string_view key) {
  if (const auto found = members().find(key); found != members().end()) object_->erase(found);
}

FATHOM_INLINE bool json::equals(const json& other) const {
  if (is_number() && other.is_number()) {
    if (is_integer() && other.is_integer()) return is_negative_ == other.is_negative_ && integer_ == other.integer_;
    return !(number() < other.number()) && !(number() > other.number()) && !std::isnan(number()) && !std::isnan(other.number());
  }
  if (kind_ != other.kind_) return false;
  if (is_boolean()) return boolean_ == other.boolean_;
  if (is_string()) return *string_ == *other.string_;
  if (is_array()) return *array_ == *other.array_;
  return !is_object() || *object_ == *other.object_;
}

}  // namespace fathom
