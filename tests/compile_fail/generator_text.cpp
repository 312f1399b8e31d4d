// A text prompt is for models whose tokens are bytes.
// says: generator.write: a text prompt needs a model whose tokens are bytes, vocab 256; encode the text and hand over tokens
// MISTAKE=61: 61
#include <fathom/backend/reference.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/model/model.hpp>

#ifndef MISTAKE
#define MISTAKE 256
#endif
constexpr fathom::config c{.vocab = MISTAKE, .context = 16, .width = 32, .depth = 4, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;
void write(fathom::generator<net>& writer) {
  writer.write("In the beginning", 10, [](fathom::token) { return true; });
}
