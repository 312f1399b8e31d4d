// Speech as tokens: Codec 2 in mode 700C (David Rowe, rowetel.com), 700 bits per second. Tokens can be decoded back to
// sound. Needs libcodec2; link fathom::codec2.
//
// A frame is 40 ms of speech at 8 kHz in 28 bits, natural binary, most significant bit first (newamp1.c and codec2.c
// there):
//
//   9 bits  shape of the spectrum, first stage of a vector quantiser      tokens    0 to  511
//   9 bits  its second stage, which refines the first                              512 to 1023
//   4 bits  energy, 10 + 2.5 i dB                                                 1024 to 1039
//   6 bits  pitch: 0 is unvoiced, i > 0 is 50 * 8^(i / 64) Hz                     1040 to 1103
#pragma once

#include <codec2/codec2.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/data/frames.hpp"
#include "fathom/data/pcm16.hpp"

namespace fathom::data {

/// Four tokens per frame, 100 per second.
struct codec2 {
  enum field : index { shape, refinement, energy, pitch };
  static constexpr std::array<index, 5> begins{0, 512, 1024, 1040, 1104};  // of the ranges, and the end of the last
  static constexpr index fields = 4;
  static constexpr index vocab = begins[fields];
  static constexpr int rate = 8000;            // samples per second
  static constexpr index frame_samples = 320;  // 40 ms
  static constexpr token unvoiced = begins[pitch];

  using values = std::array<int, fields>;     // of a frame, counted from 0 in each field
  using bits = std::array<unsigned char, 4>;  // of a frame, as Codec 2 packs them; the last 4 are 0

  /// Samples at 8 kHz, in [-1, 1], as tokens. The last frame is padded with silence. Deterministic. Fails on NaN.
  [[nodiscard]] static std::vector<token> encode(std::span<const float> samples) {
    std::vector<std::int16_t> speech = to_pcm16(samples, "codec2::encode");
    const std::size_t frames = (speech.size() + frame_samples - 1) / frame_samples;
    speech.resize(frames * frame_samples);
    const auto coder = create();
    std::vector<token> tokens;
    tokens.reserve(frames * fields);
    for (std::size_t frame = 0; frame < frames; ++frame) {
      bits packed{};
      codec2_encode(coder.get(), packed.data(), speech.data() + frame * frame_samples);
      const values v = unpack(packed);
      for (std::size_t f = 0; f < fields; ++f) tokens.push_back(static_cast<token>(begins[f] + v[f]));
    }
    return tokens;
  }

  /// Samples at 8 kHz, 320 per frame. Fails on a token outside of the vocabulary; any other sequence can be played, as
  /// frames() reads it.
  ///
  /// Codec 2 draws the phases of unvoiced sound from one random generator, which is global and cannot be seeded. So the
  /// first sound a program decodes is the same in every run, later ones only sound the same, and two threads must not
  /// decode concurrently. The delay is about 30 ms.
  [[nodiscard]] static std::vector<float> decode(std::span<const token> tokens) {
    const framed read = frames(tokens);
    std::vector<values> v(read.values.size() / fields);
    for (std::size_t i = 0; i < read.values.size(); ++i) v[i / fields][i % fields] = read.values[i];
    return play(v);
  }

  /// The frames of tokens, well-formed or not. A frame is a run of tokens in the order of the fields: a token whose
  /// field is not after the previous one begins the next frame. Missing values are taken from the previous frame.
  /// Frames are dropped until every field has had a value, such as a partial frame at the beginning.
  [[nodiscard]] static framed frames(std::span<const token> tokens) {
    return detail::hold(detail::rows_of(tokens, begins, "codec2"), fields);
  }

  /// The field and the value of a token. Fails on a token outside of the vocabulary.
  [[nodiscard]] static field_value classify(token t) {
    check_tokens({&t, 1}, 0, vocab, "codec2");
    return detail::field_of(t, begins);
  }
  /// "shape 17", "refinement 300", "energy 32.5 dB", "unvoiced", "pitch 114 Hz".
  [[nodiscard]] static std::string name(token t) {
    const auto [field, value] = classify(t);
    if (field == shape) return join("shape ", value);
    if (field == refinement) return join("refinement ", value);
    if (field == energy) return join("energy ", decibels(value), " dB");
    return value == 0 ? "unvoiced" : join("pitch ", std::lround(hertz(value)), " Hz");
  }
  /// The energy in dB of a value of the field `energy`: the mean of the spectrum.
  [[nodiscard]] static float decibels(int value) { return 10 + 2.5f * static_cast<float>(value); }
  /// The fundamental frequency in Hz of a value of the field `pitch`, which must be at least 1.
  [[nodiscard]] static float hertz(int value) { return 50 * std::exp2(3 * static_cast<float>(value) / 64); }

