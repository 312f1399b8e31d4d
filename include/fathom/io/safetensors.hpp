// The safetensors format: a JSON header with the type, shape and place of every tensor, followed by their bytes
// (github.com/huggingface/safetensors, "Format"). Reading validates everything; files are untrusted input.
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
#include "fathom/core/ggml_blocks.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"

namespace fathom::io {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian; so must be the machine");

/// The format's name for a number type; empty for types that are not written.
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

/// The size of one number of a type in bytes; 0 for types of fractional bytes (F4, F6_E2M3, ...) and for unknown types.
[[nodiscard]] std::size_t bytes_of_type(std::string_view type);
/// Whether copy_numbers can read a type: F32, F64, BF16 and F16.
[[nodiscard]] bool is_floating_point(std::string_view type);

/// Numbers one after the other in blocks of a GGUF file (core/ggml_blocks.hpp), of a readable type; or none.
struct stored_blocks {
  ggml::type type = ggml::type::f32;
  const std::byte* begin = nullptr;
};

/// Where the bytes of a tensor come from that no file holds as they are: transposed, joined or dequantised.
class tensor_source {
 public:
  virtual ~tensor_source() = default;
  /// Reads to.size() bytes (row-major), starting at byte `at`.
  virtual void read(std::span<std::byte> to, std::uint64_t at) const = 0;
  /// The file that it reads, for errors.
  [[nodiscard]] virtual const std::string& path() const = 0;
  /// The numbers of row i of a matrix, for dimension 0, or of column i, for dimension 1, if they lie so in the file.
  [[nodiscard]] virtual stored_blocks blocks([[maybe_unused]] std::size_t dimension, [[maybe_unused]] index i) const { return {}; }
};

/// The type, shape and place of a tensor in a file. Its bytes are read only on demand.
struct stored_tensor {
  std::string type;  // "F32", "BF16", ...
  std::vector<index> shape;
  const input_file* file = nullptr;
  std::uint64_t begin = 0, end = 0;  // byte offsets in the file
  std::string name = {};             // in the file, for errors
  std::shared_ptr<const tensor_source> source = nullptr;  // in place of the file; `end` is then the number of bytes

  /// Numbers in the tensor.
  [[nodiscard]] index size() const;
  /// "F32 [2, 3]"
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] std::uint64_t byte_count() const { return end - begin; }
  /// The file that holds it.
  [[nodiscard]] const std::string& path() const;
  /// Reads to.size() of its bytes (row-major), starting at byte `at`. Fails when they cannot be read.
  void read(std::span<std::byte> to, std::uint64_t at = 0) const;
  /// All of its bytes.
  [[nodiscard]] std::vector<std::byte> bytes() const;
};

/// Reads and converts the numbers of a floating-point tensor. `to` must have room for from.size() numbers. Fails on any
/// other type.
void copy_numbers(const stored_tensor& from, float* to);
void copy_numbers(const stored_tensor& from, double* to);

/// Tensors by name, and their metadata.
class stored_tensors {
 public:
  [[nodiscard]] const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// The tensor with this name. Fails when there is none.
  [[nodiscard]] const stored_tensor& at(std::string_view name) const;

 protected:
  explicit stored_tensors(std::string path) : path_(std::move(path)) {}

  std::string path_;
  std::map<std::string, stored_tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

/// An open safetensors file, or one in memory. Lists tensors of any type; copy_numbers and load fail on those that they
/// cannot convert.
class safetensors_file : public stored_tensors {
 public:
  /// Fails on anything that is not a well-formed safetensors file; the error gives the reason.
  explicit safetensors_file(const std::filesystem::path& path);
  /// The same for the bytes of a file in memory, which must outlive this. Errors call it `name`.
  safetensors_file(std::span<const std::byte> bytes, std::string name);

 private:
  void read_header();

  std::unique_ptr<const input_file> file_;
};

/// A tensor to write: its name, type and shape in the file, and its numbers, which must stay in memory until it is
/// written. Numbers of another type, F32 or F64, are converted to F32, BF16 or I8.
struct tensor_to_write {
  std::string name, type;
  std::vector<index> shape;
  std::span<const std::byte> from;    // row-major
  std::string from_type = type;
  std::span<const float> scales = {};  // for I8: a number becomes number / scale, rounded
  bool scaled_by_row = false;          // one scale per row; otherwise one per column

  [[nodiscard]] std::uint64_t byte_count() const;
};

/// Writes a safetensors file atomically (file.hpp), with the tensors in the order given. The first begins at a multiple of
/// `multiple` bytes of the file. Fails when two have the same name.
void write_safetensors(const std::filesystem::path& path, const std::vector<tensor_to_write>& tensors,
                       const std::map<std::string, std::string>& metadata, std::size_t multiple = 8);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/safetensors.inl.hpp"
#endif
