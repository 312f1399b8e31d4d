// Tokens from arrays of numbers in files.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom::data::detail {

static_assert(std::endian::native == std::endian::little, "token files are little-endian; so must be the machine");

/// Converts contiguous numbers of type Number to tokens. Fails on a number outside of [0, vocab).
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

}  // namespace fathom::data::detail
