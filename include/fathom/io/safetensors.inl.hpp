// Implementation of safetensors.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/int8.hpp"
#include "fathom/core/json.inl.hpp"
#include "fathom/io/safetensors.hpp"

namespace fathom::io {

// ---- Types -----------------------------------------------------------------------------------------------------------

FATHOM_INLINE std::size_t bytes_of_type(std::string_view type) {
  static constexpr std::pair<std::string_view, std::size_t> types[] = {
      {"F64", 8}, {"I64", 8}, {"U64", 8}, {"C64", 8}, {"F32", 4}, {"I32", 4},     {"U32", 4},     {"F16", 2},     {"BF16", 2},
      {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
  for (const auto& [name, bytes] : types)
    if (name == type) return bytes;
  return 0;
}
FATHOM_INLINE bool is_floating_point(std::string_view type) {
  return type == "F32" || type == "F64" || type == "BF16" || type == "F16";
}

// ---- Tensors in files ------------------------------------------------------------------------------------------------

FATHOM_INLINE index stored_tensor::size() const {
  index count = 1;
  for (const index extent : shape) count *= extent;
  return count;
}
FATHOM_INLINE std::string stored_tensor::describe() const {
  std::string text = type + " [";
  for (std::size_t i = 0; i < shape.size(); ++i) text += join(i ? ", " : "", shape[i]);
  return text + "]";
}
FATHOM_INLINE const std::string& stored_tensor::path() const { return source ? source->path() : file->name(); }
FATHOM_INLINE void stored_tensor::read(std::span<std::byte> to, std::uint64_t at) const {
  if (at > byte_count() || to.size() > byte_count() - at)
    fail(path(), ": ", name, " is a tensor ", describe(), " of ", byte_count(), " bytes; expected ", to.size(), " from byte ", at, " on");
  if (source)
    source->read(to, at);
  else
    file->read(begin + at, to);
}
FATHOM_INLINE std::vector<std::byte> stored_tensor::bytes() const {
  std::vector<std::byte> all(static_cast<std::size_t>(byte_count()));
  read(all);
  return all;
}

namespace detail {

/// Numbers converted at a time.
inline constexpr index most_at_once = 16384;

/// Converts numbers, which need not be aligned, to another type.
template <class From, class To>
void convert(const std::byte* from, std::size_t count, To* to) {
  for (std::size_t i = 0; i < count; ++i) {
    From number;
    std::memcpy(&number, from + i * sizeof(From), sizeof(From));
    to[i] = static_cast<To>(number);
  }
}
/// Converts to float from a type given by name: F32, F64, BF16, F16 or I8.
inline void convert_to_float(std::string_view type, const std::byte* from, std::size_t count, float* to) {
  if (type == "F32") return static_cast<void>(std::memcpy(to, from, count * sizeof(float)));
  if (type == "F64") return convert<double>(from, count, to);
  if (type == "BF16") return convert<bf16>(from, count, to);
  if (type == "F16") return convert<f16>(from, count, to);
  return convert<std::int8_t>(from, count, to);
}

/// The first of some doubles that is finite, but infinite as a float.
[[nodiscard]] inline std::optional<double> beyond_float(const std::byte* from, std::span<const float> converted, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isinf(converted[i])) continue;
    double number;
    std::memcpy(&number, from + i * sizeof number, sizeof number);
    if (std::isfinite(number)) return number;
  }
  return std::nullopt;
}

/// Calls f(first, numbers) for successive pieces of a tensor, converted to float.
template <class F>
void for_floats(const stored_tensor& from, const F& f) {
  const auto most = static_cast<std::size_t>(std::min(most_at_once, from.size())), bytes = bytes_of_type(from.type);
  std::vector<std::byte> piece(most * bytes);
  std::vector<float> floats(most);
  for (index first = 0; first < from.size(); first += most_at_once) {
    const auto count = static_cast<std::size_t>(std::min(most_at_once, from.size() - first));
    from.read(std::span(piece).first(count * bytes), static_cast<std::uint64_t>(first) * bytes);
    convert_to_float(from.type, piece.data(), count, floats.data());
    if (from.type == "F64") {
      if (const auto beyond = beyond_float(piece.data(), floats, count))
        fail(from.path(), ": ", from.name, " has ", *beyond, "; expected numbers within the range of a float");
    }
    f(first, std::span<const float>(floats).first(count));
  }
}

template <class T>
void copy_numbers_as(const stored_tensor& from, T* to) {
  if (!is_floating_point(from.type))
    fail(from.path(), ": ", from.name, " is a tensor of type ", from.type, "; expected F32, F64, BF16 or F16");
  if (from.type == type_name<T>)
    from.read(std::as_writable_bytes(std::span(to, static_cast<std::size_t>(from.size()))));
  else
    for_floats(from, [&](index first, std::span<const float> numbers) { std::copy(numbers.begin(), numbers.end(), to + first); });
}

}  // namespace detail

FATHOM_INLINE void copy_numbers(const stored_tensor& from, float* to) { detail::copy_numbers_as(from, to); }
FATHOM_INLINE void copy_numbers(const stored_tensor& from, double* to) { detail::copy_numbers_as(from, to); }

FATHOM_INLINE const stored_tensor& stored_tensors::at(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(path_, ": has no tensor ", name);
  return found->second;
}

// ---- Reading ---------------------------------------------------------------------------------------------------------

namespace detail {

/// The parsed header, not yet validated.
class header_text {
 public:
  struct entry {
    std::string type;
    std::vector<std::uint64_t> shape, place;
    bool has_type = false, has_shape = false, has_place = false, is_good = true;
  };
  std::map<std::string, entry, std::less<>> entries;  // of tensors
  std::map<std::string, std::string, std::less<>> metadata;
  bool is_object = false;
  bool metadata_is_object = true;
  std::optional<std::string> bad_metadata;  // a key of the metadata whose value is not a string
  std::optional<std::string> twice;         // a duplicate key

