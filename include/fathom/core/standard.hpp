// What the library needs of a compiler, said in one sentence where it is missing. types.hpp, and so every header, begins here.
#pragma once

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error fathom is written in C++20: compile with -std=c++20 or newer (in CMake: target_compile_features(app PRIVATE cxx_std_20))
#define FATHOM_CANNOT_BE_COMPILED 1
// Infinity hides what attention must not see, and NaN is how broken weights and diverged training are found: a compiler that
// takes both for impossible removes the checks, and a program would go on with garbage.
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#error fathom needs infinity and NaN: compile without -ffast-math and -Ofast, or add -fno-finite-math-only -fno-associative-math behind them
#define FATHOM_CANNOT_BE_COMPILED 1
// Sums are in an order that makes them exact, or the same for any number of threads.
#elif defined(__ASSOCIATIVE_MATH__)
#error fathom needs sums in the order in which they are written: compile without -fassociative-math
#define FATHOM_CANNOT_BE_COMPILED 1
#endif

#if defined(FATHOM_CANNOT_BE_COMPILED)
#include "fathom/core/cannot_be_compiled.hpp"  // there is no such file: compilation ends here, before more errors follow
#endif
