// A tokenizer as a filter, for make_bpe.py: reads texts from the standard input, each a line of hexadecimal digits, and
// writes the tokens of each on a line.
//
//   bpe_lines VOCAB MERGES [--special]     with --special, the spelling of a special token encodes to it
//   bpe_lines FOLDER [--special]
#include <charconv>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <fathom/data/bpe.hpp>

int main(int argc, char** argv) {
  try {
    using fathom::data::bpe, fathom::data::special;
    const bool parsed = argc > 2 && argv[argc - 1] == std::string("--special");
    const int files = argc - 1 - parsed;
    if (files != 1 && files != 2) fathom::fail("usage: bpe_lines VOCAB MERGES [--special], or FOLDER in place of both");
    const bpe tokenizer = files == 1 ? bpe(argv[1]) : bpe(argv[1], argv[2]);
    const auto how = parsed ? special::as_tokens : special::as_text;
    std::vector<fathom::token> tokens;
    for (std::string line, text; std::getline(std::cin, line);) {
      text.clear();
      for (std::size_t i = 0; i + 1 < line.size(); i += 2) {
        unsigned byte = 0;
        std::from_chars(line.data() + i, line.data() + i + 2, byte, 16);
        text += static_cast<char>(byte);
      }
      tokens.clear();
      tokenizer.encode(text, tokens, how);
      if (tokenizer.decode(tokens) != text) fathom::fail("decoding does not give the text back: ", line);
      for (std::size_t i = 0; i < tokens.size(); ++i) std::printf(i == 0 ? "%d" : " %d", static_cast<int>(tokens[i]));
      std::putchar('\n');
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bpe_lines: %s\n", e.what());
    return 1;
  }
}
