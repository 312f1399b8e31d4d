// Files of tokens, in the formats that people have: 16-bit numbers one after the other (.bin, as nanoGPT makes them),
// the same after a header (.bin, as llm.c makes them), and numpy arrays (.npy, numpy.lib.format). Reading trusts
// nothing that a file says.
#pragma once

#include <algorithm>
#include <array>
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
#include "fathom/data/files.hpp"
#include "fathom/io/file.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

static_assert(std::endian::native == std::endian::little, "token files are little-endian; so must be the machine");

namespace detail {
/// Numbers of type Number that lie one after the other, as tokens.
template <class Number>
[[nodiscard]] std::vector<token> to_tokens(std::span<const std::byte> bytes, bool big_endian, index vocab,
                                           const std::string& path) {
  std::vector<token> tokens(bytes.size() / sizeof(Number));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    std::array<std::byte, sizeof(Number)> raw;
    std::memcpy(raw.data(), bytes.data() + i * sizeof(Number), sizeof(Number));
    if (big_endian) std::reverse(raw.begin(), raw.end());
    const auto number = std::bit_cast<Number>(raw);
    if (std::cmp_less(number, 0) || std::cmp_greater_equal(number, vocab))
      fail(path, ": token ", number, " at position ", i, " is outside of the vocabulary, 0 to ", vocab - 1);
    tokens[i] = static_cast<token>(number);
  }
  return tokens;
}

/// The header of llm.c's files of tokens (dev/data/data_common.py there): 256 numbers of 32 bits, the first three being
/// the magic number of a kind of file, its version, and how many tokens follow.
struct llmc_header {
  static constexpr std::size_t size = 256 * sizeof(std::int32_t);
  std::int32_t magic = 0, version = 0, count = 0;

  explicit llmc_header(std::span<const std::byte> bytes) {
    if (bytes.size() >= sizeof magic) std::memcpy(&magic, bytes.data(), sizeof magic);
    if (bytes.size() < size) return;
    std::memcpy(&version, bytes.data() + 4, sizeof version);
    std::memcpy(&count, bytes.data() + 8, sizeof count);
  }
  /// What llm.c calls a file of this magic number; nullptr if it has none.
  [[nodiscard]] const char* kind() const {
    switch (magic) {
      case 20240520:
        return "16-bit tokens";
      case 20240801:
        return "32-bit tokens";
      case 20240522:
        return "multiple-choice examples";
      case 20240328:
        return "a tokenizer";
      case 20240326:
      case 20240803:
        return "a model";
      case 20240327:
        return "a debugging state";
      case 20240527:
        return "an optimizer's state";
      default:
        return nullptr;
    }
  }
};

/// The tokens of a file of llm.c, which has a header.
[[nodiscard]] inline std::vector<token> read_llmc(std::span<const std::byte> bytes, const llmc_header& header,
                                                  index vocab, const std::string& name) {
  const auto is = [&](std::int32_t magic, std::int32_t version) {
    return header.magic == magic && header.version == version;
  };
  const bool narrow = is(20240520, 1), wide = is(20240801, 7);
  if (bytes.size() < llmc_header::size)
    fail(name, ": is not a valid file of llm.c: it begins with the magic number ", header.magic, " (", header.kind(),
         "), and ends within its header of ", llmc_header::size, " bytes");
  if (!narrow && !wide)
    fail(name, ": is a file of llm.c with the magic number ", header.magic, " (", header.kind(), "), version ",
         header.version, "; expected 20240520, version 1, or 20240801, version 7");
  bytes = bytes.subspan(llmc_header::size);
  const std::size_t width = narrow ? 2 : 4;
  if (bytes.size() % width != 0 || std::cmp_not_equal(header.count, bytes.size() / width))
    fail(name, ": is not a valid file of llm.c: its header announces ", header.count, " tokens of ", width,
         " bytes, and ", bytes.size(), " bytes follow");
  if (header.count == 0) fail(name, ": has no tokens");
  return narrow ? to_tokens<std::uint16_t>(bytes, false, vocab, name)
                : to_tokens<std::uint32_t>(bytes, false, vocab, name);
}

[[nodiscard]] inline std::vector<token> read_bin(const std::filesystem::path& path, index vocab) {
  const io::whole_file file(path);
  const std::string name = path.string();
  const auto bytes = file.bytes();
  if (const llmc_header header(bytes); header.kind()) return read_llmc(bytes, header, vocab, name);
  // What is something else could be read as tokens, too.
  if (const std::string other = but_is(bytes, true); !bytes.empty() && !other.empty())
    fail(name, ": is not a file of tokens", other);
  if (bytes.empty() || bytes.size() % 2 != 0)
    fail(name, ": has ", bytes.size(), " bytes; expected 16-bit tokens, a positive even number");
  return to_tokens<std::uint16_t>(bytes, false, vocab, name);
}

