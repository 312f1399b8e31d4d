// Files of tokens, .bin of nanoGPT and of llm.c, and texts as bytes or letters.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <fathom/data/text.hpp>
#include <fathom/data/token_files.hpp>
#include <fathom/data/tokens.hpp>

#include "fuzz.hpp"

namespace fuzz::tokens {

void read(bytes input) {
  try {
    const auto found = fathom::data::tokens(file("input.bin", input), 50257);
    for (const fathom::token t : found.all()) expect(t >= 0 && t < 50257, "tokens are in the vocabulary");
    expect(found.train().size() + found.validation().size() + found.test().size() == found.all().size(), "the parts are all of it");
    const fathom::data::token_files files(file("input.bin", input), 50257);
    std::vector<fathom::token> same(found.all().size());
    files.read(0, same);
    expect(std::equal(same.begin(), same.end(), found.all().begin()), "files are read in place as they are loaded");
  } catch (const fathom::error&) {
  }
  const auto path = file("input.txt", input);
  const auto letters = fathom::data::bytes(path), words = fathom::data::text8(path);
  for (const fathom::token t : letters.all()) expect(t >= 0 && t < 256, "bytes are bytes");
  for (const fathom::token t : words.all()) expect(t >= 0 && t < 27, "letters are letters");
}

void make_seeds(seeds& to) {
  std::string llmc(1024, '\0');
  const std::int32_t header[] = {20240520, 1, 4};
  std::memcpy(llmc.data(), header, sizeof header);
  to.add(llmc + std::string("\1\0\2\0\3\0\4\0", 8));
  const std::int32_t wide[] = {20240801, 7, 3};
  std::memcpy(llmc.data(), wide, sizeof wide);
  to.add(llmc + std::string("\1\0\0\0\2\0\0\0\3\0\0\0", 12));
  to.add(std::string("\1\0\2\0\3\0\4\0\5\0\6\0\7\0\x08\0\x09\0\x0a\0\x0b\0\x0c\0", 24));
  to.add("\xef\xbb\xbfIn the beginning 12 na\xc3\xafve cats");
  to.add(std::string("\xff\xfeI\0n\0 \0t\0h\0e\0 \0b\0", 18));
  to.add("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n");
}

const harness it("tokens", read, make_seeds);

}  // namespace fuzz::tokens
