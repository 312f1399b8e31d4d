// Byte-level BPE: against tokenizers with the vocabularies in golden/bpe (made by make_bpe.py), and hostile files.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/data/bpe.hpp>
#include "catch.hpp"
#include "fails_with.hpp"
#include "json.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::data::bpe;
using fathom::data::special;

const auto golden = std::filesystem::path(FATHOM_GOLDEN) / "bpe";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A text, and its tokens in the two vocabularies.
struct expectation {
  std::string text;
  std::vector<token> small, large;
};

std::vector<expectation> expectations() {
  std::vector<expectation> result;
  std::ifstream file(golden / "expected.txt");
  for (std::string hex, small, large;
       std::getline(file, hex, ':') && std::getline(file, small, ':') && std::getline(file, large);) {
    expectation e;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      unsigned byte = 0;
      std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16);
      e.text += static_cast<char>(byte);
    }
    std::istringstream first(small), second(large);
    e.small.assign(std::istream_iterator<token>(first), {});
    e.large.assign(std::istream_iterator<token>(second), {});
    result.push_back(e);
  }
  return result;
}

std::vector<token> operator+(std::vector<token> left, const std::vector<token>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

/// The bytes, with the ids 0 to 255 in a different order.
fathom::json byte_vocabulary() {
  fathom::json bytes;
  const fathom::json vocabulary = parsed(read(golden / "small" / "vocab.json"));
  for (const auto& [spelling, id] : vocabulary.members())
    if (id.as<int>() < 256) bytes[spelling] = id;
  REQUIRE(bytes.size() == 256);
  return bytes;
}

/// A vocabulary of the bytes and more, which get the ids 256, 257, ...
std::string with(const std::vector<std::string>& more) {
  auto vocabulary = byte_vocabulary();
  for (std::size_t i = 0; i < more.size(); ++i) vocabulary[more[i]] = 256 + i;
  return vocabulary.dump();
}

std::vector<std::string> spelled(const bpe& tokenizer, const std::vector<token>& tokens) {
  std::vector<std::string> result;
  for (const token t : tokens) result.emplace_back(tokenizer.bytes(t));
  return result;
}
using strings = std::vector<std::string>;

/// A tokenizer.json with a vocabulary of the bytes and more, in the form of tokenizers 0.23.
fathom::json tokenizer_json(const std::vector<std::string>& more, const fathom::json& merges) {
  fathom::json json = parsed(R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
      "normalizer": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
      "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
      "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false}})");
  json["model"]["vocab"] = parsed(with(more));
  json["model"]["merges"] = merges;
  return json;
}
/// One of its added tokens.
fathom::json added(int id, const std::string& content, bool special = true, bool normalized = false) {
  return fathom::json::object({{"id", id},        {"content", content}, {"single_word", false},    {"lstrip", false},
                               {"rstrip", false}, {"special", special}, {"normalized", normalized}});
}
/// Several normalizers or pre-tokenizers, one after the other.
fathom::json sequence(const char* of, const fathom::json& steps) { return fathom::json::object({{"type", "Sequence"}, {of, steps}}); }
/// A pre-tokenizer of the pieces that a regular expression makes.
fathom::json split_by(const std::string& expression) {
  return fathom::json::object({{"type", "Split"},
                               {"behavior", "Isolated"},
                               {"invert", false},
                               {"pattern", fathom::json::object({{"Regex", expression}})}});
}
const fathom::json ab_abc = fathom::json::array({fathom::json::array({"a", "b"}), fathom::json::array({"ab", "c"})});

}  // namespace

TEST_CASE("bpe encodes as tokenizers does", "[data]") {
  const bpe small(golden / "small"), large(golden / "large");
  CHECK(small.size() == 601);
  CHECK(large.size() == 1000);
  const auto cases = expectations();
  REQUIRE(cases.size() > 1000);
  std::vector<token> all;
  std::string everything;
  std::vector<token> tokens;
  for (const auto& [text, with_small, with_large] : cases) {
    INFO("text " << text);
    CHECK(small.encode(text) == with_small);
    CHECK(large.encode(text) == with_large);
    CHECK(small.decode(with_small) == text);
    CHECK(large.decode(with_large) == text);
    large.encode(text, tokens);  // appends
    all.insert(all.end(), with_large.begin(), with_large.end());
    everything += text;
  }
  CHECK(tokens == all);
  CHECK(large.decode(all) == everything);
}

TEST_CASE("bpe reads the same from files by name and from memory", "[data]") {
  const bpe folder(golden / "large"), files(golden / "large" / "encoder.json", golden / "large" / "vocab.bpe");
  const std::string vocab = read(golden / "large" / "encoder.json"), merges = read(golden / "large" / "vocab.bpe");
  const auto check = [&](const bpe& tokenizer) {
    REQUIRE(tokenizer.size() == folder.size());
    for (token t = 0; t < folder.size(); ++t) CHECK(tokenizer.bytes(t) == folder.bytes(t));
    const std::string text = "The river is wide, 川は広く <|endoftext|>";
    CHECK(tokenizer.encode(text) == folder.encode(text));
    CHECK(tokenizer.encode(text, special::as_tokens) == folder.encode(text, special::as_tokens));
  };
  check(files);
  check(bpe::from_memory(vocab, merges));
  check(bpe(folder));

  SECTION("line ends of other systems, no first line of a version, no last line end") {
    std::string other = merges;
    for (std::size_t at = 0; (at = other.find('\n', at)) != other.npos; at += 2) other.replace(at, 1, "\r\n");
    check(bpe::from_memory(vocab, other));
    REQUIRE(merges.starts_with("#version"));
    check(bpe::from_memory(vocab, merges.substr(merges.find('\n') + 1)));
    REQUIRE(merges.ends_with('\n'));
    check(bpe::from_memory(vocab, merges.substr(0, merges.size() - 1)));
  }
}

