// Token files: .bin and .npy, read and written, and above all hostile files.
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/batches.hpp>
#include <fathom/data/token_files.hpp>
#include <fathom/data/tokens.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;

std::vector<token> vector(std::span<const token> tokens) { return {tokens.begin(), tokens.end()}; }

/// All tokens of a file.
std::vector<token> read(const std::filesystem::path& path, fathom::index vocab = 65536) {
  const auto corpus = fathom::data::tokens(path, vocab, {.validation = 0});
  return vector(corpus.all());
}

/// The bytes of numbers, one after the other.
template <class Number>
std::string bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

/// A .npy file of version 1.0 with any header and data.
std::string npy(const std::string& header, const std::string& data) {
  const auto length = static_cast<std::uint16_t>(header.size());
  return std::string("\x93NUMPY\x01\x00", 8) + bytes_of(std::vector{length}) + header + data;
}

/// The header that numpy writes for a type and a shape.
std::string dictionary(const std::string& type, const std::string& shape, const std::string& fortran_order = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + fortran_order + ", 'shape': " + shape + ", }      \n";
}

/// What numpy.save writes for numpy.array([1, 2, 65535], numpy.uint16).
const std::string saved_by_numpy = std::string("\x93NUMPY\x01\x00v\x00", 10) +
                                   "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }" + std::string(60, ' ') +
                                   "\n" + std::string("\x01\x00\x02\x00\xff\xff", 6);

}  // namespace

TEST_CASE("tokens reads a .bin file", "[data]") {
  const temporary_folder folder;
  const auto path = folder.write("train.bin", std::string("\x00\x00\x01\x00\x00\x01\x50\xc4\xff\xff", 10));
  CHECK(read(path) == std::vector<token>{0, 1, 256, 50256, 65535});

  const auto corpus = fathom::data::tokens(path, 65536, {.validation = 0.2, .test = 0.2});
  CHECK(corpus.vocab() == 65536);
  CHECK(vector(corpus.train()) == std::vector<token>{0, 1, 256});
  CHECK(vector(corpus.validation()) == std::vector<token>{50256});
  CHECK(vector(corpus.test()) == std::vector<token>{65535});

  CHECK(fails_with([&] { return read(path, 65535); }, path.string(), "token 65535 at position 4", "0 to 65534"));
  CHECK(fails_with([&] { return read(path, 0); }, "vocabulary of 0"));
  CHECK(fails_with([&] { return read(path, fathom::index{1} << 32); }, "vocabulary of 4294967296"));
  CHECK(fails_with([&] { return read(folder.write("odd.bin", "abc")); }, "odd.bin: has 3 bytes"));
  CHECK(fails_with([&] { return read(folder.write("empty.bin", "")); }, "empty.bin: has 0 bytes"));
  CHECK(fails_with([&] { return read(folder.path() / "none.bin"); }, "none.bin", "No such file"));
  CHECK(fails_with([&] { return read(folder.write("tokens.txt", "ab")); }, "tokens.txt", "expected", ".bin or .npy"));
  CHECK(fails_with([&] { return fathom::data::tokens(folder.write("one.bin", "ab"), 65536); }, "one.bin: 1 tokens"));
  CHECK(read(folder.write("CAPITALS.BIN", "ab")) == std::vector<token>{0x6261});
}

TEST_CASE("tokens reads what numpy saves", "[data]") {
  const temporary_folder folder;
  CHECK(saved_by_numpy.size() == 128 + 6);
  const auto path = folder.write("a.npy", saved_by_numpy);
  CHECK(read(path) == std::vector<token>{1, 2, 65535});
  CHECK(fails_with([&] { return read(path, 65535); }, "token 65535 at position 2"));
}

