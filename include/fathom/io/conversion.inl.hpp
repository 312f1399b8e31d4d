// Implementation of conversion.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
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

/// Numbers of a tensor in groups of P, as a file holds them (stored_groups).
struct written_groups {
  std::vector<std::byte> numbers, scales, offsets;
};
template <grouped_type P, class T>
[[nodiscard]] written_groups groups_of(std::string_view name, const T* numbers, index in, index out, bool by_row) {
  const index groups = (in + group_size - 1) / group_size, rows = P::bits == 4 ? 16 * groups : in;
  const auto bytes = [&](index of_column) { return std::vector<std::byte>(static_cast<std::size_t>(of_column * out)); };
  written_groups to{bytes(rows), bytes(2 * groups), bytes(P::has_offset ? 2 * groups : 0)};
  const auto at = [&](index row, index column, index of) { return by_row ? column * of + row : row * out + column; };
  for (index j = 0; j < out; ++j)
    for (index g = 0; g < groups; ++g) {
      const index count = std::min(group_size, in - g * group_size);
      float column[group_size];
      for (index i = 0; i < count; ++i) {
        column[i] = static_cast<float>(numbers[at(g * group_size + i, j, in)]);
        if (!std::isfinite(column[i]))
          fail("save: ", name, " has ", column[i], " at [", by_row ? j : g * group_size + i, ", ", by_row ? g * group_size + i : j,
               "]; in groups of ", P::bits, " bits, all numbers must be finite");
      }
      const group<P> rounded = round_group<P>(column, count);
      std::memcpy(to.scales.data() + 2 * at(g, j, groups), &rounded.scale, 2);
      if constexpr (P::has_offset) std::memcpy(to.offsets.data() + 2 * at(g, j, groups), &rounded.offset, 2);
      for (index i = 0; i < (P::bits == 4 ? 16 : count); ++i)
        to.numbers[static_cast<std::size_t>(at((P::bits == 4 ? 16 : 32) * g + i, j, rows))] =
            static_cast<std::byte>(P::bits == 4 ? rounded.q[i] | rounded.q[i + 16] << 4 : rounded.q[i] ^ 128);
    }
  return to;
}
/// The type of the groups in which matrices and the head are written, as f(P()); does nothing for other forms.
template <class F>
void with_groups(written_as as, role of, const F& f) {
  if (!may_be_int8(of)) return;
  if (as == written_as::grouped_int8 || (of == role::head && (as == written_as::int4 || as == written_as::symmetric_int4)))
    f(grouped_int8());
  else if (as == written_as::int4)
    f(int4());
  else if (as == written_as::symmetric_int4)
    f(symmetric_int4());
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
  std::vector<tensor_to_write> halves, bytes;  // of tensors in groups
  const auto add_groups = [&](const tensor_row& row, auto type) {
    using P = decltype(type);
    const bool by_row = scaled_dimension(row.role) == 0;
    const index in = row.shape[by_row ? 1 : 0], out = row.shape[by_row ? 0 : 1], count = (in + group_size - 1) / group_size;
    const auto of = [&](const auto* n) { return detail::groups_of<P>(row.name, n, in, out, by_row); };
    const std::byte* const numbers = from.begin + row.offset;
    auto rounded = from.type == "F64" ? of(reinterpret_cast<const double*>(numbers)) : of(reinterpret_cast<const float*>(numbers));
    const auto keep = [&](std::vector<tensor_to_write>& to, const char* suffix, const char* as_type, index rows, std::vector<std::byte>&& own) {
      groups.push_back(std::move(own));
      to.push_back({join(prefix, row.name, suffix), as_type, by_row ? std::vector<index>{out, rows} : std::vector<index>{rows, out}, groups.back()});
    };
    keep(halves, scale_suffix, "F16", count, std::move(rounded.scales));
    if (P::has_offset) keep(halves, offset_suffix, "F16", count, std::move(rounded.offsets));
    keep(bytes, "", P::bits == 4 ? "U8" : "I8", P::bits == 4 ? 16 * count : in, std::move(rounded.numbers));
  };
  for (const tensor_row& row : from.table) detail::with_groups(as, row.role, [&](auto type) { add_groups(row, type); });
  auto next_scales = scales.end();
  for (const std::size_t width : {8u, 4u, 2u, 1u}) {  // widest types first keeps every tensor aligned
    if (width == 2) std::move(halves.begin(), halves.end(), std::back_inserter(tensors));
    if (width == 1) std::move(bytes.begin(), bytes.end(), std::back_inserter(tensors));
    for (const tensor_row& row : from.table) {
      bool is_grouped = false;
      detail::with_groups(as, row.role, [&](auto) { is_grouped = true; });
      if (is_grouped) continue;
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
}

FATHOM_INLINE void write_weights(const std::filesystem::path& path, const tensors_to_write& tensors, std::string_view description,
                                 std::map<std::string, std::string> metadata) {
  metadata["format"] = "pt";  // transformers rejects files without it
  if (!description.empty()) metadata[config_entry] = description;
  write_safetensors(path, tensors.tensors, metadata);
}

FATHOM_INLINE void refuse_packed(const stored_tensors& file) {
  if (!file.metadata().contains(packed_entry)) return;
  const auto type = file.metadata().find("fathom.packed.type");
  fail(file.path(), ": has packed weights", type == file.metadata().end() ? "" : " (" + type->second + ")",
       ", which are used where they lie, by fathom::packed_file; expected weights that fathom::save or others wrote");
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

FATHOM_INLINE stored_groups::stored_groups(const found_tensor& from, role as, std::span<const index> shape)
    : in(shape[scaled_dimension(as) == 0 ? 1 : 0]),
      out(shape[scaled_dimension(as)]),
      is_packed_(from.numbers->type == "U8"),
      by_row_(scaled_dimension(as) == 0),
      numbers_(from.numbers->bytes()),
      scales_(static_cast<std::size_t>(from.scales->size())),
      offsets_(static_cast<std::size_t>(from.offsets ? from.offsets->size() : 0)) {
  from.scales->read(std::as_writable_bytes(std::span(scales_)));
  if (from.offsets) from.offsets->read(std::as_writable_bytes(std::span(offsets_)));
}

FATHOM_INLINE std::string group_problem(std::string_view name, const found_tensor& tensor, role as, std::span<const index> shape) {
  const bool by_row = scaled_dimension(as) == 0, is_packed = tensor.numbers->type == "U8";
  const index in = shape[by_row ? 1 : 0], out = shape[by_row ? 0 : 1], groups = (in + group_size - 1) / group_size;
  const auto of = [&](const char* type, index rows) {
    return stored_tensor{type, by_row ? std::vector<index>{out, rows} : std::vector<index>{rows, out}};
  };
  std::string problems;
  const auto check = [&](const char* suffix, const stored_tensor* found, const stored_tensor& expected) {
    if (!found)
      problems += join("\n  ", name, suffix, ": missing; expected ", expected.describe(), ", because ", name, " is ", tensor.numbers->type);
    else if (found->type != expected.type || found->shape != expected.shape)
      problems += join("\n  ", name, suffix, ": expected ", expected.describe(), ", found ", found->describe());
    else if (expected.type == "F16") {
      std::vector<f16> numbers(static_cast<std::size_t>(found->size()));
      found->read(std::as_writable_bytes(std::span(numbers)));
      for (std::size_t i = 0; i < numbers.size(); ++i)
        if ((numbers[i].bits & 0x7c00u) == 0x7c00u) {
          problems += join("\n  ", name, suffix, ": has ", static_cast<float>(numbers[i]), " at ", i, "; expected finite numbers");
          break;
        }
    }
  };
  check("", tensor.numbers, is_packed ? of("U8", 16 * groups) : of("I8", in));
  check(scale_suffix, tensor.scales, of("F16", groups));
  if (tensor.offsets && !is_packed)
    problems += join("\n  ", name, offset_suffix, ": not part of the model, because ", name, " is I8");
  else if (tensor.offsets)
    check(offset_suffix, tensor.offsets, of("F16", groups));
  return problems;
}

namespace detail {
template <class T>
void copy_groups(const stored_groups& from, bool by_row, T* to) {
  from.with_type([&](auto type) {
    using P = decltype(type);
    for (index j = 0; j < from.out; ++j)
      for (index first = 0; first < from.in; first += group_size) {
        const group<P> numbers = from.get<P>(first / group_size, j);
        for (index i = 0; i < std::min(group_size, from.in - first); ++i)
          to[by_row ? j * from.in + first + i : (first + i) * from.out + j] = static_cast<T>(numbers.at(i));
      }
  });
}
}  // namespace detail

FATHOM_INLINE void copy_numbers(const found_tensor& from, role as, std::span<const index> shape, std::string_view type, std::byte* to) {
  const auto copy = [&](auto* numbers) {
    if (from.is_grouped())
      detail::copy_groups(stored_groups(from, as, shape), scaled_dimension(as) == 0, numbers);
    else if (from.scales)
      detail::copy_scaled(*from.numbers, as, *from.scales, numbers);
    else
      copy_numbers(*from.numbers, numbers);
  };
  if (type == type_name<float>)
    copy(reinterpret_cast<float*>(to));
  else
    copy(reinterpret_cast<double*>(to));
}

}  // namespace fathom::io
