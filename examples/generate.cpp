// Loads weights and continues a prompt, as fast as possible.
//
//   generate WEIGHTS PROMPT [--count N] [--temperature T] [--top-k K] [--top-p P] [--seed S] [--type f32|bf16|int8]
#include <chrono>
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>
#include <fathom/fathom.hpp>

#include "tiny.hpp"

using net = fathom::model<tiny>;

/// P is the type of the packed weights.
template <class P>
void write(const net::parameters& weights, const fathom::generation& options, const std::string& prompt, fathom::index count) {
  fathom::generator<net, P> writer(weights, options);
  std::printf("%s", prompt.c_str());
  const auto start = std::chrono::steady_clock::now();
  const auto written = writer.write(prompt, count, [](fathom::token t) { return std::putchar(t) != EOF; });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr, "\n%td tokens, %.0f a second\n", written, static_cast<double>(written) / seconds);
}

int main(int argc, char** argv) {
  std::string file, prompt, type = "f32";
  fathom::index count = 500;
  fathom::generation options{.temperature = 0.8f, .top_k = 40};
  CLI::App app("Writes on from a prompt, with the weights that examples/quickstart.sh left.");
  app.add_option("weights", file, "safetensors file of the tiny model")->required()->check(CLI::ExistingFile);
  app.add_option("prompt", prompt, "text to go on from")->required();
  app.add_option("--count", count, "bytes to write")->capture_default_str();
  app.add_option("--temperature", options.temperature, "0: always the most likely")->capture_default_str();
  app.add_option("--top-k", options.top_k, "only the k most likely; 0: all")->capture_default_str();
  app.add_option("--top-p", options.top_p, "only the most likely that reach this probability")->capture_default_str();
  app.add_option("--seed", options.seed, "of the sampling")->capture_default_str();
  app.add_option("--type", type, "of the weights")->capture_default_str()->check(CLI::IsMember({"f32", "bf16", "int8"}));
  CLI11_PARSE(app, argc, argv);
  try {
    auto weights = fathom::make<net::parameters>();
    fathom::load(file, *weights);
    if (type == "f32") write<float>(*weights, options, prompt, count);
    if (type == "bf16") write<fathom::bf16>(*weights, options, prompt, count);
    if (type == "int8") write<std::int8_t>(*weights, options, prompt, count);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "generate: %s\n", e.what());
    return 1;
  }
}
