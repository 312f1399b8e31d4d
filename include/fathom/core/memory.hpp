// Owning memory: aligned, zeroed, allocated once.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

#include "fathom/core/types.hpp"

namespace fathom {

namespace detail {
struct aligned_delete {
  void operator()(void* block) const { ::operator delete(block, std::align_val_t{alignment}); }
};
}  // namespace detail

/// Owns one object that is too large for the stack; use it like a pointer.
template <class T>
using owned = std::unique_ptr<T, detail::aligned_delete>;

/// A new T on the heap: aligned, every number zero. For the parameter blocks, which are nothing but numbers.
template <class T>
[[nodiscard]] owned<T> make() {
  static_assert(std::is_trivially_destructible_v<T>, "fathom::make: only for blocks of plain numbers");
  void* block = ::operator new(sizeof(T), std::align_val_t{alignment});
  std::memset(block, 0, sizeof(T));
  return owned<T>(::new (block) T);  // default-initialised: keeps the zeros; std::complex writes its own
}

/// A run of zeroed bytes: what tapes and caches are laid out in.
class buffer {
 public:
  buffer() = default;
  explicit buffer(std::size_t bytes) : size_(bytes) {
    if (bytes == 0) return;
    block_.reset(::operator new(bytes, std::align_val_t{alignment}));
    std::memset(block_.get(), 0, bytes);
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return {static_cast<std::byte*>(block_.get()), size_}; }

 private:
  std::unique_ptr<void, detail::aligned_delete> block_;
  std::size_t size_ = 0;
};

}  // namespace fathom
