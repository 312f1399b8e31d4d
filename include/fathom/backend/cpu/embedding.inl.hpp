// Embedding of tokens and of positions on the CPU: definitions for embedding.hpp.
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

// Gradients: each task takes the tokens, or positions, of one residue, so a single task adds to a row of a table, in
// the order of the rows of dx.
inline constexpr index embedding_parts = 16;

template <class C, class T>
void embed_tokens(const context<C, T>& on, std::span<const token> tokens, const row_reader<T>& table, const matrix<T>& x) {
  for_rows(on, x.rows, [&](index i) { table(tokens[static_cast<std::size_t>(i)], x.row(i), false); });
}
template <class C, class T>
void add_to_tokens(const context<C, T>& on, std::span<const token> tokens, const matrix<const T>& dx, const matrix<T>& dtable) {
  on.tasks(embedding_parts, [&](index part) {
    for (index i = 0; i < dx.rows; ++i)
      if (const index t = tokens[static_cast<std::size_t>(i)]; t % embedding_parts == part)
        add_row(dx.row(i), dtable.row(t), dx.columns);
  });
}

template <class C, class T>
void embed_positions(const context<C, T>& on, const extent& e, const row_reader<T>& table, const matrix<T>& x) {
  for_rows(on, x.rows, [&](index i) { table(e.start(i / e.tokens) + i % e.tokens, x.row(i), true); });
}
template <class C, class T>
void add_to_positions(const context<C, T>& on, const extent& e, const matrix<const T>& dx, const matrix<T>& dtable) {
  on.tasks(embedding_parts, [&](index part) {
    for (index s = 0; s < e.sequences; ++s)
      for (index t = (embedding_parts - e.start(s) % embedding_parts + part) % embedding_parts; t < e.tokens; t += embedding_parts)
        add_row(dx.row(s * e.tokens + t), dtable.row(e.start(s) + t), dx.columns);
  });
}

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
