// fathom::kernels: the cpu backend in double.
#include "fathom/kernels/cpu.inl.hpp"

FATHOM_KERNELS_OF_SCALAR(double)
FATHOM_KERNELS_OF_FUNCTORS(double)
FATHOM_KERNELS_OF(double, double)
