// What conversion.hpp declares.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/io/conversion.hpp"

namespace fathom::io {

namespace detail {

using byte_sink = std::function<void(std::span<const std::byte>)>;

/// `count` numbers convert(i), of type To, i from 0 on, some at a time.
template <class To, class Convert>
void write_converted(index count, const byte_sink& write, const Convert& convert) {
  std::vector<To> piece(static_cast<std::size_t>(std::min<index>(count, 65536 / static_cast<index>(sizeof(To)))));
  for (index done = 0; done < count;) {
    const auto n = static_cast<std::size_t>(std::min<index>(count - done, std::ssize(piece)));
    for (std::size_t i = 0; i < n; ++i) piece[i] = convert(done + static_cast<index>(i));
    write(std::as_bytes(std::span(piece).first(n)));
    done += static_cast<index>(n);
  }
}

/// A tensor [rows, columns] as int8 with a scale for each row or each column.
template <class T>
struct int8_tensor {
  const T* numbers;
  index rows, columns;
  bool by_row;
  std::shared_ptr<const std::vector<float>> scales;

  [[nodiscard]] static std::vector<float> scales_of(const std::string& name, const T* numbers, index rows, index columns, bool by_row) {
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
  void operator()(const byte_sink& write) const {
    std::size_t row = 0, column = 0;
    write_converted<std::int8_t>(rows * columns, write, [&](index i) {
      const float scale = (*scales)[by_row ? row : column];
      if (std::cmp_equal(++column, columns)) column = 0, ++row;
      return to_int8(static_cast<float>(numbers[i]), scale);
    });
  }
};

template <class T>
void add_tensor(const tensor_row& row, const T* numbers, std::string name, written_as as, std::vector<tensor_to_write>& to) {
  const bool is_vector = row.role == role::vector;
  if (as == written_as::int8 && may_be_int8(row.role)) {
    const bool by_row = scaled_dimension(row.role) == 0;
    const auto scales = std::make_shared<const std::vector<float>>(
        int8_tensor<T>::scales_of(name, numbers, row.shape[0], row.shape[1], by_row));
    to.push_back({name, "I8", row.shape, static_cast<std::uint64_t>(row.size),
                  int8_tensor<T>{numbers, row.shape[0], row.shape[1], by_row, scales}});
    to.push_back({name + scale_suffix, "F32", {std::ssize(*scales)}, scales->size() * sizeof(float),
                  [scales](const byte_sink& write) { write(std::as_bytes(std::span(*scales))); }});
  } else if (as == written_as::they_are || (std::is_same_v<T, float> && (as == written_as::f32 || is_vector))) {
    to.push_back(tensor_in_memory(std::move(name), type_name<T>, row.shape,
                                  std::as_bytes(std::span(numbers, static_cast<std::size_t>(row.size)))));
  } else if (as == written_as::f32 || is_vector) {
    to.push_back({std::move(name), "F32", row.shape, static_cast<std::uint64_t>(row.size) * sizeof(float),
                  [numbers, count = row.size](const byte_sink& write) {
                    write_converted<float>(count, write, [&](index i) { return static_cast<float>(numbers[i]); });
                  }});
  } else {
    to.push_back({std::move(name), "BF16", row.shape, static_cast<std::uint64_t>(row.size) * sizeof(bf16),
                  [numbers, count = row.size](const byte_sink& write) {
                    write_converted<bf16>(count, write, [&](index i) { return bf16(static_cast<float>(numbers[i])); });
                  }});
  }
}

/// scale * int8, in float.
template <class T>
void copy_scaled(const stored_tensor& from, role as, const stored_tensor& scales, T* to) {
  std::vector<float> scale(static_cast<std::size_t>(scales.size()));
  scales.read(std::as_writable_bytes(std::span(scale)));
  const bool by_row = scaled_dimension(as) == 0;
  std::size_t row = 0, column = 0;
  for_pieces<std::int8_t>(from, [&](index first, std::span<const std::int8_t> numbers) {
    for (const std::int8_t number : numbers) {
      to[first++] = static_cast<T>(scale[by_row ? row : column] * static_cast<float>(number));
      if (std::cmp_equal(++column, from.shape[1])) column = 0, ++row;
    }
  });
}

}  // namespace detail

FATHOM_INLINE std::vector<tensor_to_write> tensors_to_write(const model_numbers& from, const std::string& prefix, written_as as) {
  std::vector<tensor_to_write> tensors;
  for (const tensor_row& row : from.table) {
    const std::byte* const numbers = from.begin + row.offset;
    if (from.type == type_name<float>)
      detail::add_tensor(row, reinterpret_cast<const float*>(numbers), prefix + row.name, as, tensors);
    else
      detail::add_tensor(row, reinterpret_cast<const double*>(numbers), prefix + row.name, as, tensors);
  }
  // The wider a type the sooner it comes, so that everybody's numbers are aligned.
  std::stable_sort(tensors.begin(), tensors.end(), [](const tensor_to_write& a, const tensor_to_write& b) {
    return bytes_of_type(a.type) > bytes_of_type(b.type);
  });
  return tensors;
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