TEST_CASE("bpe merges the pair first in the list first, the leftmost of several", "[data]") {
  const std::string vocab = with({"bc", "ab", "abc", "aa", "Ġa", "aaa"});
  SECTION("by the list") {
    const auto tokenizer = bpe::from_memory(vocab, "b c\na b\na bc\na a\nĠ a\naa a\n");
    CHECK(spelled(tokenizer, tokenizer.encode("abcab")) == strings{"abc", "ab"});  // through bc
    CHECK(spelled(tokenizer, tokenizer.encode("abab")) == strings{"ab", "ab"});
    CHECK(spelled(tokenizer, tokenizer.encode("aaaa")) == strings{"aa", "aa"});  // aaa comes too late
    CHECK(spelled(tokenizer, tokenizer.encode("aaaaa")) == strings{"aa", "aaa"});
    CHECK(spelled(tokenizer, tokenizer.encode(" aa")) == strings{" ", "aa"});
    CHECK(spelled(tokenizer, tokenizer.encode("a ab")) == strings{"a", " ", "ab"});
  }
  SECTION("a token that merging does not reach from its own bytes") {  // bc takes c away from ab c
    const auto tokenizer = bpe::from_memory(vocab, "b c\na b\nab c\na a\nĠ a\naa a\n");
    CHECK(spelled(tokenizer, tokenizer.encode("abc")) == strings{"a", "bc"});
  }
  SECTION("numbers need not be in the order of the list") {
    const auto tokenizer = bpe::from_memory(vocab, "aa a\na a\nĠ a\na bc\nb c\na b\n");
    CHECK(spelled(tokenizer, tokenizer.encode("aaabcab")) == strings{"aaa", "bc", "ab"});
    CHECK(spelled(tokenizer, tokenizer.encode("baaaaaabc")) == strings{"b", "aaa", "aaa", "bc"});
  }
}

TEST_CASE("bpe knows special tokens when asked to", "[data]") {
  const auto tokenizer =
      bpe::from_memory(with({"<|end|>", "<|end|>!", "<｜>", "th"}), "t h\n", R"({"PAD": 260, "Ġ-é": 261})");
  CHECK(tokenizer.size() == 262);
  const auto plain = [&](std::string_view text) { return tokenizer.encode(text); };
  const auto parsed = [&](std::string_view text) { return tokenizer.encode(text, special::as_tokens); };
  CHECK(tokenizer.special_token("<|end|>") == 256);
  CHECK(tokenizer.special_token("PAD") == 260);
  CHECK(fails_with([&] { return tokenizer.special_token("th"); }, "\"th\" is no special token"));
  CHECK(plain("<|end|>").size() == 7);
  CHECK(parsed("<|end|>") == std::vector<token>{256});
  CHECK(parsed("<|end|>!<|end|><｜>") == std::vector<token>{257, 256, 258});  // the longest
  CHECK(parsed("the  <|end|> the<|end") == plain("the  ") + std::vector<token>{256} + plain(" the") + plain("<|end"));
  CHECK(parsed("a PADĠ-é b") == plain("a ") + std::vector<token>{260, 261} + plain(" b"));
  CHECK(parsed("") == std::vector<token>{});
  for (const char* text : {"<|end|>!<｜>Ġ-éPAD", "é <|<|end|>|>"}) CHECK(tokenizer.decode(parsed(text)) == text);
}

TEST_CASE("bpe gives every string of bytes back", "[data]") {
  const bpe tokenizer(golden / "large");
  std::mt19937 numbers(7);
  for (int i = 0; i < 2000; ++i) {
    std::string text(numbers() % 300, '\0');
    const unsigned kinds = i % 3 == 0 ? 256 : 5;  // also of few bytes, so that merges happen
    for (char& byte : text) byte = kinds == 256 ? static_cast<char>(numbers()) : "ae \xF0\x9F"[numbers() % kinds];
    for (const special how : {special::as_text, special::as_tokens}) {
      const auto tokens = tokenizer.encode(text, how);
      REQUIRE(tokens.size() <= text.size());
      REQUIRE(tokenizer.decode(tokens) == text);
    }
  }
  SECTION("of any length, in about as much time for each byte") {
    for (const std::string pattern : {"a", " ", "th", "\xFF", "the", "\r\n", "\xE3\x80\x80"}) {
      std::string text;
      while (text.size() < 1'000'000) text += pattern;
      CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    }
  }
}

TEST_CASE("bpe refuses tokens that it does not have", "[data]") {
  const bpe tokenizer(golden / "small");
  CHECK(fails_with([&] { return tokenizer.bytes(-1); }, "token -1 is outside of the vocabulary, 0 to 600"));
  CHECK(fails_with([&] { return tokenizer.bytes(601); }, "token 601"));
  CHECK(fails_with([&] { return tokenizer.decode(std::vector<token>{1, 2, 601}); }, "token 601"));
  CHECK(tokenizer.decode({}).empty());
}

