// Options of a page: how tokens are shown, names, NLLs.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"

namespace fathom::viz {

/// Running text: the token names in sequence. They are bytes of UTF-8; a character may span several tokens.
struct text {};

/// A note of a piano roll, and the position of the token that begins it.
struct note {
  index token = 0;
  double onset = 0, duration = 0;  // seconds, up to a day
  int pitch = 0;                   // MIDI, 0 to 127; 60 is middle C
};

/// Notes over time. Tokens without a note (note-offs, time shifts, velocities) are in a strip below.
struct music {
  std::vector<note> notes{};
};

/// The place of a speech token: its codec frame, and its row in the frame.
struct place {
  index token = 0, frame = 0, row = 0;
};

/// Codec frames over time, with the tokens of a frame stacked. Tokens without a place are in a strip below.
struct speech {
  std::vector<std::string> rows{};  // names of the tokens of a frame: "vq 1", "vq 2", "energy", "pitch"
  double frame_seconds = 0;
  std::vector<place> places{};  // empty: token i is in frame i / rows, row i % rows
  double start = 0;             // time of frame 0, in seconds
};

/// How a page shows attention.
struct page_options {
  std::string title{};
  std::variant<text, music, speech> as{};  // .as = fathom::viz::music{.notes = notes}
  viz::labels labels{};                    // for text, the token's bytes
  std::vector<float> nll{};                // of each token given all before it, in nats; NaN if unknown
  viz::heads heads = viz::heads::all;      // mean: omits single heads, for a smaller file
  viz::measure measure = viz::measure::relative;  // what the colours encode at first
};

}  // namespace fathom::viz
