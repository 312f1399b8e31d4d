// The tables of a tokenizer: hash tables from strings and from pairs of tokens to numbers, and a prefix tree.
#pragma once

#include <algorithm>
#include <array>
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
  if (count >= 4) {  // two words that may overlap
    std::uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + count - 4, 4);
    return low | std::uint64_t{high} << 8 * (count - 4);
  }
  return count == 0 ? 0 : byte(0) | byte(count / 2) | byte(count - 1);
}

/// Mixes the bits of a number; the upper bits are mixed best.
[[nodiscard]] inline std::uint64_t spread(std::uint64_t word) {
  word = (word ^ word >> 32) * 0x9E3779B97F4A7C15U;
  return word ^ word >> 29;
}

/// A hash table from strings to numbers, with open addressing. It stores strings of up to eight bytes; longer ones
/// belong to the caller, and `text(number)` looks them up.
class string_table {
 public:
  /// The number of a string; -1 if it is not in the table.
  template <class Text>
  [[nodiscard]] token find(std::string_view key, const Text& text) const {
    const std::uint64_t word = word_of(key);
    for (std::size_t i = home(word);; i = (i + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[i];
      if (s.number < 0 || (s.word == word && s.length == key.size() && (key.size() <= 8 || text(s.number) == key)))
        return s.number;
    }
  }
  /// Inserts a string that is not in the table.
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
    std::uint64_t word = 0;  // up to eight bytes, or the hash of more
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
  int shift_ = 60;  // 64 - log2(slots)
};

inline constexpr std::uint32_t no_rank = std::numeric_limits<std::uint32_t>::max();

/// A hash table from pairs of tokens to their ranks (positions in the list of merges), with open addressing.
class pair_table {
 public:
  explicit pair_table(std::size_t pairs)
      : slots_(std::bit_ceil(std::max<std::size_t>(2 * pairs, 16))), shift_(64 - std::countr_zero(slots_.size())) {}

  /// The rank of a pair; no_rank if it has none.
  [[nodiscard]] std::uint32_t find(token left, token right) const { return slots_[slot_of(key_of(left, right))].rank; }
  /// Inserts a pair that is not in the table.
  void insert(token left, token right, std::uint32_t rank) {
    if (++used_ > slots_.size() / 2) {
      std::vector<slot> old(slots_.size() * 2);
      std::swap(old, slots_);
      --shift_;
      for (const slot& s : old)
        if (s.rank != no_rank) slots_[slot_of(s.key)] = s;
    }
    slots_[slot_of(key_of(left, right))] = {key_of(left, right), rank};
  }
  /// Calls f(left, right, rank) for all pairs, in no order.
  template <class F>
  void each(const F& f) const {
    for (const slot& s : slots_)
      if (s.rank != no_rank) f(static_cast<token>(s.key >> 32), static_cast<token>(s.key & 0xffffffffu), s.rank);
  }

 private:
  struct slot {
    std::uint64_t key = 0;
    std::uint32_t rank = no_rank;  // empty
  };
  [[nodiscard]] static std::uint64_t key_of(token left, token right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t slot_of(std::uint64_t key) const {
    auto i = static_cast<std::size_t>(key * 0x9E3779B97F4A7C15U >> shift_);
    while (slots_[i].key != key && slots_[i].rank != no_rank) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<slot> slots_;
  int shift_;
  std::size_t used_ = 0;
};

/// A prefix tree. It finds the longest string that begins at a position of a text byte by byte, however many strings it
/// has.
class prefix_tree {
 public:
  /// Inserts a non-empty string.
  void insert(std::string_view key, token number) {
    token node = 0;
    for (const char byte : key) {
      const token symbol = static_cast<unsigned char>(byte);
      const std::uint32_t next = next_.find(node, symbol);
      if (next == no_rank) {
        next_.insert(node, symbol, static_cast<std::uint32_t>(numbers_.size()));
        node = static_cast<token>(numbers_.size());
        numbers_.push_back(-1);
      } else {
        node = static_cast<token>(next);
      }
    }
    numbers_[static_cast<std::size_t>(node)] = number;
    begins_[static_cast<unsigned char>(key.front())] = true;
  }
  struct match {
    std::size_t at, length;
    token number;  // -1: no match
  };
  /// The first match from position `at` on: the longest string that begins there.
  [[nodiscard]] match find(std::string_view text, std::size_t at) const {
    for (; at < text.size(); ++at)
      if (begins_[static_cast<unsigned char>(text[at])])
        if (const match longest = longest_at(text, at); longest.number >= 0) return longest;
    return {text.size(), 0, -1};
  }
  /// The longest string at position `at` of a text.
  [[nodiscard]] match longest_at(std::string_view text, std::size_t at) const {
    match longest{at, 0, -1};
    std::uint32_t node = 0;
    for (std::size_t end = at; end < text.size(); ++end) {
      node = next_.find(static_cast<token>(node), static_cast<unsigned char>(text[end]));
      if (node == no_rank) break;
      if (numbers_[node] >= 0) longest = {at, end + 1 - at, numbers_[node]};
    }
    return longest;
  }

 private:
  pair_table next_{0};  // from a node and a byte to a node; 0 is the root
  std::vector<token> numbers_{-1};
  std::array<bool, 256> begins_{};
};

}  // namespace fathom::data::detail
