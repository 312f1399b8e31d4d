// Implementation of gguf.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/ggml_blocks.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/gguf.hpp"

namespace fathom::io {

// ---- Values ---------------------------------------------------------------------------------------------------------

namespace detail {

/// The limits of the format, of llama.cpp and of sense.
inline constexpr std::uint64_t longest_key = 65535;     // docs/gguf.md
inline constexpr std::uint64_t longest_name = 63;       // llama.cpp's; other writers have longer ones, which are read
inline constexpr std::uint64_t default_alignment = 32;  // docs/gguf.md
inline constexpr int deepest_array = 16;                // arrays in arrays, which are read by recursion
inline constexpr int most_dimensions = 4;               // docs/gguf.md
inline constexpr std::uint64_t most_numbers = PTRDIFF_MAX / 8;  // of a tensor: as floats they must fit into memory

struct gguf_type_facts {
  std::string_view name;
  std::size_t bytes;  // 0: they vary
};
inline constexpr gguf_type_facts gguf_types[] = {
    {"UINT8", 1}, {"INT8", 1},   {"UINT16", 2}, {"INT16", 2},  {"UINT32", 4}, {"INT32", 4},  {"FLOAT32", 4},
    {"BOOL", 1},  {"STRING", 0}, {"ARRAY", 0},  {"UINT64", 8}, {"INT64", 8},  {"FLOAT64", 8}};
[[nodiscard]] constexpr const gguf_type_facts& facts_of(gguf_type type) {
  return gguf_types[static_cast<std::size_t>(type)];
}

template <class T>
[[nodiscard]] T number_in(std::span<const std::byte> bytes) {
  T number;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}
[[nodiscard]] inline std::string_view text_in(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
/// A key or name for an error message: of what a file says, only so much.
[[nodiscard, gnu::cold]] inline std::string shown(std::string_view name) {
  return name.size() <= 100 ? std::string(name) : join(name.substr(0, 100), "...");
}
/// "[576, 49152]"
template <class Dimensions>
[[nodiscard, gnu::cold]] std::string list_of(const Dimensions& dimensions) {
  std::string text = "[";
  for (const auto n : dimensions) text += join(text.size() > 1 ? ", " : "", n);
  return text + "]";
}

/// Takes one thing after the other from the beginning of a GGUF file, and fails where the file is not well-formed.
class gguf_reader {
 public:
  gguf_reader(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  /// What is being read, for errors: "the metadata", "general.name".
  void begin(const char* what, std::string_view name = {}) { what_ = what, name_ = name; }
  template <class... Pieces>
  [[noreturn, gnu::cold]] void invalid(const Pieces&... pieces) const {
    fail(file_, ": is not a valid GGUF file: ", pieces...);
  }
  /// What is being read, in words.
  [[nodiscard, gnu::cold]] std::string what() const {
    return name_.empty() ? std::string(what_) : join(what_, " ", shown(name_));
  }

  [[nodiscard]] std::uint64_t position() const { return at_; }
  [[nodiscard]] std::uint64_t left() const { return bytes_.size() - at_; }
  [[nodiscard]] std::span<const std::byte> take(std::uint64_t count) {
    if (count > left())
      invalid("it has ", bytes_.size(), " bytes, and ends within ", what(), ", which has ", count, " from byte ", at_,
              " on");
    const auto taken = bytes_.subspan(at_, static_cast<std::size_t>(count));
    at_ += taken.size();
    return taken;
  }
  template <class T>
  [[nodiscard]] T number() {
    return number_in<T>(take(sizeof(T)));
  }
  [[nodiscard]] std::string_view text() { return text_in(take(number<std::uint64_t>())); }
  /// Fails unless so many things of `least` bytes or more can follow.
  void expect(std::uint64_t count, const char* things, std::uint64_t least) const {
    if (count > left() / least)
      invalid(what(), " is said to have ", count, " ", things, "; only ", left(), " bytes follow");
  }
  [[nodiscard, gnu::cold]] gguf_type type() {
    const auto type = number<std::uint32_t>();
    if (type >= std::size(gguf_types)) invalid(what(), " has a value of the unknown type ", type);
    return static_cast<gguf_type>(type);
  }
  [[nodiscard]] gguf_value value(gguf_type type, int depth = 0) {
    gguf_value value{type, {}, {}, 0};
    if (type == gguf_type::string) {
      value.bytes = take(number<std::uint64_t>());
    } else if (type == gguf_type::array) {
      if (depth == deepest_array) invalid(what(), " has arrays in arrays, more than ", deepest_array, " deep");
      value.element_type = this->type();
      value.count = number<std::uint64_t>();
      value.bytes = elements(value.element_type, value.count, depth);
    } else {
      value.bytes = take(facts_of(type).bytes);
      if (type == gguf_type::boolean) check_bools(value.bytes);
    }
    return value;
  }

 private:
  [[nodiscard]] std::span<const std::byte> elements(gguf_type type, std::uint64_t count, int depth) {
    if (const std::size_t size = facts_of(type).bytes) {
      expect(count, "elements", size);
      const auto all = take(count * size);
      if (type == gguf_type::boolean) check_bools(all);
      return all;
    }
    expect(count, "elements", type == gguf_type::string ? 8 : 12);
    const std::size_t begin = at_;
    for (std::uint64_t i = 0; i < count; ++i) static_cast<void>(value(type, depth + 1));
    return bytes_.subspan(begin, at_ - begin);
  }
  void check_bools(std::span<const std::byte> bytes) const {
    for (const std::byte byte : bytes)
      if (byte > std::byte{1}) invalid(what(), " has a BOOL ", std::to_integer<unsigned>(byte), "; expected 0 or 1");
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
  const char* what_ = "its header";
  std::string_view name_;
};

/// Calls f(value) for every element of an array.
template <class F>
void for_elements(const gguf_value& array, const F& f) {
  static const std::string nowhere;  // for errors that the file, already validated, does not have
  gguf_reader from(array.bytes, nowhere);
  for (std::uint64_t i = 0; i < array.count; ++i) f(from.value(array.element_type));
}

}  // namespace detail

FATHOM_INLINE std::string gguf_value::describe() const {
  if (type != gguf_type::array) return std::string(detail::facts_of(type).name);
  return join("an array of ", count, " ", detail::facts_of(element_type).name);
}
FATHOM_INLINE std::vector<gguf_value> gguf_value::elements() const {
  std::vector<gguf_value> all;
  all.reserve(static_cast<std::size_t>(count));
  detail::for_elements(*this, [&](const gguf_value& element) { all.push_back(element); });
  return all;
}
FATHOM_INLINE std::optional<index> gguf_value::as_integer() const {
  switch (type) {
    case gguf_type::uint8: return detail::number_in<std::uint8_t>(bytes);
    case gguf_type::int8: return detail::number_in<std::int8_t>(bytes);
    case gguf_type::uint16: return detail::number_in<std::uint16_t>(bytes);
    case gguf_type::int16: return detail::number_in<std::int16_t>(bytes);
    case gguf_type::uint32: {
      const auto number = detail::number_in<std::uint32_t>(bytes);
      return std::in_range<index>(number) ? std::optional(static_cast<index>(number)) : std::nullopt;
    }
    case gguf_type::int32: return detail::number_in<std::int32_t>(bytes);
    case gguf_type::uint64: {
      const auto number = detail::number_in<std::uint64_t>(bytes);
      return std::in_range<index>(number) ? std::optional(static_cast<index>(number)) : std::nullopt;
    }
    case gguf_type::int64: {
      const auto number = detail::number_in<std::int64_t>(bytes);
      return std::in_range<index>(number) ? std::optional(static_cast<index>(number)) : std::nullopt;
    }
    default: return {};
  }
}
FATHOM_INLINE std::optional<float> gguf_value::as_real() const {
  if (type == gguf_type::float32) return detail::number_in<float>(bytes);
  if (type == gguf_type::float64) return static_cast<float>(detail::number_in<double>(bytes));
  return {};
}
FATHOM_INLINE std::optional<bool> gguf_value::as_bool() const {
  if (type == gguf_type::boolean) return bytes[0] != std::byte{0};
  return {};
}
FATHOM_INLINE std::optional<std::string_view> gguf_value::as_text() const {
  if (type == gguf_type::string) return detail::text_in(bytes);
  return {};
}

// ---- Tensors --------------------------------------------------------------------------------------------------------

FATHOM_INLINE index gguf_tensor::row_bytes() const {
  const ggml::block_facts& facts = *ggml::find_type(type);
  return row_size() / facts.numbers * facts.bytes;
}
FATHOM_INLINE std::string gguf_tensor::describe() const {
  return join(ggml::find_type(type)->name, " ",
              detail::list_of(std::span(dimensions).first(static_cast<std::size_t>(rank))));
}
FATHOM_INLINE void copy_numbers(const gguf_tensor& from, float* to) { copy_rows(from, 0, from.rows(), to); }
FATHOM_INLINE void copy_rows(const gguf_tensor& from, index first, index count, float* to) {
  if (first < 0 || count < 0 || first > from.rows() || count > from.rows() - first)
    fail(from.file->name(), ": ", detail::shown(from.name), " is a tensor ", from.describe(), " of ", from.rows(),
         " rows; expected ", count, " from row ", first, " on");
  if (!ggml::dequantize(from.type, from.bytes.data() + first * from.row_bytes(), count * from.row_size(), to))
    fail(from.file->name(), ": ", detail::shown(from.name), " is a tensor of type ", ggml::find_type(from.type)->name,
         ", which is not dequantised; expected F32, F16, BF16, F64, I8, I16, I32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, or "
         "Q2_K to Q6_K");
}
FATHOM_INLINE void detail::expect_blocks(const gguf_tensor& from, ggml::type type) {
  if (from.type != type)
    fail(from.file->name(), ": ", shown(from.name), " is a tensor of type ", ggml::find_type(from.type)->name,
         "; expected ", ggml::find_type(type)->name);
}

// ---- Reading --------------------------------------------------------------------------------------------------------

namespace detail {

/// Positions 0 to count - 1, sorted by the names that they have.
template <class NameOf>
[[nodiscard]] std::vector<std::size_t> sorted_by(std::size_t count, const NameOf& name_of) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return name_of(a) < name_of(b); });
  return order;
}
/// A name that two of the sorted positions have; null when there is none.
template <class NameOf>
[[nodiscard]] std::optional<std::string_view> twice_in(const std::vector<std::size_t>& order, const NameOf& name_of) {
  const auto same =
      std::adjacent_find(order.begin(), order.end(), [&](auto a, auto b) { return name_of(a) == name_of(b); });
  return same == order.end() ? std::nullopt : std::optional<std::string_view>(name_of(*same));
}
/// The position with a name, or -1.
template <class NameOf>
[[nodiscard]] index position_of(const std::vector<std::size_t>& order, std::string_view name, const NameOf& name_of) {
  const auto found = std::lower_bound(order.begin(), order.end(), name,
                                      [&](std::size_t a, std::string_view b) { return name_of(a) < b; });
  return found == order.end() || name_of(*found) != name ? -1 : static_cast<index>(*found);
}

/// The bytes of a tensor; nothing when it has none, too many numbers, or rows that are not whole blocks.
[[nodiscard]] constexpr std::optional<std::uint64_t> bytes_of(const ggml::block_facts& type,
                                                              std::span<const std::uint64_t> dimensions) {
  std::uint64_t numbers = 1;
  for (const std::uint64_t n : dimensions) {
    if (n == 0 || n > most_numbers / numbers) return {};
    numbers *= n;
  }
  const auto in_block = static_cast<std::uint64_t>(type.numbers);
  if ((dimensions.empty() ? 1 : dimensions[0]) % in_block != 0) return {};
  return numbers / in_block * static_cast<std::uint64_t>(type.bytes);
}

/// Whether tensors may be aligned to so many bytes.
[[nodiscard]] constexpr bool is_alignment(std::uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes <= UINT32_MAX;
}

/// The description of a tensor, and where it is said to lie.
struct placed_tensor {
  gguf_tensor tensor;
  std::uint64_t offset = 0, bytes = 0;
};
[[nodiscard, gnu::cold]] inline placed_tensor read_tensor(gguf_reader& from) {
  from.begin("the list of tensors");
  placed_tensor read;
  read.tensor.name = from.text();
  if (read.tensor.name.empty()) from.invalid("it has a tensor without a name");
  from.begin("the tensor", read.tensor.name);
  const auto rank = from.number<std::uint32_t>();
  if (rank > most_dimensions)
    from.invalid(from.what(), " is said to have ", rank, " dimensions; expected at most ", most_dimensions);
  read.tensor.rank = static_cast<int>(rank);
  std::uint64_t all[most_dimensions] = {1, 1, 1, 1};
  for (std::uint32_t i = 0; i < rank; ++i) all[i] = from.number<std::uint64_t>();
  const auto type = from.number<std::uint32_t>();
  read.offset = from.number<std::uint64_t>();

  read.tensor.type = static_cast<ggml::type>(type);
  const ggml::block_facts* const facts = ggml::find_type(read.tensor.type);
  if (!facts) from.invalid(from.what(), " has the unknown type ", type);
  const std::span<const std::uint64_t> dimensions = std::span(all).first(rank);
  const auto bytes = bytes_of(*facts, dimensions);
  if (!bytes)
    from.invalid(from.what(), " has the dimensions ", list_of(dimensions),
                 "; expected 1 or more, rows of a multiple of ", facts->numbers, " numbers (", facts->name,
                 "), and fewer in all than memory has");
  read.bytes = *bytes;
  for (std::uint32_t i = 0; i < rank; ++i) read.tensor.dimensions[i] = static_cast<index>(all[i]);
  return read;
}

/// Fails when two tensors share bytes.
[[gnu::cold]] inline void check_apart(const gguf_reader& from, const std::vector<gguf_tensor>& tensors) {
  const auto begin_of = [&](std::size_t i) { return tensors[i].bytes.data(); };
  const std::vector<std::size_t> order = sorted_by(tensors.size(), begin_of);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const gguf_tensor &a = tensors[order[i - 1]], &b = tensors[order[i]];
    if (b.bytes.data() - a.bytes.data() < std::ssize(a.bytes))
      from.invalid("the tensors ", shown(a.name), " and ", shown(b.name), " share bytes");
  }
}

}  // namespace detail

