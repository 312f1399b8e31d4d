// Strict JSON (RFC 8259): a reader that does not allocate and works at compile time, and values.
//
//   constexpr bool has_vocab = [] {
//     fathom::json_reader reader(R"({"vocab": 61})");
//     while (reader.next() < fathom::json_event::end)
//       if (reader.last() == fathom::json_event::key && reader.is("vocab")) return true;
//     return false;
//   }();
//   const std::optional<fathom::json> value = fathom::json::parse(text);   // empty: not JSON
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/error.hpp"

namespace fathom {

/// What a JSON text has next.
enum class json_event : unsigned char {
  null,
  boolean,
  integer,  // no fraction or exponent, and fits std::int64_t or std::uint64_t
  real,     // any other number
  string,
  key,  // of a member, whose value comes next
  begin_array,
  end_array,
  begin_object,
  end_object,
  end,   // of the text
  error  // the text is not JSON; the reader stops here
};

namespace detail {

/// The beginning of a UTF-8 text: a character, or invalid bytes, which a reader replaces by one U+FFFD (Unicode,
/// "U+FFFD Substitution of Maximal Subparts").
struct utf8_piece {
  std::size_t length;
  bool is_valid;
};
[[nodiscard]] constexpr utf8_piece utf8_at(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, true};
  const std::size_t more = lead < 0xC2 || lead > 0xF4 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  if (more == 0) return {1, false};
  // The second byte tells overlong forms, surrogates and numbers above U+10FFFF.
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i <= more; ++i, low = 0x80, high = 0xBF)
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {i, false};
  return {more + 1, true};
}

/// The value of a JSON number; none if it is too large for a double.
[[nodiscard]] std::optional<double> real_of(std::string_view number);

/// The same at compile time, where there is no std::from_chars for doubles. Reads numbers of at most 15 digits and
/// powers of ten up to 22, which need one exact operation (Clinger, "How to Read Floating Point Numbers Accurately"); a
/// NaN for others.
[[nodiscard]] constexpr double simple_real_of(std::string_view number) {
  std::int64_t digits = 0;
  int count = 0, exponent = 0;
  std::size_t i = number.starts_with('-') ? 1 : 0;
  bool is_fraction = false;
  for (; i < number.size() && number[i] != 'e' && number[i] != 'E'; ++i) {
    if (number[i] == '.') {
      is_fraction = true;
      continue;
    }
    if (count == 15) return std::numeric_limits<double>::quiet_NaN();
    digits = 10 * digits + (number[i] - '0');
    if (digits > 0) ++count;
    if (is_fraction) --exponent;
  }
  if (i < number.size()) {
    const bool is_negative = number[++i] == '-';
    int written = 0;
    for (i += number[i] == '-' || number[i] == '+' ? 1 : 0; i < number.size(); ++i)
      if (written < 10'000) written = 10 * written + (number[i] - '0');
    exponent += is_negative ? -written : written;
  }
  double value = static_cast<double>(digits), power = 1;
  if (digits != 0) {
    if (exponent < -22 || exponent > 22) return std::numeric_limits<double>::quiet_NaN();
    for (int n = exponent < 0 ? -exponent : exponent; n > 0; --n) power *= 10;
    value = exponent < 0 ? value / power : value * power;
  }
  return number.starts_with('-') ? -value : value;
}

}  // namespace detail

