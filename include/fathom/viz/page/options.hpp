// The options of a page: what its tokens stand for, names, NLLs.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/labels.hpp"

namespace fathom::viz {

/// Running text: the tokens' names, one after the other. They are bytes of UTF-8, and a character may be cut into
/// several tokens.
struct text {};

/// A note of a piano roll, and where in the input the token is that begins it.
struct note {
  index token = 0;
  double onset = 0, duration = 0;  // seconds, up to a day
  int pitch = 0;                   // of MIDI, 0 to 127; 60 is the middle C
};

/// Notes over time. Tokens without a note (ends of notes, time shifts, loudness) stand in a strip below them.
struct music {
  std::vector<note> notes{};
};

/// Where a token of speech stands: in which frame of the codec, and in which of its rows.
struct place {
  index token = 0, frame = 0, row = 0;
};

/// Frames of a codec over time, and the tokens of a frame one above the other. Tokens without a place stand in a strip.
struct speech {
  std::vector<std::string> rows{};  // what the tokens of a frame are: "vq 1", "vq 2", "energy", "pitch"
  double frame_seconds = 0;
  std::vector<place> places{};  // none: token i is in frame i / rows, row i % rows
  double start = 0;             // when frame 0 begins, in seconds
};

struct page_options {
  std::string title{};
  std::variant<text, music, speech> as{};  // .as = fathom::viz::music{.notes = notes}
  viz::labels labels{};                    // for text, the token's bytes
  std::vector<float> nll{};                // of each token after those before it, in nats; NaN where there is none
  viz::heads heads = viz::heads::all;      // mean: the heads by themselves are not in the file, which is smaller
  viz::measure measure = viz::measure::relative;  // what the colours stand for at first
};

}  // namespace fathom::viz
