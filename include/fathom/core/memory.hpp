// Owning memory: aligned, zeroed, allocated once.
#pragma once

#include <cstddef>
#include <cstdint>
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

/// Blocks of so many bytes are worth huge pages.
inline constexpr std::size_t large_block = std::size_t{1} << 19;

/// Asks for huge pages under a block of some size, where the system has them: small pages are scattered over the caches' sets,
/// and cost half of the caches' bandwidth and more. A wish; whether it is granted changes nothing but speed.
inline void prefer_huge_pages([[maybe_unused]] void* block, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(block) % 4096;  // to the beginning of a page
  if (bytes > large_block + before) madvise(static_cast<std::byte*>(block) + before, bytes - before, MADV_HUGEPAGE);
#endif
}

namespace detail {
struct aligned_delete {
  void operator()(void* block) const { std::free(block); }
};

/// `bytes` zeroed bytes, in huge pages when they are many.
[[nodiscard]] inline void* zeroed_block(std::size_t bytes) {
  const std::size_t page = bytes < large_block ? alignment : std::size_t{2} << 20;
  const std::size_t size = (bytes + page - 1) / page * page;
  void* const block = size < bytes ? nullptr : std::aligned_alloc(page, size);  // rounded up, it may have come round
  if (!block) fail("out of memory: ", bytes, " bytes");
  prefer_huge_pages(block, size);
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

/// Fails unless memory of the caller's is what `who` needs.
inline void check_memory(const char* who, std::span<std::byte> memory, std::size_t needed) {
  if (memory.size() < needed || reinterpret_cast<std::uintptr_t>(memory.data()) % alignment != 0)
    fail(who, ": ", memory.size(), " bytes of memory; expected at least ", needed, " at a multiple of ", alignment);
}

}  // namespace fathom
