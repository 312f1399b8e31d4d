// Attention weights as stored in a page: 16 bits each, in base64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/choices.hpp"

namespace fathom::viz::detail {

/// The maximum number of weights in a page: 45 MB.
inline constexpr index most_page_weights = 1 << 24;

[[nodiscard]] inline std::string base64(std::span<const std::uint8_t> bytes) {
  constexpr const char* letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes = bytes.subspan(std::min<std::size_t>(bytes.size(), 3))) {
    const auto byte = [&](std::size_t i) { return i < bytes.size() ? std::uint32_t{bytes[i]} : 0u; };
    const std::uint32_t three = byte(0) << 16 | byte(1) << 8 | byte(2);
    result += letters[three >> 18];
    result += letters[three >> 12 & 63];
    result += bytes.size() > 1 ? letters[three >> 6 & 63] : '=';
    result += bytes.size() > 2 ? letters[three & 63] : '=';
  }
  return result;
}

/// Weights as stored in a page, [heads, queries, sources, keys up to the query]: square roots times 65535, in 16 bits,
/// low byte first. The error of a weight w is at most sqrt(w) / 65535, so small weights keep their digits.
[[nodiscard]] inline std::string packed_weights(const attention_weights_map& map, viz::heads heads) {
  const auto sources = static_cast<index>(map.sources.size());
  const index kept = heads == viz::heads::all ? map.heads : 1, each = map.heads / kept;
  const index count = kept * sources * (map.queries * (map.queries + 1) / 2);
  if (count > most_page_weights)
    fail("save_page: a page of ", count, " weights; expected at most ", most_page_weights,
         ": take fewer tokens, or heads::mean");
  std::vector<std::uint8_t> bytes;
  bytes.reserve(static_cast<std::size_t>(2 * count));
  for (index head = 0; head < kept; ++head)
    for (index query = 0; query < map.queries; ++query)
      for (index source = 0; source < sources; ++source)
        for (index key = 0; key <= query; ++key) {
          double sum = 0;
          for (index h = head * each; h < (head + 1) * each; ++h)
            sum += static_cast<double>(map(h, query, source, key));
          const double root = std::sqrt(std::min(1.0, sum / static_cast<double>(each)));
          const auto number = static_cast<std::uint16_t>(std::lround(65535 * root));
          bytes.push_back(static_cast<std::uint8_t>(number & 255));
          bytes.push_back(static_cast<std::uint8_t>(number >> 8));
        }
  return base64(bytes);
}

}  // namespace fathom::viz::detail