TEST_CASE("tokens reads every type of integer in a .npy file", "[data]") {
  const temporary_folder folder;
  const auto check = [&]<class Number>(const std::string& type, Number largest) {
    INFO("type " << type);
    const std::vector<Number> numbers{0, 1, 127, largest};
    const auto path = folder.write("a.npy", npy(dictionary(type, "(4,)"), bytes_of(numbers)));
    CHECK(read(path, fathom::index{1} << 31) == std::vector<token>{0, 1, 127, static_cast<token>(largest)});
    CHECK(fails_with([&] { return read(path, 127); }, "token 127 at position 2"));

    if constexpr (std::is_signed_v<Number>) {
      const std::vector<Number> negative{5, -1};
      folder.write("a.npy", npy(dictionary(type, "(2,)"), bytes_of(negative)));
      CHECK(fails_with([&] { return read(path); }, "token -1 at position 1"));
    }
    // Numbers too large for a token must not wrap around.
    if constexpr (sizeof(Number) >= 4) {
      const std::vector<Number> large{std::numeric_limits<Number>::max()};
      if (sizeof(Number) == 8 || !std::is_signed_v<Number>) {
        folder.write("a.npy", npy(dictionary(type, "(1,)"), bytes_of(large)));
        CHECK(fails_with([&] { return read(path, fathom::index{1} << 31); }, "token " + std::to_string(large[0])));
      }
    }
    if constexpr (sizeof(Number) == 8) {
      const std::vector<Number> wraps{(Number{1} << 32) + 3};
      folder.write("a.npy", npy(dictionary(type, "(1,)"), bytes_of(wraps)));
      CHECK(fails_with([&] { return read(path); }, "token 4294967299 at position 0"));
    }
  };
  check("|u1", std::uint8_t{255});
  check("|i1", std::int8_t{127});
  check("<u2", std::uint16_t{65535});
  check("<i2", std::int16_t{32767});
  check("<u4", std::uint32_t{2147483647});
  check("<i4", std::int32_t{2147483647});
  check("<u8", std::uint64_t{2147483647});
  check("<i8", std::int64_t{2147483647});
}

TEST_CASE("tokens reads the types of a .npy file by all their names", "[data]") {
  // As numpy.dtype accepts them, on a machine with longs of 64 bits.
  const temporary_folder folder;
  const auto check = [&](std::initializer_list<const char*> types, const std::string& two_hundred) {
    for (const char* type : types) {
      INFO("type " << type);
      const auto path = folder.write("a.npy", npy(dictionary(type, "(1,)"), two_hundred));
      CHECK(read(path) == std::vector<token>{200});
    }
  };
  check({"u1", "|u1", "<u1", ">u1", "=u1", "B", "uint8"}, "\xc8");
  check({"u2", "<u2", "=u2", "|u2", "i2", "<i2", "h", "<H", "uint16", "int16"}, std::string("\xc8\0", 2));
  check({">u2", ">i2", ">h"}, std::string("\0\xc8", 2));
  check({"u4", "<u4", "=i4", "i4", "i", "I", "<i", "int32", "uint32"}, std::string("\xc8\0\0\0", 4));
  check({">u4", ">i4"}, std::string("\0\0\0\xc8", 4));
  check({"u8", "<u8", "=i8", "i8", "q", "Q", "int64", "uint64"}, std::string("\xc8\0\0\0\0\0\0\0", 8));
  check({">u8", ">i8", ">q"}, std::string("\0\0\0\0\0\0\0\xc8", 8));
  if constexpr (sizeof(long) == 8) check({"l", "L", "p", "int", "uint"}, std::string("\xc8\0\0\0\0\0\0\0", 8));
  const auto negative = folder.write("b.npy", npy(dictionary(">i2", "(1,)"), "\xff\xfe"));
  CHECK(fails_with([&] { return read(negative); }, "token -2 at position 0"));
}

