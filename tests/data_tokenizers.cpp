// Tokenizers of the kinds that models have: what tokenizers encodes and decodes with those in golden/tokenizers (made
// by make_tokenizers.py).
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
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
using fathom::data::ends;
using fathom::data::special;
using fathom::data::specials;
using tokens = std::vector<token>;

const auto golden = std::filesystem::path(FATHOM_GOLDEN) / "tokenizers";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}
fathom::json contents(const std::string& name) { return parsed(read(golden / name / "tokenizer.json")); }

std::string from_hex(std::string_view hex) {
  std::string text;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    unsigned byte = 0;
    std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16);
    text += static_cast<char>(byte);
  }
  return text;
}

}  // namespace

TEST_CASE("every kind of tokenizer encodes and decodes as tokenizers does", "[data]") {
  std::ifstream file(golden / "expected.txt");
  std::string line;
  REQUIRE(std::getline(file, line));
  std::vector<bpe> tokenizers;
  std::vector<std::string> names;
  std::istringstream heads(line);
  for (std::string name; heads >> name;) {
    names.push_back(name);
    tokenizers.emplace_back(golden / name);
  }
  REQUIRE(tokenizers.size() >= 3);
  int count = 0;
  while (std::getline(file, line)) {
    std::istringstream fields(line + ":");
    std::string mode, hex, ids, decoded;
    REQUIRE((std::getline(fields, mode, ':') && std::getline(fields, hex, ':')));
    const std::string text = from_hex(hex);
    for (std::size_t i = 0; i < tokenizers.size(); ++i) {
      REQUIRE((std::getline(fields, ids, ':') && std::getline(fields, decoded, ':')));
      INFO(names[i] << ", " << mode << ": " << text);
      std::istringstream numbers(ids);
      const tokens expected(std::istream_iterator<token>(numbers), {});
      CHECK(tokenizers[i].encode(text, mode == "p" ? special::as_text : special::as_tokens,
                                 mode == "m" ? ends::marked : ends::bare) == expected);
      CHECK(tokenizers[i].decode(expected, specials::left_out) == (decoded == "=" ? text : from_hex(decoded)));
      ++count;
    }
  }
  CHECK(count > 800);
}

TEST_CASE("normalisation form C composes, orders and leaves alone", "[data]") {
  const auto nfc = [](std::string_view text) {
    std::string buffer = "before";
    return std::string(fathom::data::detail::normalize_nfc(text, buffer));
  };
  CHECK(nfc("").empty());
  CHECK(nfc("e\u0301") == "é");
  CHECK(nfc("abc e\u0301\u0323x") == "abc \u1EB9\u0301x");
  CHECK(nfc("\u0301a") == "\u0301a");
  CHECK(nfc("\u1100\u1161\u11A8 \u1100\u1161 \uAC00\u11A8") == "각 가 각");
  CHECK(nfc("\u212B\u2126\u0958") == "\u00C5\u03A9\u0915\u093C");
  CHECK(nfc("\uFF21\u00BD") == "\uFF21\u00BD");  // compatibility only
  CHECK(nfc("a\xFF\u0301\x80") == "a\xFF\u0301\x80");
  CHECK(nfc("e\u0301\xC3") == "é\xC3");
  CHECK(nfc("\xCC") == "\xCC");
  std::string marks = "a";  // in about as much time for each
  while (marks.size() < 400'000) marks += "\u0301\u0323";
  CHECK(nfc(marks).size() == marks.size());  // a and a dot below become ạ, of as many bytes
  CHECK(nfc(marks).starts_with("\u1EA1\u0323"));
}

TEST_CASE("bpe puts tokens around a text when asked to", "[data]") {
  auto json = contents("llama3");
  const auto open = [&] { return bpe::from_memory(json.dump()); };
  const auto tokenizer = open();
  const token begin = tokenizer.special_token("<|begin_of_text|>");
  CHECK(tokenizer.bos() == begin);
  CHECK_FALSE(tokenizer.eos());
  CHECK(tokenizer.is_special(begin));
  CHECK_FALSE(tokenizer.is_special(0));
  CHECK(fails_with([&] { return tokenizer.is_special(-1); }, "token -1 is outside of the vocabulary"));
  CHECK(tokenizer.encode("", special::as_text, ends::marked) == tokens{begin});
  CHECK(tokenizer.encode("", special::as_text).empty());
  CHECK(tokenizer.decode(tokens{begin, 1}, specials::left_out) == tokenizer.bytes(1));

  json["post_processor"] = fathom::json::object({{"type", "RobertaProcessing"},
                                                 {"cls", fathom::json::array({"<|begin_of_text|>", 560})},
                                                 {"sep", fathom::json::array({"<|end_of_text|>", 561})}});
  CHECK(open().encode("", special::as_text, ends::marked) == tokens{begin, begin + 1});
  CHECK(open().eos() == begin + 1);
  for (const char* other :
       {R"({"type": "Other"})", R"({"type": "TemplateProcessing"})", "3", "[]", "{}",
        R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"Sequence": {}}]})",
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]})"}) {
    json["post_processor"] = parsed(other);
    CHECK(open().encode("").empty());
    CHECK(fails_with([&] { return open().encode("", special::as_text, ends::marked); }, "post_processor is "));
  }
}

