// Corpora: their split, text files as bytes and as the 27 symbols of text8, and files in folders that
// are not text.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/corpus.hpp>
#include <fathom/data/text.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::data::characters;
using fathom::data::corpus;
using fathom::data::split;
using namespace std::string_literals;

/// 0, 1, ..., count - 1
std::vector<token> counting(fathom::index count) {
  std::vector<token> tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::vector<token> vector(std::span<const token> tokens) { return {tokens.begin(), tokens.end()}; }

std::string text(std::span<const token> tokens) {
  std::string result;
  for (const token byte : tokens) result += static_cast<char>(byte);
  return result;
}

/// Document i has lengths[i] tokens, all of them i.
std::vector<std::vector<token>> documents_of(const std::vector<std::size_t>& lengths) {
  std::vector<std::vector<token>> documents;
  for (std::size_t i = 0; i < lengths.size(); ++i) documents.emplace_back(lengths[i], static_cast<token>(i));
  return documents;
}

corpus split_by_document(const std::vector<std::vector<token>>& documents, const split& parts) {
  return fathom::data::split_documents(std::vector<std::span<const token>>(documents.begin(), documents.end()), 1 << 20,
                                       parts);
}

/// All of a corpus of bytes.
std::string text(const corpus& c) { return text(c.all()); }

/// The skipped files of a folder, and the reasons: "name reason".
std::set<std::string> left_out(const corpus& c, const std::filesystem::path& folder) {
  std::set<std::string> lines;
  for (const auto& [path, reason] : c.skipped()) {
    std::string line = path.lexically_relative(folder).string() + " " + reason;
    for (auto at = line.find(folder.string() + "/"); at != std::string::npos; at = line.find(folder.string() + "/"))
      line.erase(at, folder.string().size() + 1);
    CHECK(lines.insert(line).second);
  }
  return lines;
}

/// The documents of a part. They must be complete and in order.
std::vector<token> documents_in(std::span<const token> part, const std::vector<std::vector<token>>& documents) {
  std::vector<token> found;
  while (!part.empty()) {
    const token document = part[0];
    const std::size_t length = documents[static_cast<std::size_t>(document)].size();
    REQUIRE(part.size() >= length);
    REQUIRE(std::count(part.begin(), part.begin() + std::ptrdiff_t(length), document) == std::ptrdiff_t(length));
    found.push_back(document);
    part = part.subspan(length);
  }
  CHECK(std::is_sorted(found.begin(), found.end()));
  return found;
}

}  // namespace

TEST_CASE("a corpus is training, then validation, then test", "[data]") {
  SECTION("the last tenth is validation unless said otherwise") {
    const corpus c(counting(100), 256);
    CHECK(c.vocab() == 256);
    CHECK(c.train().size() == 90);
    CHECK(c.validation().size() == 10);
    CHECK(c.test().empty());
    CHECK(c.train().front() == 0);
    CHECK(c.train().back() == 89);
    CHECK(c.validation().front() == 90);
    CHECK(c.validation().back() == 99);
    CHECK(vector(c.all()) == counting(100));
  }
  SECTION("with a test part") {
    const corpus c(counting(10), 10, {.validation = 0.2, .test = 0.3});
    CHECK(vector(c.train()) == std::vector<token>{0, 1, 2, 3, 4});
    CHECK(vector(c.validation()) == std::vector<token>{5, 6});
    CHECK(vector(c.test()) == std::vector<token>{7, 8, 9});
  }
  SECTION("the number of tokens nearest to the fraction") {
    const corpus c29(counting(100), 256, {.validation = 0.29}), c14(counting(14), 256), c15(counting(15), 256);
    CHECK(c29.validation().size() == 29);  // 0.29 * 100 < 29 in double
    CHECK(c14.validation().size() == 1);
    CHECK(c15.validation().size() == 2);
  }
  SECTION("nothing held back") {
    const corpus c(counting(1), 1, {.validation = 0});
    CHECK(c.train().size() == 1);
    CHECK(c.validation().empty());
    CHECK(c.test().empty());
  }
  SECTION("by sizes") {
    const corpus c(counting(6), 6, 3, 2);
    CHECK(vector(c.train()) == std::vector<token>{0, 1, 2});
    CHECK(vector(c.validation()) == std::vector<token>{3, 4});
    CHECK(vector(c.test()) == std::vector<token>{5});
  }
  SECTION("the parts of a copy are its own") {
    auto first = std::make_unique<corpus>(counting(20), 20);
    const corpus copy = *first;
    first.reset();
    CHECK(vector(copy.validation()) == std::vector<token>{18, 19});
  }
}

