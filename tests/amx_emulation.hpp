// AMX on any processor with bf16 products: the instructions as defined in Intel's manual (Software Developer's Manual, volumes
// 1 and 2), in plain C++, under the names of their intrinsics. Include it before any fathom header. fathom is then compiled
// as for a processor with AMX, so that tests can check layouts, shapes and the order of loads.
#pragma once

#include <immintrin.h>  // the intrinsics themselves
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fathom::test::amx {

struct configuration {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
static_assert(sizeof(configuration) == 64);

/// The state of a thread: the configuration is all 0 until it is loaded.
struct registers {
  configuration shape{};
  std::uint8_t tile[8][16][64]{};
};
inline thread_local registers state;
inline std::atomic<long> products{0};

[[noreturn]] inline void fault(const char* what) {
  std::fprintf(stderr, "AMX would fault: %s\n", what);
  std::abort();
}
inline void check(bool is_right, const char* what) {
  if (!is_right) fault(what);
}

inline void loadconfig(const void* from) {
  configuration shape;
  std::memcpy(&shape, from, sizeof shape);
  check(shape.palette == 1, "a palette other than 1");
  for (const std::uint8_t byte : shape.reserved) check(byte == 0, "reserved bytes are not 0");
  for (int t = 0; t < 16; ++t) {
    check(t < 8 ? shape.rows[t] <= 16 && shape.row_bytes[t] <= 64 : shape.rows[t] == 0 && shape.row_bytes[t] == 0,
          "a tile that there is not");
    check((shape.rows[t] == 0) == (shape.row_bytes[t] == 0), "a tile of rows without columns");
  }
  check(state.shape.palette == 0, "a configuration within another: a scope in a scope");
  state = {};
  state.shape = shape;
}
inline void release() { state = {}; }

template <int T>
void zero() {
  check(state.shape.palette == 1, "no configuration");
  std::memset(state.tile[T], 0, sizeof state.tile[T]);
}
template <int T>
void load(const void* from, std::ptrdiff_t stride) {
  zero<T>();
  for (int r = 0; r < state.shape.rows[T]; ++r)
    std::memcpy(state.tile[T][r], static_cast<const char*>(from) + r * stride, state.shape.row_bytes[T]);
}
template <int T>
void store(void* to, std::ptrdiff_t stride) {
  check(state.shape.palette == 1, "no configuration");
  for (int r = 0; r < state.shape.rows[T]; ++r)
    std::memcpy(static_cast<char*>(to) + r * stride, state.tile[T][r], state.shape.row_bytes[T]);
}

/// Whether the process may use tiles; 0 means yes
inline long answer_of_linux(long call, long request, long feature) {
  check(call == SYS_arch_prctl && request == 0x1023 && feature == 18, "a system call that does not ask for tiles");
  return std::getenv("FATHOM_AMX_REFUSED") ? -1 : 0;
}

/// Element i of a row of bf16
inline float half(const std::uint8_t* row, int i) {
  std::uint16_t bits;
  std::memcpy(&bits, row + 2 * i, sizeof bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
template <int To, int A, int B>
void dpbf16ps() {
  const configuration& s = state.shape;
  check(s.palette == 1, "no configuration");
  check(s.row_bytes[To] == s.row_bytes[B] && s.rows[To] == s.rows[A] && s.row_bytes[A] == 4 * s.rows[B],
        "tiles that do not fit each other");
  for (int m = 0; m < s.rows[To]; ++m)
    for (int k = 0; k < s.row_bytes[A] / 4; ++k)
      for (int n = 0; n < s.row_bytes[To] / 4; ++n) {
        float sum;
        std::memcpy(&sum, state.tile[To][m] + 4 * n, sizeof sum);
        sum += half(state.tile[A][m], 2 * k) * half(state.tile[B][k], 2 * n);
        sum += half(state.tile[A][m], 2 * k + 1) * half(state.tile[B][k], 2 * n + 1);
        std::memcpy(state.tile[To][m] + 4 * n, &sum, sizeof sum);
      }
  ++products;
}

}  // namespace fathom::test::amx

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(from) ::fathom::test::amx::loadconfig(from)
#define _tile_release() ::fathom::test::amx::release()
#define _tile_zero(t) ::fathom::test::amx::zero<t>()
#define _tile_loadd(t, from, stride) ::fathom::test::amx::load<t>(from, stride)
#define _tile_stored(t, to, stride) ::fathom::test::amx::store<t>(to, stride)
#define _tile_dpbf16ps(to, a, b) ::fathom::test::amx::dpbf16ps<to, a, b>()
#if !defined(__AMX_TILE__) && !defined(__AMXTILE__)
#define __AMX_TILE__ 1
#define __AMX_BF16__ 1
#endif

#define syscall ::fathom::test::amx::answer_of_linux
#include <fathom/backend/cpu/amx.hpp>
#undef syscall
