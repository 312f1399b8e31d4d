// What models of `transformers` compute, as make_families.py writes it beside them, to compare with ours.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <fathom/core/tensor.hpp>
#include <fathom/io/conversion.hpp>
#include <fathom/io/safetensors.hpp>

/// The tokens [n] of a tensor I32.
inline std::vector<fathom::token> tokens_in(const fathom::io::safetensors_file& file, const char* name) {
  const auto bytes = file.at(name).bytes();
  std::vector<fathom::token> tokens(bytes.size() / sizeof(fathom::token));
  std::memcpy(tokens.data(), bytes.data(), bytes.size());
  return tokens;
}
inline std::vector<float> numbers_in(const fathom::io::stored_tensor& tensor) {
  std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
  fathom::io::copy_numbers(tensor, numbers.data());
  return numbers;
}

/// The largest difference and the largest number expected. A number that is not finite differs by 1e30.
struct distance {
  double off = 0, largest = 0;
  [[nodiscard]] double relative() const { return off / largest; }
};
template <class T>
distance distance_of(std::span<const T> found, std::span<const float> expected) {
  if (found.size() != expected.size()) return {1e30, 1};
  distance d;
  for (std::size_t i = 0; i < found.size(); ++i) {
    d.largest = std::max(d.largest, std::abs(static_cast<double>(expected[i])));
    d.off = std::max(d.off, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
    if (!std::isfinite(static_cast<double>(found[i]))) return {1e30, 1};
  }
  return d;
}

/// The tensors "gradient.NAME" of a file, under the names of the weights, so that the code that reads weights brings them into our layout.
struct stored_gradients : fathom::io::stored_tensors {
  explicit stored_gradients(const fathom::io::safetensors_file& file) : stored_tensors(file.path()) {
    for (const auto& [name, tensor] : file.tensors())
      if (name.starts_with("gradient.")) tensors_.emplace(name.substr(9), tensor);
  }
};
