// MIDI files: their notes, byte by byte; written files; and hostile files.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/midi.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::data::midi_options;
using fathom::data::note;
using namespace std::string_literals;

std::string big_endian(std::size_t value, int bytes) {
  std::string text;
  while (bytes-- > 0) text += static_cast<char>(value >> 8 * bytes & 0xff);
  return text;
}
std::string chunk(const std::string& tag, const std::string& data) { return tag + big_endian(data.size(), 4) + data; }
std::string header(int format, std::size_t tracks, std::size_t division) {
  return chunk("MThd",
               big_endian(static_cast<std::size_t>(format), 2) + big_endian(tracks, 2) + big_endian(division, 2));
}
const std::string end_of_track = "\0\xff\x2f\0"s;
/// A file of these tracks, with ticks of a millisecond.
std::string file(const std::vector<std::string>& tracks, int format = 1) {
  std::string text = header(format, tracks.size(), 500);
  for (const std::string& track : tracks) text += chunk("MTrk", track + end_of_track);
  return text;
}

std::vector<note> read(const std::string& bytes, const midi_options& options = {}) {
  // A block of exactly this size, so that the sanitizers detect reads beyond it.
  const std::vector<std::byte> exact(reinterpret_cast<const std::byte*>(bytes.data()),
                                     reinterpret_cast<const std::byte*>(bytes.data()) + bytes.size());
  return fathom::data::read_midi(exact, options, "x.mid");
}
std::string written(const std::vector<note>& notes) {
  const auto bytes = fathom::data::midi_bytes(notes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Onset and end in milliseconds, and pitch, which most tests check.
struct tone {
  long onset, end;
  int pitch;
  bool operator==(const tone&) const = default;
};
std::vector<tone> tones(const std::string& bytes, const midi_options& options = {}) {
  std::vector<tone> result;
  for (const note& n : read(bytes, options))
    result.push_back({std::lround(n.onset * 1000), std::lround((n.onset + n.duration) * 1000), n.pitch});
  return result;
}
std::ostream& operator<<(std::ostream& out, const tone& t) {
  return out << t.pitch << " from " << t.onset << " to " << t.end;
}

// clang-format off
/// A file with all kinds of events, with 96 ticks in a quarter note.
std::string everything() {
  return header(1, 2, 96) +
         chunk("MTrk", "\0\xff\x03\x04song"s                 // a title
                       "\0\xff\x51\x03\x09\x27\xc0"s          // 600000 us in a quarter note
                       "\0\xff\x58\x04\x03\x02\x18\x08"s      // 3/4
                       "\x81\x40\xff\x51\x03\x04\x93\xe0"s    // after 192 ticks, at 1.2 s: 300000 us
                       "\0\xff\x2f\0"s) +
         chunk("XFIH", "of some program") +                  // a chunk that nobody knows
         chunk("MTrk", "\0\xc2\x05"s                          // program 5 on channel 2
                       "\0\xf0\x05\x7e\x7f\x09\x01\xf7"s      // system exclusive
                       "\x60\x92\x3c\x40"s                    // 96 ticks, 0.6 s: C4 down
                       "\0\x40\x50"s                          // running status: E4 down
                       "\x60\x3c\0"s                          // 192 ticks, 1.2 s: C4 up, by velocity 0
                       "\0\xe2\0\x40"s "\0\xd2\x20"s          // pitch bend, pressure
                       "\0\xb2\x07\x64"s                      // volume
                       "\x60\xb2\x40\x7f"s                    // 288 ticks, 1.5 s: pedal down
                       "\x30\x82\x40\0"s                      // 336 ticks, 1.65 s: E4 up, but for the pedal
                       "\x30\xb2\x40\x3f"s                    // 384 ticks, 1.8 s: pedal up
                       "\0\x99\x24\x7f"s                      // a drum
                       "\x60\x89\x24\0"s                      // 480 ticks, 2.1 s
                       "\0\xf7\x02\xf3\x01"s                  // bytes of any kind
                       "\0\x92\x30\x01"s                      // C3 down, for good
                       "\x83\0\xff\x2f\0"s                    // 864 ticks, 3.3 s
                       "left over");
}
// clang-format on

}  // namespace

TEST_CASE("a MIDI file with a bit of everything", "[midi]") {
  const auto check = [](const std::vector<note>& found, const std::vector<note>& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CHECK(found[i].onset == Approx(expected[i].onset));
      CHECK(found[i].duration == Approx(expected[i].duration));
      CHECK(found[i].pitch == expected[i].pitch);
      CHECK(found[i].velocity == expected[i].velocity);
      CHECK(found[i].channel == expected[i].channel);
      CHECK(found[i].program == expected[i].program);
    }
  };
  const note c4{0.6, 0.6, 60, 64, 2, 5}, e4{0.6, 1.2, 64, 80, 2, 5}, drum{1.8, 0.3, 36, 127, 9, 0},
      c3{2.1, 1.2, 48, 1, 2, 5};
  check(read(everything()), {c4, e4, c3});
  check(read(everything(), {.percussion = true}), {c4, e4, drum, c3});
  note short_e4 = e4;
  short_e4.duration = 1.05;
  check(read(everything(), {.sustain = false}), {c4, short_e4, c3});

  const temporary_folder folder;
  check(fathom::data::read_midi(folder.write("song.mid", everything() + "and more")), {c4, e4, c3});
}

