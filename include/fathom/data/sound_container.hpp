// Containers of samples (WAV, AIFF and the like): checks the sizes that they announce, and corrects them if the writer
// did not know them. libsndfile does neither: it reads what it finds, or nothing.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/data/sound_bytes.hpp"

namespace fathom::data::detail {

/// A container in memory. Fails when it has fewer bytes of samples than it announces, and when another container
/// follows it; leaves all other errors to libsndfile.
class sound_container {
 public:
  sound_container(const sound_bytes& bytes, const std::string& name) : bytes_(bytes), name_(name), part_(bytes.span()) {
    using namespace std::string_view_literals;
    const auto is = [&](std::string_view id) { return bytes_.is_at(0, id); };
    const auto is_form = [&](std::string_view id) { return bytes_.is_at(8, id); };
    if ((is("RIFF") || is("RIFX") || is("RF64") || is("BW64")) && is_form("WAVE")) {
      check_wave({.first = 12, .big_endian = is("RIFX")});
    } else if (is("FORM") && (is_form("AIFF") || is_form("AIFC"))) {
      // The chunk also includes an offset and a block size, 8 bytes.
      check_chunk({.first = 12, .big_endian = true}, "SSND", 8);
    } else if (is("FORM") && (is_form("8SVX") || is_form("16SV"))) {
      check_chunk({.first = 12, .big_endian = true}, "BODY", 0);
    } else if (is("riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"sv) && bytes_.is_at(24, "wave")) {
      check_chunk({.first = 40, .name_bytes = 16, .size_bytes = 8, .size_has_header = true, .alignment = 8}, "data", 0);
    } else if (is("caff")) {
      // The chunk also includes a number of edits, 4 bytes.
      check_chunk({.first = 8, .size_bytes = 8, .big_endian = true, .alignment = 1}, "data", 4);
    } else if (is(".snd") || is("dns.")) {
      check_au(is(".snd"));
    } else if (is("NIST_1A")) {
      check_nist();
    } else if (is("Creative Voice File\x1a")) {
      check_voc();
    }
  }
  [[nodiscard]] const sound_part& part() const { return part_; }
  /// The samples if they are MPEG audio, or nothing.
  [[nodiscard]] std::span<const std::byte> mpeg() const { return mpeg_; }

 private:
  /// The layout of chunks: a name, a size, and as many bytes.
  struct chunk_form {
    std::size_t first = 0;       // position of the first chunk
    std::size_t name_bytes = 4;  // W64: a GUID, whose first four bytes are letters
    std::size_t size_bytes = 4;
    bool big_endian = false;
    bool size_has_header = false;  // the size includes name and size: W64
    std::size_t alignment = 2;     // of chunks

    [[nodiscard]] std::size_t header() const { return name_bytes + size_bytes; }
  };
  struct chunk {
    std::size_t at = 0;      // of its name; 0: no chunk
    std::size_t begin = 0;   // of its data
    std::uint64_t size = 0;  // of its data, as announced
  };
  /// The position of the samples, and the field with their size.
  struct extent {
    std::size_t begin = 0;        // of the samples
    std::uint64_t announced = 0;  // bytes of samples
    bool is_unknown = false;      // the number is a placeholder
    std::size_t field = 0;        // position of the size
    std::size_t field_bytes = 4;
    bool big_endian = false;
    std::uint64_t extra = 0;  // bytes that the size also includes
  };

  void check_wave(const chunk_form& form) {
    const chunk data = find(form, "data");
    if (data.at == 0) return;
    // RF64, and BW64, which is the same under another name: if the size is all ones, the chunk ds64 has it.
    const bool is_rf64 = bytes_.is_at(2, "64");
    const chunk sizes = is_rf64 ? find(form, "ds64") : chunk{};
    const bool is_wide =
        sizes.at != 0 && sizes.at < data.at && sizes.size >= 16 && (data.size == 0 || data.size == 0xffffffff);
    const std::uint64_t announced = is_wide ? bytes_.number(sizes.begin + 8, 8, false) : data.size;
    const extent samples{.begin = data.begin,
                         .announced = announced,
                         .is_unknown = is_unknown(announced, is_wide ? 8 : 4, data.begin, form),
                         .field = data.at + 4,
                         .big_endian = form.big_endian};
    const std::uint64_t whole = bytes_.number(4, 4, form.big_endian), there = bytes_.size() - 8;
    if (samples.is_unknown && whole > there && !is_placeholder(whole, 4))
      fail(name_, ": is cut short: it announces ", whole + 8, " bytes, and has ", bytes_.size());
    settle(samples);
    const chunk format = find(form, "fmt ");
    if (format.at != 0 && format.size >= 2 && bytes_.left(format.begin) >= 2)
      if (const auto tag = bytes_.number(format.begin, 2, form.big_endian); tag == 0x50 || tag == 0x55)
        mpeg_ = bytes_.span().subspan(
            data.begin, samples.is_unknown ? bytes_.left(data.begin) : static_cast<std::size_t>(announced));
    if (samples.is_unknown) {
      // As a plain WAV file, since it has no 64-bit sizes.
      if (is_rf64) part_.put(0, "RIFF");
      part_.put(4, 4, form.big_endian, there);
    } else {
      if (bytes_.is_at(0, "BW64")) part_.put(0, "RF64");
      refuse_second(form, {data.at, data.begin, announced});
    }
  }

