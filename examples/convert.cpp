// Writes weights as bf16, int8, int4 or float, as a folder of `transformers` or as a GGUF file, and reports the size of each file
// and the NLL on a text. One program handles several architectures: the config in the file selects one of the models below. Configure with
// -DFATHOM_CONVERT=MODEL to add the model in a GGUF file or a folder of any family.
//
//   convert WEIGHTS [--bf16 FILE] [--int8 FILE] [--int4 FILE] [--f32 FILE] [--folder FOLDER] [--gguf FILE [--gguf-type f32|bf16|q8_0]]
//                   [--text TEXT [--windows N]] [--config JSON]
//
// WEIGHTS is a safetensors file, a folder of `transformers`, or a GGUF file. For a model with a tokenizer, TEXT is text.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/gguf_bpe.hpp>
#include <fathom/data/model_tokenizer.hpp>
#include <fathom/data/text.hpp>
#include <fathom/data/tokens.hpp>
#include <fathom/fathom.hpp>

#include "tiny.hpp"
#ifdef FATHOM_CONVERT
#include <convert_model.hpp>
#endif

// The models that this program knows, beside tiny, which examples/quickstart.sh trains. Their configs are fixed when it is compiled;
// a file chooses when it runs.
constexpr fathom::config tiny_gpt2{.vocab = 256, .context = 128, .width = 128, .depth = 6, .heads = 4};
constexpr fathom::config gpt2{.vocab = 50257, .context = 1024, .width = 768, .depth = 12, .heads = 12};
const auto load = [](const auto&... from) {
#ifdef FATHOM_CONVERT
  return fathom::load_any<fathom::model<tiny>, fathom::model<tiny_gpt2>, fathom::model<gpt2>, convert_model::model>(from...);
#else
  return fathom::load_any<fathom::model<tiny>, fathom::model<tiny_gpt2>, fathom::model<gpt2>>(from...);
#endif
};

struct options {
  std::string weights, config, bf16, int8, int4, f32, folder, gguf, gguf_type = "f32", text;
  fathom::index windows = 1000;
};

/// The bytes of a file, or of all files in a folder.
std::uintmax_t size_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return std::filesystem::file_size(path);
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.is_regular_file()) bytes += entry.file_size();
  return bytes;
}

/// The mean -log p of each window, in nats per token, for windows spread evenly over a text.
template <class Net>
std::vector<double> window_nlls(const typename Net::parameters& weights, std::span<const fathom::token> text,
                                fathom::index windows) {
  constexpr fathom::index T = Net::context, at_once = std::max<fathom::index>(1, 2048 / T);
  typename Net::tape tape(at_once);
  std::vector<double> found;
  std::vector<fathom::token> inputs, targets;  // [sequences, T]
  for (fathom::index w = 0; w < windows; ++w) {
    const fathom::index first = (std::ssize(text) - T - 1) * w / windows;
    const auto window = text.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(T + 1));
    inputs.insert(inputs.end(), window.begin(), window.end() - 1);
    targets.insert(targets.end(), window.begin() + 1, window.end());
    const fathom::index sequences = std::ssize(inputs) / T;
    if (sequences < at_once && w + 1 < windows) continue;
    Net::forward(weights, {inputs, targets, sequences, T}, tape);
    for (fathom::index s = 0; s < sequences; ++s) {
      double sum = 0;
      for (const float loss : tape.losses().subspan(static_cast<std::size_t>(s * T), static_cast<std::size_t>(T)))
        sum += static_cast<double>(loss);
      found.push_back(sum / static_cast<double>(T));
    }
    inputs.clear();
    targets.clear();
  }
  return found;
}

/// The entries of a GGUF file for the tokenizer of a model; none if it has none.
fathom::io::gguf_metadata tokenizer_of(const std::string& weights, fathom::index vocab) {
  const fathom::io::model_files files(weights);
  if (files.gguf()) return fathom::io::tokenizer_in(*files.gguf());
  const auto* const folder = files.folder();
  if (!folder || !(folder->has("tokenizer.json") || folder->has("vocab.json") || folder->has("encoder.json"))) return {};
  return fathom::data::gguf_metadata_of(fathom::data::read_bpe(files), vocab);
}

/// Why other programs do not have a model; null if they do.
template <class Net>
constexpr const char* why_only_here() {
  if constexpr (Net::architecture::has_shortcut)
    return "shortcuts";
  else if constexpr (requires { Net::architecture::residual; })
    return "these residual connections";
  else
    return nullptr;
}

