// Saving weights in another type than they have in memory. Tensors of two dimensions are converted; biases and gains
// stay four-byte floats. Files hold the same values as weights packed for decoding (../README.md, "Types in files").
#pragma once

#include <cstddef>
#include <filesystem>
#include <list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/storage.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/model/tensor_table.hpp"

namespace fathom::io {

/// Suffix that turns the name of an int8 tensor into the name of its scales.
inline constexpr const char* scale_suffix = ".scale";

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
enum class written_as { they_are, f32, bf16, int8 };

/// Tensors in file order, with the scales of the int8 ones.
struct tensors_to_write {
  std::vector<tensor_to_write> tensors;
  std::list<std::vector<float>> scales;

  /// Adds a model's tensors under `prefix` + name. With int8, tables that are only looked up become bf16. Numbers are
  /// converted while they are written, so `from` must outlive this. Fails on a non-finite number in an int8 tensor.
  void add(const model_numbers& from, const std::string& prefix = "", written_as as = written_as::they_are);
};

/// Writes tensors to a file, with additional metadata and the model's description (description.hpp), if not empty.
void write_weights(const std::filesystem::path& path, const tensors_to_write& tensors, std::string_view description,
                   std::map<std::string, std::string> metadata = {});

/// Checks the scales of an int8 tensor, which may be null. Returns a line for an error message, or an empty string.
[[nodiscard]] std::string scale_problem(std::string_view name, const stored_tensor& tensor, role as, const stored_tensor* scales);

/// Copies the numbers of a tensor, converted to `type`, F32 or F64. With `scales` (already checked), the tensor is int8
/// and its numbers are scale * int8, computed in float.
void copy_numbers(const stored_tensor& from, role as, const stored_tensor* scales, std::string_view type, std::byte* to);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/conversion.inl.hpp"
#endif