  /// A container with all samples in one chunk, after its first `extra` bytes.
  void check_chunk(const chunk_form& form, std::string_view name, std::size_t extra) {
    const chunk data = find(form, name);
    if (data.at == 0) return;
    const std::size_t begin = std::min(data.begin + extra, bytes_.size());
    const std::uint64_t announced = data.size < extra ? 0 : data.size - extra;
    const extent samples{.begin = begin,
                         .announced = announced,
                         .is_unknown = is_unknown(announced, form.size_bytes, begin, form),
                         .field = data.at + form.name_bytes,
                         .field_bytes = form.size_bytes,
                         .big_endian = form.big_endian,
                         .extra = extra + (form.size_has_header ? form.header() : 0)};
    settle(samples);
    if (!samples.is_unknown) refuse_second(form, data);
  }

  /// Sun and NeXT: a header of 24 bytes with the position and the size of the samples, and no chunks.
  void check_au(bool big_endian) {
    if (bytes_.size() < 24) return;
    const std::uint64_t begin = bytes_.number(4, 4, big_endian), announced = bytes_.number(8, 4, big_endian);
    if (begin < 24 || begin > bytes_.size()) return;
    const extent samples{
        .begin = static_cast<std::size_t>(begin),
        .announced = announced,
        .is_unknown = announced == 0 || (announced > bytes_.size() - begin && is_placeholder(announced, 4)),
        .field = 8,
        .big_endian = big_endian};
    settle(samples);
    if (!samples.is_unknown) refuse_second(samples.begin + static_cast<std::size_t>(announced));
  }

  /// NIST SPHERE: lines of text; the second gives the position of the samples.
  void check_nist() {
    const std::string_view header = bytes_.text(0, 1024);
    const auto value = [&](std::string_view before) {
      std::uint64_t found = 0;
      const auto at = header.find(before);
      if (at == std::string_view::npos) return found;
      const auto digits = std::min(header.find_first_not_of(' ', at + before.size()), header.size());
      std::from_chars(header.data() + digits, header.data() + header.size(), found);
      return found;
    };
    const std::uint64_t begin = value("NIST_1A\n"), count = value("\nsample_count -i "),
                        channels = std::max<std::uint64_t>(value("\nchannel_count -i "), 1),
                        width = value("\nsample_n_bytes -i ");
    constexpr std::uint64_t most = std::uint64_t{1} << 56;
    if (begin == 0 || count == 0 || width < 1 || width > 8 || channels > 1024 || count > most / (channels * width))
      return;
    if (begin > bytes_.size())
      fail(name_, ": is cut short: its samples begin at byte ", begin, ", and it has ", bytes_.size());
    const extent samples{.begin = static_cast<std::size_t>(begin), .announced = count * channels * width};
    settle(samples);
    const std::size_t end = samples.begin + static_cast<std::size_t>(samples.announced);
    refuse_second(end);
    part_ = sound_part(bytes_.span().first(end));  // libsndfile reads all that follows as samples
  }

  /// Creative: the position of the first block, and blocks of a type, a 24-bit size, and as many bytes. Type 0 has no
  /// size and ends the file.
  void check_voc() const {
    if (bytes_.size() < 26) return;
    auto at = static_cast<std::size_t>(bytes_.number(20, 2, false));
    while (bytes_.left(at) >= 4 && bytes_.number(at, 1, false) != 0) {
      const auto size = static_cast<std::size_t>(bytes_.number(at + 1, 3, false));
      at += 4;
      if (size > bytes_.left(at))
        fail(name_, ": is cut short: it announces ", size, " bytes of samples, and ", bytes_.left(at), " follow");
      at += size;
    }
    if (bytes_.left(at) > 1) refuse_second(at + 1);
  }

