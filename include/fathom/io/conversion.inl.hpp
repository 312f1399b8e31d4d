// Implementation of conversion.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/io/conversion.hpp"
#include "fathom/io/description.hpp"
#include "fathom/io/safetensors.inl.hpp"

namespace fathom::io {

namespace detail {

/// The int8 scale of each row or column of a matrix [rows, columns]. Fails on non-finite numbers.
template <class T>
[[nodiscard]] std::vector<float> scales_of(std::string_view name, const T* numbers, index rows, index columns, bool by_row) {
  std::vector<float> scales(static_cast<std::size_t>(by_row ? rows : columns));
  for (index k = 0; k < rows; ++k)
    for (index j = 0; j < columns; ++j) {
      const float value = static_cast<float>(numbers[k * columns + j]);
      if (!std::isfinite(value))
        fail("save: ", name, " has ", value, " at [", k, ", ", j, "]; as int8, all numbers must be finite");
      float& scale = scales[static_cast<std::size_t>(by_row ? k : j)];
      scale = std::max(scale, std::abs(value));
    }
  for (float& scale : scales) scale = int8_scale(scale);
  return scales;
}

/// The type in which a tensor is written.
[[nodiscard, gnu::cold]] inline std::string_view type_as(written_as as, role of, std::string_view type) {
  if (as == written_as::they_are) return type;
  if (as == written_as::f32 || of == role::vector) return "F32";
  return as == written_as::int8 && may_be_int8(of) ? "I8" : "BF16";
}

/// scale * int8, in float.
template <class T>
void copy_scaled(const stored_tensor& from, role as, const stored_tensor& scales, T* to) {
  std::vector<float> scale(static_cast<std::size_t>(scales.size()));
  scales.read(std::as_writable_bytes(std::span(scale)));
  const bool by_row = scaled_dimension(as) == 0;
  std::size_t row = 0, column = 0;
  for_floats(from, [&](index first, std::span<const float> numbers) {
    for (const float number : numbers) {
      to[first++] = static_cast<T>(scale[by_row ? row : column] * number);
      if (std::cmp_equal(++column, from.shape[1])) column = 0, ++row;
    }
  });
}

}  // namespace detail

FATHOM_INLINE void tensors_to_write::add(const model_numbers& from, const std::string& prefix, written_as as) {
  auto next_scales = scales.end();
  for (const std::size_t width : {8u, 4u, 2u, 1u})  // widest types first keeps every tensor aligned
    for (const tensor_row& row : from.table) {
      const std::string_view type = detail::type_as(as, row.role, from.type);
      const bool is_int8 = type == "I8", by_row = scaled_dimension(row.role) == 0;
      const std::byte* const numbers = from.begin + row.offset;
      if (is_int8 && width == sizeof(float)) {
        const auto of = [&](const auto* n) { return detail::scales_of(row.name, n, row.shape[0], row.shape[1], by_row); };
        scales.push_back(from.type == "F64" ? of(reinterpret_cast<const double*>(numbers)) : of(reinterpret_cast<const float*>(numbers)));
        if (next_scales == scales.end()) --next_scales;  // the first scales added by this call
        tensors.push_back({join(prefix, row.name, scale_suffix), "F32", {std::ssize(scales.back())}, std::as_bytes(std::span(scales.back()))});
      }
      if (bytes_of_type(type) != width) continue;
      tensors.push_back({prefix + row.name, std::string(type), row.shape,
                         {numbers, static_cast<std::size_t>(row.size) * bytes_of_type(from.type)}, std::string(from.type)});
      if (!is_int8) continue;
      tensors.back().scales = *next_scales++;
      tensors.back().scaled_by_row = by_row;
    }
}

FATHOM_INLINE void write_weights(const std::filesystem::path& path, const tensors_to_write& tensors, std::string_view description,
                                 std::map<std::string, std::string> metadata) {
  metadata["format"] = "pt";  // transformers rejects files without it
  if (!description.empty()) metadata[config_entry] = description;
  write_safetensors(path, tensors.tensors, metadata);
}

FATHOM_INLINE std::string scale_problem(std::string_view name, const stored_tensor& tensor, role as, const stored_tensor* scales) {
  const stored_tensor expected{"F32", {tensor.shape[scaled_dimension(as)]}};
  if (!scales) return join("\n  ", name, scale_suffix, ": missing; expected ", expected.describe(), ", because ", name, " is I8");
  if (scales->type != expected.type || scales->shape != expected.shape)
    return join("\n  ", name, scale_suffix, ": expected ", expected.describe(), ", found ", scales->describe());
  std::vector<float> numbers(static_cast<std::size_t>(scales->size()));
  scales->read(std::as_writable_bytes(std::span(numbers)));
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (!(numbers[i] >= 0 && numbers[i] <= std::numeric_limits<float>::max() / 128))
      return join("\n  ", name, scale_suffix, ": has ", numbers[i], " at ", i, "; expected finite scales, 0 or more");
  return {};
}

FATHOM_INLINE void copy_numbers(const stored_tensor& from, role as, const stored_tensor* scales, std::string_view type, std::byte* to) {
  const auto copy = [&](auto* numbers) { scales ? detail::copy_scaled(from, as, *scales, numbers) : copy_numbers(from, numbers); };
  if (type == type_name<float>)
    copy(reinterpret_cast<float*>(to));
  else
    copy(reinterpret_cast<double*>(to));
}

}  // namespace fathom::io
