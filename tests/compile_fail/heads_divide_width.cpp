// Every head gets the same number of columns.
// says: fathom::config: width must be a multiple of heads
// MISTAKE=5: width_is_a_multiple_of_heads<32, 5>
// MISTAKE=64: width_is_a_multiple_of_heads<32, 64>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 4
#endif
constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = MISTAKE};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
