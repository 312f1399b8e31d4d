// Samples as 16-bit numbers, the format of most sound files and of speech codecs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fathom/core/error.hpp"

namespace fathom::data {

/// Samples in [-1, 1) as 16-bit numbers, scaled by 32768, rounded to nearest and clipped. Fails on NaN; errors call the
/// sound `name`.
[[nodiscard]] inline std::vector<std::int16_t> to_pcm16(std::span<const float> samples,
                                                        const std::string& name = "to_pcm16") {
  std::vector<std::int16_t> numbers(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (std::isnan(samples[i])) fail(name, ": sample ", i, " is not a number; expected samples in [-1, 1]");
    numbers[i] = static_cast<std::int16_t>(std::lround(std::clamp(samples[i] * 32768.0f, -32768.0f, 32767.0f)));
  }
  return numbers;
}

/// The inverse, exactly.
[[nodiscard]] inline std::vector<float> from_pcm16(std::span<const std::int16_t> numbers) {
  std::vector<float> samples(numbers.size());
  std::transform(numbers.begin(), numbers.end(), samples.begin(),
                 [](std::int16_t number) { return static_cast<float>(number) / 32768.0f; });
  return samples;
}

}  // namespace fathom::data
