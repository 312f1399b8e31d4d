// Matrix products on the CPU.
//
// The right operand is brought into panels of tile_columns columns, [depth][tile_columns], so that the inner loop reads it
// front to back; the left one is read where it lies. A panel is made by the task that uses it, on its stack. Every element
// is summed up by one task in the order of k, whatever the shape of the tasks and the number of threads.
#pragma once

#include <algorithm>
#include <type_traits>

#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/storage.hpp"

namespace fathom::cpu {

template <class On>
using in = matrix<const typename On::scalar>;
template <class On>
using out = matrix<typename On::scalar>;

namespace detail {

inline constexpr index block_depth = 512;  // of a panel: at most 64 KiB, which the second-level cache holds with room
inline constexpr index block_rows = 512;   // of the left operand, that one panel is made for

/// The operands of a product in compute type bf16 are rounded to it; products and sums stay in float.
template <class Compute, class T>
[[nodiscard]] inline T rounded(T x) {
  if constexpr (std::is_same_v<Compute, bf16>)
    return static_cast<float>(bf16(x));
  else
    return x;
}
template <class Compute, class T>
inline void round_all(T* values, index count) {
  if constexpr (std::is_same_v<Compute, bf16>)
    for (index i = 0; i < count; ++i) values[i] = rounded<Compute>(values[i]);
}

/// panel [depth][tile_columns] = w [depth, columns], padded with zeros
template <class T>
inline void make_panel(const T* w, index stride, index depth, index columns, T* panel) {
  constexpr index N = tile_columns<T>;
  for (index k = 0; k < depth; ++k, w += stride, panel += N) {
    if (columns == N)
      unroll<2>([&](auto j) __attribute__((always_inline)) {
        vec<T>::load_unaligned(w + static_cast<index>(j) * lanes<T>).store_unaligned(panel + static_cast<index>(j) * lanes<T>);
      });
    else
      for (index j = 0; j < N; ++j) panel[j] = j < columns ? w[j] : T(0);
  }
}

/// y(i.., j..) = epilogue(tile), for the `rows` x `columns` numbers of the tile that are part of y.
template <class T, index Rows, class Epilogue>
[[gnu::always_inline]] inline void store_tile(const tile<T, Rows>& acc, const matrix<T>& y, index i, index j, index rows,
                                              index columns, const Epilogue& epilogue) {
  if (rows == Rows && columns == tile_columns<T>) {
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
      const index row = i + static_cast<index>(r);
      T* const to = y.row(row) + j;
      epilogue(acc.at[r][0], row, j).store_unaligned(to);
      epilogue(acc.at[r][1], row, j + lanes<T>).store_unaligned(to + lanes<T>);
    });
    return;
  }
  T edge[Rows * tile_columns<T>];
  acc.store(edge, tile_columns<T>);
  for (index r = 0; r < rows; ++r)
    for (index c = 0; c < columns; ++c) y(i + r, j + c) = epilogue(edge[r * tile_columns<T> + c], i + r, j + c);
}

/// The tile of rows [i, i + rows) that a product needs of x, columns [k, k + depth): where it lies, or, when rows are
/// missing or must be rounded, a copy [depth][tile_rows] with zeros for the missing.
template <class Compute, class T, class F>
[[gnu::always_inline]] inline void with_left_operand(const matrix<const T>& x, index i, index rows, index k, index depth,
                                                     T* copy, const F& f) {
  if (rows == tile_rows && !std::is_same_v<Compute, bf16>) {
    f(std::integral_constant<order, order::rows>(), x.row(i) + k, x.stride);
    return;
  }
  for (index r = 0; r < tile_rows; ++r)
    for (index d = 0; d < depth; ++d) copy[d * tile_rows + r] = r < rows ? rounded<Compute>(x(i + r, k + d)) : T(0);
  f(std::integral_constant<order, order::columns>(), copy, tile_rows);
}

/// y = epilogue(x w) with `panel_of(j, columns, k, depth, panel)` to make the panels of w.
template <class Compute, class T, class Panel, class Epilogue, class On>
void product(const On& on, const matrix<const T>& x, const matrix<T>& y, const Panel& panel_of, const Epilogue& epilogue) {
  constexpr index N = tile_columns<T>;
  const index panels = (y.columns + N - 1) / N, row_blocks = (y.rows + block_rows - 1) / block_rows;
  const index rows_of_block = ((y.rows + row_blocks - 1) / std::max<index>(row_blocks, 1) + tile_rows - 1) / tile_rows * tile_rows;
  on.tasks(panels * row_blocks, [&](index task) {
    const index j = task % panels * N, columns = std::min(N, y.columns - j);
    const index first = task / panels * rows_of_block, last = std::min(y.rows, first + rows_of_block);
    alignas(alignment) T panel[block_depth * N];
    alignas(alignment) T left[block_depth * tile_rows];
    alignas(alignment) T partial[block_rows + tile_rows][N];  // sums so far, between blocks of the depth
    for (index k = 0; k < x.columns; k += block_depth) {
      const index depth = std::min(block_depth, x.columns - k);
      panel_of(j, columns, k, depth, panel);
      for (index i = first; i < last; i += tile_rows) {
        const index rows = std::min(tile_rows, last - i);
        with_left_operand<Compute>(x, i, rows, k, depth, left, [&](auto order_of_a, const T* a, index lda) {
          tile<T> acc;
          if (k == 0)
            acc.clear();
          else
            acc.load(partial[i - first], N);
          acc.template add_product<order_of_a()>(a, lda, panel, N, depth);
          if (k + depth < x.columns)
            acc.store(partial[i - first], N);
          else
            store_tile(acc, y, i, j, rows, columns, epilogue);
        });
      }
    }
  });
}

}  // namespace detail

