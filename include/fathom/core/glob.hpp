// Patterns of names, as of files in a shell.
#pragma once

#include <cstddef>
#include <string_view>

namespace fathom {

/// Whether a pattern matches the whole of a name: `*` matches any characters, dots included; `?` matches one character.
[[nodiscard]] constexpr bool matches_glob(std::string_view pattern, std::string_view name) {
  // On a mismatch, backtrack to the last star and let it match one more character.
  std::size_t p = 0, n = 0, star = std::string_view::npos, after_star = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after_star = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++after_star;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace fathom
