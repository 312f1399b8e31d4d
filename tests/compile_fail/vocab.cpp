// At least one symbol.
// says: fathom::config: vocab must be positive
// MISTAKE=0: vocab_is_positive<0>
// MISTAKE=-1: vocab_is_positive<-1>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 61
#endif
constexpr fathom::config c{.vocab = MISTAKE, .context = 16, .width = 32, .depth = 4, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