TEST_CASE("when notes end", "[midi]") {
  SECTION("a key struck again ends the note before, and its second end is nothing") {
    CHECK(tones(file({"\0\x90\x3c\x40\x0a\x90\x3c\x40\x0a\x80\x3c\0\x0a\x80\x3c\0"s})) ==
          std::vector<tone>{{0, 10, 60}, {10, 20, 60}});
  }
  SECTION("the same at one time counts once") {
    CHECK(tones(file({"\x0a\x90\x3c\x40\0\x90\x3c\x50\x0a\x80\x3c\0"s})) == std::vector<tone>{{10, 20, 60}});
  }
  SECTION("tracks, channels and pitches have their own keys") {
    CHECK(tones(file({"\0\x90\x3c\x40\x1e\x80\x3c\0"s, "\x0a\x90\x3c\x40\x0a\x80\x3c\0"s,
                      "\x0b\x91\x3c\x40\x0a\x81\x3c\0"s, "\x0c\x90\x3d\x40\x0a\x80\x3d\0"s})) ==
          std::vector<tone>{{0, 30, 60}, {10, 20, 60}, {11, 21, 60}, {12, 22, 61}});
  }
  SECTION("with their track") {
    CHECK(tones(file({"\0\x90\x3c\x40\x0a\xff\x01\0"s, "\0\x91\x40\x40\x1e\x81\x40\0"s})) ==
          std::vector<tone>{{0, 10, 60}, {0, 30, 64}});
    // Also when the last event is missing.
    CHECK(tones(header(0, 1, 500) + chunk("MTrk", "\0\x90\x3c\x40\x0a\xff\x01\0"s)) == std::vector<tone>{{0, 10, 60}});
  }
  SECTION("with the pedal, unless struck again") {
    const std::string pedal = "\0\xb0\x40\x40"s, up = "\x0a\xb0\x40\0"s;
    const std::string twice = "\0\x90\x3c\x40\x0a\x80\x3c\0\x0a\x90\x3c\x40\x0a\x80\x3c\0"s;
    CHECK(tones(file({pedal + twice + up})) == std::vector<tone>{{0, 20, 60}, {20, 40, 60}});
    CHECK(tones(file({twice + up})) == std::vector<tone>{{0, 10, 60}, {20, 30, 60}});
    CHECK(tones(file({pedal + twice + "\x0a\xff\x01\0"s})) == std::vector<tone>{{0, 20, 60}, {20, 40, 60}});
    CHECK(tones(file({pedal + twice + "\x0a\xb0\x79\0"s + "\x0a\xff\x01\0"s})) ==
          std::vector<tone>{{0, 20, 60}, {20, 40, 60}});                                      // reset all controllers
    CHECK(tones(file({pedal, twice + up})) == std::vector<tone>{{0, 20, 60}, {20, 40, 60}});  // of another track
    CHECK(tones(file({"\0\xb1\x40\x40"s + twice + up})) == std::vector<tone>{{0, 10, 60}, {20, 30, 60}});  // channel
  }
  SECTION("all notes off, all sound off") {
    const std::string two = "\0\x90\x3c\x40\0\x90\x40\x40\x0a"s, up = "\x0a\xb0\x40\0"s, pedal = "\0\xb0\x40\x7f"s;
    CHECK(tones(file({two + "\xb0\x7b\0"s + up})) == std::vector<tone>{{0, 10, 60}, {0, 10, 64}});
    CHECK(tones(file({pedal + two + "\xb0\x7b\0"s + up})) == std::vector<tone>{{0, 20, 60}, {0, 20, 64}});
    CHECK(tones(file({pedal + two + "\xb0\x78\0"s + up})) == std::vector<tone>{{0, 10, 60}, {0, 10, 64}});
  }
}

