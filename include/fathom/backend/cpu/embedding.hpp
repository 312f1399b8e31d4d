// Embedding of tokens and of positions on the CPU. The kernels: embedding.inl.hpp.
#pragma once

#include <span>
#include <type_traits>

#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/team.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/tensor.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

namespace detail {
/// x [width] = row `row` of a table of numbers of type P, or += if `adds`
template <class T, class P>
void read_table_row(const void* table, index width, index row, T* x, bool adds);
/// The same for a packed head, given its view.
template <class T, class P>
void read_packed_row(const void* view, index width, index row, T* x, bool adds);

/// A table [rows, width] whose rows are read as numbers of type T, whatever its storage.
template <class T>
struct row_reader {
  const void* table;
  index width;
  void (*read)(const void*, index, index, T*, bool);
  void operator()(index row, T* x, bool adds) const { read(table, width, row, x, adds); }
};

template <class C, class T>
void embed_tokens(const context<C, T>& on, std::span<const token> tokens, const row_reader<T>& table, const matrix<T>& x);
template <class C, class T>
void add_to_tokens(const context<C, T>& on, std::span<const token> tokens, const matrix<const T>& dx, const matrix<T>& dtable);
template <class C, class T>
void embed_positions(const context<C, T>& on, const extent& e, const row_reader<T>& table, const matrix<T>& x);
template <class C, class T>
void add_to_positions(const context<C, T>& on, const extent& e, const matrix<const T>& dx, const matrix<T>& dtable);

/// Calls f(a reader of the table).
template <class T, class P, index Rows, index E, class F>
void with_reader(const tensor<P, Rows, E>& table, const F& f) {
  f(row_reader<T>{table.data(), E, &read_table_row<T, P>});
}
template <class T, class P, index Rows, index E, class F>
void with_reader(const packed_head<P, Rows, E>& table, const F& f) {
  const auto view = table.transposed.view();
  f(row_reader<T>{&view, E, &read_packed_row<T, P>});
}
}  // namespace detail

/// x [rows, E] = table[tokens]
template <class C, class T, class Table>
void embedding_forward(const context<C, T>& on, const extent&, std::span<const token> tokens, const Table& table,
                       matrix<std::type_identity_t<T>> x) {
  detail::with_reader<T>(table, [&](const detail::row_reader<T>& row) { detail::embed_tokens(on, tokens, row, x); });
}
/// dtable[tokens] += dx
template <class C, class T, class Table>
void embedding_backward(const context<C, T>& on, const extent&, std::span<const token> tokens,
                        matrix<const std::type_identity_t<T>> dx, Table& dtable) {
  detail::add_to_tokens<C, T>(on, tokens, dx, dtable.view());
}

/// x [rows, E] += table[positions]
template <class C, class T, class Table>
void positions_forward(const context<C, T>& on, const extent& e, const Table& table, matrix<std::type_identity_t<T>> x) {
  detail::with_reader<T>(table, [&](const detail::row_reader<T>& row) { detail::embed_positions(on, e, row, x); });
}
/// dtable[positions] += dx
template <class C, class T, class Table>
void positions_backward(const context<C, T>& on, const extent& e, matrix<const std::type_identity_t<T>> dx, Table& dtable) {
  detail::add_to_positions<C, T>(on, e, dx, dtable.view());
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/embedding.inl.hpp"
#endif
