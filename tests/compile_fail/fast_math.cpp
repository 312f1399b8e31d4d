// fathom needs infinity, NaN and ordered sums.
// says: fathom needs infinity and NaN: compile without -ffast-math and -Ofast
// flags: -std=c++20 -Ofast
// flags: -std=c++20 -ffast-math
// flags: -std=c++20 -O2 -ffinite-math-only
// MISTAKE=<fathom/generate/sampler.hpp>: standard.hpp
#if defined(MISTAKE)
#include MISTAKE
#endif
