// Arrays of neural codecs as tokens: the three orders, models' output, files and damaged files. interop_python.py compares
// with numpy.
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <fathom/data/codec_tokens.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::data::codebook_order;
using fathom::data::codebooks;
using fathom::data::read_codec_npy;
using tokens = std::vector<token>;

/// A .npy file of 16-bit numbers.
std::string npy(const std::string& shape, const std::vector<std::uint16_t>& numbers) {
  const std::string header = "{'descr': '<u2', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header +
         std::string(reinterpret_cast<const char*>(numbers.data()), 2 * numbers.size());
}

constexpr codebooks in_order(codebook_order order) { return {.count = 3, .entries = 10, .order = order}; }

}  // namespace

TEST_CASE("codebooks become one run of tokens in three orders", "[data]") {
  const tokens array{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9};  // [3, 4]
  const auto flatten = [&](codebook_order order) { return in_order(order).flatten(array); };
  const tokens interleaved{0, 14, 28, 1, 15, 29, 2, 16, 29, 3, 17, 29};
  const tokens flattened{0, 1, 2, 3, 14, 15, 16, 17, 28, 29, 29, 29};
  const tokens delayed{0, 1, 14, 2, 15, 28, 3, 16, 29, 17, 29, 29};
  CHECK(flatten(codebook_order::interleaved) == interleaved);
  CHECK(flatten(codebook_order::flattened) == flattened);
  CHECK(flatten(codebook_order::delayed) == delayed);
  CHECK(in_order({}).vocab() == 30);

  const tokens by_frame{0, 4, 8, 1, 5, 9, 2, 6, 9, 3, 7, 9};  // [4, 3]
  for (const auto order : {codebook_order::interleaved, codebook_order::flattened, codebook_order::delayed})
    for (std::size_t length = 0; length <= 4; ++length) {  // fewer frames than codebooks, too
      if (order == codebook_order::delayed && length == 1) continue;
      tokens few, expected(by_frame.begin(), by_frame.begin() + static_cast<std::ptrdiff_t>(3 * length));
      for (const std::size_t book : {0u, 1u, 2u}) few.insert(few.end(), &array[4 * book], &array[4 * book] + length);
      const auto frames = in_order(order).frames(in_order(order).flatten(few));
      CHECK(frames.values == expected);
      CHECK(frames.filled == 0);
      CHECK(frames.dropped == 0);
    }

  CHECK(fails_with(
      [] {
        return in_order(codebook_order::delayed).flatten(tokens{1, 2, 3});
      },
      "1 frame; expected at least 2"));

  CHECK(in_order({}).classify(28) == fathom::data::field_value{2, 8});
  CHECK(in_order({}).name(28) == "codebook 2: 8");
  CHECK(fails_with([] { return in_order({}).classify(30); }, "token 30"));
  CHECK(fails_with([] { return in_order({}).frames(tokens{1, -1}); }, "token -1 at position 1"));
  CHECK(fails_with([] { return in_order({}).flatten(tokens{1, 2, 10}); }, "token 10 at position 2", "0 to 9"));
  CHECK(fails_with([] { return in_order({}).flatten(tokens{1, 2}); }, "2 entries", "3 codebooks"));
  CHECK(fails_with([] { return codebooks{.count = 0}.flatten(tokens{}); }, "count = 0", "at least 1"));
  CHECK(fails_with([] { return codebooks{.count = 1 << 20, .entries = 1 << 20}.frames(tokens{}); },
                   "product of at most"));
}