/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class C, class T, class Epilogue>
void matmul(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> w, out<context<C, T>> y,
            const Epilogue& epilogue) {
  detail::product<C, T>(on, x, y, [&](index j, index columns, index k, index depth, T* panel) {
    detail::make_panel(w.row(k) + j, w.stride, depth, columns, panel);
    detail::round_all<C>(panel, depth * tile_columns<T>);
  }, epilogue);
}

/// y [M, N] = epilogue(x [M, K] w [N, K]^T)
template <class C, class T, class Epilogue>
void matmul_nt(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> w, out<context<C, T>> y,
               const Epilogue& epilogue) {
  detail::product<C, T>(on, x, y, [&](index j, index columns, index k, index depth, T* panel) {
    transpose(w.row(j) + k, w.stride, columns, depth, panel, tile_columns<T>, tile_columns<T>);
    detail::round_all<C>(panel, depth * tile_columns<T>);
  }, epilogue);
}

/// g [K, N] += x [M, K]^T y [M, N]
template <class C, class T>
void matmul_tn(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> y, out<context<C, T>> g) {
  constexpr index N = tile_columns<T>, rows_of_block = 128;
  const index panels = (g.columns + N - 1) / N, row_blocks = (g.rows + rows_of_block - 1) / rows_of_block;
  on.tasks(panels * row_blocks, [&](index task) {
    const index j = task % panels * N, columns = std::min(N, g.columns - j);
    const index first = task / panels * rows_of_block, last = std::min(g.rows, first + rows_of_block);
    constexpr index block_depth = 256;
    alignas(alignment) T panel[block_depth * N];
    alignas(alignment) T left[block_depth * tile_rows];
    for (index k = 0; k < x.rows; k += block_depth) {
      const index depth = std::min(block_depth, x.rows - k);
      detail::make_panel(y.row(k) + j, y.stride, depth, columns, panel);
      detail::round_all<C>(panel, depth * N);
      for (index i = first; i < last; i += tile_rows) {
        const index rows = std::min(tile_rows, last - i);
        const T* a = x.row(k) + i;
        index lda = x.stride;
        if (rows < tile_rows || std::is_same_v<C, bf16>) {
          for (index d = 0; d < depth; ++d)
            for (index r = 0; r < tile_rows; ++r)
              left[d * tile_rows + r] = r < rows ? detail::rounded<C>(x(k + d, i + r)) : T(0);
          a = left;
          lda = tile_rows;
        }
        tile<T> acc;
        acc.clear();
        acc.template add_product<order::columns>(a, lda, panel, N, depth);
        detail::store_tile(acc, g, i, j, rows, columns, epilogue::add<T>{g});
      }
    }
  });
}

/// y [M, N] = epilogue(x [M, K] w), w packed. One row, which is what decoding one sequence has, streams the weights
/// through; more rows share them, tile by tile.
template <class C, class T, class P, index In, index Out, class Epilogue>
void matmul(const context<C, T>& on, in<context<C, T>> x, const packed_matrix<P, In, Out>& w, out<context<C, T>> y,
            const Epilogue& epilogue) {
  using panel_type = packed_panel<P, In>;
  constexpr index N = tile_columns<T>;
  on.tasks((Out + N - 1) / N, [&](index task) {
    const panel_type& panel = w.panels[task];
    const index j = task * N, columns = std::min(N, Out - j);
    if (x.rows == 1) {
      tile<T, 1> acc = row_panel_product(x.row(0), panel);
      panel.scale(acc);
      detail::store_tile(acc, y, 0, j, 1, columns, epilogue);
      return;
    }
    alignas(alignment) T left[detail::block_depth * tile_rows];
    for (index i = 0; i < x.rows; i += tile_rows) {
      const index rows = std::min(tile_rows, x.rows - i);
      tile<T> acc;
      acc.clear();
      for (index k = 0; k < In; k += detail::block_depth) {
        const index depth = std::min(detail::block_depth, In - k);
        detail::with_left_operand<T>(x, i, rows, k, depth, left, [&](auto order_of_a, const T* a, index lda) {
          add_panel_product<order_of_a()>(acc, a, lda, panel, k, depth);
        });
      }
      panel.scale(acc);
      detail::store_tile(acc, y, i, j, rows, columns, epilogue);
    }
  });
}

/// Logits: y [M, V] = epilogue(x [M, E] w^T), w a packed table of V rows.
template <class C, class T, class P, index V, index E, class Epilogue>
void matmul_nt(const context<C, T>& on, in<context<C, T>> x, const packed_head<P, V, E>& w, out<context<C, T>> y,
               const Epilogue& epilogue) {
  matmul(on, x, w.transposed, y, epilogue);
}

// Weights that are tensors are matrices.
template <class C, class T, index... Extents, class Epilogue>
void matmul(const context<C, T>& on, in<context<C, T>> x, const tensor<T, Extents...>& w, out<context<C, T>> y,
            const Epilogue& epilogue) {
  matmul(on, x, w.view(), y, epilogue);
}
template <class C, class T, index... Extents, class Epilogue>
void matmul_nt(const context<C, T>& on, in<context<C, T>> x, const tensor<T, Extents...>& w, out<context<C, T>> y,
               const Epilogue& epilogue) {
  matmul_nt(on, x, w.view(), y, epilogue);
}

}  // namespace fathom::cpu
