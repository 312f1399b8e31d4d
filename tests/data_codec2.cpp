// Codec 2 as tokens: against libcodec2 called directly, and against the programs c2enc and c2dec.
#include <codec2/codec2.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/speech.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::data::codec2;
using fathom::data::codec2_shapes;
using tokens = std::vector<token>;
using samples = std::vector<float>;

/// Speech-like sound at 8 kHz: pulses of varying pitch through two resonances, then noise, then a
/// pause.
samples voice(std::size_t count, double start = 0) {
  fathom::random numbers(1, 0);
  samples s(count);
  double phase = 0, last = 0;
  std::array<std::array<double, 2>, 2> memory{};
  for (std::size_t i = 0; i < count; ++i) {
    const double time = static_cast<double>(i) / 8000 + start;
    phase += (120 + 40 * std::sin(3 * time)) / 8000;
    const bool pulse = phase >= 1;
    phase -= pulse;
    const int part = static_cast<int>(time * 3) % 4;  // voiced twice, noise, pause
    const double noise = static_cast<double>(numbers.below(2001)) / 1000 - 1;
    const double hiss = noise - last;
    last = noise;
    double x = part < 2 && pulse ? 1 : 0.0003 * noise;
    for (std::size_t r = 0; r < 2; ++r) {
      const double hertz = r == 0 ? 600 + 200 * std::sin(5 * time) : 1700, radius = 0.95;
      const double y = x + 2 * radius * std::cos(2 * std::numbers::pi * hertz / 8000) * memory[r][0] -
                       radius * radius * memory[r][1];
      memory[r] = {y, memory[r][0]};
      x = 0.3 * y;
    }
    s[i] = static_cast<float>(std::clamp(2 * x + (part == 2 ? 0.05 * hiss : 0), -1.0, 1.0));
  }
  return s;
}

/// 16-bit samples encoded by libcodec2 directly: 4 bytes for each whole frame.
std::string encoded(std::vector<std::int16_t> speech) {
  CODEC2* const coder = codec2_create(CODEC2_MODE_700C);
  std::string bytes;
  for (std::size_t i = 0; i + 320 <= speech.size(); i += 320) {
    unsigned char frame[4];
    codec2_encode(coder, frame, speech.data() + i);
    bytes.append(reinterpret_cast<const char*>(frame), 4);
  }
  codec2_destroy(coder);
  return bytes;
}
/// The same, decoded.
samples decoded(const std::string& bytes) {
  CODEC2* const coder = codec2_create(CODEC2_MODE_700C);
  std::vector<std::int16_t> speech(bytes.size() / 4 * 320);
  for (std::size_t i = 0; i < bytes.size(); i += 4)
    codec2_decode(coder, speech.data() + i * 80, reinterpret_cast<const unsigned char*>(bytes.data() + i));
  codec2_destroy(coder);
  return fathom::data::from_pcm16(speech);
}
/// Well-formed tokens, packed.
std::string packed(const tokens& t) {
  std::string bytes;
  for (std::size_t i = 0; i < t.size(); i += 4) {
    const auto frame = codec2::pack({t[i], t[i + 1] - 512, t[i + 2] - 1024, t[i + 3] - 1040});
    bytes.append(frame.begin(), frame.end());
  }
  return bytes;
}

/// The result of a call in a separate process, so that libcodec2's random generator here is unchanged.
template <class Call>
samples in_child(const Call& call) {
  const temporary_folder folder;
  const auto path = folder.path() / "samples";
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const samples s = call();
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(s.data()), std::ssize(s) * 4);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  const std::string bytes = folder.read("samples");
  samples s(bytes.size() / 4);
  std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char*>(s.data()));
  return s;
}

const samples spoken = voice(8000 * 6);
const tokens in_tokens = codec2::encode(spoken);
const samples first_decoded = codec2::decode(in_tokens);  // before any other use of random numbers

