// Matrix products on the CPU: definitions for matmul.hpp.
//
// A task computes one block of the result: at most some hundred rows, by panels of tile_columns columns. It loops over
// the depth in blocks. For each, it packs the left operand into the order in which the register tile reads it (unless
// it already is in that order), then each panel of the right one, [words][tile_columns]. The panel stays in the L1
// cache while the tiles of all rows use it. A single task accumulates each element, in the order of k, whatever the
// blocking and the number of threads.
//
// The micro-kernel computes whole tiles, rows_of_tile x tile_columns. It writes them to the result, or to a buffer if
// they are at its edge or have an epilogue.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "fathom/backend/cpu/any_epilogue.hpp"
#include "fathom/backend/cpu/matmul.hpp"
#include "fathom/backend/cpu/operand.hpp"
#include "fathom/backend/cpu/tile.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/storage.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

// Most words of a block of the depth, where the left operand is copied, and where it is read in place.
inline constexpr index block_words = 256;
inline constexpr index block_words_in_place = 512;

/// A panel of the right operand: its first word, and how many words from there to the second vector of columns.
template <class T>
struct right_panel {
  const T* data;
  index other;
};

/// c [rows_of_tile, tile_columns] = a b, or c += a b if `adds`. a [rows_of_tile, words] has rows lda apart
/// (order::rows), or is packed as tiles [words, tile_rows], lda apart (order::columns); b is [words, tile_columns], packed
/// without gaps, or, with another Stride, the words of packed weights (core/packed_layout.hpp), Stride apart.
template <class Operand, order Order, class T, index Stride = tile_columns<T>>
[[gnu::noinline]] void tile_product(const T* a, index lda, const right_panel<T>& b, index words, bool adds, T* c, index ldc) {
  constexpr index N = Stride, W = lanes<T>;
  const index other = Stride < 2 * W ? b.other : W;
  if constexpr (Operand::rows_of_tile > tile_rows) {
    if (amx_is_allowed) return amx_product(a, lda, b.data, N, other, words, adds, c, ldc);
  }
  for (index first = 0; first < Operand::rows_of_tile; first += tile_rows) {
    unroll<tile_rows>([&](auto r) __attribute__((always_inline)) { __builtin_prefetch(c + (tile_rows + static_cast<index>(r())) * ldc, 1); });
    tile<T> sums;
    if (adds)
      sums.load(c, ldc);
    else
      sums.clear();
    // One pointer per row: with offsets from a single one, compilers keep more of them than there are registers.
    constexpr std::size_t pointers = Order == order::rows ? tile_rows : 1;
    const T* left[pointers];
    unroll<pointers>([&](auto r) __attribute__((always_inline)) { left[r] = a + static_cast<index>(r()) * lda; });
    const T* right = b.data;
    const auto steps = [&](auto count) __attribute__((always_inline)) {
      unroll<count()>([&](auto u) __attribute__((always_inline)) {
        constexpr index k = static_cast<index>(u());
        const auto b0 = vec<T>::load_aligned(right + k * N), b1 = vec<T>::load_aligned(right + k * N + other);
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
    constexpr index line = alignment / sizeof(T);
    // Prefetch the next tile's left operand, unless rows share the sets of the L1 cache (64 of a line each): both tiles' would
    // then evict the panel. (Prefetching what is there already costs nothing.)
    const index ahead = lda * static_cast<index>(sizeof(T)) % 4096 == 0 ? 0 : tile_rows * lda;
    for (; k + line <= words; k += line) {
      if constexpr (Order == order::rows)
        unroll<pointers>([&](auto r) __attribute__((always_inline)) { __builtin_prefetch(left[r] + ahead); });
      else
        unroll<tile_rows>([&](auto r) __attribute__((always_inline)) { __builtin_prefetch(left[0] + lda + static_cast<index>(r()) * line); });
      steps(std::integral_constant<std::size_t, static_cast<std::size_t>(line)>());
    }
    for (; k + 4 <= words; k += 4) steps(std::integral_constant<std::size_t, 4>());
    for (; k < words; ++k) steps(std::integral_constant<std::size_t, 1>());
    sums.store(c, ldc);
    a += tile_rows * lda;
    c += tile_rows * ldc;
  }
}

/// How a result [rows, columns] is divided into tasks: blocks that need little packing, and of which no rank has to compute
/// many more than others. The order of summation does not depend on it.
struct blocking {
  index rows = 0, panels = 0;   // of a block: whole tiles, whole panels
  index across = 1, count = 0;  // blocks side by side, and in all

  /// `copies_left`: whether each block packs rows of the left operand; it always packs columns of the right one.
  blocking(index y_rows, index y_columns, index of_tile, index panel_columns, index most_rows, bool copies_left, index ranks) {
    const auto divide = [](index a, index b) { return (a + b - 1) / b; };  // rounding up
    const index tiles = divide(y_rows, of_tile), all_panels = divide(y_columns, panel_columns);
    if (tiles * all_panels == 0) return;
    // At least two for each rank, if there are several, so that a slow one may compute fewer; and as many as keep the sums of
    // a block in the L2 cache. But a block smaller than four tiles is not worth sharing.
    constexpr index most_numbers = 65536;
    const index least = std::clamp<index>(tiles * all_panels / 4, 1, std::max(ranks == 1 ? 1 : 2 * ranks, y_rows * y_columns / most_numbers));
    index lowest_cost = std::numeric_limits<index>::max();
    for (index down = divide(y_rows, most_rows), last = std::min(tiles, std::max(down, 2 * least)); down <= last; down += 1 + down / 8) {
      for (index wanted = least; wanted <= 2 * least; wanted += divide(least, 2)) {
        blocking by;
        const index tiles_down = divide(tiles, down), blocks_down = divide(tiles, tiles_down);
        by.rows = tiles_down * of_tile;
        by.panels = divide(all_panels, divide(wanted, blocks_down));
        by.across = divide(all_panels, by.panels);
        by.count = by.across * blocks_down;
        const index cost = by.cost(tiles * of_tile, all_panels * panel_columns, by.panels * panel_columns, copies_left, ranks);
        if (cost >= lowest_cost) continue;
        lowest_cost = cost;
        *this = by;
      }
    }
  }

 private:
  blocking() = default;

  /// Multiplications of the rank that has most to compute, for each k, if ranks take the tasks in turns. Packing a number takes
  /// as long as four.
  [[nodiscard]] index cost(index y_rows, index y_columns, index columns, bool copies_left, index ranks) const {
    constexpr index packing = 4;
    if (count > 8 * ranks)  // many, so that none has much more than its share
      return (y_rows * y_columns + packing * (count / across * y_columns + (copies_left ? across * y_rows : 0))) / ranks;
    index sum = 0;
    for (index task = 0; task < count; task += ranks) {
      const index down = std::min(rows, y_rows - task / across * rows), right = std::min(columns, y_columns - task % across * columns);
      sum += down * right + packing * (right + (copies_left ? down : 0));
    }
    return sum;
  }
};

inline constexpr index most_rows = 256;           // of a block whose left operand is packed
inline constexpr index most_rows_in_place = 512;  // of a block whose left operand is read in place

/// The tiles of some rows of a left operand: `whole` rows at `data`, and the remaining ones, padded, at `rest`.
template <class T>
struct left_block {
  const T* data;
  index tile, lda;  // stride of tiles, and the kernel's lda
  index whole;
  const T* rest;
  index rest_lda;
};

/// The left operand of a product. Its functions are virtual, so that one function multiplies all kinds; calls are few.
template <class Operand, class T>
struct left_operand {
  using tile_kernel = void(const T* a, index lda, const right_panel<T>& b, index words, bool adds, T* c, index ldc);
  tile_kernel* kernel;  // a tile_product
  bool is_in_place;

  left_operand(tile_kernel* with, bool in_place) : kernel(with), is_in_place(in_place) {}

  /// The rows [i, i + rows) for the words [k, k + words) of the depth, in place or in `copy`.
  [[nodiscard]] virtual left_block<T> block(index i, index rows, index k, index words, T* copy) const = 0;

  // Size of such a copy: whole tiles, and the padding between them or their rows.
  static constexpr index between = std::max<index>(8, Operand::row_padding);
  static_assert(tile_columns<T> <= between * tile_rows);
  static constexpr index copied = (block_words + between) * (most_rows + Operand::rows_of_tile);

 protected:
  ~left_operand() = default;
};

/// The right operand of a product.
template <class T>
struct panel_source {
  /// The columns [j, j + columns) of a panel for the words [k, k + words) of the depth, [words][tile_columns]: packed
  /// into `copy`, or in place.
  [[nodiscard]] virtual right_panel<T> panel(index j, index columns, index k, index words, T* copy) const = 0;

 protected:
  ~panel_source() = default;
};

/// The left operand of x w: rows of x, read in place if they need no conversion.
template <class Operand, class T>
struct rows_of final : left_operand<Operand, T> {
  matrix<const T> x;

  explicit rows_of(const matrix<const T>& of,
                   typename left_operand<Operand, T>::tile_kernel* with = &tile_product<Operand, order::rows, T>)
      : left_operand<Operand, T>(with, Operand::as_it_lies), x(of) {}
  [[nodiscard]] left_block<T> block(index i, index rows, index k, index words, T* copy) const override {
    constexpr index per_word = Operand::numbers_per_word, R = Operand::rows_of_tile;
    const index depth = std::min(words * per_word, x.columns - k * per_word);
    if (this->is_in_place) {
      const index whole = rows / R * R;
      if (whole < rows) Operand::pack_rows(x.row(i + whole) + k, x.stride, rows - whole, depth, copy, words);
      return {x.row(i) + k, R * x.stride, x.stride, whole, copy, words};
    }
    const index stride = words + Operand::row_padding;
    Operand::pack_rows(x.row(i) + k * per_word, x.stride, rows, depth, copy, stride);
    return {copy, R * stride, stride, rows, copy, stride};
  }
};

/// The left operand of x^T y: columns of x.
template <class Operand, class T>
struct columns_of final : left_operand<Operand, T> {
  matrix<const T> x;

  explicit columns_of(const matrix<const T>& of)
      : left_operand<Operand, T>(&tile_product<Operand, Operand::columns_order, T>, false), x(of) {}
  [[nodiscard]] left_block<T> block(index i, index rows, index k, index words, T* copy) const override {
    constexpr index per_word = Operand::numbers_per_word, R = Operand::rows_of_tile;
    const index depth = std::min(words * per_word, x.rows - k * per_word);
    const T* const from = x.row(k * per_word) + i;
    if constexpr (Operand::columns_order == order::rows) {
      const index stride = words + Operand::row_padding;
      Operand::pack_columns_as_rows(from, x.stride, depth, rows, copy, stride);
      return {copy, R * stride, stride, rows, copy, stride};
    } else {
      const index tile = words * tile_rows + tile_columns<T>;  // not a multiple of a page: tiles share no cache sets
      Operand::pack_tiles(from, x.stride, depth, rows, copy, tile);
      return {copy, tile, tile, rows, copy, tile};
    }
  }
};

/// The right operand of x w
template <class Operand, class T>
struct columns_in_panels final : panel_source<T> {
  matrix<const T> w;
  explicit columns_in_panels(const matrix<const T>& of) : w(of) {}
  [[nodiscard]] right_panel<T> panel(index j, index columns, index k, index words, T* copy) const override {
    constexpr index per_word = Operand::numbers_per_word;
    Operand::pack_columns(w.row(k * per_word) + j, w.stride, std::min(words * per_word, w.rows - k * per_word), columns, copy);
    return {copy, lanes<T>};
  }
};
/// The right operand of x w^T
template <class Operand, class T>
struct rows_in_panels final : panel_source<T> {
  matrix<const T> w;
  explicit rows_in_panels(const matrix<const T>& of) : w(of) {}
  [[nodiscard]] right_panel<T> panel(index j, index columns, index k, index words, T* copy) const override {
    constexpr index per_word = Operand::numbers_per_word;
    Operand::pack_transposed(w.row(j) + k * per_word, w.stride, columns, std::min(words * per_word, w.columns - k * per_word), copy);
    return {copy, lanes<T>};
  }
};

/// A product task's workspace.
template <class Operand, class T>
struct product_scratch {
  static constexpr index R = Operand::rows_of_tile, N = tile_columns<T>;
  alignas(alignment) T left[left_operand<Operand, T>::copied];
  alignas(alignment) T panel[block_words_in_place * N];
  alignas(alignment) T tile[R * N];
  alignas(alignment) T partial[(most_rows + R) * N];  // sums so far, if the result cannot hold them
};

/// y = epilogue(left right). Depth is counted in words: numbers, or what packs several of them (operand.hpp).
template <class Operand, class T, class On>
[[gnu::noinline]] void product(const On& on, index depth_words, const matrix<T>& y, const left_operand<Operand, T>& left,
                               const panel_source<T>& right, const any_epilogue<T>& epilogue) {
  constexpr index N = tile_columns<T>, R = Operand::rows_of_tile;
  using scratch = product_scratch<Operand, T>;
  static_assert(sizeof(scratch) <= (std::is_same_v<Operand, operand<T, T>> ? decoding_workspace_bytes<T> : workspace_bytes<T>));
  using kind = typename any_epilogue<T>::kind;
  const bool into_result = epilogue.how != kind::other, adds_to_result = epilogue.how == kind::add_to_result;
  // Equal blocks of the depth, of whole lines.
  constexpr index line = alignment / sizeof(T);
  const index most_words = left.is_in_place ? block_words_in_place : block_words;
  const index depth_blocks = std::max<index>(1, (depth_words + most_words - 1) / most_words);
  const index block = ((depth_words + depth_blocks - 1) / depth_blocks + line - 1) / line * line;
  // Over several of them, sums are kept in the result, or, if that must not change yet, in one panel.
  const bool has_partial = depth_words > block && !into_result && epilogue.reads_result;
  const bool copies_left = !left.is_in_place;
  blocking blocks(y.rows, y.columns, R, N, copies_left || has_partial ? most_rows : most_rows_in_place, copies_left, on.size());
  if (has_partial) {
    blocks.count = blocks.count / blocks.across * ((y.columns + N - 1) / N);
    blocks.across = (y.columns + N - 1) / N;
    blocks.panels = 1;
  }
  on.tasks(blocks.count, [&](index task) {
    const index first = task / blocks.across * blocks.rows, last = std::min(y.rows, first + blocks.rows);
    const index first_column = task % blocks.across * blocks.panels * N;
    const index last_column = std::min(y.columns, first_column + blocks.panels * N);
    const index tiles = (last - first + R - 1) / R;
    on.template with_scratch<scratch>([&](scratch& s) {
      [[maybe_unused]] const typename Operand::scope scope{};
      for (index k = 0; k < depth_words; k += block) {
        const index words = std::min(block, depth_words - k);
        const bool is_last = k + words == depth_words;
        const auto a = left.block(first, last - first, k, words, s.left);
        for (index j = first_column; j < last_column; j += N) {
          const index columns = std::min(N, y.columns - j);
          const right_panel<T> b = right.panel(j, columns, k, words, s.panel);
          for (index t = 0; t < tiles; ++t) {
            const index i = first + t * R, rows = std::min(R, last - i);
            const bool is_whole = t * R < a.whole;
            const auto multiply = [&](bool adds, T* to, index stride) __attribute__((always_inline)) {
              left.kernel(is_whole ? a.data + t * a.tile : a.rest, is_whole ? a.lda : a.rest_lda, b, words, adds, to, stride);
            };
            const auto copy = [&](const auto& number) {
              for (index r = 0; r < rows; ++r)
                for (index c = 0; c < columns; ++c) number(y(i + r, j + c), s.tile[r * N + c]);
            };
            if (is_last && !into_result)  // prefetch what the epilogue needs, while the tile is multiplied
              for (index r = 0; r < rows; ++r) {
                __builtin_prefetch(y.row(i + r) + j, 1);
                if (epilogue.beside.data) __builtin_prefetch(epilogue.beside.row(i + r) + j);
              }
            if (has_partial) {
              T* const sums = s.partial + t * R * N;
              multiply(k > 0, sums, N);
              if (is_last) epilogue(sums, N, y, i, j, rows, columns);
              continue;
            }
            const bool adds = k > 0 || adds_to_result, is_applied = is_last && !into_result;
            if (rows == R && columns == N && !is_applied) {
              multiply(adds, y.row(i) + j, y.stride);
              continue;
            }
            if (adds) {
              std::fill_n(s.tile, R * N, T(0));
              copy([](const T& result, T& sum) { sum = result; });
            }
            multiply(adds, s.tile, N);
            if (is_applied)
              epilogue(s.tile, N, y, i, j, rows, columns);
            else
              copy([](T& result, const T& sum) { result = sum; });
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
  product<operand, T>(on, operand::words(x.columns), y, rows_of<operand, T>(x), columns_in_panels<operand, T>(w), epilogue);
}
template <class C, class T>
void product_nt(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& w, const matrix<T>& y,
                const any_epilogue<T>& epilogue) {
  using operand = detail::operand<C, T>;
  product<operand, T>(on, operand::words(x.columns), y, rows_of<operand, T>(x), rows_in_panels<operand, T>(w), epilogue);
}
template <class C, class T>
void product_tn(const context<C, T>& on, const matrix<const T>& x, const matrix<const T>& y, const matrix<T>& g) {
  using operand = detail::operand<C, T>;
  const fathom::epilogue::add<T> add{g};
  product<operand, T>(on, operand::words(x.rows), g, columns_of<operand, T>(x), columns_in_panels<operand, T>(y),
                      any_epilogue<T>(add, g));
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
