// Corpora: how they are split, and text files as bytes and as the 27 symbols of text8.
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

/// The documents that a part consists of. They must be whole, and in order.
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

    // As near as half of the smallest document that was left to train on.
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
  // Three documents, one of them nothing but its delimiter, the last without one.
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
  // What is text8 already stays as it is.
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
  // Written in another order than that of their names.
  const auto c = folder.write("texts/c.txt", "cccc"), b = folder.write("texts/b/inner.txt", "bb"),
             a = folder.write("texts/a.txt", "aaaaaaaaaa");
  folder.write("texts/empty.txt", "");
  folder.write("texts/.hidden", "hhhh");
  folder.write("texts/.git/config", "gggg");
  std::filesystem::create_symlink(folder.path() / "nowhere", folder.path() / "texts" / "dangling");

  SECTION("a folder") {
    const corpus all = fathom::data::bytes(folder.path() / "texts", {.validation = 0});
    CHECK(text(all.train()) == "aaaaaaaaaabbcccc");
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
