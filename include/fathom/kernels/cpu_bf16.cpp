// fathom::kernels: the cpu backend with products in bf16.
#include "fathom/kernels/cpu.inl.hpp"

FATHOM_KERNELS_OF(bf16, float)
FATHOM_KERNELS_WITH_PACKED(bf16, float, bf16)
FATHOM_KERNELS_WITH_PACKED(bf16, float, std::int8_t)
FATHOM_KERNELS_WITH_STORED(bf16, bf16)
FATHOM_KERNELS_WITH_STORED(bf16, std::int8_t)
FATHOM_KERNELS_WITH_GROUPED(bf16, int4)
FATHOM_KERNELS_WITH_GROUPED(bf16, symmetric_int4)
FATHOM_KERNELS_WITH_GROUPED(bf16, grouped_int8)