TEST_CASE("MIDI formats and divisions", "[midi]") {
  const std::string track = "\x64\x90\x3c\x40\x64\x80\x3c\0"s;
  SECTION("format 2: one track after the other, each with its own tempo and channels") {
    CHECK(tones(file({"\0\xff\x51\x03\x0f\x42\x40\0\xb0\x40\x7f"s + track, track}, 2)) ==
          std::vector<tone>{{200, 400, 60}, {500, 600, 60}});
  }
  SECTION("frames") {
    const auto with = [&](std::size_t division) { return read(header(0, 1, division) + chunk("MTrk", track)); };
    CHECK(with(0xe728)[0].onset == Approx(0.1));                     // 25 frames of 40 ticks
    CHECK(with(0xe804)[0].onset == Approx(100.0 / 96));              // 24
    CHECK(with(0xe264)[0].onset == Approx(100.0 / 3000));            // 30
    CHECK(with(0xe364)[0].onset == Approx(100.0 * 1001 / 3000000));  // 29.97
  }
}

TEST_CASE("MIDI files that other software reads, too", "[midi]") {
  const std::string on = "\0\x90\x3c\x40"s, off = "\x0a\x80\x3c\0"s;
  const std::vector<tone> expected{{0, 10, 60}};
  const std::string plain = file({on + off});
  REQUIRE(tones(plain) == expected);
  SECTION("running status goes on after events that are for no channel") {
    CHECK(tones(file({on + "\0\xff\x01\0"s
                           "\x0a\x3c\0"s})) == expected);
    CHECK(tones(file({on + "\0\xf0\x02\x01\xf7"s
                           "\x0a\x3c\0"s})) == expected);
    CHECK(tones(file({on + "\0\xf8"s
                           "\x0a\x3c\0"s})) == expected);
  }
  SECTION("messages to the system") {
    CHECK(tones(file({on +
                      "\0\xf1\x10"s
                      "\0\xf2\x10\x20"s
                      "\0\xf3\x05"s
                      "\0\xf6"s
                      "\0\xf8"s
                      "\0\xfa"s
                      "\0\xfb"s
                      "\0\xfc"s
                      "\0\xfe"s +
                      off})) == expected);
  }
  SECTION("a header that is longer than it need be, bytes after a track's end, chunks and bytes after the last track") {
    const std::string track = chunk("MTrk", on + off + end_of_track + "\0\x90\x3c");
    CHECK(tones(chunk("MThd",
                      "\0\1\0\1\1\xf4"
                      "more"s) +
                chunk("LyrC", "la") + track + chunk("XFKM", "x") + "?") == expected);
    CHECK(tones(header(1, 1, 500) + track + chunk("MTrk", "\0\x90\x40\x40"s + end_of_track)) ==
          expected);  // one track more
  }
  SECTION("a tempo that is longer than it need be, numbers that begin with zeros") {
    CHECK(tones(file({"\0\xff\x51\x05\x07\xa1\x20\0\0"s + on + off})) == expected);
    CHECK(tones(file({on + "\x80\x80\x80\x80"s + off})) == expected);
  }
  SECTION("wrapped up in RIFF") {
    const auto little = [](std::size_t value) {
      const auto b = big_endian(value, 4);
      return std::string(b.rbegin(), b.rend());
    };
    const auto riff_chunk = [&](const std::string& tag, const std::string& data) {
      return tag + little(data.size()) + data + std::string(data.size() % 2, '\0');
    };
    const auto rmid = [&](const std::string& chunks) { return riff_chunk("RIFF", "RMID" + chunks); };
    CHECK(tones(rmid(riff_chunk("data", plain))) == expected);
    CHECK(tones(rmid(riff_chunk("DISP", "odd") + riff_chunk("data", plain) + riff_chunk("LIST", "INFO"))) == expected);
    CHECK(tones(rmid(riff_chunk("data", plain) + riff_chunk("RIFF", "DLS sounds"))) == expected);
    CHECK(tones("RIFF\0\0\0\0RMID"s + riff_chunk("data", plain)) == expected);  // of unknown length
    const auto fails = [](const std::string& bytes, const char* reason) {
      return fails_with([&] { return read(bytes); }, "x.mid: ", reason);
    };
    const std::string whole = rmid(riff_chunk("data", plain));
    CHECK(fails(whole.substr(0, whole.size() - 1), "byte 12: a chunk of 34 bytes, where the file has 33 left"));
    CHECK(fails(rmid(riff_chunk("LIST", "INFO")), "byte 24: expected a chunk \"data\""));
    CHECK(fails(rmid(riff_chunk("data", "not music at all")), "byte 20: expected a MIDI file"));
    CHECK(fails(rmid(riff_chunk("data", "")), "byte 20: expected a MIDI file"));
    CHECK(fails(rmid(riff_chunk("data", header(3, 1, 96))), "byte 28: format 3"));
    CHECK(fails(rmid(riff_chunk("data", plain.substr(0, 30)) + riff_chunk("more", plain)),
                "byte 34: a chunk of 12 bytes"));
  }
  SECTION("after a MacBinary header") {
    std::string mac(128, '\0');
    mac[1] = 4, mac.replace(2, 4, "song");
    mac.replace(65, 4, "Midi");
    mac.replace(83, 4, big_endian(plain.size(), 4));
    CHECK(tones(mac + plain) == expected);
    CHECK(tones(mac + plain + std::string(90, '\0')) == expected);
    CHECK(fails_with([&] { return read(mac + plain.substr(0, plain.size() - 1)); },
                     "x.mid: byte 83: a file of 34 bytes, where 33 follow"));
  }
}

