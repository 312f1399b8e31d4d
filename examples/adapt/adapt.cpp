// Trains a shortcut, and nothing else, of a real model on a text. ../adapt.sh builds and runs it.
//
//   adapt TEXT [TEXT ...] [--minutes N] [--rate R] [--batch N] [--other TEXT] [--folder FOLDER] [--seed N]
//   adapt --prompt TEXT [--folder FOLDER] [--seed N]
//
// The first form writes FOLDER/adapter.safetensors, FOLDER/samples.txt and FOLDER/results.txt; the second one writes on from a
// prompt with that adapter.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models.hpp"
#include "texts.hpp"

namespace {

namespace fs = std::filesystem;
using net = adapt::net<adapt::some_depths>;
using adapter = fathom::train_only<net, "shortcut.*">;

struct options {
  std::vector<fs::path> texts;
  fs::path other, folder = "adapted";
  std::optional<std::string> prompt;
  double minutes = 4;
  float rate = 2e-3f;
  fathom::index batch = 2;
  std::uint64_t seed = 1;
};
constexpr std::size_t most_held_back = 4096;  // tokens, of each text

using clock_type = std::chrono::steady_clock;
double seconds_since(clock_type::time_point start) { return std::chrono::duration<double>(clock_type::now() - start).count(); }

/// What the weights write on from a prompt.
std::string sample(const net::parameters& weights, std::span<const fathom::token> prompt, fathom::index count, std::uint64_t seed) {
  fathom::generator<net, fathom::bf16> writer(weights, {.temperature = 0.8f, .top_p = 0.95f, .seed = seed});
  std::vector<fathom::token> written;
  writer.write(prompt, std::min(count, net::context - std::ssize(prompt)), [&](fathom::token t) { written.push_back(t); });
  return adapt_model::tokenizer().decode(written);
}

/// Training steps that fit into the time, from the time of two passes.
fathom::index steps_in(double seconds, const net::parameters& weights, std::span<const fathom::token> data, const options& o) {
  typename adapter::tape tape(o.batch, net::context);
  auto gradients = fathom::make<adapter::trained>();
  fathom::data::windows windows(data, {.batch = o.batch, .tokens = net::context, .steps = 2, .seed = o.seed});
  adapter::forward_backward(weights, windows.at(0), tape, *gradients);
  const auto start = clock_type::now();
  adapter::forward_backward(weights, windows.at(1), tape, *gradients);
  return std::max<fathom::index>(10, static_cast<fathom::index>(seconds / seconds_since(start)));
}

void train(const options& o) {
  const auto begin = clock_type::now();
  const fathom::data::bpe& tokenizer = adapt_model::tokenizer();
  std::string words;
  for (const fs::path& path : o.texts) words += adapt::text_of(path) + "\n";
  const adapt::text text(words, tokenizer, o.texts.front().string(), static_cast<std::size_t>(net::context), most_held_back);
  const adapt::text other(adapt::text_of(o.other), tokenizer, o.other.string(), 16, most_held_back);
  const std::span<const fathom::token> prompt = text.validation().first(32);
  fs::create_directories(o.folder);

  std::printf("%zu tokens; the last %zu are held back. Trains %td of %td weights, with %.0f MB for gradients, moments and\n"
              "activations; all of the model would take %.0f MB.\n",
              text.all.size(), text.all.size() / 10, net::parameter_count - fathom::model<adapt_model::config>::parameter_count,
              net::parameter_count,
              1e-6 * static_cast<double>(3 * sizeof(adapter::trained) + adapter::tape_bytes(o.batch)),
              1e-6 * static_cast<double>(3 * sizeof(net::parameters) + net::tape_bytes(o.batch)));
  auto weights = fathom::make<net::parameters>();
  fathom::initialize<net>(*weights, o.seed);
  fathom::load(adapt_model::files(), weights, {.missing = fathom::missing::keep});
  struct nll {
    double here, elsewhere;
  };
  const auto evaluate = [&](const net::parameters& w) {
    typename adapter::tape tape(o.batch, net::context);
    const auto of = [&](const adapt::text& t) { return fathom::evaluate<adapter>(w, t.validation(), tape, o.batch); };
    return nll{of(text), of(other)};
  };
  const nll before = evaluate(*weights);
  std::printf("Before: %.4f nats a token on held-back text, %.4f on %s\n", before.here, before.elsewhere, o.other.filename().c_str());
  const std::string first = sample(*weights, prompt, 100, o.seed);

  const fathom::index steps = steps_in(60 * o.minutes, *weights, text.training(), o);
  std::printf("Training: %td steps of %td tokens, about %.0f minutes\n", steps, o.batch * net::context, o.minutes);
  std::fflush(stdout);
  const auto start = clock_type::now();
  fathom::training_result result;
  {
    fathom::trainer<adapter> trainer({.batch = o.batch, .steps = steps, .rate = o.rate, .decay = 0.01f, .seed = o.seed, .progress = true,
                                      .observer = [&](const fathom::progress&) { return seconds_since(start) < 90 * o.minutes; }});
    fathom::copy(*weights, trainer.weights());
    result = trainer.fit(text.training());
    fathom::save_adapter<adapter, fathom::bf16>(o.folder / "adapter.safetensors", trainer.weights());
  }
  // What counts is what the file holds.
  fathom::load_adapter(o.folder / "adapter.safetensors", weights);
  const nll after = evaluate(*weights);
  const std::string second = sample(*weights, prompt, 100, o.seed);

  const std::string table = fathom::join(
      "nats a token      before   after\n",
      "held-back text    ", before.here, "  ", after.here, "\n",
      "another text      ", before.elsewhere, "  ", after.elsewhere, "   (", o.other.filename().string(), ": what is forgotten)\n",
      result.steps, " steps in ", static_cast<int>(seconds_since(start)), " seconds; ", static_cast<int>(seconds_since(begin)),
      " seconds in all; the file has ", fs::file_size(o.folder / "adapter.safetensors"), " bytes\n");
  const std::string samples = "prompt\n------\n" + tokenizer.decode(prompt) + "\n\nbefore\n------\n" + first + "\n\nafter\n-----\n" +
                              second + "\n";
  std::ofstream(o.folder / "results.txt") << table;
  std::ofstream(o.folder / "samples.txt") << samples;
  std::printf("\n%s\n%s\nThe adapter is %s; --prompt TEXT writes with it.\n", samples.c_str(), table.c_str(),
              (o.folder / "adapter.safetensors").c_str());
}

void write(const options& o) {
  const auto prompt = adapt_model::tokenizer().encode(*o.prompt);
  if (prompt.empty() || std::ssize(prompt) >= net::context)
    fathom::fail("--prompt: ", prompt.size(), " tokens; expected 1 to ", net::context - 1);
  auto weights = fathom::make<net::parameters>();
  fathom::load(adapt_model::files(), weights, {.missing = fathom::missing::keep});
  fathom::load_adapter(o.folder / "adapter.safetensors", weights);
  std::printf("%s%s\n", o.prompt->c_str(), sample(*weights, prompt, 200, o.seed).c_str());
}

}  // namespace

