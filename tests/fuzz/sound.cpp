// Sound files: WAV and its relatives, AIFF, AU, FLAC, Ogg, MP3, through libsndfile and libsamplerate.
#include <cmath>
#include <string>
#include <vector>

#include <fathom/data/audio.hpp>

#include "fuzz.hpp"

namespace fuzz::sound {

void read(bytes input) {
  // What becomes of a few samples at another rate is libsamplerate's; the file's own is read.
  const fathom::data::sound found = fathom::data::read_audio(file("input.wav", input));
  expect(found.rate > 0, "a sound has a rate");
  for (const float sample : found.samples) expect(std::isfinite(sample), "samples are finite");
  if (found.samples.size() < 2000 && found.rate < 100000) static_cast<void>(fathom::data::resample(found.samples, found.rate, 8000));
}

void make_seeds(seeds& to) {
  to.add_files("golden/sound", "");
  const auto path = to.scratch() / "a.wav";
  fathom::data::write_wav(path, std::vector<float>{0, 0.5f, -0.5f, 1, -1, 0.25f}, 8000);
  to.add(seeds::read(path));
  std::vector<float> wave(300);
  for (std::size_t i = 0; i < wave.size(); ++i) wave[i] = static_cast<float>(std::sin(0.1 * static_cast<double>(i)));
  for (const int format : {SF_FORMAT_AIFF | SF_FORMAT_PCM_16, SF_FORMAT_AU | SF_FORMAT_ULAW, SF_FORMAT_CAF | SF_FORMAT_PCM_16, SF_FORMAT_W64 | SF_FORMAT_FLOAT,
                           SF_FORMAT_RF64 | SF_FORMAT_PCM_16, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, SF_FORMAT_OGG | SF_FORMAT_VORBIS,
                           SF_FORMAT_OGG | SF_FORMAT_OPUS, SF_FORMAT_VOC | SF_FORMAT_PCM_16, SF_FORMAT_NIST | SF_FORMAT_PCM_16,
                           SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, SF_FORMAT_WAV | SF_FORMAT_PCM_24, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III}) {
    SF_INFO info{};
    info.samplerate = 8000;
    info.channels = 1;
    info.format = format;
    SNDFILE* const handle = sf_open(path.c_str(), SFM_WRITE, &info);
    if (!handle) continue;
    sf_write_float(handle, wave.data(), static_cast<sf_count_t>(wave.size()));
    sf_close(handle);
    to.add(seeds::read(path));
  }
}

const harness it("sound", read, make_seeds);

}  // namespace fuzz::sound
