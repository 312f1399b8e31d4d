// At least one number per token.
// says: fathom::config: width must be positive
// MISTAKE=0: width_is_positive<0>
// MISTAKE=-1: width_is_positive<-1>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 32
#endif
constexpr fathom::config c{.vocab = 61, .context = 16, .width = MISTAKE, .depth = 4, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