  /// Parses the text. Returns whether it is JSON.
  [[nodiscard, gnu::cold]] bool read(std::string_view text) {
    std::string nesting;
    json_reader at(text, &nesting);
    while (at.next() < json_event::end) take(at);
    return at.last() == json_event::end;
  }

 private:
  static constexpr int deepest = 64;  // deeper objects are not checked for duplicate keys: nothing uses them

  [[gnu::cold]] void take(const json_reader& at) {
    switch (at.last()) {
      case json_event::null:
        if (depth_ != 1 || !in_metadata_) other();
        break;
      case json_event::integer:
        if (depth_ == 3 && numbers_ && !at.is_negative())
          numbers_->push_back(at.magnitude());
        else
          other();
        break;
      case json_event::string:
        if (depth_ == 2 && in_metadata_) {
          metadata[key_] = at.string();
        } else if (depth_ == 2 && key_ == "dtype") {
          entry_->type = at.string();
          entry_->has_type = true;
        } else {
          other();
        }
        break;
      case json_event::key: begin_member(at.string()); break;
      case json_event::begin_object:
        if (depth_ == 0) is_object = true;
        if (depth_ > 1) other();
        if (++depth_ <= deepest && depth_ > 1) keys_.emplace_back();
        break;
      case json_event::end_object:
        if (depth_ <= deepest && depth_ > 1) keys_.pop_back();
        --depth_;
        break;
      case json_event::begin_array: begin_array(); break;
      case json_event::end_array:
        --depth_;
        numbers_ = nullptr;
        break;
      default: other();  // real numbers and booleans
    }
  }
  void begin_array() {
    if (depth_ == 0) depth_ = deepest;  // not a header: ignore its contents
    if (depth_ == 2 && !in_metadata_ && key_ == "shape") {
      numbers_ = &entry_->shape;
      entry_->has_shape = true;
    } else if (depth_ == 2 && !in_metadata_ && key_ == "data_offsets") {
      numbers_ = &entry_->place;
      entry_->has_place = true;
    } else {
      other();
      numbers_ = nullptr;
    }
    ++depth_;
  }
  void begin_member(std::string name) {
    if (depth_ > 1 && depth_ <= deepest && !keys_.back().insert(name).second) twice = name;
    if (depth_ == 1) {
      in_metadata_ = name == "__metadata__";
      const auto [place, is_new] = entries.try_emplace(std::move(name));
      if (!is_new) twice = place->first;
      entry_ = &place->second;
    } else if (depth_ == 2) {
      key_ = std::move(name);
    }
  }
  /// Handles a value of an unexpected type; unknown keys may have any.
  void other() {
    if (depth_ == 1 && in_metadata_) metadata_is_object = false;
    if (depth_ == 1 || (depth_ == 2 && !in_metadata_ && (key_ == "dtype" || key_ == "shape" || key_ == "data_offsets")) ||
        (depth_ == 3 && numbers_))
      entry_->is_good = false;
    if (depth_ == 2 && in_metadata_ && !bad_metadata) bad_metadata = key_;
  }