int main(int count, char** arguments) {
  options o;
  bool is_good = true;
  const auto number = [&](const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    is_good = is_good && !text.empty() && *end == '\0' && value > 0 && value < 1e6;
    return is_good ? value : 1;
  };
  for (int i = 1; i < count && is_good; ++i) {
    const std::string_view name = arguments[i];
    const auto value = [&] { return is_good = ++i < count, is_good ? std::string(arguments[i]) : std::string(); };
    if (name == "--minutes") o.minutes = number(value());
    else if (name == "--rate") o.rate = static_cast<float>(number(value()));
    else if (name == "--batch") o.batch = static_cast<fathom::index>(std::min(number(value()), 1024.0));
    else if (name == "--seed") o.seed = static_cast<std::uint64_t>(number(value()));
    else if (name == "--other") o.other = value();
    else if (name == "--folder") o.folder = value();
    else if (name == "--prompt") o.prompt = value();
    else if (name.starts_with("--")) is_good = false;
    else o.texts.emplace_back(name);
  }
  if (!is_good || o.batch < 1 || (!o.prompt && (o.texts.empty() || o.other.empty())))
    return std::fputs("adapt TEXT [TEXT ...] --other TEXT [--minutes N] [--rate R] [--batch N] [--folder FOLDER] [--seed N]\n"
                      "adapt --prompt TEXT [--folder FOLDER] [--seed N]\n", stderr), 2;
  try {
    if (o.prompt) write(o);
    else train(o);
    return 0;
  } catch (const std::exception& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
