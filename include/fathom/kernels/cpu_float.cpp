// fathom::kernels: the cpu backend in float.
#include "fathom/kernels/cpu.inl.hpp"

FATHOM_KERNELS_OF_SCALAR(float)
FATHOM_KERNELS_OF_FUNCTORS(float)
FATHOM_KERNELS_OF_PACKED(float, bf16)
FATHOM_KERNELS_OF_PACKED(float, std::int8_t)
FATHOM_KERNELS_OF_GROUPED(int4)
FATHOM_KERNELS_OF_GROUPED(symmetric_int4)
FATHOM_KERNELS_OF_GROUPED(grouped_int8)
FATHOM_KERNELS_OF(float, float)
FATHOM_KERNELS_WITH_PACKED(float, float, bf16)
FATHOM_KERNELS_WITH_PACKED(float, float, std::int8_t)
FATHOM_KERNELS_WITH_STORED(float, bf16)
FATHOM_KERNELS_WITH_STORED(float, std::int8_t)
FATHOM_KERNELS_WITH_GROUPED(float, int4)
FATHOM_KERNELS_WITH_GROUPED(float, symmetric_int4)
FATHOM_KERNELS_WITH_GROUPED(float, grouped_int8)

namespace fathom::cpu {
inline namespace FATHOM_ISA {
namespace detail {
FATHOM_ENTRY void read_table_row<float, bf16>(const void*, index, index, float*, bool);
}
}  // namespace FATHOM_ISA
}  // namespace fathom::cpu