/// Reads a JSON text event by event, and checks all of it: the events before an `error` are right. Takes linear time,
/// and does not allocate. `nesting` stores the arrays and objects that are nested more than 64 deep; without it, such
/// nesting is an error. A byte order mark at the beginning is skipped.
class json_reader {
 public:
  constexpr explicit json_reader(std::string_view text, std::string* nesting = nullptr) : text_(text), nesting_(nesting) {
    if (text.starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  constexpr json_event next() { return last_ = read(); }
  /// The event that next() returned last.
  [[nodiscard]] constexpr json_event last() const { return last_; }
  /// Whether that event begins a value.
  [[nodiscard]] constexpr bool is_value() const {
    return last_ <= json_event::string || last_ == json_event::begin_array || last_ == json_event::begin_object;
  }
  /// Skips to the end of the array or object that has just begun; does nothing at other values. False: not JSON.
  constexpr bool skip() {
    if (last_ != json_event::begin_array && last_ != json_event::begin_object) return last_ != json_event::error;
    for (const std::size_t outside = depth_ - 1; depth_ > outside;)
      if (next() == json_event::error) return false;
    return true;
  }

  /// The number of open arrays and objects.
  [[nodiscard]] constexpr std::size_t depth() const { return depth_; }
  /// The number of bytes read.
  [[nodiscard]] constexpr std::size_t position() const { return at_; }
  /// The source text of a string, key or number, without quotation marks.
  [[nodiscard]] constexpr std::string_view raw() const { return raw_; }
  /// The offset at which that begins.
  [[nodiscard]] constexpr std::size_t begin() const { return begin_; }

  [[nodiscard]] constexpr bool boolean() const { return is_true_; }
  /// The sign and the magnitude of an integer.
  [[nodiscard]] constexpr bool is_negative() const { return is_negative_; }
  [[nodiscard]] constexpr std::uint64_t magnitude() const { return magnitude_; }
  /// The value of any number; at compile time, NaN if detail::simple_real_of cannot read it.
  [[nodiscard]] constexpr double number() const {
    if (last_ == json_event::real) return real_;
    return is_negative_ ? -static_cast<double>(magnitude_) : static_cast<double>(magnitude_);
  }
  /// Whether the current string or key equals `wanted`.
  [[nodiscard]] constexpr bool is(std::string_view wanted) const {
    if (!has_escapes_) return raw_ == wanted;
    for (std::size_t i = 0; i < raw_.size();) {
      const piece next = piece_at(i);
      if (!wanted.starts_with(std::string_view(next.bytes, next.count))) return false;
      wanted.remove_prefix(next.count);
      i = next.next;
    }
    return wanted.empty();
  }
  /// The current string or key.
  [[nodiscard]] std::string string() const {
    if (!has_escapes_) return std::string(raw_);
    std::string result;
    for (std::size_t i = 0; i < raw_.size();) {
      const piece next = piece_at(i);
      result.append(next.bytes, next.count);
      i = next.next;
    }
    return result;
  }

 private:
  enum class expected : unsigned char { value, value_or_end, key_or_end, colon, comma_or_end, end };

  constexpr json_event read() {
    if (last_ == json_event::error) return last_;
    skip_space();
    if (expected_ == expected::end) return at_ == text_.size() ? json_event::end : json_event::error;
    if (expected_ == expected::comma_or_end) {
      if (take(is_in_object() ? '}' : ']')) return close();
      if (!take(',')) return json_event::error;
      skip_space();
      return is_in_object() ? read_key() : read_value();
    }
    if (expected_ == expected::key_or_end) return take('}') ? close() : read_key();
    if (expected_ == expected::value_or_end && take(']')) return close();
    if (expected_ == expected::colon) {
      if (!take(':')) return json_event::error;
      skip_space();
    }
    return read_value();
  }

  [[nodiscard]] constexpr char here() const { return at_ < text_.size() ? text_[at_] : '\0'; }  // no token has a 0 byte
  constexpr bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  constexpr bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  constexpr void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
  }

  [[nodiscard]] constexpr bool is_in_object() const {
    return depth_ <= 64 ? (nested_ >> (depth_ - 1) & 1) != 0 : (*nesting_)[depth_ - 65] != 0;
  }
  constexpr bool open(bool is_object) {
    if (depth_ < 64) {
      nested_ = (nested_ & ~(std::uint64_t{1} << depth_)) | std::uint64_t{is_object} << depth_;
    } else {
      if (!nesting_) return false;
      nesting_->resize(depth_ - 64);
      nesting_->push_back(is_object ? 1 : 0);
    }
    ++depth_;
    return true;
  }
  constexpr json_event close() {
    const json_event closed = is_in_object() ? json_event::end_object : json_event::end_array;
    --depth_;
    return after_value(closed);
  }
  constexpr json_event after_value(json_event event) {
    expected_ = depth_ == 0 ? expected::end : expected::comma_or_end;
    return event;
  }

  constexpr json_event read_value() {
    begin_ = at_;
    const char c = here();
    if (c == '{' || c == '[') {
      if (!open(c == '{')) return json_event::error;
      ++at_;
      expected_ = c == '{' ? expected::key_or_end : expected::value_or_end;
      return c == '{' ? json_event::begin_object : json_event::begin_array;
    }
    json_event event = json_event::error;
    if (c == '"') {
      if (read_string()) event = json_event::string;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      event = read_number();
    } else if (take("null")) {
      event = json_event::null;
    } else if (take("true") || take("false")) {
      is_true_ = c == 't';
      event = json_event::boolean;
    }
    if (c != '"') raw_ = text_.substr(begin_, at_ - begin_);
    return event == json_event::error ? event : after_value(event);
  }

  constexpr json_event read_key() {
    begin_ = at_;
    if (here() != '"' || !read_string()) return json_event::error;
    expected_ = expected::colon;
    return json_event::key;
  }

  constexpr bool read_string() {
    const std::size_t begin = ++at_;
    has_escapes_ = false;
    while (at_ < text_.size()) {
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        raw_ = text_.substr(begin, at_++ - begin);
        return true;
      }
      if (c == '\\') {
        has_escapes_ = true;
        if (!read_escape()) return false;
      } else if (c < 0x20) {
        return false;
      } else if (c < 0x80) {
        ++at_;
      } else {
        const auto [length, is_valid] = detail::utf8_at(text_.substr(at_));
        if (!is_valid) return false;
        at_ += length;
      }
    }
    return false;
  }
  /// Reads an escape. A surrogate is half of a character: a high one must be followed by a low one.
  constexpr bool read_escape() {
    ++at_;
    if (here() != 'u') {
      for (const char known : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'})
        if (take(known)) return true;
      return false;
    }
    const int unit = unit_at(text_, ++at_);
    if (unit < 0 || (unit & 0xFC00) == 0xDC00) return false;
    at_ += 4;
    if ((unit & 0xFC00) != 0xD800) return true;
    if (!take("\\u") || (unit_at(text_, at_) & ~0x3FF) != 0xDC00) return false;
    at_ += 4;
    return true;
  }
  /// The value of four hexadecimal digits; -1 if they are not.
  [[nodiscard]] static constexpr int unit_at(std::string_view text, std::size_t at) {
    if (text.size() < 4 || at > text.size() - 4) return -1;
    int unit = 0;
    for (const char c : text.substr(at, 4)) {
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) return -1;
      unit = 16 * unit + digit;
    }
    return unit;
  }
  /// The bytes of a string or key at an offset, of an escape or a plain byte, and the offset of the next ones.
  struct piece {
    char bytes[4];
    std::size_t count, next;
  };
  [[nodiscard]] constexpr piece piece_at(std::size_t i) const {
    const auto byte = [](unsigned b) { return static_cast<char>(b); };
    if (raw_[i] != '\\') return {{raw_[i]}, 1, i + 1};
    const char c = raw_[i + 1];
    if (c != 'u')
      return {{c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c}, 1, i + 2};
    auto code = static_cast<unsigned>(unit_at(raw_, i + 2));
    if ((code & 0xFC00u) == 0xD800) {
      code = 0x10000 + ((code & 0x3FFu) << 10) + (static_cast<unsigned>(unit_at(raw_, i + 8)) & 0x3FFu);
      return {{byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))},
              4, i + 12};
    }
    if (code < 0x80) return {{byte(code)}, 1, i + 6};
    if (code < 0x800) return {{byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))}, 2, i + 6};
    return {{byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))}, 3, i + 6};
  }

  constexpr bool skip_digits() {
    const std::size_t begin = at_;
    while (here() >= '0' && here() <= '9') ++at_;
    return at_ > begin;
  }
  constexpr json_event read_number() {
    is_negative_ = take('-');
    magnitude_ = 0;
    bool is_integer = true;
    if (!take('0')) {
      if (here() < '1' || here() > '9') return json_event::error;
      for (; here() >= '0' && here() <= '9'; ++at_) {
        const auto digit = static_cast<unsigned>(here() - '0');
        is_integer = is_integer && magnitude_ <= (~std::uint64_t{0} - digit) / 10;
        if (is_integer) magnitude_ = 10 * magnitude_ + digit;
      }
    }
    if (take('.')) {
      is_integer = false;
      if (!skip_digits()) return json_event::error;
    }
    if (take('e') || take('E')) {
      is_integer = false;
      if (!take('+')) static_cast<void>(take('-'));
      if (!skip_digits()) return json_event::error;
    }
    if (is_integer && is_negative_ && magnitude_ > std::uint64_t{1} << 63) is_integer = false;
    if (is_integer) {
      is_negative_ = is_negative_ && magnitude_ > 0;
      return json_event::integer;
    }
    const std::string_view number = text_.substr(begin_, at_ - begin_);
    if (std::is_constant_evaluated()) {
      real_ = detail::simple_real_of(number);
    } else {
      const std::optional<double> found = detail::real_of(number);
      if (!found) return json_event::error;
      real_ = *found;
    }
    return json_event::real;
  }

  std::string_view text_, raw_;
  std::size_t at_ = 0, begin_ = 0, depth_ = 0;
  std::uint64_t nested_ = 0;  // bit d: an object, not an array, is open at depth d
  std::string* nesting_;      // the same beyond depth 64, one byte each
  std::uint64_t magnitude_ = 0;
  double real_ = 0;
  bool is_negative_ = false, is_true_ = false, has_escapes_ = false;
  expected expected_ = expected::value;
  json_event last_ = json_event::null;
};

