// Weights in files in another type than in memory. What has two dimensions is converted, biases and gains stay numbers of
// four bytes: files hold what packing for decoding holds (../README.md, "Types in files").
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/core/matrix.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/io/safetensors.hpp"

namespace fathom::io {

/// The scales of an int8 tensor have its name and this.
inline constexpr const char* scale_suffix = ".scale";

/// Whether a tensor may be int8 in a file: those that are multiplied with.
[[nodiscard]] constexpr bool may_be_int8(role as) { return as == role::matrix || as == role::head; }
/// The dimension along which an int8 tensor has one scale each: the columns of a matrix [in, out], the rows of a head
/// [vocab, width]. Both are what one output is made with.
[[nodiscard]] constexpr std::size_t scaled_dimension(role as) { return as == role::head ? 0 : 1; }

/// Tensors on their way to a file, in the order of a file, and the memory that they lie in.
struct converted_tensors {
  std::vector<std::pair<std::string, stored_tensor>> tensors;
  std::vector<std::vector<std::byte>> memory;
};

/// The numbers, as numbers of type To.
template <class To, class T>
void convert_numbers(std::string_view name, std::span<const T> from, const std::vector<index>& shape, converted_tensors& to) {
  std::vector<std::byte> bytes(from.size() * sizeof(To));
  for (std::size_t i = 0; i < from.size(); ++i) {
    const To value = static_cast<To>(static_cast<std::conditional_t<std::is_same_v<To, bf16>, float, T>>(from[i]));
    std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
  }
  to.tensors.emplace_back(name, stored_tensor{std::string(type_name<To>), shape, bytes});
  to.memory.push_back(std::move(bytes));  // the bytes stay where they are
}

/// A tensor of two dimensions as int8, and its scales. Fails on numbers that are not finite.
template <class T>
void convert_to_int8(std::string_view name, matrix<const T> from, role as, converted_tensors& to) {
  const bool by_row = scaled_dimension(as) == 0;
  std::vector<float> scales(static_cast<std::size_t>(by_row ? from.rows : from.columns));
  const auto scale_of = [&](index k, index j) -> float& { return scales[static_cast<std::size_t>(by_row ? k : j)]; };
  for (index k = 0; k < from.rows; ++k)
    for (index j = 0; j < from.columns; ++j) {
      const float value = static_cast<float>(from(k, j));
      if (!std::isfinite(value))
        fail("save: ", name, " has ", value, " at [", k, ", ", j, "]; as int8, all numbers must be finite");
      scale_of(k, j) = std::max(scale_of(k, j), std::abs(value));
    }
  for (float& scale : scales) scale = int8_scale(scale);
  std::vector<std::byte> bytes(static_cast<std::size_t>(from.rows * from.columns));
  for (index k = 0; k < from.rows; ++k)
    for (index j = 0; j < from.columns; ++j)
      bytes[static_cast<std::size_t>(k * from.columns + j)] =
          static_cast<std::byte>(to_int8(static_cast<float>(from(k, j)), scale_of(k, j)));
  to.tensors.emplace_back(name, stored_tensor{"I8", {from.rows, from.columns}, bytes});
  to.memory.push_back(std::move(bytes));
  convert_numbers<float>(std::string(name) + scale_suffix, std::span<const float>(scales),
                         {static_cast<index>(scales.size())}, to);
}

/// The tensors of some weights as P: float, bf16 or int8 where they have two dimensions. With int8, tables that are only
/// looked up are bf16.
template <class P, class Parameters>
[[nodiscard]] converted_tensors convert_tensors(const Parameters& weights) {
  static_assert(std::is_same_v<P, float> || std::is_same_v<P, bf16> || std::is_same_v<P, std::int8_t>,
                "weights are saved as float, fathom::bf16 or std::int8_t");
  using model = typename Parameters::model;
  converted_tensors to;
  model::visit(
      [&](std::string_view name, initial, const auto& tensor, const auto& shape) {
        constexpr role as = std::remove_cvref_t<decltype(shape)>::role;
        if constexpr (std::is_same_v<P, std::int8_t> && may_be_int8(as))
          convert_to_int8(name, tensor.view(), as, to);
        else
          convert_numbers<std::conditional_t<as == role::vector || std::is_same_v<P, float>, float, bf16>>(
              name, tensor.span(), {shape.shape.begin(), shape.shape.end()}, to);
      },
      weights, model::tensors);
  // The wider a type the sooner it comes, so that everybody's numbers are aligned.
  std::stable_sort(to.tensors.begin(), to.tensors.end(), [](const auto& a, const auto& b) {
    return bytes_of_type(a.second.type) > bytes_of_type(b.second.type);
  });
  return to;
}

/// What is wrong with the scales of an int8 tensor, as a line of an error; empty if nothing is. `scales` may be null.
[[nodiscard]] inline std::string scale_problem(std::string_view name, const stored_tensor& tensor, role as,
                                               const stored_tensor* scales) {
  const stored_tensor expected{"F32", {tensor.shape[scaled_dimension(as)]}, {}};
  if (!scales) return join("\n  ", name, scale_suffix, ": missing; expected ", expected.describe(), ", because ", name, " is I8");
  if (scales->type != expected.type || scales->shape != expected.shape)
    return join("\n  ", name, scale_suffix, ": expected ", expected.describe(), ", found ", scales->describe());
  for (index i = 0; i < scales->size(); ++i) {
    float scale;
    std::memcpy(&scale, scales->bytes.data() + static_cast<std::size_t>(i) * sizeof scale, sizeof scale);
    if (!(scale >= 0 && scale <= std::numeric_limits<float>::max() / 128))
      return join("\n  ", name, scale_suffix, ": has ", scale, " at ", i, "; expected finite scales, 0 or more");
  }
  return {};
}

/// The numbers of a tensor, converted to T; with `scales`, which have been checked, those of an int8 tensor: scale * int8
/// in float.
template <class T>
void copy_numbers(const stored_tensor& from, role as, const stored_tensor* scales, T* to) {
  if (!scales) return copy_numbers(from, to);
  const index rows = from.shape[0], columns = from.shape[1];
  std::vector<float> scale(static_cast<std::size_t>(scales->size()));
  std::memcpy(scale.data(), scales->bytes.data(), scales->bytes.size());
  for (index k = 0; k < rows; ++k)
    for (index j = 0; j < columns; ++j) {
      const auto byte = static_cast<std::int8_t>(from.bytes[static_cast<std::size_t>(k * columns + j)]);
      *to++ = static_cast<T>(scale[static_cast<std::size_t>(scaled_dimension(as) == 0 ? k : j)] * static_cast<float>(byte));
    }
}

}  // namespace fathom::io
