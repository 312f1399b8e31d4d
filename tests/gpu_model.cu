// Whole models on a GPU: golden values, training, files, decoding.
#include "gpu_main.hpp"

#include "cuda_golden.cpp"
#include "cuda_model.cpp"

#if defined(EIGEN_WORLD_VERSION) || defined(XSIMD_VERSION_MAJOR)
#error "fathom/cuda.cuh includes Eigen or xsimd"
#endif
