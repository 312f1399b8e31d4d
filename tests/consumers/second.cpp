// A second file of the same program: definitions in headers must be inline.
#include <fathom/fathom.hpp>

constexpr fathom::config tiny{
    .vocab = 9, .context = 8, .width = 8, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};

fathom::index parameters_elsewhere() { return fathom::model<tiny>::parameter_count; }
