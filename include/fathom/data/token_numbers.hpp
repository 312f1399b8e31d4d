// Tokens from arrays of numbers in files.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom::data::detail {

static_assert(std::endian::native == std::endian::little, "token files are little-endian; so must be the machine");

/// Whole numbers in a file, one after the other.
struct stored_numbers {
  std::span<const std::byte> bytes;
  std::size_t width = 2;  // bytes of a number: 1, 2, 4 or 8
  bool is_signed = false, big_endian = false;

  [[nodiscard]] index size() const { return static_cast<index>(bytes.size() / width); }

  /// Numbers first, first + 1, ..., which must be among the size(), as tokens. Fails on one outside of [0, vocab).
  void read(index first, std::span<token> to, index vocab, const std::string& path) const {
    switch (width) {
      case 1: return is_signed ? convert<std::int8_t>(first, to, vocab, path) : convert<std::uint8_t>(first, to, vocab, path);
      case 2: return is_signed ? convert<std::int16_t>(first, to, vocab, path) : convert<std::uint16_t>(first, to, vocab, path);
      case 4: return is_signed ? convert<std::int32_t>(first, to, vocab, path) : convert<std::uint32_t>(first, to, vocab, path);
      default: return is_signed ? convert<std::int64_t>(first, to, vocab, path) : convert<std::uint64_t>(first, to, vocab, path);
    }
  }
  /// All of them.
  [[nodiscard]] std::vector<token> tokens(index vocab, const std::string& path) const {
    std::vector<token> all(static_cast<std::size_t>(size()));
    read(0, all, vocab, path);
    return all;
  }

 private:
  template <class Number>
  void convert(index first, std::span<token> to, index vocab, const std::string& path) const {
    const std::byte* at = bytes.data() + static_cast<std::size_t>(first) * sizeof(Number);
    for (token& t : to) {
      std::array<std::byte, sizeof(Number)> raw;
      std::memcpy(raw.data(), at, sizeof(Number));
      if (big_endian) std::reverse(raw.begin(), raw.end());
      const auto number = std::bit_cast<Number>(raw);
      if (std::cmp_less(number, 0) || std::cmp_greater_equal(number, vocab))
        fail(path, ": token ", number, " at position ", first + (&t - to.data()), " is outside of the vocabulary, 0 to ", vocab - 1);
      t = static_cast<token>(number);
      at += sizeof(Number);
    }
  }
};

}  // namespace fathom::data::detail