FATHOM_INLINE gguf_file::gguf_file(const std::filesystem::path& path)
    : file_(std::make_unique<const mapped_file>(path)) {
  read();
}
FATHOM_INLINE gguf_file::gguf_file(std::span<const std::byte> bytes, std::string name)
    : file_(std::make_unique<const mapped_file>(bytes, std::move(name))) {
  read();
}

FATHOM_INLINE void gguf_file::read() {
  const auto bytes = file_->bytes();
  detail::gguf_reader from(bytes, file_->name());
  const auto beginning = bytes.first(std::min<std::size_t>(bytes.size(), 512));
  if (!detail::text_in(beginning).starts_with("GGUF")) {
    const std::string what = what_begins_with(beginning);
    from.invalid(what.empty() ? "it does not begin with \"GGUF\"" : join("it is ", what));
  }
  static_cast<void>(from.take(4));
  const auto version = from.number<std::uint32_t>();
  if (version != 0 && (version & 0xffffu) == 0) from.invalid("it is big-endian; expected little-endian");
  if (version != 2 && version != 3) from.invalid("it has version ", version, "; expected 2 or 3");
  version_ = static_cast<int>(version);
  const auto tensors = from.number<std::uint64_t>(), entries = from.number<std::uint64_t>();

  from.begin("its metadata");
  from.expect(entries, "entries", 13);
  for (std::uint64_t i = 0; i < entries; ++i) {
    from.begin("its metadata");
    const std::string_view key = from.text();
    if (key.empty() || key.size() > detail::longest_key)
      from.invalid("its metadata has a key of ", key.size(), " bytes; expected 1 to ", detail::longest_key);
    from.begin("the metadata", key);
    const gguf_type type = from.type();
    metadata_.push_back({key, from.value(type)});
  }
  const auto key_of = [&](std::size_t i) { return metadata_[i].key; };
  by_key_ = detail::sorted_by(metadata_.size(), key_of);
  if (const auto key = detail::twice_in(by_key_, key_of))
    from.invalid("its metadata has ", detail::shown(*key), " twice");

  std::uint64_t alignment = detail::default_alignment;
  if (const gguf_value* const said = find("general.alignment")) {
    const auto number = said->as_integer();
    if (!number) from.invalid("its metadata general.alignment is ", said->describe(), "; expected an integer");
    alignment = static_cast<std::uint64_t>(*number);
    if (*number < 1 || !detail::is_alignment(alignment))
      from.invalid("its metadata general.alignment is ", *number, "; expected a power of two");
  }
  alignment_ = static_cast<index>(alignment);

  from.begin("the list of tensors");
  from.expect(tensors, "entries", 24);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;  // offset and bytes
  for (std::uint64_t i = 0; i < tensors; ++i) {
    detail::placed_tensor read = detail::read_tensor(from);
    read.tensor.file = file_.get();
    places.emplace_back(read.offset, read.bytes);
    tensors_.push_back(read.tensor);
  }
  const auto name_of = [&](std::size_t i) { return tensors_[i].name; };
  by_name_ = detail::sorted_by(tensors_.size(), name_of);
  if (const auto name = detail::twice_in(by_name_, name_of))
    from.invalid("it has two tensors with the name ", detail::shown(*name));

  const std::uint64_t data = (from.position() + alignment - 1) / alignment * alignment;
  const std::uint64_t data_bytes = bytes.size() - std::min<std::uint64_t>(data, bytes.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const auto [offset, size] = places[i];
    if (offset % alignment != 0)
      from.invalid("the tensor ", detail::shown(tensors_[i].name), " is said to begin at byte ", offset,
                   " of the data; expected a multiple of ", alignment);
    if (offset > data_bytes || size > data_bytes - offset)
      from.invalid("the tensor ", detail::shown(tensors_[i].name), " is said to have ", size, " bytes from byte ",
                   offset, " on; the file has ", data_bytes, " bytes of data");
    tensors_[i].bytes = bytes.subspan(static_cast<std::size_t>(data + offset), static_cast<std::size_t>(size));
  }
  detail::check_apart(from, tensors_);
}

