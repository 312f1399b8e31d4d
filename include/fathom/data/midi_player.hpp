// The notes that MIDI events play.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "fathom/data/midi_events.hpp"
#include "fathom/data/note.hpp"

namespace fathom::data {

/// How notes are read from MIDI files.
struct midi_options {
  bool sustain = true;      // a note lasts until key and sustain pedal are up, or the key is struck again
  bool percussion = false;  // keep notes of the percussion channel, where pitch selects the instrument
};

namespace detail {
inline constexpr int percussion_channel = 9;

/// Plays events and records the notes that sound.
class midi_player {
 public:
  midi_player(const midi_parser& file, const midi_options& options) : file_(file), options_(options) {}

  /// Plays tracks that begin together, after everything played before.
  void play(std::vector<midi_event>& events) {
    std::stable_sort(events.begin(), events.end(), [](const auto& a, const auto& b) { return a.tick < b.tick; });
    channels_ = {};
    const double begin = now_;
    double tempo_time = begin, tick = file_.seconds_per_tick(500000);  // 120 quarter notes per minute
    std::int64_t tempo_tick = 0;
    for (const midi_event& event : events) {
      now_ = tempo_time + static_cast<double>(event.tick - tempo_tick) * tick;
      if (event.status == midi_event::set_tempo) {
        tempo_time = now_;
        tempo_tick = event.tick;
        tick = file_.seconds_per_tick(event.tempo);
      } else if (event.status == midi_event::end_of_track) {
        end_track(event);
      } else {
        take(event, channels_[event.status & 15]);
      }
    }
  }
  /// The notes, ordered by onset.
  [[nodiscard]] std::vector<note> notes() && {
    std::erase_if(notes_, [](const note& n) { return n.duration < 0; });
    return std::move(notes_);
  }

 private:
  using keys = std::map<std::int64_t, std::size_t>;  // from track and pitch to the sounding note
  struct channel {
    keys down, held;  // held: only by the pedal
    bool pedal = false;
    int program = 0;
  };

  void take(const midi_event& event, channel& on) {
    switch (event.status >> 4) {
      case 0x9:
        if (event.second > 0) return strike(event, on);
        [[fallthrough]];
      case 0x8:
        return release(event, on, on.down.find(key(event)));
      case 0xb:
        return control(event, on);
      default:
        on.program = event.first;
    }
  }
  void strike(const midi_event& event, channel& on) {
    const int number = event.status & 15;
    if (number == percussion_channel && !options_.percussion) return;
    for (keys* sounding : {&on.down, &on.held})
      if (const auto before = sounding->find(key(event)); before != sounding->end()) {
        note& n = notes_[before->second];
        if (stop(event, before->second); n.duration == 0) n.duration = -1;  // struck twice at once: one note
        sounding->erase(before);
      }
    on.down[key(event)] = notes_.size();
    notes_.push_back({now_, 0, event.first, event.second, number, on.program});
  }
  void release(const midi_event& event, channel& on, keys::iterator released) {
    if (released == on.down.end()) return;  // not down
    if (on.pedal)
      on.held.insert(*released);
    else
      stop(event, released->second);
    on.down.erase(released);
  }
  void control(const midi_event& event, channel& on) {
    constexpr int sustain_pedal = 64, all_sound_off = 120, reset_controllers = 121, all_notes_off = 123;  // and above
    if (event.first == all_sound_off) {
      stop_all(event, on.down);
      stop_all(event, on.held);
    } else if (event.first >= all_notes_off) {
      while (!on.down.empty()) release(event, on, on.down.begin());
    } else if (event.first == sustain_pedal || event.first == reset_controllers) {
      on.pedal = options_.sustain && event.first == sustain_pedal && event.second >= 64;
      if (!on.pedal) stop_all(event, on.held);
    }
  }
  /// Ends the notes that still sound in a track.
  void end_track(const midi_event& event) {
    for (channel& on : channels_)
      for (keys* sounding : {&on.down, &on.held}) {
        const auto first = sounding->lower_bound(event.track * 128),
                   last = sounding->lower_bound(event.track * 128 + 128);
        for (auto at = first; at != last; ++at) stop(event, at->second);
        sounding->erase(first, last);
      }
  }
  void stop_all(const midi_event& event, keys& sounding) {
    for (const auto& [key, number] : sounding) stop(event, number);
    sounding.clear();
  }
  void stop(const midi_event& event, std::size_t number) {
    if (now_ > longest_piece)
      file_.fail_in(event.track, event.offset, "a note ends after ", now_, " seconds; expected at most ",
                    longest_piece);
    notes_[number].duration = now_ - notes_[number].onset;
  }
  [[nodiscard]] static std::int64_t key(const midi_event& event) { return event.track * 128 + event.first; }

  const midi_parser& file_;
  midi_options options_;
  std::array<channel, 16> channels_;
  std::vector<note> notes_;
  double now_ = 0;  // seconds
};
}  // namespace detail

}  // namespace fathom::data
