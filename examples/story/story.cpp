// Writes on from a prompt. The model is in the program, which needs nothing else: no file, no library, one thread, and no
// heap once it writes. story.sh builds it.
//
//   story [--count N] [--temperature T] [--top-k K] [--top-p P] [--seed S] PROMPT
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#include <story_model.hpp>

static int usage() {
  std::fputs("story [--count N] [--temperature T] [--top-k K] [--top-p P] [--seed S] PROMPT\n", stderr);
  return 2;
}

static int write(std::string_view prompt, fathom::index count, const fathom::generation& options) {
  // A model of another vocabulary has a tokenizer, whose files story_model::tokenizer_vocab() and tokenizer_merges() are.
  static_assert(story_model::model::vocab == 256, "story: the model's tokens must be bytes");
  // All memory is static: that of the weights too.
  alignas(fathom::alignment) static std::byte memory[story_model::generator::bytes];
  static char output[1 << 12];
  static story_model::generator writer(story_model::weights(), memory, options);
  std::setvbuf(stdout, output, _IOFBF, sizeof output);
  std::fwrite(prompt.data(), 1, prompt.size(), stdout);
  writer.write(prompt, count, [](fathom::token t) {
    return std::putchar(t) != EOF && ((t & 0xc0) == 0x80 || std::fflush(stdout) == 0);  // a character at once
  });
  std::putchar('\n');
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  fathom::generation options{.temperature = 0.8f, .top_k = 40, .threads = 1};
  fathom::index count = 300;
  const char* prompt = nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (!name.starts_with("--")) {
      if (prompt) return usage();
      prompt = argv[i];
      continue;
    }
    if (++i == argc) return usage();
    char* end = nullptr;
    const double value = std::strtod(argv[i], &end);
    if (end == argv[i] || *end != '\0' || !(value >= 0 && value <= 1e9)) return usage();
    if (name == "--count")
      count = static_cast<fathom::index>(value);
    else if (name == "--temperature")
      options.temperature = static_cast<float>(value);
    else if (name == "--top-k")
      options.top_k = static_cast<fathom::index>(value);
    else if (name == "--top-p")
      options.top_p = static_cast<float>(value);
    else if (name == "--seed")
      options.seed = static_cast<std::uint64_t>(value);
    else
      return usage();
  }
  if (!prompt || !*prompt) return usage();
  try {
    return write(prompt, count, options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "story: %s\n", e.what());
    return 1;
  }
}
