// Matrix products on the CPU.
//
// A task makes a block of the result: up to block_rows rows by up to block_panels panels of tile_columns columns. It goes
// through the depth of the product in blocks. Of each, the left operand is brought into an order that the register tile
// reads front to back (where it does not lie so already), then each panel of the right one, [words][tile_columns]; the
// panel stays in the first-level cache while the tiles of all rows go over it. Every element is summed up by one task in
// the order of k, whatever the shape of the tasks and the number of threads.
#pragma once

#include <algorithm>
#include <type_traits>

#include "fathom/backend/cpu/operand.hpp"
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

inline constexpr index block_words = 256;   // of the depth: a panel is then 32 KiB at most
inline constexpr index block_rows = 512;    // of the result
inline constexpr index block_panels = 8;    // of the result's columns
inline constexpr index packed_panels = 4;   // at a time: rows of the right operand are then read some lines at a time

/// The sums of a register tile: a b, added to `sums` [tile_rows, tile_columns] unless is_first.
template <class Operand, order Order, class T>
[[gnu::always_inline]] inline void multiply_tile(const T* a, index lda, const T* b, index words, bool is_first, const T* sums,
                                                 tile<T>& acc) {
  constexpr index N = tile_columns<T>, W = lanes<T>;
  if (is_first)
    acc.clear();
  else
    acc.load(sums, N);
  for (index k = 0; k < words; ++k) {
    const auto b0 = vec<T>::load_aligned(b), b1 = vec<T>::load_aligned(b + W);
    unroll<tile_rows>([&](auto r) __attribute__((always_inline)) {
      const vec<T> left(Order == order::rows ? a[static_cast<index>(r) * lda] : a[static_cast<index>(r)]);
      acc.at[r][0] = Operand::multiply_add(left, b0, acc.at[r][0]);
      acc.at[r][1] = Operand::multiply_add(left, b1, acc.at[r][1]);
    });
    a += Order == order::rows ? 1 : lda;
    b += N;
  }
}

/// A tile of y [rows, columns] at (i, j) = epilogue(a b + sums), or, while the depth goes on, sums = a b + sums: a
/// [Operand::rows_of_tile, words] in `Order`, b [words, tile_columns], sums [Operand::rows_of_tile, tile_columns].
template <class Operand, order Order, class T, class Epilogue>
[[gnu::noinline]] inline void tile_product(const T* a, index lda, const T* b, index words, bool is_first, bool is_last,
                                           T* sums, const matrix<T>& y, index i, index j, index rows,
                                           const Epilogue& epilogue) {
  constexpr index N = tile_columns<T>, W = lanes<T>;
  const auto store_row = [&](const vec<T>& sums0, const vec<T>& sums1, index row) __attribute__((always_inline)) {
    T* const to = y.row(row) + j;
    epilogue(sums0, row, j).store_unaligned(to);
    epilogue(sums1, row, j + W).store_unaligned(to + W);
  };
  const bool whole = rows == Operand::rows_of_tile && j + N <= y.columns;
  if constexpr (Operand::rows_of_tile > tile_rows) {
    if (amx_is_allowed) {
      amx_product(a, lda, b, words, is_first, sums);
    } else {
      for (index r = 0; r < Operand::rows_of_tile; r += tile_rows) {
        tile<T> acc;
        multiply_tile<Operand, Order>(a + r * lda, lda, b, words, is_first, sums + r * N, acc);
        acc.store(sums + r * N, N);
      }
    }
  } else {
    tile<T> acc;
    multiply_tile<Operand, Order>(a, lda, b, words, is_first, sums, acc);
    if constexpr (!requires { Epilogue::is_long; })
      if (is_last && whole) {
        unroll<tile_rows>([&](auto r) __attribute__((always_inline)) {
          store_row(acc.at[r][0], acc.at[r][1], i + static_cast<index>(r));
        });
        return;
      }
    acc.store(sums, N);
  }
  if (!is_last) return;
  if (whole) {
    for (index r = 0; r < Operand::rows_of_tile; ++r)
      store_row(vec<T>::load_aligned(sums + r * N), vec<T>::load_aligned(sums + r * N + W), i + r);
    return;
  }
  for (index r = 0; r < rows; ++r)
    for (index c = 0; c < std::min(N, y.columns - j); ++c) y(i + r, j + c) = epilogue(sums[r * N + c], i + r, j + c);
}

