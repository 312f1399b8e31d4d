// A type-erased epilogue (backend/epilogue.hpp), so that one kernel serves them all: the kernel leaves its sums in a
// small buffer, and the epilogue is applied as they are stored to the result.
#pragma once

#include <algorithm>
#include <type_traits>

#include "fathom/backend/cpu/isa.hpp"
#include "fathom/backend/epilogue.hpp"
#include "fathom/backend/functors.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/types.hpp"

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {

/// y(i + r, j + c) = epilogue(sums [rows, columns], i + r, j + c). Rows of sums are `stride` apart, each aligned to a
/// vector. Defined in functors.inl.hpp.
template <class T, class Epilogue>
void apply_epilogue(const void* epilogue, const T* sums, index stride, const matrix<T>& y, index i, index j, index rows,
                    index columns);

template <class T>
struct any_epilogue {
  enum class kind {
    none,           // y = sums: a kernel may write to y directly
    add_to_result,  // y += sums: a kernel may accumulate into y
    other           // y = epilogue(sums)
  };
  kind how = kind::other;
  bool reads_result = true;  // or may read it: y must keep its values until the epilogue is applied
  matrix<const T> beside{};  // the other matrix that it reads or writes, to prefetch; or none
  const void* epilogue;
  void (*apply)(const void*, const T*, index, const matrix<T>&, index, index, index, index);

  /// `e` must outlive this.
  template <class Epilogue>
  any_epilogue(const Epilogue& e, [[maybe_unused]] const matrix<T>& y) : epilogue(&e), apply(&apply_epilogue<T, Epilogue>) {
    check_is_compiled<Epilogue>();
    if constexpr (requires { e.beside(); }) beside = e.beside();
    if constexpr (requires { Epilogue::reads_nothing; }) reads_result = !Epilogue::reads_nothing;
    if (beside.data) reads_result = beside.data == y.data;
    if constexpr (std::is_same_v<Epilogue, fathom::epilogue::none>) how = kind::none;
    if constexpr (std::is_same_v<Epilogue, fathom::epilogue::add<T>>)
      if (reads_result && e.residual.stride == y.stride) how = kind::add_to_result;
  }

  /// y at (i, j) = epilogue(sums [rows, columns]); columns beyond those of y are skipped.
  void operator()(const T* sums, index stride, const matrix<T>& y, index i, index j, index rows, index columns) const {
    apply(epilogue, sums, stride, y, i, j, rows, std::min(columns, y.columns - j));
  }
};

}  // namespace detail
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu

#if !defined(FATHOM_KERNELS)
#include "fathom/backend/cpu/functors.inl.hpp"
#endif
