// Tokens in frames, as audio codecs make them: each frame has one token per field, in order, and each field has its own
// range of the vocabulary. Also reads malformed sequences, which models write.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "fathom/core/types.hpp"
#include "fathom/model/batch.hpp"

namespace fathom::data {

/// An element of a frame: its field, and its value, counted from 0.
struct field_value {
  index field = 0;
  token value = 0;
  [[nodiscard]] bool operator==(const field_value&) const = default;
};

/// Frames read from tokens.
struct framed {
  std::vector<token> values;  // [frames, fields], counted from 0 in each field
  index filled = 0;           // missing values, taken from the previous frame
  index dropped = 0;          // tokens before every field had a value
};

namespace detail {
/// The field of a token. `begins` has the first token of each field, then the size of the vocabulary.
[[nodiscard]] inline field_value field_of(token t, std::span<const index> begins) {
  const auto after = std::upper_bound(begins.begin(), begins.end(), index{t});
  return {after - begins.begin() - 1, static_cast<token>(t - *(after - 1))};
}

/// Tokens as rows [frames, fields], with -1 for missing values. A token whose field is not after the previous one
/// begins the next row. Fails on a token outside of the vocabulary.
[[nodiscard]] inline std::vector<token> rows_of(std::span<const token> tokens, std::span<const index> begins,
                                                const char* name) {
  check_tokens(tokens, 0, begins.back(), name);
  const auto fields = begins.size() - 1;
  std::vector<token> rows;
  index previous = std::ssize(begins);
  for (const token t : tokens) {
    const auto [field, value] = field_of(t, begins);
    if (field <= previous) rows.insert(rows.end(), fields, -1);
    rows[rows.size() - fields + static_cast<std::size_t>(field)] = value;
    previous = field;
  }
  return rows;
}

/// Fills missing values of rows [frames, fields] from the previous row. Drops rows until every field has had a value.
[[nodiscard]] inline framed hold(std::vector<token> rows, std::size_t fields) {
  framed result;
  std::vector<token> last(fields, -1);
  std::size_t kept = 0;
  for (std::size_t row = 0; row < rows.size(); row += fields) {
    index given = 0;
    for (std::size_t field = 0; field < fields; ++field) {
      const token value = rows[row + field];
      given += value >= 0;
      if (value >= 0) last[field] = value;
    }
    if (std::find(last.begin(), last.end(), -1) != last.end()) {
      result.dropped += given;
      continue;
    }
    result.filled += static_cast<index>(fields) - given;
    std::copy(last.begin(), last.end(), rows.begin() + static_cast<index>(kept));
    kept += fields;
  }
  rows.resize(kept);
  result.values = std::move(rows);
  return result;
}
}  // namespace detail

}  // namespace fathom::data
