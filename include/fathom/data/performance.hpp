// Music as tokens: the performance vocabulary usual for MAESTRO (Oore et al., "This time with feeling: learning
// expressive musical performance", arXiv 1808.03715), which describes when each key of a piano goes down and up.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/corpus.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/key_events.hpp"
#include "fathom/data/midi.hpp"
#include "fathom/data/midi_player.hpp"
#include "fathom/data/note.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// The tokens of performances: the 388 of the paper, and one that ends a piece.
///
///     0 to 127     a key goes down: pitch 0 to 127, with the last velocity set
///   128 to 255     a key goes up: pitch 0 to 127
///   256 to 355     time passes: 10, 20, ... 1000 ms
///   356 to 387     set the velocity, in 32 steps: 1 to 4, 5 to 8, ... 125 to 127
///   388            the piece ends
struct performance {
  static constexpr index vocab = 389;
  static constexpr token end = 388;

  enum class kind { note_on, note_off, time_shift, velocity, end };
  /// The meaning of a token.
  struct event {
    performance::kind kind;
    int value;  // note_on, note_off: the pitch; time_shift: milliseconds; velocity: 3, 7, ... 127; end: 0
    [[nodiscard]] bool operator==(const event&) const = default;
  };

  /// The meaning of a token. Fails when it is not in [0, vocab).
  [[nodiscard]] static event meaning(token t) {
    check_tokens({&t, 1}, 0, vocab, "performance");
    if (t < note_off) return {kind::note_on, t};
    if (t < time_shift) return {kind::note_off, t - note_off};
    if (t < velocity) return {kind::time_shift, (t - time_shift + 1) * step};
    if (t < end) return {kind::velocity, (t - velocity) * 4 + 3};
    return {kind::end, 0};
  }
  /// A readable name: "on C4", which is middle C, "off F#3", "wait 250 ms", "velocity 63", "end".
  [[nodiscard]] static std::string name(token t) {
    constexpr std::array<const char*, 12> keys{"C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"};
    const auto [what, value] = meaning(t);
    switch (what) {
      case kind::time_shift:
        return join("wait ", value, " ms");
      case kind::velocity:
        return join("velocity ", value);
      case kind::end:
        return "end";
      default:
        return join(what == kind::note_on ? "on " : "off ", keys[static_cast<std::size_t>(value % 12)], value / 12 - 1);
    }
  }

  /// The tokens of a piece, without `end`. All channels play on one piano. Onsets and ends are rounded to 10 ms, but a
  /// note lasts at least 10 ms. A note ends where the next one of its pitch begins; notes of a pitch that begin
  /// together become one. Fails when a note is out of range, or ends after longest_piece.
  [[nodiscard]] static std::vector<token> encode(std::span<const note> notes) {
    std::vector<token> tokens;
    std::int64_t now = 0;
    token last = end;  // velocity
    for (const auto& [tick, down, what] : detail::key_events(notes, 1000 / step, false, "performance::encode")) {
      while (now < tick) {
        const auto steps = std::min<std::int64_t>(tick - now, longest_shift);
        tokens.push_back(static_cast<token>(time_shift + steps - 1));
        now += steps;
      }
      if (const token loud = velocity + (what.velocity - 1) / 4; down && loud != last) tokens.push_back(last = loud);
      tokens.push_back((down ? note_on : note_off) + what.pitch);
    }
    return tokens;
  }
  /// The notes of any tokens, including those of a model, by onset. A key that goes down again ends its previous note;
  /// one that is not down cannot go up. `end` and the last token end all notes. Notes of zero duration are left out.
  /// The velocity is 64 until it is set, and again after `end`. Fails when a token is not in [0, vocab).
  [[nodiscard]] static std::vector<note> decode(std::span<const token> tokens) {
    check_tokens(tokens, 0, vocab, "performance::decode");
    std::vector<note> notes;
    std::array<std::int64_t, 128> begin;  // of each key that is down, in steps; -1 if it is up
    begin.fill(-1);
    std::array<std::size_t, 128> sounding{};  // the note of each key that is down
    std::int64_t now = 0;
    int loud = 64;
    const auto release = [&](int pitch) {
      const auto key = static_cast<std::size_t>(pitch);
      if (begin[key] >= 0) notes[sounding[key]].duration = seconds(now - begin[key]);
      begin[key] = -1;
    };
    const auto release_all = [&] {
      for (int pitch = 0; pitch < 128; ++pitch) release(pitch);
    };
    for (const token t : tokens) {
      const event e = meaning(t);
      switch (e.kind) {
        case kind::note_on:
          release(e.value);
          begin[static_cast<std::size_t>(e.value)] = now;
          sounding[static_cast<std::size_t>(e.value)] = notes.size();
          notes.push_back({.onset = seconds(now), .pitch = e.value, .velocity = loud});
          break;
        case kind::note_off:
          release(e.value);
          break;
        case kind::time_shift:
          now += e.value / step;
          break;
        case kind::velocity:
          loud = e.value;
          break;
        case kind::end:
          release_all();
          loud = 64;
      }
    }
    release_all();
    std::erase_if(notes, [](const note& n) { return n.duration == 0; });
    return notes;
  }

