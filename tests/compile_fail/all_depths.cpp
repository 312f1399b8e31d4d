// One block has nothing before its end; more than 64 do not fit into the set.
// says: fathom::config: all_depths needs a depth of 2 to 64 blocks
// MISTAKE=1: all_depths_has_2_to_64_blocks<1>
// MISTAKE=65: all_depths_has_2_to_64_blocks<65>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 2
#endif
constexpr fathom::config c{
    .vocab = 61, .context = 16, .width = 32, .depth = MISTAKE, .heads = 4,
    .shortcut = {.depths = fathom::all_depths}};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
