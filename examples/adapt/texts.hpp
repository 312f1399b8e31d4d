// Texts as tokens: a part to train on, and a part held back.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <fathom/core/error.hpp>
#include <fathom/core/types.hpp>
#include <fathom/data/bpe.hpp>

namespace adapt {

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) fathom::fail(path.string(), ": cannot be read; expected a file of text");
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The last tenth of a text is held back, but at most `most_held_back` tokens of it.
struct text {
  std::vector<fathom::token> all;
  std::size_t held_back;

  text(const std::string& words, const fathom::data::bpe& tokenizer, const std::string& name, std::size_t context,
       std::size_t most_held_back)
      : all(tokenizer.encode(words)), held_back(std::min(all.size() / 10, most_held_back)) {
    if (all.size() < 20 * context)
      fathom::fail(name, ": a text of ", all.size(), " tokens; expected at least ", 20 * context, ", some ", 80 * context / 1000, " kB");
  }
  [[nodiscard]] std::span<const fathom::token> training() const { return std::span(all).first(all.size() - all.size() / 10); }
  /// The beginning of the last tenth.
  [[nodiscard]] std::span<const fathom::token> validation() const { return std::span(all).last(all.size() / 10).first(held_back); }
};

}  // namespace adapt
