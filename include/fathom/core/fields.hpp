// The name and the options of an architecture's part, in one place: a list of named fields. It gives the description in
// files, which load compares, and the line of the summary.
//
//   template <int Rank>
//   struct bottleneck {
//     static constexpr auto options = fathom::fields(fathom::field<"rank">(Rank));
//     ...
//   };
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <charconv>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "fathom/core/depth_set.hpp"
#include "fathom/core/name.hpp"

namespace fathom {

/// A type as the value of a field: another part.
template <class T>
struct part_of {};
/// Several parts.
template <class... T>
struct parts_of {};
/// A type of which only the name matters, such as an activation.
template <class T>
struct named_type {};

/// A name and a value: a bool, an integer, a real number, text (a string literal), a depth_set, part_of<P>,
/// parts_of<P...> or named_type<T>.
template <fixed_string Name, class T>
struct named_value {
  static constexpr std::string_view name = Name.view();
  T value;
};
/// field<"rank">(16)
template <fixed_string Name, class T>
[[nodiscard]] constexpr named_value<Name, T> field(T value) {
  return {value};
}

/// A list of fields; empty for a part without options.
template <class... Fields>
[[nodiscard]] constexpr std::tuple<Fields...> fields(Fields... list) {
  return {list...};
}

namespace detail {
/// The name of a type as written in a program, without its scope and template arguments: "bottleneck".
template <class T>
[[nodiscard]] constexpr std::string_view type_name() {
  // "... [with T = mine::outer<8>::bottleneck<16>; ...]", or with clang "... [T = ...]"
  const std::string_view text = __PRETTY_FUNCTION__;
  const std::size_t start = text.find("T = ") + 4;
  std::size_t begin = start, end = text.size();
  int depth = 0;  // of template arguments
  for (std::size_t i = start; i < text.size(); ++i) {
    const char c = text[i];
    if (depth == 0 && c == ':') begin = i + 1, end = text.size();
    if (depth == 0 && (c == '<' || c == ';' || c == ']') && end == text.size()) end = i;
    if (depth == 0 && (c == ';' || c == ']')) break;
    depth += c == '<' ? 1 : c == '>' ? -1 : 0;
  }
  return text.substr(begin, end - begin);
}
}  // namespace detail

/// The name of a part in descriptions: its member `name`, or else the name of its type.
template <class Part>
[[nodiscard]] constexpr std::string_view name_of_part() {
  if constexpr (requires { std::string_view(Part::name); })
    return Part::name;
  else
    return detail::type_name<Part>();
}

namespace detail {
inline void write_text(std::string& to, std::string_view text) {
  to += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') to += '\\';
    to += c;
  }
  to += '"';
}
template <class Part>
void write_description(std::string& to);

template <class T>
void write_value(std::string& to, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    to += value ? "true" : "false";
  } else if constexpr (std::is_integral_v<T>) {
    to += std::to_string(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    char digits[32];
    to.append(digits, std::to_chars(digits, digits + sizeof digits, static_cast<double>(value)).ptr);
  } else if constexpr (std::is_same_v<T, depth_set>) {
    to += '[';
    for (int n = 0; n < value.count(); ++n) {
      if (n > 0) to += ',';
      to += std::to_string(value[n]);
    }
    to += ']';
  } else {
    write_text(to, value);
  }
}
template <class Part>
void write_value(std::string& to, const part_of<Part>&) {
  write_description<Part>(to);
}
template <class T>
void write_value(std::string& to, const named_type<T>&) {
  write_text(to, name_of_part<T>());
}
template <class... Parts>
void write_value(std::string& to, const parts_of<Parts...>&) {
  to += '[';
  [[maybe_unused]] const char* comma = "";
  ((to += comma, write_description<Parts>(to), comma = ","), ...);
  to += ']';
}
/// {"part":"bottleneck","rank":16}
template <class Part>
void write_description(std::string& to) {
  to += "{\"part\":";
  write_text(to, name_of_part<Part>());
  std::apply([&](const auto&... f) { ((to += ',', write_text(to, f.name), to += ':', write_value(to, f.value)), ...); },
             Part::options);
  to += '}';
}
}  // namespace detail

/// A part and its options, as JSON.
template <class Part>
[[nodiscard]] std::string description_of_part() {
  std::string text;
  detail::write_description<Part>(text);
  return text;
}

namespace detail {
template <class Part>
void write_line(std::string& to);

template <class T>
void write_plainly(std::string& to, const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>)
    to += std::string_view(value);
  else
    write_value(to, value);
}
template <class T>
void write_plainly(std::string& to, const named_type<T>&) {
  to += name_of_part<T>();
}
template <class Part>
void write_plainly(std::string& to, const part_of<Part>&) {
  write_line<Part>(to);
}
template <class... Parts>
void write_plainly(std::string& to, const parts_of<Parts...>&) {
  [[maybe_unused]] const char* comma = "";
  ((to += comma, write_line<Parts>(to), comma = ", "), ...);
}
template <class Part>
void write_line(std::string& to) {
  to += name_of_part<Part>();
  [[maybe_unused]] const char* between = " (";
  std::apply([&](const auto&... f) { ((to += between, to += f.name, to += ' ', write_plainly(to, f.value), between = ", "), ...); },
             Part::options);
  if (std::tuple_size_v<std::remove_cvref_t<decltype(Part::options)>> > 0) to += ')';
}
}  // namespace detail

/// The same as a line of the summary: "bottleneck (rank 16)".
template <class Part>
[[nodiscard]] std::string line_of_part() {
  std::string text;
  detail::write_line<Part>(text);
  return text;
}

}  // namespace fathom