TEST_CASE("kind_of knows the classes of Unicode 16", "[data]") {
  using fathom::data::kind_of;
  using fathom::data::symbol_kind;
  std::map<symbol_kind, int> count;
  for (std::uint32_t code = 0; code < 0x110000; ++code) ++count[kind_of(code)];
  // The same count as in tokenizers 0.23 and tiktoken 0.14.
  CHECK(count[symbol_kind::letter] == 141028);
  CHECK(count[symbol_kind::number] == 1911);
  CHECK(count[symbol_kind::space] == 25);
  CHECK(kind_of(0x323AF) == symbol_kind::letter);  // the last
  CHECK(kind_of(0x10D4A) == symbol_kind::letter);  // new in 16
  CHECK(kind_of(0x0301) == symbol_kind::other);
  CHECK(kind_of(0xFFFFFFFF) == symbol_kind::other);
}

TEST_CASE("subwords makes a corpus of text files", "[data]") {
  const bpe tokenizer(golden / "large");
  const temporary_folder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += "The river is wide, and the old bridge does not reach the other side.\n";
  const auto path = folder.write("texts/a.txt", text);
  folder.write("texts/b.txt", "a short one");

  const auto one = fathom::data::subwords(path, tokenizer, {.validation = 0.25});
  CHECK(one.vocab() == 1000);
  CHECK(tokenizer.decode(one.all()) == text);
  CHECK(std::ssize(one.validation()) == std::ssize(one.all()) / 4);
  CHECK(std::ssize(one.all()) < std::ssize(text) / 2);
  const auto two = fathom::data::subwords(folder.path() / "texts", tokenizer);  // whole documents
  CHECK(tokenizer.decode(two.train()) == text);
  CHECK(tokenizer.decode(two.validation()) == "a short one");
  const auto same = fathom::data::subwords({path, folder.path() / "texts" / "b.txt"}, tokenizer);
  CHECK(std::equal(same.all().begin(), same.all().end(), two.all().begin(), two.all().end()));
}

TEST_CASE("bpe finds its files in a folder", "[data]") {
  const temporary_folder folder;
  const auto open = [&] { return bpe(folder.path()); };
  const std::string name = folder.path().string();
  CHECK(fails_with(open, name,
                   "has neither tokenizer.json, nor vocab.json and merges.txt, nor encoder.json and vocab.bpe"));
  folder.write("vocab.json", with({"ab"}));
  CHECK(fails_with(open, name + "/merges.txt", "cannot be opened"));
  folder.write("merges.txt", "#version: 0.2\na b\n");
  CHECK(open().encode("ab") == std::vector<token>{256});
  folder.write("added_tokens.json", R"({"<pad>": 257})");
  CHECK(open().encode("ab<pad>", special::as_tokens) == std::vector<token>{256, 257});
  folder.write("added_tokens.json", R"({"<pad>": 258})");
  CHECK(fails_with(open, name + "/added_tokens.json", "\"<pad>\" has the id 258; expected ids from 0 to 257"));
  CHECK(fails_with([&] { return bpe(folder.path() / "none"); }, name + "/none"));

  // tokenizer.json is complete, and takes precedence over the others.
  auto json = tokenizer_json({"ab", "abc", "<s>"}, ab_abc);
  json["added_tokens"] = fathom::json::array({added(258, "<s>")});
  folder.write("tokenizer.json", json.dump());
  folder.write("added_tokens.json", R"({"<s>": 258, "<pad>": 259})");
  CHECK(open().encode("abc<pad><s>", special::as_tokens) == std::vector<token>{257, 259, 258});
  std::filesystem::remove(folder.path() / "vocab.json");
  std::filesystem::remove(folder.path() / "merges.txt");
  std::filesystem::remove(folder.path() / "added_tokens.json");
  CHECK(open().encode("abc<s>", special::as_tokens) == std::vector<token>{257, 258});
  folder.write("tokenizer.json", "{}");
  CHECK(fails_with(open, name + "/tokenizer.json: has no object \"model\""));
}