  /// The chunk at a position, if any.
  [[nodiscard]] chunk read_chunk(const chunk_form& form, std::size_t at) const {
    if (bytes_.left(at) < form.header()) return {};
    for (const char letter : bytes_.text(at, 4))
      if (letter < ' ' || letter > '~') return {};
    const std::uint64_t announced = bytes_.number(at + form.name_bytes, form.size_bytes, form.big_endian);
    const std::uint64_t counted = form.size_has_header ? form.header() : 0;
    return {at, at + form.header(), announced < counted ? 0 : announced - counted};
  }
  /// The position of the next chunk; the end of the file if it ends before.
  [[nodiscard]] std::size_t after(const chunk_form& form, const chunk& c) const {
    if (c.size > bytes_.left(c.begin)) return bytes_.size();
    const std::size_t end = c.begin + static_cast<std::size_t>(c.size);
    return std::min(bytes_.size(), (end + form.alignment - 1) / form.alignment * form.alignment);
  }
  /// The first chunk with a name. Fails when the file ends before it, but not on bytes that are not a chunk.
  [[nodiscard]] chunk find(const chunk_form& form, std::string_view name) const {
    std::size_t at = form.first;
    for (chunk c = read_chunk(form, at); c.at != 0; c = read_chunk(form, at)) {
      if (bytes_.is_at(at, name)) return c;
      at = after(form, c);
    }
    if (bytes_.left(at) < form.header() && name != "ds64" && name != "fmt ")
      fail(name_, ": is cut short, or has no sound: it ends before a chunk \"", name, "\"");
    return {};
  }

  /// Whether a size of samples is a placeholder. A size of 0 is meant only if nothing but whole chunks follows.
  [[nodiscard]] bool is_unknown(std::uint64_t announced, std::size_t field_bytes, std::size_t begin,
                                const chunk_form& form) const {
    if (announced > 0) return announced > bytes_.left(begin) && is_placeholder(announced, field_bytes);
    for (std::size_t at = begin; at < bytes_.size();) {
      const chunk c = read_chunk(form, at);
      if (c.at == 0 || c.size > bytes_.left(c.begin)) return true;
      at = after(form, c);
    }
    return false;
  }
  /// Whether a program that does not know the size writes this one: all ones, of 31, 32, 63 or 64 bits, or nearly as
  /// much (ffmpeg; sox 0x7ffff000 in whole frames, arecord 0x80000000, others 0x7fffffff minus a header), or, in AIFF,
  /// 0x7f000000 in whole frames (sox).
  [[nodiscard]] static bool is_placeholder(std::uint64_t size, std::size_t field_bytes) {
    constexpr std::uint64_t near = 1 << 16, all = std::numeric_limits<std::uint64_t>::max();
    const auto is_near = [&](std::uint64_t typical) {
      return size > typical ? size - typical <= near : typical - size <= near;
    };
    if (field_bytes == 8) return is_near(all) || is_near(all / 2);
    return is_near(0xffffffff) || is_near(0x80000000) || is_near(0x7f000000);
  }

  /// Fails when samples are missing. Writes their size if it is unknown.
  void settle(const extent& samples) {
    const std::uint64_t there = bytes_.left(samples.begin);
    if (!samples.is_unknown && samples.announced > there)
      fail(name_, ": is cut short: it announces ", samples.announced, " bytes of samples, and ", there, " follow");
    if (!samples.is_unknown) return;
    if (samples.field_bytes == 4 && there + samples.extra > 0xffffffff)
      fail(name_, ": does not say how long it is, and has ", there,
           " bytes of samples; expected no more than 4294967295, which is what its header can say");
    part_.put(samples.field, samples.field_bytes, samples.big_endian, there + samples.extra);
    // Several such files in a row begin alike, except for sizes.
    const auto begin = bytes_.text(0, 4), more = bytes_.text(8, 8);
    for (auto at = bytes_.text().find(begin, samples.begin); at != std::string_view::npos;
         at = bytes_.text().find(begin, at + 1))
      if (bytes_.is_at(at + 8, more)) refuse_second(at);
  }
  /// Fails when a container begins again after a chunk and those that follow it.
  void refuse_second(const chunk_form& form, chunk c) const {
    for (; c.at != 0 && c.size <= bytes_.left(c.begin); c = read_chunk(form, after(form, c)))
      refuse_second(after(form, c));
  }
  void refuse_second(std::size_t at) const {
    if (bytes_.left(at) > 0 && bytes_.is_at(at, bytes_.text(0, 4)))
      fail(name_, ": goes on with another file at byte ", at, "; expected one, or several in separate files");
  }

  const sound_bytes& bytes_;
  const std::string& name_;
  sound_part part_;
  std::span<const std::byte> mpeg_;
};

}  // namespace fathom::data::detail