  /// A frame as Codec 2 packs it, and back.
  [[nodiscard]] static bits pack(const values& v) {
    const auto number = static_cast<std::uint32_t>(v[0] << 19 | v[1] << 10 | v[2] << 6 | v[3]) << 4;
    return {static_cast<unsigned char>(number >> 24), static_cast<unsigned char>(number >> 16 & 255),
            static_cast<unsigned char>(number >> 8 & 255), static_cast<unsigned char>(number & 255)};
  }
  [[nodiscard]] static values unpack(const bits& b) {
    const int number = b[0] << 20 | b[1] << 12 | b[2] << 4 | b[3] >> 4;
    return {number >> 19, number >> 10 & 511, number >> 6 & 15, number & 63};
  }

  /// The samples of frames. Values must be in the range of their fields.
  [[nodiscard]] static std::vector<float> play(std::span<const values> v) {
    const auto coder = create();
    std::vector<std::int16_t> speech(v.size() * frame_samples);
    for (std::size_t frame = 0; frame < v.size(); ++frame)
      codec2_decode(coder.get(), speech.data() + frame * frame_samples, pack(v[frame]).data());
    return from_pcm16(speech);
  }

 private:
  using coder = std::unique_ptr<CODEC2, decltype(&codec2_destroy)>;
  [[nodiscard]] static coder create() {
    coder made(codec2_create(CODEC2_MODE_700C), codec2_destroy);
    if (!made || codec2_samples_per_frame(made.get()) != frame_samples || codec2_bits_per_frame(made.get()) != 28)
      fail("codec2: this libcodec2 has no mode 700C of 28 bits for 320 samples");
    return made;
  }
};

/// Two tokens per frame, 50 per second: only the shape of the spectrum, without energy and pitch.
struct codec2_shapes {
  static constexpr std::array<index, 3> begins{0, 512, 1024};
  static constexpr index fields = 2;
  static constexpr index vocab = begins[fields];
  static constexpr int rate = codec2::rate;
  static constexpr index frame_samples = codec2::frame_samples;

  /// Like codec2::encode, without the energy and the pitch of each frame.
  [[nodiscard]] static std::vector<token> encode(std::span<const float> samples) {
    std::vector<token> tokens = codec2::encode(samples);
    std::erase_if(tokens, [](token t) { return t >= vocab; });
    return tokens;
  }
  /// Like codec2::decode, with constant energy and pitch, given as values of codec2's fields: a voice on one note that
  /// never falls silent. The defaults, 40 dB and 128 Hz, are medians of a man reading. A pitch of 0 whispers.
  [[nodiscard]] static std::vector<float> decode(std::span<const token> tokens, int energy = 12, int pitch = 29) {
    if (energy < 0 || energy > 15 || pitch < 0 || pitch > 63)
      fail("codec2_shapes: energy ", energy, ", pitch ", pitch, "; expected 0 to 15 and 0 to 63");
    const framed read = frames(tokens);
    std::vector<codec2::values> v;
    for (std::size_t i = 0; i < read.values.size(); i += fields)
      v.push_back({read.values[i], read.values[i + 1], energy, pitch});
    return codec2::play(v);
  }
  /// Like codec2::frames.
  [[nodiscard]] static framed frames(std::span<const token> tokens) {
    return detail::hold(detail::rows_of(tokens, begins, "codec2_shapes"), fields);
  }
  [[nodiscard]] static field_value classify(token t) {
    check_tokens({&t, 1}, 0, vocab, "codec2_shapes");
    return detail::field_of(t, begins);
  }
  [[nodiscard]] static std::string name(token t) {
    check_tokens({&t, 1}, 0, vocab, "codec2_shapes");
    return codec2::name(t);
  }
};

}  // namespace fathom::data