FATHOM_INLINE const gguf_value* gguf_file::find(std::string_view key) const {
  const index at = detail::position_of(by_key_, key, [&](std::size_t i) { return metadata_[i].key; });
  return at < 0 ? nullptr : &metadata_[static_cast<std::size_t>(at)].value;
}
FATHOM_INLINE const gguf_tensor* gguf_file::find_tensor(std::string_view name) const {
  const index at = detail::position_of(by_name_, name, [&](std::size_t i) { return tensors_[i].name; });
  return at < 0 ? nullptr : &tensors_[static_cast<std::size_t>(at)];
}
FATHOM_INLINE const gguf_tensor& gguf_file::tensor(std::string_view name) const {
  const gguf_tensor* const found = find_tensor(name);
  if (!found) fail(path(), ": has no tensor ", name);
  return *found;
}

namespace detail {

[[noreturn, gnu::cold]] inline void no_metadata(const gguf_file& file, std::string_view key, const char* expected) {
  fail(file.path(), ": has no metadata ", key, "; expected ", expected);
}
[[noreturn, gnu::cold]] inline void wrong_metadata(const gguf_file& file, std::string_view key, const gguf_value& found,
                                                   const char* expected) {
  fail(file.path(), ": its metadata ", key, " is ", found.describe(), "; expected ", expected);
}
/// The value of a key, as `as` reads it.
template <class T>
[[nodiscard, gnu::cold]] T value_of(const gguf_file& file, std::string_view key, const std::optional<T>& fallback,
                                    std::optional<T> (gguf_value::*as)() const, const char* expected) {
  const gguf_value* const found = file.find(key);
  if (!found && fallback) return *fallback;
  if (!found) no_metadata(file, key, expected);
  const std::optional<T> value = (found->*as)();
  if (!value) wrong_metadata(file, key, *found, expected);
  return *value;
}
/// The elements of an array, as `as` reads each.
template <class T>
[[nodiscard, gnu::cold]] std::vector<T> values_of(const gguf_file& file, std::string_view key,
                                                  std::optional<T> (gguf_value::*as)() const, const char* expected) {
  const gguf_value* const found = file.find(key);
  if (!found) no_metadata(file, key, expected);
  if (found->type != gguf_type::array) wrong_metadata(file, key, *found, expected);
  std::vector<T> values;
  for_elements(*found, [&](const gguf_value& element) {
    const std::optional<T> value = (element.*as)();
    if (!value) wrong_metadata(file, key, *found, expected);
    values.push_back(*value);
  });
  return values;
}

}  // namespace detail

