// Rotary positions on the CPU. The kernel: rotation.inl.hpp.
#pragma once

#include <type_traits>

#include "fathom/backend/cpu/team.hpp"
#include "fathom/backend/rotation.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {

/// Turns the pairs of each head of x by their positions (backend/rotation.hpp).
template <class C, class T>
void rotate(const context<C, T>& on, const extent& e, const rotation& r, matrix<std::type_identity_t<T>> x, index head_width,
            index rows_per_position, int sign);

}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/rotation.inl.hpp"
#endif
