// A hidden width of the feature maps, or 0 for the usual one.
// says: fathom::config: shortcut.hidden must be positive, or 0 for width
// MISTAKE=-7: shortcut_hidden_is_not_negative<-7>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 0
#endif
constexpr fathom::config c{
    .vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4,
    .shortcut = {.depths = {2}, .hidden = MISTAKE}};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
