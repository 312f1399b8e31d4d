// The last block's own output is no intermediate layer.
// says: fathom::config: a shortcut depth must be smaller than depth, the number of blocks: the last block's own output is not an intermediate layer
// MISTAKE=4: shortcut_depth_is_below_blocks<4, 4>
// MISTAKE=1, 63: shortcut_depth_is_below_blocks<63, 4>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 1, 3
#endif
constexpr fathom::config c{
    .vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4,
    .shortcut = {.depths = {MISTAKE}}};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