TEST_CASE("a corpus that cannot be split is an error", "[data]") {
  const auto make = [](fathom::index count, const split& parts) { return corpus(counting(count), 1000, parts); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const split parts : {split{-0.1, 0}, split{1, 0}, split{0.1, -0.1}, split{0, 1}, split{0.5, 0.5},
                            split{0.9, 0.2}, split{nan, 0}, split{0, nan}}) {
    CHECK(fails_with([&] { return make(1000, parts); }, "less than 1"));
    CHECK(fails_with([&] { return split_by_document(documents_of({10, 10, 10}), parts); }, "less than 1"));
  }
  CHECK(fails_with([&] { return make(4, {}); }, "4 tokens", "validation 0"));
  CHECK(fails_with([&] { return make(10, {.validation = 0.5, .test = 0.01}); }, "test 0"));
  CHECK(fails_with([&] { return make(1, {.validation = 0.9}); }, "training would have 0"));
  CHECK(fails_with([&] { return make(0, {.validation = 0}); }, "0 tokens"));
  CHECK(fails_with([&] { return corpus(counting(6), 6, 0, 3); }));
  CHECK(fails_with([&] { return corpus(counting(6), 6, 5, 2); }));
  CHECK(fails_with([&] { return corpus(counting(6), 6, 3, -1); }));
  CHECK(fails_with([&] { return corpus(counting(6), 6, 3, std::numeric_limits<fathom::index>::max()); }));
  CHECK(fails_with([&] { return corpus(counting(6), 5); }, "token 5 at position 5"));
  CHECK(fails_with([&] { return corpus({0, -1}, 5); }, "token -1 at position 1"));
  CHECK(fails_with([&] { return corpus({0}, 0, {.validation = 0}); }));
  CHECK(fails_with([&] { return corpus({0}, fathom::index{1} << 40, {.validation = 0}); }));
}

TEST_CASE("split_documents keeps documents whole", "[data]") {
  std::vector<std::size_t> lengths;
  fathom::random random(3, 0);
  for (int i = 0; i < 300; ++i) lengths.push_back(static_cast<std::size_t>(1 + random.below(1000)));
  const auto documents = documents_of(lengths);
  const double total = static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::size_t{0}));

  std::set<std::vector<token>> seen;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const split parts{.validation = 0.15, .test = 0.05, .seed = seed};
    const corpus c = split_by_document(documents, parts);
    auto all = documents_in(c.train(), documents);
    const auto validation = documents_in(c.validation(), documents), test = documents_in(c.test(), documents);
    all.insert(all.end(), validation.begin(), validation.end());
    all.insert(all.end(), test.begin(), test.end());
    std::sort(all.begin(), all.end());
    CHECK(all == counting(300));  // every document once

    // To within half of the smallest training document.
    std::size_t smallest = 1000;
    for (const token d : documents_in(c.train(), documents))
      smallest = std::min(smallest, documents[static_cast<std::size_t>(d)].size());
    CHECK(std::abs(static_cast<double>(c.validation().size()) - 0.15 * total) <=
          0.5 * static_cast<double>(smallest) + 1);
    CHECK(std::abs(static_cast<double>(c.test().size()) - 0.05 * total) <= 0.5 * static_cast<double>(smallest) + 1);
    seen.insert(validation);
  }
  CHECK(seen.size() == 5);  // other seeds, other documents
}

