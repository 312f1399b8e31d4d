// MPEG audio (MP3, and layers I and II: ISO 11172-3 and 13818-3), just enough to walk from frame to frame. If a file
// does not state its length, libsndfile guesses it from the first frame and reads no further; if it does, libsndfile
// ignores any file that follows.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/sound_bytes.hpp"

namespace fathom::data::detail {

/// The header of a frame, 32 bits, most significant first:
///
///   11 ones, 2 version (0: 2.5, 2: 2, 3: 1), 2 layer (3: I, 2: II, 1: III), 1 no checksum, 4 bitrate, 2 sampling rate,
///   1 padding, 1 private, 2 channels (3: one), 6 others
class mpeg_header {
 public:
  /// The header at a position. Nothing if there is none, or if it does not give the frame length (free bitrate).
  [[nodiscard]] static std::optional<mpeg_header> at(const sound_bytes& bytes, std::size_t at) {
    if (bytes.left(at) < 4) return std::nullopt;
    const mpeg_header h(static_cast<std::uint32_t>(bytes.number(at, 4, true)));
    const bool is_valid = h.bits_ >> 21 == 0x7ff && h.version() != 1 && h.layer_bits() != 0 && h.bitrate_index() != 0 &&
                          h.bitrate_index() != 15 && h.rate_index() != 3;
    return is_valid ? std::optional(h) : std::nullopt;
  }
  /// Length of the whole frame in bytes.
  [[nodiscard]] std::size_t length() const {
    if (layer() == 1) return (12000 * kilobits() / rate() + padding()) * 4;
    return (layer() == 3 && version() != 3 ? 72000 : 144000) * kilobits() / rate() + padding();
  }
  /// Whether frames belong to one stream: same version, layer, rate, and mono or not.
  [[nodiscard]] bool matches(const mpeg_header& other) const {
    return ((bits_ ^ other.bits_) & 0xfffe0c00) == 0 && is_mono() == other.is_mono();
  }
  [[nodiscard]] int layer() const { return 4 - static_cast<int>(layer_bits()); }
  /// Layer III: offset of the tag with the stream length, which replaces sound: after the side information and 4 bytes.
  [[nodiscard]] std::size_t tag() const { return 4 + (version() == 3 ? (is_mono() ? 17 : 32) : (is_mono() ? 9 : 17)); }
  /// Layer III: a frame without sound that states the number of following frames.
  [[nodiscard]] std::vector<std::byte> frame_with_tag(std::uint64_t frames) const {
    const mpeg_header h((bits_ & 0xffff0dff) | 0x00010000 | 9 << 12);  // no checksum, no padding, enough bits
    std::vector<std::byte> frame(h.length());
    sound_part out(std::move(frame));
    out.put(0, 4, true, h.bits_);
    out.put(tag(), "Xing");
    out.put(tag() + 4, 4, true, 1);  // one number follows: that of frames
    out.put(tag() + 8, 4, true, frames);
    return {out.bytes().begin(), out.bytes().end()};
  }

