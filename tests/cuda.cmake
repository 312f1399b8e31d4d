# Tests of the CUDA backend: kernels run on the CPU everywhere (cuda_emulation.hpp), and nvcc compiles them where it is.
fathom_test(cuda_emulation)
