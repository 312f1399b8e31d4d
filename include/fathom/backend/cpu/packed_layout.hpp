// The name of the layout of packed weights, for files (io/packed_file.hpp).
#pragma once

#include <string>

#include "fathom/backend/cpu/packed.hpp"
#include "fathom/core/error.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// How numbers packed as P lie: the facts that depend on the processor. Two programs with the same name for a type have the
/// same bytes for the same weights. (A layout that no longer depends on the processor has one name: its version.)
template <class P>
[[nodiscard]] std::string packed_layout() {
  const index columns = packed_view<P>::N;
  if constexpr (grouped_type<P>)
    return join("1: panels of ", columns, " columns");
  else
    return join("1: panels of ", columns, " columns, words of ", packing<P>::rows, " rows, columns of multiples of ",
                packing<P>::words_together, " words");
}

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
