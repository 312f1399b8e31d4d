// Continues a text greedily, without exceptions and run-time type information, for this machine and for others (../run.cmake).
#include <cstddef>
#include <cstdio>
#include <string>

#include SAY_HEADER

namespace chosen = SAY_MODEL;

alignas(fathom::alignment) static std::byte writer_memory[chosen::generator::bytes];

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto& tokenizer = chosen::tokenizer();
  chosen::generator writer(chosen::weights(), writer_memory, {.temperature = 0, .threads = 1, .ids = tokenizer.size()});
  std::string text;
  writer.write(tokenizer.encode(argv[1]), 60, [&](fathom::token t) {
    text += tokenizer.bytes(t);
    return true;
  });
  std::printf("%td: %s\n", chosen::model::context, text.c_str());
}
