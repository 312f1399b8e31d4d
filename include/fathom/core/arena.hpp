// Lays out many matrices in one block of memory. The same code measures how much memory they need.
#pragma once

#include <cstddef>

#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

/// Hands out aligned pieces of one block, in order. An arena without a block only measures: its pieces are null, and
/// used() is the size that a block needs. Passing an arena by value lends the rest of the block: what the callee takes
/// is free again when it returns.
class arena {
 public:
  constexpr arena() = default;
  constexpr explicit arena(std::byte* block) : block_(block) {}

  template <class T>
  [[nodiscard]] constexpr T* take(index count) {
    const std::size_t offset = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + alignment - 1) / alignment * alignment;
    return block_ ? reinterpret_cast<T*>(block_ + offset) : nullptr;
  }
  template <class T>
  [[nodiscard]] constexpr matrix<T> take(index rows, index columns) {
    return {take<T>(rows * columns), rows, columns};
  }
  /// The same, but rows that would be a multiple of 4 KiB apart are padded by a cache line: read side by side, they
  /// would conflict in the L1 cache.
  template <class T>
  [[nodiscard]] constexpr matrix<T> take_spread(index rows, index columns) {
    const index row = columns * static_cast<index>(sizeof(T));
    const index stride = columns + (row % 4096 == 0 ? static_cast<index>(alignment / sizeof(T)) : 0);
    return {take<T>(rows * stride), rows, columns, stride};
  }
  [[nodiscard]] constexpr std::size_t used() const { return used_; }

 private:
  std::byte* block_ = nullptr;
  std::size_t used_ = 0;
};

/// The bytes that the constructor Object(arena&, arguments...) takes.
template <class Object, class... Arguments>
[[nodiscard]] constexpr std::size_t bytes_of(const Arguments&... arguments) {
  arena measure;
  [[maybe_unused]] const Object object(measure, arguments...);
  return measure.used();
}

}  // namespace fathom
