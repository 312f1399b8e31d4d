// Token and position embedding on the CPU.
#pragma once

#include <algorithm>
#include <span>

#include "fathom/backend/cpu/elementwise.hpp"
#include "fathom/backend/cpu/packed.hpp"
#include "fathom/backend/cpu/team.hpp"

namespace fathom::cpu {

namespace detail {
/// x [E] = or += row `row` of a table, whatever it is stored as
template <class T, class P, index Rows, index E>
void read_row(const tensor<P, Rows, E>& table, index row, T* x, bool adds) {
  const P* from = table.data() + row * E;
  for (index j = 0; j < E; ++j) x[j] = static_cast<T>(from[j]) + (adds ? x[j] : T(0));
}
template <class T, class P, index Rows, index E>
void read_row(const packed_head<P, Rows, E>& table, index row, T* x, bool adds) {
  for (index j = 0; j < E; ++j) x[j] = table.at(row, j) + (adds ? x[j] : T(0));
}
}  // namespace detail

/// x [rows, E] = wte[tokens] + wpe[positions]
template <class C, class T, class Tokens, class Positions>
void embedding_forward(const context<C, T>& on, const extent& e, std::span<const token> tokens, const Tokens& wte,
                       const Positions& wpe, matrix<std::type_identity_t<T>> x) {
  detail::for_rows(on, x.rows, [&](index i) {
    detail::read_row(wte, tokens[static_cast<std::size_t>(i)], x.row(i), false);
    detail::read_row(wpe, e.start(i / e.tokens) + i % e.tokens, x.row(i), true);
  });
}

/// dwte[tokens] += dx, dwpe[positions] += dx. Each task takes the tokens of some residue, and the positions of some, so
/// that a row of a table is added to by one task, in the order of the rows of dx.
template <class C, class T, class Tokens, class Positions>
void embedding_backward(const context<C, T>& on, const extent& e, std::span<const token> tokens,
                        matrix<const std::type_identity_t<T>> dx, Tokens& dwte, Positions& dwpe) {
  constexpr index parts = 16;
  const auto add_row = [&](index i, T* to) { array(to, dx.columns) += array(dx.row(i), dx.columns); };
  on.tasks(2 * parts, [&](index task) {
    const index part = task / 2;
    if (task % 2 == 0) {
      for (index i = 0; i < dx.rows; ++i)
        if (tokens[static_cast<std::size_t>(i)] % parts == part)
          add_row(i, dwte.data() + tokens[static_cast<std::size_t>(i)] * dx.columns);
    } else {
      for (index s = 0; s < e.sequences; ++s)
        for (index t = (parts - e.start(s) % parts + part) % parts; t < e.tokens; t += parts)
          add_row(s * e.tokens + t, dwpe.data() + (e.start(s) + t) * dx.columns);
    }
  });
}

}  // namespace fathom::cpu
