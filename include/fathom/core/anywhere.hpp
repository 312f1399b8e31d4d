// Marks functions that run on the host and in GPU kernels: functors, and what they call. On the host they are inlined
// into loops over vectors.
#pragma once

#if defined(__CUDACC__)
#define FATHOM_ANYWHERE __host__ __device__
#else
#define FATHOM_ANYWHERE [[gnu::always_inline]]
#endif
