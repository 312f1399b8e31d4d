// Which functors fathom::kernels holds compiled.
//
// Kernels call functors (activations, gates, epilogues, updates of optimisers) for every element. The code for those of the library
// is in fathom::kernels. A program that links it, and has functors of its own, includes <fathom/functors.hpp> as well, and compiles
// the code for those itself.
#pragma once

namespace fathom {

/// Whether fathom::kernels has the code for a functor. Specialised beside each of the library's own.
template <class F>
inline constexpr bool is_in_kernels = false;

namespace detail {
/// Complete where <fathom/functors.hpp> is included.
template <class F>
struct own_functors;
}  // namespace detail

/// Stops compilation where a functor's code would be missing at link time.
template <class F>
consteval void check_is_compiled() {
#if defined(FATHOM_KERNELS)
  static_assert(is_in_kernels<F> || requires { sizeof(detail::own_functors<F>); },
                "fathom: this activation, epilogue or update is not in fathom::kernels; include <fathom/functors.hpp>");
#endif
}

}  // namespace fathom
