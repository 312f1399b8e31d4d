// Prints the config of a model, as a header for chat.cpp: of a GGUF file, or of a folder of `transformers`.
//
//   describe MODEL CONTEXT
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <fathom/core/error.hpp>
#include <fathom/io/families.hpp>
#include <fathom/io/gguf.hpp>
#include <fathom/io/gguf_models.hpp>
#include <fathom/io/file.hpp>

int main(int count, char** arguments) {
  if (count != 3) return std::fputs("describe MODEL CONTEXT\n", stderr), 2;
  try {
    const std::filesystem::path model = arguments[1];
    std::string problems;
    fathom::config c;
    if (std::filesystem::is_directory(model)) {
      const fathom::io::whole_file file(model / "config.json");
      c = fathom::io::config_of_transformers(file.text(), problems);
    } else {
      c = fathom::io::config_of_gguf(fathom::io::gguf_file(model), problems);
    }
    if (!problems.empty()) fathom::fail(model.string(), ": is no model that can be built:", problems);
    const char* const families[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3", "gpt_neox", "olmo2"};
    const char* const scalings[] = {"none", "linear", "llama3", "yarn"};
    std::printf(
        "// The model in %s.\n#include <fathom/model/config.hpp>\n"
        "inline constexpr fathom::config chat_model{\n"
        "    .vocab = %d, .context = %d, .width = %d, .depth = %d, .heads = %d, .hidden = %d, .tied = %s, .shortcut = {},\n"
        "    .family = fathom::family::%s, .kv_heads = %d, .head_width = %d, .window = %d,\n"
        "    .rotary = {.base = %d, .width = %d, .scaling = fathom::rotary_scaling::%s, .factor = %d, .low_factor = %d, .high_factor = %d,\n"
        "               .original = %d},\n"
        "    .inverse_epsilon = %d};\n",
        model.filename().c_str(), c.vocab, std::min(c.context, std::max(std::atoi(arguments[2]), 64)), c.width, c.depth, c.heads, c.hidden,
        c.tied ? "true" : "false", families[static_cast<int>(c.family)], c.kv_heads, c.head_width, c.window, c.rotary.base, c.rotary.width,
        scalings[static_cast<int>(c.rotary.scaling)], c.rotary.factor, c.rotary.low_factor, c.rotary.high_factor, c.rotary.original,
        c.inverse_epsilon);
  } catch (const fathom::error& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