/// A JSON value: null, a boolean, a number, a string, an array, or an object, whose members are ordered by key.
/// Integers are exact if they fit std::int64_t or std::uint64_t.
class json {
 public:
  using array_type = std::vector<json>;
  using object_type = std::map<std::string, json, std::less<>>;

  json() {}  // null
  json(std::nullptr_t) {}                        // NOLINT: implicit by design
  template <class T>
    requires std::is_arithmetic_v<T>
  json(T value) {  // NOLINT
    if constexpr (std::is_same_v<T, bool>) {
      kind_ = kind::boolean;
      boolean_ = value;
    } else if constexpr (std::is_integral_v<T>) {
      kind_ = kind::integer;
      if constexpr (std::is_signed_v<T>) is_negative_ = value < T{};
      integer_ = is_negative_ ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    } else {
      kind_ = kind::real;
      real_ = static_cast<double>(value);
    }
  }
  json(std::string value) : kind_(kind::string), string_(new std::string(std::move(value))) {}  // NOLINT
  json(std::string_view value) : json(std::string(value)) {}                                    // NOLINT
  json(const char* value) : json(std::string(value)) {}                                         // NOLINT
  [[nodiscard]] static json array(std::initializer_list<json> elements = {});
  [[nodiscard]] static json object(std::initializer_list<object_type::value_type> members = {});
  /// The value that a reader has just reached; an empty one for an array or object.
  explicit json(const json_reader& at);
  json(const json& other);
  json(json&& other) noexcept : json() { swap(other); }
  json& operator=(json other) noexcept {
    swap(other);
    return *this;
  }
  ~json() { clear(); }