/// How a result [rows, columns] is divided among tasks. Large blocks pack less, and one rank takes the largest; for several
/// there should be four tasks each, so that they have something to share, and of the smallest results four in all. What is
/// summed in which order does not depend on it.
struct blocking {
  index rows = block_rows, panels = block_panels;  // of a block
  index across;  // blocks side by side
  index count;   // in all

  blocking(index y_rows, index y_columns, index of_tile, index panel_columns, int ranks) {
    const index wanted = ranks == 1 ? 1 : 4 * static_cast<index>(ranks);
    const index all_panels = (y_columns + panel_columns - 1) / panel_columns;
    const auto tasks = [&] {
      across = (all_panels + panels - 1) / panels;
      return across * ((y_rows + rows - 1) / rows);
    };
    while ((count = tasks()) < wanted)
      if (panels > 4)
        panels /= 2;
      else if (rows > 64)
        rows /= 2;
      else if (count >= 4 || rows == of_tile)
        break;
      else if (rows > 32 || panels == 1)
        rows /= 2;
      else
        panels /= 2;
  }
};

/// y = epilogue(left right): `left_of(i, rows, k, words, copy)` brings the rows [i, i + rows) of the left operand into whole
/// tiles, in `copy` or where they lie, and returns where each of them is (left_rows, left_tiles);
/// `panels_of(j, columns, k, words, panels)` makes panels of the right one, one after the other. i, j count rows and columns
/// of y; k and words count words of the depth. A task needs 1.2 MiB of stack in float, 1.8 in double.
template <class Operand, order Order, class T, class Left, class Panels, class Epilogue, class On>
void product(const On& on, index depth_words, const matrix<T>& y, const Left& left_of, const Panels& panels_of,
             const Epilogue& epilogue) {
  constexpr index N = tile_columns<T>;
  constexpr index R = Operand::rows_of_tile;
  const blocking blocks(y.rows, y.columns, R, N, on.size());
  on.tasks(blocks.count, [&](index task) {
    const index first = task / blocks.across * blocks.rows, last = std::min(y.rows, first + blocks.rows);
    const index first_column = task % blocks.across * blocks.panels * N;
    const index last_column = std::min(y.columns, first_column + blocks.panels * N);
    constexpr index between = std::max<index>(8, Operand::row_padding);
    static_assert(tile_columns<T> <= between * tile_rows);  // what left_tiles puts between tiles
    alignas(alignment) T left[(block_words + between) * (block_rows + R)];
    alignas(alignment) T panels[packed_panels * block_words * N];
    // Sums so far, a panel after the other, where the depth has several blocks.
    alignas(alignment) T partial[block_panels * (block_rows + R) * N];
    [[maybe_unused]] const typename Operand::scope scope{};
    for (index k = 0; k < depth_words; k += block_words) {
      const index words = std::min(block_words, depth_words - k);
      const bool is_last = k + words == depth_words;
      const auto a = left_of(first, last - first, k, words, left);
      for (index j = first_column; j < last_column; j += N) {
        const index turn = (j - first_column) / N % packed_panels;
        const T* const panel = panels + turn * words * N;
        if (turn == 0) panels_of(j, std::min(packed_panels * N, last_column - j), k, words, panels);
        T* sums = partial + (j - first_column) * (block_rows + R);
        for (index i = first; i < last; i += R) {
          const auto [from, lda] = a.tile(i - first);
          tile_product<Operand, Order>(from, lda, panel, words, k == 0, is_last, sums, y, i, j,
                                       std::min(R, last - i), epilogue);
          if (depth_words > block_words) sums += R * N;
        }
      }
    }
  });
}

/// Where the tiles of a left operand lie: `whole` rows at `data`, and what is left of them, padded, at `rest`.
template <class T>
struct left_rows {
  const T* data;
  index lda;
  index whole;
  const T* rest;
  index rest_lda;
  struct place {
    const T* from;
    index lda;
  };
  [[nodiscard]] place tile(index row) const {
    return row < whole ? place{data + row * lda, lda} : place{rest, rest_lda};
  }
};
/// The same for a left operand that is packed in tiles, [words][tile_rows], tile_stride apart
template <class T>
struct left_tiles {
  const T* data;
  index tile_stride;
  struct place {
    const T* from;
    index lda;
  };
  [[nodiscard]] place tile(index row) const { return {data + row / tile_rows * tile_stride, tile_rows}; }
};

