// Decodes greedily from a prompt whose bytes are tokens, with two threads, and writes the last byte of each token's number.
// Unlike examples/story, an ordinary, dynamically linked program that maps a file of packed weights. compare_deployment.py
// builds it for a FATHOM_CONFIG (a fathom::config in braces) and a FATHOM_TYPE, and has it pack the file.
//
//   deployment_fathom FILE PROMPT COUNT
//   deployment_fathom --pack FOLDER FILE
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <string_view>
#include <vector>

#include <fathom/fathom.hpp>

using net = fathom::model<fathom::config FATHOM_CONFIG>;
using generator = fathom::generator<net, FATHOM_TYPE>;

int main(int argc, char** argv) try {
  if (argc != 4) return std::fputs("usage: deployment_fathom FILE PROMPT COUNT, or --pack FOLDER FILE\n", stderr), 2;
  if (std::string_view(argv[1]) == "--pack") {
    const auto weights = fathom::make<net::packed<FATHOM_TYPE>>();
    fathom::load(argv[2], *weights);
    return fathom::save_packed(argv[3], *weights), 0;
  }
  const fathom::packed_file<net, FATHOM_TYPE> weights(argv[1]);
  alignas(fathom::alignment) static std::byte memory[generator::bytes];
  generator writer(*weights, memory, {.temperature = 0, .threads = 2});
  std::vector<fathom::token> prompt;
  for (const char byte : std::string_view(argv[2])) prompt.push_back(static_cast<unsigned char>(byte));
  writer.write(std::span<const fathom::token>(prompt), std::atoi(argv[3]),
               [](fathom::token t) { return std::putchar(static_cast<int>(t % 256)) != EOF && std::fflush(stdout) == 0; });
} catch (const std::exception& e) {
  std::fprintf(stderr, "deployment_fathom: %s\n", e.what());
  return 1;
}
