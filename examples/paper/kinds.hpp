// The meaning of tokens of each kind of data: their names, and the classes by which attention is reported.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/data/bpe.hpp>
#include <fathom/data/performance.hpp>
#include <fathom/data/speech.hpp>
#include <fathom/data/text.hpp>
#include <fathom/viz/page.hpp>

namespace paper {

struct meaning {
  std::function<std::string(fathom::token)> name;
  /// The class of tokens[i] in its context.
  std::function<std::string(std::span<const fathom::token>, std::size_t)> class_of;
  /// Writes tokens as a file of text, music or sound.
  std::function<void(const std::filesystem::path&, std::span<const fathom::token>)> write;
  /// How a page shows tokens.
  std::function<decltype(fathom::viz::page_options::as)(std::span<const fathom::token>)> shown_as;
};

/// Writes the tokens' names one after the other.
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
          [=](const std::filesystem::path& path, std::span<const fathom::token> tokens) { write_text(path, tokens, name); },
          [](std::span<const fathom::token>) { return fathom::viz::text{}; }};
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
          [=](const std::filesystem::path& path, std::span<const fathom::token> tokens) { write_text(path, tokens, name); },
          [](std::span<const fathom::token>) { return fathom::viz::text{}; }};
}

/// The notes of performance tokens, each with the token that starts it. A note without an end lasts until the end of the tokens.
inline std::vector<fathom::viz::note> piano_roll(std::span<const fathom::token> tokens) {
  using fathom::data::performance;
  std::vector<fathom::viz::note> notes;
  std::array<std::ptrdiff_t, 128> sounding;  // index of the note that sounds at each pitch; -1: none
  sounding.fill(-1);
  double now = 0;
  const auto end = [&](std::ptrdiff_t& note) {
    if (note >= 0) notes[static_cast<std::size_t>(note)].duration = now - notes[static_cast<std::size_t>(note)].onset;
    note = -1;
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto [what, value] = performance::meaning(tokens[i]);
    if (what == performance::kind::time_shift) now += value / 1000.0;
    if (what != performance::kind::note_on && what != performance::kind::note_off) continue;
    auto& note = sounding[static_cast<std::size_t>(value)];
    end(note);
    if (what == performance::kind::note_off) continue;
    note = std::ssize(notes);
    notes.push_back({static_cast<fathom::index>(i), now, 0, value});
  }
  for (auto& note : sounding) end(note);
  return notes;
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
          },
          [](std::span<const fathom::token> tokens) { return fathom::viz::music{piano_roll(tokens)}; }};
}

/// Tokens are assigned to their frame even if the window starts inside it.
template <class Codec>
meaning speech(std::vector<std::string> rows) {
  using fathom::data::codec2;
  return {[](fathom::token t) { return Codec::name(t); },
          [](std::span<const fathom::token> tokens, std::size_t i) {
            const fathom::index field = Codec::classify(tokens[i]).field;
            static constexpr std::array<const char*, 4> names{"shape", "refinement", "energy", "pitch"};
            if (Codec::fields < codec2::fields) return std::string(names[static_cast<std::size_t>(field)]);
            // A frame's last token says whether the frame is voiced.
            for (std::size_t at = i; at < tokens.size() && at < i + codec2::fields; ++at)
              if (tokens[at] >= codec2::unvoiced)
                return std::string(tokens[at] == codec2::unvoiced ? "unvoiced " : "voiced ") +
                       names[static_cast<std::size_t>(field)];
            return std::string("cut off ") + names[static_cast<std::size_t>(field)];
          },
          [](const std::filesystem::path& path, std::span<const fathom::token> tokens) {
            fathom::data::write_wav(path, Codec::decode(tokens), Codec::rate);
          },
          [=](std::span<const fathom::token> tokens) {
            fathom::viz::speech as{.rows = rows, .frame_seconds = static_cast<double>(Codec::frame_samples) / Codec::rate};
            fathom::index frame = 0, before = -1;
            for (std::size_t i = 0; i < tokens.size(); ++i) {
              const fathom::index row = Codec::classify(tokens[i]).field;
              if (row <= before) ++frame;
              before = row;
              as.places.push_back({static_cast<fathom::index>(i), frame, row});
            }
            return as;
          }};
}

/// `tokenizer` is the folder of the sub-words' vocab.json and merges.txt.
inline meaning meaning_of(std::string_view kind, const std::filesystem::path& tokenizer) {
  if (kind == "characters") return characters();
  if (kind == "subwords") return subwords(tokenizer);
  if (kind == "music") return music();
  if (kind == "speech") return speech<fathom::data::codec2>({"shape", "refinement", "energy", "pitch"});
  if (kind == "speech_vq") return speech<fathom::data::codec2_shapes>({"shape", "refinement"});
  fathom::fail("paper: ", kind, " is no kind of data");
}

}  // namespace paper
