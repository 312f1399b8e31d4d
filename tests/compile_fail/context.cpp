// At least one token.
// says: fathom::config: context must be positive
// MISTAKE=0: context_is_positive<0>
// MISTAKE=-1: context_is_positive<-1>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 16
#endif
constexpr fathom::config c{.vocab = 61, .context = MISTAKE, .width = 32, .depth = 4, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
