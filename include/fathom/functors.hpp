// For programs that link fathom::kernels and have functors of their own: activations, gates, epilogues, optimisers. Without
// fathom::kernels there is no need to include it.
#pragma once

#include "fathom/backend/cpu/functors.inl.hpp"
#include "fathom/backend/functors.hpp"

namespace fathom::detail {
template <class F>
struct own_functors {};
}  // namespace fathom::detail
