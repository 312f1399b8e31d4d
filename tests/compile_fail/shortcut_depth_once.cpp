// A depth is selected or it is not.
// says: fathom::config: a shortcut depth must be listed once
// MISTAKE=2, 2: shortcut_depth_is_listed_once<2, true>
// MISTAKE=0, 3, 0: shortcut_depth_is_listed_once<0, true>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 2, 1
#endif
constexpr fathom::config c{
    .vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4,
    .shortcut = {.depths = {MISTAKE}}};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
