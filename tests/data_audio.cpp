// Sound files: what is read of them, what is written, sines at other rates, and files that are damaged or lie.
#include <sndfile.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include <fathom/core/random.hpp>
#include <fathom/data/audio.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

/// libsndfile 1.2.0 loses some kilobytes when it cannot open an Ogg file, through sf_open just as well.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:vorbis_info_init\n"; }

namespace {

using fathom::data::read_audio;
using fathom::data::resample;
using fathom::data::write_wav;
using samples = std::vector<float>;

samples sine(double hertz, int rate, std::size_t count, double level = 0.5) {
  samples s(count);
  for (std::size_t i = 0; i < count; ++i)
    s[i] = static_cast<float>(level * std::sin(2 * std::numbers::pi * hertz * static_cast<double>(i) / rate));
  return s;
}

/// The level of a sine of this frequency in the middle of some samples, and of all that is left without it.
struct level {
  double sine, rest;
};
level level_of(const samples& s, double hertz, int rate) {
  // Whole periods of whole hertz: the middle second, over which sine and cosine are orthogonal.
  const auto count = static_cast<std::size_t>(rate), first = (s.size() - count) / 2;
  double a = 0, b = 0, all = 0;
  for (std::size_t i = first; i < first + count; ++i) {
    const double x = static_cast<double>(s[i]), phase = 2 * std::numbers::pi * hertz * static_cast<double>(i) / rate;
    a += 2 * x * std::sin(phase) / rate, b += 2 * x * std::cos(phase) / rate, all += 2 * x * x / rate;
  }
  return {std::hypot(a, b), std::sqrt(std::max(0.0, all - a * a - b * b))};
}

/// A file of samples [frames, channels], written by libsndfile without the library's help.
std::filesystem::path write(const std::filesystem::path& path, int format, int channels, int rate, const samples& s) {
  SF_INFO info{};
  info.format = format, info.channels = channels, info.samplerate = rate;
  SNDFILE* const file = sf_open(path.c_str(), SFM_WRITE, &info);
  REQUIRE(file != nullptr);
  const int kind = format & SF_FORMAT_SUBMASK;
  if (kind == SF_FORMAT_FLOAT || kind == SF_FORMAT_DOUBLE || kind == SF_FORMAT_VORBIS) {
    CHECK(sf_write_float(file, s.data(), std::ssize(s)) == std::ssize(s));
  } else {  // by shifting, which is exact
    std::vector<int> numbers;
    for (const float x : s) numbers.push_back(static_cast<int>(std::lround(static_cast<double>(x) * 32768)) * 65536);
    CHECK(sf_write_int(file, numbers.data(), std::ssize(numbers)) == std::ssize(numbers));
  }
  CHECK(sf_close(file) == 0);
  return path;
}

/// A WAV file by hand: canonical header, with these numbers in it whether true or not.
std::string wav(std::uint16_t format, std::uint16_t channels, std::uint32_t rate, std::uint16_t bits,
                std::uint32_t data_size, const std::string& data) {
  std::string file = "RIFF";
  const auto number = [&](auto n) { file.append(reinterpret_cast<const char*>(&n), sizeof n); };
  const auto frame = static_cast<std::uint16_t>(channels * bits / 8);
  number(36 + data_size);
  file += "WAVEfmt ";
  number(std::uint32_t{16}), number(format), number(channels), number(rate), number(rate * frame), number(frame),
      number(bits);
  file += "data";
  number(data_size);
  return file + data;
}
template <class Number>
std::string bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

}  // namespace

TEST_CASE("write_wav writes what others read", "[data]") {
  const temporary_folder folder;
  const auto path = folder.path() / "a.wav";
  const std::vector<std::int16_t> numbers{0, 1, -1, 12345, -32768, 32767};
  samples s;
  for (const std::int16_t n : numbers) s.push_back(static_cast<float>(n) / 32768);
  write_wav(path, s, 8000);
  CHECK(folder.read("a.wav") == wav(1, 1, 8000, 16, 12, bytes_of(numbers)));
  CHECK(read_audio(path).samples == s);
  CHECK(read_audio(path).rate == 8000);

  SECTION("such as Python") {
    const std::string program =
        "import sys, wave\n"
        "with wave.open(sys.argv[1]) as w:\n"
        "  assert w.getparams()[:4] == (1, 2, 8000, 6), w.getparams()\n"
        "  assert w.readframes(6) == bytes.fromhex('00000100ffff39300080ff7f')\n";
    const auto call = fathom::join("python3 ", folder.write("read.py", program).string(), " ", path.string());
    if (std::system("python3 -c 'import wave' >/dev/null 2>&1") != 0)
      WARN("skipped: there is no python3 with the module wave");
    else
      CHECK(std::system(call.c_str()) == 0);
  }
  SECTION("clipped and rounded to the nearest") {
    write_wav(path, samples{1, -1, 7, -7, 1.4f / 32768, 1.6f / 32768, std::numeric_limits<float>::infinity()}, 44100);
    CHECK(folder.read("a.wav").substr(44) ==
          bytes_of(std::vector<std::int16_t>{32767, -32768, 32767, -32768, 1, 2, 32767}));
    CHECK(read_audio(path).rate == 44100);
  }
  SECTION("no samples") {
    write_wav(path, {}, 8000);
    CHECK(folder.read("a.wav") == wav(1, 1, 8000, 16, 0, ""));
    CHECK(read_audio(path, 16000).samples.empty());
  }
  SECTION("and what cannot be written leaves the file as it was") {
    const samples bad{0, std::nanf("")};
    CHECK(fails_with([&] { write_wav(path, bad, 8000); }, path.string(), "sample 1 is not a number"));
    CHECK(fails_with([&] { write_wav(path, s, 0); }, path.string(), "0 samples a second"));
    CHECK(read_audio(path).samples == s);
    CHECK(fails_with([&] { write_wav(folder.path() / "none" / "a.wav", s, 8000); }, "cannot be written"));
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
  }
}

