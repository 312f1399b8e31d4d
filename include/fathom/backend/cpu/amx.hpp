// bf16 products in the tile registers of AMX (Intel, Sapphire Rapids and newer).
//
// A tile register holds 16 rows of 64 bytes: 16 x 16 sums, or 16 rows of 16 words, pairs of bf16. One instruction adds
// the product of two tiles to a third: 8,192 multiply-adds in 16 cycles, sixteen times the rate of float vectors
// (Intel, Software Developer's Manual 2, TDPBF16PS; it rounds to nearest and takes subnormal numbers for 0, as
// vdpbf16ps does). Of the eight registers, four hold 32 x 32 sums, two hold 32 rows of the left operand and two 32
// columns of the right one.
#pragma once

#include <cstdint>

#include "fathom/backend/cpu/simd.hpp"
#include "fathom/core/types.hpp"

#if defined(FATHOM_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

inline constexpr index amx_rows = 32;     // rows and columns of the block of sums
inline constexpr index amx_padding = 16;  // words between rows of a left operand, against cache-set conflicts

#if defined(FATHOM_AMX)

/// Linux saves a thread's tiles only for a process that has requested it, and may refuse. The request is made before
/// main; until then, or if it is refused, products use vectors on the same layouts.
inline const bool amx_is_allowed = [] {
  return syscall(SYS_arch_prctl, 0x1023L, 18L) == 0;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
}();

/// Configures this thread's tiles for its lifetime, each as 16 rows of 64 bytes.
class amx_scope {
 public:
  amx_scope() {
    struct alignas(64) configuration {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(configuration) == 64);
    static constexpr configuration all;
    if (amx_is_allowed) _tile_loadconfig(&all);
  }
  ~amx_scope() {
    if (amx_is_allowed) _tile_release();
  }
  amx_scope(const amx_scope&) = delete;
  amx_scope& operator=(const amx_scope&) = delete;
};

/// sums [32, 32] = a [32, words] b [words, 32], or += if `adds`. Rows of a are `stride` words apart, rows of sums
/// `sums_stride`; rows of b `b_stride`, and its columns from 16 on lie `other` words behind the first ones. words is a
/// multiple of 16. Needs a live amx_scope.
inline void amx_product(const void* a, index stride, const void* b, index b_stride, index other, index words, bool adds, float* sums,
                        index sums_stride) {
  const index row_bytes = 4 * b_stride;
  const index sums_bytes = 4 * sums_stride;
  const auto* left = static_cast<const std::uint32_t*>(a);
  const auto* right = static_cast<const std::uint32_t*>(b);
  float* const lower = sums + amx_rows / 2 * sums_stride;
  asm volatile("" ::: "memory");  // g++ 12 does not know that loading a tile reads memory
  if (adds) {
    _tile_loadd(0, sums, sums_bytes);
    _tile_loadd(1, sums + 16, sums_bytes);
    _tile_loadd(2, lower, sums_bytes);
    _tile_loadd(3, lower + 16, sums_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (index k = 0; k < words; k += amx_words, left += amx_words, right += amx_words * b_stride) {
    _tile_loadd(4, left, 4 * stride);
    _tile_loadd(6, right, row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + other, row_bytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left + 16 * stride, 4 * stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, sums_bytes);
  _tile_stored(1, sums + 16, sums_bytes);
  _tile_stored(2, lower, sums_bytes);
  _tile_stored(3, lower + 16, sums_bytes);
}

#else
inline constexpr bool amx_is_allowed = false;
struct amx_scope {};
void amx_product(const void*, index, const void*, index, index, index, bool, float*, index);  // never called
#endif

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
