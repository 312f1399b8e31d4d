// The bytes of a sound file, and the parts of it that libsndfile reads.
#pragma once

#include "fathom/core/standard.hpp"  // first

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::data::detail {

/// A view of bytes that contain numbers and names. Positions beyond the end have no text.
class sound_bytes {
 public:
  explicit sound_bytes(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  /// The number of bytes from a position on.
  [[nodiscard]] std::size_t left(std::size_t at) const { return at < size() ? size() - at : 0; }
  [[nodiscard]] std::span<const std::byte> span() const { return bytes_; }
  [[nodiscard]] std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), size()}; }
  [[nodiscard]] std::string_view text(std::size_t at, std::size_t count) const {
    return text().substr(std::min(at, size()), count);
  }
  [[nodiscard]] bool is_at(std::size_t at, std::string_view expected) const {
    return text(at, expected.size()) == expected;
  }
  /// A number of up to 8 bytes, which must be within the file.
  [[nodiscard]] std::uint64_t number(std::size_t at, std::size_t count, bool big_endian) const {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
      value = value << 8 | std::to_integer<std::uint64_t>(bytes_[at + (big_endian ? i : count - 1 - i)]);
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
};

/// A sound that libsndfile can read on its own: part of the bytes of a file, or bytes made from them.
class sound_part {
 public:
  explicit sound_part(std::span<const std::byte> bytes) : original_(bytes) {}
  /// `frames`: samples per channel, if libsndfile would only guess.
  explicit sound_part(std::vector<std::byte> bytes, std::optional<std::int64_t> frames = std::nullopt)
      : copy_(std::move(bytes)), frames_(frames) {}

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return copy_.empty() ? original_ : std::span<const std::byte>(copy_);
  }
  [[nodiscard]] std::optional<std::int64_t> frames() const { return frames_; }
  /// Overwrites a number.
  void put(std::size_t at, std::size_t count, bool big_endian, std::uint64_t value) {
    for (std::size_t i = 0; i < count; ++i, value >>= 8)
      edit()[at + (big_endian ? count - 1 - i : i)] = static_cast<std::byte>(value & 0xff);
  }
  void put(std::size_t at, std::string_view text) {
    for (const char letter : text) edit()[at++] = static_cast<std::byte>(letter);
  }

 private:
  std::vector<std::byte>& edit() {
    if (copy_.empty()) copy_.assign(original_.begin(), original_.end());
    return copy_;
  }

  std::span<const std::byte> original_;
  std::vector<std::byte> copy_;
  std::optional<std::int64_t> frames_;
};

}  // namespace fathom::data::detail
