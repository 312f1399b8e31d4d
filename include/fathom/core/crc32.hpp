// CRC-32 of bytes, as in zlib, gzip and PNG: the polynomial of IEEE 802.3, bits reflected (RFC 1952, section 8).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace fathom {

namespace detail {
/// tables[k][b]: the remainder of byte b, followed by k zero bytes. Eight tables take eight bytes at a time ("slicing-by-8":
/// Kounavis and Berry, A Systematic Approach to Building High Performance Software-based CRC Generators, ISCC 2005).
[[nodiscard]] inline std::array<std::array<std::uint32_t, 256>, 8> crc32_tables() {
  std::array<std::array<std::uint32_t, 256>, 8> tables;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = remainder >> 1 ^ (remainder & 1 ? 0xedb88320u : 0u);
    tables[0][byte] = remainder;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = before >> 8 ^ tables[0][before & 255];
    }
  return tables;
}
}  // namespace detail

/// The CRC-32 of bytes: 0xcbf43926 for "123456789".
[[nodiscard]] inline std::uint32_t crc32(std::span<const std::byte> bytes) {
  static const auto t = detail::crc32_tables();
  std::uint32_t crc = 0xffffffffu;
  const auto byte_of = [](std::uint32_t word, int i) { return static_cast<std::size_t>(word >> 8 * i & 255); };
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::uint32_t low, high;
    std::memcpy(&low, bytes.data(), 4);
    std::memcpy(&high, bytes.data() + 4, 4);
    low ^= crc;  // the first byte is the lowest: files are little-endian, and so is the machine (io/safetensors.hpp)
    crc = t[7][byte_of(low, 0)] ^ t[6][byte_of(low, 1)] ^ t[5][byte_of(low, 2)] ^ t[4][byte_of(low, 3)] ^ t[3][byte_of(high, 0)] ^
          t[2][byte_of(high, 1)] ^ t[1][byte_of(high, 2)] ^ t[0][byte_of(high, 3)];
  }
  for (const std::byte byte : bytes) crc = crc >> 8 ^ t[0][byte_of(crc ^ static_cast<std::uint32_t>(byte), 0)];
  return ~crc;
}

}  // namespace fathom