TEST_CASE("bpe reads a folder by the class that it names, or refuses it", "[data]") {
  const temporary_folder folder;
  const auto open = [&](const std::string& of) {
    folder.write("tokenizer_config.json", R"({"tokenizer_class": ")" + of + "\"}");
    return bpe(folder.path());
  };
  const auto reads = [&](const std::string& of) { return open(of).size() > 0; };
  const std::string apart = "tokenizer.json has the pieces of ";
  folder.write("tokenizer.json", contents("qwen2").dump());
  CHECK(reads("Qwen2Tokenizer"));
  CHECK(reads("Qwen2TokenizerFast"));
  CHECK(reads("PreTrainedTokenizerFast"));
  CHECK(fails_with([&] { return open("GPT2Tokenizer"); }, folder.path().string(), apart + "Qwen 2",
                   "\"GPT2Tokenizer\"; expected those of GPT-2"));
  CHECK(fails_with([&] { return open("BertTokenizer"); }, "tokenizer_class is \"BertTokenizer\"; expected"));
  folder.write("tokenizer.json", contents("smollm2").dump());
  CHECK(reads("GPT2Tokenizer"));
  CHECK(fails_with([&] { return open("Qwen2Tokenizer"); }, apart + "SmolLM2"));
  folder.write("tokenizer.json", contents("llama3").dump());
  CHECK(reads("PreTrainedTokenizerFast"));
  CHECK(fails_with([&] { return open("WhisperTokenizer"); }, apart + "Llama 3"));

  SECTION("vocab.json and merges.txt by the class alone") {
    const auto json = contents("qwen2");
    fathom::json vocab;
    for (const auto& [key, id] : json["model"]["vocab"].members()) vocab[key] = id;
    std::string merges;
    for (const auto& pair : json["model"]["merges"].elements()) merges += pair[0].text() + " " + pair[1].text() + "\n";
    std::filesystem::remove(folder.path() / "tokenizer.json");
    folder.write("vocab.json", vocab.dump());
    folder.write("merges.txt", merges);
    const std::string text = "It'S 2031 e\u0301\n\n  x";
    const auto with_file = bpe::from_memory(json.dump());
    const auto by_class = open("Qwen2Tokenizer");
    CHECK(by_class.encode("It'S 2031\n\n x") == with_file.encode("It'S 2031\n\n x"));
    CHECK(by_class.decode(by_class.encode(text)) == "It'S 2031 é\n\n  x");
    CHECK(open("GPT2Tokenizer").decode(open("GPT2Tokenizer").encode(text)) == text);
    CHECK(fails_with([&] { return open("GPTNeoXTokenizer"); }, "there is no tokenizer.json"));
    // Without a class, by the model.
    std::filesystem::remove(folder.path() / "tokenizer_config.json");
    folder.write("config.json", R"({"model_type": "qwen3"})");
    CHECK(bpe(folder.path()).encode(text) == by_class.encode(text));
    folder.write("config.json", R"({"model_type": "gpt2"})");
    CHECK(bpe(folder.path()).encode(text) != by_class.encode(text));
    folder.write("config.json", R"({"model_type": "llama"})");
    CHECK(fails_with([&] { return bpe(folder.path()); }, "/config.json: model_type is \"llama\""));
  }
}