  int depth_ = 0;  // nesting: 1 in the header, 2 in an entry, 3 in its arrays
  bool in_metadata_ = false;
  entry* entry_ = nullptr;                         // the current one
  std::string key_;                                // the current key of an entry
  std::vector<std::uint64_t>* numbers_ = nullptr;  // destination of the current array
  std::vector<std::set<std::string, std::less<>>> keys_;  // of each open object, except the header
};

/// Reads a file's header and validates it against the file.
class header_reader {
 public:
  [[gnu::cold]] explicit header_reader(const input_file& file) : file_(file) {
    if (file.size() < 8) invalid("it has ", file.size(), " bytes; expected at least 8, the length of the header");
    std::uint64_t length = 0;
    file.read(0, std::as_writable_bytes(std::span(&length, 1)));
    if (length > largest_header || length > file.size() - 8) {
      expect_header();
      invalid("its header is said to have ", length, " bytes; the file has ", file.size(), ", and a header at most ",
              largest_header);
    }
    data_ = 8 + length;
    text_.resize(static_cast<std::size_t>(length));
    file.read(8, std::as_writable_bytes(std::span(text_)));
  }

  [[gnu::cold]] void read(std::map<std::string, stored_tensor, std::less<>>& tensors, std::map<std::string, std::string, std::less<>>& metadata) {
    header_text header;
    if (!header.read(text_)) {
      expect_header();
      invalid("its header is not JSON");
    }
    if (!header.is_object) invalid("its header is not a JSON object");
    if (header.twice) invalid("its header has \"", *header.twice, "\" twice");
    if (!header.metadata_is_object) invalid("its __metadata__ is not a JSON object");
    if (header.bad_metadata) invalid("its __metadata__ has an entry \"", *header.bad_metadata, "\" that is not a string");
    metadata = std::move(header.metadata);
    for (const auto& [name, entry] : header.entries)
      if (name != "__metadata__") tensors.emplace_hint(tensors.end(), name, tensor_of(name, entry));
    check_coverage(tensors);
  }

 private:
  static constexpr std::uint64_t largest_header = 100'000'000;  // the limit of the reference implementation

  template <class... Pieces>
  [[noreturn]] void invalid(const Pieces&... pieces) const {
    fail(file_.name(), ": is not a valid safetensors file: ", pieces...);
  }
  /// Fails when the file has another known format.
  void expect_header() const {
    std::vector<std::byte> beginning(static_cast<std::size_t>(std::min<std::uint64_t>(file_.size(), 512)));
    file_.read(0, beginning);
    if (const std::string what = what_begins_with(beginning); !what.empty()) invalid("it is ", what);
  }

  [[nodiscard, gnu::cold]] stored_tensor tensor_of(const std::string& name, const header_text::entry& entry) const {
    if (!entry.is_good || !entry.has_type || !entry.has_shape || entry.place.size() != 2)
      invalid("the entry of ", name, " is not of the form {\"dtype\": ..., \"shape\": [...], \"data_offsets\": [begin, end]}");
    const std::uint64_t begin = entry.place[0], end = entry.place[1], data = file_.size() - data_;
    if (begin > end || end > data) invalid(name, " is said to lie at ", begin, " to ", end, "; the file has ", data, " bytes of data");
    stored_tensor tensor{entry.type, {}, &file_, data_ + begin, data_ + end, name};
    // The byte count is not checked for unknown types or types of fractional bytes.
    const std::size_t bytes = bytes_of_type(entry.type);
    std::uint64_t needed = std::max<std::size_t>(bytes, 1);
    bool overflows = false, is_empty = false;
    for (const std::uint64_t n : entry.shape) {
      overflows |= n > static_cast<std::uint64_t>(PTRDIFF_MAX);
      is_empty |= n == 0;
      if (n != 0 && needed > static_cast<std::uint64_t>(PTRDIFF_MAX) / n)
        overflows = true;
      else
        needed *= n != 0 ? n : 1;
      tensor.shape.push_back(overflows ? 0 : static_cast<index>(n));
    }
    if (is_empty) needed = 0;
    if (overflows || (bytes > 0 && needed != end - begin)) {
      std::string shape;
      for (const std::uint64_t n : entry.shape) shape += join(shape.empty() ? "" : ",", n);
      invalid(name, " has ", end - begin, " bytes, which do not make up ", entry.type, " [", shape, "]");
    }
    return tensor;
  }

  /// Fails unless the tensors cover the data without gaps or overlaps, as the format requires.
  [[gnu::cold]] void check_coverage(const std::map<std::string, stored_tensor, std::less<>>& tensors) const {
    std::vector<const std::pair<const std::string, stored_tensor>*> order;
    order.reserve(tensors.size());
    for (const auto& tensor : tensors) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      // An empty tensor sorts before the tensor that begins at the same byte.
      return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
    });
    std::uint64_t expected = 0;
    for (const auto* tensor : order) {
      const std::uint64_t begin = tensor->second.begin - data_;
      if (begin != expected) invalid(tensor->first, " begins at byte ", begin, "; the tensor before it ends at ", expected);
      expected = tensor->second.end - data_;
    }
    if (const std::uint64_t data = file_.size() - data_; expected != data) invalid("its tensors end at byte ", expected, " of ", data);
  }

