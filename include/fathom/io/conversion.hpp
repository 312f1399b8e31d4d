// Saving weights in another type than they have in memory: floats, int8 with scales, or groups (core/grouped.hpp). Tensors of
// two dimensions are converted; biases and gains stay four-byte floats. Files hold the same values as weights packed for decoding (../README.md, "Types in files").
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/grouped.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom::io {

/// Suffixes that turn the name of a tensor of few bits into the names of its scales and its offsets.
inline constexpr const char* scale_suffix = ".scale";
inline constexpr const char* offset_suffix = ".offset";

/// Whether a tensor may be int8 in a file: only operands of matrix products.
[[nodiscard]] constexpr bool may_be_int8(role as) { return as == role::matrix || as == role::head; }
/// The dimension that the scales of an int8 tensor index: the columns of a matrix [in, out], the rows of a head
/// [vocab, width]. Either way there is one scale per output.
[[nodiscard]] constexpr std::size_t scaled_dimension(role as) { return as == role::head ? 0 : 1; }

/// All numbers of a model, in host memory: weights, gradients or moments.
struct model_numbers {
  const tensor_table& table;
  std::string_view type;   // of every number: "F32" or "F64"
  const std::byte* begin;  // base of the table's offsets
};

/// The numbers of a model with its table. Both must outlive the result.
template <class Model>
[[nodiscard]] model_numbers numbers_of(const tensor_table& table, const typename Model::template layout<plain<typename Model::scalar>>& numbers) {
  using T = typename Model::scalar;
  static_assert(!type_name<T>.empty(), "weights of this scalar type have no form in a file");
  return {table, type_name<T>, fathom::detail::address_of(numbers)};
}

/// The type in which tensors of two dimensions are written.
enum class written_as { they_are, f32, bf16, int8, int4, symmetric_int4, grouped_int8 };

/// Tensors in file order, with the scales of the int8 ones, and the bytes of those in groups.
struct tensors_to_write {
  std::vector<tensor_to_write> tensors;
  std::list<std::vector<float>> scales;
  std::list<std::vector<std::byte>> groups;

  /// Adds a model's tensors under `prefix` + name. With fewer bits than bf16, tables that are only looked up become bf16.
  /// Numbers are converted while they are written, so `from` must outlive this; those in groups are converted here. Fails on a
  /// non-finite number in a tensor of fewer bits.
  void add(const model_numbers& from, const std::string& prefix = "", written_as as = written_as::they_are);
};

/// Writes tensors to a file, with additional metadata and the model's description (description.hpp), if not empty.
void write_weights(const std::filesystem::path& path, const tensors_to_write& tensors, std::string_view description,
                   std::map<std::string, std::string> metadata = {});

/// Fails on a file of packed weights (packed_file.hpp), which are not converted.
void refuse_packed(const stored_tensors& file);

/// What a file holds for a tensor of the model.
struct found_tensor {
  const stored_tensor* numbers = nullptr;  // null: missing, as the options of load allow
  const stored_tensor* scales = nullptr;   // of fewer bits
  const stored_tensor* offsets = nullptr;  // of int4

  /// Whether the numbers are in groups (core/grouped.hpp); otherwise, a tensor with scales is int8 with a scale per output.
  [[nodiscard]] bool is_grouped() const { return scales && scales->type == "F16"; }
};

/// A matrix [in, out] in groups as files hold it: those of int4 and symmetric_int4 as U8 [groups * 16, out], where byte
/// (16 g + i, j) has number 32 g + i of column j in its lower half and number 32 g + i + 16 in its upper one; those of
/// grouped_int8 as I8 [in, out], q - 128. Scales and offsets are F16 [groups, out]. A head is the transpose of all of this.
/// Reads all of it.
class stored_groups {
 public:
  stored_groups(const found_tensor& from, role as, std::span<const index> shape);

  index in, out;
  /// Calls f(P()) with the type of the groups.
  template <class F>
  void with_type(const F& f) const {
    if (!offsets_.empty()) f(int4());
    else if (is_packed_) f(symmetric_int4());
    else f(grouped_int8());
  }
  /// Group g of column j.
  template <grouped_type P>
  [[nodiscard]] group<P> get(index g, index j) const {
    group<P> result;
    result.scale = scales_[at(g, j, groups())];
    if constexpr (P::has_offset) result.offset = offsets_[at(g, j, groups())];
    const index count = std::min(group_size, in - g * group_size);
    for (index i = 0; i < (is_packed_ ? group_size : count); ++i) {
      const std::byte byte = is_packed_ ? numbers_[at(16 * g + i % 16, j, 16 * groups())] : numbers_[at(32 * g + i, j, in)];
      result.q[i] = std::to_integer<std::uint8_t>(!is_packed_ ? byte ^ std::byte{128} : i < 16 ? byte & std::byte{15} : byte >> 4);
    }
    return result;
  }

 private:
  [[nodiscard]] index groups() const { return (in + group_size - 1) / group_size; }
  [[nodiscard]] std::size_t at(index row, index column, index rows) const {
    return static_cast<std::size_t>(by_row_ ? column * rows + row : row * out + column);
  }
  bool is_packed_, by_row_;
  std::vector<std::byte> numbers_;
  std::vector<f16> scales_, offsets_;
};

/// Checks the shapes of a tensor in groups, its scales and its offsets, and that both are finite. Returns lines for an error
/// message, or an empty string.
[[nodiscard]] std::string group_problem(std::string_view name, const found_tensor& tensor, role as, std::span<const index> shape);

/// Checks the scales of an int8 tensor, which may be null. Returns a line for an error message, or an empty string.
[[nodiscard]] std::string scale_problem(std::string_view name, const stored_tensor& tensor, role as, const stored_tensor* scales);

/// Copies the numbers of a tensor of this role and shape, converted to `type`, F32 or F64. What has scales (already checked) is
/// computed in float.
void copy_numbers(const found_tensor& from, role as, std::span<const index> shape, std::string_view type, std::byte* to);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/conversion.inl.hpp"
#endif