TEST_CASE("split_documents chooses the same documents on every machine", "[data]") {
  // Computed by an independent implementation of Philox, the shuffle and the rule, in Python.
  const auto documents = documents_of({5, 3, 8, 1, 9, 2, 7, 4, 6, 10});
  const struct {
    std::uint64_t seed;
    std::vector<token> validation, test;
  } expected[] = {{0, {0, 5, 7}, {1, 3}}, {1, {3, 7, 8}, {1, 5}}, {2, {1, 3, 6}, {5, 7}}};
  for (const auto& e : expected) {
    const corpus c = split_by_document(documents, {.validation = 0.2, .test = 0.1, .seed = e.seed});
    CHECK(documents_in(c.validation(), documents) == e.validation);
    CHECK(documents_in(c.test(), documents) == e.test);
  }
}

TEST_CASE("split_documents with few documents", "[data]") {
  SECTION("a part that was asked for gets the smallest rather than none") {
    const auto documents = documents_of({50, 20, 30});
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const corpus c = split_by_document(documents, {.validation = 0.01, .seed = seed});
      CHECK(documents_in(c.validation(), documents) == std::vector<token>{1});
      CHECK(documents_in(c.train(), documents) == std::vector<token>{0, 2});
    }
  }
  SECTION("documents that fit go before one that does not") {
    const auto documents = documents_of({19, 5, 5, 71});
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const corpus c = split_by_document(documents, {.validation = 0.1, .seed = seed});
      CHECK(documents_in(c.validation(), documents) == std::vector<token>{1, 2});
    }
  }
  SECTION("every part has one, the training part too") {
    const auto documents = documents_of({10, 10, 10});
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const corpus c = split_by_document(documents, {.validation = 0.9, .test = 0.05, .seed = seed});
      CHECK(c.train().size() == 10);
      CHECK(c.validation().size() == 10);
      CHECK(c.test().size() == 10);
    }
  }
  SECTION("too few") {
    CHECK(fails_with([&] { return split_by_document(documents_of({10, 0}), {}); }, "1 documents", "at least 2"));
    CHECK(fails_with([&] { return split_by_document(documents_of({10, 10}), {.test = 0.1}); }));
    CHECK(fails_with([&] { return split_by_document({}, {.validation = 0}); }));
  }
  SECTION("nothing held back") {
    const auto documents = documents_of({3, 0, 2});
    const corpus c = split_by_document(documents, {.validation = 0});
    CHECK(vector(c.train()) == std::vector<token>{0, 0, 0, 2, 2});
    CHECK(c.all().size() == 5);
  }
}

TEST_CASE("split_documents with a delimiter", "[data]") {
  // Three documents, one of them only a delimiter, the last without one.
  const std::vector<token> tokens{1, 1, 9, 9, 2, 2, 2, 2, 2};
  const corpus c = fathom::data::split_documents(tokens, 9, 10, {.validation = 0.1});
  CHECK(vector(c.train()) == std::vector<token>{1, 1, 9, 2, 2, 2, 2, 2});
  CHECK(vector(c.validation()) == std::vector<token>{9});
  CHECK(c.vocab() == 10);
  CHECK(fails_with([&] { return fathom::data::split_documents(tokens, 8, 10); }, "1 documents"));
}

TEST_CASE("characters is the encoding of text8", "[data]") {
  const auto normal = [](std::string_view raw) { return characters::decode(characters::encode(raw)); };
  CHECK(characters::encode("az AZ") == std::vector<token>{1, 26, 0, 1, 26});
  CHECK(normal("Hello, World!\n") == "hello world ");
  CHECK(normal("  \t a\r\n\nb") == " a b");
  CHECK(normal("don't") == "don t");
  CHECK(normal("1984") == " one nine eight four ");
  CHECK(normal("in 7 days, a4b") == "in seven days a four b");
  CHECK(normal("0123456789") == " zero one two three four five six seven eight nine ");
  CHECK(normal("na\xc3\xafve \xe2\x82\xac\xff@[`{") == "na ve ");
  CHECK(normal(std::string_view("a\0b", 3)) == "a b");
  CHECK(characters::encode("").empty());
  // Text in text8's form is unchanged.
  const std::string already =
      " anarchism originated as a term of abuse first used against early working class radicals";
  CHECK(normal(already) == already);
  CHECK(characters::encode(already).size() == already.size());

  CHECK(fails_with([&] { return characters::decode(std::vector<token>{0, 27}); }, "token 27 at position 1"));
  CHECK(fails_with([&] { return characters::decode(std::vector<token>{-1}); }));
}