/// The logarithm of the energy of every 20 ms.
std::vector<double> envelope(std::span<const float> s) {
  std::vector<double> e;
  for (std::size_t i = 0; i + 160 <= s.size(); i += 160) {
    double sum = 1e-4;
    for (const float x : s.subspan(i, 160)) sum += static_cast<double>(x) * static_cast<double>(x);
    e.push_back(std::log(sum));
  }
  return e;
}
double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const std::size_t n = std::min(a.size(), b.size());
  double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
  for (std::size_t i = 0; i < n; ++i)
    sa += a[i], sb += b[i], saa += a[i] * a[i], sbb += b[i] * b[i], sab += a[i] * b[i];
  const double count = static_cast<double>(n);
  return (sab - sa * sb / count) / std::sqrt((saa - sa * sa / count) * (sbb - sb * sb / count));
}

/// The pitch of a sound, within 5 % of the expected: the sound is most similar to itself eight periods later.
double pitch_of(std::span<const float> s, double expected) {
  const double periods = 8 * 8000 / expected;
  double best = 0, found = 0;
  for (double lag = 0.95 * periods; lag < 1.05 * periods; lag += 0.1) {
    const auto whole = static_cast<std::size_t>(lag);
    const auto part = static_cast<float>(lag - std::floor(lag));
    double sum = 0;
    for (std::size_t i = 0; i + whole + 1 < s.size(); ++i)
      sum += static_cast<double>(s[i] * ((1 - part) * s[i + whole] + part * s[i + whole + 1]));
    if (sum > best) best = sum, found = lag;
  }
  return 8 * 8000 / found;
}

}  // namespace

TEST_CASE("codec2 tokens are the bits of libcodec2", "[data]") {
  const auto speech = fathom::data::to_pcm16(spoken);
  CHECK(in_tokens.size() == 6 * 25 * 4);
  CHECK(packed(in_tokens) == encoded(speech));
  for (std::size_t i = 0; i < in_tokens.size(); ++i)
    REQUIRE(codec2::classify(in_tokens[i]).field == static_cast<fathom::index>(i % 4));
  CHECK(codec2::encode(spoken) == in_tokens);

  const std::string bytes = encoded(speech);
  const samples ours = in_child([&] { return codec2::decode(in_tokens); });
  CHECK((ours == in_child([&] { return decoded(bytes); })));
  CHECK(ours.size() == spoken.size());

  // It sounds like the original, 30 ms later.
  CHECK(correlation(envelope(spoken), envelope(std::span(first_decoded).subspan(240))) > 0.85);
  fathom::index unvoiced = 0, voiced = 0;
  for (std::size_t frame = 2; frame < in_tokens.size() / 4; ++frame) {
    const int part = static_cast<int>(static_cast<double>(frame) * 0.04 * 3) % 4;
    const int before = static_cast<int>(static_cast<double>(frame - 2) * 0.04 * 3) % 4;
    if (part == 2 && before == 2) unvoiced += in_tokens[4 * frame + 3] == codec2::unvoiced;
    if (part < 2 && before < 2) voiced += in_tokens[4 * frame + 3] != codec2::unvoiced;
  }
  CHECK(unvoiced > 15);  // of 25 or so
  CHECK(voiced > 55);    // of 60 or so
}

TEST_CASE("codec2 tokens are the bits of c2enc, and sound as c2dec plays them", "[data]") {
  if (std::system("command -v c2enc c2dec >/dev/null 2>&1") != 0) {
    WARN("skipped: there are no programs c2enc and c2dec (package codec2)");
    return;
  }
  const temporary_folder folder;
  const auto speech = fathom::data::to_pcm16(spoken);
  folder.write("in.raw", {reinterpret_cast<const char*>(speech.data()), 2 * speech.size()});
  const auto call =
      fathom::join("cd ", folder.path().string(), " && c2enc 700C in.raw bits && c2dec 700C bits out.raw 2>/dev/null");
  REQUIRE(std::system(call.c_str()) == 0);
  CHECK(folder.read("bits") == packed(in_tokens));
  const auto played = fathom::data::to_pcm16(first_decoded);
  CHECK((folder.read("out.raw") == std::string(reinterpret_cast<const char*>(played.data()), 2 * played.size())));
}

