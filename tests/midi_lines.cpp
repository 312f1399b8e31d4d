// MIDI files for midi_python.py: reads one and writes its notes, or the reverse. A note is a line: onset and duration
// in seconds, pitch, velocity, channel, program.
//
//   midi_lines read FILE [--keys] [--percussion]    --keys: without the sustain pedal
//   midi_lines write FILE                           notes from the standard input
//   midi_lines tokens FILE                          the names of the tokens of its performance
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <fathom/data/midi.hpp>
#include <fathom/data/performance.hpp>

int main(int argc, char** argv) {
  try {
    using fathom::data::note;
    if (argc < 3) fathom::fail("usage: midi_lines read|write|tokens FILE [--keys] [--percussion]");
    const std::string_view what = argv[1];
    const auto has = [&](std::string_view option) { return std::find(argv + 3, argv + argc, option) != argv + argc; };
    if (what == "write") {
      std::vector<note> notes;
      note n;
      while (std::cin >> n.onset >> n.duration >> n.pitch >> n.velocity >> n.channel >> n.program) notes.push_back(n);
      fathom::data::write_midi(argv[2], notes);
      return 0;
    }
    const auto notes = fathom::data::read_midi(argv[2], {.sustain = !has("--keys"), .percussion = has("--percussion")});
    if (what == "tokens")
      for (const fathom::token t : fathom::data::performance::encode(notes))
        std::puts(fathom::data::performance::name(t).c_str());
    else
      for (const note& n : notes)
        std::printf("%.9f %.9f %d %d %d %d\n", n.onset, n.duration, n.pitch, n.velocity, n.channel, n.program);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "midi_lines: %s\n", e.what());
    return 1;
  }
}
