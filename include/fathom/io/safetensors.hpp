// The safetensors format: a header in JSON that says what every tensor is and where, and then their bytes
// (github.com/huggingface/safetensors, "Format"). Reading trusts nothing that a file says.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/compiled.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"

namespace fathom::io {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian; so must be the machine");

/// The name that the format has for a type of numbers; empty where it has none that is written.
template <class T>
inline constexpr std::string_view type_name = {};
template <>
inline constexpr std::string_view type_name<float> = "F32";
template <>
inline constexpr std::string_view type_name<double> = "F64";
template <>
inline constexpr std::string_view type_name<bf16> = "BF16";
template <>
inline constexpr std::string_view type_name<std::int32_t> = "I32";

/// The bytes of one number of a type: 0 where they are no whole bytes (F4, F6_E2M3, ...), and for types not known here.
[[nodiscard]] std::size_t bytes_of_type(std::string_view type);
/// Whether copy_numbers can read a type: F32, F64, BF16 and F16.
[[nodiscard]] bool is_floating_point(std::string_view type);

/// A tensor in a file: what it is, and where. Its bytes are read when they are asked for, and only then.
struct stored_tensor {
  std::string type;  // "F32", "BF16", ...
  std::vector<index> shape;
  const input_file* file = nullptr;
  std::uint64_t begin = 0, end = 0;  // bytes of the file
  std::string name = {};             // in the file, for errors

  /// Numbers in the tensor.
  [[nodiscard]] index size() const;
  /// "F32 [2, 3]"
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] std::uint64_t byte_count() const { return end - begin; }
  /// Its bytes, row-major, from byte `at` on. Fails when they cannot be read.
  void read(std::span<std::byte> to, std::uint64_t at = 0) const;
  /// All of them.
  [[nodiscard]] std::vector<std::byte> bytes() const;
};

/// The numbers of a tensor of a floating-point type, converted. `to` must have room for from.size() of them. Fails on any
/// other type.
void copy_numbers(const stored_tensor& from, float* to);
void copy_numbers(const stored_tensor& from, double* to);

/// Tensors by their names, and what is said of them together.
class stored_tensors {
 public:
  [[nodiscard]] const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// The tensor of a name; fails when there is none.
  [[nodiscard]] const stored_tensor& at(std::string_view name) const;

 protected:
  explicit stored_tensors(std::string path) : path_(std::move(path)) {}

  std::string path_;
  std::map<std::string, stored_tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

/// A safetensors file, open, or in memory. Tensors of any type are listed; copy_numbers and load say which they cannot read.
class safetensors_file : public stored_tensors {
 public:
  /// Fails, saying what is wrong, on anything that is not a well-formed safetensors file.
  explicit safetensors_file(const std::filesystem::path& path);
  /// The same for the bytes of a file, which must outlive this: it points into them. Errors call it `name`.
  safetensors_file(std::span<const std::byte> bytes, std::string name);

 private:
  void read_header();

  std::unique_ptr<const input_file> file_;
};

/// A tensor on its way to a file: what it will be there, and the numbers in memory, where they must stay until it is written.
/// Numbers of another type, F32 or F64, are converted on the way, to F32, BF16 or I8.
struct tensor_to_write {
  std::string name, type;
  std::vector<index> shape;
  std::span<const std::byte> from;    // row-major
  std::string from_type = type;
  std::span<const float> scales = {};  // of I8: a number becomes number / scale, rounded
  bool scaled_by_row = false;          // each row has one, or each column

  [[nodiscard]] std::uint64_t byte_count() const;
};

/// Writes a safetensors file, all at once (file.hpp). The tensors lie in the order given. Fails when two have one name.
void write_safetensors(const std::filesystem::path& path, const std::vector<tensor_to_write>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/safetensors.inl.hpp"
#endif
