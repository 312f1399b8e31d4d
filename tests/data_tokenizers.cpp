// Tokenizers of the kinds that models have: what tokenizers encodes and decodes with those in golden/tokenizers (made
// by make_tokenizers.py).
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/data/bpe.hpp>
#include <fathom/data/text_stream.hpp>
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

fathom::json of_type(const char* name) { return fathom::json::object({{"type", name}}); }

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
  REQUIRE(tokenizers.size() == 5);
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
  CHECK(count > 1500);
}

namespace {
/// The metadata of a GGUF file with one of the tokenizers in golden/tokenizers.
struct gguf {
  std::vector<std::string> tokens, merges;
  std::vector<std::string_view> token_views, merge_views;
  std::vector<std::int32_t> types;
  std::vector<float> scores;
  fathom::data::gguf_tokenizer metadata;

  explicit gguf(const std::string& name) {
    const auto json = contents(name);
    const auto& model = json["model"];
    const auto& added = json["added_tokens"];
    tokens.resize(model["vocab"].size() + added.size());
    std::size_t size = 0;
    const auto put = [&](const std::string& spelling, const fathom::json& id) {
      const auto i = id.as<std::size_t>();
      if (tokens.at(i).empty()) ++size;
      tokens[i] = spelling;
    };
    for (const auto& [spelling, id] : model["vocab"].members()) put(spelling, id);
    for (const auto& one : added.elements()) put(one["content"].text(), one["id"]);
    tokens.resize(size);
    types.resize(size, 1);
    for (const auto& one : added.elements()) types[one["id"].as<std::size_t>()] = one["special"] == true ? 3 : 4;
    for (std::size_t i = 0; i < size; ++i) {
      if (tokens[i].starts_with("<0x")) types[i] = 6;
      scores.push_back(-static_cast<float>(i));
    }
    for (const auto& pair : model["merges"].elements()) merges.push_back(pair[0].text() + " " + pair[1].text());
    token_views.assign(tokens.begin(), tokens.end());
    merge_views.assign(merges.begin(), merges.end());
    metadata = {.model = "gpt2", .tokens = token_views, .token_type = types, .merges = merge_views};
  }
  gguf(const gguf&) = delete;
};
}  // namespace

