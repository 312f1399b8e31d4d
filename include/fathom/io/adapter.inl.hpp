// Implementation of adapter.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fathom/core/crc32.hpp"
#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/low_rank.hpp"
#include "fathom/io/adapter.hpp"
#include "fathom/io/description.inl.hpp"

namespace fathom::io {

namespace detail {
[[nodiscard]] inline bool has_name(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}
/// Bytes of a number of type "F32" or "F64".
[[nodiscard]] inline std::size_t bytes_of_numbers(const tensor_row& row, std::string_view type) {
  return static_cast<std::size_t>(row.size) * bytes_of_type(type);
}
/// A description without the context, which an adapter does not depend on.
[[nodiscard, gnu::cold]] inline std::string without_context(std::string_view description) {
  std::optional<json> all = json::parse(description);
  if (!all || !all->is_object()) return std::string(description);
  all->erase("context");
  return all->dump();
}
/// The kind of an adapter and the identity of its base, from the metadata. Fails when there is none.
[[nodiscard, gnu::cold]] inline std::pair<adapter_kind, std::uint32_t> read_kind(const safetensors_file& file) {
  const auto entry = file.metadata().find(adapter_entry);
  if (entry == file.metadata().end())
    fail(file.path(), ": is not an adapter: it has no metadata entry ", adapter_entry, "; fathom::load reads whole models");
  const std::optional<json> all = json::parse(entry->second);
  const json* const changes = all && all->is_object() ? all->find("changes") : nullptr;
  const json* const base = all && all->is_object() ? all->find("base") : nullptr;
  const json *rank = nullptr, *scale = nullptr;
  bool is_good = changes && changes->is_array() && base && base->is_unsigned();
  if (is_good) {
    for (const json& name : changes->elements()) is_good = is_good && name.is_string();
    rank = all->find("rank"), scale = all->find("scale");
    if (rank) is_good = is_good && rank->is_unsigned() && rank->as<std::uint64_t>() - 1 < 65536 && scale && scale->is_number();
  }
  if (!is_good)
    fail(file.path(), ": metadata ", adapter_entry, ": expected an object with changes, a list of names, base, a number, and, for "
         "low-rank additions, rank and scale");
  adapter_kind kind;
  for (const json& name : changes->elements()) kind.changes.push_back(name.text());
  std::vector<std::string_view> sorted(kind.changes.begin(), kind.changes.end());
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end())
    fail(file.path(), ": metadata ", adapter_entry, ": changes has ", *twice, " more than once; expected each tensor once");
  if (rank) kind.rank = rank->as<int>(), kind.scale = scale->as<double>();
  return {std::move(kind), static_cast<std::uint32_t>(base->as<std::uint64_t>())};
}
/// The tensors of an adapter's file: those that are replaced, with their places in the weights, or A and B in turns, one after the
/// other. Fails when the adapter is not one of these weights.
[[nodiscard, gnu::cold]] inline tensor_table checked_rows(const safetensors_file& file, const adapter_kind& kind, std::uint32_t base,
                                                          const model_numbers& weights, std::string_view description) {
  const double largest = weights.type == "F64" ? std::numeric_limits<double>::max() : double{std::numeric_limits<float>::max()};
  if (!(std::abs(kind.scale) <= largest))
    fail(file.path(), ": metadata ", adapter_entry, ": scale ", kind.scale, "; expected one of at most ", largest, ", as weights are ", weights.type);
  std::string problems;
  if (const auto found = file.metadata().find(config_entry); !description.empty() && found != file.metadata().end())
    problems = description_differences(without_context(description), without_context(found->second));
  tensor_table rows;
  std::size_t bytes = 0;
  for (const std::string& name : kind.changes) {
    const auto row = std::find_if(weights.table.begin(), weights.table.end(), [&](const tensor_row& r) { return r.name == name; });
    if (row == weights.table.end()) {
      problems += join("\n  ", name, ": not part of the model");
    } else if (kind.rank == 0) {
      rows.push_back(*row);
    } else if (row->role != role::matrix) {
      problems += join("\n  ", name, ": is no matrix of a linear map; expected one, for a low-rank addition");
    } else {
      for (const bool is_a : {true, false}) {
        std::vector<index> shape{is_a ? row->shape[0] : kind.rank, is_a ? kind.rank : row->shape[1]};
        rows.push_back({name + (is_a ? ".lora_a" : ".lora_b"), initial::zero, role::matrix, shape, shape[0] * shape[1], bytes});
        bytes += (bytes_of_numbers(rows.back(), weights.type) + alignment - 1) / alignment * alignment;
      }
    }
  }
  if (!problems.empty()) fail(file.path(), ": is an adapter of another model:", problems);
  static_cast<void>(find_tensors(file, {.table = rows, .description = "", .is_tied = false}));
  if (const std::uint32_t found = base_identity(weights, kind.changes); found != base)
    fail(file.path(), ": is an adapter of other weights: expected a base of identity ", base, ", found weights of identity ", found,
         "; load the base that it was trained on first, in the same type");
  return rows;
}
/// weights += scale A B, for all additions. `rows` has A and B in turns.
template <class T>
void add_all(const tensor_table& rows, const std::vector<std::byte>& additions, double scale, const tensor_table& weights,
             std::byte* to) {
  for (std::size_t i = 0; i + 1 < rows.size(); i += 2) {
    const tensor_row &a = rows[i], &b = rows[i + 1];
    const auto numbers = [&](const tensor_row& row) {
      return matrix<const T>(reinterpret_cast<const T*>(additions.data() + row.offset), row.shape[0], row.shape[1]);
    };
    for (const tensor_row& w : weights)
      if (a.name == w.name + ".lora_a")
        add_low_rank<T>(matrix<T>(reinterpret_cast<T*>(to + w.offset), w.shape[0], w.shape[1]), scale, numbers(a), numbers(b));
  }
}
}  // namespace detail

