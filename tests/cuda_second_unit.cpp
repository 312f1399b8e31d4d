// A second translation unit with the whole backend, for the linker: nothing in the headers may be defined twice.
#if !defined(__CUDACC__)
#include "cuda_library.hpp"
#endif

#include <fathom/cuda.cuh>
