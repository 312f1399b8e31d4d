// Implementation of load_any.hpp.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "fathom/core/error.hpp"
#include "fathom/io/description.inl.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"
#include "fathom/io/load_any.hpp"
#include "fathom/io/model_files.inl.hpp"

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

FATHOM_INLINE bool is_distributed_model(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) || is_gguf(path);
}

FATHOM_INLINE std::size_t which_config(const model_files& from, std::span<const std::optional<config>> known) {
  const config found = config_of(from);
  std::string problems;
  for (std::size_t i = 0; i < known.size(); ++i) {
    std::string different;
    if (!known[i]) {
      different = "\n  the model was not made from a config";
    } else {
      different = family_differences(*known[i], found);
      if (known[i]->shortcut != found.shortcut) different += "\n  shortcut: the model has one, the file none";
      if (known[i]->residual != found.residual) different += "\n  residual: the model has other connections than plain ones, the file has not";
    }
    if (different.empty()) return i;
    problems += "\n " + (known[i] ? to_cpp(*known[i]) : join("model ", i + 1)) + different;
  }
  fail(from.name(), ": is of none of the ", known.size(), " models that this program knows:", problems);
}

}  // namespace fathom::io
