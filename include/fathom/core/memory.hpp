// Owns memory: aligned, zeroed and allocated once, on the host or in a backend's own memory.
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

/// Blocks of at least this many bytes are worth huge pages.
inline constexpr std::size_t large_block = std::size_t{1} << 19;

/// Asks the system for huge pages under a large block. Small pages scatter over the caches' sets and can cost half of
/// the caches' bandwidth. If the system declines, only speed suffers.
inline void prefer_huge_pages([[maybe_unused]] void* block, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(block) % 4096;  // to the beginning of a page
  if (bytes > large_block + before) madvise(static_cast<std::byte*>(block) + before, bytes - before, MADV_HUGEPAGE);
#endif
}

namespace detail {
/// Allocates `bytes` zeroed bytes, in huge pages if they are many.
[[nodiscard]] inline void* zeroed_block(std::size_t bytes) {
  const std::size_t page = bytes < large_block ? alignment : std::size_t{2} << 20;
  const std::size_t size = (bytes + page - 1) / page * page;
  void* const block = size < bytes ? nullptr : std::aligned_alloc(page, size);  // smaller: rounding up overflowed
  if (!block) fail("out of memory: ", bytes, " bytes");
  prefer_huge_pages(block, size);
  std::memset(block, 0, bytes);
  return block;
}
}  // namespace detail

/// How to allocate, zero and copy memory. This is for the host; a backend with memory of its own (a GPU) has such a
/// type, `memory`.
struct host_memory {
  using staging = host_memory;  // the host memory that copies are fastest to
  /// A block of zeroed bytes, aligned to fathom::alignment. Fails if there is not enough memory.
  [[nodiscard]] static void* allocate(std::size_t bytes) { return detail::zeroed_block(bytes); }
  static void release(void* block) { std::free(block); }
  static void zero(void* block, std::size_t bytes) { std::memset(block, 0, bytes); }
  /// Copies from the host's memory to this one, back, or within it, after all work issued before.
  static void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
};

namespace detail {
template <class T>
struct memory_of {
  using type = host_memory;
};
template <class T>
  requires requires { typename T::memory; }
struct memory_of<T> {
  using type = typename T::memory;
};
template <class Memory>
struct block_release {
  void operator()(void* block) const { Memory::release(block); }
};
}  // namespace detail

/// The memory that a backend computes in, or that holds parameters.
template <class T>
using memory_of = typename detail::memory_of<T>::type;
/// Whether that is host memory, which any code may access.
template <class T>
inline constexpr bool is_on_host = std::is_same_v<memory_of<T>, host_memory>;

/// Owns one object that is too large for the stack; use it like a pointer.
template <class T>
using owned = std::unique_ptr<T, detail::block_release<memory_of<T>>>;

/// Makes a T, aligned and zeroed, on the heap or in the memory of its backend. T is a block of plain numbers, as
/// parameters are.
template <class T>
[[nodiscard]] owned<std::remove_const_t<T>> make() {
  static_assert(!std::is_const_v<T>, "fathom::make: the numbers of a const block would be zero for ever; expected a type without const");
  static_assert(std::is_trivially_destructible_v<T>, "fathom::make: only for blocks of plain numbers");
  if constexpr (std::is_const_v<T>) {
    return nullptr;
  } else {
    void* const block = memory_of<T>::allocate(sizeof(T));
    if constexpr (is_on_host<T>)
      return owned<T>(::new (block) T);  // default-initialised: keeps the zeros; std::complex writes its own
    else
      return owned<T>(static_cast<T*>(block));
  }
}

/// A block of zeroed bytes, in which tapes and caches are laid out.
template <class Memory = host_memory>
class buffer_in {
 public:
  buffer_in() = default;
  explicit buffer_in(std::size_t bytes) : size_(bytes) {
    if (bytes > 0) block_.reset(Memory::allocate(bytes));
  }
  [[nodiscard]] std::span<std::byte> bytes() const& { return {static_cast<std::byte*>(block_.get()), size_}; }
  void bytes() const&& = delete;  // a temporary would take its memory along

 private:
  std::unique_ptr<void, detail::block_release<Memory>> block_;
  std::size_t size_ = 0;
};
using buffer = buffer_in<>;

/// Gives the host numbers to read: in place if they are in host memory, else a copy that the next call overwrites.
template <class Memory, class T>
class reader {
 public:
  [[nodiscard]] std::span<const T> operator()(const T* from, index count) {
    const auto size = static_cast<std::size_t>(count);
    if constexpr (std::is_same_v<Memory, host_memory>) {
      return {from, size};
    } else {
      if (copy_.bytes().size() < size * sizeof(T)) copy_ = buffer_in<typename Memory::staging>(size * sizeof(T));
      Memory::copy(copy_.bytes().data(), from, size * sizeof(T));
      return {reinterpret_cast<const T*>(copy_.bytes().data()), size};
    }
  }

 private:
  buffer_in<typename Memory::staging> copy_;
};

/// Gives the host parameters to read, through a pointer: to the parameters themselves, or to a copy of those in another
/// memory.
template <class Parameters>
[[nodiscard]] auto on_host(const Parameters& parameters) {
  if constexpr (is_on_host<Parameters>) {
    return &parameters;
  } else {
    auto copy = make<typename Parameters::on_host>();
    memory_of<Parameters>::copy(copy.get(), &parameters, sizeof parameters);
    return copy;
  }
}
/// Calls f(parameters) where the host can write to them. If f fails, parameters in another memory stay as they were.
template <class Parameters, class F>
void edit_on_host(Parameters& parameters, const F& f) {
  if constexpr (is_on_host<Parameters>) {
    f(parameters);
  } else {
    const auto copy = on_host(parameters);
    f(*copy);
    memory_of<Parameters>::copy(&parameters, copy.get(), sizeof parameters);
  }
}

/// Fails unless the caller's memory is large enough and aligned for `who`.
inline void check_memory(const char* who, std::span<std::byte> memory, std::size_t needed) {
  if (memory.size() < needed || reinterpret_cast<std::uintptr_t>(memory.data()) % alignment != 0)
    fail(who, ": ", memory.size(), " bytes of memory; expected at least ", needed, " at a multiple of ", alignment);
}

}  // namespace fathom
