// Performances: notes as tokens, and back; arbitrary tokens; folders of MIDI files.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/performance.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::data::music;
using fathom::data::note;
using fathom::data::performance;
using std::filesystem::path;

std::vector<token> vector(std::span<const token> tokens) { return {tokens.begin(), tokens.end()}; }
std::vector<std::string> names(const std::vector<token>& tokens) {
  std::vector<std::string> result;
  for (const token t : tokens) result.push_back(performance::name(t));
  return result;
}

}  // namespace

TEST_CASE("the tokens of performances", "[music]") {
  using kind = performance::kind;
  const auto is = [](token t, kind k, int value, const char* name) {
    return performance::meaning(t) == performance::event{k, value} && performance::name(t) == name;
  };
  CHECK(is(0, kind::note_on, 0, "on C-1"));
  CHECK(is(60, kind::note_on, 60, "on C4"));
  CHECK(is(127, kind::note_on, 127, "on G9"));
  CHECK(is(128, kind::note_off, 0, "off C-1"));
  CHECK(is(128 + 69, kind::note_off, 69, "off A4"));
  CHECK(is(255, kind::note_off, 127, "off G9"));
  CHECK(is(256, kind::time_shift, 10, "wait 10 ms"));
  CHECK(is(280, kind::time_shift, 250, "wait 250 ms"));
  CHECK(is(355, kind::time_shift, 1000, "wait 1000 ms"));
  CHECK(is(356, kind::velocity, 3, "velocity 3"));
  CHECK(is(387, kind::velocity, 127, "velocity 127"));
  CHECK(is(388, kind::end, 0, "end"));
  CHECK(performance::vocab == 389);
  std::vector<token> all(389);
  std::iota(all.begin(), all.end(), 0);
  const auto spelled = names(all);
  CHECK(std::set<std::string>(spelled.begin(), spelled.end()).size() == 389);
  CHECK(fails_with([&] { return performance::name(389); }, "token 389"));
  CHECK(fails_with([&] { return performance::meaning(-1); }, "token -1"));
  CHECK(fails_with([&] { return performance::decode(std::vector<token>{0, 400}); }, "token 400 at position 1"));
}

TEST_CASE("notes become tokens", "[music]") {
  const std::vector<note> notes{
      {0.996, 0.25, 60, 64}, {0.5, 0.5, 60, 62}, {3.5, 0.001, 61, 65}, {1.0, 2.504, 48, 1, 3, 9}};
  const std::vector<std::string> expected{"wait 500 ms", "velocity 63",  "on C4",        "wait 500 ms", "off C4",
                                          "velocity 3",  "on C3",        "velocity 63",  "on C4",       "wait 250 ms",
                                          "off C4",      "wait 1000 ms", "wait 1000 ms", "wait 250 ms", "off C3",
                                          "velocity 67", "on C#4",       "wait 10 ms",   "off C#4"};
  CHECK(names(performance::encode(notes)) == expected);
  CHECK(performance::encode({}).empty());
  CHECK(fails_with([&] { return performance::encode(std::vector<note>{{0, 1, 128}}); }, "note 0", "pitch 128"));
  CHECK(fails_with([&] { return performance::encode(std::vector<note>{{1e9, 1}}); }, "onset 1e+09", "86400"));
}

TEST_CASE("notes come back from tokens", "[music]") {
  fathom::random random(1, 0);
  std::vector<note> notes;  // no key struck again before it is up
  for (int pitch = 0; pitch < 128; ++pitch)
    for (double now = 0; now < 30;) {
      const double onset = now + 0.02 + 3 * random.uniform(), duration = 0.02 + 2 * random.uniform();
      notes.push_back({onset, duration, pitch, 1 + static_cast<int>(random.below(127))});
      now = onset + duration;
    }
  auto found = performance::decode(performance::encode(notes));
  CHECK(std::is_sorted(found.begin(), found.end(), [](auto& a, auto& b) { return a.onset < b.onset; }));
  REQUIRE(found.size() == notes.size());
  const auto by_key = [](const note& a, const note& b) {
    return std::tuple(a.pitch, a.onset) < std::tuple(b.pitch, b.onset);
  };
  std::sort(found.begin(), found.end(), by_key);
  double onset = 0, end = 0;
  int velocity = 0;
  for (std::size_t i = 0; i < notes.size(); ++i) {
    REQUIRE(found[i].pitch == notes[i].pitch);
    onset = std::max(onset, std::abs(found[i].onset - notes[i].onset));
    end = std::max(end, std::abs(found[i].onset + found[i].duration - notes[i].onset - notes[i].duration));
    velocity = std::max(velocity, std::abs(found[i].velocity - notes[i].velocity));
  }
  CHECK(onset < 0.005 + 1e-9);
  CHECK(end < 0.005 + 1e-9);
  CHECK(velocity == 2);
}

