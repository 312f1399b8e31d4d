// Turns the documents that fetch.py has split into tokens: DATA/train.bin, validation.bin and test.bin, described by data.json.
//
//   prepare KIND DOCUMENTS DATA [--tokenizer FOLDER]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include <fathom/core/json.hpp>
#include <fathom/data/bpe.hpp>
#include <fathom/data/performance.hpp>
#include <fathom/data/speech.hpp>
#include <fathom/data/text.hpp>
#include <fathom/data/tokens.hpp>

namespace fs = std::filesystem;
namespace data = fathom::data;

struct options {
  std::string kind;
  fs::path documents, folder, tokenizer;
};

data::corpus read(const options& o, const fs::path& documents) {
  const data::split whole{.validation = 0};
  if (o.kind == "characters") return data::text8(documents, whole);
  if (o.kind == "subwords") return data::subwords(documents, data::bpe(o.tokenizer), whole);
  if (o.kind == "music") return data::music(documents, whole);
  if (o.kind == "speech") return data::speech(documents, whole);
  if (o.kind == "speech_vq") return data::speech<data::codec2_shapes>(documents, whole);
  fathom::fail("prepare: ", o.kind, " is none of characters, subwords, music, speech, speech_vq");
}

void run(const options& o) {
  fs::create_directories(o.folder);
  fathom::json about = fathom::json::object({{"kind", o.kind}});
  for (const char* part : {"train", "validation", "test"}) {
    const auto corpus = read(o, o.documents / part);
    data::write_bin(o.folder / (std::string(part) + ".bin"), corpus.all());
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (const fathom::token t : corpus.all()) hash = (hash ^ static_cast<std::uint32_t>(t)) * 0x100000001b3u;
    char hexadecimal[17];
    std::snprintf(hexadecimal, sizeof hexadecimal, "%016llx", static_cast<unsigned long long>(hash));
    about["vocab"] = corpus.vocab();
    about[part] = fathom::json::object({{"documents", data::detail::files_below(o.documents / part).files.size()},
                                        {"tokens", corpus.all().size()},
                                        {"fnv1a", hexadecimal}});
    std::printf("%s, %s: %zu tokens of %td, FNV-1a %s\n", o.kind.c_str(), part, corpus.all().size(), corpus.vocab(), hexadecimal);
  }
  fathom::io::atomic_file file(o.folder / "data.json");
  file.write(about.dump(1) + "\n");
  file.commit();
}

int main(int argc, char** argv) {
  options o;
  CLI::App app("Turns documents into tokens");
  app.add_option("kind", o.kind, "characters, subwords, music, speech, speech_vq")->required();
  app.add_option("documents", o.documents, "what fetch.py made")->required()->check(CLI::ExistingDirectory);
  app.add_option("folder", o.folder, "folder to write to")->required();
  app.add_option("--tokenizer", o.tokenizer, "folder of vocab.json and merges.txt, for subwords");
  CLI11_PARSE(app, argc, argv);
  try {
    run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