/// Writes the requested files and prints a line for each: its size, the NLL of its weights, and the increase over the original
/// weights, with the standard error of the difference over the windows.
template <class Weights>
void convert(const Weights& weights, const options& o) {
  using net = typename Weights::model;
  constexpr const char* only_here = why_only_here<net>();
  if (!o.folder.empty() && only_here) fathom::fail("--folder: transformers has no models with ", only_here);
  if (!o.gguf.empty() && only_here) fathom::fail("--gguf: llama.cpp has no models with ", only_here);
  std::vector<fathom::token> text;  // the held-back end of the text
  if (!o.text.empty()) {
    const auto corpus = [&] {
      if (net::vocab == 256) return fathom::data::bytes(o.text);
      const std::string ending = std::filesystem::path(o.text).extension().string();
      if (ending == ".npy" || ending == ".bin") return fathom::data::tokens(o.text, net::vocab);
      return fathom::data::subwords(o.text, fathom::data::read_bpe(fathom::io::model_files(o.weights)));
    }();
    text.assign(corpus.validation().begin(), corpus.validation().end());
    if (std::ssize(text) <= net::context)
      fathom::fail(o.text, ": its last tenth has ", text.size(), " tokens; expected more than ", net::context);
  }
  const auto nlls = [&](const Weights& w) {
    return text.empty() ? std::vector<double>() : window_nlls<net>(w, text, o.windows);
  };
  const std::vector<double> before = nlls(weights);
  const auto line = [&](const std::string& file, const std::vector<double>& nll) {
    std::printf("%12ju bytes", size_of(file));
    const double count = static_cast<double>(nll.size());
    double mean = 0, more = 0, square = 0;
    for (std::size_t w = 0; w < nll.size(); ++w) {
      mean += nll[w] / count;
      more += (nll[w] - before[w]) / count;
      square += (nll[w] - before[w]) * (nll[w] - before[w]) / count;
    }
    if (!nll.empty()) std::printf("  %.5f nats a token", mean);
    if (!nll.empty() && &nll != &before)
      std::printf(", %+.5f +- %.5f", more, std::sqrt(std::max(0.0, square - more * more) / count));
    std::printf("  %s\n", file.c_str());
    std::fflush(stdout);
  };
  std::printf("%s\n", fathom::summary<net>().c_str());
  line(o.weights, before);
  if constexpr (!only_here) {
    if (!o.folder.empty()) {
      fathom::save_transformers(o.folder, weights);
      line(o.folder, before);
    }
    if (!o.gguf.empty()) {
      using fathom::gguf_numbers;
      const auto type = o.gguf_type == "f32" ? gguf_numbers::f32 : o.gguf_type == "bf16" ? gguf_numbers::bf16 : gguf_numbers::q8_0;
      fathom::save_gguf(o.gguf, weights, {.type = type, .tokenizer = tokenizer_of(o.weights, net::vocab)});
      auto written = fathom::make<Weights>();
      fathom::load(o.gguf, *written);
      line(o.gguf, nlls(*written));
    }
  }
  const auto write = [&]<class P>(const std::string& file, P) {
    if (file.empty()) return;
    fathom::save<P>(file, weights);
    auto written = fathom::make<Weights>();
    fathom::load(file, *written);
    line(file, nlls(*written));
  };
  write(o.f32, float());
  write(o.bf16, fathom::bf16());
  write(o.int8, std::int8_t());
  write(o.int4, fathom::int4());
}

int main(int argc, char** argv) {
  options o;
  CLI::App app("Writes weights in other types, and says what that costs.");
  app.add_option("weights", o.weights, "safetensors file, GGUF file or folder")->required()->check(CLI::ExistingPath);
  app.add_option("--bf16", o.bf16, "file to write as bf16");
  app.add_option("--int8", o.int8, "file to write as int8, with a scale for each output");
  app.add_option("--int4", o.int4, "file to write as int4, with a scale and an offset for each 32 inputs of an output");
  app.add_option("--f32", o.f32, "file to write as float");
  app.add_option("--folder", o.folder, "folder to write as transformers does");
  app.add_option("--gguf", o.gguf, "GGUF file to write, with the tokenizer, if there is one");
  app.add_option("--gguf-type", o.gguf_type, "of its matrices")->capture_default_str()->check(CLI::IsMember({"f32", "bf16", "q8_0"}));
  app.add_option("--text", o.text, "text whose last tenth to measure on; .npy or .bin for tokens of models without a tokenizer")
      ->check(CLI::ExistingPath);
  app.add_option("--windows", o.windows, "pieces of it to measure on")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--config", o.config, "JSON file with the config, for weights that do not carry it")->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  try {
    std::visit([&](const auto& weights) { convert(*weights, o); }, load(o.weights, o.config));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "convert: %s\n", e.what());
    return 1;
  }
}