TEST_CASE("codec2 packs a frame with its fields in order, highest bits first", "[data]") {
  using bits = codec2::bits;
  CHECK(codec2::pack({0, 0, 0, 0}) == bits{0, 0, 0, 0});
  CHECK(codec2::pack({256, 0, 0, 0}) == bits{0x80, 0, 0, 0});
  CHECK(codec2::pack({1, 256, 0, 0}) == bits{0, 0xc0, 0, 0});
  CHECK(codec2::pack({0, 1, 8, 0}) == bits{0, 0, 0x60, 0});
  CHECK(codec2::pack({0, 0, 1, 32}) == bits{0, 0, 0x06, 0});
  CHECK(codec2::pack({0, 0, 0, 1}) == bits{0, 0, 0, 0x10});
  for (int i = 0; i < 512; ++i)
    for (const codec2::values v :
         {codec2::values{i, 511 - i, i % 16, i % 64}, {511 - i, i, 15 - i % 16, 63 - i % 64}}) {
      REQUIRE(codec2::unpack(codec2::pack(v)) == v);
      REQUIRE((codec2::pack(v)[3] & 15) == 0);
    }
}

TEST_CASE("codec2 names its tokens for what they sound like", "[data]") {
  CHECK(codec2::vocab == 1104);
  CHECK(codec2::name(17) == "shape 17");
  CHECK(codec2::name(512) == "refinement 0");
  CHECK(codec2::name(1033) == "energy 32.5 dB");
  CHECK(codec2::name(1040) == "unvoiced");
  CHECK(codec2::name(1041) == "pitch 52 Hz");
  CHECK(codec2::name(1103) == "pitch 387 Hz");
  CHECK(codec2_shapes::name(512) == "refinement 0");
  CHECK(codec2::classify(1103) == fathom::data::field_value{codec2::pitch, 63});
  CHECK(fails_with([] { return codec2::name(1104); }, "codec2", "token 1104"));
  CHECK(fails_with([] { return codec2::classify(-1); }, "token -1"));
  CHECK(fails_with([] { return codec2_shapes::name(1024); }, "token 1024"));

  // Energies are libcodec2's up to its own offset, and pitches are audible.
  CODEC2* const coder = codec2_create(CODEC2_MODE_700C);
  for (int energy = 0; energy < 16; ++energy) {
    const auto frame = codec2::pack({0, 0, energy, 1});
    CHECK(10 * std::log10(codec2_get_energy(coder, frame.data())) + 10 ==
          Approx(codec2::decibels(energy)).margin(1e-3));
  }
  codec2_destroy(coder);
  for (const int pitch : {8, 24, 29, 48, 63}) {
    tokens shapes;
    for (int i = 0; i < 30; ++i) shapes.insert(shapes.end(), {100, 612});
    const samples heard = codec2_shapes::decode(shapes, 12, pitch);
    REQUIRE(heard.size() == 30 * 320);
    INFO("pitch " << pitch);
    CHECK(pitch_of(std::span(heard).subspan(1600), codec2::hertz(pitch)) == Approx(codec2::hertz(pitch)).epsilon(0.01));
  }
}

