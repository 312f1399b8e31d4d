// The views of a page as JSON: text, notes, frames of speech.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/viz/page/object_text.hpp"
#include "fathom/viz/page/options.hpp"
#include "fathom/viz/page/text.hpp"

namespace fathom::viz::detail {

/// Marks the token of a note or a place as taken. Fails if the input has no such token, or if it is already taken.
inline void take_token(std::vector<bool>& taken, index token, const char* what) {
  if (token < 0 || std::cmp_greater_equal(token, taken.size()))
    fail("save_page: a ", what, " of token ", token, "; expected 0 to ", taken.size() - 1, ", the input's tokens");
  if (taken[static_cast<std::size_t>(token)])
    fail("save_page: a second ", what, " of token ", token, "; expected one for a token at most");
  taken[static_cast<std::size_t>(token)] = true;
}

inline constexpr double day = 86400;

[[nodiscard]] inline std::string view(const text&, index) { return object_text({{"kind", "\"text\""}}); }

[[nodiscard]] inline std::string view(const music& m, index tokens) {
  std::vector<bool> taken(static_cast<std::size_t>(tokens));
  json notes = json::array();  // [token, onset, duration, pitch]
  for (const note& n : m.notes) {
    take_token(taken, n.token, "note");
    const auto is_time = [](double seconds) { return seconds >= 0 && seconds <= day; };  // false for NaN
    if (!is_time(n.onset) || !is_time(n.duration))
      fail("save_page: the note of token ", n.token, " begins at ", n.onset, " s and lasts ", n.duration,
           " s; expected 0 to ", day, " for both");
    if (n.pitch < 0 || n.pitch > 127)
      fail("save_page: the note of token ", n.token, " has pitch ", n.pitch, "; expected 0 to 127");
    notes.push_back(json::array({n.token, n.onset, n.duration, n.pitch}));
  }
  return object_text({{"kind", "\"music\""}, {"notes", notes.dump()}});
}

[[nodiscard]] inline std::string view(const speech& s, index tokens) {
  constexpr index most_frames = 1'000'000;
  const auto rows = static_cast<index>(s.rows.size());
  if (rows == 0) fail("save_page: speech without rows; expected a name for each token of a frame");
  if (!(s.frame_seconds > 0 && s.frame_seconds <= day) || !(std::abs(s.start) <= day))
    fail("save_page: frames of ", s.frame_seconds, " s from ", s.start,
         " s on; expected a positive length, and at most ", day, " for both");
  std::vector<place> places = s.places;
  for (index i = 0; s.places.empty() && i < tokens; ++i) places.push_back({i, i / rows, i % rows});

  std::vector<bool> taken(static_cast<std::size_t>(tokens));
  std::vector<std::pair<index, index>> used;
  for (const place& p : places) {
    take_token(taken, p.token, "place");
    if (p.frame < 0 || p.frame >= most_frames || p.row < 0 || p.row >= rows)
      fail("save_page: the place of token ", p.token, " is frame ", p.frame, ", row ", p.row,
           "; expected frames below ", most_frames, " and rows below ", rows);
    used.emplace_back(p.frame, p.row);
  }
  std::sort(used.begin(), used.end());
  if (const auto twice = std::adjacent_find(used.begin(), used.end()); twice != used.end())
    fail("save_page: two tokens in frame ", twice->first, ", row ", twice->second, "; expected one at most");

  json shown = json::array();  // [token, frame, row]
  for (const place& p : places) shown.push_back(json::array({p.token, p.frame, p.row}));
  json names = json::array();
  for (const std::string& row : s.rows) names.push_back(characters(row));
  return object_text({{"kind", "\"speech\""},
                      {"rows", names.dump()},
                      {"frame_seconds", json(s.frame_seconds).dump()},
                      {"start", json(s.start).dump()},
                      {"places", shown.dump()}});
}

}  // namespace fathom::viz::detail
