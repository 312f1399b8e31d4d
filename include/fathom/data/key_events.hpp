// Notes as the keys that go down and up on a keyboard to play them.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/note.hpp"

namespace fathom::data::detail {

/// A key that goes down or up.
struct key_event {
  std::int64_t tick;
  bool down;
  note what;
};

/// The key events that play notes, in order of time, with a resolution in ticks per second. At equal times, keys go up
/// before others go down. Onsets and ends are rounded to the nearest tick, but a note lasts at least one tick. A note
/// ends where the next one with the same pitch (and channel, if `separate`) begins. If several of these begin together,
/// they become one, with the longest duration and the greatest velocity. Fails when a note is out of range.
[[nodiscard]] inline std::vector<key_event> key_events(std::span<const note> notes, int ticks_per_second, bool separate,
                                                       const std::string& name) {
  struct stroke {
    std::int64_t begin, end;
    note what;
  };
  std::vector<stroke> strokes;
  strokes.reserve(notes.size());
  for (const note& n : notes) {
    const auto in = [](int value, int least, int most) { return value >= least && value <= most; };
    const double end = n.onset + n.duration;
    if (!(n.onset >= 0 && n.duration >= 0 && end <= longest_piece) || !in(n.pitch, 0, 127) || !in(n.velocity, 1, 127) ||
        !in(n.channel, 0, 15) || !in(n.program, 0, 127))
      fail(name, ": note ", &n - notes.data(), " has onset ", n.onset, ", duration ", n.duration, ", pitch ", n.pitch,
           ", velocity ", n.velocity, ", channel ", n.channel, ", program ", n.program, "; expected times from 0 to ",
           longest_piece, " s, channels to 15, velocities from 1 and all else to 127");
    const auto tick = [&](double seconds) {
      return static_cast<std::int64_t>(std::llround(seconds * ticks_per_second));
    };
    strokes.push_back({tick(n.onset), std::max(tick(end), tick(n.onset) + 1), n});
  }
  std::stable_sort(strokes.begin(), strokes.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });

  std::vector<stroke> clean;
  std::array<std::size_t, 16 * 128> last;  // the last stroke of each key
  last.fill(strokes.size());
  for (const stroke& s : strokes) {
    std::size_t& before = last[static_cast<std::size_t>((separate ? s.what.channel : 0) * 128 + s.what.pitch)];
    if (before < strokes.size()) {
      stroke& b = clean[before];
      if (b.begin == s.begin) {
        b.end = std::max(b.end, s.end);
        b.what.velocity = std::max(b.what.velocity, s.what.velocity);
        continue;
      }
      b.end = std::min(b.end, s.begin);
    }
    before = clean.size();
    clean.push_back(s);
  }

  std::vector<key_event> events;
  events.reserve(2 * clean.size());
  for (const stroke& s : clean) {
    events.push_back({s.begin, true, s.what});
    events.push_back({s.end, false, s.what});
  }
  const auto order = [](const key_event& e) { return std::tuple(e.tick, e.down, e.what.pitch, e.what.channel); };
  std::sort(events.begin(), events.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
  return events;
}

}  // namespace fathom::data::detail