TEST_CASE("bpe reads folders for GPT-2's rules only", "[data]") {
  const temporary_folder folder;
  folder.write("vocab.json", with({"ab", "<s>"}));
  folder.write("merges.txt", "#version: 0.2\na b\n");
  const std::string name = (folder.path() / "tokenizer_config.json").string();
  const auto open = [&](const std::string& config) {
    folder.write("tokenizer_config.json", config);
    return bpe(folder.path());
  };
  const auto of_class = [&](const std::string& tokenizer) {
    return open(R"({"model_max_length": 1024, "tokenizer_class": ")" + tokenizer + "\"}");
  };
  for (const char* known : {"GPT2Tokenizer", "GPT2TokenizerFast", "WhisperTokenizer", "WhisperTokenizerFast"})
    CHECK(of_class(known).encode("ab") == std::vector<token>{256});
  for (const char* other : {"XLMRobertaTokenizer", "RobertaTokenizer",
                            "CLIPTokenizer", "GPT2", "gpt2tokenizer", ""})
    CHECK(fails_with([&] { return of_class(other); },
                     name + ": tokenizer_class is \"" + other + "\"; expected one of those whose rules bpe has: \"GPT2"));
  CHECK(fails_with([&] { return of_class("PreTrainedTokenizerFast"); }, name,
                   "\"PreTrainedTokenizerFast\" and there is no tokenizer.json; expected"));
  CHECK(fails_with([&] { return open(R"({"tokenizer_class": ["GPT2Tokenizer"]})"); }, "tokenizer_class is a list"));
  for (const char* text : {"{", "", "nonsense"}) CHECK(fails_with([&] { return open(text); }, name + ": is not JSON"));
  for (const char* text : {"[]", "1", "\"GPT2Tokenizer\""})
    CHECK(fails_with([&] { return open(text); }, name + ": is ", "expected a JSON object"));

  SECTION("options that change what is encoded") {
    for (const std::string option : {"add_prefix_space", "do_lower_case", "normalize"}) {
      CHECK_NOTHROW(open("{\"" + option + "\": false}"));
      CHECK_NOTHROW(open("{\"" + option + "\": null}"));
      CHECK(fails_with([&] { return open("{\"" + option + "\": true}"); },
                       name + ": " + option + " is true; expected false"));
    }
    CHECK_NOTHROW(open(R"({"add_bos_token": true, "errors": "replace", "clean_up_tokenization_spaces": true})"));
  }
  SECTION("a config.json may name the class, too, if no tokenizer_config.json does") {
    folder.write("config.json", R"({"tokenizer_class": "BertTokenizer"})");
    CHECK_NOTHROW(of_class("GPT2Tokenizer"));
    CHECK(fails_with([&] { return open("{}"); }, "/config.json: tokenizer_class is \"BertTokenizer\""));
    for (const char* text : {"{}", "nonsense", R"({"tokenizer_class": null})"}) {
      folder.write("config.json", text);
      CHECK(open("{}").encode("ab") == std::vector<token>{256});
    }
  }
  SECTION("classes that leave everything to tokenizer.json") {
    folder.write("tokenizer.json", tokenizer_json({"ab", "abc"}, ab_abc).dump());
    for (const char* known : {"PreTrainedTokenizerFast", "TokenizersBackend", "GPT2Tokenizer"})
      CHECK(of_class(known).encode("abc") == std::vector<token>{257});
    CHECK(fails_with([&] { return of_class("Qwen2Tokenizer"); }, "has the pieces of GPT-2", "\"Qwen2Tokenizer\""));
  }
  SECTION("added tokens, as transformers 4.34 and later describe them") {
    const auto described = [&](std::initializer_list<fathom::json::object_type::value_type> tokens, fathom::json more = fathom::json::object()) {
      more["added_tokens_decoder"] = fathom::json::object(tokens);
      return open(more.dump());
    };
    const auto tokenizer =
        described({{"256", added(0, "ab")}, {"258", added(0, "  ", false)}, {"259", added(0, "<pad>")}});
    CHECK(tokenizer.size() == 260);
    const auto a = tokenizer.encode("a"), b = tokenizer.encode("b");
    CHECK(tokenizer.encode("a  b") == a + std::vector<token>{258} + b);  // in all text
    CHECK(tokenizer.encode("<pad>").size() == 5);
    CHECK(tokenizer.encode("babb<s><pad>", special::as_tokens) ==
          b + std::vector<token>{256} + b + std::vector<token>{257, 259});
    CHECK(fails_with(
        [&] {
          return described({{"255", added(0, "<s>")}});
        },
        name + ": the token \"<s>\" has the id 255; expected 257 as in ", "/vocab.json"));
    CHECK(fails_with(
        [&] {
          return described({{"x", added(0, "<pad>")}});
        },
        name + ": the token \"<pad>\" has the id \"\"x\"\""));
    CHECK(fails_with(
        [&] {
          return described({{"258", "<pad>"}});
        },
        name + ": an added token is \"<pad>\"; expected one with \"content\""));
    auto mask = added(0, "<mask>");
    mask["lstrip"] = true;
    CHECK(fails_with(
        [&] {
          return described({{"258", mask}});
        },
        name + ": \"lstrip\" of the token \"<mask>\" is true; expected false"));
    mask["lstrip"] = "yes";
    CHECK(fails_with(
        [&] {
          return described({{"258", mask}});
        },
        "\"lstrip\" of the token \"<mask>\" is \"yes\"; expected true or false"));
  }
}