  const input_file& file_;
  std::uint64_t data_ = 0;  // offset of the data
  std::string text_;
};

}  // namespace detail

FATHOM_INLINE safetensors_file::safetensors_file(const std::filesystem::path& path)
    : stored_tensors(path.string()), file_(std::make_unique<const input_file>(path)) {
  read_header();
}
FATHOM_INLINE safetensors_file::safetensors_file(std::span<const std::byte> bytes, std::string name)
    : stored_tensors(name), file_(std::make_unique<const input_file>(bytes, std::move(name))) {
  read_header();
}
FATHOM_INLINE void safetensors_file::read_header() { detail::header_reader(*file_).read(tensors_, metadata_); }

// ---- Writing ---------------------------------------------------------------------------------------------------------

FATHOM_INLINE std::uint64_t tensor_to_write::byte_count() const {
  return from_type == type ? from.size() : from.size() / bytes_of_type(from_type) * bytes_of_type(type);
}

namespace detail {

/// Converts the numbers of a tensor and writes them. Fails on finite numbers that would become infinite.
inline void write_converted(atomic_file& file, const tensor_to_write& tensor) {
  const std::size_t bytes = bytes_of_type(tensor.from_type), most = static_cast<std::size_t>(most_at_once);
  std::vector<float> floats(std::min(most, tensor.from.size() / bytes));
  std::vector<bf16> halves(tensor.type == "BF16" ? floats.size() : 0);
  std::vector<std::int8_t> small(tensor.type == "I8" ? floats.size() : 0);
  std::size_t row = 0, column = 0;
  for (auto from = tensor.from; !from.empty();) {
    const std::size_t count = std::min(most, from.size() / bytes);
    convert_to_float(tensor.from_type, from.data(), count, floats.data());
    if (tensor.from_type == "F64") {
      if (const auto beyond = beyond_float(from.data(), floats, count))
        fail("save: ", tensor.name, " has ", *beyond, ", which is infinite as ", tensor.type);
    }
    from = from.subspan(count * bytes);
    if (tensor.type == "F32") {
      file.write(std::as_bytes(std::span(floats).first(count)));
    } else if (tensor.type == "BF16") {
      for (std::size_t i = 0; i < count; ++i) {
        halves[i] = bf16(floats[i]);
        if (std::isinf(static_cast<float>(halves[i])) && std::isfinite(floats[i]))
          fail("save: ", tensor.name, " has ", floats[i], ", which is infinite as BF16");
      }
      file.write(std::as_bytes(std::span(halves).first(count)));
    } else {
      for (std::size_t i = 0; i < count; ++i) {
        small[i] = to_int8(floats[i], tensor.scales[tensor.scaled_by_row ? row : column]);
        if (std::cmp_equal(++column, tensor.shape[1])) column = 0, ++row;
      }
      file.write(std::as_bytes(std::span(small).first(count)));
    }
  }
}

}  // namespace detail

FATHOM_INLINE void write_safetensors(const std::filesystem::path& path, const std::vector<tensor_to_write>& tensors,
                                     const std::map<std::string, std::string>& metadata, std::size_t multiple) {
  // Keys are sorted, so that the same weights always give the same file, byte for byte.
  const auto quoted = [](const std::string& text) {
    std::string all;
    fathom::detail::write_json_string(all, text);
    return all;
  };
  std::map<std::string, std::string> header;
  if (!metadata.empty()) {
    std::string entries;
    for (const auto& [key, value] : metadata) entries += join(entries.empty() ? "" : ",", quoted(key), ":", quoted(value));
    header["__metadata__"] = "{" + entries + "}";
  }
  std::uint64_t offset = 0;
  for (const tensor_to_write& tensor : tensors) {
    std::string shape;
    for (const index extent : tensor.shape) shape += join(shape.empty() ? "" : ",", extent);
    const auto [entry, is_new] =
        header.emplace(tensor.name, join("{\"data_offsets\":[", offset, ",", offset + tensor.byte_count(), "],\"dtype\":",
                                         quoted(tensor.type), ",\"shape\":[", shape, "]}"));
    if (!is_new) fail(path.string(), ": cannot be written: two tensors have the name ", tensor.name);
    offset += tensor.byte_count();
  }
  std::string text;
  for (const auto& [name, entry] : header) text += join(text.empty() ? "{" : ",", quoted(name), ":", entry);
  text += text.empty() ? "{}" : "}";
  text.resize((8 + text.size() + multiple - 1) / multiple * multiple - 8, ' ');  // 8: the length before it
  const std::uint64_t length = text.size();

  atomic_file file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const tensor_to_write& tensor : tensors)
    if (tensor.from_type == tensor.type)
      file.write(tensor.from);
    else
      detail::write_converted(file, tensor);
  file.commit();
}

}  // namespace fathom::io
