// Checks the compiler and its flags, and says in one sentence what is missing. Every header includes this first,
// through types.hpp.
#pragma once

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error fathom is written in C++20: compile with -std=c++20 or newer (in CMake: target_compile_features(app PRIVATE cxx_std_20))
#define FATHOM_CANNOT_BE_COMPILED 1
// Attention masks with infinity, and broken weights and diverged training show as NaN. A compiler that assumes neither
// exists removes the checks, and a program would go on with garbage.
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#error fathom needs infinity and NaN: compile without -ffast-math and -Ofast, or add -fno-finite-math-only -fno-associative-math behind them
#define FATHOM_CANNOT_BE_COMPILED 1
// Some sums are exact only in the order written, and some must not depend on the number of threads.
#elif defined(__ASSOCIATIVE_MATH__)
#error fathom needs sums in the order in which they are written: compile without -fassociative-math
#define FATHOM_CANNOT_BE_COMPILED 1
#endif

#if defined(FATHOM_CANNOT_BE_COMPILED)
#include "fathom/core/cannot_be_compiled.hpp"  // there is no such file: compilation ends here, before other errors
#endif
