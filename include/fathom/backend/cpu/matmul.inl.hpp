// Matrix products on the CPU: definitions for matmul.hpp.
//
// A task makes a block of the result: up to some hundred rows by up to block_panels panels of tile_columns columns. It goes
// through the depth of the product in blocks. Of each, the left operand is brought into an order that the register tile
// reads front to back (where it does not lie so already), then each panel of the right one, [words][tile_columns]; the
// panel stays in the first-level cache while the tiles of all rows go over it. Every element is summed up by one task in
// the order of k, whatever the shape of the tasks and the number of threads.
//
// A kernel makes whole tiles, rows_of_tile x tile_columns, and writes them where they are to go: to the result, or, if it is
// an edge of it or has an epilogue, into a buffer.
#pragma once

#include <algorithm>
#include <type_traits>

#include "fathom/backend/cpu/any_epilogue.inl.hpp"
#include "fathom/backend/cpu/matmul.hpp"
#include "fathom/backend/cpu/operand.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/storage.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

inline constexpr index block_words = 256;   // of the depth: a panel is then 16 to 32 KiB
inline constexpr index block_panels = 8;    // of the result's columns
inline constexpr index packed_panels = 4;   // at a time: rows of the right operand are then read some lines at a time

/// c [rows_of_tile, tile_columns] = a b, or c += a b where it `adds`: a [rows_of_tile, words], its rows lda apart, or, in the order
/// of columns, packed as [words, tile_rows]; b [words, tile_columns].
template <class Operand, order Order, class T>
[[gnu::noinline]] void tile_product(const T* a, index lda, const T* b, index words, bool adds, T* c, index ldc) {
  constexpr index N = tile_columns<T>, W = lanes<T>;
  if constexpr (Operand::rows_of_tile > tile_rows) {
    if (amx_is_allowed) return amx_product(a, lda, b, words, adds, c, ldc);
  }
  for (index first = 0; first < Operand::rows_of_tile; first += tile_rows) {
    tile<T> sums;
    if (adds)
      sums.load(c, ldc);
    else
      sums.clear();
    // A pointer for each row: with offsets from one, a compiler keeps more of them than there are registers.
    constexpr std::size_t pointers = Order == order::rows ? tile_rows : 1;
    const T* left[pointers];
    unroll<pointers>([&](auto r) __attribute__((always_inline)) { left[r] = a + static_cast<index>(r()) * lda; });
    const T* right = b;
    const auto steps = [&](auto count) __attribute__((always_inline)) {
      unroll<count()>([&](auto u) __attribute__((always_inline)) {
        constexpr index k = static_cast<index>(u());
        const auto b0 = vec<T>::load_aligned(right + k * N), b1 = vec<T>::load_aligned(right + k * N + W);
        unroll<tile_rows>([&](auto r) __attribute__((always_inline)) {
          const vec<T> factor(Order == order::rows ? left[r % pointers][k] : left[0][k * tile_rows + static_cast<index>(r())]);
          sums.at[r][0] = Operand::multiply_add(factor, b0, sums.at[r][0]);
          sums.at[r][1] = Operand::multiply_add(factor, b1, sums.at[r][1]);
        });
      });
      constexpr index taken = static_cast<index>(count());
      unroll<pointers>([&](auto r) __attribute__((always_inline)) { left[r] += Order == order::rows ? taken : taken * tile_rows; });
      right += taken * N;
    };
    index k = 0;
    for (; k + 4 <= words; k += 4) steps(std::integral_constant<std::size_t, 4>());
    for (; k < words; ++k) steps(std::integral_constant<std::size_t, 1>());
    sums.store(c, ldc);
    a += tile_rows * lda;
    c += tile_rows * ldc;
  }
}

/// How a result [rows, columns] is divided among tasks. Large blocks pack less, and one rank takes the largest; for several
/// there should be four tasks each, so that they have something to share, and of the smallest results four in all. What is
/// summed in which order does not depend on it.
struct blocking {
  index rows;                   // of a block, whole tiles
  index panels = block_panels;  // of a block
  index across;                 // blocks side by side
  index count;                  // in all