/// The header of a .npy file: a Python dictionary, such as
///   {'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }
/// with these three keys and no others, in any order, with white space anywhere between them. Python 2 wrote numbers as
/// 3L; numpy reads that in versions 1 and 2 of the format.
class npy_header {
 public:
  std::string_view type;  // '<u2'; of arrays of records, a list
  bool is_record = false;
  bool fortran_order = false;
  std::vector<index> shape;
  index count = 1;  // of elements: the product of the shape

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
    if (rest_.starts_with("u'") || rest_.starts_with("u\"")) rest_.remove_prefix(1);  // as Python 2 may write it
    const char quote = rest_.starts_with('"') ? '"' : '\'';
    expect(quote);
    const auto length = rest_.find(quote);
    if (length == std::string_view::npos) invalid("a string in it does not end");
    const std::string_view text = rest_.substr(0, length);
    rest_.remove_prefix(length + 1);
    return text;
  }
  /// A string, or what describes records: lists and tuples in each other.
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
  bool may_have_long_;
  const std::string& path_;
};

/// A type of integers, as numpy.dtype takes it: "<u2", ">i8", "=i4", "|u1", "u1", a letter of C's types with a byte
/// order or without, or a name. numpy.save writes the first, second and fourth form.
struct npy_integer {
  std::size_t bytes = 0;  // 0: it is no integer
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

/// Elements that lie column by column (the first index varies fastest), row by row (the last one does).
[[nodiscard]] inline std::vector<token> from_fortran_order(const std::vector<token>& elements,
                                                           const std::vector<index>& shape) {
  std::vector<index> strides, at(shape.size());  // of each dimension, and where in it
  index stride = 1;
  for (const index extent : shape) {
    strides.push_back(stride);
    stride *= extent;
  }
  std::vector<token> rows(elements.size());
  index from = 0;
  for (token& element : rows) {
    element = elements[static_cast<std::size_t>(from)];
    for (std::size_t dimension = shape.size(); dimension-- > 0;) {
      from += strides[dimension];
      if (++at[dimension] < shape[dimension]) break;
      from -= strides[dimension] * std::exchange(at[dimension], 0);
    }
  }
  return rows;
}

/// The elements, row by row, and their shape if wanted.
[[nodiscard]] inline std::vector<token> read_npy(const std::filesystem::path& path, index vocab,
                                                 std::vector<index>* shape = nullptr) {
  const io::whole_file file(path);
  const std::string name = path.string();
  auto bytes = file.bytes();

  // 6 bytes of magic, 2 of version, and the length of the header in 2 bytes (version 1) or 4 (versions 2 and 3).
  constexpr std::string_view magic = "\x93NUMPY";
  if (bytes.size() < 10 || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0)
    fail(name, ": is not a .npy file: it does not begin with \\x93NUMPY, a version and the length of a header",
         but_is(bytes));
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
  const npy_header header(std::string_view(reinterpret_cast<const char*>(bytes.data()), length), major < 3, name);
  bytes = bytes.subspan(length);

  const npy_integer type(header.type);
  if (header.is_record || type.bytes == 0)
    fail(name, ": has elements of type ", header.type.substr(0, 100),
         header.is_record ? ", which are records or arrays" : "",
         "; expected integers of 1, 2, 4 or 8 bytes, signed or not: |u1, <i2, >u4 and the like");
  // The count is compared, not the bytes: their number may be too large to compute.
  if (bytes.size() % type.bytes != 0 || std::cmp_not_equal(header.count, bytes.size() / type.bytes))
    fail(name, ": is not a valid .npy file: its header announces ", header.count, " elements of ", type.bytes,
         " bytes, and ", bytes.size(), " bytes follow");
  if (header.count == 0) fail(name, ": has no tokens");

  const auto convert = [&]<class Number>(Number) { return to_tokens<Number>(bytes, type.big_endian, vocab, name); };
  std::vector<token> elements;
  if (type.bytes == 1) elements = type.is_signed ? convert(std::int8_t{}) : convert(std::uint8_t{});
  if (type.bytes == 2) elements = type.is_signed ? convert(std::int16_t{}) : convert(std::uint16_t{});
  if (type.bytes == 4) elements = type.is_signed ? convert(std::int32_t{}) : convert(std::uint32_t{});
  if (type.bytes == 8) elements = type.is_signed ? convert(std::int64_t{}) : convert(std::uint64_t{});
  if (header.fortran_order && header.shape.size() > 1) elements = from_fortran_order(elements, header.shape);
  if (shape) *shape = header.shape;
  return elements;
}
}  // namespace detail

/// The tokens of a file, read as its name says.
///
/// - .bin: 16-bit little-endian numbers without anything else, as nanoGPT has them; or a file of llm.c with its header,
///   of 16-bit tokens (magic number 20240520, version 1) or 32-bit ones (20240801, version 7)
/// - .npy: a numpy array of integers of any type, byte order and shape, row by row whatever its order in the file
///
/// Fails on a token outside of [0, vocab), and when a file has more or less than it announces.
[[nodiscard]] inline corpus tokens(const std::filesystem::path& path, index vocab, const split& parts = {}) {
  detail::check_vocab(vocab);
  const std::string ending = detail::ending_of(path);
  if (ending == ".bin") return corpus(detail::read_bin(path, vocab), vocab, parts, path.string());
  if (ending == ".npy") return corpus(detail::read_npy(path, vocab), vocab, parts, path.string());
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
