// Sound files: reads WAV, FLAC, Ogg, MP3 and other formats of libsndfile as mono samples at a requested rate, and
// writes WAV. Needs libsndfile and libsamplerate; link fathom::audio.
#pragma once

#include <samplerate.h>
#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/files.hpp"
#include "fathom/data/pcm16.hpp"
#include "fathom/data/sound_parts.hpp"
#include "fathom/io/file.hpp"

namespace fathom::data {

/// Mono sound.
struct sound {
  std::vector<float> samples;  // in [-1, 1], unless the file exceeds it
  int rate = 0;                // samples per second
};

/// The maximal number of samples of a sound: 37 hours at 8 kHz, 4 GiB. Small malicious files can expand to more.
inline constexpr index most_samples = index{1} << 30;

/// Extensions of sound files: up to .sd2 those that libsndfile (from 1.1 on) reads, then others, which are errors
/// rather than being skipped in a folder.
inline constexpr std::string_view sound_endings[] = {
    ".wav", ".wave", ".bwf", ".rf64", ".bw64",  ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp1", ".mp2",
    ".mp3", ".mpga", ".aif", ".aiff", ".aifc",  ".au",  ".snd",  ".caf", ".sph", ".nist", ".voc", ".8svx",
    ".svx", ".16sv", ".iff", ".sf",   ".ircam", ".avr", ".htk",  ".pvf", ".paf", ".sds",  ".xi",  ".wve",
    ".mat", ".sd2",  ".m4a", ".m4b",  ".mp4",   ".aac", ".alac", ".wma", ".asf", ".amr",  ".awb", ".3gp",
    ".ac3", ".eac3", ".dts", ".ape",  ".wv",    ".tta", ".tak",  ".mpc", ".spx", ".ra",   ".rm",  ".dsf",
    ".dff", ".mka",  ".mkv", ".webm", ".weba",  ".mov", ".ogv",  ".ogx"};

namespace detail {
/// A file in memory, for libsndfile to read or to write.
class sound_memory {
 public:
  explicit sound_memory(std::span<const std::byte> bytes) : bytes_(bytes) {}
  /// For writing at most `capacity` bytes.
  explicit sound_memory(std::size_t capacity) : buffer_(capacity) {}

  [[nodiscard]] std::span<const std::byte> written() const { return std::span(buffer_).first(used_); }

  using handle = std::unique_ptr<SNDFILE, decltype(&sf_close)>;
  [[nodiscard]] handle open(int mode, SF_INFO& info) {
    static SF_VIRTUAL_IO calls{
        [](void* self) { return static_cast<sound_memory*>(self)->size(); },
        [](sf_count_t offset, int whence, void* self) {
          return static_cast<sound_memory*>(self)->seek(offset, whence);
        },
        [](void* to, sf_count_t count, void* self) { return static_cast<sound_memory*>(self)->read(to, count); },
        [](const void* from, sf_count_t count, void* self) {
          return static_cast<sound_memory*>(self)->write(from, count);
        },
        [](void* self) { return static_cast<sound_memory*>(self)->position_; }};
    return {sf_open_virtual(&calls, mode, &info, this), sf_close};
  }

 private:
  [[nodiscard]] sf_count_t size() const { return static_cast<sf_count_t>(buffer_.empty() ? bytes_.size() : used_); }
  sf_count_t seek(sf_count_t offset, int whence) {
    const sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? position_ : size();
    if (offset < -from || offset > SF_COUNT_MAX - from) return -1;
    return position_ = from + offset;
  }
  sf_count_t read(void* to, sf_count_t count) {
    count = std::max(std::min(size() - position_, count), sf_count_t{0});  // for any count and position
    if (count > 0) std::memcpy(to, bytes_.data() + position_, static_cast<std::size_t>(count));
    position_ += count;
    return count;
  }
  sf_count_t write(const void* from, sf_count_t count) {
    if (position_ > std::ssize(buffer_) || count > std::ssize(buffer_) - position_) return 0;
    std::memcpy(buffer_.data() + position_, from, static_cast<std::size_t>(count));
    position_ += count;
    used_ = std::max(used_, static_cast<std::size_t>(position_));
    return count;
  }