TEST_CASE("bpe reads the metadata of GGUF files", "[data]") {
  const auto expect_same = [](const bpe& found, const std::string& name) {
    const bpe expected(golden / name);
    REQUIRE(found.size() == expected.size());
    std::ifstream file(golden / "expected.txt");
    int count = 0;
    for (std::string line; std::getline(file, line);) {
      const std::size_t at = line.find(':');
      if (at == line.npos) continue;
      const std::string text = from_hex(std::string_view(line).substr(at + 1, line.find(':', at + 1) - at - 1));
      INFO(name << ": " << text);
      for (const special how : {special::as_text, special::as_tokens}) {
        const auto tokens = expected.encode(text, how, ends::marked);
        CHECK(found.encode(text, how, ends::marked) == tokens);
        CHECK(found.decode(tokens) == expected.decode(tokens));
        CHECK(found.decode(tokens, specials::left_out) == expected.decode(tokens, specials::left_out));
      }
      ++count;
    }
    CHECK(count > 250);
  };
  SECTION("of the model gpt2") {
    gguf llama3("llama3"), smollm2("smollm2");
    llama3.metadata.pre = "llama-bpe";
    llama3.metadata.bos_token_id = bpe(golden / "llama3").bos();
    expect_same(bpe::from_gguf(llama3.metadata), "llama3");
    smollm2.metadata.pre = "smollm";
    expect_same(bpe::from_gguf(smollm2.metadata), "smollm2");
    // A file does not say which tokens are found in normalised text, as one of this vocabulary is; all others are the
    // same.
    gguf qwen2("qwen2");
    qwen2.metadata.pre = "qwen2";
    const std::string text = "It'S 2031 e\u0301q\u0323\n\n  x<|im_end|>";
    CHECK(bpe::from_gguf(qwen2.metadata).encode(text) == bpe(golden / "qwen2").encode(text));
    // Pythia's and OLMo 2's names stand for rules that other names have, too (llama.cpp, src/llama-vocab.cpp).
    smollm2.metadata.pre = "olmo";
    auto json = contents("smollm2");
    json["normalizer"] = of_type("NFC");
    json["pre_tokenizer"] = parsed(R"({"type": "ByteLevel", "add_prefix_space": false})");
    const bpe pythia = bpe::from_memory(json.dump());
    CHECK(bpe::from_gguf(smollm2.metadata).encode(text) == pythia.encode(text));
    CHECK(pythia.to_gguf().pre == "olmo");
    json = contents("llama3");
    json["model"]["ignore_merges"] = false;
    const bpe olmo2 = bpe::from_memory(json.dump());
    llama3.metadata.pre = "dbrx";
    CHECK(bpe::from_gguf(llama3.metadata).encode(text) == olmo2.encode(text));
    CHECK(olmo2.to_gguf().pre == "dbrx");
  }
  SECTION("of the model llama") {
    gguf llama2("llama2"), gemma("gemma");
    llama2.metadata.model = gemma.metadata.model = "llama";
    llama2.metadata.pre = "default";
    llama2.metadata.scores = llama2.scores;
    gemma.metadata.scores = gemma.scores;
    llama2.metadata.bos_token_id = bpe(golden / "llama2").bos();
    gemma.metadata.bos_token_id = bpe(golden / "gemma").bos();
    gemma.metadata.add_space_prefix = false;
    expect_same(bpe::from_gguf(gemma.metadata), "gemma");
    llama2.metadata.eos_token_id = 2;
    llama2.metadata.add_eos_token = true;
    llama2.metadata.add_bos_token = false;
    const auto tokenizer = bpe::from_gguf(llama2.metadata);
    CHECK(tokenizer.encode("", special::as_text, ends::marked) == tokens{2});
    const bpe expected(golden / "llama2");
    for (const std::string text : {"The river is wide", "  two  spaces", "<s>a</s> b", "川は\n\xFF"}) {
      CHECK(tokenizer.encode(text, special::as_tokens) == expected.encode(text, special::as_tokens));
      CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    }
  }
}

