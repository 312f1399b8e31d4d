// Continues a text greedily with one of its models, without exceptions and run-time type information, for this machine and for
// others (../run.cmake):  say MODEL TEXT
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#include <models.hpp>  // all models, and SAY_MODELS(use), which is use(NAME) for each

template <class Generator>
alignas(fathom::alignment) static std::byte writer_memory[Generator::bytes];

template <class Model, class Generator, class Weights>
static int say(const Weights& weights, const fathom::data::bpe& tokenizer, const char* beginning) {
  Generator writer(weights, writer_memory<Generator>, {.temperature = 0, .threads = 1, .ids = tokenizer.size()});
  std::string text;
  writer.write(tokenizer.encode(beginning), 60, [&](fathom::token t) {
    text += tokenizer.bytes(t);
    return true;
  });
  std::printf("%td: %s\n", Model::context, text.c_str());
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string_view name = argv[1];
#define SAY_IF_CHOSEN(chosen) \
  if (name == #chosen) return say<chosen::model, chosen::generator>(chosen::weights(), chosen::tokenizer(), argv[2]);
  SAY_MODELS(SAY_IF_CHOSEN)
  return 2;
}
