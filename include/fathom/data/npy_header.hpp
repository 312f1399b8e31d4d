// The headers of .npy files (numpy.lib.format): element type, order and shape of an array.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom::data::detail {

/// The header of a .npy file: a Python dictionary, such as
///   {'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }
/// with exactly these three keys, in any order, and white space anywhere between them. Python 2 wrote numbers as 3L,
/// which numpy accepts in versions 1 and 2 of the format.
class npy_header {
 public:
  std::string_view type;  // such as '<u2'; a list for arrays of records
  bool is_record = false;
  bool fortran_order = false;
  std::vector<index> shape;
  index count = 1;  // number of elements: the product of the shape

  npy_header(std::string_view text, bool may_have_long, const std::string& path)
      : rest_(text), may_have_long_(may_have_long), path_(path) {
    bool has_type = false, has_order = false, has_shape = false;
    const auto once = [&](bool& has, std::string_view key) {
      if (has) invalid("it has '", key, "' twice");
      has = true;
    };
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr") {
        once(has_type, key);
        read_type();
      } else if (key == "fortran_order") {
        once(has_order, key);
        fortran_order = boolean();
      } else if (key == "shape") {
        once(has_shape, key);
        read_shape();
      } else {
        invalid("it has an unknown key '", key, "'");
      }
      if (accept('}')) break;
      expect(',');
    }
    skip_space();
    if (!rest_.empty()) invalid("it goes on after the closing brace");
    if (!has_type || !has_order || !has_shape) invalid("it lacks one of the keys 'descr', 'fortran_order' and 'shape'");
  }

 private:
  template <class... Pieces>
  [[noreturn]] void invalid(const Pieces&... pieces) const {
    fail(path_, ": is not a valid .npy file: its header should be a dictionary of descr, fortran_order and shape, but ",
         pieces...);
  }
  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size())); }
  bool accept(char symbol) {
    skip_space();
    if (!rest_.starts_with(symbol)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char symbol) {
    if (!accept(symbol)) invalid("it has '", rest_.substr(0, 20), "' where '", symbol, "' is due");
  }
  /// A string without escapes.
  std::string_view quoted() {
    skip_space();
    if (rest_.starts_with("u'") || rest_.starts_with("u\"")) rest_.remove_prefix(1);  // from Python 2
    const char quote = rest_.starts_with('"') ? '"' : '\'';
    expect(quote);
    const auto length = rest_.find(quote);
    if (length == std::string_view::npos) invalid("a string in it does not end");
    const std::string_view text = rest_.substr(0, length);
    rest_.remove_prefix(length + 1);
    return text;
  }
  /// A string, or the description of records: nested lists and tuples.
  void read_type() {
    skip_space();
    is_record = rest_.starts_with('[') || rest_.starts_with('(');
    if (!is_record) {
      type = quoted();
      return;
    }
    const std::string_view begin = rest_;
    for (std::size_t open = 0; open > 0 || rest_.data() == begin.data();) {
      if (rest_.empty()) invalid("a list in it does not end");
      if (rest_.starts_with('\'') || rest_.starts_with('"')) {
        static_cast<void>(quoted());
        continue;
      }
      if (rest_.starts_with('[') || rest_.starts_with('(')) ++open;
      if (rest_.starts_with(']') || rest_.starts_with(')')) --open;
      rest_.remove_prefix(1);
    }
    type = begin.substr(0, begin.size() - rest_.size());
  }
  bool boolean() {
    skip_space();
    const bool value = rest_.starts_with("True");
    if (!value && !rest_.starts_with("False")) invalid("its fortran_order is neither True nor False");
    rest_.remove_prefix(value ? 4 : 5);
    return value;
  }
  index number() {
    skip_space();
    index value = 0;
    std::size_t digits = 0;
    for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits) {
      const index digit = rest_[digits] - '0';
      if (value > (std::numeric_limits<index>::max() - digit) / 10) invalid("a number in its shape is too large");
      value = value * 10 + digit;
    }
    if (digits == 0) invalid("its shape has '", rest_.substr(0, 20), "' where a number is due");
    rest_.remove_prefix(digits);
    if (may_have_long_ && rest_.starts_with('L')) rest_.remove_prefix(1);
    return value;
  }
  /// (), (3,), (3, 4): a comma follows each number, except the last of several.
  void read_shape() {
    expect('(');
    while (!accept(')')) {
      const index extent = number();
      if (extent > 0 && count > std::numeric_limits<index>::max() / extent) invalid("its shape is too large");
      count *= extent;
      shape.push_back(extent);
      if (shape.size() > 1 && accept(')')) break;
      expect(',');
    }
  }

  std::string_view rest_;
  bool may_have_long_;
  const std::string& path_;
};

/// An integer type in the notation of numpy.dtype: "<u2", ">i8", "=i4", "|u1", "u1", a type code of C with or without a
/// byte order, or a name. numpy.save writes the first, second and fourth form.
struct npy_integer {
  std::size_t bytes = 0;  // 0: not an integer type
  bool is_signed = false, big_endian = false;

  explicit npy_integer(std::string_view type) {
    struct name {
      std::string_view of_signed, of_unsigned;
      std::size_t bytes;
    };
    constexpr std::size_t long_word = sizeof(long), pointer = sizeof(std::ptrdiff_t);
    constexpr name names[] = {{"i1", "u1", 1},
                              {"b", "B", 1},
                              {"int8", "uint8", 1},
                              {"byte", "ubyte", 1},
                              {"i2", "u2", 2},
                              {"h", "H", 2},
                              {"int16", "uint16", 2},
                              {"short", "ushort", 2},
                              {"i4", "u4", 4},
                              {"i", "I", 4},
                              {"int32", "uint32", 4},
                              {"intc", "uintc", 4},
                              {"i8", "u8", 8},
                              {"q", "Q", 8},
                              {"int64", "uint64", 8},
                              {"longlong", "ulonglong", 8},
                              {"l", "L", long_word},
                              {"p", "P", pointer},
                              {"long", "ulong", long_word},
                              {"int", "uint", long_word},
                              {"n", "N", pointer},
                              {"intp", "uintp", pointer}};
    if (type.starts_with('<') || type.starts_with('>') || type.starts_with('=') || type.starts_with('|')) {
      big_endian = type.front() == '>';
      type.remove_prefix(1);
      if (type.size() > 2) return;  // names have no byte order
    }
    for (const auto& [of_signed, of_unsigned, size] : names)
      if (type == of_signed || type == of_unsigned) {
        bytes = size;
        is_signed = type == of_signed;
      }
  }
};

}  // namespace fathom::data::detail
