// Splits a sound file into the parts that libsndfile reads one at a time. By itself libsndfile reads only the first of
// several sounds in a file, and largely ignores the sizes that a file announces.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/mpeg_streams.hpp"
#include "fathom/data/ogg_links.hpp"
#include "fathom/data/sound_bytes.hpp"
#include "fathom/data/sound_container.hpp"

namespace fathom::data::detail {

/// FLAC files in a row. The decoder detects missing frames, but not missing blocks before the first frame. Fails when
/// these are missing.
[[nodiscard]] inline std::vector<sound_part> flac_streams(const sound_bytes& bytes, const std::string& name) {
  using namespace std::string_view_literals;
  std::vector<std::size_t> begins{0};
  // The first block is STREAMINFO, of 34 bytes.
  for (auto at = bytes.text().find("fLaC", 1); at != std::string_view::npos; at = bytes.text().find("fLaC", at + 4))
    if (bytes.is_at(at, "fLaC\0\0\0\x22"sv) || bytes.is_at(at, "fLaC\x80\0\0\x22"sv)) begins.push_back(at);
  std::vector<sound_part> streams;
  for (std::size_t i = 0; i < begins.size(); ++i) {
    const std::size_t end = i + 1 < begins.size() ? begins[i + 1] : bytes.size();
    bool is_last_block = false, is_cut = false;
    std::size_t at = begins[i] + 4;
    while (!is_last_block && !is_cut) {  // 1 bit: last block, 7 bits: type, 24 bits: length
      is_cut = end - at < 4 || bytes.number(at + 1, 3, true) > end - at - 4;
      if (is_cut) break;
      is_last_block = bytes.number(at, 1, true) >= 0x80;
      at += 4 + static_cast<std::size_t>(bytes.number(at + 1, 3, true));
    }
    constexpr std::size_t shortest_frame = 10;
    if (is_cut || (bytes.is_at(at, "\xff") && end - at < shortest_frame))
      fail(name, ": is cut short: at byte ", end, " a stream ends before its first frame does");
    streams.emplace_back(bytes.span().subspan(begins[i], end - begins[i]));
  }
  return streams;
}

/// The parts of a sound file in order; errors call it `name`. Handles three things that libsndfile silently accepts:
///
/// - files shorter than they announce: an error
/// - files of unknown length, written to a pipe: they get their actual length
/// - several sounds, as in chained Ogg streams and `cat a.mp3 b.mp3`: each is a part; in containers, an error
[[nodiscard]] inline std::vector<sound_part> sound_parts(std::span<const std::byte> file, const std::string& name) {
  const sound_bytes bytes(file);
  if (bytes.is_at(0, "OggS")) return ogg_links(bytes, name);
  if (bytes.is_at(0, "fLaC")) return flac_streams(bytes, name);
  if (auto streams = mpeg_streams(bytes, name); !streams.empty()) return streams;
  const sound_container container(bytes, name);
  if (auto streams = mpeg_streams(sound_bytes(container.mpeg()), name); !streams.empty()) return streams;
  return {container.part()};
}

}  // namespace fathom::data::detail
