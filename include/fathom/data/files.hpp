// The files of a data set, by the ends of their names.
#pragma once

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/data/text.hpp"

namespace fathom::data::detail {

/// The files below a folder whose names end in one of these (".wav"; small letters stand for capitals, too), in the
/// order of their names, but for hidden and empty ones. Fails when there are none.
[[nodiscard]] inline std::vector<std::filesystem::path> files_ending_in(
    const std::filesystem::path& folder, std::initializer_list<std::string_view> endings) {
  std::vector<std::filesystem::path> files = files_below(folder);
  std::erase_if(files, [&](const std::filesystem::path& file) {
    std::string ending = file.extension().string();
    for (char& letter : ending)
      if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    return std::find(endings.begin(), endings.end(), ending) == endings.end();
  });
  std::string expected;
  for (const std::string_view ending : endings) expected += join(expected.empty() ? "" : ", ", ending);
  if (files.empty()) fail(folder.string(), ": has no files whose names end in ", expected);
  return files;
}

}  // namespace fathom::data::detail
