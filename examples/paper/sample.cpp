// Generates text, a MIDI file or a WAV with a trained model. Compiled for a kind of data and a variant.
//
//   sample DATA WEIGHTS FILE [--prompt N] [--tokens N] [--seed S] [--temperature T] [--tokenizer FOLDER]
//
// continues the first N tokens of DATA/test.bin; the file includes them.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <span>
#include <vector>

#include <fathom/data/tokens.hpp>

#include "kinds.hpp"
#include "models.hpp"

using net = paper::model<PAPER_KIND, PAPER_VARIANT>;

int main(int argc, char** argv) {
  std::filesystem::path data, weights_file, file, tokenizer;
  fathom::index prompt = 128, tokens = 2000;
  fathom::generation how{.temperature = 0.9f, .seed = 1};
  CLI::App app("Writes with a " PAPER_VARIANT " model of " PAPER_KIND);
  app.add_option("data", data, "folder of test.bin")->required()->check(CLI::ExistingDirectory);
  app.add_option("weights", weights_file, "what train wrote")->required()->check(CLI::ExistingFile);
  app.add_option("file", file, "file to write: .txt, .mid or .wav")->required();
  app.add_option("--prompt", prompt, "tokens of held-back data to go on from")->capture_default_str()->check(CLI::Range(1, 256));
  app.add_option("--tokens", tokens, "tokens to write after them")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seed", how.seed, "of the samples")->capture_default_str();
  app.add_option("--temperature", how.temperature, "0: always the likeliest")->capture_default_str();
  app.add_option("--tokenizer", tokenizer, "folder of vocab.json and merges.txt, for subwords");
  CLI11_PARSE(app, argc, argv);
  try {
    const paper::meaning meaning = paper::meaning_of(PAPER_KIND, tokenizer);
    const auto held_back = fathom::data::tokens(data / "test.bin", net::vocab, {.validation = 0});
    const auto weights = fathom::make<net::parameters>();
    fathom::load(weights_file, *weights);
    const auto begin = held_back.all().first(std::min(held_back.all().size(), static_cast<std::size_t>(prompt)));
    std::vector<fathom::token> all(begin.begin(), begin.end());
    fathom::generator<net>(*weights, how).write(begin, tokens, [&](fathom::token t) {
      all.push_back(t);
      return true;
    });
    meaning.write(file, all);
    std::printf("%s: %zu tokens, of which the first %zu were given\n", file.c_str(), all.size(), begin.size());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
