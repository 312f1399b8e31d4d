// For viz_page_browser.py: pages of every kind, each with a JSON file of its expected contents.
//
//   viz_page_files FOLDER
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/viz/page.hpp>

namespace {

namespace viz = fathom::viz;

/// Attention like a model's: each head has its depth, and prefers near or equal tokens, or the beginning.
fathom::attention_weights_map example(std::vector<fathom::token> tokens, fathom::index heads, std::vector<std::string> sources,
                                      fathom::index vocab) {
  const auto count = static_cast<fathom::index>(tokens.size()), depths = static_cast<fathom::index>(sources.size());
  fathom::attention_weights_map map{heads, count, std::move(sources), count, std::move(tokens), vocab, {}};
  fathom::random numbers(1, 2);
  for (fathom::index head = 0; head < heads; ++head)
    for (fathom::index query = 0; query < count; ++query) {
      std::vector<double> row;
      double sum = 0;
      for (fathom::index source = 0; source < depths; ++source)
        for (fathom::index key = 0; key < count; ++key) {
          const auto at = [&](fathom::index i) { return i >= 0 ? map.tokens[static_cast<std::size_t>(i)] : -1; };
          double score = 0.8 * numbers.normal() + (head % depths == source ? 1.5 : 0);
          if (head % 3 == 0) score -= 0.15 * static_cast<double>(query - key);
          if (head % 3 == 1 && at(key - 1) == at(query)) score += 4;
          if (head % 3 == 2 && key == 0) score += 3;
          row.push_back(key <= query ? std::exp(score) : 0);
          sum += row.back();
        }
      for (const double w : row) map.weights.push_back(static_cast<float>(w / sum));
    }
  return map;
}

/// Some NLLs; none for the first token.
std::vector<float> losses(fathom::index count) {
  fathom::random numbers(3, 4);
  std::vector<float> nll{std::numeric_limits<float>::quiet_NaN()};
  while (static_cast<fathom::index>(nll.size()) < count)
    nll.push_back(static_cast<float>(std::exp(0.8 * static_cast<double>(numbers.normal()))));
  return nll;
}

void write(const std::filesystem::path& folder, const std::string& name, const fathom::attention_weights_map& map,
           const viz::page_options& options) {
  viz::save_page(folder / (name + ".html"), map, options);
  const auto array = [](const auto& numbers_or_names) {
    fathom::json result = fathom::json::array();
    for (const auto& one : numbers_or_names) result.push_back(one);  // a NaN is written as null
    return result;
  };
  std::ofstream(folder / (name + ".json")) << fathom::json::object({{"heads", map.heads},
                                                                    {"sources", array(map.sources)},
                                                                    {"tokens", array(map.tokens)},
                                                                    {"weights", array(map.weights)},
                                                                    {"nll", array(options.nll)},
                                                                    {"title", options.title}})
                                                  .dump();
}

std::vector<fathom::token> bytes(const std::string& text) {
  std::vector<fathom::token> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

void text(const std::filesystem::path& folder) {
  // As bytes: characters of several bytes, two lines, markup, quotes, and non-text.
  const auto tokens = bytes("Caf\u00e9 \u4e16\u754c said: \"</script><img src=x onerror=alert(1)>\"\n'<!--' & ${x}\\ " +
                            std::string("\0\x1b\xff\xe2\x80", 5) + " \u202eend\u2028.");
  const auto count = static_cast<fathom::index>(tokens.size());
  write(folder, "bytes", example(tokens, 4, {"depth 2", "depth 4"}, 256),
        {.title = "</title><script>document.title = 'broken'</script>", .nll = losses(count)});

  // As sub-words, with names for them, some of which are meant to break the page.
  const std::vector<std::string> names{"In",  " the", " beginning", " God", " created", " heaven", " and", " earth",
                                       ".",   "\n",   "</script>",  "\"",   "",         "\t",      "]]>",  "<!--",
                                       "\xf0\x9f", "\x98\x80", "__proto__", "&lt;"};
  std::vector<fathom::token> words{0, 1, 2, 3, 4, 1, 5, 6, 1, 7, 8, 9};
  for (fathom::token t = 10; t < 20; ++t) words.push_back(t);
  for (const fathom::token t : {6, 1, 7, 3, 4, 1, 2, 8}) words.push_back(t);
  write(folder, "words", example(words, 8, {"context", "depth 0", "depth </b>"}, 20),
        {.title = "Sub-words & \"names\"", .labels = names, .measure = viz::measure::weight});
  write(folder, "mean", example(words, 8, {"depth 3"}, 20), {.labels = names, .heads = viz::heads::mean});
}

/// A melody over broken chords, in the vocabulary of performances: note-on 0 to 127, note-off, time shifts, velocities.
void music(const std::filesystem::path& folder) {
  std::vector<fathom::token> tokens;
  std::vector<viz::note> notes;
  double now = 0;
  const auto on = [&](int pitch, double duration) {
    notes.push_back({static_cast<fathom::index>(tokens.size()), now, duration, pitch});
    tokens.push_back(pitch);
  };
  const int chords[4][4] = {{48, 55, 60, 64}, {45, 52, 57, 60}, {53, 57, 60, 65}, {43, 50, 55, 59}};
  const int melody[4][4] = {{72, 76, 79, 76}, {76, 72, 69, 72}, {77, 76, 74, 72}, {74, 71, 67, 71}};
  for (int bar = 0; bar < 4; ++bar)
    for (int beat = 0; beat < 4; ++beat) {
      tokens.push_back(356 + (beat == 0 ? 20 : 14));
      on(melody[bar][beat], 0.42);
      tokens.push_back(356 + 10);
      for (const int half : {0, 1}) {
        on(chords[bar][(2 * beat + half) % 4], 0.24);
        tokens.push_back(256 + 24);
        now += 0.25;
        tokens.push_back(128 + chords[bar][(2 * beat + half) % 4]);
      }
      tokens.push_back(128 + melody[bar][beat]);
    }
  const viz::labels labels = [](fathom::token t) {
    const int number = static_cast<int>(t);
    if (number < 128) return fathom::join("on ", number);
    if (number < 256) return fathom::join("off ", number - 128);
    return number < 356 ? fathom::join("+", (number - 255) * 10, " ms") : fathom::join("vel ", number - 356);
  };
  const auto count = static_cast<fathom::index>(tokens.size());
  write(folder, "music", example(tokens, 4, {"depth 2", "depth 4", "depth 8"}, 388),
        {.title = "Four bars", .as = viz::music{.notes = notes}, .labels = labels, .nll = losses(count)});
}

/// Frames of four tokens, after one token that is in no frame.
void speech(const std::filesystem::path& folder) {
  std::vector<fathom::token> tokens{1040};
  std::vector<viz::place> places;
  fathom::random numbers(5, 6);
  for (fathom::index frame = 0; frame < 40; ++frame)
    for (fathom::index row = 0; row < 4; ++row) {
      places.push_back({static_cast<fathom::index>(tokens.size()), frame, row});
      const double wave = 8 + 6 * std::sin(0.3 * static_cast<double>(frame)) + static_cast<double>(numbers.normal());
      tokens.push_back(static_cast<fathom::token>(512 * row + std::lround(std::abs(wave))));
    }
  const auto count = static_cast<fathom::index>(tokens.size());
  write(folder, "speech", example(tokens, 4, {"depth 1", "depth 3"}, 2100),
        {.title = "A second and a half",
         .as = viz::speech{.rows = {"vq 1", "vq 2", "energy", "<i>pitch"}, .frame_seconds = 0.04, .places = places, .start = 2},
         .nll = losses(count)});
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) return std::fprintf(stderr, "usage: viz_page_files FOLDER\n"), 2;
  text(argv[1]);
  music(argv[1]);
  speech(argv[1]);
} catch (const std::exception& e) {
  return std::fprintf(stderr, "viz_page_files: %s\n", e.what()), 1;
}
