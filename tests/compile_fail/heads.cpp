// At least one attention head.
// says: fathom::config: heads must be positive
// MISTAKE=0: heads_is_positive<0>
// MISTAKE=-1: heads_is_positive<-1>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 4
#endif
constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = MISTAKE};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