/// The left operand of x w: rows of x, where they lie if the processor multiplies them as they are.
template <class Operand, class T>
[[nodiscard]] auto rows_of(const matrix<const T>& x) {
  return [x](index i, index rows, index k, index words, T* copy) -> left_rows<T> {
    constexpr index per_word = Operand::numbers_per_word;
    const index whole = rows / Operand::rows_of_tile * Operand::rows_of_tile, depth = std::min(words * per_word, x.columns - k * per_word);
    if constexpr (Operand::as_it_lies) {
      if (whole < rows) Operand::pack_rows(x.row(i + whole) + k, x.stride, rows - whole, depth, copy, words);
      return {x.row(i) + k, x.stride, whole, copy, words};
    } else {
      const index stride = words + Operand::row_padding;
      Operand::pack_rows(x.row(i) + k * per_word, x.stride, rows, depth, copy, stride);
      return {copy, stride, rows, copy, stride};
    }
  };
}

/// The left operand of x^T y: columns of x.
template <class Operand, class T>
[[nodiscard]] auto columns_of(const matrix<const T>& x) {
  return [x](index i, index rows, index k, index words, T* copy) {
    constexpr index per_word = Operand::numbers_per_word;
    const index depth = std::min(words * per_word, x.rows - k * per_word);
    if constexpr (Operand::columns_order == order::rows) {
      const index stride = words + Operand::row_padding;
      Operand::pack_columns_as_rows(x.row(k * per_word) + i, x.stride, depth, rows, copy, stride);
      return left_rows<T>{copy, stride, rows, copy, stride};
    } else {
      const index tile_stride = words * tile_rows + tile_columns<T>;  // not a multiple of a page: tiles share no cache sets
      Operand::pack_tiles(x.row(k * per_word) + i, x.stride, depth, rows, copy, tile_stride);
      return left_tiles<T>{copy, tile_stride};
    }
  };
}

}  // namespace detail

/// y [M, N] = epilogue(x [M, K] w [K, N])
template <class C, class T, class Epilogue>
void matmul(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> w, out<context<C, T>> y,
            const Epilogue& epilogue) {
  using operand = detail::operand<C, T>;
  constexpr index per_word = operand::numbers_per_word;
  detail::product<operand, order::rows>(
      on, operand::words(x.columns), y, detail::rows_of<operand>(x),
      [&](index j, index columns, index k, index words, T* panels) {
        operand::pack_columns(w.row(k * per_word) + j, w.stride, std::min(words * per_word, x.columns - k * per_word),
                              columns, panels);
      },
      epilogue);
}

/// y [M, N] = epilogue(x [M, K] w [N, K]^T)
template <class C, class T, class Epilogue>
void matmul_nt(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> w, out<context<C, T>> y,
               const Epilogue& epilogue) {
  using operand = detail::operand<C, T>;
  constexpr index per_word = operand::numbers_per_word;
  detail::product<operand, order::rows>(
      on, operand::words(x.columns), y, detail::rows_of<operand>(x),
      [&](index j, index columns, index k, index words, T* panels) {
        operand::pack_transposed(w.row(j) + k * per_word, w.stride, columns,
                                 std::min(words * per_word, x.columns - k * per_word), panels);
      },
      epilogue);
}

/// g [K, N] += x [M, K]^T y [M, N]
template <class C, class T>
void matmul_tn(const context<C, T>& on, in<context<C, T>> x, in<context<C, T>> y, out<context<C, T>> g) {
  using operand = detail::operand<C, T>;
  constexpr index per_word = operand::numbers_per_word;
  detail::product<operand, operand::columns_order>(
      on, operand::words(x.rows), g, detail::columns_of<operand>(x),
      [&](index j, index columns, index k, index words, T* panels) {
        operand::pack_columns(y.row(k * per_word) + j, y.stride, std::min(words * per_word, x.rows - k * per_word), columns,
                              panels);
      },
      epilogue::add<T>{g});
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
