// The events of Standard MIDI Files ("Standard MIDI Files 1.0", MIDI Manufacturers Association, RP-001). Trusts nothing
// in a file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/files.hpp"

namespace fathom::data::detail {

/// An event that affects notes.
struct midi_event {
  enum : std::uint8_t { end_of_track = 0x2f, set_tempo = 0x51 };  // others: status bytes of channel messages

  std::int64_t tick;    // since the beginning of its track
  std::size_t offset;   // in the file, for errors
  std::int64_t track;   // from 0
  std::uint32_t tempo;  // set_tempo: microseconds per quarter note
  std::uint8_t status, first, second;
};

/// Reads the events in the bytes of a MIDI file. Fails when they are malformed.
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
  /// The duration of a tick in seconds, at a tempo in microseconds per quarter note.
  [[nodiscard]] double seconds_per_tick(std::uint32_t tempo) const {
    return ticks_per_second_ > 0 ? 1 / ticks_per_second_ : 1e-6 * tempo / ticks_per_quarter_;
  }

  /// Appends the events of the next track; the last one is end_of_track.
  void read_track(std::vector<midi_event>& events) {
    ++track_;
    const std::size_t length = next_track();
    end_ = at_ + length;
    std::int64_t tick = 0;  // less than 2^28 per byte: cannot overflow
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
        running = event.status;  // meta and system exclusive events keep it, as in most software
        const int kind = event.status >> 4;
        event.first = data_byte();
        if (kind != 0xc && kind != 0xd) event.second = data_byte();
        if (kind == 0x8 || kind == 0x9 || kind == 0xc || (kind == 0xb && matters(event.first))) events.push_back(event);
      }
    }
    events.push_back({tick, at_, track_, 0, midi_event::end_of_track, 0, 0});
    at_ = end_;  // skips bytes after the last event, which no software plays
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

  /// Whether notes depend on a controller: the sustain pedal and channel mode messages.
  [[nodiscard]] static bool matters(std::uint8_t controller) { return controller == 64 || controller >= 120; }

  /// Moves to the beginning of the MIDI file and drops what follows it. The file may be inside a RIFF file of type RMID
  /// (MMA RP-029), or follow a MacBinary header of 128 bytes (with the length of the file at byte 83).
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
        const std::uint32_t big_endian = number(4);  // RIFF is little-endian
        const std::size_t length =
            (big_endian & 0xff) << 24 | (big_endian & 0xff00) << 8 | (big_endian >> 8 & 0xff00) | big_endian >> 24;
        if (length > end_ - at_)
          fail_at(begin, "a chunk of ", length, " bytes, where the file has ", end_ - at_, " left");
        if (found)
          end_ = at_ + length;
        else
          at_ += std::min(length + length % 2, end_ - at_);  // chunks are 2-byte aligned
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
    if (division < 0x8000) {  // ticks per quarter note
      ticks_per_quarter_ = division;
      if (division == 0) fail_at(at_ - 2, "0 ticks in a quarter note; expected at least 1");
      return;
    }
    // Upper byte: frames per second, negated. Lower byte: ticks per frame.
    const std::uint32_t frames = 0x100 - (division >> 8), ticks = division & 0xff;
    if ((frames != 24 && frames != 25 && frames != 29 && frames != 30) || ticks == 0)
      fail_at(at_ - 2, frames, " frames in a second of ", ticks,
              " ticks each; expected 24, 25, 29 or 30 frames, and at least 1 tick");
    ticks_per_second_ = (frames == 29 ? 30000.0 / 1001 : frames) * ticks;
  }

  /// Moves to the beginning of the next track and returns its length in bytes. Skips other chunks.
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

  /// Reads a meta event. Returns whether it ends the track.
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

  /// Skips a system message (clock, song position and the like). They mean nothing in files, but some files have them.
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
  /// Reads a big-endian number of `count` bytes.
  [[nodiscard]] std::uint32_t number(int count) {
    std::uint32_t value = 0;
    for (int i = 0; i < count; ++i) value = value << 8 | byte();
    return value;
  }
  /// Reads a number with seven bits per byte; the eighth bit is set in all bytes but the last. Leading zeros are
  /// allowed, more than 28 bits are not.
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
  std::size_t at_ = 0, end_ = 0;  // end_: of the current track, or of the file between tracks
  int format_ = 0;
  std::int64_t tracks_ = 0;       // as the header announces
  std::int64_t track_ = -1;       // the one being read
  double ticks_per_quarter_ = 0;  // one of the two is 0
  double ticks_per_second_ = 0;
};

}  // namespace fathom::data::detail
