// Implementation of weights.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/io/description.inl.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/transformers.inl.hpp"
#include "fathom/io/weights.hpp"

namespace fathom::io {

namespace detail {

/// Whether a tensor has another one's name with a prefix ("adamw.first.wte.weight"), and the same shape.
[[nodiscard]] inline bool is_copy(const stored_tensors& file, std::string_view name, const stored_tensor& tensor) {
  for (std::size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
    if (name.substr(0, dot) == "transformer") continue;  // a model's own prefix
    const auto other = file.tensors().find(name.substr(dot + 1));
    if (other != file.tensors().end() && other->second.shape == tensor.shape) return true;
  }
  return false;
}

/// The differences between a model's description and a file's.
[[nodiscard, gnu::cold]] inline std::string description_problems(const std::string& text, const std::string& expected,
                                                                 missing may_lack) {
  const json found = json::parse(text).value_or(json());
  if (!found.is_object()) return join("\n  metadata ", config_entry, ": is not a JSON object");
  const json* const shortcut = found.find("shortcut");
  const bool lacks_shortcut = shortcut && shortcut->is_null(), lacks_residual = is_of_config(text) && !found.contains("residual");
  if (may_lack == missing::fails || !(lacks_shortcut || lacks_residual)) return description_differences(expected, text);
  // A file of a GPT-2 without a shortcut or with plain residual connections, into a model with more parts: only keys that both have
  // must agree.
  json without = value_of_description(expected);
  if (lacks_shortcut) without.erase("shortcut");
  if (lacks_residual) without.erase("residual");
  if (is_of_config(text) && !is_of_config(expected))
    for (const auto& [key, value] : value_of_description(expected).members())
      if (!found.contains(key)) without.erase(key);
  return differences(without, found, false) + unexpected_options(without, found);
}

}  // namespace detail

FATHOM_INLINE std::vector<found_tensor> find_tensors(const stored_tensors& file, const wanted_tensors& wanted) {
  refuse_packed(file);
  std::string problems;
  if (const auto entry = file.metadata().find(config_entry); !wanted.description.empty() && entry != file.metadata().end())
    problems += detail::description_problems(entry->second, wanted.description, wanted.options.missing);

  std::set<std::string, std::less<>> used;
  const auto find = [&](std::string_view name) -> const stored_tensor* {
    const stored_tensor* result = nullptr;
    for (const char* optional : {"", transformers_prefix}) {
      const auto entry = file.tensors().find(join(wanted.prefix, optional, name));
      if (entry == file.tensors().end()) continue;
      if (result) problems += join("\n  ", name, ": is there twice, with and without the prefix \"", transformers_prefix, "\"");
      result = &entry->second;
      used.insert(entry->first);
    }
    return result;
  };
  /// U8 with other scales than F16 is not ours.
  const auto has_other_scales = [&](std::string_view name) {
    for (const char* optional : {"", transformers_prefix}) {
      const auto entry = file.tensors().find(join(wanted.prefix, optional, name, scale_suffix));
      if (entry != file.tensors().end() && entry->second.type != "F16") return true;
    }
    return false;
  };
  std::vector<found_tensor> all;
  for (const tensor_row& row : wanted.table) {
    const bool as_int8 = may_be_int8(row.role);
    const stored_tensor expected{as_int8 ? "F32, F64, BF16, F16 or I8" : "F32, F64, BF16 or F16", row.shape};
    all.push_back({find(row.name)});
    found_tensor& found = all.back();
    if (!found.numbers) {
      if (wanted.options.missing == missing::fails)
        problems += join("\n  ", wanted.prefix, row.name, ": missing; expected ", expected.describe());
      continue;
    }
    const bool is_int8 = as_int8 && found.numbers->type == "I8";
    const bool is_int4 = as_int8 && found.numbers->type == "U8" && !has_other_scales(row.name);
    if (is_int8 || is_int4) found.scales = find(join(row.name, scale_suffix));
    if (is_int4) found.offsets = find(join(row.name, offset_suffix));
    if (is_int4 || (is_int8 && found.is_grouped()))
      problems += group_problem(join(wanted.prefix, row.name), found, row.role, row.shape);
    else if (found.numbers->shape != expected.shape || !(is_int8 || is_floating_point(found.numbers->type)))
      problems += join("\n  ", wanted.prefix, row.name, ": expected ", expected.describe(), ", found ", found.numbers->describe());
    else if (is_int8)
      problems += scale_problem(join(wanted.prefix, row.name), *found.numbers, row.role, found.scales);
  }
  if (wanted.is_tied) {
    const stored_tensor* const table = find(transformers_table);
    const stored_tensor* const head = find(transformers_head);
    if (table && head) problems += tied_head_problem(wanted.prefix, *table, *head);
  }
  const auto is_accepted = [&](std::string_view name) {
    return std::any_of(wanted.accepted_prefixes.begin(), wanted.accepted_prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  for (const auto& [name, tensor] : file.tensors())
    if (!used.contains(name) && !is_transformers_buffer(name) && !is_accepted(name) &&
        !(wanted.accepts_copies && detail::is_copy(file, name, tensor)))
      problems += join("\n  ", name, ": not part of the model; found ", tensor.describe());
  if (!problems.empty()) fail(file.path(), ": does not fit the model:", problems);
  return all;
}

FATHOM_INLINE void read_tensors(const stored_tensors& file, const wanted_tensors& wanted, std::string_view type, std::byte* to) {
  const std::vector<found_tensor> found = find_tensors(file, wanted);
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i].numbers)
      copy_numbers(found[i], wanted.table[i].role, wanted.table[i].shape, type, to + wanted.table[i].offset);
}

}  // namespace fathom::io
