// Tokens from and to .npy files (numpy.lib.format). Trusts nothing in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/npy_header.hpp"
#include "fathom/data/token_numbers.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data {

namespace detail {
/// Reorders elements from column-major (the first index varies fastest) to row-major (the last one does).
[[nodiscard]] inline std::vector<token> from_fortran_order(const std::vector<token>& elements,
                                                           const std::vector<index>& shape) {
  std::vector<index> strides, at(shape.size());  // stride of, and position in, each dimension
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

/// An array of whole numbers in a file.
struct npy_array {
  stored_numbers numbers;
  std::vector<index> shape;
  bool fortran_order;
  [[nodiscard]] bool is_column_major() const { return fortran_order && shape.size() > 1; }
};
[[nodiscard]] inline npy_array array_of_npy(std::span<const std::byte> bytes, const std::string& name) {
  // A magic number of 6 bytes, a version of 2, and the length of the header in 2 bytes (version 1) or 4 (versions 2 and
  // 3).
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
  // Compares counts, not bytes: count * bytes could overflow.
  if (bytes.size() % type.bytes != 0 || std::cmp_not_equal(header.count, bytes.size() / type.bytes))
    fail(name, ": is not a valid .npy file: its header announces ", header.count, " elements of ", type.bytes,
         " bytes, and ", bytes.size(), " bytes follow");
  if (header.count == 0) fail(name, ": has no tokens");

  return {{.bytes = bytes, .width = type.bytes, .is_signed = type.is_signed, .big_endian = type.big_endian}, header.shape, header.fortran_order};
}

/// The elements in row-major order, and their shape if requested.
[[nodiscard]] inline std::vector<token> read_npy(const std::filesystem::path& path, index vocab,
                                                 std::vector<index>* shape = nullptr) {
  const io::whole_file file(path);
  const npy_array array = array_of_npy(file.bytes(), path.string());
  std::vector<token> elements = array.numbers.tokens(vocab, path.string());
  if (array.is_column_major()) elements = from_fortran_order(elements, array.shape);
  if (shape) *shape = array.shape;
  return elements;
}

/// Writes a numpy array of type '<i4' with a shape in Python's notation, atomically (io/file.hpp).
inline void write_npy(const std::filesystem::path& path, std::span<const token> tokens, const std::string& shape) {
  std::string header = join("{'descr': '<i4', 'fortran_order': False, 'shape': ", shape, ", }");
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 11, ' ');  // aligns the data to 64 bytes
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

/// Writes tokens as a one-dimensional numpy array of type '<i4', atomically (io/file.hpp).
inline void write_npy(const std::filesystem::path& path, std::span<const token> tokens) {
  detail::write_npy(path, tokens, join("(", tokens.size(), ",)"));
}

}  // namespace fathom::data
