// Shows what the last block attends to in earlier depths, for a line of text, or what a block's self-attention attends to:
// attention.png, and attention.html for a browser.
//
//   attention_map WEIGHTS [BLOCK [HEAD]]
//
// WEIGHTS is the file that examples/quickstart.sh writes, quickstart/tiny.safetensors. BLOCK and HEAD are numbers from 0.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include <fathom/fathom.hpp>
#include <fathom/viz.hpp>

#include "tiny.hpp"

using net = fathom::model<tiny>;

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 4) return std::fprintf(stderr, "usage: attention_map WEIGHTS [BLOCK [HEAD]]\n"), 2;
  auto weights = fathom::make<net::parameters>();
  fathom::load(argv[1], *weights);

  std::printf("A line of up to %td bytes: ", net::context);
  std::fflush(stdout);
  std::string line;
  std::getline(std::cin, line);
  std::vector<fathom::token> tokens;  // this model's tokens are bytes
  for (const char byte : line) tokens.push_back(static_cast<unsigned char>(byte));

  // The weights of the shortcut's attention: one softmax for each head and query, over the keys of both depths. Or those of a
  // block's self-attention, which every model has.
  auto map = argc > 2 ? fathom::attention_map<net>(*weights, tokens, {.block = std::atoi(argv[2])})
                      : fathom::attention_map<net>(*weights, tokens);
  if (argc > 3) map = map.one_head(std::atoi(argv[3]));
  for (std::size_t source = 0; source < map.sources.size(); ++source)
    std::printf("%s gets %.1f %% of the attention\n", map.sources[source].c_str(),
                100 * map.share(static_cast<fathom::index>(source)));
  fathom::viz::save_png("attention.png", map, {.title = line});
  fathom::viz::save_page("attention.html", map, {.title = line});
  std::printf("attention.png: the mean over the heads; {.heads = fathom::viz::heads::all} draws each of them\n"
              "attention.html: open it in a browser, and point at a letter\n");
} catch (const std::exception& e) {
  return std::fprintf(stderr, "attention_map: %s\n", e.what()), 1;
}
