// Implementation of packed_file.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/crc32.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/types.hpp"
#include "fathom/io/description.inl.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/packed_file.hpp"
#include "fathom/io/safetensors.hpp"

namespace fathom::io {

namespace detail {
inline constexpr std::string_view packed_version = "1", packed_endian = "little";

[[nodiscard, gnu::cold]] inline std::string crc32_of(std::span<const std::byte> bytes) {
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(crc32(bytes)));
  return digits;
}
}  // namespace detail

FATHOM_INLINE void finish_tensors(std::vector<packed_tensor>& tensors, std::size_t size) {
  std::sort(tensors.begin(), tensors.end(), [](const packed_tensor& a, const packed_tensor& b) { return a.begin < b.begin; });
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].size = (i + 1 < tensors.size() ? tensors[i + 1].begin : size) - tensors[i].begin;
}

FATHOM_INLINE void write_packed(const std::filesystem::path& path, const packed_kind& kind, const std::vector<packed_tensor>& tensors,
                                std::span<const std::byte> weights) {
  std::vector<tensor_to_write> all;
  all.reserve(tensors.size());
  for (const packed_tensor& tensor : tensors)
    all.push_back({tensor.name, "U8", {static_cast<index>(tensor.size)}, weights.subspan(tensor.begin, tensor.size)});
  std::map<std::string, std::string> metadata{
      {packed_entry, std::string(detail::packed_version)}, {"fathom.packed.endian", std::string(detail::packed_endian)},
      {"fathom.packed.type", std::string(kind.type)},      {"fathom.packed.scalar", std::string(kind.scalar)},
      {"fathom.packed.layout", kind.layout},               {"fathom.packed.crc32", detail::crc32_of(weights)}};
  if (!kind.description.empty()) metadata[config_entry] = kind.description;
  write_safetensors(path, all, metadata, alignment);
}

FATHOM_INLINE packed_bytes read_packed(const mapped_file& file, const packed_kind& expected) {
  const safetensors_file all(file.bytes(), file.name());
  if (!all.metadata().contains(packed_entry))
    fail(file.name(), ": has no metadata entry ", packed_entry, "; expected packed weights, as fathom::save_packed writes them");
  const auto entry = [&](const char* key) -> std::string_view {
    const auto found = all.metadata().find(key);
    if (found == all.metadata().end()) fail(file.name(), ": has no metadata entry ", key, ", which packed weights have");
    return found->second;
  };
  const auto expect = [&](const char* key, std::string_view what, std::string_view wanted) {
    if (const std::string_view found = entry(key); found != wanted) fail(file.name(), ": ", what, " \"", found, "\"; expected \"", wanted, "\"");
  };
  expect(packed_entry, "has the format of packed weights of version", detail::packed_version);
  expect("fathom.packed.endian", "has numbers whose order of bytes is", detail::packed_endian);
  expect("fathom.packed.type", "has weights packed as", expected.type);
  expect("fathom.packed.scalar", "has packed weights of a model that computes in", expected.scalar);
  expect("fathom.packed.layout", "has packed weights that lie in the layout of version", expected.layout);
  if (!expected.description.empty())
    if (const std::string_view found = entry(config_entry); found != expected.description)
      if (const std::string problems = description_differences(expected.description, found); !problems.empty())
        fail(file.name(), ": has packed weights of another model:", problems);

  packed_bytes found;
  found.crc32 = entry("fathom.packed.crc32");
  std::uint64_t begin = file.bytes().size(), end = 0;
  for (const auto& [name, tensor] : all.tensors()) {
    begin = std::min(begin, tensor.begin);
    end = std::max(end, tensor.end);
  }
  if (end < begin || end - begin != expected.size)
    fail(file.name(), ": has ", end < begin ? 0 : end - begin, " bytes of packed weights; expected ", expected.size);
  found.weights = file.bytes().subspan(static_cast<std::size_t>(begin), expected.size);
  if (reinterpret_cast<std::uintptr_t>(found.weights.data()) % alignment != 0)
    fail(file.name(), ": its packed weights begin at byte ", begin, ", and there not at a multiple of ", alignment,
         " bytes of memory; expected a file as fathom::save_packed writes it, at such a multiple");
  for (const auto& [name, tensor] : all.tensors())
    found.tensors.push_back({name, static_cast<std::size_t>(tensor.begin - begin), static_cast<std::size_t>(tensor.byte_count())});
  std::sort(found.tensors.begin(), found.tensors.end(), [](const packed_tensor& a, const packed_tensor& b) { return a.begin < b.begin; });
  return found;
}

FATHOM_INLINE void expect_tensors(const packed_bytes& found, const std::vector<packed_tensor>& expected, const std::string& name) {
  const auto text_of = [](const packed_tensor& t) { return join(t.name, ", bytes ", t.begin, " to ", t.begin + t.size); };
  for (std::size_t i = 0; i < std::max(found.tensors.size(), expected.size()); ++i) {
    const bool is_found = i < found.tensors.size(), is_expected = i < expected.size();
    if (is_found && is_expected && found.tensors[i] == expected[i]) continue;
    fail(name, ": has other tensors than the model's packed weights: ", is_found ? text_of(found.tensors[i]) : "nothing more", "; expected ",
         is_expected ? text_of(expected[i]) : "nothing more");
  }
}

FATHOM_INLINE void verify_packed(const packed_bytes& found, const std::string& name) {
  if (const std::string crc = detail::crc32_of(found.weights); crc != found.crc32)
    fail(name, ": its packed weights are damaged: their CRC-32 is ", crc, "; expected ", found.crc32);
}

}  // namespace fathom::io
