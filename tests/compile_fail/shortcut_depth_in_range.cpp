// Depths are numbers from 0 to 63.
// says: fathom::config: a shortcut depth must lie between 0 and 63
// MISTAKE=-1: shortcut_depth_is_in_0_to_63<-1>
// MISTAKE=2, 64: shortcut_depth_is_in_0_to_63<64>
// MISTAKE=4294967297: shortcut_depth_is_in_0_to_63<4294967297>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 0, 63
#endif
constexpr fathom::config c{
    .vocab = 61, .context = 16, .width = 32, .depth = 64, .heads = 4,
    .shortcut = {.depths = {MISTAKE}}};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