TEST_CASE("tokens reads llm.c's files", "[data]") {
  const temporary_folder folder;
  const auto file = [](std::int32_t magic, std::int32_t version, std::int32_t count, const std::string& data) {
    std::vector<std::int32_t> header(256);
    header[0] = magic, header[1] = version, header[2] = count;
    return bytes_of(header) + data;
  };
  const std::vector<std::uint16_t> narrow{1, 2, 50256, 0, 5};
  const std::vector<std::uint32_t> wide{1, 128000, 7};
  CHECK(read(folder.write("a.bin", file(20240520, 1, 5, bytes_of(narrow)))) == std::vector<token>{1, 2, 50256, 0, 5});
  CHECK(read(folder.write("b.bin", file(20240801, 7, 3, bytes_of(wide))), 128256) == std::vector<token>{1, 128000, 7});

  const auto refused = [&](const std::string& contents, const auto&... reasons) {
    const auto path = folder.write("c.bin", contents);
    return fails_with([&] { return read(path); }, path.string(), reasons...);
  };
  CHECK(refused(file(20240520, 1, 5, bytes_of(narrow) + "xx"), "announces 5 tokens of 2 bytes, and 12 bytes follow"));
  CHECK(refused(file(20240520, 1, 6, bytes_of(narrow)), "announces 6 tokens of 2 bytes, and 10 bytes follow"));
  CHECK(refused(file(20240520, 1, 5, bytes_of(narrow) + "x"), "and 11 bytes follow"));
  CHECK(refused(file(20240520, 1, -5, bytes_of(narrow)), "announces -5 tokens"));
  CHECK(refused(file(20240520, 1, 0, ""), "has no tokens"));
  CHECK(refused(file(20240520, 1, 5, "").substr(0, 1000), "20240520", "within its header"));
  CHECK(refused(file(20240520, 1, 5, "").substr(0, 4), "within its header"));
  CHECK(refused(file(20240520, 2, 5, bytes_of(narrow)), "20240520", "version 2", "expected 20240520, version 1"));
  CHECK(refused(file(20240801, 1, 3, bytes_of(wide)), "20240801", "version 1;"));
  CHECK(refused(file(20240801, 7, 3, bytes_of(wide)), "token 128000 at position 1"));
  CHECK(refused(file(20240522, 1, 3, bytes_of(narrow)), "20240522 (multiple-choice examples)"));
  CHECK(refused(file(20240326, 3, 1024, bytes_of(wide)), "20240326 (a model), version 3"));
  CHECK(refused(file(20240328, 2, 50257, bytes_of(wide)), "20240328 (a tokenizer)"));
}

