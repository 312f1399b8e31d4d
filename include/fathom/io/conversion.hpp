// Weights in files in another type than in memory. What has two dimensions is converted, biases and gains stay numbers of
// four bytes: files hold what packing for decoding holds (../README.md, "Types in files").
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

/// The scales of an int8 tensor have its name and this.
inline constexpr const char* scale_suffix = ".scale";

/// Whether a tensor may be int8 in a file: those that are multiplied with.
[[nodiscard]] constexpr bool may_be_int8(role as) { return as == role::matrix || as == role::head; }
/// The dimension along which an int8 tensor has one scale each: the columns of a matrix [in, out], the rows of a head
/// [vocab, width]. Both are what one output is made with.
[[nodiscard]] constexpr std::size_t scaled_dimension(role as) { return as == role::head ? 0 : 1; }

/// All numbers of a model, in the host's memory: weights, gradients or moments.
struct model_numbers {
  const tensor_table& table;
  std::string_view type;   // of all of them, "F32" or "F64"
  const std::byte* begin;  // of which the table's offsets count
};

/// Those of a model, and its table, which must outlive what is returned.
template <class Model>
[[nodiscard]] model_numbers numbers_of(const tensor_table& table, const typename Model::template layout<plain<typename Model::scalar>>& numbers) {
  using T = typename Model::scalar;
  static_assert(!type_name<T>.empty(), "weights of this scalar type have no form in a file");
  return {table, type_name<T>, fathom::detail::address_of(numbers)};
}

/// How tensors of two dimensions are written: as they are, or as float, bf16, int8.
enum class written_as { they_are, f32, bf16, int8 };

/// Tensors in the order that they lie in a file, and the scales of those of int8.
struct tensors_to_write {
  std::vector<tensor_to_write> tensors;
  std::list<std::vector<float>> scales;

  /// Adds those of a model, named `prefix` + their names. With int8, tables that are only looked up are bf16. Nothing is
  /// converted before it is written; `from` must outlive this. Fails on a number that is not finite and would be int8.
  void add(const model_numbers& from, const std::string& prefix = "", written_as as = written_as::they_are);
};

/// Writes tensors to a file of their own, with the description of their model (description.hpp) if it has one, and further
/// metadata.
void write_weights(const std::filesystem::path& path, const tensors_to_write& tensors, std::string_view description,
                   std::map<std::string, std::string> metadata = {});

/// What is wrong with the scales of an int8 tensor, as a line of an error; empty if nothing is. `scales` may be null.
[[nodiscard]] std::string scale_problem(std::string_view name, const stored_tensor& tensor, role as, const stored_tensor* scales);

/// The numbers of a tensor, converted to `type`, F32 or F64; with `scales`, which have been checked, those of an int8 tensor:
/// scale * int8 in float.
void copy_numbers(const stored_tensor& from, role as, const stored_tensor* scales, std::string_view type, std::byte* to);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/conversion.inl.hpp"
#endif