TEST_CASE("bpe says what is wrong with the metadata of a GGUF file", "[data]") {
  const auto refused = [](auto change, const std::string& reason) {
    gguf file("llama2");
    file.metadata.model = "llama";
    file.metadata.scores = file.scores;
    file.metadata.file = "model.gguf";
    change(file);
    return fails_with([&] { return bpe::from_gguf(file.metadata); }, "model.gguf: ", reason);
  };
  const auto renamed = [](gguf& file, std::size_t id, std::string_view spelling) { file.token_views[id] = spelling; };
  CHECK_FALSE(refused([](gguf&) {}, ""));
  CHECK(refused([](gguf& f) { f.metadata.model = "bert"; },
                "tokenizer.ggml.model is \"bert\"; expected \"gpt2\" or \"llama\""));
  CHECK(refused([](gguf& f) { f.metadata.model = "gpt2"; }, "has no metadata tokenizer.ggml.pre; expected the name of pieces that bpe has: \"gpt-2\""));
  for (const char* pre : {"default", "tekken"})
    CHECK(refused([&](gguf& f) { f.metadata.model = "gpt2", f.metadata.pre = pre; },
                  "tokenizer.ggml.pre is \"" + std::string(pre) +
                      "\"; expected the name of pieces that bpe has: \"gpt-2\", \"llama-bpe\""));
  CHECK(refused([](gguf& f) { f.metadata.tokens = {}; }, "tokenizer.ggml.tokens is empty"));
  CHECK(refused([](gguf& f) { f.metadata.token_type = f.metadata.token_type.first(3); },
                "tokenizer.ggml.token_type has 3 numbers; expected "));
  CHECK(refused([](gguf& f) { f.metadata.scores = {}; }, "tokenizer.ggml.scores has 0 numbers; expected "));
  CHECK(refused([](gguf& f) { f.types[7] = 7; }, "the token \"<0x04>\" has the type 7; expected 1 to 6"));
  CHECK(refused([](gguf& f) { f.scores[300] = std::numeric_limits<float>::quiet_NaN(); },
                "has a score that is no number"));
  CHECK(refused([&](gguf& f) { renamed(f, 300, f.tokens[301]); }, "has the token \""));
  CHECK(refused([&](gguf& f) { renamed(f, 7, "x<0x04>"), f.types[7] = 1; }, "has no token for the byte 4, \"<0x04>\""));
  const std::string text(1000, 'a');
  CHECK(refused([&](gguf& f) { renamed(f, 300, text); }, "has 1000 bytes; expected at most 512"));
  CHECK(refused([](gguf& f) { f.metadata.bos_token_id = 10'000; },
                "tokenizer.ggml.bos_token_id is 10000; expected a token, 0 to "));
  CHECK(refused([](gguf& f) { f.metadata.eos_token_id = -1; }, "tokenizer.ggml.eos_token_id is -1"));
  const auto byte_level = [&](auto change, const std::string& reason) {
    gguf file("smollm2");
    file.metadata.pre = "smollm";
    change(file);
    return fails_with([&] { return bpe::from_gguf(file.metadata); }, "GGUF: ", reason);
  };
  CHECK_FALSE(byte_level([](gguf&) {}, ""));
  CHECK(byte_level([](gguf& f) { f.merge_views[2] = "abc"; }, "merge 3: \"abc\"; expected two tokens"));
  CHECK(byte_level([](gguf& f) { f.merge_views[2] = "Q Q"; }, "merge 3: the vocabulary has no token \"QQ\""));
  CHECK(byte_level([](gguf& f) { f.merge_views[2] = f.merge_views[1]; }, "merge 3: "));
}

TEST_CASE("a text_stream gives whole characters", "[data]") {
  using fathom::data::text_stream;
  const std::string replacement = "\uFFFD";
  SECTION("of text") {
    for (const char* name : {"llama3", "qwen2", "smollm2", "llama2", "gemma"}) {
      const bpe tokenizer(golden / name);
      text_stream stream(tokenizer);
      std::ifstream file(golden / "expected.txt");
      for (std::string line; std::getline(file, line);) {
        const std::size_t at = line.find(':');
        if (at == line.npos) continue;
        const std::string text = from_hex(std::string_view(line).substr(at + 1, line.find(':', at + 1) - at - 1));
        const auto of = tokenizer.encode(text, special::as_tokens, ends::marked);
        std::string whole;
        for (const token t : of) {
          const std::string part(stream.push(t));
          for (const char* c = part.data(); c != part.data() + part.size();) {
            const auto next = fathom::data::detail::first_code_point(c, part.data() + part.size());
            REQUIRE(next.code != fathom::data::detail::malformed);
            c += next.bytes;
          }
          whole += part;
        }
        whole += stream.finish();
        INFO(name << ": " << text);
        CHECK(whole == tokenizer.decode(of, specials::left_out));
      }
    }
  }
  SECTION("of bytes, as Python replaces those that are malformed") {
    const bpe tokenizer(golden / "llama3");
    const auto streamed = [&](std::string_view bytes) {
      text_stream stream(tokenizer);
      std::string text;
      for (const char byte : bytes) text += stream.push(tokenizer.encode({&byte, 1}).at(0));
      return text + "|" + std::string(stream.finish());
    };
    CHECK(streamed("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82") == "aé€🙂|");
    CHECK(streamed("a\xC3") == "a|" + replacement);
    CHECK(streamed("\xE2\x82") == "|" + replacement);
    CHECK(streamed("\xF0\x9F\x99") == "|" + replacement);
    CHECK(streamed("\xF0\x9F\x99\xF0\x9F\x99\x82") == replacement + "🙂|");
    CHECK(streamed("\xE2\x82z\xC3") == replacement + "z|" + replacement);
    CHECK(streamed("\x80\xFFz") == replacement + replacement + "z|");
    CHECK(streamed("\xE0\x80\xED\xA0") == replacement + replacement + replacement + replacement + "|");
    CHECK(streamed("\xF4\x90\x80") == replacement + replacement + replacement + "|");
  }
  SECTION("with or without special tokens and the first space") {
    const bpe tokenizer(golden / "llama2");
    const auto of = tokenizer.encode("the river", special::as_tokens, ends::marked);
    const auto streamed = [&](text_stream stream) {
      std::string text;
      for (const token t : of) text += stream.push(t);
      return text += stream.finish();
    };
    CHECK(streamed(text_stream(tokenizer)) == "the river");
    CHECK(streamed(text_stream(tokenizer, text_stream::behind_a_prompt)) == " the river");
    CHECK(streamed(text_stream(tokenizer, text_stream::at_the_beginning, specials::spelled)) == "<s> the river");
    text_stream stream(tokenizer);
    CHECK(fails_with([&] { return stream.push(-1).size(); }, "token -1 is outside of the vocabulary"));
  }
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

  const auto spaced = [&](bool adds) {
    folder.write("tokenizer_config.json", adds ? R"({"add_prefix_space": true})" : R"({"add_prefix_space": false})");
    return bpe(folder.path());
  };
  CHECK(fails_with([&] { return spaced(true); }, "add_prefix_space is true; expected false"));
  folder.write("tokenizer.json", contents("llama2").dump());
  CHECK(reads("LlamaTokenizer"));
  CHECK(reads("PreTrainedTokenizerFast"));
  CHECK(open("LlamaTokenizerFast").kind() == fathom::data::bpe_kind::sentencepiece);
  CHECK(fails_with([&] { return open("GPT2Tokenizer"); }, apart + "SentencePiece", "expected those of GPT-2"));
  CHECK(spaced(true).size() > 0);
  CHECK(fails_with([&] { return spaced(false); }, "add_prefix_space is false; expected true"));
  folder.write("tokenizer.json", contents("qwen2").dump());
  CHECK(fails_with([&] { return open("GemmaTokenizerFast"); }, apart + "Qwen 2", "expected those of SentencePiece"));

  SECTION("with another class than its rules, where it is known that the rules count") {
    // What AutoTokenizer of transformers 5.24 makes of these folders (make_tokenizers.py folders).
    folder.write("tokenizer.json", contents("llama3").dump());
    const auto open_of = [&](const std::string& of, const std::string& model) {
      folder.write("config.json", R"({"model_type": ")" + model + "\"}");
      return open(of);
    };
    const std::string text = "\n\nhello\n\n  WE'LL  go in 20231";
    const tokens llama3s{316, 270, 75, 75, 78, 316, 220, 220, 548, 6, 43, 43, 220, 220, 70, 78, 282, 77, 220, 470, 18, 16};
    CHECK(open_of("GPT2Tokenizer", "olmo2").encode(text) == llama3s);
    CHECK(open_of("GPT2TokenizerFast", "olmo3").encode(text) == llama3s);
    for (const char* model : {"llama", "mistral", "qwen3"}) CHECK(open_of("LlamaTokenizerFast", model).encode(text) == llama3s);
    CHECK(fails_with([&] { return open_of("GPT2Tokenizer", "llama"); }, apart + "Llama 3", "\"GPT2Tokenizer\"; expected those of GPT-2"));
    CHECK(fails_with([&] { return open_of("LlamaTokenizer", "qwen2"); }, apart + "Llama 3", "expected those of SentencePiece"));
    std::filesystem::remove(folder.path() / "config.json");
    CHECK(fails_with([&] { return open("GPT2Tokenizer"); }, apart + "Llama 3"));
    // Without a tokenizer.json, nothing has the rules.
    std::filesystem::remove(folder.path() / "tokenizer.json");
    folder.write("vocab.json", "{}");
    folder.write("merges.txt", "");
    CHECK(fails_with([&] { return open_of("GPT2Tokenizer", "olmo2"); }, "/config.json: model_type is \"olmo2\", and there is no tokenizer.json"));
  }
  SECTION("with the roles of tokens") {
    folder.write("tokenizer.json", contents("qwen2").dump());
    folder.write("tokenizer_config.json",
                 R"({"tokenizer_class": "Qwen2Tokenizer", "bos_token": null, "eos_token": {"content": "<|im_end|>"}})");
    folder.write("special_tokens_map.json", R"({"eos_token": "<|endoftext|>", "bos_token": "<|im_start|>"})");
    const bpe tokenizer(folder.path());
    CHECK(tokenizer.eos() == tokenizer.special_token("<|im_end|>"));
    CHECK(tokenizer.bos() == tokenizer.special_token("<|im_start|>"));
    CHECK(tokenizer.encode("", special::as_text, ends::marked).empty());  // as tokenizer.json has it
  }
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
    folder.write("added_tokens.json", R"({"<s>": )" + std::to_string(vocab.size()) + "}");
    folder.write("tokenizer_config.json",
                 R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "<s>", "add_bos_token": true,
                     "add_eos_token": true})");
    const auto last = static_cast<token>(vocab.size());
    CHECK(bpe(folder.path()).encode("", special::as_text, ends::marked) == tokens{last, last});
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