  blocking(index y_rows, index y_columns, index of_tile, index panel_columns, index most_rows, int ranks) {
    const index wanted = ranks == 1 ? 1 : 4 * static_cast<index>(ranks);
    const index all_panels = (y_columns + panel_columns - 1) / panel_columns;
    const index all_tiles = (y_rows + of_tile - 1) / of_tile;
    index down = (y_rows + most_rows - 1) / most_rows;
    const auto tasks = [&] {
      rows = (all_tiles + down - 1) / down * of_tile;
      across = (all_panels + panels - 1) / panels;
      return across * ((y_rows + rows - 1) / rows);
    };
    while ((count = tasks()) < wanted)
      if (panels > 4)
        panels /= 2;
      else if (rows > 64)
        down *= 2;
      else if (count >= 4 || rows == of_tile)
        break;
      else if (rows > 32 || panels == 1)
        down *= 2;
      else
        panels /= 2;
  }
};

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

// A left operand says in `block` where the tiles of the rows [i, i + rows) lie for the words [k, k + words) of the depth: in
// place, or in a copy of up to `copied` numbers.

inline constexpr index most_rows = 256;         // of a task
inline constexpr index most_rows_in_place = 512;  // that are neither copied nor have sums in a buffer

/// Whole tiles of rows, and room for what is put between them.
template <class Operand, class T>
inline constexpr index copy_of_block(index rows) {
  constexpr index between = std::max<index>(8, Operand::row_padding);
  static_assert(tile_columns<T> <= between * tile_rows);  // what columns_of puts between tiles
  return (block_words + between) * (rows + Operand::rows_of_tile);
}

/// The left operand of x w: rows of x, where they lie if the processor multiplies them as they are.
template <class Operand, class T>
struct rows_of {
  static constexpr auto order = cpu::order::rows;
  static constexpr bool is_in_place = Operand::as_it_lies;
  static constexpr index copied = is_in_place ? block_words * Operand::rows_of_tile : copy_of_block<Operand, T>(most_rows);
  matrix<const T> x;

  [[nodiscard]] left_rows<T> block(index i, index rows, index k, index words, T* copy) const {
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
  }
};

/// The left operand of x^T y: columns of x.
template <class Operand, class T>
struct columns_of {
  static constexpr auto order = Operand::columns_order;
  static constexpr bool is_in_place = false;
  static constexpr index copied = copy_of_block<Operand, T>(most_rows);
  matrix<const T> x;

  [[nodiscard]] auto block(index i, index rows, index k, index words, T* copy) const {
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
  }
};

/// Panels [words][tile_columns] that lie `stride` apart
template <class T>
struct panels_at {
  const T* data;
  index stride;
};

// A right operand brings the columns [j, j + columns) for the words [k, k + words) of the depth into panels: `panels`.

/// The right operand of x w
template <class Operand, class T>
struct columns_in_panels {
  matrix<const T> w;
  [[nodiscard]] panels_at<T> panels(index j, index columns, index k, index words, T* copy) const {
    constexpr index per_word = Operand::numbers_per_word;
    Operand::pack_columns(w.row(k * per_word) + j, w.stride, std::min(words * per_word, w.rows - k * per_word), columns, copy);
    return {copy, words * tile_columns<T>};
  }
};
/// The right operand of x w^T
template <class Operand, class T>
struct rows_in_panels {
  matrix<const T> w;
  [[nodiscard]] panels_at<T> panels(index j, index columns, index k, index words, T* copy) const {
    constexpr index per_word = Operand::numbers_per_word;
    Operand::pack_transposed(w.row(j) + k * per_word, w.stride, columns, std::min(words * per_word, w.columns - k * per_word), copy);
    return {copy, words * tile_columns<T>};
  }
};

/// What a task of a product works in.
template <class Operand, class T, class Left>
struct product_scratch {
  static constexpr index R = Operand::rows_of_tile, N = tile_columns<T>;
  alignas(alignment) T left[Left::copied];
  alignas(alignment) T panels[packed_panels * block_words * N];
  alignas(alignment) T tile[R * N];
  alignas(alignment) T partial[block_panels * (most_rows + R) * N];  // sums so far, a panel after the other
};
static_assert(sizeof(product_scratch<operand<float, float>, float, columns_of<operand<float, float>, float>>) <= workspace_bytes<float>);
static_assert(sizeof(product_scratch<operand<double, double>, double, columns_of<operand<double, double>, double>>) <= workspace_bytes<double>);
static_assert(sizeof(product_scratch<operand<bf16, float>, float, columns_of<operand<bf16, float>, float>>) <= workspace_bytes<float>);
static_assert(sizeof(product_scratch<operand<float, float>, float, rows_of<operand<float, float>, float>>) <= decoding_workspace_bytes<float>);
static_assert(sizeof(product_scratch<operand<double, double>, double, rows_of<operand<double, double>, double>>) <= decoding_workspace_bytes<double>);