TEST_CASE("codec2 plays whatever a model writes", "[data]") {
  const auto t = [](int shape, int refinement, int energy, int pitch) {
    return tokens{shape, 512 + refinement, 1024 + energy, 1040 + pitch};
  };
  const auto joined = [](std::initializer_list<tokens> parts) {
    tokens all;
    for (const tokens& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  SECTION("a stream that begins and ends inside a frame") {
    const auto f = codec2::frames(joined({{1024 + 3, 1040 + 4}, t(5, 6, 7, 8), t(9, 10, 11, 12), {13, 512 + 14}}));
    CHECK(f.values == tokens{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 11, 12});
    CHECK(f.dropped == 2);
    CHECK(f.filled == 2);
  }
  SECTION("tokens out of their place") {
    // Twice the same field, a field left out, two in the wrong order.
    const auto f = codec2::frames(
        joined({t(1, 2, 3, 4), {5, 6}, {512 + 7, 1024 + 8, 1040 + 9}, {10, 1040 + 11}, {1024 + 12, 512 + 13}}));
    CHECK(f.values == tokens{1, 2, 3, 4, 5, 2, 3, 4, 6, 7, 8, 9, 10, 7, 8, 11, 10, 7, 12, 11, 10, 13, 12, 11});
    CHECK(f.dropped == 0);
    CHECK(f.filled == 3 + 0 + 2 + 3 + 3);
  }
  SECTION("nothing whole") {
    CHECK(codec2::decode({}).empty());
    CHECK(codec2::decode(tokens{1, 2, 1040}).empty());
    CHECK(codec2::frames(tokens{1, 2, 1040}).dropped == 3);
  }
  SECTION("anything at all") {
    fathom::random numbers(7, 0);
    tokens any(20'000);
    for (token& x : any) x = static_cast<token>(numbers.below(codec2::vocab));
    CHECK(codec2::decode(any).size() == codec2::frames(any).values.size() / 4 * 320);
    tokens extremes;
    for (int i = 0; i < 3000; ++i) {
      const auto pick = [&](int largest) { return numbers.below(2) == 0 ? 0 : largest; };
      const tokens frame =
          t(static_cast<int>(numbers.below(512)), static_cast<int>(numbers.below(512)), pick(15), pick(63));
      extremes.insert(extremes.end(), frame.begin(), frame.end());
    }
    const samples played = codec2::decode(extremes);
    CHECK(played.size() == 3000 * 320);
    CHECK(std::all_of(played.begin(), played.end(), [](float x) { return x >= -1 && x < 1; }));
  }
  CHECK(fails_with([] { return codec2::decode(tokens{1, 1104}); }, "codec2", "token 1104 at position 1", "0 to 1103"));
  CHECK(fails_with([] { return codec2::decode(tokens{-1}); }, "token -1"));
}

TEST_CASE("codec2 encodes sound of any length", "[data]") {
  CHECK(codec2::encode({}).empty());
  CHECK(codec2::encode(samples(1)).size() == 4);
  CHECK(codec2::encode(samples(320)).size() == 4);
  CHECK(codec2::encode(samples(321)).size() == 8);
  samples cut(spoken.begin(), spoken.begin() + 1000), filled = cut;
  filled.resize(1280);
  CHECK(codec2::encode(cut) == codec2::encode(filled));
  samples loud(8000);
  for (std::size_t i = 0; i < loud.size(); ++i) loud[i] = i % 50 < 25 ? 1e30f : -1e30f;
  CHECK(codec2::encode(loud).size() == 100);
  cut[500] = std::nanf("");
  CHECK(fails_with([&] { return codec2::encode(cut); }, "codec2::encode", "sample 500 is not a number"));
}

TEST_CASE("codec2_shapes has the shapes of codec2, and plays them in one voice", "[data]") {
  tokens shapes;
  for (std::size_t i = 0; i < in_tokens.size(); i += 4) shapes.insert(shapes.end(), {in_tokens[i], in_tokens[i + 1]});
  CHECK(codec2_shapes::encode(spoken) == shapes);

  tokens full;
  for (std::size_t i = 0; i < shapes.size(); i += 2)
    full.insert(full.end(), {shapes[i], shapes[i + 1], 1024 + 12, 1040 + 29});
  CHECK((in_child([&] { return codec2_shapes::decode(shapes); }) == in_child([&] { return codec2::decode(full); })));
  for (token& x : full)
    if (x >= 1040) x = codec2::unvoiced;
  CHECK((in_child([&] { return codec2_shapes::decode(shapes, 12, 0); }) ==
         in_child([&] { return codec2::decode(full); })));

  CHECK(codec2_shapes::frames(tokens{512, 1, 513, 2, 3, 514}).values == tokens{1, 1, 2, 1, 3, 2});
  CHECK(fails_with([&] { return codec2_shapes::decode(shapes, 16, 0); }, "energy 16"));
  CHECK(fails_with([&] { return codec2_shapes::decode(shapes, 0, -1); }, "pitch -1"));
  CHECK(fails_with([&] { return codec2_shapes::decode(in_tokens); }, "codec2_shapes: token", "0 to 1023"));
}

TEST_CASE("speech reads a folder of recordings, and splits it by file", "[data]") {
  const temporary_folder folder;
  std::vector<tokens> expected;
  for (int i = 0; i < 12; ++i) {
    const samples s = voice(static_cast<std::size_t>(1600 + 320 * (i % 3)), 0.1 * i);
    const auto name = std::to_string(10 + i) + (i % 2 == 0 ? ".wav" : ".WAV");
    std::filesystem::create_directories(folder.path() / std::to_string(i / 5));
    fathom::data::write_wav(folder.path() / std::to_string(i / 5) / name, s, 8000);
    expected.push_back(codec2::encode(fathom::data::from_pcm16(fathom::data::to_pcm16(s))));
  }
  folder.write("10.lab", "a label");
  folder.write(".hidden.wav", "not sound");
  const auto corpus = fathom::data::speech(folder.path(), {.validation = 0.2, .test = 0.1});
  CHECK(corpus.vocab() == codec2::vocab);

  // Every recording is complete, and in one part only.
  std::set<std::size_t> seen;
  for (auto part : {corpus.train(), corpus.validation(), corpus.test()}) {
    CHECK_FALSE(part.empty());
    while (!part.empty()) {
      const auto found = std::find_if(expected.begin(), expected.end(), [&](const tokens& e) {
        return e.size() <= part.size() && std::equal(e.begin(), e.end(), part.begin());
      });
      REQUIRE(found != expected.end());
      CHECK(seen.insert(static_cast<std::size_t>(found - expected.begin())).second);
      part = part.subspan(found->size());
    }
  }
  CHECK(seen.size() == expected.size());

  const auto shapes = fathom::data::speech<codec2_shapes>(folder.path());
  CHECK(shapes.vocab() == 1024);
  CHECK(2 * shapes.all().size() == corpus.all().size());
  const auto one = fathom::data::speech(folder.path() / "0" / "10.wav");
  CHECK((tokens(one.all().begin(), one.all().end()) == expected[0]));

  fathom::data::write_wav(folder.path() / "0" / "10.wav", spoken, 16000);  // played twice as fast, and half as long
  const auto other = fathom::data::speech(folder.path() / "0" / "10.wav");
  CHECK(other.all().size() == in_tokens.size() / 2);
  const auto broken = folder.write("0/99.flac", "not sound");
  CHECK(fails_with([&] { return fathom::data::speech(folder.path()); }, broken.string(), "cannot be read as WAV"));
  const auto rest = fathom::data::speech(folder.path(), {.validation = 0}, {.skip_damaged = true});
  CHECK(rest.all().size() == corpus.all().size() - expected[0].size() + other.all().size());
  std::set<std::string> left_out;
  for (const auto& [file, reason] : rest.skipped())
    left_out.insert(file.filename().string() + " " + reason.substr(0, 18));
  CHECK(left_out ==
        std::set<std::string>{".hidden.wav is hidden", "10.lab is of another kind", "99.flac cannot be read as "});
  std::filesystem::remove(broken);
  // Other sound files are read, too.
  for (const auto& [name, format] : {std::pair{"2/a.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III},
                                     {"2/b.Opus", SF_FORMAT_OGG | SF_FORMAT_OPUS},
                                     {"2/c.aif", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
                                     {"2/d.w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16}}) {
    SF_INFO info{};
    info.format = format, info.channels = 1, info.samplerate = 8000;
    SNDFILE* const file = sf_open((folder.path() / name).c_str(), SFM_WRITE, &info);
    REQUIRE(file != nullptr);
    CHECK(sf_write_float(file, spoken.data(), 3200) == 3200);
    CHECK(sf_close(file) == 0);
  }
  const auto more = fathom::data::speech(folder.path(), {.validation = 0});
  CHECK(more.all().size() == rest.all().size() + 4 * 40);
  CHECK(more.skipped().size() == 2);
  // Sound files that libsndfile cannot read are not ignored.
  const auto unknown = folder.write("1/a.m4a", "sound for others");
  CHECK(fails_with([&] { return fathom::data::speech(folder.path()); }, unknown.string(), "cannot be read as WAV"));
  const temporary_folder none;
  none.write("a.txt", "text");
  CHECK(fails_with([&] { return fathom::data::speech(none.path()); }, none.path().string(), ".wav, .wave, ", ".mp3"));
  CHECK(fails_with([&] { return fathom::data::speech(none.path() / "none"); }, "No such file"));
}