TEST_CASE("read_audio reads all kinds of files", "[data]") {
  const temporary_folder folder;
  samples s;  // multiples of 2^-7, which 8 bits hold
  for (int i = -128; i < 128; ++i) s.push_back(static_cast<float>(i * 37 % 128) / 128);
  for (const int format :
       {SF_FORMAT_WAV | SF_FORMAT_PCM_U8, SF_FORMAT_WAV | SF_FORMAT_PCM_24, SF_FORMAT_WAV | SF_FORMAT_FLOAT,
        SF_FORMAT_WAV | SF_FORMAT_DOUBLE, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, SF_FORMAT_FLAC | SF_FORMAT_PCM_24,
        SF_FORMAT_AIFF | SF_FORMAT_PCM_16}) {
    INFO("format " << format);
    const auto read = read_audio(write(folder.path() / "a", format, 1, 11025, s));
    CHECK((read.samples == s));
    CHECK(read.rate == 11025);
  }
  SECTION("the mean of all channels") {
    samples three, mean;
    for (const float x : s) {
      three.insert(three.end(), {x, 0.5f, -x / 2});
      mean.push_back(static_cast<float>((static_cast<double>(x) + 0.5 - static_cast<double>(x) / 2) / 3));
    }
    CHECK(read_audio(write(folder.path() / "a.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, 3, 8000, three)).samples == mean);
  }
  SECTION("more than a block") {
    const samples long_one = sine(440, 8000, 100'000);
    CHECK(read_audio(write(folder.path() / "a.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, 1, 8000, long_one)).samples ==
          long_one);
  }
  SECTION("Vorbis, nearly") {
    const auto read = read_audio(
        write(folder.path() / "a.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 1, 16000, sine(440, 16000, 32000)), 8000);
    CHECK(read.samples.size() == 16000);
    CHECK(level_of(read.samples, 440, 8000).sine == Approx(0.5).epsilon(0.02));
    CHECK(level_of(read.samples, 440, 8000).rest < 0.02);
  }
}

TEST_CASE("another rate keeps the sines that it can hold, and no others", "[data]") {
  for (const auto& [from, to, hertz] : {std::tuple{16000, 8000, 440},
                                        {16000, 8000, 3400},
                                        {44100, 8000, 1000},
                                        {48000, 8000, 3000},
                                        {8000, 16000, 3000},
                                        {11025, 8000, 300}}) {
    INFO(hertz << " Hz, from " << from << " to " << to);
    const auto count = static_cast<std::size_t>(2 * from + 17);
    const samples s = resample(sine(hertz, from, count), from, to);
    CHECK(std::abs(static_cast<double>(s.size()) - static_cast<double>(count) * to / from) <= 1);
    const level l = level_of(s, hertz, to);
    CHECK(l.sine == Approx(0.5).epsilon(1e-3));
    CHECK(l.rest < 5e-5);  // 80 dB below
  }
  for (const int hertz : {4500, 5000, 7000})  // would come out as 3500, 3000 and 1000 Hz
    CHECK(level_of(resample(sine(hertz, 16000, 32000), 16000, 8000), 8000 - hertz, 8000).sine < 5e-5);
  CHECK(resample(samples{1, 2, 3}, 8000, 8000) == samples{1, 2, 3});
  CHECK(resample(samples{}, 8000, 16000).empty());
  CHECK(resample(samples{1}, 16000, 8000).size() <= 1);

  // In time, too: a click stays where it is.
  samples click(16000);
  click[10000] = 1;
  const samples half = resample(click, 16000, 8000);
  CHECK(std::max_element(half.begin(), half.end()) - half.begin() == 5000);

  CHECK(fails_with([] { return resample(samples{1}, 0, 8000); }, "from 0 to 8000"));
  CHECK(fails_with([] { return resample(samples{1}, 8000, -1); }, "from 8000 to -1"));
  CHECK(fails_with([] { return resample(samples{1}, 8, 8000); }, "at most 256 times"));
  CHECK(fails_with([] { return resample(samples(std::size_t{1} << 23), 100, 25000); }, "1073741824 at most"));
}

TEST_CASE("read_audio refuses what is not sound, and believes no header", "[data]") {
  const temporary_folder folder;
  const auto refused = [&](const std::string& contents, const std::string& reason) {
    const auto path = folder.write("a.wav", contents);
    return fails_with([&] { return read_audio(path, 8000); }, path.string(), reason);
  };
  CHECK(refused("", "cannot be read as WAV"));
  CHECK(refused("some text, and no sound at all in it", "cannot be read as WAV"));
  CHECK(fails_with([&] { return read_audio(folder.path()); }, "is not a file"));
  CHECK(fails_with([&] { return read_audio(folder.path() / "none.wav"); }, "none.wav", "No such file"));
  const std::string zeros(64, '\0');
  CHECK(fails_with([&] { return read_audio(folder.write("b.wav", wav(1, 1, 8000, 16, 64, zeros)), -1); },
                   "at -1 samples"));
  CHECK(refused(wav(1, 0, 8000, 16, 64, zeros), ""));
  CHECK(refused(wav(1, 65535, 8000, 16, 64, zeros), ""));
  CHECK(refused(wav(1, 1, 0, 16, 64, zeros), ""));
  CHECK(refused(wav(1, 1, 4'000'000'000, 16, 64, zeros), ""));
  CHECK(refused(wav(1, 1, 2'100'000, 16, 64, zeros), "2100000 samples a second, which cannot become 8000"));
  CHECK(refused(wav(1, 1, 31, 16, 64, zeros), "31 samples a second"));
  CHECK(refused(wav(77, 1, 8000, 16, 64, zeros), ""));

  const float nan = std::nanf(""), infinite = std::numeric_limits<float>::infinity();
  CHECK(refused(wav(3, 1, 8000, 32, 12, bytes_of(samples{0, nan, 0})), "sample 1 is infinite or not a number"));
  CHECK(refused(wav(3, 1, 8000, 32, 12, bytes_of(samples{0, 0, -infinite})), "sample 2 is infinite or not a number"));
  CHECK(refused(wav(3, 2, 8000, 32, 16, bytes_of(samples{0, 0, infinite, -infinite})), "sample 1 is infinite"));

  // 4 GB announced, and W64's 2^60: only what is there is read.
  const auto short_one = folder.write("c.wav", wav(1, 1, 8000, 16, 0xffffff00, zeros));
  CHECK(read_audio(short_one).samples == samples(32));
  const auto path = write(folder.path() / "d.w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16, 1, 8000, samples(32));
  std::string w64 = folder.read("d.w64");
  const auto data = w64.find("data");
  REQUIRE(data != std::string::npos);
  const std::uint64_t huge = std::uint64_t{1} << 60;
  std::memcpy(w64.data() + data + 16, &huge, 8);
  folder.write("d.w64", w64);
  try {
    CHECK(read_audio(path).samples.size() <= 32);
  } catch (const fathom::error& error) {
    CHECK(std::string(error.what()).find("d.w64") != std::string::npos);
  }
}

TEST_CASE("a damaged sound file is refused or read within its bounds", "[data]") {
  const temporary_folder folder;
  fathom::random numbers(1, 0);
  samples s = sine(300, 8000, 1200);
  for (float& x : s) x += 0.1f * (static_cast<float>(numbers.below(1000)) / 1000 - 0.5f);
  for (const auto& [name, format] : {std::pair{"a.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
                                     {"b.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT},
                                     {"c.wav", SF_FORMAT_WAV | SF_FORMAT_MS_ADPCM},
                                     {"a.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
                                     {"a.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS}}) {
    INFO(name);
    write(folder.path() / name, format, 1, 8000, s);
    const std::string whole = folder.read(name);
    int read = 0, refused = 0;
    const auto attempt = [&](const std::string& contents) {
      const auto path = folder.write("damaged", contents);
      try {
        const auto found = read_audio(path);
        ++read;
        for (const float x : found.samples)
          if (!std::isfinite(x)) FAIL("sample " << x);
      } catch (const fathom::error& error) {
        ++refused;
        if (std::string(error.what()).find("damaged: ") == std::string::npos) FAIL(error.what());
      }
      std::filesystem::remove(path);  // writing over a file may wait for the disk
    };
    for (std::size_t length = 0; length < whole.size(); length += length < 256 ? 1 : whole.size() / 64)
      attempt(whole.substr(0, length));
    for (int i = 0; i < 400; ++i) {
      std::string damaged = whole;
      const fathom::index reach = i % 2 == 0 ? 128 : std::ssize(whole);  // headers above all
      for (fathom::index n = 1 + numbers.below(3); n > 0; --n)
        damaged[static_cast<std::size_t>(numbers.below(std::min(reach, std::ssize(whole))))] =
            static_cast<char>(numbers.below(4) == 0 ? 255 : numbers.below(256));
      attempt(damaged);
    }
    CHECK(read > 0);
    CHECK(refused > 40);
  }
}