TEST_CASE("bytes reads a text file", "[data]") {
  const temporary_folder folder;
  std::string contents;
  for (int byte = 0; byte < 256; ++byte) contents += static_cast<char>(byte);
  const corpus c = fathom::data::bytes(folder.write("all.txt", contents), {.validation = 0.25});
  CHECK(c.vocab() == 256);
  CHECK(vector(c.all()) == counting(256));
  CHECK(c.validation().size() == 64);
  CHECK(c.validation().front() == 192);

  const auto empty = folder.write("empty.txt", "");
  CHECK(fails_with([&] { return fathom::data::bytes(empty); }, empty.string(), "is empty"));
  CHECK(fails_with([&] { return fathom::data::bytes(folder.path() / "none.txt"); }, "none.txt", "No such file"));
  CHECK(fails_with([&] { return fathom::data::bytes(folder.write("short.txt", "abc")); }, "short.txt: 3 tokens"));
  CHECK(fails_with([&] { return fathom::data::bytes(folder.path() / "all.txt" / "below"); }));
  CHECK(fails_with([&] { return fathom::data::bytes("/dev/null"); }, "is not a file"));
}

TEST_CASE("bytes reads several files as documents", "[data]") {
  const temporary_folder folder;
  // Written in an order different from that of their names.
  const auto c = folder.write("texts/c.txt", "cccc"), b = folder.write("texts/b/inner.txt", "bb"),
             a = folder.write("texts/a.txt", "aaaaaaaaaa");
  folder.write("texts/empty.txt", "");
  folder.write("texts/.hidden", "hhhh");
  folder.write("texts/.git/config", "gggg");

  SECTION("a folder") {
    const corpus all = fathom::data::bytes(folder.path() / "texts", {.validation = 0});
    CHECK(text(all.train()) == "aaaaaaaaaabbcccc");
    CHECK(left_out(all, folder.path() / "texts") ==
          std::set<std::string>{".git is hidden", ".hidden is hidden", "empty.txt is empty"});
    const corpus parts = fathom::data::bytes(folder.path() / "texts", {.validation = 0.1, .test = 0.25});
    CHECK(text(parts.train()) == "aaaaaaaaaa");
    CHECK(text(parts.validation()) == "bb");
    CHECK(text(parts.test()) == "cccc");
  }
  SECTION("a list, in its own order") {
    const corpus all = fathom::data::bytes(std::vector<std::filesystem::path>{c, a, b}, {.validation = 0});
    CHECK(text(all.train()) == "ccccaaaaaaaaaabb");
    CHECK(all.vocab() == 256);
    CHECK(fails_with(
        [&] {
          return fathom::data::bytes(std::vector{a, folder.path() / "texts/empty.txt"});
        },
        "is empty"));
    CHECK(fails_with([&] { return fathom::data::bytes(std::vector<std::filesystem::path>{}); }));
  }
  SECTION("a folder without text") {
    std::filesystem::create_directory(folder.path() / "nothing");
    CHECK(fails_with([&] { return fathom::data::bytes(folder.path() / "nothing"); }, "nothing: has no files"));
  }
}

TEST_CASE("text8 reads a text file", "[data]") {
  const temporary_folder folder;
  const corpus c = fathom::data::text8(folder.write("text", "Chapter 1\n\nCall me Ishmael."), {.validation = 0.5});
  CHECK(c.vocab() == 27);
  CHECK(characters::decode(c.all()) == "chapter one call me ishmael ");
  CHECK(characters::decode(c.validation()) == "ll me ishmael ");
  CHECK(fails_with([&] { return fathom::data::text8(folder.write("empty", "")); }, "empty: is empty"));
}