TEST_CASE("tokens says what a file is instead", "[data]") {
  const temporary_folder folder;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') + "\nsize 12345\n";
  CHECK(fails_with([&] { return read(folder.write("a.bin", pointer)); },
                   "a.bin: is not a file of tokens; it is a Git LFS pointer"));
  // With an even number of bytes, which might be tokens.
  CHECK(fails_with([&] { return read(folder.write("a.bin", pointer + "\n")); },
                   "a.bin: is not a file of tokens; it is a Git LFS pointer"));
  CHECK(fails_with([&] { return read(folder.write("a.npy", pointer)); }, "a.npy: is not a .npy file",
                   "it is a Git LFS pointer"));
  using namespace std::string_literals;
  const std::pair<std::string, const char*> others[] = {
      {"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n", "an HTML page"},
      {"PK\x03\x04\x00\x00\x08\x08\x00\x00"s, "a zip archive"},
      {"GGUF\x03\0\0\0\x10\0\0\0"s, "a GGUF file"},
      {"\x1f\x8b\x08\0\0\0\0\0\0\x03"s, "compressed by gzip"},
      {"\x1f\x8b\x08\x08\0\0\0\0\0\x03"s, "compressed by gzip"},
      {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19."s, "a pickle"},
      {"\x80\x02}q\0(X\x01\0\0\0w"s, "a pickle"},
      {"\x80\x03" "cnumpy.core.multiarray\n"s, "a pickle"},
      {"\x80\x04\x95\x1e\0\0\0\0\0\0\0}\x94"s, "a pickle"}};
  for (const auto& [contents, what] : others) {
    INFO(what);
    const std::string even = contents.size() % 2 == 0 ? contents : contents + "\n";
    CHECK(fails_with([&] { return read(folder.write("a.bin", even)); }, "a.bin: is not a file of tokens; it is " + std::string(what)));
    CHECK(fails_with([&] { return read(folder.write("a.npy", even)); }, "a.npy: is not a .npy file", "it is " + std::string(what)));
  }
  // Tokens that begin like other formats.
  for (const std::string& begin : {"\x80\x02"s, "\x80\x03q\0"s, "\x80\x04\0\0"s, "\x80\x02}\0"s, "\x1f\x8b\x01\x08"s, "\xff\xfe"s, "PK"s,
                                   "{}"s, "[]"s, "BZh\0"s, "\0\0"s, "\xff\xd8\xff\0"s})
    CHECK(read(folder.write("a.bin", begin + std::string(20, '\0'))).size() == (begin.size() + 20) / 2);
}

TEST_CASE("tokens reads .npy files of any shape and version", "[data]") {
  const temporary_folder folder;
  const auto write = [&](const std::string& contents) { return folder.write("a.npy", contents); };
  const std::string six("\x00\x01\x02\x03\x04\x05", 6);
  const std::vector<token> expected{0, 1, 2, 3, 4, 5};
  CHECK(read(write(npy(dictionary("|u1", "(2, 3)"), six))) == expected);
  CHECK(read(write(npy(dictionary("|u1", "(1, 3, 2, 1)"), six))) == expected);
  CHECK(read(write(npy(dictionary("|u1", "()"), "\x07"))) == std::vector<token>{7});  // an array without dimensions
  CHECK(read(write(npy(dictionary("|u1", "(6,)", "True"), six))) == expected);        // the order says nothing here

  SECTION(
      "Fortran order") {  // what numpy.save writes for numpy.asfortranarray(a): column by column, but read row by row
    const std::string matrix("\x00\x03\x01\x04\x02\x05", 6);  // a = [[0, 1, 2], [3, 4, 5]]
    CHECK(read(write(npy(dictionary("|u1", "(2, 3)", "True"), matrix))) == expected);
    CHECK(read(write(npy(dictionary("|u1", "(2, 1, 3)", "True"), matrix))) == expected);
    CHECK(read(write(npy(dictionary("|u1", "(1, 6)", "True"), six))) == expected);
    // [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    const std::vector<std::uint16_t> cube{0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11};
    CHECK(read(write(npy(dictionary("<u2", "(2, 3, 2)", "True"), bytes_of(cube)))) ==
          std::vector<token>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    CHECK(fails_with([&] { return read(write(npy(dictionary("|u1", "(2, 4)", "True"), six))); }, "announces 8"));
    CHECK(fails_with([&] { return read(write(npy(dictionary("|u1", "(2, 3)", "True"), six)), 5); }, "token 5"));
  }
  SECTION("numbers as Python 2 wrote them") {
    CHECK(read(write(npy(dictionary("|u1", "(6L,)"), six))) == expected);
    CHECK(read(write(npy(dictionary("|u1", "(2L, 3L)"), six))) == expected);
    CHECK(read(write(npy("{u'descr': '|u1', u'fortran_order': False, u'shape': (6L,)}", six))) == expected);
    const std::string version_3 = "\x93NUMPY\x03" + std::string(1, '\0');
    const std::string header = dictionary("|u1", "(6L,)"), length = bytes_of(std::vector{std::uint32_t(header.size())});
    CHECK(fails_with([&] { return read(write(version_3 + length + header + six)); }, "'L,)"));  // nor does numpy
  }
  SECTION("versions 2.0 and 3.0 have four bytes of length") {
    std::string header = dictionary("|u1", "(6,)") + std::string(70000, ' ');
    for (const char version : {'\x02', '\x03'}) {
      const std::string begin = std::string("\x93NUMPY") + version + '\0';
      const auto length = bytes_of(std::vector{static_cast<std::uint32_t>(header.size())});
      CHECK(read(write(begin + length + header + six)) == expected);
      CHECK(fails_with([&] { return read(write(begin + "\xff\xff\xff\xff" + header + six)); }, "within its header"));
      CHECK(fails_with([&] { return read(write(begin + length.substr(0, 3))); }, "within its header"));
    }
  }
  SECTION("the header in other words") {
    for (const char* header : {"{'shape': (6,), 'descr': '|u1', 'fortran_order': False}",
                               "{\"fortran_order\":False,\"shape\":(2,3),\"descr\":\"|u1\"}",
                               " {\n'descr'\t:\r'|u1' , 'fortran_order' : False , 'shape' : ( 2 , 3 , ) , } \n"})
      CHECK(read(write(npy(header, six))) == expected);
  }
}

TEST_CASE("tokens refuses a .npy file that is not well-formed", "[data]") {
  const temporary_folder folder;
  const auto refused = [&](const std::string& contents, const std::string& reason) {
    const auto path = folder.write("a.npy", contents);
    return fails_with([&] { return read(path); }, path.string(), reason);
  };
  const std::string two("\x01\x02", 2);

  SECTION("magic, version, length") {
    CHECK(refused("", "is not a .npy file"));
    CHECK(refused("\x93NUMPY", "is not a .npy file"));
    CHECK(refused("PK\x03\x04 a zip archive, .npz", "it is a zip archive"));
    CHECK(refused(std::string("\x92").append(saved_by_numpy, 1), "is not a .npy file"));
    std::string version = saved_by_numpy;
    version[6] = 4;
    CHECK(refused(version, "version 4.0"));
    version[6] = 1, version[7] = 1;
    CHECK(refused(version, "version 1.1"));
    std::string length = saved_by_numpy;
    length[9] = '\xff';
    CHECK(refused(length, "within its header"));
  }
  SECTION("what is not the dictionary") {
    for (const char* header : {"",
                               "{",
                               "{}",
                               "{,}",
                               "[]",
                               "None",
                               "'descr'",
                               "{'descr': '|u1'}",
                               "{'descr': '|u1', 'shape': (2,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)} 1",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), 'descr': '|u1'}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), 'more': 1}",
                               "{'descr': '|u1', 'fortran_order': False 'shape': (2,)}",
                               "{'descr': '|u1',, 'fortran_order': False, 'shape': (2,)}",
                               "{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}",
                               "{'descr': '|u1', 'fortran_order': false, 'shape': (2,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': 2}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2.0,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (1, , 2)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (1 2)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2,",
                               "{'descr': '|u1, 'fortran_order': False, 'shape': (2,)}",
                               "{'descr': \"|u1', 'fortran_order': False, 'shape': (2,)}",
                               "{'descr': [('a', '|u1'), 'fortran_order': False, 'shape': (2,)}",
                               "{'descr': [('a', '|u1], 'fortran_order': False, 'shape': (2,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (2LL,)}",
                               "{'descr': '|u1', 'fortran_order': False, 'shape': (L,)}",
                               "{descr: '|u1'}"}) {
      INFO("header " << header);
      CHECK(refused(npy(header, two), "its header should be a dictionary"));
    }
  }
  SECTION("types") {
    for (const char* type :
         {"<f4", "|b1", "?", "|O", "<U1", "<u3", "", "<", "<c8", "<M8[s]", "u16", "|V2", "<int16", "x"})
      CHECK(refused(npy(dictionary(type, "(1,)"), two), "expected integers of 1, 2, 4 or 8 bytes"));
    CHECK(refused(npy(dictionary("<f4", "(1,)"), two), "elements of type <f4;"));
    const auto records = [](const std::string& type) {
      return "{'descr': " + type + ", 'fortran_order': False, 'shape': (1,), }";
    };
    CHECK(refused(npy(records("[('a', '|u1'), ('b', '<i4', (2, 2))]"), two),
                  "type [('a', '|u1'), ('b', '<i4', (2, 2))], which are records or arrays"));
    CHECK(refused(npy(records("('<u2', (2,))"), two), "type ('<u2', (2,)), which are records or arrays"));
  }
  SECTION("shapes that are not those of the data") {
    CHECK(refused(npy(dictionary("|u1", "(3,)"), two), "announces 3 elements of 1 bytes, and 2 bytes follow"));
    CHECK(refused(npy(dictionary("|u1", "(1,)"), two), "announces 1 elements"));
    CHECK(refused(npy(dictionary("<u2", "(2,)"), two + "\x03"), "3 bytes follow"));
    CHECK(refused(npy(dictionary("|u1", "(0,)"), ""), "has no tokens"));
    CHECK(refused(npy(dictionary("|u1", "(0, 5)"), ""), "has no tokens"));
    CHECK(refused(npy(dictionary("|u1", "(1000000000000000000,)"), two), "announces 1000000000000000000"));
    CHECK(refused(npy(dictionary("<u8", "(2305843009213693952,)"), ""), "0 bytes follow"));  // 2^61 * 8 = 0 mod 2^64
    CHECK(refused(npy(dictionary("|u1", "(4294967296, 4294967296)"), ""), "too large"));     // 2^64 = 0 mod 2^64
    CHECK(refused(npy(dictionary("|u1", "(18446744073709551618,)"), two), "too large"));     // 2^64 + 2
  }
}

