// What transformers cannot hold is not saved for it.
// says: fathom::save_transformers: transformers has no GPT-2 with shortcuts
// MISTAKE={1}: gpt<61, 16, 32, 2, 4, 128, true, 2
#include <fathom/backend/reference.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE {}
#endif
constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 2, .heads = 4, .shortcut = {.depths = MISTAKE}};
using net = fathom::model<c, fathom::backend::reference<float>>;
void save(const net::parameters& weights) { fathom::save_transformers("folder", weights); }
