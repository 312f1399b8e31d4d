// Notes read from and written to MIDI files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/key_events.hpp"
#include "fathom/data/midi_events.hpp"
#include "fathom/data/midi_player.hpp"
#include "fathom/data/note.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data {

/// The notes of a MIDI file in memory, by onset; errors call it `name`. Tracks of formats 0 and 1 play together and
/// share channel state; tracks of format 2 play one after another. A key struck again in its track before it is up ends
/// the previous note. The end of a track ends its notes. The file may be wrapped in RIFF (RMID) or MacBinary. As in
/// other software, these are skipped: chunks of unknown kinds, messages not for a channel, bytes after the end of a
/// track within its chunk, and everything after the number of tracks that the header announces. Fails when the file is
/// damaged, and when a note ends after longest_piece.
[[nodiscard]] inline std::vector<note> read_midi(std::span<const std::byte> bytes, const midi_options& options = {},
                                                 const std::string& name = "MIDI (in memory)") {
  detail::midi_parser file(bytes, name);
  detail::midi_player player(file, options);
  std::vector<detail::midi_event> events;
  for (std::int64_t track = 0; track < file.tracks(); ++track) {
    file.read_track(events);
    if (file.format() == 2) {
      player.play(events);
      events.clear();
    }
  }
  player.play(events);
  return std::move(player).notes();
}
/// The same from a file.
[[nodiscard]] inline std::vector<note> read_midi(const std::filesystem::path& path, const midi_options& options = {}) {
  return read_midi(io::whole_file(path).bytes(), options, path.string());
}

/// A MIDI file of format 0 with ticks of a millisecond, to which times are rounded. So that a keyboard can play it, a
/// note ends where the next one of its pitch and channel begins, if not earlier; of several that begin together, only
/// one is written. Fails when a note is out of range, ends after longest_piece, or is not finite.
[[nodiscard]] inline std::vector<std::byte> midi_bytes(std::span<const note> notes,
                                                       const std::string& name = "MIDI (in memory)") {
  constexpr int ticks_per_second = 1000, ticks_per_quarter = 500;
  constexpr std::uint32_t tempo = 1'000'000 / ticks_per_second * ticks_per_quarter;
  static_assert(longest_piece * ticks_per_second < 1 << 28, "what a variable-length number holds");
  const auto events = detail::key_events(notes, ticks_per_second, true, name);

  std::vector<std::byte> file;
  const auto put = [&](auto... bytes) { (file.push_back(static_cast<std::byte>(bytes)), ...); };
  put('M', 'T', 'h', 'd', 0, 0, 0, 6, 0, 0, 0, 1, ticks_per_quarter >> 8, ticks_per_quarter & 0xff);
  put('M', 'T', 'r', 'k', 0, 0, 0, 0);  // the length is filled in at the end
  const std::size_t begin = file.size();
  put(0, 0xff, detail::midi_event::set_tempo, 3, tempo >> 16, tempo >> 8 & 0xff, tempo & 0xff);
  std::array<int, 16> programs;
  programs.fill(-1);
  std::int64_t now = 0;
  for (const auto& [tick, down, what] : events) {
    const std::int64_t wait = tick - std::exchange(now, tick);
    for (int shift = 21; shift > 0; shift -= 7)
      if (wait >> shift > 0) put((wait >> shift & 0x7f) | 0x80);
    put(wait & 0x7f);
    int& program = programs[static_cast<std::size_t>(what.channel)];
    if (down && program != what.program) put(0xc0 | what.channel, program = what.program, 0);
    put((down ? 0x90 : 0x80) | what.channel, what.pitch, down ? what.velocity : 64);
  }
  put(0, 0xff, detail::midi_event::end_of_track, 0);
  const std::size_t length = file.size() - begin;
  if (length >= std::numeric_limits<std::uint32_t>::max()) fail(name, ": ", notes.size(), " notes are more than fit");
  for (std::size_t i = 0; i < 4; ++i) file[begin - 4 + i] = static_cast<std::byte>(length >> (24 - 8 * i) & 0xff);
  return file;
}
/// The same as a file, which appears only once complete.
inline void write_midi(const std::filesystem::path& path, std::span<const note> notes) {
  const auto bytes = midi_bytes(notes, path.string());
  io::atomic_file file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace fathom::data