TEST_CASE("tokens survives every damage to a .npy file", "[data]") {
  const temporary_folder folder;
  int well_formed = 0, refused = 0;
  const auto attempt = [&](const std::string& contents) {
    const auto path = folder.write("a.npy", contents);
    try {
      const auto tokens = read(path);
      ++well_formed;
      CHECK(tokens.size() * 2 <= contents.size());
    } catch (const fathom::error&) {
      ++refused;
    }
  };
  for (std::size_t length = 0; length < saved_by_numpy.size(); ++length) attempt(saved_by_numpy.substr(0, length));
  CHECK(well_formed == 0);  // no truncated file is accepted
  attempt(saved_by_numpy + "x");
  CHECK(well_formed == 0);

  refused = 0;
  const std::string replacements("\0\x01\x7f\xff (){}[]',:0129-TF<|\n", 24);
  for (std::size_t position = 0; position < saved_by_numpy.size(); ++position)
    for (const char replacement : replacements) {
      std::string damaged = saved_by_numpy;
      damaged[position] = replacement;
      attempt(damaged);
    }
  CHECK(refused > 1000);
  CHECK(well_formed > 60);  // white space for white space, and the data
}

TEST_CASE("write_bin and write_npy write what others read", "[data]") {
  const temporary_folder folder;
  const std::vector<token> tokens{0, 1, 258, 65535};

  fathom::data::write_bin(folder.path() / "a.bin", tokens);
  CHECK(folder.read("a.bin") == std::string("\x00\x00\x01\x00\x02\x01\xff\xff", 8));
  CHECK(read(folder.path() / "a.bin") == tokens);

  fathom::data::write_npy(folder.path() / "a.npy", tokens);
  const std::string npy = folder.read("a.npy");
  const std::string expected = "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }";
  CHECK(npy.substr(0, 10) == std::string("\x93NUMPY\x01\x00v\x00", 10));
  CHECK(npy.substr(10, 118) == expected + std::string(117 - expected.size(), ' ') + "\n");
  CHECK(npy.substr(128) == std::string("\0\0\0\0\x01\0\0\0\x02\x01\0\0\xff\xff\0\0", 16));
  CHECK(read(folder.path() / "a.npy") == tokens);

  SECTION("any number of tokens leaves the data aligned") {
    for (const std::size_t count : {1u, 9u, 10u, 99999u, 100000u, 1000000u}) {
      fathom::data::write_npy(folder.path() / "b.npy", std::vector<token>(count, 3));
      CHECK((folder.read("b.npy").size() - 4 * count) % 64 == 0);
      CHECK(read(folder.path() / "b.npy") == std::vector<token>(count, 3));
    }
  }
  SECTION("a file that cannot be written stays as it was") {
    CHECK(fails_with(
        [&] {
          fathom::data::write_bin(folder.path() / "a.bin", std::vector<token>{7, 65536});
        },
        "a.bin", "token 65536 at position 1"));
    CHECK(fails_with([&] { fathom::data::write_bin(folder.path() / "a.bin", std::vector<token>{-1}); }, "token -1"));
    CHECK(read(folder.path() / "a.bin") == tokens);
    CHECK(fails_with([&] { fathom::data::write_npy(folder.path() / "none" / "a.npy", tokens); }, "cannot be written"));
  }
}

