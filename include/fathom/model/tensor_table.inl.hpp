// Definitions for tensor_table.hpp.
#pragma once

#include "fathom/model/tensor_table.hpp"

namespace fathom::detail {

FATHOM_INLINE void add_row(tensor_table& table, std::string_view name, initial start, role as, const index* shape, std::size_t rank,
                           std::ptrdiff_t offset) {
  index size = 1;
  for (std::size_t i = 0; i < rank; ++i) size *= shape[i];
  table.push_back({std::string(name), start, as, {shape, shape + rank}, size, static_cast<std::size_t>(offset)});
}

}  // namespace fathom::detail
