// Tiles of a head's rows in shared memory, in bf16, and how tensor cores read and write them.
//
// Tiles have two buffers: cp.async fills one while the other is used, with one barrier per tile. Within a row, groups
// of 8 numbers (16 bytes) are permuted by row (`swizzled`), so that the 8 rows of one ldmatrix are in different banks.
#pragma once

#include <cstdint>
#include <type_traits>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

inline constexpr int warps = 4, threads = 32 * warps;  // of a block

/// The offset of the 8 numbers `chunk` of a row in a tile [rows, Width].
template <int Width>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  constexpr int shift = Width >= 64 ? 0 : Width == 32 ? 1 : 2;  // 1, 2, 4 rows fill the 128 bytes of all banks
  constexpr int chunks = Width >= 64 ? 8 : Width / 8;
  return row * Width + (chunk ^ ((row >> shift) & (chunks - 1))) * 8;
}

/// Starts copying x [Rows, Width] to a tile; only `there` rows exist, and the others become 0.
template <int Width, int Rows, int Threads>
__device__ __forceinline__ void load_tile(bf16* tile, const bf16* x, index stride, int there) {
  constexpr int chunks = Width / 8, turns = Rows * chunks / Threads;
  static_assert(turns * Threads == Rows * chunks);
  const int first = thread() / chunks, chunk = thread() % chunks;
  const bf16* from = x + first * stride + chunk * 8;
  FATHOM_CUDA_UNROLL
  for (int turn = 0; turn < turns; ++turn) {
    const int row = first + turn * (Threads / chunks);
    copy_async(tile + swizzled<Width>(row, chunk), from, row < there);
    from += Threads / chunks * stride;
  }
}

/// Left operand of a product, [16, 16]: rows [row, row + 16) of the tile, columns [16 step, 16 step + 16).
template <int Width>
__device__ __forceinline__ void load_left(std::uint32_t (&a)[4], const bf16* tile, int row, int step) {
  const int lane = thread() % 32;
  load_matrices(a, tile + swizzled<Width>(row + lane % 16, 2 * step + lane / 16));
}
/// Two right operands, [16, 8] each: the tile's columns [16 step, + 16) down, its rows [row, + 8) and [row + 8, + 8)
/// across, in b[0], b[1] and b[2], b[3].
template <int Width>
__device__ __forceinline__ void load_right_transposed(std::uint32_t (&b)[4], const bf16* tile, int row, int step) {
  const int lane = thread() % 32;
  load_matrices(b, tile + swizzled<Width>(row + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
}
/// Two right operands, [16, 8] each: the tile's rows [row, row + 16) down, its columns [16 step, + 8) and
/// [16 step + 8, + 8) across.
template <int Width>
__device__ __forceinline__ void load_right(std::uint32_t (&b)[4], const bf16* tile, int row, int step) {
  const int lane = thread() % 32;
  load_matrices<true>(b, tile + swizzled<Width>(row + lane % 16, 2 * step + lane / 16));
}
/// Sums of two neighbouring products [16, 8] as the left operand [16, 16] of the next product.
__device__ __forceinline__ void as_left(std::uint32_t (&a)[4], const float (&x)[4], const float (&y)[4]) {
  a[0] = pack_bf16(x[0], x[1]);
  a[1] = pack_bf16(x[2], x[3]);
  a[2] = pack_bf16(y[0], y[1]);
  a[3] = pack_bf16(y[2], y[3]);
}

/// to [16, head_width] = sums [16, Width], rows group times `upper`, rows group + 8 times `lower`; skips rows from
/// `there` on and columns from head_width on. `stage` is a free buffer of the warp for [16, Width] bf16.
template <int Width, class T>
__device__ __forceinline__ void store_rows(const float (&sums)[Width / 8][4], float upper, float lower, bf16* stage, T* to,
                                           index stride, int there, int head_width) {
  const int lane = thread() % 32, group = lane / 4, member = lane % 4;
  constexpr int together = 16 / static_cast<int>(sizeof(T));
  const bool whole = head_width == Width && reinterpret_cast<std::uintptr_t>(to) % 16 == 0 && stride % together == 0;
  if (!whole) {
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 8; ++c)
      FATHOM_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = group + i / 2 * 8, column = 8 * c + 2 * member + i % 2;
        if (row < there && column < head_width)
          to[row * stride + column] = from_float<T>(sums[c][i] * (i / 2 ? lower : upper));
      }
  } else if constexpr (std::is_same_v<T, float>) {  // four lanes write the 32 bytes of a sector
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 8; ++c) {
      float* const at = to + group * stride + 8 * c + 2 * member;
      if (group < there) *reinterpret_cast<float2*>(at) = make_float2(sums[c][0] * upper, sums[c][1] * upper);
      if (group + 8 < there) *reinterpret_cast<float2*>(at + 8 * stride) = make_float2(sums[c][2] * lower, sums[c][3] * lower);
    }
  } else {
    FATHOM_CUDA_UNROLL
    for (int c = 0; c < Width / 8; ++c) {
      const auto at = [&](int row) { return reinterpret_cast<std::uint32_t*>(stage + swizzled<Width>(row, c) + 2 * member); };
      *at(group) = pack_bf16(sums[c][0] * upper, sums[c][1] * upper);
      *at(group + 8) = pack_bf16(sums[c][2] * lower, sums[c][3] * lower);
    }
    __syncwarp();
    constexpr int chunks = Width / 8;
    for (int i = lane; i < 16 * chunks; i += 32) {
      const int row = i / chunks, chunk = i % chunks;
      if (row < there)
        *reinterpret_cast<uint4*>(to + row * stride + chunk * 8) =
            *reinterpret_cast<const uint4*>(stage + swizzled<Width>(row, chunk));
    }
    __syncwarp();
  }
}

}  // namespace fathom::cuda::attention
