// For chat_templates.py: reads lines of JSON {template, system, rounds, tokenizer, bos, eos, date} and writes for each, as JSON, the
// conversation as examples/chat writes it, {kind, standard_system, text}, or {error}.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <string>

#include <fathom/core/json.hpp>
#include <fathom/data/model_tokenizer.hpp>
#include <fathom/io/named_files.hpp>

#include "../examples/chat/templates.hpp"

namespace {
fathom::json written(const fathom::json& one) {
  const auto bytes = [](const std::string& text) { return std::as_bytes(std::span(text.data(), text.size())); };
  std::ifstream file(std::filesystem::path(FATHOM_GOLDEN "/tokenizers") / one["tokenizer"].text() / "tokenizer.json");
  const std::string rules{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  fathom::json settings = fathom::json::object(), to = fathom::json::object();
  settings["bos_token"] = one["bos"];
  settings["eos_token"] = one["eos"];
  const std::string config = settings.dump();
  const fathom::data::bpe tokenizer(fathom::io::named_files({{"tokenizer.json", bytes(rules)}, {"tokenizer_config.json", bytes(config)}}, "tokenizer"));
  const chat::style style(one["template"].text(), "", tokenizer, "model", one["date"].text());
  const std::string system = one["system"].is_null() ? style.standard_system() : one["system"].text();
  std::string text;
  bool is_first = true;
  for (const fathom::json& round : one["rounds"].elements()) {
    text += is_first ? style.before_first(system, round[0].text()) + style.content(round[0].text(), system) : style.before_next() + style.content(round[0].text());
    text += style.behind();
    if (!round[1].is_null()) text += round[1].text();
    is_first = false;
  }
  to["kind"] = std::string(style.name());
  to["standard_system"] = style.standard_system();
  to["text"] = text;
  return to;
}
}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    fathom::json answer = fathom::json::object();
    try {
      const auto one = fathom::json::parse(line);
      if (!one) return std::fputs("chat_lines: a line is not JSON\n", stderr), 1;
      answer = written(*one);
    } catch (const std::exception& problem) {
      answer["error"] = std::string(problem.what());
    }
    std::printf("%s\n", answer.dump().c_str());
  }
}
