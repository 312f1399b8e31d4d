// Shows what the last block attends to in earlier depths, for a line of text, or what a block's self-attention attends to:
// attention.png, and attention.html for a browser.
//
//   attention_map WEIGHTS [BLOCK [HEAD]]
//
// WEIGHTS is the file that examples/quickstart.sh writes, quickstart/tiny.safetensors. Configured with -DFATHOM_ATTENTION_MAP=MODEL, it
// is that model, a GGUF file or a folder of `transformers` with a tokenizer. BLOCK and HEAD are numbers from 0.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include <fathom/fathom.hpp>
#include <fathom/viz.hpp>

#ifdef FATHOM_ATTENTION_MAP
#include <attention_map_model.hpp>  // by fathom_add_model
using net = attention_map_model::model;
#else
#include "tiny.hpp"
using net = fathom::model<tiny>;
#endif

/// That of the shortcut, if the model has one and no block is named.
fathom::attention_weights_map map_of(const net::parameters& weights, const std::vector<fathom::token>& tokens, const char* block) {
  if constexpr (!net::body::depths.empty())
    if (!block) return fathom::attention_map<net>(weights, tokens);
  return fathom::attention_map<net>(weights, tokens, {.block = block ? std::atoi(block) : net::depth - 1});
}

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 4) return std::fprintf(stderr, "usage: attention_map WEIGHTS [BLOCK [HEAD]]\n"), 2;
  auto weights = fathom::make<net::parameters>();
  fathom::load(argv[1], *weights);

  std::printf("A line of up to %td tokens: ", net::context);
  std::fflush(stdout);
  std::string line;
  std::getline(std::cin, line);
#ifdef FATHOM_ATTENTION_MAP
  const auto tokenizer = fathom::data::read_bpe(fathom::io::model_files(argv[1]));
  const std::vector<fathom::token> tokens = tokenizer.encode(line, fathom::data::special::as_text, fathom::data::ends::marked);
  const fathom::viz::labels labels = [&](fathom::token t) { return t < tokenizer.size() ? std::string(tokenizer.bytes(t)) : std::string("?"); };
#else
  std::vector<fathom::token> tokens;  // this model's tokens are bytes
  for (const char byte : line) tokens.push_back(static_cast<unsigned char>(byte));
  const fathom::viz::labels labels;
#endif

  // The weights of the shortcut's attention: one softmax for each head and query, over the keys of both depths. Or those of a
  // block's self-attention, which every model has.
  auto map = map_of(*weights, tokens, argc > 2 ? argv[2] : nullptr);
  if (argc > 3) map = map.one_head(std::atoi(argv[3]));
  for (std::size_t source = 0; source < map.sources.size(); ++source)
    std::printf("%s gets %.1f %% of the attention\n", map.sources[source].c_str(),
                100 * map.share(static_cast<fathom::index>(source)));
  fathom::viz::save_png("attention.png", map, {.title = line, .labels = labels});
  fathom::viz::save_page("attention.html", map, {.title = line, .labels = labels});
  std::printf("attention.png: the mean over the heads; {.heads = fathom::viz::heads::all} draws each of them\n"
              "attention.html: open it in a browser, and point at a token\n");
} catch (const std::exception& e) {
  return std::fprintf(stderr, "attention_map: %s\n", e.what()), 1;
}
