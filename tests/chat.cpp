// The chat of examples/chat: templates, against conversations as transformers writes and tokenizes them (make_chat.py); and
// conversations with a small model.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/json.hpp>
#include <fathom/data/model_tokenizer.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/model/model.hpp>

#include "../examples/chat/conversation.hpp"
#include "../examples/chat/templates.hpp"
#include "catch.hpp"
#include "fails_with.hpp"
#include "small_chat_model.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::data::bpe;
using fathom::data::special;

/// A tokenizer of golden/tokenizers with tokens that begin and end texts.
bpe tokenizer_of(const std::string& name, const fathom::json& bos, const fathom::json& eos) {
  const std::string file = small_chat::text_of(std::filesystem::path(FATHOM_GOLDEN "/tokenizers") / name / "tokenizer.json");
  fathom::json settings = fathom::json::object();
  settings["bos_token"] = bos;
  settings["eos_token"] = eos;
  const std::string config = settings.dump();
  const auto bytes = [](const std::string& text) { return std::as_bytes(std::span(text.data(), text.size())); };
  return bpe(fathom::io::named_files({{"tokenizer.json", bytes(file)}, {"tokenizer_config.json", bytes(config)}}, name));
}

using net = fathom::model<small_chat::config>;
using conversation = chat::conversation<net, float>;

/// A small model that talks; what ends an answer may be nothing, so that answers are as long as they can be.
struct small_model {
  temporary_folder folder;
  fathom::owned<net::packed<float>> weights;
  std::unique_ptr<bpe> tokenizer;
  std::unique_ptr<chat::style> style;
  small_model() {
    small_chat::write_folder(folder.path() / "model");
    const fathom::io::model_files files(folder.path() / "model");
    auto parameters = fathom::make<net::parameters>();
    fathom::load(files, *parameters);
    weights = fathom::pack<float>(*parameters);
    tokenizer = std::make_unique<bpe>(fathom::data::read_bpe(files));
    style = std::make_unique<chat::style>(fathom::data::chat_template(files), "", *tokenizer, "small");
  }
  [[nodiscard]] conversation begin(std::string system, std::vector<token> ends = {}) const {
    return {*weights, *tokenizer, *style, std::move(ends), {.system = std::move(system), .temperature = 0}};
  }
  /// The first `count` tokens of an answer, as text.
  static std::string answer(conversation& talk, std::string_view said, int count = 1 << 20) {
    std::string text;
    talk.answer(said, [&](std::string_view more) {
      text += more;
      return --count > 0;
    });
    return text;
  }
};

bool begins_with(const std::vector<token>& all, const std::vector<token>& first) {
  return all.size() >= first.size() && std::equal(first.begin(), first.end(), all.begin());
}

}  // namespace

TEST_CASE("templates of every kind are written as transformers writes them", "[chat]") {
  const auto cases = fathom::json::parse(small_chat::text_of(FATHOM_GOLDEN "/chat.json"));
  REQUIRE(cases);
  REQUIRE(cases->size() == 12);
  for (const fathom::json& one : cases->elements()) {
    INFO(one["kind"].text() << ", system " << one["system"].dump());
    const bpe tokenizer = tokenizer_of(one["tokenizer"].text(), one["bos"], one["eos"]);
    const chat::style style(one["template"].text(), "", tokenizer, "model");
    CHECK(style.name() == one["kind"].text());
    CHECK(style.standard_system() == (one["kind"] == "chatml" ? "Be brief" : ""));
    const std::string system = one["system"].is_null() ? style.standard_system() : one["system"].text();
    const auto& rounds = one["rounds"].elements();
    const bool in_brackets = style.name() == "llama2" || style.name() == "mistral";  // an answer begins with a space
    std::string text, prompt;
    for (std::size_t i = 0; i < rounds.size(); ++i) {
      text += (i == 0 ? style.before_first(system) : style.before_next()) + style.content(rounds[i][0].text(), i == 0 ? system : "") + style.behind();
      if (i == 0) prompt = text;
      if (!rounds[i][1].is_null()) text += (in_brackets ? " " : "") + rounds[i][1].text();
    }
    CHECK(text == one["text"].text());
    CHECK(prompt == one["prompt"].text());
    std::vector<token> tokens;
    for (const fathom::json& t : one["tokens"].elements()) tokens.push_back(t.as<token>());
    CHECK(tokenizer.encode(prompt, special::as_tokens) == tokens);
    // By name, without a template.
    const chat::style named("", style.name(), tokenizer, "model");
    CHECK(named.before_first(system) == style.before_first(system));
  }
}

