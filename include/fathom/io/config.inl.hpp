// Implementation of config.hpp.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/io/config.hpp"
#include "fathom/io/file.hpp"
#include "fathom/io/json.inl.hpp"

namespace fathom {

FATHOM_INLINE std::string io::to_json(const config& given) {
  const config c = normalized(given);
  json object = json::object();
  for (const detail::config_key& key : detail::config_keys)
    if (key.write)
      if (auto value = key.write(c)) object[key.name] = *std::move(value);
  return object.dump();
}

FATHOM_INLINE std::string io::differences(const config& expected, std::string_view found) {
  return detail::differences(*json::parse(to_json(expected)), json::parse(found).value_or(json()), false);
}

FATHOM_INLINE config load_config(const std::filesystem::path& path) {
  const io::whole_file file(path);
  const io::config_reading read = io::read_config(file.text());
  if (read.problem.empty()) return read.value;
  fail(path.string(), ": ", read.problem.view(), json::parse(file.text()) ? std::string() : io::detail::but_what(file.text()));
}

}  // namespace fathom
