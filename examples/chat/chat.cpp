// Talks with the model that it was compiled for. ../chat.sh builds and runs it.
//
//   chat [--prompt TEXT] [--system TEXT] [--greedy] [--seed N] [--template NAME]
//
// With --prompt it answers once. Otherwise it answers every line of its input; /reset forgets the conversation. Ctrl-C ends an
// answer, and between answers the program.
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include <signal.h>
#include <unistd.h>

#include <fathom/data/model_tokenizer.hpp>

#include <chat_model.hpp>

#include "conversation.hpp"
#include "templates.hpp"

namespace {

struct options {
  std::optional<std::string> prompt, system;
  std::string template_name;
  bool greedy = false;
  std::uint64_t seed = 1;
};

volatile std::sig_atomic_t is_interrupted = 0;

/// While this lives, Ctrl-C sets is_interrupted.
class interruptible {
 public:
  interruptible() {
    is_interrupted = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { is_interrupted = 1; };
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, &before_);
  }
  ~interruptible() { ::sigaction(SIGINT, &before_, nullptr); }
  interruptible(const interruptible&) = delete;
  interruptible& operator=(const interruptible&) = delete;

 private:
  struct sigaction before_ {};
};

bool print(std::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

int run(const options& o) {
  const auto& tokenizer = chat_model::tokenizer();
  const std::string jinja = fathom::data::chat_template(chat_model::files());
  const chat::style style(jinja, o.template_name, tokenizer, chat_model::files().name());
  chat::settings settings{.system = o.system ? *o.system : style.standard_system(), .seed = o.seed};
  if (o.greedy) settings.temperature = 0;
  chat::conversation<chat_model::model, chat_model::number> talk(
      chat_model::weights(), tokenizer, style, fathom::data::end_tokens(chat_model::files(), tokenizer), settings);
  if (o.prompt) {
    talk.answer(*o.prompt, print);
    return print("\n") ? 0 : 1;
  }
  const bool is_terminal = isatty(STDIN_FILENO) != 0;
  if (is_terminal) std::puts("Write a line; /reset forgets, Ctrl-C ends an answer, an empty line or Ctrl-D ends.");
  for (std::string line;;) {
    if (is_terminal) print("> ");
    if (!std::getline(std::cin, line) || (is_terminal && line.empty())) return 0;
    if (line == "/reset") {
      talk.reset();
    } else if (!line.empty()) {
      try {
        std::optional<interruptible> while_answering;
        if (is_terminal) while_answering.emplace();
        talk.answer(line, [](std::string_view text) { return print(text) && is_interrupted == 0; });
      } catch (const fathom::error& problem) {  // such as a line longer than the context
        std::fprintf(stderr, "%s", problem.what());
      }
      if (!print("\n")) return 1;
    }
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
    else if (name == "--template") o.template_name = value();
    else if (name == "--seed") o.seed = std::strtoull(value().c_str(), nullptr, 10);
    else if (name == "--greedy") o.greedy = true;
    else is_good = false;
  }
  if (!is_good) return std::fputs("chat [--prompt TEXT] [--system TEXT] [--greedy] [--seed N] [--template NAME]\n", stderr), 2;
  try {
    return run(o);
  } catch (const std::exception& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
