// Random numbers that depend only on a seed, a stream and a position. The position is all there is to save.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "fathom/core/types.hpp"

namespace fathom {

/// One block of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                                            std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// The stream of a name (its FNV-1a hash). Every tensor draws its initial values from its own stream, so two models
/// with one seed agree in every tensor that they share.
[[nodiscard]] constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  return hash;
}

/// A stream of random numbers. The n-th number is a function of (seed, stream, n) alone.
class random {
 public:
  constexpr random(std::uint64_t seed, std::uint64_t stream, std::uint64_t position = 0)
      : seed_(seed), stream_(stream), position_(position) {}

  /// The numbers drawn so far. A new stream that starts here continues this one.
  [[nodiscard]] constexpr std::uint64_t position() const { return position_; }

  /// 64 random bits.
  [[nodiscard]] constexpr std::uint64_t bits() {
    const std::uint64_t n = position_++;
    const auto word = philox({static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(n >> 32),
                              static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                             {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    return (std::uint64_t{word[1]} << 32) | word[0];
  }
  /// Uniform in [0, 1), 53 bits.
  [[nodiscard]] constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  /// Uniform among 0, 1, ..., count - 1.
  [[nodiscard]] constexpr index below(index count) {
    return static_cast<index>(uniform() * static_cast<double>(count));
  }
  /// Standard normal (Box and Muller).
  [[nodiscard]] double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::uint64_t seed_, stream_, position_;
};

}  // namespace fathom
