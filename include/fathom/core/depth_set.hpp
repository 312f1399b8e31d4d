// The depths that a model looks back at.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <bit>
#include <concepts>
#include <cstdint>

namespace fathom {

/// A set of depths. Depth 0 is the embedding, depth s >= 1 the output of block s. Order does not matter: {3, 1} and
/// {1, 3} are the same value, and so make the same model type. Depths above 63 cannot be selected.
struct depth_set {
  std::uint64_t bits = 0;       // bit s: depth s is selected
  std::int64_t impossible = 0;  // the last depth given outside 0..63; 0 if there is none
  std::int64_t repeated = -1;   // the last depth given twice; -1 if there is none
  bool every = false;           // all_depths: resolved when the number of blocks is known

  constexpr depth_set() = default;
  template <std::integral... Depths>
  consteval depth_set(Depths... depths) {  // NOLINT: {2, 4} is how a set is written
    (add(static_cast<std::int64_t>(depths)), ...);
  }
  [[nodiscard]] static constexpr depth_set from_bits(std::uint64_t bits) {
    depth_set set;
    set.bits = bits;
    return set;
  }
  /// Depths 0, ..., last. Marks `last` as impossible if it is above 63.
  [[nodiscard]] static constexpr depth_set up_to(int last) {
    depth_set set = from_bits(last >= 63 ? ~std::uint64_t{0} : (std::uint64_t{1} << (last + 1)) - 1);
    if (last > 63) set.impossible = last;
    return set;
  }

  /// One depth. Marks it as impossible if it is outside 0..63.
  [[nodiscard]] static constexpr depth_set only(int depth) {
    depth_set set;
    if (depth < 0 || depth > 63)
      set.impossible = depth;
    else
      set.bits = std::uint64_t{1} << depth;
    return set;
  }

  [[nodiscard]] constexpr int count() const { return std::popcount(bits); }
  [[nodiscard]] constexpr bool empty() const { return bits == 0 && !every && impossible == 0; }
  [[nodiscard]] constexpr bool contains(int depth) const { return depth >= 0 && depth < 64 && (bits >> depth & 1u); }
  [[nodiscard]] constexpr int largest() const { return static_cast<int>(std::bit_width(bits)) - 1; }
  /// The n-th smallest selected depth, n from 0.
  [[nodiscard]] constexpr int operator[](int n) const {
    std::uint64_t rest = bits;
    for (; n > 0; --n) rest &= rest - 1;
    return std::countr_zero(rest);
  }
  friend constexpr bool operator==(const depth_set&, const depth_set&) = default;
  /// The union of both sets.
  [[nodiscard]] friend constexpr depth_set operator|(const depth_set& a, const depth_set& b) {
    return from_bits(a.bits | b.bits);
  }

 private:
  consteval void add(std::int64_t depth) {
    if (depth < 0 || depth > 63)
      impossible = depth;
    else if (bits >> depth & 1u)
      repeated = depth;
    else
      bits |= std::uint64_t{1} << depth;
  }
};

/// Every block's output but the last's: depths 1, ..., L-1.
inline constexpr depth_set all_depths = [] {
  depth_set set;
  set.every = true;
  return set;
}();

}  // namespace fathom
