// The tables of bpe.hpp: from strings and from pairs of tokens to numbers.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/types.hpp"

namespace fathom::data::detail {

static_assert(std::endian::native == std::endian::little, "words of text are compared as numbers");

/// Up to eight bytes as a number.
[[nodiscard]] inline std::uint64_t load(const char* bytes, std::size_t count) {
  const auto byte = [&](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i; };
  if (count == 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, 8);
    return word;
  }
  if (count >= 4) {  // two words, which may overlap
    std::uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + count - 4, 4);
    return low | std::uint64_t{high} << 8 * (count - 4);
  }
  return count == 0 ? 0 : byte(0) | byte(count / 2) | byte(count - 1);
}

/// Spreads the bits of a number; the upper ones are the better.
[[nodiscard]] inline std::uint64_t spread(std::uint64_t word) {
  word = (word ^ word >> 32) * 0x9E3779B97F4A7C15U;
  return word ^ word >> 29;
}

/// From strings to numbers: open addressing. The table knows strings of up to eight bytes; the others are asked for by
/// their numbers, `text(number)`, because somebody else keeps them.
class string_table {
 public:
  /// The number of a string, -1 when it is not there.
  template <class Text>
  [[nodiscard]] token find(std::string_view key, const Text& text) const {
    const std::uint64_t word = word_of(key);
    for (std::size_t i = home(word);; i = (i + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[i];
      if (s.number < 0 || (s.word == word && s.length == key.size() && (key.size() <= 8 || text(s.number) == key)))
        return s.number;
    }
  }
  /// For a string that is not there.
  void insert(std::string_view key, token number) {
    if (++used_ > slots_.size() / 2) {
      std::vector<slot> old(slots_.size() * 2);
      std::swap(old, slots_);
      --shift_;
      for (const slot& s : old)
        if (s.number >= 0) place(s);
    }
    place({word_of(key), key.size(), number});
  }

 private:
  struct slot {
    std::uint64_t word = 0;  // the bytes, or a hash of more than eight
    std::size_t length = 0;
    token number = -1;  // empty
  };
  [[nodiscard]] static std::uint64_t word_of(std::string_view key) {
    if (key.size() <= 8) return load(key.data(), key.size());
    // The last word may overlap the one before it.
    std::uint64_t word = load(key.data() + key.size() - 8, 8);
    for (std::size_t at = 0; at + 8 < key.size(); at += 8) word = spread(word) ^ load(key.data() + at, 8);
    return spread(word);
  }
  [[nodiscard]] std::size_t home(std::uint64_t word) const { return static_cast<std::size_t>(spread(word) >> shift_); }
  void place(const slot& s) {
    std::size_t i = home(s.word);
    while (slots_[i].number >= 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = s;
  }

  std::vector<slot> slots_ = std::vector<slot>(16);
  std::size_t used_ = 0;
  int shift_ = 60;  // 64 - log2 of the slots
};

inline constexpr std::uint32_t no_rank = std::numeric_limits<std::uint32_t>::max();

/// From pairs of tokens to their ranks, that is places in the list of merges: open addressing.
class pair_table {
 public:
  explicit pair_table(std::size_t pairs)
      : slots_(std::bit_ceil(std::max<std::size_t>(2 * pairs, 16))), shift_(64 - std::countr_zero(slots_.size())) {}

  /// The rank of a pair, no_rank when it has none.
  [[nodiscard]] std::uint32_t find(token left, token right) const { return slots_[slot_of(left, right)].rank; }
  /// For a pair that has none.
  void insert(token left, token right, std::uint32_t rank) {
    slots_[slot_of(left, right)] = {key_of(left, right), rank};
  }

 private:
  struct slot {
    std::uint64_t key = 0;
    std::uint32_t rank = no_rank;  // empty
  };
  [[nodiscard]] static std::uint64_t key_of(token left, token right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t slot_of(token left, token right) const {
    const std::uint64_t key = key_of(left, right);
    auto i = static_cast<std::size_t>(key * 0x9E3779B97F4A7C15U >> shift_);
    while (slots_[i].key != key && slots_[i].rank != no_rank) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<slot> slots_;
  int shift_;
};

}  // namespace fathom::data::detail