 private:
  static constexpr token note_on = 0, note_off = 128, time_shift = 256, velocity = 356;  // the first of each
  static constexpr int step = 10, longest_shift = 100;                                   // in milliseconds, in steps
  [[nodiscard]] static double seconds(std::int64_t steps) { return static_cast<double>(steps) * step / 1000; }
};

namespace detail {
/// The corpus of performances, without files that have the same tokens as an earlier one.
[[nodiscard]] inline corpus music_of(folder_files paths, const split& parts, const midi_options& options,
                                     const file_options& files) {
  const auto read = [&](const std::filesystem::path& path) {
    auto tokens = performance::encode(read_midi(path, options));
    if (!tokens.empty()) tokens.push_back(performance::end);
    return tokens;
  };
  documents found = read_documents(std::move(paths), files, "has no notes", read);
  const auto before = [&](std::size_t a, std::size_t b) { return found.tokens[a] < found.tokens[b]; };
  std::set<std::size_t, decltype(before)> pieces(before);
  for (std::size_t i = 0; i < found.tokens.size(); ++i) {
    const auto [first, is_new] = pieces.insert(i);
    if (is_new) continue;
    found.leave_out(found.paths[i], join("has the same notes as ", found.paths[*first].string()));
    found.tokens[i].clear();
  }
  std::erase_if(found.tokens, [](const auto& tokens) { return tokens.empty(); });
  return corpus_of(std::move(found), performance::vocab, parts);
}
}  // namespace detail

/// MIDI files as performances. Each is a document that ends with performance::end, and whole documents are held out
/// (split_documents in corpus.hpp). Files without notes are skipped, and so are files with the same tokens as an
/// earlier one, which could otherwise end up in two parts. corpus::skipped() lists them.
[[nodiscard]] inline corpus music(const std::vector<std::filesystem::path>& paths, const split& parts = {},
                                  const midi_options& options = {}, const file_options& files = {}) {
  return detail::music_of({paths, {}}, parts, options, files);
}
/// The same for all files below a folder (file_options in files.hpp) with the extension .mid, .midi, .kar, .rmi or
/// .smf; or for one file, the end of which is held out.
[[nodiscard]] inline corpus music(const std::filesystem::path& path, const split& parts = {},
                                  const midi_options& options = {}, const file_options& files = {}) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    auto tokens = performance::encode(read_midi(path, options));
    if (tokens.empty()) fail(path.string(), ": has no notes");
    tokens.push_back(performance::end);
    return corpus(std::move(tokens), performance::vocab, parts, path.string());
  }
  constexpr std::string_view endings[] = {".mid", ".midi", ".kar", ".rmi", ".smf"};
  return detail::music_of(detail::files_below(path, endings, files), parts, options, files);
}

}  // namespace fathom::data
