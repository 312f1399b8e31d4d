// A unit for a different processor than fathom::kernels has different layouts.
// says: fathom: this unit is compiled for another instruction set than fathom::kernels: give both the same -march, or link fathom::fathom
// flags: -std=c++20 -DFATHOM_KERNELS=of_another_processor
// MISTAKE=<fathom/model/model.hpp>: isa.hpp
#if defined(MISTAKE)
#include MISTAKE
#endif