TEST_CASE("codebooks reads what a model writes", "[data]") {
  const auto frames = [](codebook_order order, const tokens& written) { return in_order(order).frames(written); };
  SECTION("interleaved") {
    // The end of a frame, a whole frame, one without its second codebook, one with two of the first, the beginning of
    // a frame.
    const auto f = frames(codebook_order::interleaved, {15, 26, 1, 11, 21, 2, 22, 3, 4, 14, 24, 5});
    CHECK(f.values == tokens{1, 1, 1, 2, 1, 2, 3, 1, 2, 4, 4, 4, 5, 4, 4});
    CHECK(f.filled == 5);
    CHECK(f.dropped == 2);
    CHECK(frames(codebook_order::interleaved, {1, 2, 3, 11, 12}).values.empty());  // the third never comes
    CHECK(frames(codebook_order::interleaved, {1, 2, 3, 11, 12}).dropped == 5);
    CHECK(frames(codebook_order::interleaved, {}).values.empty());
  }
  SECTION("flattened") {
    const auto f = frames(codebook_order::flattened, {1, 2, 3, 11, 12, 21, 22, 23, 24});
    CHECK(f.values == tokens{1, 1, 1, 2, 2, 2, 3, 2, 3});
    CHECK(f.filled == 1);
    CHECK(f.dropped == 1);
    CHECK(frames(codebook_order::flattened, {11, 12, 21}).values.empty());
    CHECK(frames(codebook_order::flattened, {11, 12, 21}).dropped == 3);
  }
  SECTION("delayed, and cut off before the last codebook has caught up") {
    const auto f = frames(codebook_order::delayed, {1, 2, 11, 3, 12, 21, 4, 13, 22});
    CHECK(f.values == tokens{1, 1, 1, 2, 2, 2});
    CHECK(frames(codebook_order::delayed, {1, 2, 11}).values.empty());
  }
}

TEST_CASE("codec arrays are read in both orders of their dimensions, and written", "[data]") {
  const temporary_folder folder;
  const codebooks books{.count = 2, .entries = 100};
  const tokens expected{1, 104, 2, 105, 3, 106};
  for (const char* shape : {"(2, 3)", "(1, 2, 3)", "(1, 1, 2, 3)"})
    CHECK(read_codec_npy(folder.write("a.npy", npy(shape, {1, 2, 3, 4, 5, 6})), books) == expected);
  codebooks turned = books;
  turned.frames_first = true;
  for (const char* shape : {"(3, 2)", "(1, 3, 2)"})
    CHECK(read_codec_npy(folder.write("b.npy", npy(shape, {1, 4, 2, 5, 3, 6})), turned) == expected);
  for (const char* shape : {"(1, 3)", "(3,)", "(1, 1, 3)"})
    CHECK(read_codec_npy(folder.write("c.npy", npy(shape, {1, 2, 3})), {.count = 1, .entries = 4}) == tokens{1, 2, 3});

  for (const codebooks& b : {books, turned})
    for (const auto order : {codebook_order::interleaved, codebook_order::flattened, codebook_order::delayed}) {
      codebooks c = b;
      c.order = order;
      const tokens array{1, 2, 3, 4, 5, 6};  // [2, 3]
      write_codec_npy(folder.path() / "d.npy", c.flatten(array), c);
      CHECK(read_codec_npy(folder.path() / "d.npy", c) == c.flatten(array));
      CHECK(folder.read("d.npy").find(b.frames_first ? "'shape': (3, 2), }" : "'shape': (2, 3), }") !=
            std::string::npos);
    }
  CHECK(fails_with([&] { write_codec_npy(folder.path() / "d.npy", tokens{1, 2}, books); }, "no whole frame"));
  CHECK(read_codec_npy(folder.path() / "d.npy", turned).size() == 6);  // still what it was

  const auto refused = [&](const std::string& contents, const codebooks& b, const std::string& reason) {
    const auto path = folder.write("e.npy", contents);
    return fails_with([&] { return read_codec_npy(path, b); }, path.string(), reason);
  };
  CHECK(refused(npy("(3, 2)", {1, 4, 2, 5, 3, 6}), books, "the shape [3, 2]; expected 2 codebooks, [2, frames]"));
  CHECK(refused(npy("(2, 3)", {1, 4, 2, 5, 3, 6}), turned, "the shape [2, 3]; expected 2 codebooks, [frames, 2]"));
  CHECK(refused(npy("(6,)", {1, 4, 2, 5, 3, 6}), books, "the shape [6]"));
  CHECK(refused(npy("()", {1}), {.count = 1}, "the shape []"));
  CHECK(refused(npy("(2, 1, 3)", {1, 4, 2, 5, 3, 6}), books, "the shape [2, 1, 3]"));  // a batch of two
  CHECK(refused(npy("(2, 3)", {1, 4, 2, 5, 3, 100}), books, "token 100 at position 5"));
  CHECK(refused(npy("(2, 0)", {}), books, "has no tokens"));
  CHECK(refused("", books, "is not a .npy file"));
}