  /// The value of a JSON text; none if it is not JSON. The last of duplicate keys counts. Values nested more than 64
  /// deep are checked, but become null, so hostile files cannot overflow the stack.
  [[nodiscard]] static std::optional<json> parse(std::string_view text);
  /// As text: on one line, or indented by that many spaces per level, one element or member per line. Reals have the
  /// fewest digits that identify them; those that are not finite become null. Invalid UTF-8 becomes U+FFFD.
  [[nodiscard]] std::string dump(int indent = -1) const;

  [[nodiscard]] bool is_null() const { return kind_ == kind::null; }
  [[nodiscard]] bool is_boolean() const { return kind_ == kind::boolean; }
  [[nodiscard]] bool is_number() const { return kind_ == kind::integer || kind_ == kind::real; }
  [[nodiscard]] bool is_integer() const { return kind_ == kind::integer; }
  /// Whether it is an integer, 0 or more.
  [[nodiscard]] bool is_unsigned() const { return kind_ == kind::integer && !is_negative_; }
  [[nodiscard]] bool is_string() const { return kind_ == kind::string; }
  [[nodiscard]] bool is_array() const { return kind_ == kind::array; }
  [[nodiscard]] bool is_object() const { return kind_ == kind::object; }
  [[nodiscard]] bool is_structured() const { return is_array() || is_object(); }