TEST_CASE("an unknown template is an error that shows it, and says what to do", "[chat]") {
  const bpe tokenizer = tokenizer_of("llama2", "<s>", "</s>");
  const auto style = [&](const char* jinja, const char* name) { return [&, jinja, name] { return chat::style(jinja, name, tokenizer, "the model"); }; };
  CHECK(fails_with(style("{{ 'Human: ' + message }}", ""), "the model: has a chat template of an unknown kind",
                   "--template with one of llama3, chatml, gemma, llama2, mistral, zephyr, tulu", "{{ 'Human: ' + message }}"));
  CHECK(fails_with(style("<|user|>\n<|end|>\n<|assistant|>", ""), "of an unknown kind"));
  CHECK(fails_with(style("", ""), "the model: has no chat template: say how it is written"));
  CHECK(fails_with(style("<|im_start|>", "vicuna"), "--template vicuna: expected one of llama3, chatml"));
  CHECK(style("{{ 'Human: ' + message }}", "zephyr")().name() == "zephyr");
}

TEST_CASE("a system prompt in a template is found, with new lines as they are or escaped", "[chat]") {
  const bpe tokenizer = tokenizer_of("smollm2", {}, "<|im_end|>");
  const auto system_of = [&](const char* jinja) { return chat::style(jinja, "", tokenizer, "model").standard_system(); };
  CHECK(system_of("{{ '<|im_start|>system\\nYou are A.<|im_end|>\\n' }}") == "You are A.");
  CHECK(system_of("{{ '<|im_start|>system\n' + m.content + '<|im_end|>\n' }}{{ '<|im_start|>system\nYou are B.<|im_end|>\n' }}") == "You are B.");
  CHECK(system_of("{{ '<|im_start|>' + m.role }}").empty());
}

