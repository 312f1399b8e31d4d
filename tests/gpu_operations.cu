// The operations of the CUDA backend on a GPU.
#include "gpu_main.hpp"

#include "cuda_operations.cpp"
