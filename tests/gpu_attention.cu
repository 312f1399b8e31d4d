// Attention of the CUDA backend, for a GPU.
#if __has_include("gpu_main.hpp")
#include "gpu_main.hpp"
#endif

#include "cuda_attention.cpp"
