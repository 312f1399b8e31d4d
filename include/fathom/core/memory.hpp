// Owning memory: aligned, zeroed, allocated once.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"

namespace fathom {

namespace detail {
struct aligned_delete {
  void operator()(void* block) const { std::free(block); }
};

/// `bytes` zeroed bytes. A block of some size lies in huge pages where the system has them: small pages are scattered over
/// the caches' sets, and cost half of the caches' bandwidth and more.
[[nodiscard]] inline void* zeroed_block(std::size_t bytes) {
  constexpr std::size_t huge = std::size_t{2} << 20, large = std::size_t{1} << 19;
  const std::size_t page = bytes < large ? static_cast<std::size_t>(alignment) : huge;
  const std::size_t size = (bytes + page - 1) / page * page;
  void* const block = size < bytes ? nullptr : std::aligned_alloc(page, size);  // rounded up, it may have come round
  if (!block) fail("out of memory: ", bytes, " bytes");
#if defined(__linux__)
  if (page == huge) madvise(block, size, MADV_HUGEPAGE);  // a wish; whether it is granted changes nothing but speed
#endif
  std::memset(block, 0, bytes);
  return block;
}
}  // namespace detail

/// Owns one object that is too large for the stack; use it like a pointer.
template <class T>
using owned = std::unique_ptr<T, detail::aligned_delete>;

/// A new T on the heap: aligned, every number zero. For the parameter blocks, which are nothing but numbers.
template <class T>
[[nodiscard]] owned<T> make() {
  static_assert(std::is_trivially_destructible_v<T>, "fathom::make: only for blocks of plain numbers");
  // Default-initialised: keeps the zeros; std::complex writes its own.
  return owned<T>(::new (detail::zeroed_block(sizeof(T))) T);
}

/// A run of zeroed bytes: what tapes and caches are laid out in.
class buffer {
 public:
  buffer() = default;
  explicit buffer(std::size_t bytes) : size_(bytes) {
    if (bytes > 0) block_.reset(detail::zeroed_block(bytes));
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return {static_cast<std::byte*>(block_.get()), size_}; }

 private:
  std::unique_ptr<void, detail::aligned_delete> block_;
  std::size_t size_ = 0;
};

}  // namespace fathom
