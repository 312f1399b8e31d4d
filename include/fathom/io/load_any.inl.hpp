// Implementation of load_any.hpp.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/io/description.inl.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/load_any.hpp"

namespace fathom::io {

namespace detail {
/// The same for the text of a description. `where` names its source in errors.
[[nodiscard, gnu::cold]] inline std::size_t which_description(std::string_view text, const std::string& where,
                                                              std::span<const std::string> known) {
  const std::optional<json> found = json::parse(text);
  if (!found || !found->is_object()) fail(where, ": is not a JSON object", found ? "" : but_what(text), "; expected a config");
  std::string problems;
  for (std::size_t i = 0; i < known.size(); ++i) {
    const std::string different = description_differences(known[i], text);
    if (different.empty()) return i;
    problems += "\n " + known[i] + different;
  }
  fail(where, ": is of none of the ", known.size(), " models that this program knows:", problems);
}
}  // namespace detail

FATHOM_INLINE std::size_t which_description(const safetensors_file& file, const std::filesystem::path& config_file,
                                            std::span<const std::string> known) {
  if (!config_file.empty()) return detail::which_description(whole_file(config_file).text(), config_file.string(), known);
  const auto entry = file.metadata().find(config_entry);
  if (entry == file.metadata().end())
    fail(file.path(), ": has no metadata entry ", config_entry, "; a config file must say which model it is of");
  return detail::which_description(entry->second, join(file.path(), ": metadata ", config_entry), known);
}

}  // namespace fathom::io
