// Operands of attention for tensor cores: bf16, in whole 16 bytes, with heads of a width that has a kernel. Other
// operands are rounded into scratch memory, each head zero-padded.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fathom/backend/cuda/attention_decode.cuh"
#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/cuda/attention_shape.cuh"
#include "fathom/backend/cuda/device.cuh"
#include "fathom/core/bf16.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda::attention {

/// Rounds x [rows, heads of head_width] to [rows, heads of Width]; columns from head_width on are 0.
template <class T>
struct rounding {
  const T* x;
  index stride;
  bf16* to;
  index rows;
  int heads;
  bool of_memory;  // x is keys or values: rows that no query sees are skipped
};
template <class T>
struct roundings {
  rounding<T> of[4];
};
/// grid: blocks of 256 times 8 numbers; index of the rounding
template <class T>
__global__ void __launch_bounds__(256) round_operands(attention_size s, int width, roundings<T> all) {
  const rounding<T> r = all.of[blockIdx.y];
  const index i = static_cast<index>(blockIdx.x) * 256 + threadIdx.x;
  const int chunks = r.heads * width / 8, chunk = static_cast<int>(i % chunks);
  const index row = i / chunks;
  if (row >= r.rows) return;
  if (r.of_memory) {
    const int sequence = static_cast<int>(row / s.memory_rows), at = static_cast<int>(row % s.memory_rows);
    if (at < s.sees_from(sequence, 0) || at >= s.sees_to(sequence, s.queries - 1)) return;
  }
  const int head = chunk * 8 / width, first = chunk * 8 % width, there = s.head_width - first;
  const T* const x = r.x + row * r.stride + head * s.head_width + first;
  float numbers[8];
  const bool whole = there >= 8 && reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  load_numbers(numbers, x, there, whole);
  *reinterpret_cast<uint4*>(r.to + i * 8) = make_uint4(pack_bf16(numbers[0], numbers[1]), pack_bf16(numbers[2], numbers[3]),
                                                       pack_bf16(numbers[4], numbers[5]), pack_bf16(numbers[6], numbers[7]));
}

/// Operands of a product for the kernels on tensor cores: rounded copies in scratch memory, or in place.
template <int Width, class T, class On>
class rounded {
 public:
  rounded(const On& on, const char* operation, const attention_size& s) : on_(on), operation_(operation), s_(s) {}

  /// Copied keys and values (the bits of `of_memory`) begin with the first sequence, as `s` says for kernels.
  template <std::size_t N>
  std::array<rows_of_heads<const bf16>, N> operator()(const std::array<matrix<const T>, N>& all, std::size_t of_memory,
                                                      attention_size& s) {
    const bool as_they_are = std::all_of(all.begin(), all.end(), [&](const auto& m) {
      return std::is_same_v<T, bf16> && s_.head_width == Width && m.stride % 8 == 0 &&
             reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0;
    });
    std::array<rows_of_heads<const bf16>, N> found{};
    s = s_;
    if (as_they_are) {
      if constexpr (std::is_same_v<T, bf16>)
        for (std::size_t i = 0; i < N; ++i) found[i] = heads_of(all[i], s_);
      return found;
    }
    s.first = 0;
    roundings<T> jobs{};
    index most = 0;
    for (std::size_t i = 0; i < N; ++i) {
      const bool memory = of_memory >> i & 1;
      const int heads = memory ? s_.heads / s_.group : s_.heads;
      const index rows = s_.sequences * static_cast<index>(memory ? s_.memory_rows : s_.queries);
      const index columns = static_cast<index>(heads) * Width;
      const index first = memory ? s_.first * static_cast<index>(s_.memory_rows) : 0;
      jobs.of[i] = {all[i].row(first), all[i].stride, on_.template scratch<bf16>(rows * columns), rows, heads, memory};
      found[i] = {jobs.of[i].to, columns, Width};
      most = std::max(most, rows * columns);
    }
    const unsigned blocks = blocks_of(operation_, (most / 8 + 255) / 256);
    launch(operation_, {{blocks, static_cast<unsigned>(N)}, 256}, on_.stream(), &round_operands<T>, s, Width, jobs);
    return found;
  }

 private:
  const On& on_;
  const char* operation_;
  attention_size s_;
};

}  // namespace fathom::cuda::attention
