// Talks with a model. examples/chat.sh compiles it for the model in question, whose config is in chat_model.hpp (describe.cpp).
//
//   chat MODEL [--prompt TEXT] [--system TEXT] [--greedy] [--seed N]
//
// MODEL is a GGUF file or a folder of `transformers`. With --prompt it answers once. /reset forgets the conversation.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include <fathom/data/gguf_bpe.hpp>
#include <fathom/data/text_stream.hpp>
#include <fathom/fathom.hpp>

#include "chat_model.hpp"
#include "templates.hpp"

#if !defined(CHAT_WEIGHTS)
#define CHAT_WEIGHTS std::int8_t
#endif

namespace {

using net = fathom::model<chat_model>;
using weights_type = CHAT_WEIGHTS;

struct options {
  std::filesystem::path model;
  std::optional<std::string> prompt, system;
  bool greedy = false;
  std::uint64_t seed = 1;
};

/// The text of a model's chat template; empty if it has none.
std::string template_of(const std::filesystem::path& model) {
  if (!std::filesystem::is_directory(model)) return std::string(fathom::io::gguf_file(model).text("tokenizer.chat_template", std::string_view()));
  for (const char* name : {"chat_template.jinja", "tokenizer_config.json"})
    if (std::filesystem::exists(model / name)) return std::string(fathom::io::whole_file(model / name).text());
  return {};
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

class conversation {
 public:
  conversation(const options& o, const net::packed<weights_type>& weights, const fathom::data::bpe& tokenizer, const chat::marks& marks,
               std::string system)
      : weights_(weights),
        tokenizer_(tokenizer),
        marks_(marks),
        system_(std::move(system)),
        cache_(1),
        sampler_(net::vocab, {.temperature = o.greedy ? 0.0f : 0.7f, .top_p = 0.9f, .seed = o.seed}),
        stop_(tokenizer.special_token(marks.stop)) {
    reset();
  }

  void reset() {
    tokens_.clear();
    cache_.truncate(0);
    if (tokenizer_.bos() && marks_.name != "ChatML") tokens_.push_back(*tokenizer_.bos());
    if (!system_.empty() && !marks_.system.empty()) add(chat::role::system, system_);
    is_first_ = true;
  }

  /// Answers a text, and prints the answer while it is written.
  void answer(std::string_view said) {
    const bool joins = is_first_ && marks_.system.empty() && !system_.empty();
    add(chat::role::user, joins ? system_ + "\n\n" + std::string(said) : std::string(said));
    is_first_ = false;
    append(marks_.assistant, fathom::data::special::as_tokens);
    std::span<const float> logits = read();
    fathom::data::text_stream text_of(tokenizer_, fathom::data::text_stream::behind_a_prompt);
    for (;;) {
      const fathom::token next = sampler_(logits);
      tokens_.push_back(next);
      if (next == stop_ || next == tokenizer_.eos()) break;
      print(text_of.push(next));
      logits = read();
    }
    // What follows the token that ends a turn.
    append(marks_.close.substr(marks_.stop.size()), fathom::data::special::as_tokens);
    print(text_of.finish());
    print("\n");
  }

 private:
  void append(std::string_view text, fathom::data::special spelled) { tokenizer_.encode(text, tokens_, spelled); }
  void add(chat::role who, std::string_view text) {
    append(marks_.open(who), fathom::data::special::as_tokens);
    append(text, fathom::data::special::as_text);
    append(marks_.close, fathom::data::special::as_tokens);
  }
  /// Reads the tokens that the cache does not hold yet. When the context is full, forgets the older half of what was said.
  std::span<const float> read() {
    if (static_cast<fathom::index>(tokens_.size()) > net::context) {
      tokens_.erase(tokens_.begin(), tokens_.end() - net::context / 2);
      cache_.truncate(0);
    }
    const auto held = static_cast<std::size_t>(cache_.length());
    return net::prefill(weights_, std::span<const fathom::token>(tokens_).subspan(held), cache_);
  }

  const net::packed<weights_type>& weights_;
  const fathom::data::bpe& tokenizer_;
  const chat::marks& marks_;
  std::string system_;
  net::cache cache_;
  fathom::sampler sampler_;
  fathom::token stop_;
  std::vector<fathom::token> tokens_;
  bool is_first_ = true;
};

void run(const options& o) {
  const fathom::data::bpe tokenizer =
      std::filesystem::is_directory(o.model) ? fathom::data::bpe(o.model) : fathom::data::read_bpe(fathom::io::gguf_file(o.model));
  if (tokenizer.size() > net::vocab)
    fathom::fail(o.model.string(), ": the tokenizer has ", tokenizer.size(), " tokens; the model has ", net::vocab);
  const std::string text = template_of(o.model);
  const chat::marks* const marks = chat::recognise(text);
  if (!marks) fathom::fail(o.model.string(), ": has no chat template of the kinds ChatML, Llama 3, Gemma or Zephyr");
  auto weights = fathom::make<net::parameters>();
  fathom::load(o.model, *weights);
  const auto packed = fathom::pack<weights_type>(*weights);
  weights.reset();
  conversation talk(o, *packed, tokenizer, *marks, o.system ? *o.system : chat::standard_system(*marks, text));
  if (o.prompt) return talk.answer(*o.prompt);
  const bool is_terminal = isatty(STDIN_FILENO) != 0;
  if (is_terminal) std::puts("Write a line; /reset forgets, an empty line or Ctrl-D ends.");
  for (std::string line;;) {
    if (is_terminal) std::printf("> "), std::fflush(stdout);
    if (!std::getline(std::cin, line) || line.empty()) return;
    if (line == "/reset")
      talk.reset();
    else
      talk.answer(line);
  }
}

}  // namespace

int main(int count, char** arguments) {
  options o;
  bool is_good = true;
  for (int i = 1; i < count && is_good; ++i) {
    const std::string_view name = arguments[i];
    const auto value = [&] { return is_good = ++i < count, is_good ? std::string(arguments[i]) : std::string(); };
    if (name == "--prompt") o.prompt = value();
    else if (name == "--system") o.system = value();
    else if (name == "--seed") o.seed = std::strtoull(value().c_str(), nullptr, 10);
    else if (name == "--greedy") o.greedy = true;
    else if (o.model.empty() && !name.starts_with("--")) o.model = name;
    else is_good = false;
  }
  if (!is_good || o.model.empty())
    return std::fputs("chat MODEL [--prompt TEXT] [--system TEXT] [--greedy] [--seed N]\n", stderr), 2;
  try {
    run(o);
  } catch (const fathom::error& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
