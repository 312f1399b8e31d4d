// A tokenizer as a filter, for make_bpe.py and make_tokenizers.py: reads texts from the standard input, each a line of
// hexadecimal digits, and writes the tokens of each on a line.
//
//   bpe_lines VOCAB MERGES [OPTION ...]    or a FOLDER in place of both
//     --special    the spelling of a special token is that token
//     --marked     the tokens at the ends of a text are added
//     --decode     the text of the tokens without special ones follows, after a colon, in hexadecimal digits; without
//                  this option, it must be the text that was read
#include <charconv>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <fathom/data/bpe.hpp>

int main(int argc, char** argv) {
  try {
    using namespace fathom::data;
    std::vector<std::string> files;
    bool parsed = false, marked = false, decoded = false;
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      if (argument == "--special")
        parsed = true;
      else if (argument == "--marked")
        marked = true;
      else if (argument == "--decode")
        decoded = true;
      else
        files.push_back(argument);
    }
    if (files.size() != 1 && files.size() != 2)
      fathom::fail("usage: bpe_lines VOCAB MERGES [--special] [--marked] [--decode], or FOLDER in place of both");
    const bpe tokenizer = files.size() == 1 ? bpe(files[0]) : bpe(files[0], files[1]);
    std::vector<fathom::token> tokens;
    for (std::string line, text; std::getline(std::cin, line);) {
      text.clear();
      for (std::size_t i = 0; i + 1 < line.size(); i += 2) {
        unsigned byte = 0;
        std::from_chars(line.data() + i, line.data() + i + 2, byte, 16);
        text += static_cast<char>(byte);
      }
      tokens.clear();
      tokenizer.encode(text, tokens, parsed ? special::as_tokens : special::as_text,
                       marked ? ends::marked : ends::bare);
      if (!decoded && tokenizer.decode(tokens) != text) fathom::fail("decoding does not give the text back: ", line);
      for (std::size_t i = 0; i < tokens.size(); ++i) std::printf(i == 0 ? "%d" : " %d", static_cast<int>(tokens[i]));
      if (decoded) {
        std::putchar(':');
        for (const char byte : tokenizer.decode(tokens, specials::left_out))
          std::printf("%02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
      }
      std::putchar('\n');
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bpe_lines: %s\n", e.what());
    return 1;
  }
}
