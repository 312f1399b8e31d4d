// The safetensors format: a header in JSON that says what every tensor is and where, and then their bytes
// (github.com/huggingface/safetensors, "Format"). Reading trusts nothing that a file says.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fathom/core/bf16.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.hpp"

namespace fathom::io {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian; so must be the machine");

/// A tensor in a file, or on its way there.
struct stored_tensor {
  std::string type;  // "F32", "BF16", ...
  std::vector<index> shape;
  std::span<const std::byte> bytes;  // row-major, of no particular alignment

  /// Numbers in the tensor.
  [[nodiscard]] index size() const {
    index count = 1;
    for (const index extent : shape) count *= extent;
    return count;
  }
  /// "F32 [2, 3]"
  [[nodiscard]] std::string describe() const {
    std::string text = type + " [";
    for (std::size_t i = 0; i < shape.size(); ++i) text += join(i ? ", " : "", shape[i]);
    return text + "]";
  }
};

/// The bytes of one number of a type that the format knows, 0 for another.
[[nodiscard]] inline std::size_t bytes_of_type(std::string_view type) {
  constexpr std::pair<std::string_view, std::size_t> types[] = {
      {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4},     {"I32", 4},     {"U32", 4}, {"F16", 2}, {"BF16", 2},
      {"I16", 2}, {"U16", 2}, {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U8", 1},  {"BOOL", 1}};
  for (const auto& [name, bytes] : types)
    if (name == type) return bytes;
  return 0;
}

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

/// Whether copy_numbers can read a type.
[[nodiscard]] inline bool is_floating_point(std::string_view type) {
  return type == "F32" || type == "F64" || type == "BF16" || type == "F16";
}

/// The numbers of a tensor of a floating-point type, converted to T. `to` must have room for from.size() of them.
template <class T>
void copy_numbers(const stored_tensor& from, T* to) {
  const auto convert = [&]<class Source>(Source) {
    for (index i = 0; i < from.size(); ++i) {
      Source value;
      std::memcpy(&value, from.bytes.data() + static_cast<std::size_t>(i) * sizeof value, sizeof value);
      if constexpr (std::is_same_v<Source, float> || std::is_same_v<Source, double>)
        to[i] = static_cast<T>(value);
      else
        to[i] = static_cast<T>(static_cast<float>(value));
    }
  };
  if (from.type == type_name<T>)
    std::memcpy(to, from.bytes.data(), from.bytes.size());
  else if (from.type == "F32")
    convert(float());
  else if (from.type == "F64")
    convert(double());
  else if (from.type == "BF16")
    convert(bf16());
  else if (from.type == "F16")
    convert(f16());
  else
    fail("a tensor of type ", from.type, "; expected F32, F64, BF16 or F16");
}

/// A safetensors file, mapped into memory or there already.
class safetensors_file {
 public:
  /// Fails, saying what is wrong, on anything that is not a well-formed safetensors file.
  explicit safetensors_file(const std::filesystem::path& path) : file_(path), path_(path.string()) { read(file_.bytes()); }
  /// The same for the bytes of a file, which must outlive this: it points into them. Errors call it `name`.
  safetensors_file(std::span<const std::byte> bytes, std::string name) : path_(std::move(name)) { read(bytes); }

  [[nodiscard]] const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// The tensor of a name; fails when there is none.
  [[nodiscard]] const stored_tensor& at(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail(path_, ": has no tensor ", name);
    return found->second;
  }

 private:
  static constexpr std::uint64_t largest_header = 100'000'000;  // the limit of the reference implementation

  template <class... Pieces>
  [[noreturn]] void invalid(const Pieces&... pieces) const {
    fail(path_, ": is not a valid safetensors file: ", pieces...);
  }

  void read(std::span<const std::byte> bytes) {
    if (bytes.size() < 8) invalid("it has ", bytes.size(), " bytes; expected at least 8, the length of the header");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    if (length > largest_header || length > bytes.size() - 8)
      invalid("its header is said to have ", length, " bytes; the file has ", bytes.size(), ", and a header at most ",
              largest_header);
    const auto header = parse(bytes.subspan(8, static_cast<std::size_t>(length)));
    data_ = bytes.subspan(8 + static_cast<std::size_t>(length));
    for (const auto& [name, entry] : header.items())
      if (name == "__metadata__")
        read_metadata(entry);
      else
        read_tensor(name, entry);
    check_coverage();
  }

  [[nodiscard]] nlohmann::json parse(std::span<const std::byte> text) const {
    std::string twice;
    auto header = parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, &twice);
    if (header.is_discarded()) invalid("its header is not JSON");
    if (!header.is_object()) invalid("its header is not a JSON object");
    if (!twice.empty()) invalid("its header has \"", twice, "\" twice");
    return header;
  }

  void read_metadata(const nlohmann::json& entry) {
    if (!entry.is_object()) invalid("its __metadata__ is not a JSON object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) invalid("its __metadata__ has an entry \"", key, "\" that is not a string");
      metadata_[key] = value.get<std::string>();
    }
  }

  void read_tensor(const std::string& name, const nlohmann::json& entry) {
    const auto count = [](const nlohmann::json& n) { return n.is_number_unsigned(); };
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
        !entry["shape"].is_array() || !std::all_of(entry["shape"].begin(), entry["shape"].end(), count) ||
        !entry.contains("data_offsets") || !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2 ||
        !std::all_of(entry["data_offsets"].begin(), entry["data_offsets"].end(), count))
      invalid("the entry of ", name, " is not of the form {\"dtype\": ..., \"shape\": [...], \"data_offsets\": [begin, end]}");
    const auto type = entry["dtype"].get<std::string>();
    const auto begin = entry["data_offsets"][0].get<std::uint64_t>(), end = entry["data_offsets"][1].get<std::uint64_t>();
    if (begin > end || end > data_.size())
      invalid(name, " is said to lie at ", begin, " to ", end, "; the file has ", data_.size(), " bytes of data");
    if (bytes_of_type(type) == 0) invalid(name, " has the unknown type ", type);
    stored_tensor tensor{type, {}, data_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin))};
    std::uint64_t needed = bytes_of_type(type);
    bool overflows = false, is_empty = false;
    for (const auto& extent : entry["shape"]) {
      const auto n = extent.get<std::uint64_t>();
      overflows |= n > static_cast<std::uint64_t>(PTRDIFF_MAX);
      is_empty |= n == 0;
      if (n != 0 && needed > static_cast<std::uint64_t>(PTRDIFF_MAX) / n)
        overflows = true;
      else
        needed *= n != 0 ? n : 1;
      tensor.shape.push_back(overflows ? 0 : static_cast<index>(n));
    }
    if (is_empty) needed = 0;
    if (overflows || needed != end - begin)
      invalid(name, " has ", end - begin, " bytes, which do not make up ", entry["dtype"].get<std::string>(), " ",
              entry["shape"].dump());
    tensors_.emplace(name, std::move(tensor));
  }

  /// The format has neither holes nor overlaps.
  void check_coverage() const {
    std::vector<std::pair<std::size_t, std::string_view>> order;
    for (const auto& [name, tensor] : tensors_)
      order.emplace_back(static_cast<std::size_t>(tensor.bytes.data() - data_.data()), name);
    std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
      // An empty tensor comes before the one that begins where it does.
      return std::pair(a.first, at(a.second).bytes.size()) < std::pair(b.first, at(b.second).bytes.size());
    });
    std::size_t expected = 0;
    for (const auto& [begin, name] : order) {
      if (begin != expected) invalid(name, " begins at byte ", begin, "; the tensor before it ends at ", expected);
      expected += at(name).bytes.size();
    }
    if (expected != data_.size()) invalid("its tensors end at byte ", expected, " of ", data_.size());
  }

  mapped_file file_;
  std::string path_;
  std::span<const std::byte> data_;
  std::map<std::string, stored_tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

/// Writes a safetensors file, all at once (file.hpp). The tensors lie in the order given.
inline void write_safetensors(const std::filesystem::path& path,
                              const std::vector<std::pair<std::string, stored_tensor>>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.type},
                    {"shape", tensor.shape},
                    {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8
  const std::uint64_t length = text.size();

  atomic_file file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const auto& [name, tensor] : tensors) file.write(tensor.bytes);
  file.commit();
}

}  // namespace fathom::io
