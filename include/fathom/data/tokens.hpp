// Files of tokens, in the two formats that people have: 16-bit numbers one after the other (.bin, as nanoGPT makes
// them), and numpy arrays (.npy, numpy.lib.format). Reading trusts nothing that a file says.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

static_assert(std::endian::native == std::endian::little, "token files are little-endian; so must be the machine");

namespace detail {
/// Numbers of type Number that lie one after the other, as tokens.
template <class Number>
[[nodiscard]] std::vector<token> to_tokens(std::span<const std::byte> bytes, index vocab, const std::string& path) {
  std::vector<token> tokens(bytes.size() / sizeof(Number));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    Number number;
    std::memcpy(&number, bytes.data() + i * sizeof number, sizeof number);
    if (std::cmp_less(number, 0) || std::cmp_greater_equal(number, vocab))
      fail(path, ": token ", number, " at position ", i, " is outside of the vocabulary, 0 to ", vocab - 1);
    tokens[i] = static_cast<token>(number);
  }
  return tokens;
}

[[nodiscard]] inline std::vector<token> read_bin(const std::filesystem::path& path, index vocab) {
  const io::whole_file file(path);
  const auto bytes = file.bytes();
  if (bytes.empty() || bytes.size() % 2 != 0)
    fail(path.string(), ": has ", bytes.size(), " bytes; expected 16-bit tokens, a positive even number");
  return to_tokens<std::uint16_t>(bytes, vocab, path.string());
}

/// The header of a .npy file: a Python dictionary, such as
///   {'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }
/// with these three keys and no others, in any order, with white space anywhere between them.
class npy_header {
 public:
  std::string_view type;  // '<u2'
  bool fortran_order = false;
  std::vector<index> shape;
  index count = 1;  // of elements: the product of the shape

  npy_header(std::string_view text, const std::string& path) : rest_(text), path_(path) {
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
        type = quoted();
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
    const char quote = rest_.starts_with('"') ? '"' : '\'';
    expect(quote);
    const auto length = rest_.find(quote);
    if (length == std::string_view::npos) invalid("a string in it does not end");
    const std::string_view text = rest_.substr(0, length);
    rest_.remove_prefix(length + 1);
    return text;
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
    return value;
  }
  /// (), (3,), (3, 4): a comma follows a number unless it is the last of several.
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
  const std::string& path_;
};

/// The elements, row by row, and their shape if wanted.
[[nodiscard]] inline std::vector<token> read_npy(const std::filesystem::path& path, index vocab,
                                                 std::vector<index>* shape = nullptr) {
  const io::whole_file file(path);
  const std::string name = path.string();
  auto bytes = file.bytes();

  // 6 bytes of magic, 2 of version, and the length of the header in 2 bytes (version 1) or 4 (versions 2 and 3).
  constexpr std::string_view magic = "\x93NUMPY";
  if (bytes.size() < 10 || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0)
    fail(name, ": is not a .npy file: it does not begin with \\x93NUMPY, a version and the length of a header");
  const int major = std::to_integer<int>(bytes[6]), minor = std::to_integer<int>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0)
    fail(name, ": is of version ", major, ".", minor, " of the .npy format; expected 1.0, 2.0 or 3.0");
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  bytes = bytes.subspan(8);
  std::uint32_t length = 0;
  if (bytes.size() >= length_bytes) std::memcpy(&length, bytes.data(), length_bytes);
  if (bytes.size() < length_bytes || length > bytes.size() - length_bytes)
    fail(name, ": is not a valid .npy file: it ends within its header");
  bytes = bytes.subspan(length_bytes);
  const npy_header header(std::string_view(reinterpret_cast<const char*>(bytes.data()), length), name);
  bytes = bytes.subspan(length);

  if (shape) *shape = header.shape;
  if (header.fortran_order && header.shape.size() > 1)
    fail(name, ": is in Fortran order, column by column; expected C order, as of numpy.ascontiguousarray");
  const auto convert = [&]<class Number>(Number) {
    // The count is compared, not the bytes: their number may be too large to compute.
    if (bytes.size() % sizeof(Number) != 0 || std::cmp_not_equal(header.count, bytes.size() / sizeof(Number)))
      fail(name, ": is not a valid .npy file: its header announces ", header.count, " elements of ", sizeof(Number),
           " bytes, and ", bytes.size(), " bytes follow");
    if (header.count == 0) fail(name, ": has no tokens");
    return to_tokens<Number>(bytes, vocab, name);
  };
  const std::string_view type = header.type;
  if (type == "|u1" || type == "<u1") return convert(std::uint8_t{});
  if (type == "|i1" || type == "<i1") return convert(std::int8_t{});
  if (type == "<u2") return convert(std::uint16_t{});
  if (type == "<i2") return convert(std::int16_t{});
  if (type == "<u4") return convert(std::uint32_t{});
  if (type == "<i4") return convert(std::int32_t{});
  if (type == "<u8") return convert(std::uint64_t{});
  if (type == "<i8") return convert(std::int64_t{});
  fail(name, ": has elements of type ", type, type.starts_with('>') ? ", which is big-endian" : "",
       "; expected little-endian integers: |u1, |i1, <u2, <i2, <u4, <i4, <u8 or <i8");
}
}  // namespace detail

/// The tokens of a file, read as its name says: .bin for 16-bit little-endian numbers without anything else, .npy for a
/// numpy array of integers of any shape, row by row. Fails on a token outside of [0, vocab).
[[nodiscard]] inline corpus tokens(const std::filesystem::path& path, index vocab, const split& parts = {}) {
  detail::check_vocab(vocab);
  if (path.extension() == ".bin") return corpus(detail::read_bin(path, vocab), vocab, parts, path.string());
  if (path.extension() == ".npy") return corpus(detail::read_npy(path, vocab), vocab, parts, path.string());
  fail(path.string(), ": cannot tell the format; expected a name that ends in .bin or .npy");
}

/// Writes tokens as 16-bit little-endian numbers, all at once (io/file.hpp). Fails when one needs more than 16 bits.
inline void write_bin(const std::filesystem::path& path, std::span<const token> tokens) {
  check_tokens(tokens, 0, 65536, path.c_str());
  const std::vector<std::uint16_t> numbers(tokens.begin(), tokens.end());
  io::atomic_file file(path);
  file.write(std::as_bytes(std::span(numbers)));
  file.commit();
}

namespace detail {
/// Writes a numpy array of type '<i4' and of a shape as Python writes it, all at once (io/file.hpp).
inline void write_npy(const std::filesystem::path& path, std::span<const token> tokens, const std::string& shape) {
  std::string header = join("{'descr': '<i4', 'fortran_order': False, 'shape': ", shape, ", }");
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 11, ' ');  // so that the data begins at a multiple of 64
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());
  io::atomic_file file(path);
  file.write(std::string_view("\x93NUMPY\x01\x00", 8));
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  file.write(std::as_bytes(tokens));
  file.commit();
}
}  // namespace detail

/// Writes tokens as a numpy array of one dimension, of type '<i4', all at once (io/file.hpp).
inline void write_npy(const std::filesystem::path& path, std::span<const token> tokens) {
  detail::write_npy(path, tokens, join("(", tokens.size(), ",)"));
}

}  // namespace fathom::data
