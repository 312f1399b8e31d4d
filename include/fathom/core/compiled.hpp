// Compiles a function either in every unit that includes it, or once, in fathom::kernels.
//
// X.hpp declares them and, at its end, includes X.inl.hpp, which defines them, unless FATHOM_KERNELS is defined. This
// makes the library header-only by default. Units that link the target fathom::kernels define FATHOM_KERNELS; the
// sources of that target (../kernels/) include every X.inl.hpp, so each definition is compiled once.
//
// None of these functions is performance-critical: they wait for files, or run once. They are marked cold, which makes
// them small and quick to compile. Loops over many numbers are in separate functions that they call.
#pragma once

#if defined(FATHOM_KERNELS)
#define FATHOM_INLINE [[gnu::cold]]
#else
#define FATHOM_INLINE [[gnu::cold]] inline
#endif