TEST_CASE("published templates of a kind that write more or less are written as they are, or are unknown", "[chat]") {
  // The expected texts are those of the published templates (chat_templates.py); the templates here only have what tells them apart.
  const auto written = [](const char* jinja, const char* folder, const fathom::json& bos, const char* eos, const char* system, const char* said) {
    const bpe tokenizer = tokenizer_of(folder, bos, eos);
    const chat::style style(jinja, "", tokenizer, "model", "28 Nov 2026");
    return style.before_first(system) + style.content(said, system) + style.behind();
  };
  // Llama 3.1, 3.3 and 3.2: dates, in a system turn that is always there.
  constexpr const char* llama31 = "{{- bos_token }}{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}{{- \"Cutting Knowledge Date: December 2023\\n\" }}"
                                  "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}{{- system_message }}{{- \"<|eot_id|>\" }}";
  CHECK(written(llama31, "llama3", "<|begin_of_text|>", "<|eot_id|>", "", " Hi ") ==
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  const std::string llama32 = std::string("{%- set date_string = strftime_now(\"%d %b %Y\") %}") + llama31;
  CHECK(written(llama32.c_str(), "llama3", "<|begin_of_text|>", "<|eot_id|>", " Be brief. ", "Hi") ==
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 28 Nov 2026\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  // Gemma 3 trims texts, but not the system prompt; Llama 2 trims both as one text.
  CHECK(written("{{ bos_token }}<start_of_turn>", "gemma", "<bos>", "<eos>", " Be brief. ", " Hi ") ==
        "<bos><start_of_turn>user\n Be brief. \n\nHi<end_of_turn>\n<start_of_turn>model\n");
  constexpr const char* llama2 = "<<SYS>>{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}";
  CHECK(written(llama2, "llama2", "<s>", "</s>", " Be brief. ", " Hi ") == "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n Hi [/INST]");
  CHECK(written(llama2, "llama2", "<s>", "</s>", "", " Hi ") == "<s>[INST] Hi [/INST]");
  CHECK(written("{{- bos_token }}{{- ' [INST] ' + message['content'] + ' [/INST]' }}", "llama2", "<s>", "</s>", "", "Hi") == "<s> [INST] Hi [/INST]");
  CHECK(written("{{ bos_token }}{{ '<|user|>\\n' + message['content'] + '\\n' }}{{ '<|assistant|>\\n' }}", "llama2", "<s>", "</s>", "", "Hi") ==
        "<s><|user|>\nHi\n<|assistant|>\n");
  const bpe tokenizer = tokenizer_of("llama2", "<s>", "</s>");
  for (const char* other : {"{{ '[INST]' + message['content'] + '[/INST]' }}",                                 // Mistral Nemo
                            "{{ '[INST] ' + content + '[/INST]' }}{{ '[SYSTEM_PROMPT] ' }}",                    // Mistral Large
                            "{{ '[INST] <<SYS>>' }}{{ message['content'] + ' [/INST]' }}",                      // no {bos}, no trimming
                            "[gMASK]<sop>{{ '<|user|>' }}{{ content }}{{ '<|assistant|>' }}",                   // GLM
                            "<|start_header_id|>{{ 'Cutting Knowledge Date: December 2023\\n\\n' }}",           // Functionary
                            "<|im_start|>{{- \"## Metadata\\n\\n\" -}}",                                        // SmolLM3
                            "<|im_start|>{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"}) {  // QwQ
    INFO(other);
    CHECK(fails_with([&] { return chat::style(other, "", tokenizer, "model"); }, "has a chat template of an unknown kind"));
  }
}

TEST_CASE("a reset conversation gives the same answers again", "[chat]") {
  const small_model model;
  auto talk = model.begin("Be brief");
  const std::string first = model.answer(talk, "What is it?", 20), second = model.answer(talk, "Why?", 20);
  CHECK(first != second);
  talk.reset();
  CHECK(model.answer(talk, "What is it?", 20) == first);
  CHECK(model.answer(talk, "Why?", 20) == second);
  talk.reset();
  auto fresh = model.begin("Be brief");
  CHECK(model.answer(talk, "Why?", 20) == model.answer(fresh, "Why?", 20));
  auto other = model.begin("Be very long");
  CHECK(model.answer(other, "What is it?", 20) != first);
}

TEST_CASE("an answer ends at each token that ends one", "[chat]") {
  const small_model model;
  auto talk = model.begin("Be brief");
  static_cast<void>(model.answer(talk, "What is it?", 30));
  const std::vector<token> tokens = talk.tokens();  // the last 30 are the answer
  const auto at = tokens.end() - 30 + 12;
  const token stop = *std::find_if(at, tokens.end(), [&](token t) { return std::find(tokens.end() - 30, at, t) == at; });
  auto ending = model.begin("Be brief", {5, stop});
  static_cast<void>(model.answer(ending, "What is it?"));
  const auto first = std::find(tokens.end() - 30, tokens.end(), stop);
  CHECK(ending.tokens() == std::vector<token>(tokens.begin(), first));
}

TEST_CASE("text that spells a special token is text", "[chat]") {
  const small_model model;
  auto talk = model.begin("");
  static_cast<void>(model.answer(talk, "a<|im_end|>b", 1));
  CHECK(std::count(talk.tokens().begin(), talk.tokens().end(), 562) <= 1 + (talk.tokens().back() == 562));
  CHECK(std::count(talk.tokens().begin(), talk.tokens().end() - 1, 561) == 2);
}

TEST_CASE("a full context forgets whole rounds, and keeps the system prompt", "[chat]") {
  const small_model model;
  auto talk = model.begin("Count: one two three");
  const std::vector<token> system = model.tokenizer->encode("<|im_start|>system\nCount: one two three<|im_end|>\n<|im_start|>user\n", special::as_tokens);
  bool has_forgotten = false;
  for (int i = 0; i < 12; ++i) {
    const std::string said = "Question " + std::to_string(i);
    static_cast<void>(model.answer(talk, said, 25));
    REQUIRE(static_cast<fathom::index>(talk.tokens().size()) <= net::context);
    CHECK(begins_with(talk.tokens(), system));
    // Whole rounds, up to the newest one, each once.
    const std::string text = model.tokenizer->decode(talk.tokens());
    int first = 0;
    while (text.find("user\nQuestion " + std::to_string(first) + "<|im_end|>\n<|im_start|>assistant\n") == std::string::npos) REQUIRE(++first <= i);
    has_forgotten = has_forgotten || first > 0;
    std::size_t position = 0;
    for (int n = first; n <= i; ++n) {
      position = text.find("<|im_start|>user\nQuestion " + std::to_string(n) + "<|im_end|>\n<|im_start|>assistant\n", position);
      REQUIRE(position != std::string::npos);
    }
    // The model has read just these: a fresh model gives the same next token.
    auto weights_cache = net::cache(1);
    const auto logits = net::prefill(*model.weights, std::span(talk.tokens()).first(talk.tokens().size() - 1), weights_cache);
    CHECK(std::max_element(logits.begin(), logits.begin() + model.tokenizer->size()) - logits.begin() == talk.tokens().back());
  }
  CHECK(has_forgotten);
}

TEST_CASE("an answer that fills the context ends, and a text that does not fit is an error", "[chat]") {
  const small_model model;
  auto talk = model.begin("Be brief");
  static_cast<void>(model.answer(talk, "First", 10));
  const std::string first_round = model.tokenizer->decode(talk.tokens());
  static_cast<void>(model.answer(talk, "Second"));
  CHECK(static_cast<fathom::index>(talk.tokens().size()) == net::context);
  CHECK(model.tokenizer->decode(talk.tokens()).find("First") == std::string::npos);
  std::string much;
  for (int i = 0; i < 300; ++i) much += "word ";
  CHECK(fails_with([&] { return model.answer(talk, much); }, "the text is too long: with the system prompt it has ", "expected fewer than 256"));
  CHECK_FALSE(model.answer(talk, "Third", 10).empty());  // it goes on
}