  /// The value as a bool, a number or a std::string. Fails if it has another type, or is an integer out of T's range.
  template <class T>
  [[nodiscard]] T as() const {
    if constexpr (std::is_same_v<T, bool>) {
      expect(is_boolean(), "true or false");
      return boolean_;
    } else if constexpr (std::is_integral_v<T>) {
      constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<T>::max());
      expect(is_integer() && integer_ <= (is_negative_ ? std::is_signed_v<T> ? most + 1 : 0 : most), "an integer of its type");
      return static_cast<T>(is_negative_ ? 0 - integer_ : integer_);
    } else if constexpr (std::is_floating_point_v<T>) {
      expect(is_number(), "a number");
      return static_cast<T>(number());
    } else {
      static_assert(std::is_same_v<T, std::string>, "fathom::json: expected bool, a number or std::string");
      return text();
    }
  }
  /// A string's text.
  [[nodiscard]] const std::string& text() const {
    expect(is_string(), "a string");
    return *string_;
  }
  [[nodiscard]] const array_type& elements() const {
    expect(is_array(), "an array");
    return *array_;
  }
  [[nodiscard]] const object_type& members() const {
    expect(is_object(), "an object");
    return *object_;
  }
  /// Elements or members; 0 for other values.
  [[nodiscard]] std::size_t size() const { return is_array() ? array_->size() : is_object() ? object_->size() : 0; }

  /// A member; null if there is none, or if this is not an object.
  [[nodiscard]] const json* find(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != nullptr; }
  /// The same, as a value: null if there is none.
  [[nodiscard]] const json& operator[](std::string_view key) const;
  [[nodiscard]] const json& operator[](std::size_t element) const;
  /// A member to write to, created if there is none. Null becomes an object.
  [[nodiscard]] json& operator[](std::string_view key);
  [[nodiscard]] json& operator[](std::size_t element) { return const_cast<json&>(std::as_const(*this)[element]); }
  /// Appends an element. Null becomes an array.
  json& push_back(json element);
  void erase(std::string_view key);

  /// Numbers compare by value: 1 equals 1.0.
  friend bool operator==(const json& a, const json& b) { return a.equals(b); }

 private:
  enum class kind : unsigned char { null, boolean, integer, real, string, array, object };

  void swap(json& other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(is_negative_, other.is_negative_);
    std::swap(integer_, other.integer_);
  }
  void clear() noexcept;
  [[nodiscard]] bool equals(const json& other) const;
  [[nodiscard]] double number() const {
    if (kind_ == kind::real) return real_;
    return is_negative_ ? -static_cast<double>(integer_) : static_cast<double>(integer_);
  }
  void write(std::string& to, int indent, int depth) const;
  void expect(bool is_so, const char* what) const {
    if (!is_so) not_as_expected(what);
  }
  [[noreturn]] void not_as_expected(const char* what) const;

  kind kind_ = kind::null;
  bool is_negative_ = false;  // of an integer
  union {
    bool boolean_;
    std::uint64_t integer_ = 0;  // its magnitude
    double real_;
    std::string* string_;
    array_type* array_;
    object_type* object_;
  };
};

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/core/json.inl.hpp"
#endif