TEST_CASE("any tokens become notes", "[music]") {
  const token c4 = 60, off = 128, wait = 256 + 9 /* 100 ms */, loud = 387;
  const auto decode = [](const std::vector<token>& tokens) { return performance::decode(tokens); };
  CHECK(decode({c4, wait, c4 + off}) == std::vector<note>{{0, 0.1, 60, 64}});
  CHECK(decode({c4 + off, wait, c4, wait}) == std::vector<note>{{0.1, 0.1, 60, 64}});
  CHECK(decode({c4, wait, loud, c4, wait, c4 + off, c4 + off}) ==
        std::vector<note>{{0, 0.1, 60, 64}, {0.1, 0.1, 60, 127}});
  CHECK(decode({c4, c4, wait}) == std::vector<note>{{0, 0.1, 60, 64}});
  CHECK(decode({c4, c4 + off, wait, c4}).empty());
  CHECK(decode({loud, c4, wait, performance::end, wait, c4, wait}) ==
        std::vector<note>{{0, 0.1, 60, 127}, {0.2, 0.1, 60, 64}});
  CHECK(decode({}).empty());

  fathom::random random(2, 0);
  for (int i = 0; i < 200; ++i) {
    std::vector<token> tokens;
    for (int n = 0; n < 500; ++n) tokens.push_back(static_cast<token>(random.below(performance::vocab)));
    const auto notes = performance::decode(tokens);
    CHECK(performance::encode(notes).size() <= 3 * tokens.size());  // no note is out of range
    CHECK_FALSE(fathom::data::midi_bytes(notes).empty());
  }
}

TEST_CASE("folders of MIDI files", "[music]") {
  const temporary_folder folder;
  std::filesystem::create_directories(folder.path() / "b" / ".hidden");
  /// A piece of `count` notes of one pitch: 3 * count tokens, one for the velocity, and the end.
  const auto write = [&](const char* name, int pitch, int count) {
    std::vector<note> notes;
    for (int i = 0; i < count; ++i) notes.push_back({0.2 * i, 0.2, pitch});
    fathom::data::write_midi(folder.path() / name, notes);
    return performance::encode(notes);
  };
  const auto a = write("a.mid", 60, 100), b = write("b/b.MIDI", 61, 30), c = write("c.mid", 62, 20);
  write("d.mid", 61, 30);  // as b
  write("b/.hidden/e.mid", 63, 100);
  write("f.mid", 60, 0);
  folder.write("readme.txt", "not music");
  const auto piece = [](std::vector<token> tokens) {
    tokens.push_back(performance::end);
    return tokens;
  };

  const auto all = music(folder.path(), {.validation = 0.2, .test = 0.14});
  CHECK(all.vocab() == 389);
  CHECK(std::set{vector(all.train()), vector(all.validation()), vector(all.test())} ==
        std::set{piece(a), piece(b), piece(c)});
  std::set<std::string> left_out;
  for (const auto& [file, reason] : all.skipped()) left_out.insert(file.filename().string() + " " + reason);
  CHECK(left_out == std::set<std::string>{"d.mid has the same notes as " + (folder.path() / "b/b.MIDI").string(),
                                          ".hidden is hidden", "f.mid has no notes",
                                          "readme.txt is of another kind, by its name"});

  const auto two = music(std::vector<path>{folder.path() / "c.mid", folder.path() / "a.mid"}, {.validation = 0});
  CHECK(two.train().size() == a.size() + c.size() + 2);
  CHECK(two.train().front() == c.front());

  const auto one = music(folder.path() / "a.mid");
  CHECK(vector(one.all()) == piece(a));
  CHECK(one.validation().size() == (a.size() + 1 + 5) / 10);

  CHECK(fails_with([&] { return music(folder.path() / "f.mid"); }, "f.mid: has no notes"));
  CHECK(fails_with([&] { return music(folder.path() / "none"); }, "none", "No such file"));
  folder.write("texts/a.txt", "a");
  CHECK(
      fails_with([&] { return music(folder.path() / "texts"); }, "texts: has no files whose names end in .mid, .midi"));
  CHECK(fails_with(
      [&] {
        return music(std::vector<path>{folder.path() / "b/b.MIDI", folder.path() / "d.mid"});
      },
      "1 documents", "expected at least 2", "d.mid: has the same notes"));
  folder.write("texts/a.mid", "a");
  CHECK(fails_with([&] { return music(folder.path() / "texts"); }, "texts/a.mid: byte 0: expected a MIDI file"));

  // On request, damaged files are skipped; and other extensions of MIDI files are read, too.
  const auto riff = folder.read("a.mid");
  folder.write("g.kar", riff.substr(0, riff.size() - 4));
  CHECK(fails_with([&] { return music(folder.path()); }, "g.kar: track 1 of 1, byte"));
  std::filesystem::create_symlink("gone.mid", folder.path() / "h.rmi");
  CHECK(fails_with([&] { return music(folder.path()); }, "h.rmi: cannot be found"));
  const auto rest = music(folder.path(), {.validation = 0}, {}, {.skip_damaged = true});
  CHECK(rest.all().size() == a.size() + b.size() + c.size() + 3);
  std::set<std::string> damaged;
  for (const auto& [file, reason] : rest.skipped())
    if (reason.find("expected") != std::string::npos || reason.find("left") != std::string::npos ||
        reason.find("found") != std::string::npos)
      damaged.insert(file.filename().string());
  CHECK(damaged == std::set<std::string>{"a.mid", "g.kar", "h.rmi"});
}
