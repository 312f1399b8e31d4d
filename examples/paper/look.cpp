// Shows what a trained model attends to, and whether it needs it. Compiled for a kind of data and a variant.
//
//   look DATA WEIGHTS FOLDER [--tokenizer FOLDER]
//
// writes to FOLDER
//   tokens.csv   for each token of some windows of held-back data: its class, the NLL of the next token, and the share of the
//                last block's attention that each depth gets (mean over the heads)
//   heads.csv    the same shares for each head, means over all of these tokens
//   probes.csv   the NLL of held-back data with each depth hidden from the shortcut, and with its features replaced by their mean
//   attention.png, attention.html   the attention over depth and context for one window
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <fathom/data/tokens.hpp>
#include <fathom/viz.hpp>
#include <fathom/viz/page.hpp>

#include "kinds.hpp"
#include "models.hpp"

namespace fs = std::filesystem;

constexpr fathom::config config = fathom::normalized(paper::model_of(PAPER_KIND, PAPER_VARIANT));
using backend = paper::choose<PAPER_KIND, PAPER_VARIANT>::backend;
using net = fathom::model<config, backend>;
constexpr fathom::depth_set depths = config.shortcut.depths;

constexpr fathom::index batch = 8;

struct options {
  fs::path data, weights, folder, tokenizer;
  fathom::index windows = 32;
};

double nll_of(const net::parameters& weights, std::span<const fathom::token> tokens) {
  net::tape tape(batch, net::context);
  return fathom::evaluate<net>(weights, tokens, tape, batch);
}

/// Writes the attention of windows spread evenly over the tokens.
void look_at_tokens(const options& o, const net::parameters& weights, std::span<const fathom::token> tokens,
                    const paper::meaning& meaning) {
  std::string lines = "window,position,class,nll", heads = "head";
  for (int n = 0; n < depths.count(); ++n) {
    lines += fathom::join(",depth_", depths[n]);
    heads += fathom::join(",depth_", depths[n]);
  }
  lines += '\n', heads += '\n';
  std::vector<double> sums(static_cast<std::size_t>(config.heads * depths.count()));

  net::tape tape(1, net::context);
  const fathom::index apart = (std::ssize(tokens) - net::context - 1) / std::max<fathom::index>(1, o.windows - 1);
  for (fathom::index w = 0; w < o.windows; ++w) {
    const auto window = tokens.subspan(static_cast<std::size_t>(w * apart), static_cast<std::size_t>(net::context + 1));
    const auto inputs = window.first(static_cast<std::size_t>(net::context)), targets = window.subspan(1);
    net::forward(weights, {inputs, targets, 1, net::context}, tape);
    const std::vector<float> losses(tape.losses().begin(), tape.losses().end());
    const auto map = fathom::attention_map<net>(weights, inputs);
    for (fathom::index i = 0; i < net::context; ++i) {
      const auto at = static_cast<std::size_t>(i);
      lines += fathom::join(w, ",", i, ",", meaning.class_of(window, at), ",", losses[at]);
      for (int n = 0; n < depths.count(); ++n) {
        double mean = 0;
        for (fathom::index h = 0; h < map.heads; ++h) {
          const double share = map.share(h, i, n);
          mean += share / static_cast<double>(map.heads);
          sums[static_cast<std::size_t>(h * depths.count() + n)] += share / static_cast<double>(o.windows * net::context);
        }
        lines += fathom::join(",", mean);
      }
      lines += '\n';
    }
  }
  for (fathom::index h = 0; h < config.heads; ++h) {
    heads += std::to_string(h);
    for (int n = 0; n < depths.count(); ++n)
      heads += fathom::join(",", sums[static_cast<std::size_t>(h * depths.count() + n)]);
    heads += '\n';
  }
  for (const auto& [name, text] : {std::pair{"tokens.csv", &lines}, std::pair{"heads.csv", &heads}}) {
    fathom::io::atomic_file file(o.folder / name);
    file.write(*text);
    file.commit();
  }
}

/// The mean of each depth's features over some tokens, [depths, E].
std::vector<std::vector<double>> mean_features(const net::parameters& weights, std::span<const fathom::token> tokens) {
  constexpr fathom::index D = depths.count();
  std::vector<std::vector<double>> means(static_cast<std::size_t>(D), std::vector<double>(static_cast<std::size_t>(net::width)));
  net::tape tape(batch, net::context);
  fathom::index rows = 0;
  for (const fathom::batch& b : fathom::data::consecutive(tokens, batch, net::context)) {
    net::forward(weights, b, tape);
    tape.each_stage([&]<class Stage>(Stage, const auto& stage_tape) {
      if constexpr (!Stage::depths.empty())
        for (fathom::index r = 0; r < b.sequences * b.tokens; ++r)
          for (fathom::index n = 0; n < D; ++n)
            for (fathom::index e = 0; e < net::width; ++e)
              means[static_cast<std::size_t>(n)][static_cast<std::size_t>(e)] +=
                  static_cast<double>(stage_tape.memory(r * D + n, e));
    });
    rows += b.sequences * b.tokens;
  }
  for (auto& mean : means)
    for (double& value : mean) value /= static_cast<double>(rows);
  return means;
}

