// Only a shortcut has something to look at.
// says: fathom::attention_map: this model has no shortcut to look at
// MISTAKE=1: attention_map
#include <span>

#include <fathom/backend/reference.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/model.hpp>

#ifdef MISTAKE
constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4};
#else
constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4, .shortcut = {.depths = {2}}};
#endif
using net = fathom::model<c, fathom::backend::reference<float>>;
auto look(const net::parameters& weights, std::span<const fathom::token> tokens) {
  return fathom::attention_map<net>(weights, tokens);
}