  std::span<const std::byte> bytes_;
  std::vector<std::byte> buffer_;
  std::size_t used_ = 0;
  sf_count_t position_ = 0;
};
}  // namespace detail

/// Samples at another rate, n * to / from of them, band-limited to the new rate (libsamplerate's best filter). Fails
/// when one rate is more than 256 times the other.
[[nodiscard]] inline std::vector<float> resample(std::span<const float> samples, int from, int to) {
  const double ratio = from > 0 && to > 0 ? static_cast<double>(to) / from : 0;
  if (src_is_valid_ratio(ratio) == 0)
    fail("resample: from ", from, " to ", to,
         " samples a second; expected rates above 0, at most 256 times each other");
  if (from == to || samples.empty()) return {samples.begin(), samples.end()};
  const double expected = std::ceil(static_cast<double>(samples.size()) * ratio);
  if (expected > static_cast<double>(most_samples))
    fail("resample: ", samples.size(), " samples from ", from, " to ", to, " samples a second; expected ", most_samples,
         " at most");
  std::vector<float> result(static_cast<std::size_t>(expected));
  SRC_DATA data{};
  data.data_in = samples.data();
  data.data_out = result.data();
  data.input_frames = static_cast<long>(samples.size());
  data.output_frames = static_cast<long>(result.size());
  data.src_ratio = ratio;
  const int error = src_simple(&data, SRC_SINC_BEST_QUALITY, 1);
  if (error != 0) fail("resample: from ", from, " to ", to, " samples a second: ", src_strerror(error));
  result.resize(static_cast<std::size_t>(data.output_frames_gen));
  return result;
}

namespace detail {
/// Appends the sound of a part of a file to `result`, resampled to its rate. If that is 0, it becomes the rate of the
/// part.
inline void append_sound(const sound_part& part, sound& result, const std::string& name) {
  sound_memory memory(part.bytes());
  SF_INFO info{};
  const auto handle = memory.open(SFM_READ, info);
  if (!handle)
    fail(name,
         ": cannot be read as WAV, FLAC, Ogg, MP3 or another sound file that libsndfile knows: ", sf_strerror(nullptr),
         but_is(part.bytes()));
  if (info.channels < 1 || info.samplerate < 1)
    fail(name, ": has ", info.channels, " channels at ", info.samplerate,
         " samples a second; expected at least 1 of each");

  std::vector<float> samples;
  constexpr index block = 4096;
  const auto channels = static_cast<std::size_t>(info.channels);
  std::vector<float> frames(block * channels);  // [block, channels]
  while (const index count = static_cast<index>(sf_readf_float(handle.get(), frames.data(), block))) {
    if (count < 0 || std::ssize(result.samples) + std::ssize(samples) + count > most_samples)
      fail(name, ": has more than ", most_samples, " samples; expected shorter recordings");
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      double sum = 0;
      for (std::size_t channel = 0; channel < channels; ++channel)
        sum += static_cast<double>(frames[i * channels + channel]);
      if (!std::isfinite(sum))
        fail(name, ": sample ", samples.size(), " is infinite or not a number; expected samples in [-1, 1]");
      samples.push_back(static_cast<float>(sum / info.channels));
    }
  }
  if (sf_error(handle.get()) != SF_ERR_NO_ERROR)
    fail(name, ": cannot be read after ", samples.size(), " samples: ", sf_strerror(handle.get()));
  // FLAC written to a pipe does not state its length.
  const std::int64_t announced = part.frames() ? *part.frames() : info.frames == SF_COUNT_MAX ? 0 : info.frames;
  if (std::cmp_less(samples.size(), announced))
    fail(name, ": is cut short: it announces ", announced, " samples, and ", samples.size(), " can be read");

  if (result.rate == 0) result.rate = info.samplerate;
  if (info.samplerate != result.rate) {
    if (src_is_valid_ratio(static_cast<double>(result.rate) / info.samplerate) == 0)
      fail(name, ": has ", info.samplerate, " samples a second, which cannot become ", result.rate,
           "; expected at most 256 times");
    samples = resample(samples, info.samplerate, result.rate);
  }
  if (std::ssize(result.samples) + std::ssize(samples) > most_samples)
    fail(name, ": has more than ", most_samples, " samples; expected shorter recordings");
  if (result.samples.empty())
    result.samples = std::move(samples);
  else
    result.samples.insert(result.samples.end(), samples.begin(), samples.end());
}
}  // namespace detail

/// The sound of a file, as the mean of its channels, at a rate, or at the file's own if that is 0. Fails when the file
/// cannot be read to its announced end, when a sample is not finite, and when there are more than most_samples.
/// Trusts an announced size only as far as samples follow.
///
/// - WAV (with RF64, BW64 and W64), AIFF, CAF, AU, SPHERE, VOC, FLAC, Ogg and MP3 fail when there is less than
///   announced; Ogg also when a page is damaged, or when a stream lacks its last page. Other files are read as far as
///   they go.
/// - Files of unknown length (written to a pipe) are read to their end. They have sizes of 0, all ones, or other
///   placeholders; FLAC has 0 samples; MP3 has no frame that states the number of frames.
/// - Chained Ogg streams, and FLAC and MP3 files in a row, are concatenated, at the rate of the first one if none is
///   given. In other formats a second file after the first is an error.
[[nodiscard]] inline sound read_audio(const std::filesystem::path& path, int rate = 0) {
  const std::string name = path.string();
  if (rate < 0)
    fail(name, ": cannot be read at ", rate, " samples a second; expected a rate above 0, or 0 for the file's");
  const io::whole_file file(path);
  sound result{{}, rate};
  for (const auto& part : detail::sound_parts(file.bytes(), name)) detail::append_sound(part, result, name);
  return result;
}

/// Writes a 16-bit mono WAV file, atomically (io/file.hpp). Samples outside of [-1, 1] are clipped. Fails on NaN, and
/// when the file would exceed the format's limit of 4 GB.
inline void write_wav(const std::filesystem::path& path, std::span<const float> samples, int rate) {
  const std::string name = path.string();
  if (rate < 1) fail(name, ": cannot be written at ", rate, " samples a second; expected a rate above 0");
  if (std::ssize(samples) > most_samples)
    fail(name, ": cannot be written: ", samples.size(), " samples; expected ", most_samples, " at most");
  const std::vector<std::int16_t> numbers = to_pcm16(samples, name);
  detail::sound_memory memory(2 * numbers.size() + 1024);
  SF_INFO info{};
  info.samplerate = rate;
  info.channels = 1;
  info.format = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
  auto handle = memory.open(SFM_WRITE, info);
  if (!handle) fail(name, ": cannot be written: ", sf_strerror(nullptr));
  const sf_count_t count = sf_write_short(handle.get(), numbers.data(), static_cast<sf_count_t>(numbers.size()));
  if (std::cmp_not_equal(count, numbers.size()) || sf_close(handle.release()) != 0)
    fail(name, ": cannot be written: libsndfile took ", count, " of ", numbers.size(), " samples");
  io::atomic_file file(path);
  file.write(memory.written());
  file.commit();
}

}  // namespace fathom::data