/// The weights with a depth's features replaced by a constant.
fathom::owned<net::parameters> with_constant(const net::parameters& weights, int depth, const std::vector<double>& features) {
  auto changed = fathom::make<net::parameters>();
  constexpr bool has_projection = config.shortcut.features != fathom::feature_map::identity;
  const std::string own = fathom::join("shortcut.features.", depth, has_projection ? ".c_proj." : ".ln.");
  net::visit(
      [&](std::string_view name, fathom::initial, const auto& from, auto& to) {
        std::copy(from.span().begin(), from.span().end(), to.span().begin());
        if (!name.starts_with(own)) return;
        if (name.ends_with(".bias"))
          std::copy(features.begin(), features.end(), to.span().begin());
        else
          std::fill(to.span().begin(), to.span().end(), 0.0f);
      },
      weights, *changed);
  return changed;
}

/// The NLL without a depth of the shortcut: the same weights in an architecture that lacks it.
template <int Depth>
double nll_without(const net::parameters& weights, std::span<const fathom::token> tokens) {
  constexpr fathom::config rest = [] {
    fathom::config c = config;
    c.shortcut.depths = fathom::depth_set::from_bits(c.shortcut.depths.bits & ~(std::uint64_t{1} << Depth));
    return c;
  }();
  using other = fathom::model<rest, backend>;
  std::map<std::string, std::span<const float>, std::less<>> all;
  net::visit([&](std::string_view name, fathom::initial, const auto& tensor) { all[std::string(name)] = tensor.span(); }, weights);
  auto fewer = fathom::make<typename other::parameters>();
  other::visit(
      [&](std::string_view name, fathom::initial, auto& tensor) {
        const auto from = all.find(name)->second;
        std::copy(from.begin(), from.end(), tensor.span().begin());
      },
      *fewer);
  typename other::tape tape(batch, net::context);
  return fathom::evaluate<other>(*fewer, tokens, tape, batch);
}

void probe(const options& o, const net::parameters& weights, std::span<const fathom::token> tokens) {
  std::string lines = "depth,intact,masked,mean\n";
  const double intact = nll_of(weights, tokens);
  const auto means = mean_features(weights, tokens);
  [&]<std::size_t... N>(std::index_sequence<N...>) {
    const auto line = [&]<int Depth>(std::size_t n, std::integral_constant<int, Depth>) {
      const double masked = nll_without<Depth>(weights, tokens), mean = nll_of(*with_constant(weights, Depth, means[n]), tokens);
      lines += fathom::join(Depth, ",", intact, ",", masked, ",", mean, "\n");
    };
    (line(N, std::integral_constant<int, depths[static_cast<int>(N)]>{}), ...);
  }(std::make_index_sequence<static_cast<std::size_t>(depths.count())>());
  fathom::io::atomic_file file(o.folder / "probes.csv");
  file.write(lines);
  file.commit();
}

void run(const options& o) {
  fs::create_directories(o.folder);
  const auto held_back = fathom::data::tokens(o.data / "validation.bin", net::vocab, {.validation = 0});
  if (std::ssize(held_back.all()) <= net::context)
    fathom::fail((o.data / "validation.bin").string(), ": has ", held_back.all().size(), " tokens; expected more than ",
                 net::context);
  const auto weights = fathom::make<net::parameters>();
  fathom::load(o.weights, *weights);
  const paper::meaning meaning = paper::meaning_of(PAPER_KIND, o.tokenizer);
  look_at_tokens(o, *weights, held_back.all(), meaning);
  probe(o, *weights, held_back.all());

  // The figure and the page show the same window. The figure only has room for its first tokens.
  const auto window = held_back.all().first(static_cast<std::size_t>(net::context));
  net::tape tape(1, net::context);
  net::forward(*weights, {window, held_back.all().subspan(1, window.size()), 1, net::context}, tape);
  std::vector<float> nll{std::nanf("")};  // of each token, given those before it
  nll.insert(nll.end(), tape.losses().begin(), tape.losses().end() - 1);
  fathom::viz::save_page(o.folder / "attention.html", fathom::attention_map<net>(*weights, window),
                         {.title = "The last block's attention, " PAPER_KIND, .as = meaning.shown_as(window),
                          .labels = meaning.name, .nll = nll});
  fathom::viz::save_png(o.folder / "attention.png", fathom::attention_map<net>(*weights, window.first(64)),
                        {.heads = fathom::viz::heads::all, .labels = meaning.name});
}

int main(int argc, char** argv) {
  options o;
  CLI::App app("Looks at a " PAPER_VARIANT " model of " PAPER_KIND);
  app.add_option("data", o.data, "folder of validation.bin")->required()->check(CLI::ExistingDirectory);
  app.add_option("weights", o.weights, "what train wrote")->required()->check(CLI::ExistingFile);
  app.add_option("folder", o.folder, "folder to write to")->required();
  app.add_option("--tokenizer", o.tokenizer, "folder of vocab.json and merges.txt, for subwords");
  app.add_option("--windows", o.windows, "windows of held-back data to look at")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
