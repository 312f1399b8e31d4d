// A second translation unit with the whole backend: checks at link time that headers define nothing twice.
#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <fathom/cuda.cuh>