FATHOM_INLINE std::uint32_t base_identity(const model_numbers& weights, const std::vector<std::string>& changes) {
  std::vector<std::uint32_t> all;
  for (const tensor_row& row : weights.table)
    if (row.name != "wpe.weight" && !detail::has_name(changes, row.name))
      all.push_back(crc32({weights.begin + row.offset, detail::bytes_of_numbers(row, weights.type)}));
  return crc32(std::as_bytes(std::span(all)));
}

FATHOM_INLINE void write_adapter(const std::filesystem::path& path, const adapter_kind& kind, const model_numbers& adapter,
                                 written_as as, const model_numbers& weights, std::string_view description) {
  json all;
  for (json& changes = all["changes"] = json::array(); const std::string& name : kind.changes) changes.push_back(name);
  all["base"] = static_cast<std::uint64_t>(base_identity(weights, kind.changes));
  if (kind.rank > 0) all["rank"] = static_cast<std::uint64_t>(kind.rank), all["scale"] = kind.scale;
  tensors_to_write tensors;
  tensors.add(adapter, "", as);
  write_weights(path, tensors, description, {{adapter_entry, all.dump()}});
}

FATHOM_INLINE void read_adapter(const std::filesystem::path& path, const model_numbers& weights, std::string_view description,
                                std::byte* to) {
  const safetensors_file file(path);
  const auto [kind, base] = detail::read_kind(file);
  const tensor_table rows = detail::checked_rows(file, kind, base, weights, description);
  const wanted_tensors wanted{.table = rows, .description = "", .is_tied = false};
  if (kind.rank == 0) return read_tensors(file, wanted, weights.type, to);
  std::vector<std::byte> additions(rows.empty() ? 0 : rows.back().offset + detail::bytes_of_numbers(rows.back(), weights.type));
  read_tensors(file, wanted, weights.type, additions.data());
  if (weights.type == "F64")
    detail::add_all<double>(rows, additions, kind.scale, weights.table, to);
  else
    detail::add_all<float>(rows, additions, kind.scale, weights.table, to);
}

FATHOM_INLINE void read_additions(const std::filesystem::path& path, const adapter_kind& kind, const model_numbers& weights,
                                  std::string_view description, std::byte* to) {
  const safetensors_file file(path);
  const auto [found, base] = detail::read_kind(file);
  const tensor_table rows = detail::checked_rows(file, found, base, weights, description);
  if (found.changes != kind.changes || found.rank != kind.rank || found.scale != kind.scale)
    fail(file.path(), ": is another adapter than the one whose weights these are: expected rank ", kind.rank, ", scale ", kind.scale, ", ",
         kind.changes.size(), " matrices, found rank ", found.rank, ", scale ", found.scale, ", ", found.changes.size(),
         found.changes == kind.changes ? "" : ", not the same", "; weights of the base take any");
  read_tensors(file, {.table = rows, .description = "", .is_tied = false}, weights.type, to);
}

}  // namespace fathom::io
