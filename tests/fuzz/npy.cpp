// .npy files, as tokens and as the codebooks of a neural codec.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <fathom/data/codec_tokens.hpp>
#include <fathom/data/token_files.hpp>
#include <fathom/data/tokens.hpp>

#include "fuzz.hpp"

namespace fuzz::npy {

void read(bytes input) {
  const auto path = file("input.npy", input);
  for (const bool frames_first : {false, true})
    for (const auto order : {fathom::data::codebook_order::interleaved, fathom::data::codebook_order::flattened, fathom::data::codebook_order::delayed}) {
      const fathom::data::codebooks books{.count = 2, .entries = 1024, .order = order, .frames_first = frames_first};
      try {
        const auto tokens = fathom::data::read_codec_npy(path, books);
        const auto frames = books.frames(tokens);
        expect(frames.values.size() == tokens.size(), "whole frames are read as they were");
      } catch (const fathom::error&) {
      }
    }
  try {
    const fathom::data::token_files files(path, 70000);
    std::vector<fathom::token> some(static_cast<std::size_t>(std::min<fathom::index>(files.size(), 100)));
    files.read(files.size() - std::ssize(some), some);
    for (const fathom::token t : some) expect(t >= 0 && t < 70000, "tokens read in place are in the vocabulary");
  } catch (const fathom::error&) {
  }
  const auto found = fathom::data::tokens(path, 70000);
  for (const fathom::token t : found.all()) expect(t >= 0 && t < 70000, "tokens are in the vocabulary");
}

void make_seeds(seeds& to) {
  const auto path = to.scratch() / "a.npy";
  const std::vector<fathom::token> tokens{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  for (const char* shape : {"(12,)", "(2, 6)", "(6, 2)", "(1, 2, 6)"}) {
    fathom::data::detail::write_npy(path, tokens, shape);
    to.add(seeds::read(path));
  }
  const auto with_header = [&](const std::string& header, const std::string& data, char version) {
    std::string contents = std::string("\x93NUMPY") + version + '\0';
    contents += static_cast<char>(header.size());
    contents += std::string(version == 1 ? 1 : 3, '\0');
    to.add(contents + header + data);
  };
  with_header("{'descr': '>u2', 'fortran_order': True, 'shape': (2, 3), }\n", std::string("\0\1\0\2\0\3\0\4\0\5\0\6", 12), 1);
  with_header("{'descr': '|i1', 'fortran_order': False, 'shape': (3L,), }\n", "\1\2\3", 2);
  with_header("{'shape': (2,), 'descr': '<i8', 'fortran_order': False}\n", std::string("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16), 3);
}

/// Sets the length of the header: to its closing brace.
void repair(std::string& input) {
  const std::size_t begin = input.size() > 6 && input[6] == 1 ? 10 : 12, end = input.find('}');
  if (end == input.npos || end < begin || end - begin > 60000) return;
  const auto length = static_cast<std::uint32_t>(end + 1 - begin);
  std::memcpy(input.data() + 8, &length, begin - 8);
}

const harness it("npy", read, make_seeds, repair);

}  // namespace fuzz::npy