TEST_CASE("bpe reads a tokenizer.json alone", "[data]") {
  const strings more{"ab", "abc", "<s>", "x y", "foo"};
  auto json = tokenizer_json(more, ab_abc);
  const auto check = [&](const char* what) {
    INFO(what);
    const auto tokenizer = bpe::from_memory(json.dump());
    CHECK(tokenizer.size() == 261);
    for (const special how : {special::as_text, special::as_tokens}) {
      CHECK(spelled(tokenizer, tokenizer.encode("abc ab", how)) == strings{"abc", " ", "ab"});
      CHECK(tokenizer.encode("<s>x yfoo", how).size() == 9);  // in the vocabulary, but no merge makes them
    }
    CHECK(fails_with([&] { return tokenizer.special_token("<s>"); }, "\"<s>\" is no special token"));
  };
  check("as tokenizers writes it");
  json["model"]["merges"] = fathom::json::array({"a b", "ab c"});
  check("as tokenizers wrote it before 0.20");
  for (const char* key : {"type", "dropout", "unk_token", "byte_fallback", "ignore_merges"}) json["model"].erase(key);
  check("as tokenizers wrote it in the beginning");
  json["post_processor"] = parsed(R"({"type": "TemplateProcessing"})");
  json["decoder"] = nullptr;
  json["model"]["unk_token"] = "<s>";
  json["model"]["byte_fallback"] = json["model"]["fuse_unk"] = true;
  json["model"]["dropout"] = 0.0;
  json["model"]["end_of_word_suffix"] = json["model"]["continuing_subword_prefix"] = "";
  json["truncation"] = parsed(R"({"max_length": 3})");
  check("what plays no part");
  const auto bytes = json["pre_tokenizer"];
  json["pre_tokenizer"] = sequence("pretokenizers", fathom::json::array({bytes}));
  json["normalizer"] = sequence("normalizers", fathom::json::array());
  check("sequences of one and of nothing");
  auto pieces = bytes;
  pieces["use_regex"] = false;
  for (const std::string ends : {"'s|'t|'re|'ve|'m|'ll|'d", "'(?:[sdmt]|ll|ve|re)"}) {
    const fathom::json split = split_by(ends + R"(| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
    json["pre_tokenizer"] = sequence("pretokenizers", fathom::json::array({split, pieces}));
    check("GPT-2's pieces by a regular expression");
  }

  SECTION("with added tokens: special or in all text, and those not normalized first") {
    json["added_tokens"] = fathom::json::array({added(258, "<s>"), added(261, "<s>a"), added(262, "b  ", false, true),
                                                added(263, "  ", false), added(257, "abc", false, true)});
    const auto tokenizer = bpe::from_memory(json.dump());
    CHECK(tokenizer.size() == 264);
    const auto plain = [&](std::string_view text) { return spelled(tokenizer, tokenizer.encode(text)); };
    const auto parsed = [&](std::string_view text) {
      return spelled(tokenizer, tokenizer.encode(text, special::as_tokens));
    };
    CHECK(parsed("<s>abc") == strings{"<s>a", "b", "c"});
    CHECK(plain("<s>abc") == strings{"<", "s", ">", "abc"});
    CHECK(plain("xabcx") == strings{"x", "abc", "x"});
    CHECK(plain("b   a") == strings{"b", "  ", " ", "a"});
    CHECK(parsed("<s>b  <s>") == strings{"<s>", "b", "  ", "<s>"});
    CHECK(tokenizer.special_token("  ") == 263);
    CHECK(tokenizer.special_token("<s>") == 258);
  }
  SECTION("with many added tokens, in about as much time for each byte") {
    for (int length = 1; length <= 1000; ++length)
      json["added_tokens"].push_back(added(260 + length, std::string(static_cast<std::size_t>(length), ' '), false));
    const auto tokenizer = bpe::from_memory(json.dump());
    CHECK(tokenizer.encode(std::string(2345, ' ') + "a") ==
          std::vector<token>{1260, 1260, 605} + tokenizer.encode("a"));
    std::string text;
    while (text.size() < 1'000'000) text += " ab";
    CHECK(tokenizer.encode(text).size() == 2 * text.size() / 3);
  }
  SECTION("that takes pieces which are tokens before merging") {
    json["model"]["ignore_merges"] = true;
    json["model"]["merges"] = fathom::json::array();
    const auto tokenizer = bpe::from_memory(json.dump());
    CHECK(spelled(tokenizer, tokenizer.encode("foo abc abcab")) ==
          strings{"foo", " ", "a", "b", "c", " ", "a", "b", "c", "a", "b"});
    CHECK(spelled(tokenizer, tokenizer.encode("abc")) == strings{"abc"});
  }
}

TEST_CASE("bpe says what is wrong with a tokenizer.json", "[data]") {
  const auto good = tokenizer_json({"ab", "abc"}, ab_abc);
  CHECK(bpe::from_memory(good.dump()).size() == 258);
  // Changes one value.
  const auto refused = [&](const char* where, const fathom::json& value, const std::string& reason) {
    auto json = good;
    at(json, where) = value;
    INFO(where << ": " << value.dump());
    return fails_with([&] { return bpe::from_memory(json.dump()); }, "tokenizer (in memory): ", reason);
  };
  const auto type = [](const char* name) { return fathom::json::object({{"type", name}}); };
  CHECK(refused("/model", nullptr, "has no object \"model\""));
  CHECK(refused("/model/type", "WordPiece", "model.type is \"WordPiece\"; expected \"BPE\""));
  CHECK(refused("/model/type", 1, "model.type is 1; expected \"BPE\""));
  CHECK(refused("/model/dropout", 0.1, "model.dropout is 0.1; expected null"));
  CHECK(refused("/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix is \"##\"; expected null"));
  CHECK(refused("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix is \"</w>\"; expected null"));
  CHECK(refused("/model/ignore_merges", 1, "model.ignore_merges is 1; expected true or false"));
  CHECK(refused("/model/vocab", fathom::json::array(), "model.vocab is a list; expected an object"));
  CHECK(refused("/model/vocab/ab", "256", "the token \"ab\" has the id \"\"256\"\"; expected a number"));
  CHECK(refused("/model/vocab/ab", 257, "\"ab\" and \"abc\" have the same id, 257"));
  CHECK(refused("/model/vocab/ab", 1000, "\"ab\" has the id 1000; expected ids from 0 to 257"));
  CHECK(refused("/model/merges", nullptr, "model.merges is null; expected a list"));
  CHECK(refused("/model/merges/1", "ab d", "merge 2: the vocabulary has no token \"d\"") == false);  // a byte it has
  CHECK(refused("/model/merges/1", "ab d", "merge 2: the vocabulary has no token \"abd\""));
  CHECK(refused("/model/merges/1", "a b", "merge 2: \"a b\" is there already"));
  CHECK(refused("/model/merges/1", "abc", "merge 2: \"abc\"; expected two tokens with one space between them"));
  for (const char* merge : {R"(["a"])", R"(["a", "b", "c"])", R"(["", "ab"])", R"(["ab", ""])", "[1, 2]",
                            R"([null, "a"])", R"([["a", "b"], "c"])", "[]"})
    CHECK(refused("/model/merges/1", parsed(merge),
                  "merge 2: is a list; expected \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]"));
  CHECK(refused("/model/merges/1", 7, "merge 2: is 7"));
  CHECK(refused("/normalizer", type("NFKC"), "normalizer is of the type \"NFKC\"; expected null"));
  CHECK(refused("/normalizer", sequence("normalizers", fathom::json::array({type("NFC"), type("Lowercase")})),
                "normalizer is of the type \"Lowercase\""));
  CHECK(
      refused("/decoder", type("Metaspace"), "decoder is of the type \"Metaspace\"; expected the type \"ByteLevel\""));
  CHECK(refused("/pre_tokenizer", nullptr, "pre_tokenizer is null; expected \"ByteLevel\""));
  CHECK(refused("/pre_tokenizer", type("Whitespace"), "pre_tokenizer is of the type \"Whitespace\""));
  CHECK(
      refused("/pre_tokenizer/use_regex", false, "with other pieces; expected \"ByteLevel\" with \"use_regex\": true"));
  CHECK(refused("/pre_tokenizer/add_prefix_space", true, "pre_tokenizer.add_prefix_space is true; expected false"));
  CHECK(refused("/pre_tokenizer/add_prefix_space", nullptr, "pre_tokenizer.add_prefix_space is null; expected false"));
  auto bytes = good["pre_tokenizer"];
  for (const bool own : {false, true}) {  // digits, but not one by one; no step at all
    bytes["use_regex"] = own;
    for (const fathom::json& first : {type("Digits"), fathom::json(), fathom::json(1)})
      CHECK(refused("/pre_tokenizer", sequence("pretokenizers", fathom::json::array({first, bytes})),
                    "pre_tokenizer is of the type \"Sequence\", with other pieces; expected \"ByteLevel\""));
  }
  bytes["use_regex"] = false;
  CHECK(refused("/pre_tokenizer",
                sequence("pretokenizers", fathom::json::array({split_by(R"((?i:'s|'t)|\p{N})"), bytes})),
                R"(pre_tokenizer is a Split by "(?i:'s|'t)|\p{N}", a regular expression that bpe has no scanner for)"));
  for (const fathom::json& steps : {fathom::json(), fathom::json::array(), fathom::json(3)})
    CHECK(refused("/pre_tokenizer", sequence("pretokenizers", steps),
                  "pre_tokenizer is of the type \"Sequence\""));
  CHECK(refused("/added_tokens", 3, "added_tokens is 3; expected a list"));
  CHECK(refused("/added_tokens/0", "<s>", "an added token is \"<s>\"; expected one with \"content\""));
  CHECK(refused("/added_tokens/0", added(300, "<s>"), "the token \"<s>\" has the id 300; expected ids from 0 to 258"));
  CHECK(refused("/added_tokens/0", added(255, "ab"), "has the token \"ab\" twice, with the ids 256 and 255"));
  CHECK(refused("/added_tokens/0", parsed(R"({"content": "<s>"})"), "the token \"<s>\" has the id \"null\""));
  for (const char* rule : {"single_word", "lstrip", "rstrip"}) {
    auto token = added(258, "<s>");
    token[rule] = true;
    CHECK(refused("/added_tokens/0", token,
                  std::string("\"") + rule + "\" of the token \"<s>\" is true; expected false"));
  }

  SECTION("whatever it is") {
    for (const char* text :
         {"", "{", "[]", "1", "\"model\"", "{} {}", "{\"model\": \"\xFF\"}", R"({"model": []})", "<html>"})
      CHECK(fails_with([&] { return bpe::from_memory(text); }, "tokenizer (in memory): "));
    CHECK(fails_with([&] { return bpe::from_memory(std::string(100'000, '[')); }, "is not JSON"));
    CHECK(fails_with(
        [&] { return bpe::from_memory("{\"model\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}"); },
        "has no object \"model\""));
    const std::string text = good.dump();
    int refusals = 0;
    const auto attempt = [&](const std::string& damaged) {
      try {
        const auto tokenizer = bpe::from_memory(damaged);
        CHECK(tokenizer.decode(tokenizer.encode("abc \xFF 川")) == "abc \xFF 川");
      } catch (const fathom::error&) {
        ++refusals;
      }
    };
    for (std::size_t length = 0; length < text.size(); length += 7) attempt(text.substr(0, length));
    CHECK(refusals == static_cast<int>((text.size() + 6) / 7));
    for (const char replacement : {'\0', '"', '[', '{', '1', '}', '\xC4', 'e'})
      for (std::size_t at = 0; at < text.size(); at += 5) attempt(std::string(text).replace(at, 1, 1, replacement));
    // Each value replaced by one of another kind.
    std::vector<std::string> places;
    add_places(good, "", places);
    for (const std::string& where : places) {
      if (where.starts_with("/model/vocab")) continue;
      for (const fathom::json& other : {fathom::json(), fathom::json(-1), fathom::json("x"),
                                          fathom::json::array({1}), parsed(R"({"a": 1})")}) {
        auto json = good;
        at(json, where) = other;
        attempt(json.dump());
      }
    }
  }
}

TEST_CASE("bpe takes a token twice for one, if the id is the same", "[data]") {
  const temporary_folder folder;
  folder.write("vocab.json", with({"th", "<|endoftext|>"}));
  folder.write("merges.txt", "#version: 0.2\nt h\n");
  const auto added = [&](const std::string& tokens) {
    folder.write("added_tokens.json", tokens);
    return bpe(folder.path());
  };
  const auto tokenizer = added(R"({"<|endoftext|>": 257, "<pad>": 258, "<pad>": 258})");
  CHECK(tokenizer.size() == 259);
  CHECK(tokenizer.encode("th<|endoftext|><pad>", special::as_tokens) == std::vector<token>{256, 257, 258});
  CHECK(tokenizer.encode("<|endoftext|>").size() == 13);
  // An added token that a merge also makes is found within words.
  CHECK(added(R"({"th": 256})").encode("atha", special::as_tokens) ==
        tokenizer.encode("a") + std::vector<token>{256} + tokenizer.encode("a"));

  const std::string name = (folder.path() / "added_tokens.json").string();
  CHECK(fails_with([&] { return added(R"({"<|endoftext|>": 258})"); },
                   name + ": the token \"<|endoftext|>\" has the id 258; expected 257 as in ", "/vocab.json"));
  CHECK(fails_with([&] { return added(R"({"<pad>": 258, "<pad>": 259})"); },
                   name + ": has the token \"<pad>\" twice, with the ids 258 and 259"));
  CHECK(fails_with([&] { return added(R"({"<pad>": 257})"); }, name,
                   "\"<|endoftext|>\" and \"<pad>\" have the same id, 257"));
  const auto space = byte_vocabulary()["Ġ"].as<int>();
  CHECK(fails_with([&] { return added(R"({"Ġ": )" + std::to_string(space) + "}"); },
                   "\"Ġ\" stands for text as an added token"));
}

TEST_CASE("bpe reads a token without a single symbol, which no text has", "[data]") {  // as Whisper's vocabulary has
  for (const special how : {special::as_text, special::as_tokens}) {
    const auto tokenizer = bpe::from_memory(with({"", "ab", "<s>"}), "a b\n");
    CHECK(tokenizer.size() == 259);
    CHECK(tokenizer.encode("abab", how) == std::vector<token>{257, 257});
    CHECK(tokenizer.encode("", how).empty());
    CHECK(tokenizer.bytes(256).empty());
    CHECK(tokenizer.decode(std::vector<token>{257, 256, 258}) == "ab<s>");
    CHECK(fails_with([&] { return tokenizer.special_token(""); }, "\"\" is no special token"));
  }
  CHECK(bpe::from_memory(with({"ab"}), "a b\n", R"({"": 257})").encode("ab", special::as_tokens) ==
        std::vector<token>{256});
}

TEST_CASE("bpe does without the bytes that UTF-8 never has", "[data]") {
  // In order of the bytes: 0xC0, 0xC1, 0xF5 to 0xFF.
  const std::vector<std::string> never{"À", "Á", "õ", "ö", "÷", "ø", "ù", "ú", "û", "ü", "ý", "þ", "ÿ"};
  fathom::json vocabulary;
  int count = 0;
  const auto all = byte_vocabulary();
  for (const auto& [spelling, id] : all.members())
    if (std::find(never.begin(), never.end(), spelling) == never.end()) vocabulary[spelling] = count++;
  REQUIRE(count == 243);
  vocabulary["ab"] = 243;
  const auto tokenizer = bpe::from_memory(vocabulary.dump(), "a b\n", R"({"À": 244})");
  CHECK(tokenizer.size() == 245);
  const std::string text("ab\0 \xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 22);
  CHECK(tokenizer.encode("ab") == std::vector<token>{243});
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  CHECK(tokenizer.encode("À").size() == 2);  // C3 80
  CHECK(tokenizer.encode("À", special::as_tokens) == std::vector<token>{244});
  for (const char* byte : {"\xC0", "\xC1", "\xF5", "\xFF"})
    for (const special how : {special::as_text, special::as_tokens})
      CHECK(fails_with([&] { return tokenizer.encode(std::string("ab é") + byte + "!", how); },
                       "bpe.encode: the byte " + std::to_string(static_cast<unsigned char>(*byte)) +
                           " at position 5 has no token in the vocabulary; expected UTF-8"));
  std::vector<token> tokens{7};
  CHECK(fails_with(
      [&] {
        tokenizer.encode("ab\xFF", tokens);
        return 0;
      },
      "position 2"));
  CHECK(tokens == std::vector<token>{7});

  const temporary_folder folder;
  folder.write("a.txt", "ab ab ab ab");
  folder.write("b.txt", "ab\xFE");
  CHECK(fails_with([&] { return fathom::data::subwords(folder.path(), tokenizer, {.validation = 0}); },
                   (folder.path() / "b.txt").string() + ": the byte 254 at position 2 has no token"));
  const auto some = fathom::data::subwords(folder.path(), tokenizer, {.validation = 0}, {.skip_damaged = true});
  CHECK(tokenizer.decode(some.all()) == "ab ab ab ab");
  REQUIRE(some.skipped().size() == 1);
  CHECK(some.skipped()[0].path == folder.path() / "b.txt");
  CHECK(some.skipped()[0].reason.starts_with("the byte 254 at position 2"));

  vocabulary.erase("ab");
  vocabulary["<s>"] = vocabulary["ô"];  // 0xF4 begins the last code points
  vocabulary.erase("ô");
  CHECK(fails_with([&] { return bpe::from_memory(vocabulary.dump(), ""); },
                   "vocab (in memory): has no token for the byte 244, \"ô\"", "but those that UTF-8 never has"));
}

TEST_CASE("bpe says what is wrong with a vocabulary", "[data]") {
  const auto refused = [](const std::string& vocab, const std::string& reason) {
    return fails_with([&] { return bpe::from_memory(vocab, "#version: 0.2\n"); }, "vocab (in memory): ", reason);
  };
  for (const char* text : {"", " ", "{", "{\"a\"}", "{\"a\": }", "{\"a\": 0", "{\"a\": 0,}", "{\"a\": 0} x",
                           "{\"\xFF\": 0}", "nonsense", "{'a': 0}"}) {
    INFO("vocabulary " << text);
    CHECK(refused(text, "is not JSON"));
  }
  CHECK(refused("{\"Q\": 0, \"R\": x}", "is not JSON, after the token \"R\""));
  CHECK(refused(std::string("{\"a\": 0}\0", 9), "is not JSON"));
  for (const char* text : {"[]", "1", "\"a\"", "null", "[{\"a\": 0}]", "-1.5"})
    CHECK(refused(text, "expected a JSON object"));
  for (const char* id :
       {"-1", "1.0", "\"1\"", "null", "true", "[1]", "{\"b\": 1}", "2147483648", "18446744073709551616", "1e3"}) {
    INFO("id " << id);
    CHECK(refused(std::string("{\"a\": ") + id + "}", "the token \"a\" has the id"));
  }
  CHECK(refused(std::string("{\"a\": ") + std::string(100'000, '['), "the token \"a\" has the id of a structure"));
  CHECK(refused(R"({"a": 0, "b": 1, "a": 2})", "has the token \"a\" twice, with the ids 0 and 2"));
  CHECK(refused(R"({"a": 0, "b": 0})", "the tokens \"a\" and \"b\" have the same id, 0"));
  CHECK(refused(R"({"a": 0, "b": 2})", "the token \"b\" has the id 2; expected ids from 0 to 1"));
  CHECK(refused("{}", "has no token for the byte 0, \"Ā\""));
  CHECK(refused("{\"" + std::string(1000, 'x') + "\": -1}", "\"" + std::string(40, 'x') + "...\" has the id"));

  auto vocabulary = byte_vocabulary();
  vocabulary["<|endoftext|>"] = vocabulary["Ġ"];
  vocabulary.erase("Ġ");
  CHECK(refused(vocabulary.dump(), "has no token for the byte 32, \"Ġ\"; expected tokens for all of 0 to 255"));
}

TEST_CASE("bpe says what is wrong with merges", "[data]") {
  const auto refused = [](const std::string& merges, const std::string& reason,
                          const std::vector<std::string>& more = {"ab", "abc"}) {
    return fails_with([&] { return bpe::from_memory(with(more), merges); }, "merges (in memory): ", reason);
  };
  CHECK_NOTHROW(bpe::from_memory(with({"ab", "abc"}), "#version: 0.2\na b\nab c"));
  for (const char* line : {"ab", " ab", "ab ", "a  b", "a b c", " ", "", "a b ", "a\tb"}) {
    INFO("line " << line);
    CHECK(refused(std::string("#version: 0.2\na b\n") + line + "\nab c\n",
                  "line 3: \"" + std::string(line == std::string("a\tb") ? "a?b" : line) +
                      "\"; expected two tokens with one space between them"));
  }
  CHECK(refused("a b\nab c\n#version: 0.2\n", "line 3: the vocabulary has no token \"#version:\""));
  CHECK(refused("a b\nab d\nab c\n", "line 2: the vocabulary has no token \"abd\""));
  CHECK(refused("a b\nab x\xFFy\n", "line 2: the vocabulary has no token"));
  CHECK(refused("a b\nab c\na b\n", "line 3: \"a b\" is there already"));
  // Truncated merges: the vocabulary has tokens that no line makes and that do not look like <|endoftext|>.
  CHECK(refused("a b\n", "no line makes the token \"abc\", number 257"));
  CHECK(refused("", "no line makes the token \"ab\", number 256"));
  CHECK(refused("<| x\n", "line 1: the token \"<|\" is neither a byte nor made by any line", {"<|", "<|x", "<x>"}) ==
        false);  // "<|" is a piece: it is missed first
  CHECK(refused("｜ y\n", "line 1: the token \"｜\" is neither a byte nor made by any line", {"｜", "｜y"}));
  CHECK(refused("<x> y\n", "line 1: the token \"<x>\" is neither a byte nor made by any line", {"<x>", "<x>y"}));
}

TEST_CASE("bpe survives every damage to its files", "[data]") {
  const std::string vocab = read(golden / "small" / "vocab.json"), merges = read(golden / "small" / "merges.txt");
  int well_formed = 0, refused = 0;
  const auto attempt = [&](const std::string& v, const std::string& m) {
    try {
      const auto tokenizer = bpe::from_memory(v, m);
      ++well_formed;
      const std::string text = "The river is wide, \xFF 川は広く";
      CHECK(tokenizer.decode(tokenizer.encode(text, special::as_tokens)) == text);
    } catch (const fathom::error&) {
      ++refused;
    }
  };
  // Lengths and places coprime to the files' periods.
  for (std::size_t length = 0; length < vocab.size() - 1; length += 97) attempt(vocab.substr(0, length), merges);
  for (std::size_t length = 0; length < merges.size(); length += 23) attempt(vocab, merges.substr(0, length));
  CHECK(well_formed == 0);  // no truncated file is accepted
  for (const char replacement : {'\0', '"', ' ', '\n', '1', '}', '\xC4', 'e'}) {
    for (std::size_t at = 0; at < vocab.size(); at += 101)
      attempt(std::string(vocab).replace(at, 1, 1, replacement), merges);
    for (std::size_t at = 0; at < merges.size(); at += 29)
      attempt(vocab, std::string(merges).replace(at, 1, 1, replacement));
  }
  CHECK(refused > 1000);
}
