// What tokens of each kind of data mean: their names, and the classes by which attention is told apart.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <fathom/data/bpe.hpp>
#include <fathom/data/performance.hpp>
#include <fathom/data/text.hpp>

namespace paper {

struct meaning {
  std::function<std::string(fathom::token)> name;
  /// What tokens[i] is where it stands.
  std::function<std::string(std::span<const fathom::token>, std::size_t)> class_of;
  /// Tokens as a file that one can read, play or hear.
  std::function<void(const std::filesystem::path&, std::span<const fathom::token>)> write;
};

/// For text, the names in a row.
inline void write_text(const std::filesystem::path& path, std::span<const fathom::token> tokens,
                       const std::function<std::string(fathom::token)>& name) {
  fathom::io::atomic_file file(path);
  for (const fathom::token t : tokens) file.write(name(t));
  file.write("\n");
  file.commit();
}

inline meaning characters() {
  const auto name = [](fathom::token t) { return fathom::data::characters::decode({&t, 1}); };
  return {name,
          [](std::span<const fathom::token> tokens, std::size_t i) {
            if (tokens[i] == 0) return "space";
            return i == 0 || tokens[i - 1] == 0 ? "start of word" : "inside word";
          },
          [=](const std::filesystem::path& path, std::span<const fathom::token> tokens) { write_text(path, tokens, name); }};
}

inline meaning subwords(const std::filesystem::path& folder) {
  const auto tokenizer = std::make_shared<fathom::data::bpe>(folder);
  const auto name = [=](fathom::token t) { return std::string(tokenizer->bytes(t)); };
  return {name,
          [=](std::span<const fathom::token> tokens, std::size_t i) {
            const auto bytes = tokenizer->bytes(tokens[i]);
            const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
            if (bytes.size() > 1 && bytes[0] == ' ' && is_letter(bytes[1])) return "start of word";
            return is_letter(bytes[0]) ? "inside word" : "other";
          },
          [=](const std::filesystem::path& path, std::span<const fathom::token> tokens) { write_text(path, tokens, name); }};
}

inline meaning music() {
  using fathom::data::performance;
  return {performance::name,
          [](std::span<const fathom::token> tokens, std::size_t i) {
            switch (performance::meaning(tokens[i]).kind) {
              case performance::kind::note_on: return "note on";
              case performance::kind::note_off: return "note off";
              case performance::kind::time_shift: return "time shift";
              case performance::kind::velocity: return "velocity";
              case performance::kind::end: break;
            }
            return "end";
          },
          [](const std::filesystem::path& path, std::span<const fathom::token> tokens) {
            fathom::data::write_midi(path, performance::decode(tokens));
          }};
}

/// `tokenizer` is the folder of the sub-words' vocab.json and merges.txt.
inline meaning meaning_of(std::string_view kind, const std::filesystem::path& tokenizer) {
  if (kind == "characters") return characters();
  if (kind == "subwords") return subwords(tokenizer);
  if (kind == "music") return music();
  fathom::fail("paper: ", kind, " is no kind of data");
}

}  // namespace paper
