// A second file of the same program: what the headers define must be inline.
#include <fathom/fathom.hpp>

constexpr fathom::config tiny{
    .vocab = 9, .context = 8, .width = 8, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};

fathom::index parameters_elsewhere() { return fathom::model<tiny>::parameter_count; }
