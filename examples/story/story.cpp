// Continues a prompt. The program contains the model and is self-contained: no file, no library, one thread, and no
// heap while it generates. story.sh builds it. Tokens are bytes, or, with STORY_TOKENIZER or STORY_MODEL, sub-words.
//
//   story [--count N] [--temperature T] [--top-k K] [--top-p P] [--seed S] PROMPT
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#ifdef STORY_TOKENIZER
#include <fathom/data/bpe.hpp>
#endif
#ifdef STORY_MODEL
#include <fathom/data/model_tokenizer.hpp>
#include <fathom/data/text_stream.hpp>
#endif
#include <story_model.hpp>

static int usage() {
  std::fputs("story [--count N] [--temperature T] [--top-k K] [--top-p P] [--seed S] PROMPT\n", stderr);
  return 2;
}

/// Prints a text at once.
static bool print(std::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

static int write(std::string_view prompt, fathom::index count, [[maybe_unused]] fathom::generation options) {
  // All memory is static, including the weights.
  alignas(fathom::alignment) static std::byte memory[story_model::generator::bytes];
  static char output[1 << 12];
#ifdef STORY_MODEL
  options.ids = std::min(story_model::tokenizer().size(), story_model::model::vocab);
#endif
  static story_model::generator writer(story_model::weights(), memory, options);
  std::setvbuf(stdout, output, _IOFBF, sizeof output);
  std::fwrite(prompt.data(), 1, prompt.size(), stdout);
#if defined(STORY_MODEL)
  const auto& tokenizer = story_model::tokenizer();
  static const auto ends = fathom::data::end_tokens(story_model::files(), tokenizer);
  fathom::data::text_stream text_of(tokenizer, fathom::data::text_stream::behind_a_prompt);
  writer.write(tokenizer.encode(prompt, fathom::data::special::as_text, fathom::data::ends::marked), count, [&](fathom::token t) {
    return std::find(ends.begin(), ends.end(), t) == ends.end() && print(text_of.push(t));
  });
  print(text_of.finish());
#elif defined(STORY_TOKENIZER)
  static const auto tokenizer = fathom::data::bpe::from_memory(story_model::tokenizer_vocab(), story_model::tokenizer_merges());
  if (tokenizer.size() > story_model::model::vocab)
    fathom::fail("the tokenizer has ", tokenizer.size(), " tokens; the model knows ", story_model::model::vocab);
  writer.write(tokenizer.encode(prompt), count, [](fathom::token t) {
    if (t >= tokenizer.size()) return true;  // the model has room for tokens that the tokenizer does not have
    const std::string_view text = tokenizer.bytes(t);
    return text != "<|endoftext|>" && print(text);
  });
#else
  static_assert(story_model::model::vocab == 256, "story: tokens that are not bytes need a tokenizer (STORY_TOKENIZER)");
  writer.write(prompt, count, [](fathom::token t) {
    const char byte = static_cast<char>(t);
    return print({&byte, 1});
  });
#endif
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