TEST_CASE("linked files and folders are read, each once", "[data]") {
  const temporary_folder folder, elsewhere;
  elsewhere.write("far/d.txt", "dd");
  elsewhere.write("far/deep/e.txt", "e");
  const auto outside = elsewhere.write("f.txt", "fff");
  folder.write("a.txt", "a");
  folder.write("b/b.txt", "bb");
  folder.write("b/c/c.txt", "ccc");
  const auto link = [&](const std::filesystem::path& to, const char* name) {
    std::filesystem::create_symlink(to, folder.path() / name);
  };
  link(elsewhere.path() / "far", "linked");
  link(outside, "f");
  link("a.txt", "0 the same");  // comes first by its name, but a.txt is where the file lies
  link("..", "b/loop");         // the folder itself
  link(".", "b/c/self");
  link(elsewhere.path() / "far/deep", "b/deep again");
  link("linked/deep", "c again");
  link(folder.path() / "b", "b again");
  std::filesystem::create_symlink(folder.path(), elsewhere.path() / "far/back");
  std::filesystem::create_hard_link(folder.path() / "b/b.txt", folder.path() / "b/hard.txt");

  const corpus all = fathom::data::bytes(folder.path(), {.validation = 0});
  CHECK(text(all.train()) == "abbcccefffdd");  // in the order of their names: b/deep again/e.txt, f, linked/d.txt
  const std::set<std::string> expected{"0 the same is the same file as a.txt",
                                       "b again is a link to a folder that is read already",
                                       "b/c/self is a link to a folder that is read already",
                                       "b/hard.txt is the same file as b/b.txt",
                                       "b/loop is a link to a folder that is read already",
                                       "c again is a link to a folder that is read already",
                                       "linked/back is a link to a folder that is read already",
                                       "linked/deep is a link to a folder that is read already"};
  CHECK(left_out(all, folder.path()) == expected);

  // The folder itself may be a link, and may be hidden.
  std::filesystem::create_symlink(folder.path(), elsewhere.path() / ".link");
  CHECK(text(fathom::data::bytes(elsewhere.path() / ".link", {.validation = 0})) == text(all));
}