FATHOM_INLINE index gguf_file::integer(std::string_view key, std::optional<index> fallback) const {
  return detail::value_of<index>(*this, key, fallback, &gguf_value::as_integer, "an integer of 64 bits with a sign");
}
FATHOM_INLINE float gguf_file::real(std::string_view key, std::optional<float> fallback) const {
  return detail::value_of<float>(*this, key, fallback, &gguf_value::as_real, "FLOAT32 or FLOAT64");
}
FATHOM_INLINE bool gguf_file::boolean(std::string_view key, std::optional<bool> fallback) const {
  return detail::value_of<bool>(*this, key, fallback, &gguf_value::as_bool, "BOOL");
}
FATHOM_INLINE std::string_view gguf_file::text(std::string_view key, std::optional<std::string_view> fallback) const {
  return detail::value_of<std::string_view>(*this, key, fallback, &gguf_value::as_text, "STRING");
}
FATHOM_INLINE std::vector<index> gguf_file::integers(std::string_view key) const {
  return detail::values_of<index>(*this, key, &gguf_value::as_integer, "an array of integers of 64 bits with a sign");
}
FATHOM_INLINE std::vector<float> gguf_file::reals(std::string_view key) const {
  return detail::values_of<float>(*this, key, &gguf_value::as_real, "an array of FLOAT32 or FLOAT64");
}
FATHOM_INLINE std::vector<bool> gguf_file::booleans(std::string_view key) const {
  return detail::values_of<bool>(*this, key, &gguf_value::as_bool, "an array of BOOL");
}
FATHOM_INLINE std::vector<std::string_view> gguf_file::texts(std::string_view key) const {
  return detail::values_of<std::string_view>(*this, key, &gguf_value::as_text, "an array of STRING");
}

