// Sound files: reading, writing, sines at other rates, and files that are damaged or lie.
#include <sndfile.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
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

/// The level of a sine of this frequency in the middle of some samples, and of the rest.
struct level {
  double sine, rest;
};
level level_of(const samples& s, double hertz, int rate) {
  // The middle second has whole periods of whole hertz, so sine and cosine are orthogonal.
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

/// The bytes of such a file.
std::string written(int format, int channels, int rate, const samples& s) {
  const temporary_folder folder;
  write(folder.path() / "a", format, channels, rate, s);
  return folder.read("a");
}

/// A WAV file by hand: canonical header with these numbers, true or not.
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
/// The same bytes with a number at a place.
std::string with(std::string bytes, std::size_t at, std::size_t count, std::uint64_t number, bool big_endian = false) {
  REQUIRE(at + count <= bytes.size());
  for (std::size_t i = 0; i < count; ++i, number >>= 8)
    bytes[at + (big_endian ? count - 1 - i : i)] = static_cast<char>(number & 0xff);
  return bytes;
}
std::string with_text(std::string bytes, std::size_t at, const std::string& text) {
  return bytes.replace(at, text.size(), text);
}

/// Where the pages of an Ogg file begin, and its end.
std::vector<std::size_t> ogg_pages(const std::string& file) {
  std::vector<std::size_t> pages{0};
  while (pages.back() < file.size()) {
    const std::size_t at = pages.back(), segments = static_cast<unsigned char>(file.at(at + 26));
    std::size_t length = 27 + segments;
    for (std::size_t i = 0; i < segments; ++i) length += static_cast<unsigned char>(file.at(at + 27 + i));
    pages.push_back(at + length);
  }
  return pages;
}
/// A page with its checksum (RFC 3533), bit by bit.
std::string with_checksum(std::string page) {
  page = with(page, 22, 4, 0);
  std::uint32_t sum = 0;
  for (const char byte : page)
    for (int bit = 7; bit >= 0; --bit) {
      const bool top = (sum >> 31 != 0) != ((static_cast<unsigned char>(byte) >> bit & 1) != 0);
      sum = sum << 1 ^ (top ? 0x04c11db7u : 0u);
    }
  return with(page, 22, 4, sum);
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
  CHECK(refused("version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer"));
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

  // 4 GB announced, and W64's 2^60: only existing data is read.
  const auto short_one = folder.write("c.wav", wav(1, 1, 8000, 16, 0xffffff00, zeros));
  CHECK(read_audio(short_one).samples == samples(32));
  const auto path = write(folder.path() / "d.w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16, 1, 8000, samples(32));
  std::string w64 = folder.read("d.w64");
  const auto data = w64.find("data");
  REQUIRE(data != std::string::npos);
  const std::uint64_t huge = std::uint64_t{1} << 60;
  std::memcpy(w64.data() + data + 16, &huge, 8);
  folder.write("d.w64", w64);
  CHECK(fails_with([&] { return read_audio(path); }, "d.w64: is cut short", "and 64 follow"));
}

TEST_CASE("a damaged sound file is refused or read within its bounds", "[data]") {
  const temporary_folder folder;
  fathom::random numbers(1, 0);
  samples s = sine(300, 8000, 1200);
  for (float& x : s) x += 0.1f * (static_cast<float>(numbers.below(1000)) / 1000 - 0.5f);
  for (const auto& [name, format] : {std::pair{"a.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
                                     {"b.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT},
                                     {"c.wav", SF_FORMAT_WAV | SF_FORMAT_MS_ADPCM},
                                     {"a.rf64", SF_FORMAT_RF64 | SF_FORMAT_PCM_16},
                                     {"a.w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16},
                                     {"a.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
                                     {"a.caf", SF_FORMAT_CAF | SF_FORMAT_PCM_16},
                                     {"a.au", SF_FORMAT_AU | SF_FORMAT_PCM_16},
                                     {"a.sph", SF_FORMAT_NIST | SF_FORMAT_PCM_16},
                                     {"a.voc", SF_FORMAT_VOC | SF_FORMAT_PCM_16},
                                     {"a.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
                                     {"a.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
                                     {"a.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III}}) {
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
    for (int i = 0; i < 200; ++i) {
      std::string damaged = whole;
      const fathom::index reach = i % 2 == 0 ? 128 : std::ssize(whole);  // headers above all
      for (fathom::index n = 1 + numbers.below(3); n > 0; --n)
        damaged[static_cast<std::size_t>(numbers.below(std::min(reach, std::ssize(whole))))] =
            static_cast<char>(numbers.below(4) == 0 ? 255 : numbers.below(256));
      attempt(damaged);
    }
    CHECK((read > 0 || name == std::string("a.ogg")));  // whose pages have checksums
    CHECK(refused > 30);
  }
}

TEST_CASE("sounds whose length was not known when they were written are read to their end", "[data]") {
  const temporary_folder folder;
  std::vector<std::int16_t> numbers;
  samples expected;
  for (int i = 0; i < 1000; ++i) {
    numbers.push_back(static_cast<std::int16_t>(i * 37 % 2000 - 1000));
    expected.push_back(static_cast<float>(numbers.back()) / 32768);
  }
  const auto check = [&](const std::string& contents) {
    const auto read = read_audio(folder.write("a", contents));
    CHECK(read.rate == 8000);
    return read.samples == expected;
  };
  const std::string plain = wav(1, 1, 8000, 16, 2000, bytes_of(numbers));
  const std::uint32_t ones = 0xffffffff;

  SECTION("WAV") {
    // RIFF's size, data's. All ones: ffmpeg; 0x7ffff000: sox; 0x80000000: arecord; and others.
    for (const auto& [whole, data] : std::vector<std::pair<std::uint32_t, std::uint32_t>>{{ones, ones},
                                                                                          {0, 0},
                                                                                          {ones, 0},
                                                                                          {0, ones},
                                                                                          {ones, 2000},
                                                                                          {0, 2000},
                                                                                          {2036, ones},
                                                                                          {2036, 0},
                                                                                          {36, 0},
                                                                                          {35, ones},
                                                                                          {8, 0},
                                                                                          {0x7ffff024, 0x7ffff000},
                                                                                          {0x80000024, 0x80000000},
                                                                                          {0x7fffffff, 0x7fffffdb},
                                                                                          {ones, ones - 36},
                                                                                          {0x7fffff24, 0x7fffff00}}) {
      INFO("RIFF " << whole << ", data " << data);
      const std::string header = with(with(plain, 4, 4, whole), 40, 4, data);
      CHECK(check(header));
      // The same with chunks before the samples, as ffmpeg and others write them.
      const std::string list("LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf59.27.100\0", 34),
          fact("fact\4\0\0\0\xff\xff\xff\xff", 12);
      const bool is_known = whole == 2036;
      CHECK(check(with(header.substr(0, 36) + list + header.substr(36), 4, 4, is_known ? 2070 : whole)));
      CHECK(check(with(header.substr(0, 36) + fact + header.substr(36), 4, 4, is_known ? 2048 : whole)));
    }
    // Of two channels, in frames of 6 bytes: sox rounds to whole ones.
    const std::string stereo = written(SF_FORMAT_WAV | SF_FORMAT_PCM_24, 2, 8000, samples(200, 0.25f));
    const auto data = stereo.find("data");
    CHECK(read_audio(folder.write("b", with(stereo, data + 4, 4, 0x7ffff000 / 6 * 6))).samples == samples(100, 0.25f));
    // Big-endian.
    const std::string big = written(SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG, 1, 8000, expected);
    REQUIRE(big.starts_with("RIFX"));
    for (const std::uint32_t size : {0u, ones})
      CHECK(check(with(with(big, 4, 4, size, true), big.find("data") + 4, 4, size, true)));
    // 8 bits, IMA ADPCM: an odd number of bytes, and blocks.
    const std::string ima = written(SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, 1, 8000, expected);
    const auto whole = read_audio(folder.write("c", ima)).samples;
    CHECK(read_audio(folder.write("c", with(ima, ima.find("data") + 4, 4, ones))).samples == whole);
    CHECK(read_audio(folder.write("c", with(ima, ima.find("data") + 4, 4, 0))).samples == whole);
    CHECK(read_audio(folder.write("d", with(wav(1, 1, 8000, 8, 0, "odd"), 4, 4, 0))).samples.size() == 3);
  }
  SECTION("WAV that is empty is not unknown") {
    CHECK(read_audio(folder.write("a", wav(1, 1, 8000, 16, 0, ""))).samples.empty());
    const std::string list("LIST\x0e\0\0\0INFOICMT\2\0\0\0hi", 22);
    CHECK(read_audio(folder.write("a", wav(1, 1, 8000, 16, 0, list))).samples.empty());
    CHECK(read_audio(folder.write("a", wav(1, 1, 8000, 16, 0, list + list))).samples.empty());
    CHECK(read_audio(folder.write("a", wav(1, 1, 8000, 16, 0, list + "x"))).samples.size() == 11);
    CHECK(check(plain + list));
  }
  SECTION("RF64, BW64") {
    const std::string rf64 = written(SF_FORMAT_RF64 | SF_FORMAT_PCM_16, 1, 8000, expected);
    const auto sizes = rf64.find("ds64") + 8, data = rf64.find("data") + 4;
    const std::uint64_t all = ~std::uint64_t{0};
    REQUIRE(rf64.starts_with("RF64"));
    for (const char* name : {"RF64", "BW64"}) {
      const std::string whole = with_text(rf64, 0, name);
      CHECK(check(whole));
      CHECK(check(with(whole, data, 4, 0)));  // the size is in ds64
      CHECK(check(with(whole, data, 4, 2000)));
      for (const std::uint64_t size : {std::uint64_t{0}, all})
        for (const std::uint32_t narrow : {0u, ones})
          CHECK(check(
              with(with(with(with(whole, sizes, 8, size), sizes + 8, 8, size), sizes + 16, 8, size), data, 4, narrow)));
      CHECK(check(with_text(whole, sizes - 8, "JUNK")));  // no ds64 at all
    }
  }
  SECTION("W64") {
    const std::string w64 = written(SF_FORMAT_W64 | SF_FORMAT_PCM_16, 1, 8000, expected);
    const auto data = w64.find("data") + 16;
    for (const std::uint64_t size : {std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{0} / 2, std::uint64_t{24}})
      for (const std::uint64_t riff : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{w64.size()}})
        CHECK(check(with(with(w64, data, 8, size), 16, 8, riff)));
  }
  SECTION("AIFF") {
    for (const int kind : {SF_FORMAT_PCM_16, SF_FORMAT_FLOAT}) {
      const std::string aiff = written(SF_FORMAT_AIFF | kind, 1, 8000, expected);
      const auto common = aiff.find("COMM") + 10, data = aiff.find("SSND") + 4;
      // ffmpeg 0; all ones; sox 0x7f000000 / 2 frames.
      for (const std::uint32_t size : {0u, ones, 0x7f000008u, 8u})
        CHECK(check(with(with(with(aiff, 4, 4, size, true), common, 4, size / 2, true), data, 4, size, true)));
    }
  }
  SECTION("CAF, AU") {
    const std::string caf = written(SF_FORMAT_CAF | SF_FORMAT_PCM_16, 1, 8000, expected);
    for (const std::uint64_t size : {~std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{4}})
      CHECK(check(with(caf, caf.find("data") + 4, 8, size, true)));
    const std::string au = written(SF_FORMAT_AU | SF_FORMAT_PCM_16, 1, 8000, expected);
    CHECK(check(with(au, 8, 4, ones, true)));
    CHECK(check(with(au, 8, 4, 0, true)));
    const std::string little = written(SF_FORMAT_AU | SF_FORMAT_PCM_16 | SF_ENDIAN_LITTLE, 1, 8000, expected);
    CHECK(check(with(little, 8, 4, ones)));
  }
  SECTION("FLAC") {
    const std::string flac = written(SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 1, 8000, expected);
    // STREAMINFO: 36 bits of the number of samples end at byte 26, the MD5 sum at 42.
    std::string pipe = with(with_text(flac, 26, std::string(16, '\0')), 22, 4, 0);
    pipe[21] = static_cast<char>(pipe[21] & 0xf0);
    CHECK(check(pipe));
    for (std::size_t cut = 1; cut < flac.size() - 42; cut += 3)
      if (flac.size() - cut != 86)  // nothing at all is no less than what it announces
        CHECK(fails_with([&] { return read_audio(folder.write("a", pipe.substr(0, pipe.size() - cut))); }, "a: "));
  }
}

TEST_CASE("what other software writes to pipes is read", "[data]") {
  samples expected;
  for (int i = 0; i < 200; ++i) expected.push_back(static_cast<float>(i * 37 % 2000 - 1000) / 32768);
  const std::filesystem::path folder = std::filesystem::path(FATHOM_GOLDEN) / "sound";
  for (const char* name : {"ffmpeg_pipe.aiff", "ffmpeg_pipe.rf64", "ffmpeg_pipe.w64", "ffmpeg_pipe.wav",
                           "flac_pipe.flac", "flac_pipe.oga", "sox_pipe.aiff", "sox_pipe.wav"}) {
    INFO(name);
    CHECK(read_audio(folder / name).samples == expected);
    CHECK(read_audio(folder / name).rate == 8000);
  }
  // Frames of sound, and nothing that says how many: layer II, and layer III, less the delay of the decoder.
  CHECK(read_audio(folder / "ffmpeg_pipe.mp2").samples.size() == 4 * 1152);
  CHECK(read_audio(folder / "lame_pipe.mp3").samples.size() == 9 * 576 - 529);
}

TEST_CASE("a sound that is cut short is an error, wherever it is cut", "[data]") {
  const temporary_folder folder;
  fathom::random numbers(3, 0);
  samples s = sine(300, 16000, 6000);
  for (float& x : s) x += 0.2f * (static_cast<float>(numbers.below(1000)) / 1000 - 0.5f);
  for (const auto& [name, format] : {std::pair{"wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
                                     {"float.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT},
                                     {"ima.wav", SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM},
                                     {"ulaw.wav", SF_FORMAT_WAV | SF_FORMAT_ULAW},
                                     {"rifx.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG},
                                     {"rf64", SF_FORMAT_RF64 | SF_FORMAT_PCM_16},
                                     {"w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16},
                                     {"aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
                                     {"aifc", SF_FORMAT_AIFF | SF_FORMAT_FLOAT},
                                     {"8svx", SF_FORMAT_SVX | SF_FORMAT_PCM_16},
                                     {"caf", SF_FORMAT_CAF | SF_FORMAT_PCM_16},
                                     {"alac.caf", SF_FORMAT_CAF | SF_FORMAT_ALAC_16},
                                     {"au", SF_FORMAT_AU | SF_FORMAT_PCM_16},
                                     {"sph", SF_FORMAT_NIST | SF_FORMAT_PCM_16},
                                     {"voc", SF_FORMAT_VOC | SF_FORMAT_PCM_16},
                                     {"flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
                                     {"ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
                                     {"opus", SF_FORMAT_OGG | SF_FORMAT_OPUS},
                                     {"mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III}}) {
    const std::string whole = written(format, 1, 16000, s);
    const auto expected = read_audio(folder.write("whole", whole)).samples;
    CHECK(expected.size() >= s.size());
    int read = 0, refused = 0;
    for (std::size_t length = 0; length < whole.size(); length += length + 100 < whole.size() ? 97 : 1) {
      INFO(name << " of " << whole.size() << " bytes, cut after " << length);
      const auto path = folder.write("cut", whole.substr(0, length));
      try {
        const bool is_whole = read_audio(path).samples == expected;
        CHECK(is_whole);  // what is gone is silence that encoders add
        ++read;
      } catch (const fathom::error& error) {
        CHECK(std::string(error.what()).find(path.string() + ": ") == 0);
        ++refused;
      }
      std::filesystem::remove(path);  // writing over a file may wait for the disk
    }
    INFO(name);
    CHECK(refused > 40);
    CHECK(read < 5);
  }
  const auto path = folder.write("a.wav", wav(1, 1, 8000, 16, 64, std::string(60, '\0')));
  CHECK(fails_with([&] { return read_audio(path); }, path.string(), "announces 64 bytes of samples, and 60 follow"));
  // Of unknown length, but RIFF's size reveals missing data.
  CHECK(fails_with(
      [&] { return read_audio(folder.write("b.wav", with(wav(1, 1, 8000, 16, 64, std::string(60, '\0')), 40, 4, 0))); },
      "announces 108 bytes, and has 104"));
}

TEST_CASE("several sounds in one file are all read, or an error", "[data]") {
  const temporary_folder folder;
  const samples one = sine(440, 16000, 8000), two = sine(1000, 16000, 9000);
  const auto read = [&](const std::string& contents, int rate = 0) {
    return read_audio(folder.write("a", contents), rate);
  };
  const auto joined = [](samples a, const samples& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  constexpr int vorbis = SF_FORMAT_OGG | SF_FORMAT_VORBIS, opus = SF_FORMAT_OGG | SF_FORMAT_OPUS;
  for (const int format :
       {vorbis, opus, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III}) {
    INFO("format " << std::hex << format);
    const std::string a = written(format, 1, 16000, one), b = written(format, 1, 16000, two);
    const auto first = read(a), second = read(b);
    CHECK((first.samples.size() == one.size() && second.samples.size() == two.size()));
    const auto both = read(a + b);
    CHECK(both.rate == first.rate);
    CHECK((both.samples == joined(first.samples, second.samples)));
    CHECK((read(a + b + a).samples == joined(both.samples, first.samples)));
    CHECK(level_of(both.samples, 440, both.rate).rest > 0.1);
    // The second one cut short.
    CHECK(fails_with([&] { return read((a + b).substr(0, a.size() + b.size() * 2 / 3)); }, "a: "));
  }
  SECTION("FLAC in Ogg, too, which libsndfile does not read") {
    std::ifstream file(std::filesystem::path(FATHOM_GOLDEN) / "sound/flac_pipe.oga", std::ios::binary);
    const std::string a{std::istreambuf_iterator<char>(file), {}}, b = written(vorbis, 1, 8000, one);
    const auto first = read(a).samples, second = read(b).samples;
    CHECK(first.size() == 200);
    CHECK((read(a + b + a).samples == joined(joined(first, second), first)));
    for (std::size_t length = 4; length < a.size(); ++length)
      CHECK(fails_with([&] { return read(a.substr(0, length)); }, "a: is cut short"));
  }
  SECTION("with other rates, channels and codecs") {
    const std::string a = written(vorbis, 1, 16000, one), b = written(vorbis, 2, 8000, sine(440, 16000, 8000)),
                      c = written(opus, 1, 48000, sine(440, 48000, 24000));
    const auto first = read(a).samples, second = read(b).samples, third = read(c).samples;
    CHECK((second.size() == 4000 && third.size() == 24000));
    const auto all = read(a + b + c);
    CHECK(all.rate == 16000);
    CHECK((all.samples == joined(joined(first, resample(second, 8000, 16000)), resample(third, 48000, 16000))));
    CHECK((read(b + a, 8000).samples == joined(second, resample(first, 16000, 8000))));
  }
  SECTION("MP3 with tags, and without a length") {
    const std::string mp3 = written(SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 1, 16000, one);
    const std::string id3 = "ID3" + std::string("\3\0\0\0\0\1\0", 7) + std::string(128, '\0');
    const auto once = read(mp3).samples;
    CHECK((read(id3 + mp3).samples == once));
    CHECK((read(mp3 + "TAG" + std::string(125, ' ')).samples == once));
    CHECK((read(id3 + mp3 + id3 + mp3).samples == joined(once, once)));
    // The first frame, with the stream's length, is optional. But without it the start of the sound is unknown.
    const auto tag = mp3.find("Info") != std::string::npos ? mp3.find("Info") : mp3.find("Xing");
    REQUIRE(tag != std::string::npos);
    const auto next = mp3.find(mp3.substr(0, 2), tag);
    const auto bare = read(mp3.substr(next)).samples;
    CHECK(bare.size() >= once.size() - 529);  // the decoder's delay, which it takes off
    CHECK((read(mp3 + mp3.substr(next)).samples == joined(once, bare)));
  }
  SECTION("MP3 in WAV") {
    const std::string mp3 = written(SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 1, 16000, one);
    const auto once = read(mp3).samples;
    for (const std::uint32_t size : {static_cast<std::uint32_t>(mp3.size()), 0xffffffffu, 0u})
      CHECK((read(with(wav(0x55, 1, 16000, 0, size, mp3), 4, 4, 0xffffffff)).samples == once));
    CHECK(fails_with([&] { return read(wav(0x55, 1, 16000, 0, static_cast<std::uint32_t>(mp3.size() + 1), mp3)); },
                     "is cut short"));
    CHECK((read(wav(0x50, 1, 16000, 0, static_cast<std::uint32_t>(2 * mp3.size()), mp3 + mp3)).samples ==
           joined(once, once)));
  }
  SECTION("other containers") {
    for (const int format :
         {SF_FORMAT_WAV | SF_FORMAT_PCM_16, SF_FORMAT_RF64 | SF_FORMAT_PCM_16, SF_FORMAT_W64 | SF_FORMAT_PCM_16,
          SF_FORMAT_AIFF | SF_FORMAT_PCM_16, SF_FORMAT_CAF | SF_FORMAT_PCM_16, SF_FORMAT_AU | SF_FORMAT_PCM_16,
          SF_FORMAT_NIST | SF_FORMAT_PCM_16, SF_FORMAT_VOC | SF_FORMAT_PCM_16}) {
      INFO("format " << std::hex << format);
      const std::string a = written(format, 1, 16000, one);
      CHECK(fails_with([&] { return read(a + a); }, "goes on with another file at byte " + std::to_string(a.size())));
    }
    // Of unknown length, too.
    const std::string pipe = wav(1, 1, 8000, 16, 0xffffffff, std::string(64, '\1'));
    CHECK(fails_with([&] { return read(pipe + pipe); }, "goes on with another file at byte 108"));
    CHECK(read(pipe + "RIFF").samples.size() == 34);
  }
}

TEST_CASE("damaged Ogg pages are an error", "[data]") {
  const temporary_folder folder;
  const auto read = [&](const std::string& contents) { return read_audio(folder.write("a.ogg", contents)).samples; };
  std::string ogg = written(SF_FORMAT_OGG | SF_FORMAT_VORBIS, 1, 16000, sine(440, 16000, 40000));
  const auto pages = ogg_pages(ogg);
  REQUIRE(pages.size() >= 4);
  const auto page = [&](std::size_t n) { return ogg.substr(pages[n], pages[n + 1] - pages[n]); };
  const std::size_t last = pages.size() - 2;
  const auto whole = read(ogg);
  CHECK(with_checksum(page(0)) == page(0));  // assumed below

  fathom::random numbers(5, 0);
  for (int i = 0; i < 200; ++i) {  // decoders skip the page without an error
    const auto at = static_cast<std::size_t>(numbers.below(std::ssize(ogg)));
    std::string bad = ogg;
    bad[at] = static_cast<char>(bad[at] ^ (1 + numbers.below(255)));
    CHECK(fails_with([&] { return read(bad); }, "a.ogg: is cut short or damaged at byte"));
  }
  const std::string open_end = with_checksum(with_text(page(last), 5, std::string(1, '\0')));
  CHECK(fails_with([&] { return read(ogg.substr(0, pages[last]) + open_end); },
                   "without a page that is marked as its last one"));
  CHECK(fails_with([&] { return read(ogg.substr(0, pages[last])); }, "a.ogg: is cut short: at byte"));
  CHECK(fails_with([&] { return read(ogg.substr(0, pages[last]) + open_end + ogg); }, "is cut short: at byte"));
  CHECK((read(ogg + "TAG and what else taggers write") == whole));
  CHECK(fails_with([&] { return read(ogg + "Ogg"); }, "is cut short or damaged at byte"));
  // Two streams at a time: libsndfile reads one of them.
  std::string other;  // the same with another number
  std::vector<std::string> others;
  for (std::size_t n = 0; n <= last; ++n) others.push_back(with_checksum(with(page(n), 14, 4, 12345)));
  other = page(0) + others[0];
  for (std::size_t n = 1; n <= last; ++n) other += page(n) + others[n];
  CHECK(fails_with([&] { return read(other); }, "has 2 streams of sound at the same time"));
}
