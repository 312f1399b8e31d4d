// What load_any.hpp declares.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/load_any.hpp"

namespace fathom::io {

namespace detail {
/// The same for the text of a config; `where` is whose config it is.
[[nodiscard]] inline std::size_t which_config(std::string_view text, const std::string& where, std::span<const config> known) {
  const auto found = parse_json(text);
  if (!found.is_object()) fail(where, ": is not a JSON object", found.is_discarded() ? but_what(text) : "", "; expected a config");
  std::string problems;
  for (std::size_t i = 0; i < known.size(); ++i) {
    const auto expected = json_of(known[i]);
    const std::string different = differences(expected, found);
    if (different.empty()) return i;
    problems += "\n " + expected.dump() + different;
  }
  fail(where, ": is of none of the ", known.size(), " models that this program knows:", problems);
}
}  // namespace detail

FATHOM_INLINE std::size_t which_config(const safetensors_file& file, const std::filesystem::path& config_file,
                                       std::span<const config> known) {
  if (!config_file.empty()) return detail::which_config(whole_file(config_file).text(), config_file.string(), known);
  const auto entry = file.metadata().find(config_entry);
  if (entry == file.metadata().end())
    fail(file.path(), ": has no metadata entry ", config_entry, "; a config file must say which model it is of");
  return detail::which_config(entry->second, join(file.path(), ": metadata ", config_entry), known);
}

}  // namespace fathom::io
