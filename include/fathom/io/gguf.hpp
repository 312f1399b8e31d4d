// The GGUF format of llama.cpp: metadata by key, then the name, dimensions, type and place of every tensor, then their
// bytes (github.com/ggml-org/ggml, docs/gguf.md). Versions 2 and 3 are read, 3 is written, little-endian. Reading maps
// the file, validates all of it but the numbers, and copies nothing; files are untrusted input.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/compiled.hpp"
#include "fathom/core/ggml_blocks.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"

namespace fathom::io {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian; so must be the machine");

// ---- Metadata -------------------------------------------------------------------------------------------------------

/// The type of a value of the metadata. The numbers are those in files.
enum class gguf_type : std::uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  uint64 = 10,
  int64 = 11,
  float64 = 12,
};

/// A value of the metadata, where it lies in the file.
struct gguf_value {
  gguf_type type = gguf_type::uint8;
  std::span<const std::byte> bytes;            // of a number, the letters of a string, the elements of an array
  gguf_type element_type = gguf_type::uint8;   // of an array
  std::uint64_t count = 0;                     // of an array: its elements

  /// "UINT32", "an array of 3 STRING"
  [[nodiscard]] std::string describe() const;
  /// The elements of an array; nothing for other values.
  [[nodiscard]] std::vector<gguf_value> elements() const;

  // What the value is, if it is that:
  [[nodiscard]] std::optional<index> as_integer() const;  // of any integer type
  [[nodiscard]] std::optional<float> as_real() const;     // FLOAT32, or FLOAT64 rounded
  [[nodiscard]] std::optional<bool> as_bool() const;
  [[nodiscard]] std::optional<std::string_view> as_text() const;
};

/// A key of the metadata and its value, as views of the file.
struct gguf_entry {
  std::string_view key;
  gguf_value value;
};

// ---- Tensors --------------------------------------------------------------------------------------------------------

/// A tensor where it lies in the file: rows of blocks, one after the other.
struct gguf_tensor {
  std::string_view name;
  ggml::type type = ggml::type::f32;
  int rank = 0;                                   // dimensions in the file, 0 to 4
  std::array<index, 4> dimensions{1, 1, 1, 1};    // the fastest first: a matrix [in, out] is `out` rows of `in` numbers
  std::span<const std::byte> bytes;
  const mapped_file* file = nullptr;

  [[nodiscard]] index row_size() const { return dimensions[0]; }
  [[nodiscard]] index rows() const { return dimensions[1] * dimensions[2] * dimensions[3]; }
  [[nodiscard]] index size() const { return row_size() * rows(); }
  /// The bytes of one row.
  [[nodiscard]] index row_bytes() const;
  /// "Q4_1 [576, 49152]"
  [[nodiscard]] std::string describe() const;
};

/// Dequantises all numbers of a tensor, or `count` of its rows. `to` must have room for them. Fails on types that
/// ggml::dequantize does not know, and on rows that the tensor does not have.
void copy_numbers(const gguf_tensor& from, float* to);
void copy_rows(const gguf_tensor& from, index first, index count, float* to);

namespace detail {
void expect_blocks(const gguf_tensor& from, ggml::type type);
}

/// The blocks of a tensor as they lie in the file, a row after the other: blocks_of<ggml::block_q4_1>(tensor). Fails on
/// a tensor of another type.
template <class Block>
[[nodiscard]] std::span<const Block> blocks_of(const gguf_tensor& from) {
  static_assert(alignof(Block) == 1 && std::is_trivially_copyable_v<Block>);
  detail::expect_blocks(from, Block::type);
  return {reinterpret_cast<const Block*>(from.bytes.data()), from.bytes.size() / sizeof(Block)};
}

// ---- Files ----------------------------------------------------------------------------------------------------------

/// An open GGUF file, or one in memory. Lists tensors of all known types, also of those that are not dequantised. All
/// keys, strings, values and tensors are views into the file, and end with this.
class gguf_file {
 public:
  /// Fails on anything that is not a well-formed GGUF file; the error gives the reason.
  explicit gguf_file(const std::filesystem::path& path);
  /// The same for the bytes of a file in memory, which must outlive this. Errors call it `name`.
  gguf_file(std::span<const std::byte> bytes, std::string name);

  [[nodiscard]] const std::string& path() const { return file_->name(); }
  /// 2 or 3.
  [[nodiscard]] int version() const { return version_; }
  /// Tensors begin at multiples of this many bytes, counted from the first.
  [[nodiscard]] index alignment() const { return alignment_; }

  /// All metadata, in the file's order.
  [[nodiscard]] std::span<const gguf_entry> metadata() const { return metadata_; }
  /// The value of a key; null when there is none.
  [[nodiscard]] const gguf_value* find(std::string_view key) const;
  // The value of a key as what it is said to be. Each fails when there is no such key, unless there is a fallback, or
  // when its value is of another type. Texts are views into the file.
  [[nodiscard]] index integer(std::string_view key, std::optional<index> fallback = {}) const;  // of any integer type
  [[nodiscard]] float real(std::string_view key, std::optional<float> fallback = {}) const;     // FLOAT32 or FLOAT64
  [[nodiscard]] bool boolean(std::string_view key, std::optional<bool> fallback = {}) const;
  [[nodiscard]] std::string_view text(std::string_view key, std::optional<std::string_view> fallback = {}) const;
  // Arrays.
  [[nodiscard]] std::vector<index> integers(std::string_view key) const;
  [[nodiscard]] std::vector<float> reals(std::string_view key) const;
  [[nodiscard]] std::vector<bool> booleans(std::string_view key) const;
  [[nodiscard]] std::vector<std::string_view> texts(std::string_view key) const;