TEST_CASE("what cannot be read in a folder is an error, or left out and listed", "[data]") {
  const temporary_folder folder;
  folder.write("a.txt", "aaaa");
  folder.write("b.txt", "bbbb");
  const auto root = folder.path();
  const fathom::data::file_options skip{.skip_damaged = true};
  const auto check = [&](const std::string& name, const std::string& reason) {
    INFO(name);
    CHECK(fails_with([&] { return fathom::data::bytes(root); }, (root / name).string(), reason));
    CHECK(fails_with([&] { return fathom::data::text8(root); }, (root / name).string(), reason));
    const corpus rest = fathom::data::bytes(root, {.validation = 0}, skip);
    CHECK(text(rest.all()) == "aaaabbbb");
    REQUIRE(rest.skipped().size() == 1);
    CHECK(rest.skipped()[0].path == root / name);
    CHECK(rest.skipped()[0].reason.find(reason) == 0);
    const corpus letters = fathom::data::text8(root, {.validation = 0}, skip);
    CHECK(characters::decode(letters.all()) == "aaaabbbb");
    CHECK(letters.skipped().size() == 1);
    std::filesystem::remove(root / name);
  };
  std::filesystem::create_symlink("gone.txt", root / "c.txt");
  check("c.txt", "cannot be found: No such file");
  std::filesystem::create_symlink("c.txt", root / "c.txt");
  check("c.txt", "cannot be found: Too many levels");
  std::filesystem::create_symlink("gone", root / "folder");
  check("folder", "cannot be found: No such file");
  REQUIRE(::mkfifo((root / "pipe.txt").c_str(), 0600) == 0);
  check("pipe.txt", "is not a file, but a pipe");
  std::filesystem::create_symlink("/dev/zero", root / "zero.txt");
  check("zero.txt", "is not a file, but a pipe, a socket or a device");
  folder.write("wide.txt", std::string("\xff\xfeh\0i\0", 6));
  check("wide.txt", "is text in UTF-16LE");
  if (::geteuid() != 0) {  // root may read everything
    folder.write("closed.txt", "cccc");
    std::filesystem::permissions(root / "closed.txt", std::filesystem::perms::none);
    check("closed.txt", "cannot be opened: Permission denied");
    std::filesystem::create_directory(root / "closed");
    std::filesystem::permissions(root / "closed", std::filesystem::perms::none);
    check("closed", "cannot be listed: Permission denied");
  }

  SECTION("a list") {
    const std::vector<std::filesystem::path> paths{root / "b.txt", root / "none.txt", root, folder.write("empty", ""),
                                                   root / "a.txt"};
    CHECK(fails_with([&] { return fathom::data::bytes(paths); }, "none.txt"));
    const corpus rest = fathom::data::bytes(paths, {.validation = 0}, skip);
    CHECK(text(rest.all()) == "bbbbaaaa");
    REQUIRE(rest.skipped().size() == 3);
    CHECK(rest.skipped()[0].path == root / "none.txt");
    CHECK(rest.skipped()[0].reason == "cannot be opened: No such file or directory");
    CHECK(rest.skipped()[1].reason == "is not a file, but a folder");
    CHECK(rest.skipped()[2].reason == "is empty; expected text");
  }
  SECTION("nothing is left, or too little") {
    const temporary_folder bad;
    const auto path = bad.write("x.txt", std::string("\xff\xfeh\0i\0", 6));
    CHECK(fails_with([&] { return fathom::data::bytes(bad.path(), {}, skip); }, "only 0 documents",
                     "x.txt: is text in UTF-16LE"));
    bad.write("y.txt", "text");
    CHECK(fails_with([&] { return fathom::data::bytes(bad.path(), {}, skip); }, "only 1 documents", "at least 2"));
    CHECK(fails_with([&] { return fathom::data::bytes(path, {}, skip); }, "UTF-16LE"));  // it was named itself
  }
  SECTION("the folder itself") {
    CHECK(fails_with([&] { return fathom::data::bytes(root / "gone", {}, skip); }, "gone", "No such file"));
    const temporary_folder empty;
    CHECK(fails_with([&] { return fathom::data::bytes(empty.path(), {}, skip); }, "has no files that are neither"));
    empty.write("a", "");
    CHECK(fails_with([&] { return fathom::data::bytes(empty.path()); }, "has no files", "a is empty"));
  }
}

TEST_CASE("what Git leaves in place of a text is an error that says so", "[data]") {
  const temporary_folder folder;
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') + "\nsize 100\n";
  const auto path = folder.write("a.txt", pointer);
  CHECK(fails_with([&] { return fathom::data::bytes(path); }, "a.txt: is not text; it is a Git LFS pointer"));
  CHECK(fails_with([&] { return fathom::data::text8(path); }, "a.txt: is not text; it is a Git LFS pointer"));
  CHECK(text(fathom::data::bytes(folder.write("b.txt", "On " + pointer), {.validation = 0})) == "On " + pointer);
}

