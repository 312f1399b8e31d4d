// Decodes greedily from a prompt of bytes, one byte for each token, with two threads. Unlike examples/story, an ordinary,
// dynamically linked program that reads the model's file at the start. compare_deployment.py builds it for a
// FATHOM_CONFIG (the members of a fathom::config) and a FATHOM_TYPE.
//
//   deployment_fathom FOLDER PROMPT COUNT
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#include <fathom/fathom.hpp>

using net = fathom::model<fathom::config{FATHOM_CONFIG}>;
using generator = fathom::generator<net, FATHOM_TYPE>;

int main(int argc, char** argv) try {
  if (argc != 4) return std::fputs("usage: deployment_fathom FOLDER PROMPT COUNT\n", stderr), 2;
  const auto weights = fathom::make<net::packed<FATHOM_TYPE>>();
  fathom::load(argv[1], *weights);
  alignas(fathom::alignment) static std::byte memory[generator::bytes];
  generator writer(*weights, memory, {.temperature = 0, .threads = 2});
  writer.write(std::string_view(argv[2]), std::atoi(argv[3]),
               [](fathom::token t) { return std::putchar(static_cast<int>(t)) != EOF && std::fflush(stdout) == 0; });
} catch (const std::exception& e) {
  std::fprintf(stderr, "deployment_fathom: %s\n", e.what());
  return 1;
}
