// MIDI files: notes, their tokens, and the file that is written of them.
#include <string>
#include <vector>

#include <fathom/data/midi.hpp>
#include <fathom/data/performance.hpp>

#include "fuzz.hpp"

namespace fuzz::midi {

void read(bytes input) {
  static_cast<void>(fathom::data::read_midi(input, {.sustain = false, .percussion = true}));
  const std::vector<fathom::data::note> notes = fathom::data::read_midi(input);
  for (std::size_t i = 1; i < notes.size(); ++i) expect(notes[i - 1].onset <= notes[i].onset, "notes are in the order of their onsets");
  const std::vector<fathom::token> tokens = fathom::data::performance::encode(notes);
  const auto again = fathom::data::performance::decode(tokens);
  expect(fathom::data::performance::encode(again) == tokens, "the tokens of a performance are those of what they play");
  static_cast<void>(fathom::data::read_midi(fathom::data::midi_bytes(notes)));
}

void make_seeds(seeds& to) {
  const std::vector<fathom::data::note> notes{{.onset = 0, .duration = 0.5, .pitch = 60, .velocity = 64},
                                              {.onset = 0.25, .duration = 1, .pitch = 64, .velocity = 90, .channel = 1, .program = 3},
                                              {.onset = 1, .duration = 0.1, .pitch = 60, .velocity = 1}};
  const auto bytes = fathom::data::midi_bytes(notes);
  const std::string plain(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  to.add(plain);
  to.add("RIFF" + std::string("\0\0\0\0", 4) + "RMIDdata" + std::string("\xff\0\0\0", 4) + plain);
  const auto track = [](const std::string& events) {
    return "MTrk" + std::string(3, '\0') + static_cast<char>(events.size()) + events;
  };
  const std::string end("\0\xff\x2f\0", 4);
  for (const char format : {'\1', '\2'})  // running status, pedal, tempo, sysex, SMPTE time
    to.add("MThd" + std::string("\0\0\0\6\0", 5) + format + std::string("\0\2", 2) + (format == 1 ? std::string("\1\xe0", 2) : std::string("\xe7\x28", 2)) +
           track(std::string("\0\xff\x51\3\7\xa1\x20\0\x90\x3c\x40\x30\x3e\x40\0\xb0\x40\x7f\x81\0\x80\x3c\0\0\xb0\x40\0", 26) + end) +
           track(std::string("\0\xf0\2\x01\xf7\0\xc1\5\0\x91\x40\x50\x60\x91\x40\0\0\xe1\0\x40\0\xff\1\2hi", 25) + end));
}

/// Sets the lengths of tracks: to the next one.
void repair(std::string& input) {
  for (std::size_t at = input.find("MTrk"); at != input.npos && at + 8 <= input.size();) {
    const std::size_t next = std::min(input.find("MTrk", at + 8), input.size()), length = next - at - 8;
    for (std::size_t i = 0; i < 4; ++i) input[at + 4 + i] = static_cast<char>(length >> (24 - 8 * i) & 0xff);
    at = next < input.size() ? next : input.npos;
  }
}

const harness it("midi", read, make_seeds, repair);

}  // namespace fuzz::midi