/// y = epilogue(left right). Words count numbers of the depth, or what takes their place (operand.hpp).
template <class Operand, class T, class Left, class Right, class On>
[[gnu::noinline]] void product(const On& on, index depth_words, const matrix<T>& y, const Left& left, const Right& right,
                               const any_epilogue<T>& epilogue) {
  constexpr index N = tile_columns<T>, R = Operand::rows_of_tile;
  using scratch = product_scratch<Operand, T, Left>;
  using kind = typename any_epilogue<T>::kind;
  const bool into_result = epilogue.how != kind::other, adds_to_result = epilogue.how == kind::add_to_result;
  const bool in_place = Left::is_in_place && (into_result || depth_words <= block_words);
  const blocking blocks(y.rows, y.columns, R, N, in_place ? most_rows_in_place : most_rows, on.size());
  on.tasks(blocks.count, [&](index task) {
    const index first = task / blocks.across * blocks.rows, last = std::min(y.rows, first + blocks.rows);
    const index first_column = task % blocks.across * blocks.panels * N;
    const index last_column = std::min(y.columns, first_column + blocks.panels * N);
    on.template with_scratch<scratch>([&](scratch& s) __attribute__((always_inline)) {
      [[maybe_unused]] const typename Operand::scope scope{};
      for (index k = 0; k < depth_words; k += block_words) {
        const index words = std::min(block_words, depth_words - k);
        const bool is_last = k + words == depth_words;
        const auto a = left.block(first, last - first, k, words, s.left);
        panels_at<T> panels{};
        for (index j = first_column; j < last_column; j += N) {
          const index turn = (j - first_column) / N % packed_panels;
          if (turn == 0) panels = right.panels(j, std::min(packed_panels * N, last_column - j), k, words, s.panels);
          const T* const b = panels.data + turn * panels.stride;
          const index columns = std::min(N, y.columns - j);
          T* partial = s.partial + (j - first_column) * (most_rows + R);
          for (index i = first; i < last; i += R, partial += R * N) {
            const auto [from, lda] = a.tile(i - first);
            const index rows = std::min(R, last - i);
            if (into_result) {
              const bool adds = k > 0 || adds_to_result;
              if (rows == R && columns == N) {
                tile_product<Operand, Left::order>(from, lda, b, words, adds, y.row(i) + j, y.stride);
              } else {
                const auto copy = [&](const auto& number) {
                  for (index r = 0; r < rows; ++r)
                    for (index c = 0; c < columns; ++c) number(y(i + r, j + c), s.tile[r * N + c]);
                };
                std::fill_n(s.tile, R * N, T(0));
                if (adds) copy([](const T& result, T& sum) { sum = result; });
                tile_product<Operand, Left::order>(from, lda, b, words, adds, s.tile, N);
                copy([](T& result, const T& sum) { result = sum; });
              }
            } else {
              T* const sums = depth_words > block_words ? partial : s.tile;
              tile_product<Operand, Left::order>(from, lda, b, words, k > 0, sums, N);
              if (is_last) epilogue(sums, N, y, i, j, rows, columns);
            }
          }
        }
      }
    });
  });
}

template <class C, class T>
void product_nn(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& w, const matrix<T>& y,
                const any_epilogue<T>& epilogue) {
  using operand = detail::operand<C, T>;
  product<operand, T>(on, operand::words(x.columns), y, rows_of<operand, T>{x}, columns_in_panels<operand, T>{w}, epilogue);
}
template <class C, class T>
void product_nt(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& w, const matrix<T>& y,
                const any_epilogue<T>& epilogue) {
  using operand = detail::operand<C, T>;
  product<operand, T>(on, operand::words(x.columns), y, rows_of<operand, T>{x}, rows_in_panels<operand, T>{w}, epilogue);
}
template <class C, class T>
void product_tn(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& y, const matrix<T>& g) {
  using operand = detail::operand<C, T>;
  const fathom::epilogue::add<T> add{g};
  product<operand, T>(on, operand::words(x.rows), g, columns_of<operand, T>{x}, columns_in_panels<operand, T>{y},
                      any_epilogue<T>(add, g));
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