TEST_CASE("text in UTF-16 and UTF-32 is an error that says so", "[data]") {
  const temporary_folder folder;
  const auto encoded = [](std::string_view ascii, std::size_t bytes, bool big_endian) {
    std::string wide;
    for (const char letter : ascii) {
      const std::string zeros(bytes - 1, '\0');
      wide += big_endian ? zeros + letter : letter + zeros;
    }
    return wide;
  };
  const auto refused = [&](const std::string& contents, const std::string& encoding) {
    const auto path = folder.write("a.txt", contents);
    const auto says = [&](const auto& read) {
      return fails_with([&] { return read(path); }, path.string(), "is text in " + encoding + ";", "iconv");
    };
    return says([](const auto& file) { return fathom::data::bytes(file); }) &&
           says([](const auto& file) { return fathom::data::text8(file); });
  };
  const std::string_view hello = "Hello world 42 foxes\r\n";
  const std::string le = "\xff\xfe", be = "\xfe\xff", nul2(2, '\0');
  CHECK(refused(le + encoded(hello, 2, false), "UTF-16LE"));
  CHECK(refused(be + encoded(hello, 2, true), "UTF-16BE"));
  CHECK(refused(le + nul2 + encoded(hello, 4, false), "UTF-32LE"));
  CHECK(refused(nul2 + be + encoded(hello, 4, true), "UTF-32BE"));
  // Without a byte order mark.
  CHECK(refused(encoded(hello, 2, false), "UTF-16LE"));
  CHECK(refused(encoded(hello, 2, true), "UTF-16BE"));
  CHECK(refused(encoded(hello, 4, false), "UTF-32LE"));
  CHECK(refused(encoded(hello, 4, true), "UTF-32BE"));
  // Cut within a character; within a surrogate pair; nothing but the mark; long; not ASCII: Greek, and an emoji.
  CHECK(refused(le + encoded(hello, 2, false) + "x", "UTF-16LE"));
  CHECK(refused(le + encoded("hi", 2, false) + "\x3d\xd8", "UTF-16LE"));
  CHECK(refused(le + encoded("a\0line\1 of\x1b controls, as some programs write them"s, 2, false), "UTF-16LE"));
  CHECK(refused(le, "UTF-16LE"));
  CHECK(refused(be, "UTF-16BE"));
  CHECK(refused(be + encoded(std::string(200'000, 'x'), 2, true), "UTF-16BE"));
  CHECK(refused(le + "\xb1\x03\xb2\x03\xb3\x03", "UTF-16LE"));
  CHECK(refused(le + "\x3d\xd8\0\xde"s + encoded("!", 2, false), "UTF-16LE"));
  const std::string greek = "\xb1\x03\xb2\x03\xb3\x03\xb4\x03\xb5\x03\xb6\x03\xb7\x03" + encoded(" ", 2, false);
  CHECK(refused(greek, "UTF-16LE"));

  SECTION("binary data, and text in other encodings, is bytes") {
    const auto same = [&](const std::string& contents) {
      return text(fathom::data::bytes(folder.write("a.bin", contents), {.validation = 0})) == contents;
    };
    std::string down;
    for (int byte = 255; byte >= 0; --byte) down += static_cast<char>(byte);
    CHECK(same(down));  // begins with ff fe
    std::string up(down.rbegin(), down.rend());
    CHECK(same(up));
    CHECK(same("\xfe\xff" + up));
    CHECK(same(std::string("\xff\xfe\0\0\x01\0\0\0", 8)));  // numbers of 32 bits, 65279 the first of them
    CHECK(same(std::string("\0a\0b\0c", 6)));               // too short to tell
    CHECK(same(std::string(64, '\0')));
    CHECK(same("na\xefve caf\xe9, in Latin-1"));
    CHECK(same("a\0b with NUL"s));
    CHECK(same("line\r\nline\r\n"));
    CHECK(same(std::string(1'000'000, 'x')));  // a long line
    fathom::random numbers(1, 0);
    for (int i = 0; i < 20; ++i) {  // numbers of 16 bits, as sounds and tokens are
      std::string data;
      for (int n = 0; n < 4000; ++n) {
        const auto number = static_cast<std::uint16_t>(i < 10 ? numbers.below(50257) : numbers.below(2000) - 1000);
        data += static_cast<char>(number & 0xff);
        data += static_cast<char>(number >> 8);
      }
      CHECK(same(data));
      if (i >= 10) CHECK(same(le + data));
    }
  }
  SECTION("UTF-8's byte order mark is passed over, once") {
    const std::string mark = "\xef\xbb\xbf";
    const auto path = folder.write("b.txt", mark + "Caf\xc3\xa9" + mark);
    CHECK(text(fathom::data::bytes(path, {.validation = 0})) == "Caf\xc3\xa9" + mark);
    const corpus letters = fathom::data::text8(path, {.validation = 0});
    CHECK(characters::decode(letters.all()) == "caf ");
    CHECK(fails_with([&] { return fathom::data::bytes(folder.write("c.txt", mark)); }, "c.txt: is empty"));
    const temporary_folder other;
    other.write("a.txt", "text");
    other.write("mark.txt", mark);
    const corpus rest = fathom::data::bytes(other.path(), {.validation = 0});
    CHECK(text(rest.all()) == "text");
    CHECK(left_out(rest, other.path()) == std::set<std::string>{"mark.txt is empty"});
  }
}
