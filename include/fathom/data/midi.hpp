// Music as notes, read from and written to Standard MIDI Files ("Standard MIDI Files 1.0", MIDI Manufacturers
// Association, RP-001). Reading trusts nothing that a file says.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/files.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data {

/// A note that sounds from onset to onset + duration.
struct note {
  double onset = 0;     // seconds
  double duration = 0;  // seconds
  int pitch = 60;       // 0 to 127; 60 is middle C
  int velocity = 64;    // 1 to 127: how hard it is struck
  int channel = 0;      // 0 to 15; 9 is percussion, what musicians call channel 10
  int program = 0;      // 0 to 127: the instrument, by General MIDI; 0 is a piano
  [[nodiscard]] bool operator==(const note&) const = default;
};

/// No note may end later than this, in seconds: a day. What would is taken for damage.
inline constexpr double longest_piece = 86400;

struct midi_options {
  bool sustain = true;      // a note lasts until its key and the sustain pedal are up, or its key is struck again
  bool percussion = false;  // keep the notes of the percussion channel, whose pitches mean instruments
};

namespace detail {
inline constexpr int percussion_channel = 9;

/// An event that matters to notes.
struct midi_event {
  enum : std::uint8_t { end_of_track = 0x2f, set_tempo = 0x51 };  // else the status byte of a channel message

