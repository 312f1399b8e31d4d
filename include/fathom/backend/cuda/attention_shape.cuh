// An attention_shape (operations.hpp) as kernels know it, and the choice among kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "fathom/backend/cuda/attention_parts.cuh"
#include "fathom/backend/operations.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cuda {

/// The widest heads that attention has kernels for.
inline constexpr index largest_head_width = 256;

namespace attention {

inline constexpr index most_blocks = 0x7fffffff;

inline unsigned blocks_of(const char* operation, index blocks) {
  if (blocks > most_blocks) fail("cuda: ", operation, ": work for ", blocks, " blocks; at most ", most_blocks, " fit a launch");
  return static_cast<unsigned>(blocks);
}

inline attention_size size_of(const char* operation, const attention_shape& s) {
  if (s.head_width > largest_head_width)
    fail("cuda: ", operation, ": heads of ", s.head_width, " columns; at most ", largest_head_width, " are supported");
  const index most = 1 << 30;  // so that sums of a few fit 32 bits
  if (s.memory_rows > most || s.queries > most || s.sequences * s.heads > most)
    fail("cuda: ", operation, ": ", s.sequences, " sequences of ", s.heads, " heads, ", s.queries, " queries and ", s.memory_rows,
         " rows of memory; each may have up to ", most);
  if (s.heads > 0 && s.heads % s.key_heads() != 0)
    fail("cuda: ", operation, ": ", s.heads, " heads over ", s.kv_heads, " of keys and values; expected a divisor");
  if (s.window < 0 || (s.window > 0 && s.sees_all))
    fail("cuda: ", operation, ": a window of ", s.window, " positions", s.sees_all ? " in a memory that is seen whole" : "",
         "; expected 0, for none", s.sees_all ? "" : ", or more");
  const auto n = [](index i) { return static_cast<int>(i); };
  const index no_window = s.memory_rows + s.queries;
  // Keys and values of this many heads, at most 4 bytes a number, fill a third of the L2 cache (50 MB on Hopper).
  const index at_once = std::max<index>((index{16} << 20) / std::max<index>(s.memory_rows * s.head_width * 8, 1), 64);
  return {.sequences = n(s.sequences),
          .queries = n(s.queries),
          .heads = n(s.heads),
          .head_width = n(s.head_width),
          .rows_per_position = n(s.sees_all ? 1 : s.rows_per_position),
          .memory_rows = n(s.memory_rows),
          .first = n(s.first),
          .starts = s.sees_all ? nullptr : s.starts,
          .position = n(s.sees_all ? s.memory_rows - 1 : 0),
          .group = n(s.heads > 0 ? s.group_size() : 1),
          .window_rows = n(s.window > 0 && s.window < no_window / s.rows_per_position ? s.window * s.rows_per_position : no_window),
          .heads_at_once = n(std::min(at_once, s.sequences * s.heads)),
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_width))),
          .slopes = {},
          .held = s.held};
}
/// The most rows of memory that a query sees.
[[nodiscard]] inline index most_seen(const attention_size& s) { return std::min(s.memory_rows, s.window_rows); }

template <class T>
rows_of_heads<T> heads_of(const matrix<T>& m, const attention_size& s) {
  return {m.data, m.stride, s.head_width};
}

/// Calls f(general), a constant: whether query heads share key/value heads, there is a window, or memory is unordered.
template <class F>
void with_generality(const attention_shape& s, const F& f) {
  if (s.group_size() > 1 || s.window > 0 || s.sees_all)
    f(std::true_type());
  else
    f(std::false_type());
}

/// Calls f(width), a constant: the smallest of the widths that is at least head_width.
template <int Width, int... More, class F>
void with_width(int head_width, const F& f) {
  if (head_width <= Width)
    f(std::integral_constant<int, Width>());
  else if constexpr (sizeof...(More) > 0)
    with_width<More...>(head_width, f);
}
template <class F>
void with_tensor_width(int head_width, const F& f) {
  with_width<16, 32, 64, 128>(head_width, f);
}
template <class Compute, class F>
void with_plain_width(int head_width, const F& f) {
  if constexpr (std::is_same_v<Compute, bf16>)
    with_width<256>(head_width, f);  // heads too wide for tensor cores
  else
    with_width<32, 64, 128, 256>(head_width, f);
}
template <class F>
void with_decode_width(int head_width, const F& f) {
  with_width<16, 32, 64, 128, 256>(head_width, f);
}

}  // namespace attention
}  // namespace fathom::cuda
