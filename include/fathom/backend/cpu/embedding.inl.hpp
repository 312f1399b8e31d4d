// Token and position embedding on the CPU: definitions for embedding.hpp.
#pragma once

#include "fathom/backend/cpu/elementwise.inl.hpp"
#include "fathom/backend/cpu/embedding.hpp"
#include "fathom/backend/cpu/packed.inl.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

template <class T, class P>
void read_table_row(const void* table, index width, index row, T* x, bool adds) {
  const P* from = static_cast<const P*>(table) + row * width;
  for (index j = 0; j < width; ++j) x[j] = static_cast<T>(from[j]) + (adds ? x[j] : T(0));
}
template <class T, class P>
void read_packed_row(const void* view, index width, index row, T* x, bool adds) {
  const auto& table = *static_cast<const packed_view<P>*>(view);
  for (index j = 0; j < width; ++j) x[j] = table.at(j, row) + (adds ? x[j] : T(0));
}

template <class C, class T>
void embed(const context<C, T>& on, const extent& e, std::span<const token> tokens, const row_reader<T>& wte,
           const row_reader<T>& wpe, const matrix<T>& x) {
  for_rows(on, x.rows, [&](index i) {
    wte(tokens[static_cast<std::size_t>(i)], x.row(i), false);
    wpe(e.start(i / e.tokens) + i % e.tokens, x.row(i), true);
  });
}

/// Each task takes the tokens of some residue, or the positions of some, so that a row of a table is added to by one task, in
/// the order of the rows of dx.
template <class C, class T>
void add_embedded(const context<C, T>& on, const extent& e, std::span<const token> tokens, const matrix<const T>& dx,
                  const matrix<T>& dwte, const matrix<T>& dwpe) {
  constexpr index parts = 16;
  on.tasks(2 * parts, [&](index task) {
    const index part = task / 2;
    if (task % 2 == 0) {
      for (index i = 0; i < dx.rows; ++i)
        if (const index t = tokens[static_cast<std::size_t>(i)]; t % parts == part) add_row(dx.row(i), dwte.row(t), dx.columns);
    } else {
      for (index s = 0; s < e.sequences; ++s)
        for (index t = (parts - e.start(s) % parts + part) % parts; t < e.tokens; t += parts)
          add_row(dx.row(s * e.tokens + t), dwpe.row(e.start(s) + t), dx.columns);
    }
  });
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