TEST_CASE("bpe with the rules of SentencePiece keeps all bytes", "[data]") {
  for (const char* name : {"llama2", "gemma"}) {
    INFO(name);
    const bpe tokenizer(golden / name);
    CHECK(tokenizer.kind() == fathom::data::bpe_kind::sentencepiece);
    for (const std::string text :
         {"", " ", "  ", "a", " a", "a ", "\n", "\xFF", "a\xE2\x82", "\xE2\x96", " \xE2\x96 x", "\xF0\x9F"})
      CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    CHECK(tokenizer.decode(tokenizer.encode("a▁b")) == "a b");  // files spell a space so
    // Long pieces, and long texts of short ones, in about as much time for each byte.
    for (const std::string pattern : {"a", " ", "th", "\xFF", "the ", "▁", "\xE3\x80\x80", "<s>"}) {
      std::string text, expected;
      while (text.size() < 500'000) text += pattern, expected += pattern == "▁" ? " " : pattern;
      CHECK(tokenizer.decode(tokenizer.encode(text)) == expected);
    }
  }
}

TEST_CASE("bpe says what is wrong with a tokenizer.json of SentencePiece", "[data]") {
  const auto good = contents("llama2");
  const auto refused = [&](const char* where, const fathom::json& value, const std::string& reason) {
    auto json = good;
    at(json, where) = value;
    INFO(where << ": " << value.dump());
    return fails_with([&] { return bpe::from_memory(json.dump()); }, "tokenizer (in memory): ", reason);
  };
  CHECK(refused("/model/byte_fallback", false, "model.byte_fallback is false; expected true"));
  CHECK(refused("/model/ignore_merges", true, "model.ignore_merges is true; expected false"));
  CHECK(refused("/normalizer", of_type("NFKC"), "normalizer is of the type \"NFKC\"; expected a \"Prepend\""));
  CHECK(refused("/normalizer", nullptr, "neither normalizer nor pre_tokenizer turns \" \" into \"▁\""));
  CHECK(refused("/normalizer/normalizers/0/prepend", "_", "normalizer is of the type \"Prepend\"; expected"));
  CHECK(refused("/normalizer/normalizers/1/content", "_", "normalizer is of the type \"Replace\"; expected"));
  CHECK(refused("/normalizer/normalizers/1/pattern", parsed(R"({"Regex": " "})"),
                "normalizer is of the type \"Replace\""));
  CHECK(refused("/pre_tokenizer", of_type("Whitespace"), "pre_tokenizer is of the type \"Whitespace\"; expected null"));
  CHECK(refused("/pre_tokenizer", of_type("Metaspace"), "pre_tokenizer is of the type \"Metaspace\"; expected null"));
  CHECK(refused("/decoder", nullptr, "decoder is null; expected a \"Sequence\""));
  CHECK(
      refused("/decoder", of_type("ByteFallback"), "decoder is of the type \"ByteFallback\"; expected a \"Sequence\""));
  CHECK(refused("/decoder/decoders/0", of_type("CTC"), "decoder is of the type \"CTC\"; expected steps"));
  CHECK(refused("/decoder/decoders/3/start", 2, "decoder is of the type \"Strip\"; expected steps"));
  auto without = good;
  without["model"]["vocab"]["<0x0B>x"] = without["model"]["vocab"]["<0x0B>"];
  without["model"]["vocab"].erase("<0x0B>");
  CHECK(fails_with([&] { return bpe::from_memory(without.dump()); },
                   "has no token for the byte 11, \"<0x0B>\"; expected tokens for all of 0 to 255"));

  const std::string text = good.dump();
  int refusals = 0;
  const auto attempt = [&](const std::string& damaged) {
    try {
      const auto tokenizer = bpe::from_memory(damaged);
      static_cast<void>(tokenizer.decode(tokenizer.encode("abc \xFF 川<s>", special::as_tokens)));
    } catch (const fathom::error&) {
      ++refusals;
    }
  };
  for (std::size_t length = 0; length < text.size(); length += 101) attempt(text.substr(0, length));
  CHECK(refusals == static_cast<int>((text.size() + 100) / 101));
  for (const char replacement : {'\0', '"', '[', '1', '}', '\xE2', 'e'})
    for (std::size_t at = 0; at < text.size(); at += 31) attempt(std::string(text).replace(at, 1, 1, replacement));
  std::vector<std::string> places;
  add_places(good, "", places);
  for (const std::string& where : places) {
    if (where.starts_with("/model/vocab") || where.starts_with("/model/merges/")) continue;
    for (const fathom::json& other :
         {fathom::json(), fathom::json(-1), fathom::json("x"), fathom::json::array({1}), parsed(R"({"a": 1})")}) {
      auto json = good;
      at(json, where) = other;
      attempt(json.dump());
    }
  }
}

TEST_CASE("bpe takes merges of tokens that no merge makes, where pieces are tokens first",
          "[data]") {  // as Llama 3 has it
  auto json = contents("llama3");
  const auto id = json["model"]["vocab"].size();
  CHECK(bpe(golden / "llama3").special_token("<|begin_of_text|>") == static_cast<token>(id));
  json["added_tokens"] = nullptr;
  json["model"]["vocab"]["qzx"] = id;
  json["model"]["vocab"]["qzxj"] = id + 1;
  json["model"]["merges"].push_back(fathom::json::array({"qzx", "j"}));
  json["post_processor"] = nullptr;
  const auto tokenizer = bpe::from_memory(json.dump());
  CHECK(tokenizer.encode("qzxj") == tokens{static_cast<token>(id) + 1});
  CHECK(tokenizer.encode("qzxjq").size() == 5);
  json["model"]["ignore_merges"] = false;
  CHECK(fails_with([&] { return bpe::from_memory(json.dump()); }, "\"qzx\" is neither a byte nor made by any merge"));
}

TEST_CASE("bpe leaves out control characters without a token, as tokenizers does", "[data]") {
  const bpe tokenizer(golden / "smollm2");
  CHECK(tokenizer.encode("a\x04", special::as_text) == tokenizer.encode("a"));
  CHECK(tokenizer.encode(std::string(1000, '\x04')).empty());
  CHECK(tokenizer.decode(tokenizer.encode("a\x04\xFF b\x06")) == "a b");
  CHECK_NOTHROW(tokenizer.check("a b", "text"));
  CHECK(fails_with(
      [&] {
        tokenizer.check("a\x04", "some text");
        return 0;
      },
      "some text: the byte 4 at position 1 has no token in the vocabulary; expected text without it"));
  auto json = contents("smollm2");
  json["model"]["unk_token"] = "<|endoftext|>";
  CHECK(fails_with([&] { return bpe::from_memory(json.dump()); },
                   "has no token for the byte 4, \"Ą\", and model.unk_token"));
  json = contents("llama3");
  json["model"]["vocab"]["~~"] = json["model"]["vocab"]["~"];  // no control character
  json["model"]["vocab"].erase("~");
  CHECK(fails_with([&] { return bpe::from_memory(json.dump()); }, "has no token for the byte 126, \"~\"",
                   "but those that UTF-8 never has and control characters"));
}