 private:
  explicit mpeg_header(std::uint32_t bits) : bits_(bits) {}
  [[nodiscard]] std::uint32_t version() const { return bits_ >> 19 & 3; }
  [[nodiscard]] std::uint32_t layer_bits() const { return bits_ >> 17 & 3; }
  [[nodiscard]] std::uint32_t bitrate_index() const { return bits_ >> 12 & 15; }
  [[nodiscard]] std::uint32_t rate_index() const { return bits_ >> 10 & 3; }
  [[nodiscard]] std::uint32_t padding() const { return bits_ >> 9 & 1; }
  [[nodiscard]] bool is_mono() const { return (bits_ >> 6 & 3) == 3; }
  [[nodiscard]] std::uint32_t rate() const {  // samples per second
    constexpr std::array<std::uint32_t, 3> rates{44100, 48000, 32000};
    return rates[rate_index()] >> (version() == 3 ? 0 : version() == 2 ? 1 : 2);
  }
  [[nodiscard]] std::uint32_t kilobits() const {  // per second
    using row = std::array<std::uint32_t, 15>;
    constexpr row first_layer{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
        second_layer{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
        third_layer{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
        low_first_layer{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
        low_others{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160};
    if (version() != 3) return (layer() == 1 ? low_first_layer : low_others)[bitrate_index()];
    return (layer() == 1 ? first_layer : layer() == 2 ? second_layer : third_layer)[bitrate_index()];
  }

  std::uint32_t bits_;
};

/// The streams of a file in order; nothing if it is not MPEG audio. A new stream begins at the beginning of the file,
/// at a frame with a tag, at a frame that does not match the previous ones, and after the number of frames that the tag
/// announced. A layer III stream without a tag gets one. Bytes between frames (tags with titles) are left out. Fails
/// when the last frame is cut short.
[[nodiscard]] inline std::vector<sound_part> mpeg_streams(const sound_bytes& bytes, const std::string& name) {
  const auto frame_at = [&](std::size_t at) { return mpeg_header::at(bytes, at); };
  const auto after_id3 = [&](std::size_t at) {  // tags before frames; length in four times seven bits
    while (bytes.is_at(at, "ID3") && bytes.left(at) >= 10) {
      std::uint64_t length = 10;
      for (std::size_t i = 0; i < 4; ++i) length += (bytes.number(at + 6 + i, 1, true) & 0x7f) << (21 - 7 * i);
      if (length > bytes.left(at)) return bytes.size();
      at += static_cast<std::size_t>(length);
    }
    return at;
  };
  const auto follows = [&](std::size_t at, const mpeg_header& h) {  // another frame of the stream, or the end
    const auto next = frame_at(at + h.length());
    return bytes.left(at) == h.length() || (next && next->matches(h));
  };
  std::size_t at = after_id3(0);
  auto h = frame_at(at);
  if (!h || !follows(at, *h)) return {};

  std::vector<sound_part> streams;
  mpeg_header first = *h;  // of the stream
  std::size_t begin = at;
  std::vector<std::byte> frames;
  std::uint64_t count = 0, announced = 0;  // frames of sound; announced = 0: unknown
  const auto end_stream = [&] {
    if (announced > count + 1)  // some programs count the frame with the tag
      fail(name, ": is cut short: at byte ", at, " a stream ends after ", count, " frames; it announces ", announced);
    std::optional<std::int64_t> samples;
    if (first.layer() < 3) {
      samples = static_cast<std::int64_t>(count) * (first.layer() == 1 ? 384 : 1152);
    } else if (announced == 0) {
      const auto tag = first.frame_with_tag(count);
      frames.insert(frames.begin(), tag.begin(), tag.end());
    }
    streams.emplace_back(std::exchange(frames, {}), samples);
  };
  while (h) {
    const bool is_tag = h->layer() == 3 && (bytes.is_at(at + h->tag(), "Xing") || bytes.is_at(at + h->tag(), "Info"));
    if (at != begin && (is_tag || !h->matches(first) || (announced > 0 && count == announced))) {
      end_stream();
      begin = at;
    }
    if (at == begin) {
      first = *h;
      count = 0;
      const bool says =
          is_tag && bytes.left(at) >= h->tag() + 12 && (bytes.number(at + h->tag() + 4, 4, true) & 1) != 0;
      announced = says ? bytes.number(at + h->tag() + 8, 4, true) : 0;
    }
    const std::size_t length = h->length();
    if (bytes.left(at) < length)
      fail(name, ": is cut short: the last frame, at byte ", at, ", announces ", length, " bytes, and has ",
           bytes.left(at));
    if (!is_tag || announced > 0) {
      const auto whole = bytes.span().subspan(at, length);
      frames.insert(frames.end(), whole.begin(), whole.end());
    }
    count += !is_tag;
    at += length;
    h = frame_at(at);
    if (h && (h->matches(first) || follows(at, *h))) continue;
    if (bytes.left(at) < 4 && bytes.is_at(at, "\xff"))
      fail(name, ": is cut short: it ends within the first bytes of a frame, at byte ", at);
    // Not a frame of this stream: search for the next frame that another one follows.
    for (at = after_id3(at), h = frame_at(at); bytes.left(at) > 0 && !(h && follows(at, *h)); h = frame_at(at)) ++at;
  }
  end_stream();
  return streams;
}

}  // namespace fathom::data::detail
