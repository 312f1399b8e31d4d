// At least one block.
// says: fathom::config: depth must be positive
// MISTAKE=0: depth_is_positive<0>
// MISTAKE=-1: depth_is_positive<-1>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 4
#endif
constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = MISTAKE, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