TEST_CASE("notes become a MIDI file", "[midi]") {
  const std::vector<note> notes{{0.5, 0.25, 60, 64, 0, 0}, {0.0, 0.5, 60, 80, 0, 0}, {20.0, 0.0, 127, 127, 15, 3}};
  // clang-format off
  const std::string expected = "\0\xff\x51\x03\x07\xa1\x20"s  // 500000 us in a quarter note
                               "\0\xc0\0"s "\0\x90\x3c\x50"s
                               "\x83\x74\x80\x3c\x40"s "\0\x90\x3c\x40"s  // up before it goes down again
                               "\x81\x7a\x80\x3c\x40"s
                               "\x81\x96\x32\xcf\x03"s "\0\x9f\x7f\x7f"s
                               "\x01\x8f\x7f\x40"s  // a note lasts for a tick
                               "\0\xff\x2f\0"s;
  // clang-format on
  CHECK(written(notes) == header(0, 1, 500) + chunk("MTrk", expected));
  CHECK(read(written({})).empty());

  SECTION("what cannot sound on a keyboard") {
    const std::vector<note> overlapping{{0, 1, 60, 10}, {0.2, 0.1, 60, 20}, {0.2, 0.3, 60, 5}, {0.1, 1, 60, 1, 1}};
    CHECK(read(written(overlapping)) == std::vector<note>{{0, 0.2, 60, 10}, {0.1, 1, 60, 1, 1}, {0.2, 0.3, 60, 20}});
  }
  SECTION("files") {
    const temporary_folder folder;
    fathom::data::write_midi(folder.path() / "a.mid", notes);
    CHECK(folder.read("a.mid") == written(notes));
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    for (const note& bad :
         {note{-0.1, 1}, note{nan, 1}, note{0, nan}, note{0, -1}, note{infinity, 1}, note{86400, 1}, note{0, 1, 128},
          note{0, 1, -1}, note{0, 1, 60, 0}, note{0, 1, 60, 128}, note{0, 1, 60, 64, 16}, note{0, 1, 60, 64, 0, 128}})
      CHECK(fails_with(
          [&] {
            fathom::data::write_midi(folder.path() / "a.mid", std::vector<note>{notes[0], bad});
            return 0;
          },
          "a.mid: note 1 has onset", "expected"));
    CHECK(folder.read("a.mid") == written(notes));
    CHECK(fails_with([&] { return fathom::data::read_midi(folder.path() / "b.mid"); }, "b.mid", "No such file"));
    CHECK(fails_with([&] { return fathom::data::read_midi(folder.write("c.mid", "")); }, "c.mid: byte 0: expected"));
  }
}