TEST_CASE("a damaged codec array is refused or read within its bounds", "[data]") {
  const temporary_folder folder;
  const std::string whole = npy("(1, 2, 3)", {1, 2, 3, 4, 5, 6});
  int read = 0, refused = 0;
  const auto attempt = [&](const std::string& contents) {
    const auto path = folder.write("a.npy", contents);
    try {
      const auto found = read_codec_npy(path, {.count = 2, .entries = 300});
      CHECK(found.size() <= 12);
      ++read;
    } catch (const fathom::error&) {
      ++refused;
    }
    std::filesystem::remove(path);  // writing over a file may wait for the disk
  };
  for (std::size_t length = 0; length < whole.size(); ++length) attempt(whole.substr(0, length));
  CHECK(read == 0);
  for (std::size_t position = 0; position < whole.size(); ++position)
    for (const char replacement : std::string("\0\x01\x7f\xff (),:0129", 13)) {
      std::string damaged = whole;
      damaged[position] = replacement;
      attempt(damaged);
    }
  CHECK(read > 20);
  CHECK(refused > 400);
}

TEST_CASE("a folder of codec arrays is split by file", "[data]") {
  const temporary_folder folder;
  for (std::uint16_t i = 0; i < 20; ++i)
    folder.write("part " + std::to_string(i % 3) + "/" + std::to_string(i) + ".npy", npy("(2, 3)", {i, i, i, i, i, i}));
  folder.write("readme.txt", "not an array");
  const codebooks books{.count = 2, .entries = 20};
  const auto corpus = fathom::data::codec_tokens(folder.path(), books, {.validation = 0.2, .test = 0.1});
  CHECK(corpus.vocab() == 40);
  CHECK(corpus.train().size() == 14 * 6);
  CHECK(corpus.validation().size() == 4 * 6);
  CHECK(corpus.test().size() == 2 * 6);
  std::set<token> seen;
  for (const auto part : {corpus.train(), corpus.validation(), corpus.test()}) {
    std::set<token> files;
    for (const token t : part) files.insert(t % 20);
    CHECK(files.size() * 6 == part.size());  // whole ones
    seen.insert(files.begin(), files.end());
  }
  CHECK(seen.size() == 20);

  REQUIRE(corpus.skipped().size() == 1);
  CHECK(corpus.skipped()[0].path == folder.path() / "readme.txt");

  folder.write("part 0/cut.npy", npy("(2, 3)", {1, 2, 3, 4, 5}));
  folder.write("part 1/large.npy", npy("(2, 3)", {1, 2, 3, 4, 5, 20}));
  folder.write("part 2/turned.npy", npy("(3, 2)", {1, 2, 3, 4, 5, 6}));
  CHECK(fails_with([&] { return fathom::data::codec_tokens(folder.path(), books); }, "part 0/cut.npy", "announces 6"));
  const auto rest = fathom::data::codec_tokens(folder.path(), books, {.validation = 0}, {.skip_damaged = true});
  CHECK(rest.all().size() == 20 * 6);
  std::set<std::string> reasons;
  for (const auto& [file, reason] : rest.skipped())
    reasons.insert(file.filename().string() + ": " + reason.substr(0, 20));
  CHECK(reasons == std::set<std::string>{"readme.txt: is of another kind, ", "cut.npy: is not a valid .npy ",
                                         "large.npy: token 20 at position", "turned.npy: has the shape [3, 2]"});

  const auto path = folder.write("one.npy", npy("(2, 10)", std::vector<std::uint16_t>(20, 7)));
  const auto one = fathom::data::codec_tokens(path, books);
  CHECK(one.validation().size() == 2);
  const temporary_folder other;
  other.write("a.txt", "text");
  CHECK(
      fails_with([&] { return fathom::data::codec_tokens(other.path(), books); }, "no files whose names end in .npy"));
}