  std::int64_t tick;    // since the beginning of its track
  std::size_t offset;   // in the file, for errors
  std::int64_t track;   // from 0
  std::uint32_t tempo;  // of set_tempo: microseconds in a quarter note
  std::uint8_t status, first, second;
};

/// The bytes of a MIDI file as events. Fails when they are not as they should be.
class midi_parser {
 public:
  midi_parser(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {
    unwrap();
    const std::size_t begin = at_;
    if (bytes_.size() - begin < 14 || tag() != "MThd") {
      at_ = begin;
      fail("expected a MIDI file, which begins with MThd and at least 10 bytes more", but_is(bytes_.subspan(begin)));
    }
    const std::size_t length = number(4);
    if (length < 6 || length > bytes_.size() - begin - 8)
      fail_at(begin + 4, "a header of ", length, " bytes; expected at least 6, and no more than the file has");
    format_ = static_cast<int>(number(2));
    if (format_ > 2) fail_at(begin + 8, "format ", format_, "; expected 0, 1 or 2");
    tracks_ = number(2);
    if (tracks_ == 0) fail_at(begin + 10, "no tracks; expected at least one");
    read_division();
    at_ = begin + 8 + length;
  }

  [[nodiscard]] int format() const { return format_; }
  [[nodiscard]] std::int64_t tracks() const { return tracks_; }
  /// How long a tick is, in seconds, when a quarter note has so many microseconds.
  [[nodiscard]] double seconds_per_tick(std::uint32_t tempo) const {
    return ticks_per_second_ > 0 ? 1 / ticks_per_second_ : 1e-6 * tempo / ticks_per_quarter_;
  }

  /// Appends the events of the next track; the last one is end_of_track.
  void read_track(std::vector<midi_event>& events) {
    ++track_;
    const std::size_t length = next_track();
    end_ = at_ + length;
    std::int64_t tick = 0;  // fewer than 2^28 for each byte: cannot overflow
    std::uint8_t running = 0;
    bool over = false;
    while (!over && at_ < end_) {
      tick += variable_length();
      midi_event event{tick, at_, track_, 0, 0, 0, 0};
      if (at_ < end_ && byte_at(at_) >= 0x80)
        event.status = byte();
      else if (event.status = running; running == 0)
        fail("expected an event, which begins with a byte of at least 128");
      if (event.status == 0xff) {
        over = read_meta(event);
        if (event.status == midi_event::set_tempo) events.push_back(event);
      } else if (event.status == 0xf0 || event.status == 0xf7) {
        skip(variable_length());
      } else if (event.status > 0xf0) {
        read_system_message(event);
      } else {
        running = event.status;  // meta and system exclusive events leave it, as most software does
        const int kind = event.status >> 4;
        event.first = data_byte();
        if (kind != 0xc && kind != 0xd) event.second = data_byte();
        if (kind == 0x8 || kind == 0x9 || kind == 0xc || (kind == 0xb && matters(event.first))) events.push_back(event);
      }
    }
    events.push_back({tick, at_, track_, 0, midi_event::end_of_track, 0, 0});
    at_ = end_;  // some tracks have bytes after their last event; no software plays them
    end_ = bytes_.size();
  }

  template <class... Pieces>
  [[noreturn]] void fail_in(std::int64_t track, std::size_t offset, const Pieces&... pieces) const {
    if (track < 0) fathom::fail(name_, ": byte ", offset, ": ", pieces...);
    fathom::fail(name_, ": track ", track + 1, " of ", tracks_, ", byte ", offset, ": ", pieces...);
  }

 private:
  template <class... Pieces>
  [[noreturn]] void fail_at(std::size_t offset, const Pieces&... pieces) const {
    fail_in(track_, offset, pieces...);
  }
  template <class... Pieces>
  [[noreturn]] void fail(const Pieces&... pieces) const {
    fail_at(at_, pieces...);
  }

  /// Whether a control change is one that notes depend on: the sustain pedal, or a channel mode message.
  [[nodiscard]] static bool matters(std::uint8_t controller) { return controller == 64 || controller >= 120; }

  /// Goes to where the MIDI file begins, and forgets what comes after it: it may be wrapped up in a RIFF file of type
  /// RMID (MMA RP-029), or follow the 128 bytes of a MacBinary header (the length of the file is at byte 83).
  void unwrap() {
    end_ = bytes_.size();
    const auto is_at = [&](std::size_t at, std::string_view expected) {
      return bytes_.size() >= at + expected.size() &&
             std::equal(expected.begin(), expected.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(at),
                        [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
    };
    if (is_at(0, "RIFF") && is_at(8, "RMID")) {
      at_ = 12;
      bool found = false;
      while (!found) {
        if (end_ - at_ < 8) fail("expected a chunk \"data\", which has the MIDI file in it");
        const std::size_t begin = at_;
        found = tag() == "data";
        const std::uint32_t big_endian = number(4);  // but RIFF is little-endian
        const std::size_t length =
            (big_endian & 0xff) << 24 | (big_endian & 0xff00) << 8 | (big_endian >> 8 & 0xff00) | big_endian >> 24;
        if (length > end_ - at_)
          fail_at(begin, "a chunk of ", length, " bytes, where the file has ", end_ - at_, " left");
        if (found)
          end_ = at_ + length;
        else
          at_ += std::min(length + length % 2, end_ - at_);  // chunks begin at even places
      }
    } else if (is_at(128, "MThd") && is_at(0, std::string_view("\0", 1))) {
      at_ = 83;
      const std::size_t length = number(4);
      at_ = 128;
      if (length > end_ - at_) fail_at(83, "a file of ", length, " bytes, where ", end_ - at_, " follow");
      if (length >= 14) end_ = at_ + length;
    }
    bytes_ = bytes_.first(end_);
  }

  void read_division() {
    const std::uint32_t division = number(2);
    if (division < 0x8000) {  // ticks in a quarter note
      ticks_per_quarter_ = division;
      if (division == 0) fail_at(at_ - 2, "0 ticks in a quarter note; expected at least 1");
      return;
    }
    // Frames in a second, negated, in the upper byte; ticks in a frame in the lower one.
    const std::uint32_t frames = 0x100 - (division >> 8), ticks = division & 0xff;
    if ((frames != 24 && frames != 25 && frames != 29 && frames != 30) || ticks == 0)
      fail_at(at_ - 2, frames, " frames in a second of ", ticks,
              " ticks each; expected 24, 25, 29 or 30 frames, and at least 1 tick");
    ticks_per_second_ = (frames == 29 ? 30000.0 / 1001 : frames) * ticks;
  }

  /// Goes to the beginning of the next track, and gives its length. Chunks of other kinds are passed over.
  [[nodiscard]] std::size_t next_track() {
    for (;;) {
      if (end_ - at_ < 8) fail("the file ends; expected the 8 bytes with which this track begins");
      const std::size_t begin = at_;
      const bool is_track = tag() == "MTrk";
      const std::size_t length = number(4);
      if (length > end_ - at_)
        fail_at(begin, "a chunk of ", length, " bytes, where the file has ", end_ - at_, " left");
      if (is_track) return length;
      at_ += length;
    }
  }

  /// Whether it ends the track.
  [[nodiscard]] bool read_meta(midi_event& event) {
    const std::uint8_t type = byte();
    const std::uint32_t length = variable_length();
    if (type != midi_event::set_tempo) {
      skip(length);
      return type == midi_event::end_of_track;
    }
    if (length < 3) fail_at(event.offset, "a tempo of ", length, " bytes; expected 3");
    event.status = type;
    event.tempo = number(3);
    skip(length - 3);
    if (event.tempo == 0) fail_at(event.offset, "0 microseconds in a quarter note; expected at least 1");
    return false;
  }

  /// Messages to all of a system (clock, song position and the like) mean nothing in files; some have them all the
  /// same.
  void read_system_message(const midi_event& event) {
    switch (event.status) {
      case 0xf2:  // song position
        static_cast<void>(data_byte());
        [[fallthrough]];
      case 0xf1:  // time code
      case 0xf3:  // song
        static_cast<void>(data_byte());
        break;
      case 0xf4:
      case 0xf5:
      case 0xf9:
      case 0xfd:
        fail_at(event.offset, "status ", int{event.status}, ", which means nothing");
    }
  }

  [[nodiscard]] std::uint8_t byte_at(std::size_t at) const { return std::to_integer<std::uint8_t>(bytes_[at]); }
  [[nodiscard]] std::uint8_t byte() {
    if (at_ >= end_) fail("the ", track_ < 0 ? "file" : "track", " ends within an event");
    return byte_at(at_++);
  }
  [[nodiscard]] std::uint8_t data_byte() {
    const std::uint8_t value = byte();
    if (value >= 0x80) fail_at(at_ - 1, "a data byte of ", int{value}, "; expected at most 127");
    return value;
  }
  void skip(std::size_t count) {
    if (count > end_ - at_) fail("an event of ", count, " bytes, where the track has ", end_ - at_, " left");
    at_ += count;
  }
  /// Big-endian, of `count` bytes.
  [[nodiscard]] std::uint32_t number(int count) {
    std::uint32_t value = 0;
    for (int i = 0; i < count; ++i) value = value << 8 | byte();
    return value;
  }
  /// Seven bits in each byte; all but the last have the eighth set. It may begin with zeros, but has no more than 28
  /// bits.
  [[nodiscard]] std::uint32_t variable_length() {
    const std::size_t begin = at_;
    std::uint32_t value = 0;
    for (;;) {
      const std::uint8_t next = byte();
      if (value >> 21 != 0) fail_at(begin, "a number of more than 28 bits");
      value = value << 7 | (next & 0x7f);
      if (next < 0x80) return value;
    }
  }
  [[nodiscard]] std::string_view tag() {
    at_ += 4;
    return {reinterpret_cast<const char*>(bytes_.data()) + at_ - 4, 4};
  }

  std::span<const std::byte> bytes_;
  std::string name_;
  std::size_t at_ = 0, end_ = 0;  // end_: of the track, or of the file between tracks
  int format_ = 0;
  std::int64_t tracks_ = 0;       // that the header announces
  std::int64_t track_ = -1;       // the one being read
  double ticks_per_quarter_ = 0;  // one of the two is 0
  double ticks_per_second_ = 0;
};

/// Plays events, and notes down what sounds.
class midi_player {
 public:
  midi_player(const midi_parser& file, const midi_options& options) : file_(file), options_(options) {}

  /// Tracks that begin together, after everything that was played before.
  void play(std::vector<midi_event>& events) {
    std::stable_sort(events.begin(), events.end(), [](const auto& a, const auto& b) { return a.tick < b.tick; });
    channels_ = {};
    const double begin = now_;
    double tempo_time = begin, tick = file_.seconds_per_tick(500000);  // 120 quarter notes in a minute
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
  /// By onset.
  [[nodiscard]] std::vector<note> notes() && {
    std::erase_if(notes_, [](const note& n) { return n.duration < 0; });
    return std::move(notes_);
  }

 private:
  using keys = std::map<std::int64_t, std::size_t>;  // from track and pitch to the note that sounds
  struct channel {
    keys down, held;  // held by the pedal alone
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
        if (stop(event, before->second); n.duration == 0) n.duration = -1;  // struck twice at once: it counts once
        sounding->erase(before);
      }
    on.down[key(event)] = notes_.size();
    notes_.push_back({now_, 0, event.first, event.second, number, on.program});
  }
  void release(const midi_event& event, channel& on, keys::iterator released) {
    if (released == on.down.end()) return;  // was not down
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
  /// What still sounds in a track ends with it.
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

/// A key that goes down or up.
struct key_event {
  std::int64_t tick;
  bool down;
  note what;
};

/// What keyboards do to play notes, in time, when a second has so many ticks; keys go up before others go down. Onsets
/// and ends are rounded to the nearest tick, but a note lasts for one at least. A key can only be struck again once it
/// is up: then a note ends where the next begins that has its pitch, and its channel if those are `separate`; of notes
/// that begin together one is left, as long and as loud as the longest and the loudest. Fails when a note is out of
/// range.
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
  std::array<std::size_t, 16 * 128> last;  // stroke of each key
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
}  // namespace detail

/// The notes of a MIDI file in memory, by onset; errors call it by its name. Tracks of formats 0 and 1 play together,
/// and share what they do to a channel; those of format 2 follow one another. A key that is struck again in its track
/// before it is up ends the note before it; what sounds when its track ends, ends there. The file may be wrapped up in
/// RIFF (RMID) or MacBinary. Passed over, as other software does: chunks of unknown kinds, messages that are not for a
/// channel, what follows the end of a track within its chunk, and all after as many tracks as the header announces.
/// Fails when the file is damaged, and when a note ends after longest_piece.
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

/// A MIDI file of format 0 with ticks of a millisecond, to which times are rounded. On each channel a note ends, at the
/// latest, where the next of its pitch begins, and of those that begin together one is written: so they sound on a
/// keyboard. Fails when a note is out of range, ends after longest_piece, or is not finite.
[[nodiscard]] inline std::vector<std::byte> midi_bytes(std::span<const note> notes,
                                                       const std::string& name = "MIDI (in memory)") {
  constexpr int ticks_per_second = 1000, ticks_per_quarter = 500;
  constexpr std::uint32_t tempo = 1'000'000 / ticks_per_second * ticks_per_quarter;
  static_assert(longest_piece * ticks_per_second < 1 << 28, "what a variable-length number holds");
  const auto events = detail::key_events(notes, ticks_per_second, true, name);

  std::vector<std::byte> file;
  const auto put = [&](auto... bytes) { (file.push_back(static_cast<std::byte>(bytes)), ...); };
  put('M', 'T', 'h', 'd', 0, 0, 0, 6, 0, 0, 0, 1, ticks_per_quarter >> 8, ticks_per_quarter & 0xff);
  put('M', 'T', 'r', 'k', 0, 0, 0, 0);  // the length comes last
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
/// The same as a file, which appears only when complete.
inline void write_midi(const std::filesystem::path& path, std::span<const note> notes) {
  const auto bytes = midi_bytes(notes, path.string());
  io::atomic_file file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace fathom::data