TEST_CASE("notes come back from a MIDI file", "[midi]") {
  fathom::random random(1, 0);
  std::vector<note> notes;  // to the millisecond; no key struck again before it is up
  for (int key = 0; key < 16 * 128; key += 5)
    for (double now = 0; now < 60;) {
      const double onset = std::round(now * 1000 + 2000 * random.uniform()) / 1000;
      const double duration = std::round(1 + 3000 * random.uniform()) / 1000;
      notes.push_back({onset, duration, key % 128, 1 + static_cast<int>(random.below(127)), key / 128,
                       static_cast<int>(random.below(128))});
      now = onset + duration;
    }
  const auto order = [](const note& n) { return std::tuple(std::lround(n.onset * 1000), n.pitch, n.channel); };
  std::sort(notes.begin(), notes.end(), [&](const note& a, const note& b) { return order(a) < order(b); });
  const auto found = read(written(notes), {.percussion = true});
  REQUIRE(found.size() == notes.size());
  int wrong = 0;
  for (std::size_t i = 0; i < notes.size(); ++i) {
    note rounded = found[i];
    rounded.onset = std::round(rounded.onset * 1000) / 1000;
    rounded.duration = std::round(rounded.duration * 1000) / 1000;
    wrong += !(rounded == notes[i]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("what is wrong with a MIDI file, and where", "[midi]") {
  const auto fails = [](const std::string& bytes, const auto&... pieces) {
    return fails_with([&] { return read(bytes); }, "x.mid: ", pieces...);
  };
  const auto track = [&](const std::string& events) { return header(0, 1, 500) + chunk("MTrk", events); };
  CHECK(fails("RIFF....WAVEdata....MThd", "byte 0: expected a MIDI file", "it is a RIFF file"));
  CHECK(fails("<!DOCTYPE html><html>not found</html>", "byte 0: expected a MIDI file", "it is an HTML page"));
  CHECK(fails(chunk("MThd", "\0\0\0\1\0"s) + "xxxx", "byte 4: a header of 5 bytes"));
  CHECK(fails("MThd\xff\xff\xff\xff\0\0\0\1\1\1"s, "a header of 4294967295 bytes"));
  CHECK(fails(header(3, 1, 96), "byte 8: format 3; expected 0, 1 or 2"));
  CHECK(fails(header(1, 0, 96), "byte 10: no tracks"));
  CHECK(fails(header(1, 1, 0), "byte 12: 0 ticks"));
  CHECK(fails(header(1, 1, 0xe600), "byte 12: 26 frames"));
  CHECK(fails(header(1, 1, 0xe700), "25 frames in a second of 0 ticks"));
  CHECK(fails(header(1, 1, 0x8000), "128 frames"));
  CHECK(fails(header(1, 65535, 96) + chunk("MTrk", end_of_track), "track 2 of 65535, byte 26: the file ends"));
  CHECK(fails(header(1, 1, 96) + "MTrk\xff\xff\xff\xff"s, "track 1 of 1, byte 14: a chunk of 4294967295 bytes",
              "0 left"));
  CHECK(fails(track("\0\x3c\x40"s), "track 1 of 1, byte 23: expected an event"));
  CHECK(fails(track("\0"s), "byte 23: expected an event"));
  CHECK(fails(track("\0\x90"s), "byte 24: the track ends within an event"));
  CHECK(fails(track("\0\x90\x3c"s), "byte 25: the track ends"));
  CHECK(fails(track("\0\x90\x3c\x80"s), "byte 25: a data byte of 128; expected at most 127"));
  CHECK(fails(track("\xff\xff\xff\xff\x7f\x90\x3c\x40"s), "byte 22: a number of more than 28 bits"));
  CHECK(fails(track("\x80\x90\x80\x80\x80\0\x90\x3c\x40"s), "byte 22: a number of more than 28 bits"));
  CHECK(fails(track("\0\xf4\x10"s), "byte 23: status 244"));
  CHECK(fails(track("\0\xfd"s), "byte 23: status 253"));
  CHECK(fails(track("\0\xf2\x10\x80"s), "byte 25: a data byte of 128"));
  CHECK(fails(track("\0\xf0\xff\xff\xff\x7f\xf7"s), "an event of 268435455 bytes, where the track has 1 left"));
  CHECK(fails(track("\0\xff\x01\x05_"s), "an event of 5 bytes"));
  CHECK(fails(track("\0\xff\x51\x02\x01\x01"s), "byte 23: a tempo of 2 bytes; expected 3"));
  CHECK(fails(track("\0\xff\x51\x03\0\0\0"s), "byte 23: 0 microseconds"));
  CHECK(
      fails(track("\0\x90\x3c\x40\xff\xff\xff\x7f\x80\x3c\0"s), "byte 30: a note ends after 268435 seconds", "86400"));
  // Nothing sounds at that time, so it is harmless.
  CHECK(read(track("\0\x90\x3c\x40\x10\x80\x3c\0\xff\xff\xff\x7f\xff\x2f\0"s)).size() == 1);
}

TEST_CASE("hostile MIDI files are an error, or notes", "[midi]") {
  const std::string good = everything();
  SECTION("cut anywhere") {
    for (std::size_t length = 0; length < good.size(); ++length) {
      CAPTURE(length);
      CHECK(fails_with([&] { return read(good.substr(0, length)); }, "x.mid: ", "byte "));
    }
  }
  SECTION("changed anywhere") {
    fathom::random random(1, 0);
    int errors = 0, others = 0;
    for (int i = 0; i < 20000; ++i) {
      std::string bad = good;
      for (fathom::index changes = 1 + random.below(4); changes > 0; --changes) {
        const auto at = static_cast<std::size_t>(random.below(std::ssize(bad)));
        const auto count = static_cast<std::size_t>(random.below(4));
        bad.replace(at, random.below(4) == 0 ? count : 1, random.below(4) == 0 ? count : 1,
                    static_cast<char>(random.below(256)));
      }
      try {
        const auto notes = read(bad, {.percussion = true});
        static_cast<void>(written(notes));  // fails if one is out of range
      } catch (const fathom::error& error) {
        ++(std::string_view(error.what()).starts_with("x.mid: ") ? errors : others);
      }
    }
    CHECK(errors > 1000);
    CHECK(errors < 19000);
    CHECK(others == 0);
  }
}
