// What weights.hpp declares.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/weights.hpp"

namespace fathom::io {

FATHOM_INLINE void write_weights(const std::filesystem::path& path, const tensors_to_write& tensors, const config* of,
                                 std::map<std::string, std::string> metadata) {
  metadata["format"] = "pt";  // without it transformers does not take the file
  if (of) metadata[config_entry] = to_json(*of);
  write_safetensors(path, tensors.tensors, metadata);
}

FATHOM_INLINE void write_transformers(const std::filesystem::path& folder, const model_numbers& weights, const config& of) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) fail(folder.string(), ": cannot be made: ", problem.message());
  tensors_to_write tensors;
  tensors.add(weights, "transformer.");
  for (tensor_to_write& tensor : tensors.tensors)
    if (tensor.name == "transformer.lm_head.weight") tensor.name = "lm_head.weight";
  // Both are there in full before either takes its name.
  atomic_file file(folder / "config.json");
  file.write(to_transformers_json(of, weights.type == "F64" ? "float64" : "float32") + "\n");
  write_weights(folder / "model.safetensors", tensors, &of);
  file.commit();
}

namespace detail {

/// Buffers of old GPT-2 checkpoints that are not weights.
[[nodiscard]] inline bool is_ignored(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

/// Whether a tensor is named like another one with something before it, "adamw.first.wte.weight", and has its shape.
[[nodiscard]] inline bool is_copy(const stored_tensors& file, std::string_view name, const stored_tensor& tensor) {
  for (std::size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
    if (name.substr(0, dot) == "transformer") continue;  // a model's own prefix
    const auto other = file.tensors().find(name.substr(dot + 1));
    if (other != file.tensors().end() && other->second.shape == tensor.shape) return true;
  }
  return false;
}

[[nodiscard]] inline bool have_same_bytes(const stored_tensor& a, const stored_tensor& b) {
  if (a.byte_count() != b.byte_count()) return false;
  constexpr std::uint64_t most = 1u << 16;
  std::vector<std::byte> of_a(most), of_b(most);
  for (std::uint64_t at = 0; at < a.byte_count(); at += most) {
    const auto count = static_cast<std::size_t>(std::min(most, a.byte_count() - at));
    a.read(std::span(of_a).first(count), at);
    b.read(std::span(of_b).first(count), at);
    if (!std::equal(of_a.begin(), of_a.begin() + static_cast<std::ptrdiff_t>(count), of_b.begin())) return false;
  }
  return true;
}

/// What a file's config says otherwise than a model's.
[[nodiscard]] inline std::string config_problems(const std::string& text, const config& of, missing may_lack) {
  const auto found = parse_json(text);
  if (!found.is_object()) return join("\n  metadata ", config_entry, ": is not a JSON object");
  auto expected = json_of(of);
  if (may_lack == missing::keep && found.contains("shortcut") && found["shortcut"].is_null()) expected.erase("shortcut");
  return differences(expected, found);
}

}  // namespace detail

FATHOM_INLINE std::vector<found_tensor> find_tensors(const stored_tensors& file, const wanted_tensors& wanted) {
  std::string problems;
  if (const auto entry = file.metadata().find(config_entry); wanted.of && entry != file.metadata().end())
    problems += detail::config_problems(entry->second, *wanted.of, wanted.options.missing);

  std::set<std::string, std::less<>> used;
  const auto find = [&](std::string_view name) -> const stored_tensor* {
    const stored_tensor* result = nullptr;
    for (const char* optional : {"", "transformer."}) {
      const auto entry = file.tensors().find(join(wanted.prefix, optional, name));
      if (entry == file.tensors().end()) continue;
      if (result) problems += join("\n  ", name, ": is there twice, with and without the prefix \"transformer.\"");
      result = &entry->second;
      used.insert(entry->first);
    }
    return result;
  };
  std::vector<found_tensor> all;
  for (const tensor_row& row : wanted.table) {
    const bool as_int8 = may_be_int8(row.role);
    const stored_tensor expected{as_int8 ? "F32, F64, BF16, F16 or I8" : "F32, F64, BF16 or F16", row.shape};
    all.push_back({find(row.name), nullptr});
    found_tensor& found = all.back();
    if (!found.numbers) {
      if (wanted.options.missing == missing::fails)
        problems += join("\n  ", wanted.prefix, row.name, ": missing; expected ", expected.describe());
      continue;
    }
    const bool is_int8 = as_int8 && found.numbers->type == "I8";
    if (is_int8) found.scales = find(join(row.name, scale_suffix));
    if (found.numbers->shape != expected.shape || !(is_int8 || is_floating_point(found.numbers->type)))
      problems += join("\n  ", wanted.prefix, row.name, ": expected ", expected.describe(), ", found ", found.numbers->describe());
    else if (is_int8)
      problems += scale_problem(join(wanted.prefix, row.name), *found.numbers, row.role, found.scales);
  }
  if (wanted.is_tied) {  // a tied checkpoint may hold the output projection a second time
    const stored_tensor* const table = find("wte.weight");
    const stored_tensor* const projection = find("lm_head.weight");
    if (table && projection &&
        (table->type != projection->type || table->shape != projection->shape || !detail::have_same_bytes(*table, *projection)))
      problems += join("\n  ", wanted.prefix, "lm_head.weight: differs from wte.weight, and the model's head is tied");
  }
  const auto is_accepted = [&](std::string_view name) {
    return std::any_of(wanted.accepted_prefixes.begin(), wanted.accepted_prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  for (const auto& [name, tensor] : file.tensors())
    if (!used.contains(name) && !detail::is_ignored(name) && !is_accepted(name) &&
        !(wanted.accepts_copies && detail::is_copy(file, name, tensor)))
      problems += join("\n  ", name, ": not part of the model; found ", tensor.describe());
  if (!problems.empty()) fail(file.path(), ": does not fit the model:", problems);
  return all;
}

FATHOM_INLINE void read_tensors(const stored_tensors& file, const wanted_tensors& wanted, std::string_view type, std::byte* to) {
  const std::vector<found_tensor> found = find_tensors(file, wanted);
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i].numbers)
      copy_numbers(*found[i].numbers, wanted.table[i].role, found[i].scales, type, to + wanted.table[i].offset);
}

}  // namespace fathom::io
