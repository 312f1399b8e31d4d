// Definitions for any_epilogue.hpp.
#pragma once

#include "fathom/backend/cpu/any_epilogue.hpp"
#include "fathom/backend/cpu/simd.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

template <class T, class Epilogue>
void apply_epilogue(const void* epilogue, const T* sums, index stride, const matrix<T>& y, index i, index j, index rows,
                    index columns) {
  constexpr index W = lanes<T>;
  const Epilogue e = *static_cast<const Epilogue*>(epilogue);
  for (index r = 0; r < rows; ++r) {
    T* const to = y.row(i + r) + j;
    index c = 0;
    for (; c + W <= columns; c += W) e(vec<T>::load_aligned(sums + r * stride + c), i + r, j + c).store_unaligned(to + c);
    for (; c < columns; ++c) to[c] = e(sums[r * stride + c], i + r, j + c);
  }
}

#if defined(FATHOM_KERNELS)
// The library's own epilogues are instantiated in fathom::kernels.
#define FATHOM_EPILOGUES_ELSEWHERE(T)                                                                                              \
  extern template void apply_epilogue<T, epilogue::none>(const void*, const T*, index, const matrix<T>&, index, index, index, index);   \
  extern template void apply_epilogue<T, epilogue::add<T>>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  extern template void apply_epilogue<T, epilogue::bias<T>>(const void*, const T*, index, const matrix<T>&, index, index, index, index); \
  extern template void apply_epilogue<T, epilogue::bias_add<T>>(const void*, const T*, index, const matrix<T>&, index, index, index,    \
                                                                index);                                                             \
  extern template void apply_epilogue<T, epilogue::activated<gelu_tanh, T>>(const void*, const T*, index, const matrix<T>&, index,      \
                                                                            index, index, index);                                   \
  extern template void apply_epilogue<T, epilogue::activation_gradient<gelu_tanh, T>>(const void*, const T*, index, const matrix<T>&,   \
                                                                                      index, index, index, index);
FATHOM_EPILOGUES_ELSEWHERE(float)
FATHOM_EPILOGUES_ELSEWHERE(double)
#undef FATHOM_EPILOGUES_ELSEWHERE
#endif

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
