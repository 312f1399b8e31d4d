// Functions that are no templates: part of every unit that includes them, or compiled once.
//
// X.hpp declares them and, at its end, includes X.inl.hpp, which defines them, unless FATHOM_KERNELS is defined. So the
// library is header-only. FATHOM_KERNELS is defined in units that link the target fathom::kernels, whose sources, in
// ../kernels/, include every X.inl.hpp: there the definitions exist once, and nobody else compiles them.
//
// None of them is where a program spends its time: they wait for files, or do a thing once. So they are cold, made small instead
// of fast, which takes a compiler less time, too. What goes over many numbers is a function of its own that they call.
#pragma once

#if defined(FATHOM_KERNELS)
#define FATHOM_INLINE [[gnu::cold]]
#else
#define FATHOM_INLINE [[gnu::cold]] inline
#endif
