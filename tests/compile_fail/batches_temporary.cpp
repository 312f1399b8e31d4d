// Tokens without a name are gone before the first batch is made of them.
// says: deleted function
// MISTAKE=tokens(): batches
// MISTAKE=more_tokens(): batches
#include <span>
#include <vector>

#include <fathom/data/batches.hpp>

std::vector<fathom::token> tokens();
const std::vector<fathom::token> more_tokens();
fathom::index go_through(const std::vector<fathom::token>& named) {
#ifndef MISTAKE
#define MISTAKE std::span(named)
#endif
  fathom::index steps = static_cast<fathom::index>(named.size());
  for (const auto& batch : fathom::data::batches(MISTAKE, {.batch = 1, .tokens = 1, .steps = 10}))
    steps += batch.tokens;
  return steps;
}
