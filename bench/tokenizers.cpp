// For compare_tokenizers.py: reads a file name from each line of the standard input, and answers with the seconds to encode
// the file on one core and the number of tokens. The first time, it also writes the tokens to FILE.tokens.
//
//   bench_tokenizers VOCAB MERGES
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <fathom/data/bpe.hpp>
#include <fathom/data/tokens.hpp>

int main(int argc, char** argv) {
  try {
    if (argc != 3) fathom::fail("usage: bench_tokenizers VOCAB MERGES");
    const auto seconds = [start = std::chrono::steady_clock::now()] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    const fathom::data::bpe tokenizer(argv[1], argv[2]);
    std::cout << seconds() << std::endl;  // to load the files
    std::map<std::string, std::string> texts;
    for (std::string name; std::getline(std::cin, name);) {
      const bool is_new = !texts.contains(name);
      if (is_new) {
        std::ifstream file(name, std::ios::binary);
        texts[name].assign(std::istreambuf_iterator<char>(file), {});
      }
      const double start = seconds();
      const std::vector<fathom::token> tokens = tokenizer.encode(texts[name]);
      const double taken = seconds() - start;
      if (is_new) fathom::data::write_bin(name + ".tokens", tokens);
      std::cout << taken << ' ' << tokens.size() << std::endl;
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_tokenizers: %s\n", e.what());
    return 1;
  }
}