  /// All tensors, in the file's order.
  [[nodiscard]] std::span<const gguf_tensor> tensors() const { return tensors_; }
  /// The tensor with a name; null when there is none.
  [[nodiscard]] const gguf_tensor* find_tensor(std::string_view name) const;
  /// The tensor with a name. Fails when there is none.
  [[nodiscard]] const gguf_tensor& tensor(std::string_view name) const;

 private:
  void read();

  std::unique_ptr<const mapped_file> file_;
  int version_ = 0;
  index alignment_ = 0;
  std::vector<gguf_entry> metadata_;
  std::vector<gguf_tensor> tensors_;
  std::vector<std::size_t> by_key_, by_name_;  // positions of entries and of tensors, sorted
};

// ---- Writing --------------------------------------------------------------------------------------------------------

namespace detail {
/// The type for values of a C++ type.
template <class T>
[[nodiscard]] consteval gguf_type gguf_type_of() {
  if constexpr (std::is_same_v<T, bool>) return gguf_type::boolean;
  else if constexpr (std::is_same_v<T, float>) return gguf_type::float32;
  else if constexpr (std::is_same_v<T, double>) return gguf_type::float64;
  else if constexpr (sizeof(T) == 1) return std::is_signed_v<T> ? gguf_type::int8 : gguf_type::uint8;
  else if constexpr (sizeof(T) == 2) return std::is_signed_v<T> ? gguf_type::int16 : gguf_type::uint16;
  else if constexpr (sizeof(T) == 4) return std::is_signed_v<T> ? gguf_type::int32 : gguf_type::uint32;
  else return std::is_signed_v<T> ? gguf_type::int64 : gguf_type::uint64;
}
}  // namespace detail

template <class T>
concept gguf_number = std::same_as<T, float> || std::same_as<T, double> || (std::integral<T> && sizeof(T) <= 8);

/// A value of metadata to write, in the form that it has in a file.
class gguf_value_to_write {
 public:
  /// A number or a bool, of the type that it has in C++.
  template <gguf_number T>
  gguf_value_to_write(T number) : type_(detail::gguf_type_of<T>()) {  // NOLINT: a value is its number
    append(&number, sizeof number);
  }
  gguf_value_to_write(std::string_view text) : type_(gguf_type::string) { append(text); }                     // NOLINT
  gguf_value_to_write(const char* text) : gguf_value_to_write(std::string_view(text)) {}                      // NOLINT
  gguf_value_to_write(const std::string& text) : gguf_value_to_write(std::string_view(text)) {}               // NOLINT
  /// An array of numbers.
  template <gguf_number T>
  gguf_value_to_write(const std::vector<T>& numbers) : type_(gguf_type::array) {  // NOLINT
    begin_array(detail::gguf_type_of<T>(), numbers.size());
    for (const T number : numbers) append(&number, sizeof number);
  }
  /// An array of strings.
  gguf_value_to_write(const std::vector<std::string>& texts) : type_(gguf_type::array) {  // NOLINT
    begin_array(gguf_type::string, texts.size());
    for (const std::string& text : texts) append(text);
  }
  /// An array of anything, such as arrays. Fails unless all elements have one type.
  explicit gguf_value_to_write(const std::vector<gguf_value_to_write>& elements);
  /// A value of another file.
  gguf_value_to_write(const gguf_value& value);  // NOLINT

  [[nodiscard]] gguf_type type() const { return type_; }
  [[nodiscard]] std::string_view bytes() const { return bytes_; }

 private:
  void append(const void* from, std::size_t size) { bytes_.append(static_cast<const char*>(from), size); }
  void append(std::string_view text) {
    const std::uint64_t length = text.size();
    append(&length, sizeof length);
    bytes_ += text;
  }
  void begin_array(gguf_type element, std::uint64_t count) {
    append(&element, sizeof element);
    append(&count, sizeof count);
  }

  gguf_type type_;
  std::string bytes_;
};

/// Metadata to write, in this order; general.architecture comes first by custom.
using gguf_metadata = std::vector<std::pair<std::string, gguf_value_to_write>>;

/// A tensor to write: its name, its type, its dimensions, the fastest first, and its blocks, which must stay in memory
/// until it is written.
struct gguf_tensor_to_write {
  std::string name;
  ggml::type type;
  std::vector<index> dimensions;
  std::span<const std::byte> bytes;
};

/// Writes a GGUF file of version 3 atomically (file.hpp), with metadata and tensors in the order given, aligned as
/// general.alignment says, or else to 32 bytes. Fails before it writes anything when names or keys are the same, empty
/// or too long for llama.cpp, when bytes do not make up a tensor, or when the alignment is none.
void write_gguf(const std::filesystem::path& path, const gguf_metadata& metadata,
                const std::vector<gguf_tensor_to_write>& tensors);

}  // namespace fathom::io

#if !defined(FATHOM_KERNELS)
#include "fathom/io/gguf.inl.hpp"
#endif
