// Music as notes.
#pragma once

#include "fathom/core/standard.hpp"  // first

namespace fathom::data {

/// A note that sounds from onset to onset + duration.
struct note {
  double onset = 0;     // seconds
  double duration = 0;  // seconds
  int pitch = 60;       // 0 to 127; 60 is middle C
  int velocity = 64;    // 1 to 127: how hard it is struck
  int channel = 0;      // 0 to 15; 9 is percussion, usually called channel 10
  int program = 0;      // 0 to 127: General MIDI instrument; 0 is a piano
  [[nodiscard]] bool operator==(const note&) const = default;
};

/// The latest end of a note, in seconds: one day. A later end is treated as damage.
inline constexpr double longest_piece = 86400;

}  // namespace fathom::data
