// Ogg ("The Ogg encapsulation format version 0", RFC 3533), just enough to check that no page is missing and to find
// where one stream follows another. Decoders skip damaged pages and silently lose what they held.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/sound_bytes.hpp"

namespace fathom::data::detail {

/// The length of the Ogg page at a position; 0 if there is no whole page with a valid checksum: CRC-32 with the
/// polynomial 0x04c11db7, over the page with its checksum set to 0.
[[nodiscard]] inline std::size_t ogg_page(const sound_bytes& bytes, std::size_t at) {
  using namespace std::string_view_literals;
  constexpr std::size_t checksum = 22, header = 27;  // offset of the checksum; bytes before the segment lengths
  if (!bytes.is_at(at, "OggS\0"sv) || bytes.left(at) < header) return 0;
  const auto segments = static_cast<std::size_t>(bytes.number(at + 26, 1, false));
  if (bytes.left(at) < header + segments) return 0;
  std::size_t length = header + segments;
  for (std::size_t i = 0; i < segments; ++i)
    length += static_cast<std::size_t>(bytes.number(at + header + i, 1, false));
  if (bytes.left(at) < length) return 0;

  static constexpr auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i << 24;
      for (int bit = 0; bit < 8; ++bit) value = value << 1 ^ (value >> 31) * 0x04c11db7u;
      made[i] = value;
    }
    return made;
  }();
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < length; ++i) {
    const bool is_checksum = i >= checksum && i < checksum + 4;
    const auto byte = is_checksum ? 0u : std::to_integer<std::uint32_t>(bytes.span()[at + i]);
    sum = sum << 8 ^ table[sum >> 24 ^ byte];
  }
  return sum == bytes.number(at + checksum, 4, false) ? length : 0;
}

/// The links of a chain in order. A link is a group of streams that begin together; only one of them may be sound. A
/// FLAC link, which libsndfile 1.2 does not read, becomes a FLAC file. Fails when a page is damaged, and when a sound
/// stream has no last page.
[[nodiscard]] inline std::vector<sound_part> ogg_links(const sound_bytes& bytes, const std::string& name) {
  using namespace std::string_view_literals;
  enum : unsigned { first_page = 2, last_page = 4 };  // bits of a page's flags
  struct sound_stream {
    bool has_ended = false;
    bool is_flac = false;
  };
  std::vector<sound_part> links;
  std::map<std::uint64_t, sound_stream> sounds;  // of the link, by stream number
  std::vector<std::byte> flac;                   // of the link: contents of the pages
  const auto ended = [&] {
    return std::all_of(sounds.begin(), sounds.end(), [](auto& s) { return s.second.has_ended; });
  };
  std::size_t begin = 0, at = 0;
  const auto end_link = [&] {
    if (sounds.size() > 1) fail(name, ": has ", sounds.size(), " streams of sound at the same time; expected one");
    if (!ended())
      fail(name, ": is cut short: at byte ", at, " a stream ends without a page that is marked as its last one");
    if (flac.empty())
      links.emplace_back(bytes.span().subspan(begin, at - begin));
    else
      links.emplace_back(std::exchange(flac, {}));
    begin = at;
    sounds.clear();
  };
  bool in_headers = true;  // a link begins with the first pages of all its streams
  while (at < bytes.size()) {
    const std::size_t length = ogg_page(bytes, at);
    if (length == 0) {
      const bool is_something_else = !"OggS"sv.starts_with(bytes.text(at, 4));
      if (ended() && is_something_else) break;  // tags and the like after the last page
      fail(name, ": is cut short or damaged at byte ", at, ": expected an Ogg page, whole and as its checksum says");
    }
    const auto flags = static_cast<unsigned>(bytes.number(at + 5, 1, false));
    const std::uint64_t number = bytes.number(at + 14, 4, false);
    const bool is_first = (flags & first_page) != 0;
    if (is_first && !in_headers) end_link();
    in_headers = is_first;

    std::size_t body = at + 27 + static_cast<std::size_t>(bytes.number(at + 26, 1, false));
    const std::size_t end = at + length;
    if (is_first && bytes.is_at(body,
                                "\x7f"
                                "FLAC")) {
      sounds[number].is_flac = true;
      body = std::min(body + 9, end);  // skips a version and a number of packets; a FLAC file follows
    } else if (is_first &&
               (bytes.is_at(body, "\x01vorbis") || bytes.is_at(body, "OpusHead") || bytes.is_at(body, "Speex   "))) {
      sounds.try_emplace(number);
    }
    if (const auto sound = sounds.find(number); sound != sounds.end()) {
      sound->second.has_ended |= (flags & last_page) != 0;
      const auto page = bytes.span().subspan(body, end - body);
      if (sound->second.is_flac) flac.insert(flac.end(), page.begin(), page.end());
    }
    at = end;
  }
  end_link();
  return links;
}

}  // namespace fathom::data::detail
