// Several architectures in one program: weights of whichever of its models a file is of.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <nlohmann/json.hpp>

#include "fathom/core/error.hpp"
#include "fathom/core/memory.hpp"
#include "fathom/io/config.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.hpp"
#include "fathom/io/safetensors.hpp"
#include "fathom/io/weights.hpp"

namespace fathom {

/// Weights of one of several models. std::visit([](const auto& weights) { ... }, any) has them as the one that they are of,
/// std::remove_cvref_t<decltype(*weights)>::model.
template <class... Models>
using any_weights = std::variant<owned<typename Models::parameters>...>;

namespace io {

/// Which of the models a config is of, the first if several are; `where` is whose config it is. Fails if none is, and says
/// in what each of them differs.
template <class... Models>
[[nodiscard]] std::size_t index_of_model(std::string_view config, const std::string& where) {
  const nlohmann::json known[] = {to_json(Models::architecture::configuration)...};
  const auto found = parse_json(config);
  if (!found.is_object()) fail(where, ": is not a JSON object; expected a config");
  std::string problems;
  for (std::size_t i = 0; i < sizeof...(Models); ++i) {
    const std::string different = differences(known[i], found);
    if (different.empty()) return i;
    problems += "\n " + known[i].dump() + different;
  }
  fail(where, ": is of none of the ", sizeof...(Models), " models that this program knows:", problems);
}

}  // namespace io

/// Reads weights from a safetensors file as load does, into new weights of the one among the models whose config the file
/// carries, as those that fathom saved do. For other files, `config` is a JSON file with the keys of that entry
/// (io/config.hpp). Fails, with all models that it could have been, if it is none of them.
template <class... Models>
[[nodiscard]] any_weights<Models...> load_any(const std::filesystem::path& path, const std::filesystem::path& config = {}) {
  const io::safetensors_file file(path);
  std::size_t which = 0;
  if (!config.empty()) {
    const io::mapped_file text(config);
    which = io::index_of_model<Models...>({reinterpret_cast<const char*>(text.bytes().data()), text.bytes().size()},
                                          config.string());
  } else {
    const auto entry = file.metadata().find(io::config_entry);
    if (entry == file.metadata().end())
      fail(path.string(), ": has no metadata entry ", io::config_entry, "; a config file must say which model it is of");
    which = io::index_of_model<Models...>(entry->second, join(path.string(), ": metadata ", io::config_entry));
  }

  any_weights<Models...> any;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((which == I ? load(path, *any.template emplace<I>(make<typename Models::parameters>())) : void()), ...);
  }(std::index_sequence_for<Models...>());
  return any;
}

}  // namespace fathom
