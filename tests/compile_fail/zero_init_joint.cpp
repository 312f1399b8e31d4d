// There must be a projection to zero.
// says: fathom::config: zero_init zeroes shortcut.attn.c_proj, which placement::joint does not have
// MISTAKE=joint: zero_init_is_not_joint<true, true>
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE after_self_attention
#endif
constexpr fathom::config c{
    .vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4,
    .shortcut = {.depths = {2}, .placement = fathom::placement::MISTAKE, .zero_init = true}};
using net = fathom::model<c, fathom::backend::reference<float>>;
static_assert(net::parameter_count > 0);