// ---- Writing --------------------------------------------------------------------------------------------------------

FATHOM_INLINE gguf_value_to_write::gguf_value_to_write(const std::vector<gguf_value_to_write>& elements)
    : type_(gguf_type::array) {
  begin_array(elements.empty() ? gguf_type::uint8 : elements[0].type_, elements.size());
  for (const gguf_value_to_write& element : elements) {
    if (element.type_ != elements[0].type_)
      fail("GGUF: an array of ", detail::facts_of(elements[0].type_).name, " and ",
           detail::facts_of(element.type_).name, "; expected elements of one type");
    bytes_ += element.bytes_;
  }
}
FATHOM_INLINE gguf_value_to_write::gguf_value_to_write(const gguf_value& value) : type_(value.type) {
  if (type_ == gguf_type::array) begin_array(value.element_type, value.count);
  const std::string_view bytes = detail::text_in(value.bytes);
  type_ == gguf_type::string ? append(bytes) : append(bytes.data(), bytes.size());
}

FATHOM_INLINE void write_gguf(const std::filesystem::path& path, const gguf_metadata& metadata,
                              const std::vector<gguf_tensor_to_write>& tensors) {
  const auto cannot = [&](const auto&... pieces) { fail(path.string(), ": cannot be written: ", pieces...); };
  std::uint64_t alignment = detail::default_alignment;
  std::string header;
  const auto put = [&](auto number) { header.append(reinterpret_cast<const char*>(&number), sizeof number); };
  const auto put_text = [&](std::string_view text) {
    put(std::uint64_t{text.size()});
    header += text;
  };
  header = "GGUF";
  put(std::uint32_t{3});
  put(std::uint64_t{tensors.size()});
  put(std::uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    if (key.empty() || key.size() > detail::longest_key)
      cannot("the metadata has a key of ", key.size(), " bytes; expected 1 to ", detail::longest_key);
    put_text(key);
    put(value.type());
    header += value.bytes();
    if (key != "general.alignment") continue;
    std::uint32_t number = 0;
    if (value.type() == gguf_type::uint32) std::memcpy(&number, value.bytes().data(), sizeof number);
    if (!detail::is_alignment(number)) cannot("general.alignment must be UINT32 and a power of two");
    alignment = number;
  }
  const auto key_of = [&](std::size_t i) { return std::string_view(metadata[i].first); };
  if (const auto key = detail::twice_in(detail::sorted_by(metadata.size(), key_of), key_of))
    cannot("the metadata has ", *key, " twice");
  const auto name_of = [&](std::size_t i) { return std::string_view(tensors[i].name); };
  if (const auto name = detail::twice_in(detail::sorted_by(tensors.size(), name_of), name_of))
    cannot("two tensors have the name ", *name);

  const auto padding = [&](std::uint64_t bytes) { return (alignment - bytes % alignment) % alignment; };
  std::uint64_t offset = 0;
  for (const gguf_tensor_to_write& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > detail::longest_name)
      cannot("a tensor has the name \"", tensor.name, "\" of ", tensor.name.size(), " bytes; expected 1 to ",
             detail::longest_name);
    if (tensor.dimensions.empty() || tensor.dimensions.size() > detail::most_dimensions)
      cannot(tensor.name, " has ", tensor.dimensions.size(), " dimensions; expected 1 to ", detail::most_dimensions);
    const ggml::block_facts* const facts = ggml::find_type(tensor.type);
    if (!facts) cannot(tensor.name, " has the unknown type ", static_cast<std::uint32_t>(tensor.type));
    std::vector<std::uint64_t> dimensions;
    for (const index n : tensor.dimensions) dimensions.push_back(n > 0 ? static_cast<std::uint64_t>(n) : 0);
    const auto bytes = detail::bytes_of(*facts, dimensions);
    if (!bytes || *bytes != tensor.bytes.size())
      cannot(tensor.name, " has ", tensor.bytes.size(), " bytes, which do not make up ", facts->name, " ",
             detail::list_of(tensor.dimensions));
    put_text(tensor.name);
    put(static_cast<std::uint32_t>(dimensions.size()));
    for (const std::uint64_t n : dimensions) put(n);
    put(tensor.type);
    put(offset);
    offset += *bytes + padding(*bytes);
  }
  header.resize(header.size() + static_cast<std::size_t>(padding(header.size())), '\0');

  atomic_file file(path);
  file.write(header);
  for (const gguf_tensor_to_write& tensor : tensors) {
    file.write(tensor.bytes);
    file.write(std::string(static_cast<std::size_t>(padding(tensor.bytes.size())), '\0'));
  }
  file.commit();
}

}  // namespace fathom::io