namespace {

/// All tokens of files, read in place.
std::vector<token> in_place(const std::filesystem::path& path, fathom::index vocab = 65536) {
  const fathom::data::token_files files(path, vocab);
  std::vector<token> all(static_cast<std::size_t>(files.size()));
  files.read(0, all);
  return all;
}
/// A file of llm.c.
std::string llmc(std::int32_t magic, std::int32_t version, std::int32_t count, const std::string& data) {
  std::string header = bytes_of(std::vector{magic, version, count});
  header.resize(1024);
  return header + data;
}

}  // namespace

TEST_CASE("token files are one sequence, read where they lie", "[data]") {
  const temporary_folder folder;
  const std::vector<token> expected{1, 2, 300, 4, 5, 60, 70, 8, 9, 1000, 11, 12, 13};
  folder.write("set/a_10.bin", bytes_of(std::vector<std::uint16_t>{1, 2, 300}));
  folder.write("set/a_2.npy", npy(dictionary(">i8", "(2, 2)"), std::string("\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0<\0\0\0\0\0\0\0F", 32)));
  folder.write("set/b.bin", llmc(20240520, 1, 1, bytes_of(std::vector<std::uint16_t>{8})));
  folder.write("set/c/d.bin", llmc(20240801, 7, 2, bytes_of(std::vector<std::uint32_t>{9, 1000})));
  folder.write("set/c/e.NPY", npy(dictionary("|u1", "(3,)"), "\x0b\x0c\x0d"));
  folder.write("set/c/notes.txt", "of another kind");
  CHECK(in_place(folder.path() / "set") == expected);

  const fathom::data::token_files files(folder.path() / "set", 1001);
  CHECK(files.vocab() == 1001);
  REQUIRE(files.paths().size() == 5);
  CHECK(files.paths()[1].filename() == "a_2.npy");
  for (fathom::index first = 0; first <= files.size(); ++first)
    for (fathom::index count = 0; first + count <= files.size(); ++count) {
      std::vector<token> some(static_cast<std::size_t>(count));
      files.read(first, some);
      CHECK(some == std::vector<token>(expected.begin() + first, expected.begin() + first + count));
      files.part(first, files.size() - first).read(0, some);
      CHECK(some == std::vector<token>(expected.begin() + first, expected.begin() + first + count));
    }

  // The same batches as from memory.
  for (const auto& [batch, length] : {std::pair(1, 1), std::pair(2, 5), std::pair(3, 4)}) {
    fathom::data::windows found(files, {.batch = batch, .tokens = length, .steps = 1, .seed = 3});
    fathom::data::windows wanted(expected, {.batch = batch, .tokens = length, .steps = 1, .seed = 3});
    for (fathom::index step = 0; step < 20; ++step) {
      CHECK(vector(found.at(step).inputs) == vector(wanted.at(step).inputs));
      CHECK(vector(found.at(step).targets) == vector(wanted.at(step).targets));
    }
    const std::span<const token> last = std::span(expected).subspan(2);
    const auto part = files.part(2, files.size() - 2);
    fathom::data::consecutive all(part, batch, length), wanted_all(last, batch, length);
    REQUIRE(all.size() == wanted_all.size());
    for (fathom::index n = 0; n < all.size(); ++n) {
      CHECK(vector(all.at(n).inputs) == vector(wanted_all.at(n).inputs));
      CHECK(vector(all.at(n).targets) == vector(wanted_all.at(n).targets));
    }
  }
  using fathom::data::token_files;
  static_assert(std::is_constructible_v<fathom::data::windows, const token_files&, fathom::data::window_options>);
  static_assert(!std::is_constructible_v<fathom::data::windows, token_files, fathom::data::window_options>);

  // Patterns, and lists in an order of their own.
  CHECK(in_place(folder.path() / "set" / "?_*") == std::vector<token>{1, 2, 300, 4, 5, 60, 70});
  CHECK(in_place(folder.path() / "s*t" / "[bc]*" / "*.bin") == std::vector<token>{9, 1000});
  folder.write("set/[b].bin", bytes_of(std::vector<std::uint16_t>{77}));
  CHECK(in_place(folder.path() / "set" / "[b].bin") == std::vector<token>{77});  // the file of this name, not b.bin
  const token_files two({folder.path() / "set" / "b.bin", folder.path() / "set" / "a_10.bin"}, 301);
  std::vector<token> all(4);
  two.read(0, all);
  CHECK(all == std::vector<token>{8, 1, 2, 300});

  // What is wrong is said when it is read, not before.
  const token_files few(folder.path() / "set", 900);
  std::vector<token> some(2);
  few.read(8, some);
  CHECK(fails_with([&] { few.read(9, some); }, "d.bin", "token 1000 at position 1", "0 to 899"));
  CHECK(fails_with([&] { few.read(few.size() - 1, some); }, "expected some of 14"));
  CHECK(fails_with([&] { few.read(-1, some); }, "expected some of 14"));
  CHECK(fails_with([&] { return few.part(10, 5); }, "tokens 10 to 10 + 5 of 14"));
  CHECK(fails_with([&] { return few.part(3, -1); }, "expected a part"));
  CHECK(fails_with([&] { return token_files(std::vector<std::filesystem::path>{}, 9); }, "no files"));
  CHECK(fails_with([&] { return token_files(folder.path() / "set" / "z*.bin", 9); }, "z*.bin", "none matches"));
  CHECK(fails_with([&] { return token_files(folder.path() / "none.bin", 9); }, "none.bin", "No such file"));
  CHECK(fails_with([&] { return token_files(folder.path() / "set" / "c" / "*.txt", 9); }, "notes.txt", "expected", ".bin or .npy"));
  CHECK(fails_with([&] { return token_files(folder.path() / "set" / "c*", 9); }, "cannot tell the format"));
  CHECK(fails_with([&] { return token_files(folder.path() / "set", 0); }, "vocabulary of 0"));
  CHECK(fails_with([&] { return in_place(folder.write("f.npy", npy(dictionary("|u1", "(2, 2)", "True"), "\1\2\3\4"))); }, "f.npy", "column-major"));
  CHECK(fails_with([&] { return in_place(folder.write("short.bin", llmc(20240520, 1, 5, "abcd"))); }, "announces 5 tokens"));
  CHECK(fails_with([&] { return in_place(folder.write("empty.bin", "")); }, "has 0 bytes"));
  CHECK(fails_with([&] { return in_place(folder.write("lfs.bin", "version https://git-lfs.github.com/spec/v1\n")); }, "Git LFS"));
}
